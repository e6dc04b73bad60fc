"""What goes wrong with a cache."""

from pathlib import Path


class CacheError(Exception):
    """The cache cannot do what was asked; the message names the file or value, the reason and the remedy."""


class DamagedFileError(CacheError):
    """A file of the cache is not what its name promises.

    Attributes:
        path: the file.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error can be pickled
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} cannot be used: {self.reason}; delete the file and run ccln-extract again"
