"""What `ccln-extract` does: from video files to cached features."""
