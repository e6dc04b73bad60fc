"""Files that gave no features: why, and which of them killed their decoder."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ccln.extractors import ExtractorError
from ccln.pipeline.data.remote import RemoteVideo
from ccln.pipeline.decode.container import DecodeError, unforeseen

_MOST_JOURNAL_CHARACTERS = 1 << 24


@dataclass(frozen=True)
class Failure:
    """A file that gave no features."""

    path: Path | RemoteVideo
    reason: str

    @classmethod
    def of(cls, path: Path, error: Exception) -> "Failure":
        """What an error means for the file alone; what nobody foresaw is one of its kind, too.

        Raises:
            Exception: The error itself, if it is one that any other file would meet as well: a cache that cannot be
                written, a full disk.
        """
        if isinstance(error, DecodeError):
            return cls(path, str(error))
        if isinstance(error, ExtractorError):
            return cls(path, f"{path}: {error}")
        if isinstance(error, OSError) or type(error).__module__.startswith("ccln."):
            raise error
        if isinstance(error, MemoryError):
            return cls(path, f"{path}: there was not enough memory. Have fewer files in work at the same time.")
        return cls(path, unforeseen(path, error))


class Killers:
    """The journal, beside a cache's entries, of the files that killed their decoder: they are tried last.

    Lines are only added, of a JSON string each: processes that share a cache do not lose each other's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "killers.jsonl"
        self._names: set[str] = set()
        with suppress(FileNotFoundError), open(self._path, errors="replace", opener=_plainly) as file:
            for line in file.read(_MOST_JOURNAL_CHARACTERS).splitlines():
                with suppress(ValueError):  # a line that was cut off
                    self._names.add(str(json.loads(line)))

    def __contains__(self, path: Path | RemoteVideo) -> bool:
        return _full_name(path) in self._names

    def add(self, path: Path | RemoteVideo) -> None:
        """Enter a file, if it is not there yet."""
        name = _full_name(path)
        if name not in self._names:
            self._names.add(name)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="ascii", opener=_plainly) as file:
                file.write(f"{json.dumps(name)}\n")


def _full_name(path: Path | RemoteVideo) -> str:
    return os.path.abspath(path) if isinstance(path, Path) else str(path)


def _plainly(name: str, flags: int) -> int:
    """Open a file of a folder that may be anybody's: no link is followed, no pipe is waited for."""
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
