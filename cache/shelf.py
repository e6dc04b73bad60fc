"""The shards of a cache together: which of them holds a clip, and the clip itself."""

import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from ccln.cache import index
from ccln.cache.entry import Entry
from ccln.cache.errors import CacheError, DamagedFileError
from ccln.cache.folder import Folder
from ccln.cache.index import ShardRow
from ccln.cache.shard import Shard

_SETTLED_NANOSECONDS = 3_000_000_000  # some file systems keep times to two seconds
_NO_FOLDER = -1


class _Seen(NamedTuple):
    """What the folder of shards held at a time; replaced as a whole, since threads share it and a fork may cut in."""

    changed: int | None
    """The folder's time of change in nanoseconds; None where it cannot be relied upon."""
    rows: Mapping[str, ShardRow]
    shard_of: Mapping[str, str]
    unreadable: list[DamagedFileError]


class Shelf:
    """Looks at the folder of shards again only when its time of change says that something may be new.

    What the index does not know of the shards is read from them and put in. Shards stay open once read, since a
    mapping for each clip would be more than a process may have.

    Args:
        folder: the cache's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._seen = _Seen(None, {}, {}, [])
        self._open: dict[str, Shard] = {}

    def rows(self) -> Mapping[str, ShardRow]:
        """What is known of each shard, by its name.

        Raises:
            CacheError: where the folder of shards is a link or cannot be listed.
        """
        return self._look().rows

    def unreadable(self) -> list[DamagedFileError]:
        """What is wrong with the files that should be shards and are not.

        Raises:
            CacheError: where the folder of shards is a link or cannot be listed.
        """
        return self._look().unreadable

    def shard_of(self, key: str) -> str | None:
        """Name of the shard that holds a key.

        Raises:
            CacheError: where the folder of shards is a link or cannot be listed.
        """
        return self._look().shard_of.get(key)

    def entry(self, key: str, *, verify: bool) -> Entry | None:
        """The entry of a key, a view of its memory-mapped shard; None where no shard holds it.

        Raises:
            CacheError: where the shard is damaged.
        """
        while (name := self.shard_of(key)) is not None:
            opened = self._open.get(name)
            path = self._folder.shard_path(name)
            try:
                shard = opened or Shard(path, name)
                entry = shard.entry(key, verify=verify)
            except CacheError:
                self._open.pop(name, None)
                if opened is None and path.exists():
                    raise
                if opened is None:  # deleted since the folder was listed
                    self._seen = self._seen._replace(changed=None)
                # Else the caller may have changed a view that it was given before; the file itself has the last word.
            else:
                self._open[name] = shard
                return entry
        return None

    def _look(self) -> _Seen:
        seen = self._seen
        changed = self._time_of_change()
        if changed == seen.changed:
            return seen
        names = set(self._folder.shard_names())
        rows, shard_of, unreadable = seen.rows, seen.shard_of, []
        if gone := rows.keys() - names:
            rows = {name: row for name, row in rows.items() if name not in gone}
            shard_of = {key: name for name, row in rows.items() for key in row.keys}
            for name in gone:
                self._open.pop(name, None)
        if new := names - rows.keys():
            read, unreadable = _rows_of(self._folder, new)
            rows = {**rows, **read}
            shard_of = {**shard_of, **{key: name for name, row in read.items() for key in row.keys}}
        # A change of a moment ago may be followed by one that gets the same time.
        settled = abs(time.time_ns() - changed) > _SETTLED_NANOSECONDS
        self._seen = _Seen(changed if settled else None, rows, shard_of, unreadable)
        return self._seen

    def _time_of_change(self) -> int:
        try:
            return self._folder.shards.stat().st_mtime_ns
        except FileNotFoundError:
            return _NO_FOLDER
        except OSError as error:
            raise CacheError(f"{self._folder.shards} cannot be read ({error.strerror}); check permissions") from error


def _rows_of(folder: Folder, names: set[str]) -> tuple[dict[str, ShardRow], list[DamagedFileError]]:
    """The rows of shards, from the index or else from themselves, and what is wrong with those that have none."""
    rows: dict[str, ShardRow] = {}
    unreadable: list[DamagedFileError] = []
    with suppress(sqlite3.Error, OSError):  # without an index the shards answer, only slower
        rows = index.load_shards(folder.index, names)
    read = {}
    for name in sorted(names - rows.keys()):
        try:
            read[name] = ShardRow.of(Shard(folder.shard_path(name), name))
        except DamagedFileError as error:
            if folder.shard_path(name).exists():
                unreadable.append(error)
    if read:
        with suppress(sqlite3.Error, OSError):
            index.save(folder.index, shards=read)
    return {**rows, **read}, unreadable
