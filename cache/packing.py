"""From a file a clip to a file a thousand clips, with nothing lost on the way."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ccln.cache import index
from ccln.cache.catalogue import Progress, catalogue
from ccln.cache.entry import Entry, read_entry
from ccln.cache.errors import CacheError
from ccln.cache.folder import Folder, is_plain_file
from ccln.cache.shard import MAX_SHARD_HEADER_BYTES, Shard, header_bytes, shard_name, write_shard
from ccln.cache.shelf import Shelf

_HEADER_RESERVE_BYTES = 1 << 20  # for all in a shard's header that is not its clips': an entry's own must be smaller


class Packed(NamedTuple):
    """What a run of ``pack`` did."""

    clips: int
    """Entries that lie in a shard now and in a file of their own no more."""
    shards: int
    """Shards that were written."""
    left: list[Path]
    """Files that stay: damaged, or with a key that a shard has with other content."""


def pack(folder: Folder, shelf: Shelf, specification: str, clips_per_shard: int, progress: Progress | None) -> Packed:
    """Does what ``FeatureCache.pack`` says, one shard at a time."""
    if clips_per_shard < 1:
        raise CacheError(f"clips_per_shard is {clips_per_shard}; it must be at least 1")
    holds = catalogue(folder, shelf)
    digests = {row.specification_sha256 for row in (*holds.entries.values(), *holds.shards.values())}
    if specification and not any(digest.startswith(specification) for digest in digests):
        known = ", ".join(sorted(digest[:12] for digest in digests)) or "none"
        raise CacheError(f"{folder.root}: no specification begins with {specification}; these are there: {known}")
    keys_of: dict[str, list[str]] = defaultdict(list)
    for key, row in holds.entries.items():
        if row.specification_sha256.startswith(specification):
            keys_of[row.specification_sha256].append(key)
    total = sum(map(len, keys_of.values()))
    done = 0
    packed = Packed(0, 0, [])
    if progress is not None:
        progress(done, total)
    for keys in keys_of.values():
        for batch in _batches(folder, shelf, keys, clips_per_shard):
            clips, shards, left = _move(folder, shelf, batch)
            packed = Packed(packed.clips + clips, packed.shards + shards, packed.left + left)
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return packed


def _batches(folder: Folder, shelf: Shelf, keys: Sequence[str], clips_per_shard: int) -> Iterator[list[str]]:
    """Keys whose entries go into one shard: of one shape, and with headers that a reader of the shard accepts.

    Keys that a shard has already, which a killed run leaves behind, are told apart: with them shards would be smaller.
    """
    batches: dict[object, list[str]] = defaultdict(list)
    sizes: dict[object, int] = defaultdict(int)
    for key in keys:
        kind, size_bytes = None, 0
        with suppress(CacheError):  # what cannot be read is told apart from what is gone when the batch is moved
            header, features = read_entry(folder.entry_path(key), verify=False)
            kind = features.visual.shape, features.audio.shape, shelf.shard_of(key) is None
            size_bytes = header_bytes(header)
        if sizes[kind] + size_bytes > MAX_SHARD_HEADER_BYTES - _HEADER_RESERVE_BYTES:
            yield batches.pop(kind)
            del sizes[kind]
        batches[kind].append(key)
        sizes[kind] += size_bytes
        if len(batches[kind]) == clips_per_shard:
            yield batches.pop(kind)
            del sizes[kind]
    yield from batches.values()


def _move(folder: Folder, shelf: Shelf, keys: Sequence[str]) -> Packed:
    """Packs the entries of some keys, which are in order, into one shard."""
    entries: dict[str, Entry] = {}
    in_a_shard: dict[Path, tuple[int, ...]] = {}
    left: list[Path] = []
    for key in keys:
        path = folder.entry_path(key)
        try:
            state = _state(path)
            entry = read_entry(path, verify=True)
            twin = shelf.entry(key, verify=True)
        except (OSError, CacheError):
            if is_plain_file(path):  # else another process packed or deleted it
                left.append(path)
            continue
        if twin is None:
            entries[key] = entry
        elif twin.header.content_sha256 != entry.header.content_sha256:
            left.append(path)
            continue
        in_a_shard[path] = state
    if entries:
        name = shard_name(list(entries))
        folder.write(
            folder.shard_path(name),
            partial(write_shard, entries=list(entries.values())),
            partial(_check, name=name, keys=list(entries)),
        )
        shelf.rows()  # puts the new shard into the index
    removed = []
    for path, state in in_a_shard.items():
        with suppress(OSError):
            if _state(path) == state:  # else it was written anew, and the new content counts
                folder.remove(path)
                removed.append(path.stem)
    with suppress(sqlite3.Error, OSError):
        index.save(folder.index, gone_entries=removed)
    return Packed(len(removed), bool(entries), left)


def _check(path: Path, name: str, keys: Sequence[str]) -> None:
    shard = Shard(path, name)
    for key in keys:
        shard.entry(key, verify=True)


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is written anew."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
