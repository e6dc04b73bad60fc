"""Features in the files that AVE publishes: taken into a cache, and written from one."""
