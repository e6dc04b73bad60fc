"""Looking after a cache: what is in it, whether it is whole, and what can go."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ccln.cache.catalogue import Progress, catalogue, rebuild
from ccln.cache.entry import Entry, read_entry
from ccln.cache.errors import CacheError, DamagedFileError
from ccln.cache.folder import Folder
from ccln.cache.keys import JSON, feature_key, is_digest, specification_digest
from ccln.cache.shard import Shard
from ccln.cache.shelf import Shelf
from ccln.cache.store import FeatureCache

_COUNTED = ("clips", "bytes", "packed", "shards", "padded", "missing_audio", "missing_video")


@dataclass(frozen=True)
class SpecificationSummary:
    """What a cache holds under one specification.

    A clip that has a file of its own and lies in a shard, too, counts once, as the file.
    """

    digest: str
    specification: Mapping[str, JSON]
    clips: int
    bytes: int
    """Of whole files on disk."""
    packed: int
    """Clips in shards."""
    shards: int
    padded: int
    """Clips whose source covers less than their segments."""
    missing_audio: int
    missing_video: int
    shapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """Of the features, each once: visual (segment, height, width, channel) and audio (segment, channel)."""


class Damage(NamedTuple):
    """A file that is not what was written, and why."""

    path: Path
    reason: str


class Verified(NamedTuple):
    """What ``verify`` found."""

    sound: int
    """Entries whose every byte is as it was written; one that lies in a file and in a shard counts twice."""
    damaged: list[Damage]


class Repaired(NamedTuple):
    """What ``repair`` found and did."""

    indexed: int
    """Entries in the index now."""
    swept: int
    """Partial files deleted."""
    unreadable: list[Damage]
    """Files that are no readable entry or shard; they are left where they are."""


class Pruned(NamedTuple):
    """What ``prune`` dropped, or would drop."""

    clips: int
    bytes: int
    by_specification: dict[str, int]
    """Clips by the digest of their specification."""


def describe(cache: FeatureCache, progress: Progress | None = None) -> list[SpecificationSummary]:
    """What a cache holds under each specification, most clips first; what cannot be read is left out.

    Args:
        cache: the cache; the header of each entry is read.
        progress: called with files done and files in all.

    Raises:
        CacheError: where the folder is no feature cache, or cannot be listed.
    """
    specifications: dict[str, Mapping[str, JSON]] = {}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    shapes: dict[str, set[tuple[tuple[int, ...], tuple[int, ...]]]] = defaultdict(set)
    seen: set[str] = set()
    for stored in _stored(Folder(cache.root), progress):
        digest = stored.specification_sha256
        for header, features in stored.entries:
            specifications[digest] = header.specification
            if (key := feature_key(header.source_sha256, digest)) not in seen:
                seen.add(key)
                counts[digest]["clips"] += 1
                counts[digest]["packed"] += stored.is_shard
                counts[digest]["padded"] += header.duration_seconds < len(features.visual)
                counts[digest].update(f"missing_{stream}" for stream in header.missing)
                shapes[digest].add((tuple(features.visual.shape), tuple(features.audio.shape)))
        counts[digest]["bytes"] += stored.bytes
        counts[digest]["shards"] += stored.is_shard
    summaries = [
        SpecificationSummary(
            digest,
            specification,
            shapes=tuple(sorted(shapes[digest])),
            **{name: counts[digest][name] for name in _COUNTED},
        )
        for digest, specification in specifications.items()
    ]
    return sorted(summaries, key=lambda summary: (-summary.clips, summary.digest))


def verify(cache: FeatureCache, progress: Progress | None = None) -> Verified:
    """Reads every byte of every entry, packed ones too, and compares its sha256.

    Args:
        cache: the cache.
        progress: called with files done and files in all.

    Raises:
        CacheError: where the folder is no feature cache, or cannot be listed.
    """
    sound, damaged = 0, []
    for stored in _stored(Folder(cache.root), progress, verify=True):
        sound += len(stored.entries)
        damaged += stored.damages
    return Verified(sound, damaged)


def repair(cache: FeatureCache, progress: Progress | None = None) -> Repaired:
    """Deletes all partial files and makes the index anew from the files' headers.

    Args:
        cache: the cache.
        progress: called with files done and files in all, shards not counted.

    Raises:
        CacheError: where the folder is no feature cache, cannot be listed, or the index cannot be written.
    """
    folder = Folder(cache.root)
    folder.require()
    swept = folder.sweep_partial(older_than_seconds=-math.inf)  # whoever is just writing one writes it again
    holds = rebuild(folder, progress)
    indexed = holds.entries.keys() | {key for shard in holds.shards.values() for key in shard.keys}
    return Repaired(len(indexed), swept, [Damage(error.path, error.reason) for error in holds.unreadable])


def prune(cache: FeatureCache, keep: Collection[str], *, delete: bool, progress: Progress | None = None) -> Pruned:
    """Drops the entries, packed ones too, of all specifications but some; other files are never touched.

    Args:
        cache: the cache.
        keep: digests of the specifications to keep.
        delete: whether to delete; without it the entries are only counted.
        progress: called with files done and files in all.

    Raises:
        CacheError: where ``keep`` holds what is no digest, the folder is no feature cache or cannot be listed, or a
            file cannot be deleted.
    """
    for digest in keep:
        if not is_digest(digest):
            raise CacheError(f"{digest!r} is no specification's digest; pass the 64 hex digits that describe gives")
    folder = Folder(cache.root)
    dropped: dict[str, set[str]] = {}
    size_bytes = 0
    for stored in _stored(folder, progress):
        digest = stored.specification_sha256
        if not stored.entries or digest in keep:
            continue
        size_bytes += stored.bytes
        dropped.setdefault(digest, set()).update(
            feature_key(header.source_sha256, digest) for header, _ in stored.entries
        )
        if delete:
            try:
                folder.remove(stored.path)
            except OSError as error:
                raise CacheError(f"{stored.path} cannot be deleted ({error}); check its permissions") from error
    if delete:
        catalogue(folder, Shelf(folder))  # mends the index
    by_specification = {digest: len(keys) for digest, keys in dropped.items()}
    return Pruned(sum(by_specification.values()), size_bytes, by_specification)


class _Stored(NamedTuple):
    """A file of the cache, open."""

    path: Path
    is_shard: bool
    bytes: int
    entries: list[Entry]
    damages: list[Damage]

    @property
    def specification_sha256(self) -> str:
        """Of all entries; empty where there is none."""
        return specification_digest(self.entries[0].header.specification) if self.entries else ""


def _stored(folder: Folder, progress: Progress | None, *, verify: bool = False) -> Iterator[_Stored]:
    paths = [folder.entry_path(key) for key in folder.entry_keys()]
    paths += [folder.shard_path(name) for name in folder.shard_names()]
    if progress is not None:
        progress(0, len(paths))
    for done, path in enumerate(paths, start=1):
        with suppress(FileNotFoundError):  # packed or deleted since the folder was listed
            yield _open(path, is_shard=path.parent == folder.shards, verify=verify)
        if progress is not None:
            progress(done, len(paths))


def _open(path: Path, *, is_shard: bool, verify: bool) -> _Stored:
    size_bytes = path.lstat().st_size
    entries: list[Entry] = []
    damages: list[Damage] = []
    try:
        if is_shard:
            shard = Shard(path, path.stem)
            for key in shard.keys:
                try:
                    entries.append(shard.entry(key, verify=verify))
                except DamagedFileError as error:
                    damages.append(Damage(path, error.reason))
        else:
            entries.append(read_entry(path, verify=verify))
    except DamagedFileError as error:
        path.lstat()  # raises where it is not damaged but gone
        damages.append(Damage(path, error.reason))
    return _Stored(path, is_shard, size_bytes, entries, damages)
