"""The folder of a cache: where its files are, how they are listed, and how they are written whole or not at all."""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ccln.cache.keys import CacheError, is_digest
from ccln.files import sweep, sync_folder, whole

SUFFIX = ".safetensors"
_DIGEST = re.compile(rf"[0-9a-f]{{64}}{re.escape(SUFFIX)}")
_ATTEMPTS = 10


class Folder:
    """``entries/ab/cd/<key>.safetensors``, ``shards/<name>.safetensors``, ``partial/`` and ``index.sqlite``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries = root / "entries"
        """Clips that have a file each."""
        self._entries = os.fspath(self.entries)
        self.shards = root / "shards"
        """Files that hold many clips each."""
        self.partial = root / "partial"
        """Files that are being written, before they get their name."""
        self.quarantined = root / "quarantine"
        """Files that were found damaged."""
        self.index = root / "index.sqlite"

    def entry_path(self, key: str) -> Path:
        """The file of a key.

        Raises:
            CacheError: If the key is not 64 lower-case hex digits, and so might lead out of the folder.
        """
        if not is_digest(key):
            raise CacheError(f"{key!r} is not a feature key; pass the 64 hex digits that feature_key or find gives")
        return self.entries / key[:2] / key[2:4] / f"{key}{SUFFIX}"

    def entry_name(self, key: str) -> str:
        """`entry_path` of what is a key, as a text: a tenth of the time, which counts where there are a million."""
        return f"{self._entries}{os.sep}{key[:2]}{os.sep}{key[2:4]}{os.sep}{key}{SUFFIX}"

    def has_entries(self) -> bool:
        """Whether any clip may have a file of its own."""
        return any(_folders_in(self.entries))

    def shard_path(self, name: str) -> Path:
        """The file of a shard."""
        return self.shards / f"{name}{SUFFIX}"

    def require(self) -> None:
        """Raise CacheError if the folder is no feature cache."""
        if not (self.entries.is_dir() or self.shards.is_dir()):
            raise CacheError(f"{self.root} is no feature cache; make one: ccln-extract VIDEOS --cache {self.root}")

    def entry_keys(self) -> list[str]:
        """Keys of all files that are in the place of an entry, in order; links and other names are passed over.

        Raises:
            CacheError: If the folder is no feature cache, or a part of it cannot be listed.
        """
        self.require()
        return _sorted(_keys_below(self.entries))

    def shard_names(self) -> list[str]:
        """Names of all files that are in the place of a shard, in order; links and other names are passed over.

        Raises:
            CacheError: If their folder cannot be listed, or is a link.
        """
        refuse_links(self.shards)
        return _sorted(_digests_in(self.shards))

    def write(
        self, path: Path, fill: Callable[[BinaryIO], object], check: Callable[[Path], object] | None = None
    ) -> None:
        """Write a file of this folder; a reader sees it whole or not, even if this process dies at any moment.

        Args:
            path: The file; what was there before is replaced.
            fill: Writes the content.
            check: Raises CacheError if the file, which has another name yet, is not what it should be.

        Raises:
            CacheError: If a folder on the way is a link, or the disk refuses.
        """
        parents = [self.root / parent for parent in path.relative_to(self.root).parents]
        if parents[-2].is_dir():
            parents.pop()  # the root changes all the time, with the index; what matters is whether it has the next
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    self._write_once(path, fill, check)
                    break
                except FileNotFoundError:  # others may remove an emptied folder at this moment
                    if attempt == _ATTEMPTS - 1:
                        raise
        except OSError as error:
            raise CacheError(
                f"{path} cannot be written ({error}); free some space there or choose another --cache folder"
            ) from error
        for folder in parents:
            sync_folder(folder)

    def _write_once(
        self, path: Path, fill: Callable[[BinaryIO], object], check: Callable[[Path], object] | None
    ) -> None:
        for folder in (path.parent, self.partial):
            refuse_links(folder)
        with whole(path, self.partial) as partial:
            with partial.open("xb") as file:
                fill(file)
            if check is not None:
                check(partial)

    def sweep_partial(self) -> int:
        """Delete partial files left by processes that have died; return how many.

        Raises:
            CacheError: If their folder is a link.
        """
        refuse_links(self.partial)
        return sweep(self.partial)

    def quarantine(self, path: Path) -> None:
        """Move a damaged file out of the way, to where nobody reads it.

        Raises:
            CacheError: If a link leads there, or the file cannot be moved.
        """
        for place in (path, self.quarantined):
            refuse_links(place)
        try:
            self.quarantined.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # another process has moved it
                os.replace(path, self.quarantined / path.name)
        except OSError as error:
            raise CacheError(f"{path} is damaged and cannot be moved ({error}); check its permissions") from error
        for folder in (self.quarantined, path.parent):
            sync_folder(folder)

    def remove(self, path: Path) -> None:
        """Delete an entry's or a shard's file, and the folders of entries that it leaves empty: listing them costs.

        Raises:
            OSError: If the file cannot be deleted.
        """
        path.unlink(missing_ok=True)
        with suppress(OSError):
            for parent in path.relative_to(self.root).parents[:-2]:  # not entries/ and shards/ themselves
                (self.root / parent).rmdir()


def state_of(path: str | os.PathLike[str]) -> str | None:
    """What is another when a file is replaced or written to, as a text; None if there is no regular file."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def is_plain_file(path: Path) -> bool:
    """Whether a regular file is there, and not a link to one."""
    return path.is_file() and not path.is_symlink()


def refuse_links(path: Path) -> None:
    """Raise CacheError if a symbolic link leads ``path`` elsewhere: a cache from others must not reach outside."""
    if os.path.realpath(path) != os.fspath(path):
        raise CacheError(f"{path} is, or lies behind, a symbolic link; remove the link")


def _sorted(names: Iterable[str]) -> list[str]:
    try:
        return sorted(names)
    except OSError as error:  # a folder left out would silently train on a part of the data
        raise CacheError(f"{error.filename} cannot be listed ({error.strerror}); check its permissions") from error


def _digests_in(folder: str | os.PathLike[str]) -> list[str]:
    """Names, less their ending, of the plain files in a folder that are named after a digest; none if it is gone."""
    try:
        with os.scandir(folder) as items:
            found = [
                item.name for item in items if _DIGEST.fullmatch(item.name) and item.is_file(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    return [name[: -len(SUFFIX)] for name in found]


def _keys_below(entries: Path) -> Iterator[str]:
    for first in _folders_in(entries):
        for second in _folders_in(first.path):
            prefix = first.name + second.name
            for key in _digests_in(second.path):
                if key.startswith(prefix):
                    yield key


def _folders_in(folder: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as items:
        yield from (item for item in items if len(item.name) == 2 and item.is_dir(follow_symlinks=False))
