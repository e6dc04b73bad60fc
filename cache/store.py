"""The door to the cache: features written, read, found and packed."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ccln.cache import index, packing
from ccln.cache.catalogue import Catalogue, Progress, catalogue
from ccln.cache.entry import encode, read_entry
from ccln.cache.errors import CacheError
from ccln.cache.features import Features
from ccln.cache.folder import Folder, is_plain_file
from ccln.cache.index import Row
from ccln.cache.keys import JSON, specification_digest
from ccln.cache.packing import Packed
from ccln.cache.shelf import Shelf


class FeatureCache:
    """Features on disk, safe for many processes that read, write and pack at once.

    A clip has a file of its own, or shares a shard with others; where it has both, its own file counts. Making the
    object touches nothing on disk: ``write`` makes the folders. The files are the truth. Questions that no single file
    answers (``specifications``, ``find``) go to an index, which is first made to agree with the files. The object may
    be shared by threads, pickled, and taken across a fork.

    Args:
        root: the cache's folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()
        self._folder = Folder(self.root)
        self._shelf = Shelf(self._folder)
        self._keys_by_source: dict[tuple[str, str], list[str]] | None = None

    def __reduce__(self) -> tuple[type["FeatureCache"], tuple[Path]]:
        return FeatureCache, (self.root,)  # no open shard, and nothing that may have changed meanwhile

    def path_of(self, key: str) -> Path:
        """Where the entry of a key lies if it has a file of its own, whether or not it exists.

        Raises:
            CacheError: where the key is not 64 lower-case hex digits, and so might lead out of the folder.
        """
        return self._folder.entry_path(key)

    def contains(self, key: str) -> bool:
        """Whether the entry exists, in a file of its own or in a shard.

        Raises:
            CacheError: where the key is malformed, or the folder of shards cannot be read.
        """
        # In this order: an entry that is being packed is in the shard before its file goes.
        return is_plain_file(self.path_of(key)) or self._shelf.shard_of(key) is not None

    def read(self, key: str, verify: bool = True) -> Features:
        """The features under a key, memory-mapped; changing the tensors in place never changes the file.

        Tensors of packed clips are views of one mapping of their shard, shared by all reads of this object: copy them
        before changing them in place.

        Args:
            key: from ``feature_key``, ``write`` or ``find``.
            verify: read all bytes and compare their sha256; without it only the header is read and checked.

        Raises:
            CacheError: where there is no such entry, or it is damaged.
        """
        path = self.path_of(key)
        if is_plain_file(path):
            try:
                return read_entry(path, verify=verify).features
            except CacheError:
                if is_plain_file(path):
                    raise  # else it was packed at this moment
        entry = self._shelf.entry(key, verify=verify)
        if entry is None:
            self._folder.require()
            raise CacheError(f"{path}: no such entry; run ccln-extract on the clip with --cache {self.root}")
        return entry.features

    def write(
        self,
        features: Features,
        *,
        source_sha256: str,
        source_path: str | os.PathLike[str],
        specification: Mapping[str, JSON],
    ) -> str:
        """Keeps features; a reader sees the whole entry or none, even if this process dies at any moment.

        Args:
            features: what the extractors gave.
            source_sha256: ``source_digest`` of the source file.
            source_path: the source file, kept for people and for ``find``.
            specification: all that decides the features' values.

        Returns:
            The entry's key. What was under it before is replaced.

        Raises:
            CacheError: where features or specification cannot be kept, or the disk refuses.
        """
        header, data = encode(
            features, source_path=os.fspath(source_path), source_sha256=source_sha256, specification=specification
        )
        self._folder.write(self.path_of(header.key), lambda file: file.write(data))
        with suppress(sqlite3.Error, OSError):  # the entry is safe, and the next question puts in a missing row
            index.save(self._folder.index, {header.key: Row.of(header)})
        self._keys_by_source = None
        return header.key

    def specifications(self) -> dict[str, Mapping[str, JSON]]:
        """The specifications that entries were made with, by their digest; looks at the folder anew.

        Raises:
            CacheError: where the folder is no feature cache, or holds files and not one of them can be used.
        """
        found: dict[str, Mapping[str, JSON]] = {}
        holds = catalogue(self._folder, self._shelf)
        self._keys_by_source = _by_source(holds)
        for key, digest in _samples(holds):
            if digest not in found:
                with suppress(CacheError):  # damaged or deleted since; another entry of the same digest will do
                    if (specification := self._specification_of(key)) is not None:
                        found[specification_digest(specification)] = specification
        if holds.unreadable and not found:
            raise CacheError(
                f"{self.root}: none of its {len(holds.unreadable)} entries can be used. Delete the folder and run "
                f"ccln-extract again. The first: {holds.unreadable[0]}"
            )
        return found

    def find(self, specification_sha256: str, source_name: str) -> list[str]:
        """Keys of entries made with a specification from a source file of this stem (its name without extension).

        For machines where the sources are absent. Answers from what the last call of ``specifications`` saw, without
        the entries that are gone since; looks at the folder itself only where there was no such call, or this object
        has written or packed after it.

        Raises:
            CacheError: where the folder is no feature cache.
        """
        if (by_source := self._keys_by_source) is None:
            by_source = self._keys_by_source = _by_source(catalogue(self._folder, self._shelf))
        found = by_source.get((specification_sha256, index.storable(source_name)), [])
        return sorted({key for key in found if self.contains(key)})  # two runs of `pack` at once may pack a clip twice

    def pack(
        self, specification: str | None = None, *, clips_per_shard: int = 1000, progress: Progress | None = None
    ) -> Packed:
        """Moves entries that have a file of their own into shards; they are read the same way as before.

        Others may read and write meanwhile; where they pack, too, a clip may get into two shards, which costs space
        and nothing else. A run that is killed at any moment loses nothing, and the next one goes on
        where it stopped. An entry stays a file where it is damaged, or where a shard has its key with other content.

        Args:
            specification: first digits of the digest of the specification whose entries to pack; all if None.
            clips_per_shard: the most clips in one shard; fewer where names and paths make its header too large.
            progress: called with the entries dealt with and the entries in all, before the first and after each shard.

        Raises:
            CacheError: where the folder is no feature cache, no entry has such a specification, ``clips_per_shard`` is
                not positive, or the disk refuses.
        """
        packed = packing.pack(self._folder, self._shelf, specification or "", clips_per_shard, progress)
        self._keys_by_source = None
        return packed

    def sweep_partial(self) -> int:
        """Deletes partial files older than an hour, left by runs that were killed; returns how many."""
        return self._folder.sweep_partial()

    def _specification_of(self, key: str) -> Mapping[str, JSON] | None:
        if is_plain_file(path := self.path_of(key)):
            with suppress(CacheError):  # damaged, or packed at this moment
                return read_entry(path, verify=False).header.specification
        entry = self._shelf.entry(key, verify=False)
        return entry and entry.header.specification


def _samples(holds: Catalogue) -> Iterator[tuple[str, str]]:
    """Key and specification digest of every entry that has a file, and of one of each shard."""
    for key, row in holds.entries.items():
        yield key, row.specification_sha256
    for shard in holds.shards.values():
        yield shard.keys[0], shard.specification_sha256


def _by_source(holds: Catalogue) -> dict[tuple[str, str], list[str]]:
    """Keys by specification digest and source name."""
    keys: dict[tuple[str, str], list[str]] = {}
    for key, row in holds.entries.items():
        keys.setdefault((row.specification_sha256, row.source_name), []).append(key)
    for shard in holds.shards.values():
        for key, name in zip(shard.keys, shard.source_names, strict=True):
            if key not in holds.entries:  # a file of its own counts, and may have another name
                keys.setdefault((shard.specification_sha256, name), []).append(key)
    return keys
