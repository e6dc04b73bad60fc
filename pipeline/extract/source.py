"""A video file, and the digest of its content, for as long as the two agree."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from ccln.cache import CacheError, FeatureCache, source_digest
from ccln.pipeline.data.remote import RemoteVideo, Video
from ccln.pipeline.decode.container import DecodeError

_SETTLED_NANOSECONDS = 3_000_000_000  # some file systems keep times to two seconds

_SAVE_SECONDS = 1.0


class ChangedError(DecodeError):
    """A file was changed after its digest was read, so that what was decoded may be of other content."""


class State(NamedTuple):
    """What is another when a file is replaced or written to."""

    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int
    """Of the content, the name or the permissions; nobody can set it back."""

    def text(self) -> str:
        """What a cache knows the state by."""
        return f"{self.device}:{self.inode}:{self.bytes}:{self.modified_ns}:{self.changed_ns}"


class Digests:
    """Digests of files' contents, kept in a cache for as long as the files are not changed; threads may share it.

    Files are hashed once then, and not by each of several processes that share a cache, nor again by each run.

    Args:
        cache: What keeps them.
    """

    def __init__(self, cache: FeatureCache) -> None:
        self._cache, self._lock = cache, Lock()
        self._new: dict[str, str] = {}
        self._saved = time.monotonic()

    def of(self, videos: Sequence[Video | Path]) -> list[str | None]:
        """Those of some videos; None where it is not known."""
        states = [
            video.state if isinstance(video, RemoteVideo) else state.text() if (state := state_of(video)) else ""
            for video in videos
        ]
        known = self._cache.source_digests(states)
        return [known.get(state) for state in states]

    def read(self, path: Path, state: "State | None") -> str:
        """The digest of a file in some state; its content is read if that is not known.

        Raises:
            CacheError: It cannot be read, or is a pipe, a device or a socket.
        """
        if state is None or time.time_ns() - max(state.modified_ns, state.changed_ns) < _SETTLED_NANOSECONDS:
            return source_digest(path)  # a change of this moment might leave the state as it is
        text = state.text()
        if (digest := self._cache.source_digests([text]).get(text)) is None:
            digest = source_digest(path)
            if state_of(path) == state:
                self.keep(text, digest)
        return digest

    def keep(self, text: str, digest: str) -> None:
        """Keep the digest of a file in some state."""
        with self._lock:
            self._new[text] = digest
            is_due = time.monotonic() - self._saved > _SAVE_SECONDS
        if is_due:
            self.save()

    def save(self) -> None:
        """Save those that are new; it is done now and then, too."""
        with self._lock:
            new, self._new, self._saved = self._new, {}, time.monotonic()
        if new:
            self._cache.keep_source_digests(new)


class Source:
    """A file whose content is known by its digest.

    Args:
        path: The file.
        digests: Where it may be known.

    Raises:
        CacheError: It cannot be read, or is a pipe, a device or a socket.
    """

    def __init__(self, path: Path, digests: Digests) -> None:
        self.path = path
        self._known_ns = time.time_ns()
        self._state = state_of(path)
        self.sha256 = digests.read(path, self._state)
        """Of the content, in hex."""

    def require_unchanged(self) -> None:
        """Check that the file is still the one whose digest is known; call it after what it guards was read.

        The state of the file decides. Only where that cannot tell the content is read again: the file was written to
        so shortly before that a second change may have got the same time, or its time of modification was set.

        Raises:
            ChangedError: It is another, was written to, or is gone.
        """
        known, now_ns, state = self._state, time.time_ns(), state_of(self.path)
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


def state_of(path: Path | str) -> State | None:
    """The state of a file; None if there is no such file, or it cannot be reached."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
