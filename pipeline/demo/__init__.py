"""The demo: a small data set of drawn objects with their own sounds, and the commands at work on it."""
