"""A video file, and the digest of its content, for as long as the two agree."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from ccln.cache import CacheError, source_digest
from ccln.pipeline.decode.container import DecodeError

_SETTLED_NANOSECONDS = 3_000_000_000  # some file systems keep times to two seconds


class ChangedError(DecodeError):
    """A file was changed after its digest was read, so that what was decoded may be of other content."""


class _State(NamedTuple):
    """What is another when a file is replaced or written to."""

    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int
    """Of the content, the name or the permissions; nobody can set it back."""


class Source:
    """A file whose content is known by its digest.

    Args:
        path: The file.

    Raises:
        CacheError: It cannot be read, or is a pipe, a device or a socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known_ns = time.time_ns()
        self._state = _state_of(path)
        self.sha256 = source_digest(path)
        """Of the content, in hex."""

    def require_unchanged(self) -> None:
        """Check that the file is still the one whose digest is known; call it after what it guards was read.

        The state of the file decides. Only where that cannot tell the content is read again: the file was written to
        so shortly before that a second change may have got the same time, or its time of modification was set.

        Raises:
            ChangedError: It is another, was written to, or is gone.
        """
        known, now_ns, state = self._state, time.time_ns(), _state_of(self.path)
        if state is None or known is None or state[:4] != known[:4]:
            raise self._changed()
        if state != known or self._known_ns - state.modified_ns < _SETTLED_NANOSECONDS:
            try:
                same = source_digest(self.path) == self.sha256
            except CacheError as error:
                raise self._changed() from error
            if not same:
                raise self._changed()
            self._known_ns, self._state = now_ns, state

    def _changed(self) -> ChangedError:
        return ChangedError(f"{self.path}: changed while it was read. When it is complete, run the same command again.")


def _state_of(path: Path) -> _State | None:
    """None if there is no such file, or it cannot be reached."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
