"""What a training run leaves for people: one HTML page that loads nothing from anywhere."""
