"""Care of a cache: what is in it, whether it is whole, what can go, and packing it into fewer files.

If not described otherwise, a `progress` is called with files done and files in all.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from ccln.cache.entry import Entry, read_entry
from ccln.cache.folder import Folder, is_plain_file, state_of
from ccln.cache.index import EntryRow, Index
from ccln.cache.keys import JSON, CacheError, DamagedFileError, feature_key, is_digest, shard_name, specification_digest
from ccln.cache.shards import MAX_SHARD_HEADER_BYTES, Shard, Shards, header_bytes, salvage, write_shard
from ccln.cache.store import FeatureCache, Progress, catalogue, tracked, whole_note

_Item = TypeVar("_Item")

_HEADER_RESERVE_BYTES = 1 << 20  # for all in a shard's header that is not its clips': an entry's own must be smaller


@dataclass
class SpecificationSummary:
    """What a cache holds under one specification.

    A clip that has a file of its own and is in a shard, too, counts once, as the file.
    """

    digest: str
    specification: Mapping[str, JSON]
    clips: int = 0
    bytes: int = 0
    """Of whole files on disk."""
    packed: int = 0
    """Clips in shards."""
    shards: int = 0
    padded: int = 0
    """Clips whose source covers less than their segments."""
    missing_audio: int = 0
    missing_video: int = 0
    damaged: int = 0
    """Clips of which damage to the source took something."""
    decoding_rules: Counter[int | None] = field(default_factory=Counter)
    """Clips by the edition of the rules by which their source was decoded; None where it is not known."""
    shapes: set[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=set)
    """Of the features: visual (segment, height, width, channel) and audio (segment, channel)."""


class Verified(NamedTuple):
    """What ``verify`` found."""

    intact: int
    """Entries whose every byte is as it was written; one that is in a file and in a shard counts twice."""
    damaged: list[DamagedFileError]
    """The index is among them where a row of it disagrees with the files."""


class Repaired(NamedTuple):
    """What ``repair`` found and did."""

    indexed: int
    """Entries in the index now."""
    swept: int
    """Partial files deleted."""
    damaged: list[DamagedFileError]
    """Files, and clips in shards, that were damaged: such a file is in ``quarantine/`` now, under its name, and what is
    whole in a shard is in a new one."""


class Pruned(NamedTuple):
    """What ``prune`` dropped, or would drop."""

    clips: int
    bytes: int
    by_specification: dict[str, int]
    """Clips by the digest of their specification."""


class Packed(NamedTuple):
    """What ``pack`` did."""

    clips: int
    """Entries that are in a shard now and have no file of their own any more."""
    shards: int
    """Shards that were written."""
    left: list[Path]
    """Files that stay: damaged, or with a key that a shard has with other content."""


def describe(cache: FeatureCache, progress: Progress | None = None) -> list[SpecificationSummary]:
    """List what a cache holds under each specification, most clips first; what cannot be read is left out.

    Raises:
        CacheError: If the folder is no feature cache, or cannot be listed.
    """
    summaries: dict[str, SpecificationSummary] = {}
    seen: set[str] = set()
    for file in _files(Folder(cache.root), progress):
        if not file.entries:
            continue
        digest, specification = file.specification_sha256, file.entries[0].header.specification
        summary = summaries.setdefault(digest, SpecificationSummary(digest, specification))
        summary.bytes += file.bytes
        summary.shards += file.shard is not None
        for header, features in file.entries:
            if (key := feature_key(header.source_sha256, digest)) not in seen:
                seen.add(key)
                summary.clips += 1
                summary.packed += file.shard is not None
                summary.padded += header.duration_seconds < len(features.visual)
                summary.missing_audio += "audio" in header.missing
                summary.missing_video += "video" in header.missing
                summary.damaged += bool(header.lost_seconds)
                summary.decoding_rules[header.decoding_rules] += 1
                summary.shapes.add((tuple(features.visual.shape), tuple(features.audio.shape)))
    return sorted(summaries.values(), key=lambda summary: (-summary.clips, summary.digest))


def verify(cache: FeatureCache, progress: Progress | None = None, *, sample: float = 1.0) -> Verified:
    """Read every byte of every entry, packed ones too, and compare its sha256; compare the index with the files.

    Args:
        cache: The cache.
        progress: See the module.
        sample: Of all files, and of the clips in each shard, the part to look at, above 0 and at most 1; which these
            are is drawn anew each time.

    Raises:
        CacheError: If the folder is no feature cache, cannot be listed, or ``sample`` is out of range.
    """
    if not 0 < sample <= 1:
        raise CacheError(f"a sample of {sample:g} of the clips; it must be above 0 and at most all of them")
    folder = Folder(cache.root)
    intact, damaged = 0, []
    rows, shard_rows = {}, {}
    for file in _files(folder, progress, verify=True, sample=sample):
        intact += len(file.entries)
        damaged += file.errors
        if file.shard is not None:
            shard_rows[file.path.stem] = file.shard.row
        else:
            rows.update((entry.header.key, EntryRow.of(entry.header)) for entry in file.entries)
    index = Index(folder.index)
    if damaged:
        index.save(gone_notes=[Path(error.path).stem for error in damaged])
    if wrong := index.disagreement(rows, shard_rows):
        damaged.append(DamagedFileError(folder.index, wrong))
    return Verified(intact, damaged)


def repair(cache: FeatureCache, progress: Progress | None = None) -> Repaired:
    """Move damaged files to ``quarantine/``, delete what is half written, and make the index anew from the files.

    The clips of a damaged shard that are whole go into a new one; what is lost, an extraction makes again.

    Args:
        cache: The cache.
        progress: See the module.

    Raises:
        CacheError: If the folder is no feature cache, cannot be listed, or a file in it cannot be moved or written.
    """
    folder = Folder(cache.root)
    folder.require()
    swept = folder.sweep_partial()
    damaged = []
    for file in _files(folder, progress, verify=True):
        if file.errors:
            damaged += file.errors
            _put_away(folder, file.path)
    Index(folder.index).clear()
    holds = catalogue(folder, Shards(folder))
    return Repaired(len({key for _, keys in holds.groups() for key in keys}), swept, damaged)


def _put_away(folder: Folder, path: Path) -> None:
    """Move a damaged file to the quarantine, but for the clips of a shard that are whole."""
    whole = salvage(path) if path.parent == folder.shards else []
    name = shard_name([entry.header.key for entry in whole])
    if name == path.stem:  # all are whole, and the damage lies between them
        folder.quarantine(path)
    if whole:
        _write(folder, name, whole)
    if name != path.stem:
        folder.quarantine(path)


def _write(
    folder: Folder, name: str, entries: Sequence[Entry], publish: Callable[[Path, str], object] | None = None
) -> None:
    """Write a shard, read it once more, and publish it, before it gets its name."""

    def check(unnamed: Path) -> None:
        _check(unnamed, name)
        if publish is not None:
            publish(unnamed, name)

    path = folder.shard_path(name)
    folder.write(path, partial(write_shard, entries=entries), check)
    rules = {entry.features.decoding_rules for entry in entries}
    if len(rules) == 1 and publish is None:
        Index(folder.index).save(notes={name: whole_note(rules.pop(), state_of(path))})


def prune(cache: FeatureCache, keep: Collection[str], *, delete: bool, progress: Progress | None = None) -> Pruned:
    """Drop the entries, packed ones too, of all specifications but some; other files are never touched.

    Args:
        cache: The cache.
        keep: Digests of the specifications to keep.
        delete: Whether to delete; without it the entries are only counted.
        progress: See the module.

    Raises:
        CacheError: If ``keep`` holds what is no digest, the folder is no feature cache or cannot be listed, or a file
            cannot be deleted.
    """
    for digest in keep:
        if not is_digest(digest):
            raise CacheError(f"{digest!r} is no specification's digest; pass the 64 hex digits that describe gives")
    folder = Folder(cache.root)
    dropped: dict[str, set[str]] = defaultdict(set)
    size_bytes = 0
    for file in _files(folder, progress):
        if not file.entries or (digest := file.specification_sha256) in keep:
            continue
        size_bytes += file.bytes
        dropped[digest].update(feature_key(header.source_sha256, digest) for header, _ in file.entries)
        if delete:
            try:
                folder.remove(file.path)
            except OSError as error:
                raise CacheError(f"{file.path} cannot be deleted ({error}); check its permissions") from error
    if delete:
        catalogue(folder, Shards(folder))  # mends the index
    by_specification = {digest: len(keys) for digest, keys in dropped.items()}
    return Pruned(sum(by_specification.values()), size_bytes, by_specification)


class _File(NamedTuple):
    """A file of the cache, open."""

    path: Path
    bytes: int
    entries: list[Entry]
    """Those that are whole."""
    errors: list[DamagedFileError]
    shard: Shard | None = None
    """If it is one."""

    @property
    def specification_sha256(self) -> str:
        """Of all entries; there must be one."""
        return specification_digest(self.entries[0].header.specification)


def _files(folder: Folder, progress: Progress | None, *, verify: bool = False, sample: float = 1.0) -> Iterator[_File]:
    paths = [folder.entry_path(key) for key in folder.entry_keys()]
    paths = [*sample_of(paths, sample), *map(folder.shard_path, folder.shard_names())]
    for path in tracked(paths, progress):
        with suppress(FileNotFoundError):  # packed or deleted since the folder was listed
            yield _open(path, is_shard=path.parent == folder.shards, verify=verify, sample=sample)


def sample_of(items: Sequence[_Item], part: float) -> list[_Item]:
    """So many of the items, at least one, in their order."""
    return [items[place] for place in sorted(random.sample(range(len(items)), math.ceil(part * len(items))))]


def _open(path: Path, *, is_shard: bool, verify: bool, sample: float) -> _File:
    size_bytes, entries, errors = path.lstat().st_size, [], []
    shard = None
    try:
        if is_shard:
            shard = Shard(path, path.stem)
            for key in sample_of(shard.keys, sample):
                try:
                    entries.append(shard.entry(key, verify=verify))
                except DamagedFileError as error:
                    errors.append(error)
        else:
            entries.append(read_entry(path, verify=verify))
    except DamagedFileError as error:
        path.lstat()  # raises FileNotFoundError if it is not damaged but gone
        errors.append(error)
    return _File(path, size_bytes, entries, errors, shard)


def pack(
    cache: FeatureCache,
    specification: str = "",
    *,
    clips_per_shard: int = 1000,
    only_full: bool = False,
    publish: Callable[[Path, str], object] | None = None,
    progress: Progress | None = None,
) -> Packed:
    """Move entries that have a file of their own into shards; they are read the same way as before.

    Others may read and write meanwhile; where they pack, too, a clip may get into two shards, which costs space and
    nothing else. A run that is killed at any moment loses nothing, and the next one goes on where it stopped. An entry
    stays a file if it is damaged, or if a shard has its key with other content.

    Args:
        cache: The cache.
        specification: First digits of the digest of the specification whose entries to pack; all if empty.
        clips_per_shard: The most clips in one shard; fewer if names and paths make its header too large.
        only_full: Leave entries as files that would make a smaller shard.
        publish: Called with the file of each new shard, before that has its name, and the name; where it raises, the
            entries stay files.
        progress: Called with entries done and entries in all, before the first and after each shard.

    Raises:
        CacheError: If the folder is no feature cache, no entry has such a specification, ``clips_per_shard`` is not
            positive, or the disk refuses.
    """
    if clips_per_shard < 1:
        raise CacheError(f"clips_per_shard is {clips_per_shard}; it must be at least 1")
    folder = Folder(cache.root)
    shards = Shards(folder)
    holds = catalogue(folder, shards)
    digests = {digest for digest, _ in holds.groups()}
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
        for batch in _batches(folder, shards, keys, clips_per_shard, only_full=only_full):
            moved = _move(folder, shards, batch, publish)
            packed = Packed(packed.clips + moved.clips, packed.shards + moved.shards, packed.left + moved.left)
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return packed


def keys_of(cache: FeatureCache, specification: str) -> tuple[str, list[str]]:
    """The digest of a specification, and the keys of all clips that a cache holds under it, in order.

    Args:
        cache: The cache.
        specification: First digits of the digest; may be empty where there is one only.

    Raises:
        CacheError: If the folder is no feature cache, or not one specification begins so.
    """
    folder, found = Folder(cache.root), defaultdict(set)
    for digest, keys in catalogue(folder, Shards(folder)).groups():
        found[digest].update(keys)
    if len(named := [digest for digest in found if digest.startswith(specification)]) != 1:
        known = ", ".join(sorted(digest[:12] for digest in found)) or "none"
        raise CacheError(f"{cache}: {len(named)} specifications begin with {specification!r}; these are there: {known}")
    return named[0], sorted(found[named[0]])


def _batches(
    folder: Folder, shards: Shards, keys: Sequence[str], clips_per_shard: int, *, only_full: bool
) -> Iterator[list[str]]:
    """Keys whose entries go into one shard: of one shape, and with headers that a reader of the shard accepts.

    Keys that a shard has already, which a killed run leaves behind, get batches of their own: they make no new shard.
    """
    batches: dict[object, list[str]] = defaultdict(list)
    sizes: dict[object, int] = defaultdict(int)
    for key in keys:
        kind, size_bytes = None, 0
        with suppress(CacheError):  # `_move` distinguishes what cannot be read from what is gone
            header, features = read_entry(folder.entry_path(key), verify=False)
            kind = features.visual.shape, features.audio.shape, key in shards.listing().shard_of
            size_bytes = header_bytes(header)
        if sizes[kind] + size_bytes > MAX_SHARD_HEADER_BYTES - _HEADER_RESERVE_BYTES:
            yield batches.pop(kind)
            del sizes[kind]
        batches[kind].append(key)
        sizes[kind] += size_bytes
        if len(batches[kind]) == clips_per_shard:
            yield batches.pop(kind)
            del sizes[kind]
    if not only_full:
        yield from batches.values()


def _move(folder: Folder, shards: Shards, keys: Sequence[str], publish: Callable[[Path, str], object] | None) -> Packed:
    """Pack the entries of some keys, which are in order, into one shard."""
    entries: dict[str, Entry] = {}
    in_a_shard: dict[Path, tuple[int, ...]] = {}
    left: list[Path] = []
    for key in keys:
        path = folder.entry_path(key)
        try:
            state = _state(path)
            entry = read_entry(path, verify=True)
            twin = shards.entry(key, verify=True)
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
        _write(folder, name, list(entries.values()), publish)
        shards.listing()  # saves the new shard in the index
    removed = []
    for path, state in in_a_shard.items():
        with suppress(OSError):
            if _state(path) == state:  # else it was written anew, and the new content counts
                folder.remove(path)
                removed.append(path.stem)
    Index(folder.index).save(gone_entries=removed)
    return Packed(len(removed), bool(entries), left)


def _check(path: Path, name: str) -> None:
    shard = Shard(path, name)  # whose keys are those that the name is made of
    for key in shard.keys:
        shard.entry(key, verify=True)


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is written anew."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
