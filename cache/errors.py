"""The errors of the cache."""

from pathlib import Path


class CacheError(Exception):
    """The cache cannot do what was asked; the message names the file or value, the reason and the remedy."""


class DamagedFileError(CacheError):
    """A file of the cache is not what its name promises."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error can be pickled
        self.path = path
        """The file."""
        self.reason = reason
        """What is wrong with it."""

    def __str__(self) -> str:
        return f"{self.path} cannot be used: {self.reason}; delete the file and run ccln-extract again"
