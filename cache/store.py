"""The cache: features are written, read and found."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from ccln.cache.entry import Entry, Features, encode, read_entry
from ccln.cache.folder import Folder, is_plain_file, state_of
from ccln.cache.index import EntryRow, Index, ShardRow, storable
from ccln.cache.keys import JSON, CacheError, DamagedFileError, is_digest, specification_digest
from ccln.cache.shards import Shard, Shards

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
        self._found: _Names | None = None

    def __reduce__(self) -> tuple[type["FeatureCache"], tuple[Path | str]]:
        return FeatureCache, (self.root,)  # no open shard, and nothing that may have changed meanwhile

    def __str__(self) -> str:
        """What a command's --cache calls it."""
        return str(self.root)

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
        try:
            return self._entry(key, verify).features
        except DamagedFileError as error:  # its bytes have changed, and perhaps nothing else of it
            Index(self._folder.index).save(gone_notes=[Path(error.path).stem])
            raise

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
                self._folder.quarantine(self.path_of(key))
            except CacheError:  # it is gone since
                if self.contains(key):
                    raise
        return None

    def fetch(self, keys: Iterable[str]) -> None:
        """Get ready to read many keys; nothing has to be done for files that are on this machine."""

    def flush(self) -> None:
        """See that all that was written can be read by others; it can, where they see the same folder."""

    def unsent(self, keys: Iterable[str]) -> set[str]:
        """Of the keys of features that were written, here or elsewhere, those that others cannot read: see `flush`."""
        return set()

    def intact(self, keys: Collection[str], decoding_rules: int) -> set[str]:
        """Of some keys, those whose features are there, whole, and of this edition of the rules of decoding.

        What this takes for whole it does not read again: a file whose bytes were once found to be as written, and which
        by size, inode and times has not been changed since. ``verify`` reads all.

        Raises:
            CacheError: If the cache cannot be listed.
        """
        shard_of = self._shards.listing().shard_of
        has_files = self._folder.has_entries()
        states: dict[str, str] = {}
        """Of entries."""
        clips_in: dict[str, list[str]] = defaultdict(list)
        """Keys by the shard that holds them."""
        for key in keys:
            if has_files and (state := state_of(self._folder.entry_name(key))) is not None:
                states[key] = state
            elif (name := shard_of.get(key)) is not None:
                clips_in[name].append(key)
        for name in clips_in:
            if (state := state_of(self._folder.shard_path(name))) is not None:
                states[name] = state
        index = Index(self._folder.index)
        known = index.notes(states)
        found: set[str] = set()
        new = {}
        for name, state in states.items():
            note = whole_note(decoding_rules, state)
            if known.get(name) != note:
                if not self._is_whole(name, decoding_rules, is_shard=name in clips_in):
                    continue
                new[name] = note
            if name in clips_in:
                found.update(clips_in[name])
            else:
                found.add(name)
        if new:
            index.save(notes=new)
        return found

    def _is_whole(self, name: str, decoding_rules: int, *, is_shard: bool) -> bool:
        """Whether an entry, or each of a shard, is as it was written, and of these rules."""
        try:
            if is_shard:
                shard = Shard(self._folder.shard_path(name), name)
                entries = (shard.entry(key, verify=True) for key in shard.keys)
            else:
                entries = iter([read_entry(self._folder.entry_path(name), verify=True)])
            return all(entry.features.decoding_rules == decoding_rules for entry in entries)
        except DamagedFileError:
            return False

    def source_digests(self, states: Iterable[str]) -> dict[str, str]:
        """What `keep_source_digests` kept, by the states asked for; of some there is nothing."""
        return {state: digest for state, digest in Index(self._folder.index).notes(states).items() if is_digest(digest)}

    def keep_source_digests(self, digests: Mapping[str, str]) -> None:
        """Keep ``source_digest`` of files by a text that is another when the file is: they need not be read again."""
        Index(self._folder.index).save(notes=digests)

    def source_of(self, key: str) -> str:
        """Return the sha256 (hex) of the source file whose features are under a key.

        Raises:
            CacheError: If there is no such entry, or it is damaged.
        """
        return self._entry(key, verify=False).header.source_sha256

    def source_path_of(self, key: str) -> str:
        """Return the path of that file, as it was given when the features were made.

        Raises:
            CacheError: As of `source_of`.
        """
        return self._entry(key, verify=False).header.source_path

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
        note = whole_note(features.decoding_rules, state_of(self.path_of(header.key)))
        Index(self._folder.index).save({header.key: EntryRow.of(header)}, notes={header.key: note})
        self._found = None
        return header.key

    def specifications(self) -> dict[str, Mapping[str, JSON]]:
        """The specifications that entries were made with, by their digest; looks at the folder anew.

        Raises:
            CacheError: If the folder is no feature cache, or holds files and not one of them can be used.
        """
        found: dict[str, Mapping[str, JSON]] = {}
        holds = catalogue(self._folder, self._shards)
        self._found = _Names(holds)
        for digest, keys in holds.groups():
            for key in keys:
                if digest in found:
                    break
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
        if (names := self._found) is None:
            names = self._found = _Names(catalogue(self._folder, self._shards))
        wanted = EntryRow(storable(source_name), specification_sha256)
        found = names.keys_of(wanted)
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

    def groups(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Digests of specifications, and keys of clips made with each; all clips, in any number of groups."""
        for key, row in self.entries.items():
            yield row.specification_sha256, (key,)
        for shard in self.shards.values():
            yield shard.specification_sha256, shard.keys


class _Names:
    """The clips that a cache holds by their names; these are put in order when the first is asked for."""

    def __init__(self, holds: Catalogue) -> None:
        self._holds = holds
        self._first: dict[str, dict[str, str]] = {}
        """By specification digest and source name a key. A list for each, or a pair as the key, would take as much
        memory again as all else, and there are a million."""
        self._others: dict[EntryRow, list[str]] = {}
        """Where there is more than one, the others."""

    def keys_of(self, row: EntryRow) -> list[str]:
        """The keys of clips with this row."""
        if not self._first:
            rows = self._holds.entries
            for digest in {row.specification_sha256 for row in rows.values()}:
                keys = [key for key, row in rows.items() if row.specification_sha256 == digest]
                self._add(digest, keys, [rows[key].source_name for key in keys])
            for shard in self._holds.shards.values():
                self._add(shard.specification_sha256, shard.keys, shard.source_names)
        first = self._first.get(row.specification_sha256, {}).get(row.source_name)
        return [] if first is None else [first, *self._others.get(row, ())]

    def _add(self, digest: str, keys: Sequence[str], names: Sequence[str]) -> None:
        first, new = self._first.setdefault(digest, {}), dict(zip(names, keys, strict=True))
        if len(new) == len(names) and first.keys().isdisjoint(new):
            first.update(new)
            return
        for key, name in zip(keys, names, strict=True):
            if first.setdefault(name, key) != key:
                self._others.setdefault(EntryRow(name, digest), []).append(key)


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
        if key in known:
            entries[key] = known[key]
            continue
        path = folder.entry_path(key)
        try:
            entries[key] = EntryRow.of(read_entry(path, verify=False).header)
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


def whole_note(decoding_rules: int | None, state: str | None) -> str:
    """What the index notes of a file whose bytes are as they were written: its state, and its clips' rules."""
    return f"{decoding_rules} {state}"


def tracked(items: Sequence[_Item], progress: Progress | None) -> Iterator[_Item]:
    """The items, with ``progress`` called before the first and after each."""
    for done, item in enumerate(items):
        if progress is not None:
            progress(done, len(items))
        yield item
    if progress is not None:
        progress(len(items), len(items))
