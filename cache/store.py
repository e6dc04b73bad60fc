"""The cache: features are written, read and found."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from ccln.cache.entry import Entry, Features, encode, read_entry
from ccln.cache.folder import Folder, is_plain_file
from ccln.cache.index import EntryRow, Index, ShardRow, storable
from ccln.cache.keys import JSON, CacheError, DamagedFileError, specification_digest
from ccln.cache.shards import Shards

_Item = TypeVar("_Item")

Progress = Callable[[int, int], object]
"""Called with the number of items done and of all items, before the first and after each."""


class FeatureCache:
    """Features on disk, safe for many processes that read, write and pack at once.

    A clip has a file of its own, or shares a shard with others; where it has both, its own file counts. Making the
    object touches nothing on disk: ``write`` makes the folders. The files are the truth. What no single file holds
    (``specifications``, ``find``) comes from an index, which is first made to agree with the files. The object may be
    shared by threads, pickled, and taken across a fork.

    Args:
        root: The cache's folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()
        if os.fsencode(self.root).decode("utf-8", "replace") != str(self.root):  # safetensors opens no other
            raise CacheError(f"{self.root}: the path of a cache must be text in UTF-8. Choose another folder: --cache")
        self._folder = Folder(self.root)
        self._shards = Shards(self._folder)
        self._keys_by_source: dict[tuple[str, str], list[str]] | None = None

    def __reduce__(self) -> tuple[type["FeatureCache"], tuple[Path]]:
        return FeatureCache, (self.root,)  # no open shard, and nothing that may have changed meanwhile

    def path_of(self, key: str) -> Path:
        """Path of the entry of a key if it has a file of its own, whether or not it exists.

        Raises:
            CacheError: If the key is not 64 lower-case hex digits, and so might lead out of the folder.
        """
        return self._folder.entry_path(key)

    def contains(self, key: str) -> bool:
        """Whether the entry exists, in a file of its own or in a shard.

        Raises:
            CacheError: If the key is malformed, or the folder of shards cannot be read.
        """
        # In this order: an entry that is being packed is in the shard before its file goes.
        return is_plain_file(self.path_of(key)) or key in self._shards.listing().shard_of

    def read(self, key: str, verify: bool = True) -> Features:
        """The features under a key, memory-mapped; changing the tensors in place never changes the file.

        Tensors of packed clips are views of one mapping of their shard, shared by all reads of this object: copy them
        before changing them in place.

        Args:
            key: From ``feature_key``, ``write`` or ``find``.
            verify: Read all bytes and compare their sha256; without it only the header is read and checked.

        Raises:
            CacheError: If there is no such entry, or it is damaged.
        """
        return self._entry(key, verify).features

    def whole(self, key: str) -> Features | None:
        """The features under a key, as `read` gives them; None if there are none, or they are damaged.

        A damaged file is moved to ``quarantine/``. What is damaged in a shard stays until ``repair``; a file of its own
        counts.

        Raises:
            CacheError: If the key is malformed, or the damaged file cannot be moved.
        """
        while self.contains(key):
            try:
                return self.read(key)
            except DamagedFileError as error:
                if error.path != self.path_of(key):
                    return None
                self._folder.quarantine(error.path)
            except CacheError:  # it is gone since
                if self.contains(key):
                    raise
        return None

    def source_of(self, key: str) -> str:
        """Return the sha256 (hex) of the source file whose features are under a key.

        Raises:
            CacheError: If there is no such entry, or it is damaged.
        """
        return self._entry(key, verify=False).header.source_sha256

    def write(
        self,
        features: Features,
        *,
        source_sha256: str,
        source_path: str | os.PathLike[str],
        specification: Mapping[str, JSON],
    ) -> str:
        """Store features; a reader sees the whole entry or none, even if this process dies at any moment.

        Args:
            features: Features of one clip.
            source_sha256: ``source_digest`` of the source file.
            source_path: The source file, kept for people and for ``find``.
            specification: All that decides the features' values.

        Returns:
            The entry's key. What was under it before is replaced.

        Raises:
            CacheError: If features or specification cannot be stored, or the disk refuses.
        """
        header, data = encode(
            features, source_path=os.fspath(source_path), source_sha256=source_sha256, specification=specification
        )
        self._folder.write(self.path_of(header.key), lambda file: file.write(data))
        # The entry is safe; a row that cannot be saved now is added when the index is next compared with the files.
        Index(self._folder.index).save({header.key: EntryRow.of(header)})
        self._keys_by_source = None
        return header.key

    def specifications(self) -> dict[str, Mapping[str, JSON]]:
        """The specifications that entries were made with, by their digest; looks at the folder anew.

        Raises:
            CacheError: If the folder is no feature cache, or holds files and not one of them can be used.
        """
        found: dict[str, Mapping[str, JSON]] = {}
        holds = catalogue(self._folder, self._shards)
        self._keys_by_source = holds.keys_by_source()
        for key, row in holds.rows():
            if row.specification_sha256 not in found:
                with suppress(CacheError):  # damaged or deleted since; another entry of the same digest will do
                    specification = self._entry(key, verify=False).header.specification
                    found[specification_digest(specification)] = specification
        if holds.unreadable and not found:
            raise CacheError(
                f"{self.root}: none of its {len(holds.unreadable)} entries can be used. Delete the folder and run "
                f"ccln-extract again. The first: {holds.unreadable[0]}"
            )
        return found

    def find(self, specification_sha256: str, source_name: str) -> list[str]:
        """Keys of entries made with a specification from a source file of this stem (its name without extension).

        For machines where the sources are absent. The result is what the last call of ``specifications`` found, less
        the entries that are gone since; the folder itself is listed only if there was no such call, or this object has
        written after it. Each entry's own header confirms what the index says of it; one that cannot be read is among
        the result.

        Raises:
            CacheError: If the folder is no feature cache.
        """
        if (by_source := self._keys_by_source) is None:
            by_source = self._keys_by_source = catalogue(self._folder, self._shards).keys_by_source()
        wanted = EntryRow(storable(source_name), specification_sha256)
        found = by_source.get((specification_sha256, wanted.source_name), [])
        present = {key for key in found if self.contains(key)}  # two runs of `pack` at once may pack a clip twice
        return sorted(key for key in present if self._row(key) in (wanted, None))

    def _row(self, key: str) -> EntryRow | None:
        """What an entry says of itself; None if it is damaged."""
        try:
            return EntryRow.of(self._entry(key, verify=False).header)
        except DamagedFileError:
            return None

    def _entry(self, key: str, verify: bool) -> Entry:
        path = self.path_of(key)
        if is_plain_file(path):
            try:
                return read_entry(path, verify=verify)
            except CacheError:
                if is_plain_file(path):
                    raise  # else it was packed at this moment
        entry = self._shards.entry(key, verify=verify)
        if entry is None:
            self._folder.require()
            raise CacheError(f"{path}: no such entry; run ccln-extract on the clip with --cache {self.root}")
        return entry


class Catalogue(NamedTuple):
    """All entries of a cache."""

    entries: dict[str, EntryRow]
    """Of each clip that has a file of its own, by key."""
    shards: Mapping[str, ShardRow]
    """Of each shard, by name."""
    unreadable: list[DamagedFileError]
    """What is wrong with the files that are no readable entry or shard, as far as they had to be opened."""

    def rows(self) -> Iterator[tuple[str, EntryRow]]:
        """Every clip by key, but one that is in two shards twice."""
        yield from self.entries.items()
        for shard in self.shards.values():
            for key, name in zip(shard.keys, shard.source_names, strict=True):
                if key not in self.entries:  # a file of its own counts, and may have another name
                    yield key, EntryRow(name, shard.specification_sha256)

    def keys_by_source(self) -> dict[tuple[str, str], list[str]]:
        """Keys by specification digest and source name."""
        keys: dict[tuple[str, str], list[str]] = {}
        for key, row in self.rows():
            keys.setdefault((row.specification_sha256, row.source_name), []).append(key)
        return keys


def catalogue(folder: Folder, shards: Shards, progress: Progress | None = None) -> Catalogue:
    """List what the cache holds; where index and files differ, the index is mended on the way.

    `progress` counts files, but not those of shards.

    Raises:
        CacheError: If the folder is no feature cache, or cannot be listed.
    """
    folder.require()
    shards.listing()  # before the index is read: if its rows of shards are broken, it is made anew
    index = Index(folder.index)
    known, known_shards = index.entries(), index.shard_names()
    entries: dict[str, EntryRow] = {}
    unreadable: list[DamagedFileError] = []
    for key in tracked(folder.entry_keys(), progress):
        path = folder.entry_path(key)
        try:
            entries[key] = known[key] if key in known else EntryRow.of(read_entry(path, verify=False).header)
        except DamagedFileError as error:
            if is_plain_file(path):  # else it was packed or deleted at this moment
                unreadable.append(error)
    listing = shards.listing()  # again after the entries: what is being packed is seen twice rather than not at all
    new = {key: row for key, row in entries.items() if key not in known}
    new_shards = {name: row for name, row in listing.rows.items() if name not in known_shards}
    gone, gone_shards = known.keys() - entries.keys(), known_shards - listing.rows.keys()
    if new or new_shards or gone or gone_shards:
        index.save(new, new_shards, gone_entries=gone, gone_shards=gone_shards)
    return Catalogue(entries, listing.rows, unreadable + listing.unreadable)


def tracked(items: Sequence[_Item], progress: Progress | None) -> Iterator[_Item]:
    """The items, with ``progress`` called before the first and after each."""
    for done, item in enumerate(items):
        if progress is not None:
            progress(done, len(items))
        yield item
    if progress is not None:
        progress(len(items), len(items))
