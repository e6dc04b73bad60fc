class CacheError(Exception):
    """The cache cannot do what was asked; the message names the file or value, the reason and the remedy."""
