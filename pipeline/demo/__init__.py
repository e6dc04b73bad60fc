"""The demo data set: videos of drawn objects with their own sounds."""
