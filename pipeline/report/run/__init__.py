"""What a training run leaves for people: one HTML page that loads nothing from anywhere."""

PAGE_NAME = "report.html"
