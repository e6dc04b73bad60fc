"""What people and programs get: files of events, pictures, pages and videos."""
