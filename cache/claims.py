"""Who works on what: processes that share a cache do not do what another is doing."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ccln.cache.folder import is_plain_file, refuse_links
from ccln.cache.keys import CacheError
from ccln.files import is_dead, owner

_REFRESH_SECONDS = 10.0
_EXPIRY_SECONDS = 60.0
_POLL_SECONDS = 0.2
_MOST_BYTES = 200


class Claims:
    """The claims of this process, as a context, at whose end they are refreshed no more; threads may share it.

    A claim is a file that names its owner. It is made if there is none, touched while the work goes on, and removed
    after it. Another process takes it over if its owner is dead, or has not touched it for a minute: by the clock of
    who waits, since those of two machines may differ. At worst, as after a machine has slept, two do the same work.

    Args:
        root: The cache's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root.resolve() / "claims"
        self._ended = threading.Event()
        self._held: set[Path] = set()
        self._seen: dict[Path, tuple[tuple[bytes, int], float]] = {}
        """Of each claim of others its state, and when it was first seen in that."""

    def __enter__(self) -> "Claims":
        refuse_links(self._folder)
        with suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                self._take_if_abandoned(path)
        threading.Thread(target=self._refresh, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    @contextmanager
    def claimed(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Claim a key for the time of the block; yields whether that worked.

        Args:
            key: What is claimed: letters and digits.
            wait: Whether to wait while another has it.

        Raises:
            CacheError: The claim cannot be written, or the context has ended meanwhile.
        """
        path, content = self._folder / key, f"{owner()} {secrets.token_hex(8)}".encode()
        while not (is_mine := self._make(path, content)) and wait:
            if self._ended.wait(_POLL_SECONDS):
                raise CacheError(f"{path}: another process was at work on it when this one was stopped")
        if is_mine:
            self._held.add(path)
        try:
            yield is_mine
        finally:
            if is_mine:
                self._held.discard(path)
                if _read(path) == content:
                    path.unlink(missing_ok=True)

    def _make(self, path: Path, content: bytes) -> bool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for _ in range(2):
                with suppress(FileExistsError), path.open("xb") as file:
                    file.write(content)
                    return True
                if not self._take_if_abandoned(path):
                    return False
        except OSError as error:
            raise CacheError(f"{path} cannot be written ({error}); check permissions and free space") from error
        return False

    def _take_if_abandoned(self, path: Path) -> bool:
        """Remove a claim that nobody holds any more; whether it was one."""
        try:
            content, touched_ns = _read(path), path.lstat().st_mtime_ns
        except FileNotFoundError:
            return True
        state, now = (content, touched_ns), time.monotonic()
        known, since = self._seen.get(path, (None, now))
        if state != known:
            self._seen[path] = state, now
            since = now
        if not _is_of_dead(content) and now - since < _EXPIRY_SECONDS:
            return False
        self._seen.pop(path, None)
        taken = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        with suppress(FileNotFoundError):
            os.rename(path, taken)
            if _read(taken) != content:  # another was faster, and this is its new one
                with suppress(FileExistsError):
                    os.link(taken, path)
            taken.unlink()
        return True

    def _refresh(self) -> None:
        while not self._ended.wait(_REFRESH_SECONDS):
            for path in list(self._held):
                with suppress(OSError):
                    os.utime(path, follow_symlinks=False)


def _read(path: Path) -> bytes:
    """What a claim says; nothing if it is no file."""
    if not is_plain_file(path):
        return b""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(_MOST_BYTES)
    return b""


def _is_of_dead(content: bytes) -> bool:
    try:
        return is_dead(content.decode("ascii").partition(" ")[0])
    except ValueError:  # it is just being written, or is none of ours
        return False
