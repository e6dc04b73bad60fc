"""What `ccln-localize` does: from video files and a checkpoint to events, and to the files that show them."""
