"""How good predictions are: scores, what they have to be read against, and their tables."""
