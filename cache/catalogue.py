"""What a cache holds: said by the index where it agrees with the files, and by the files where it does not."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from ccln.cache import index
from ccln.cache.entry import read_entry
from ccln.cache.errors import CacheError, DamagedFileError
from ccln.cache.folder import Folder, is_plain_file
from ccln.cache.index import Row, ShardRow
from ccln.cache.shelf import Shelf

Progress = Callable[[int, int], object]
"""Called with what is done and what there is in all."""


class Catalogue(NamedTuple):
    """All entries of a cache."""

    entries: dict[str, Row]
    """Of each clip that has a file of its own, by key."""
    shards: Mapping[str, ShardRow]
    """Of each shard, by name."""
    unreadable: list[DamagedFileError]
    """What is wrong with the files that are no readable entry or shard, as far as they had to be opened."""


def catalogue(folder: Folder, shelf: Shelf, progress: Progress | None = None) -> Catalogue:
    """What the cache holds; where index and files differ, the index is mended on the way.

    Raises:
        CacheError: where the folder is no feature cache, or cannot be listed.
    """
    folder.require()
    shelf.rows()  # before the index is asked for the entries: where its shards are broken, it is made anew
    known: dict[str, Row] = {}
    shards_in_index: set[str] = set()
    with suppress(sqlite3.Error, OSError):  # without an index the headers answer, only slower
        known = index.load_entries(folder.index)
        shards_in_index = index.shard_names(folder.index)
    entries, unreadable = _entries(folder, known, progress)
    shards = shelf.rows()  # again after the entries: what is being packed is seen twice rather than not at all
    new = {key: row for key, row in entries.items() if key not in known}
    new_shards = {name: row for name, row in shards.items() if name not in shards_in_index}
    gone, gone_shards = known.keys() - entries.keys(), shards_in_index - shards.keys()
    if new or new_shards or gone or gone_shards:
        with suppress(sqlite3.Error, OSError):
            index.save(folder.index, new, new_shards, gone_entries=gone, gone_shards=gone_shards)
    return Catalogue(entries, shards, unreadable + shelf.unreadable())


def rebuild(folder: Folder, progress: Progress | None = None) -> Catalogue:
    """Makes the index anew from the files themselves.

    Raises:
        CacheError: where the folder is no feature cache, cannot be listed, or the index cannot be written.
    """
    folder.require()
    try:
        index.clear(folder.index)
    except (sqlite3.Error, OSError) as error:
        raise CacheError(f"{folder.index} cannot be written ({error}); check permissions and free space") from error
    return catalogue(folder, Shelf(folder), progress)


def _entries(
    folder: Folder, known: Mapping[str, Row], progress: Progress | None
) -> tuple[dict[str, Row], list[DamagedFileError]]:
    """The rows of the entries that have a file, taken from ``known`` or else from the header."""
    rows: dict[str, Row] = {}
    unreadable: list[DamagedFileError] = []
    keys = folder.entry_keys()
    if progress is not None:
        progress(0, len(keys))
    for done, key in enumerate(keys, start=1):
        try:
            rows[key] = known[key] if key in known else Row.of(read_entry(folder.entry_path(key), verify=False).header)
        except DamagedFileError as error:
            if is_plain_file(folder.entry_path(key)):  # else it was packed or deleted at this moment
                unreadable.append(error)
        if progress is not None:
            progress(done, len(keys))
    return rows, unreadable
