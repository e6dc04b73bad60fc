"""Features of clips: made from videos, kept in the cache, and found again for the rows of a data set."""
