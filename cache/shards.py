"""Shards: safetensors files with the entries of many clips that share specification and shape."""

import json
import math
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from ccln.cache.entry import FORMAT_VERSION, TENSORS, Entry, Header, bytes_of, opened, tensors_of
from ccln.cache.folder import Folder
from ccln.cache.index import Index, ShardRow
from ccln.cache.keys import CacheError, DamagedFileError, canonical_json, feature_key, shard_name, specification_digest
from ccln.strict_json import strict_json

MAX_SHARD_HEADER_BYTES = 8 << 20  # some twenty thousand clips with paths of ordinary length

_DTYPES = {"audio": "F32", "visual": "F16"}  # in this order each begins where its type may
_SHARED = ("specification", "format_version")
_SETTLED_NANOSECONDS = 3_000_000_000  # some file systems keep times to two seconds
_NO_FOLDER = -1


class Shard:
    """An open shard; its tensors are memory-mapped, and every entry read from it is a view of them.

    Args:
        path: The file.
        name: The name that it has or is to get: ``shard_name`` of its keys.

    Raises:
        DamagedFileError: If the file is not a whole shard of this name.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        with opened(path, MAX_SHARD_HEADER_BYTES) as (document, file):
            self._headers = _parse(document)
            digest = specification_digest(self._headers[0].specification)
            self.keys = [feature_key(header.source_sha256, digest) for header in self._headers]
            if shard_name(self.keys) != name or self.keys != sorted(set(self.keys)):
                raise CacheError("its name is not the digest of the keys that it holds, or they are out of order")
            self.row = ShardRow.of(self.keys, self._headers, digest)
            self._tensors = tensors_of(file)
            for tensor_name, tensor in self._tensors.items():
                if tensor.ndim == 0 or len(tensor) != len(self.keys):
                    raise CacheError(f"it names {len(self.keys)} clips, and {tensor_name} is {tuple(tensor.shape)}")
            self.entry(self.keys[0], verify=False)  # all clips have the shape and the type of the first

    def entry(self, key: str, *, verify: bool) -> Entry:
        """The entry of a key that the shard holds; ``verify`` reads the clip's bytes and compares their digest.

        Raises:
            DamagedFileError: If the clip is not what was written.
        """
        position = bisect_left(self.keys, key)
        header = self._headers[position]
        try:
            entry = Entry.of(header, {name: tensor[position] for name, tensor in self._tensors.items()})
        except CacheError as error:
            raise DamagedFileError(self.path, f"{header.source_path}: {error}") from error
        if verify and not entry.is_as_written():
            raise DamagedFileError(self.path, f"{header.source_path} in it is not what was written (sha256 differs)")
        return entry

    def ranges(self, key: str) -> list[tuple[int, int]]:
        """Where the bytes of a key's tensors begin and end in the file."""
        position, found = bisect_left(self.keys, key), []
        for name, start in self._starts.items():
            size_bytes = self._tensors[name][0].nbytes
            found.append((start + position * size_bytes, start + (position + 1) * size_bytes))
        return found

    @cached_property
    def _starts(self) -> dict[str, int]:
        """Where in the file each tensor begins."""
        head = read_head(self.path)
        layout = json.loads(head[8:])
        return {name: len(head) + layout[name]["data_offsets"][0] for name in TENSORS}


def read_head(path: Path) -> bytes:
    """What is before the tensors in a shard that is not damaged: the length of its header, and that."""
    with path.open("rb") as file:
        length = file.read(8)
        return length + file.read(min(int.from_bytes(length, "little"), MAX_SHARD_HEADER_BYTES))


def salvage(path: Path) -> list[Entry]:
    """The clips of a damaged shard that are as they were written, by key, whatever has become of the others."""
    entries: dict[str, Entry] = {}
    damage = (CacheError, OSError, ValueError, LookupError, TypeError, RuntimeError, OverflowError)
    with suppress(*damage):
        data = np.memmap(path, np.uint8, "c")
        size_bytes = int.from_bytes(data[:8].tobytes(), "little")
        if size_bytes > MAX_SHARD_HEADER_BYTES:
            return []
        layout = json.loads(data[8 : 8 + size_bytes].tobytes())
        document = strict_json(layout["__metadata__"]["ccln"])
        shared = {name: document[name] for name in _SHARED}
        for position, clip in enumerate(document["clips"] if document["format_version"] == FORMAT_VERSION else []):
            with suppress(*damage):
                rows = {name: _row(data[8 + size_bytes :], layout[name], position) for name in TENSORS}
                entry = Entry.of(Header.parse({**clip, **shared}), rows)
                if entry.is_as_written():
                    entries[entry.header.key] = entry
    return [entries[key] for key in sorted(entries)]


def _row(data: np.ndarray, layout: Mapping[str, Any], position: int) -> torch.Tensor:
    """One clip's part of a tensor; some error, or another shape, if the data has not all of it."""
    dtype, shape = {"F16": torch.float16, "F32": torch.float32}[layout["dtype"]], layout["shape"][1:]
    size_bytes = math.prod(shape) * dtype.itemsize
    start = layout["data_offsets"][0] + position * size_bytes
    return torch.from_numpy(data[start : start + size_bytes]).view(dtype).reshape(shape)


def write_shard(file: BinaryIO, entries: Sequence[Entry]) -> None:
    """Write entries of one specification and one shape, sorted by key, as a shard; no more than one is in memory.

    The safetensors library would want all tensors at once; its format is a length, a JSON header, and the bytes.
    """
    clips = [_own_fields(entry.header) for entry in entries]
    document = {"clips": clips, "format_version": FORMAT_VERSION, "specification": entries[0].header.specification}
    layout: dict[str, Any] = {"__metadata__": {"ccln": canonical_json(document)}}
    end = 0
    for name in TENSORS:
        first = getattr(entries[0].features, name)
        start, end = end, end + len(entries) * first.nbytes
        layout[name] = {
            "dtype": _DTYPES[name],
            "shape": [len(entries), *first.shape],
            "data_offsets": [start, end],
        }
    text = json.dumps(layout, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in TENSORS:
        for entry in entries:
            file.write(bytes_of(getattr(entry.features, name)))


def header_bytes(header: Header) -> int:
    """Bytes that one clip adds to a shard's header."""
    return len(json.dumps(canonical_json(_own_fields(header))))


class Listing(NamedTuple):
    """What the folder of shards held at a time."""

    changed: int | None
    """The folder's time of change in nanoseconds; None if it cannot be relied upon."""
    rows: Mapping[str, ShardRow]
    """What is known of each shard, by its name."""
    shard_of: Mapping[str, str]
    """Name of the shard that holds a key."""
    unreadable: list[DamagedFileError]
    """What is wrong with the files that should be shards and are not."""


class Shards:
    """All shards of a cache.

    Their folder is listed again only when its time of change shows that something may be new. What the index lacks of
    a shard is read from the shard and saved. Shards stay open once read, since a mapping for each clip would be more
    than a process may have.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._index = Index(folder.index)
        self._listing = Listing(None, {}, {}, [])  # replaced as a whole: threads share it, and a fork may cut in
        self._open: dict[str, Shard] = {}

    def listing(self) -> Listing:
        """What the folder holds now.

        Raises:
            CacheError: If the folder is a link or cannot be listed.
        """
        last = self._listing
        changed = self._time_of_change()
        if changed == last.changed:
            return last
        names = set(self._folder.shard_names())
        rows, shard_of, unreadable = last.rows, last.shard_of, []
        gone, new = rows.keys() - names, names - rows.keys()
        for name in gone:
            self._open.pop(name, None)
        if gone:
            rows = {name: row for name, row in rows.items() if name not in gone}
            shard_of = _by_key(rows)
        if new:
            read, unreadable = self._read_rows(new)
            rows = {**rows, **read}
            shard_of = {**shard_of, **_by_key(read)} if shard_of else _by_key(read)
        # A change of a moment ago may be followed by one that gets the same time.
        settled = abs(time.time_ns() - changed) > _SETTLED_NANOSECONDS
        self._listing = Listing(changed if settled else None, rows, shard_of, unreadable)
        return self._listing

    def entry(self, key: str, *, verify: bool) -> Entry | None:
        """The entry of a key, a view of its memory-mapped shard; None if no shard holds it.

        Raises:
            CacheError: If the shard is damaged, or the folder is a link or cannot be listed.
        """
        while (name := self.listing().shard_of.get(key)) is not None:
            known = self._open.get(name)
            path = self._folder.shard_path(name)
            try:
                shard = known or Shard(path, name)
                entry = shard.entry(key, verify=verify)
            except CacheError:
                self._open.pop(name, None)
                if known is None and path.exists():
                    raise
                if known is None:  # deleted since the folder was listed
                    self._listing = self._listing._replace(changed=None)
                # Else the caller may have changed a view that it was given before; the file itself decides.
            else:
                self._open[name] = shard
                return entry
        return None

    def forget(self, name: str) -> None:
        """Open a shard anew when it is read next."""
        self._open.pop(name, None)

    def _time_of_change(self) -> int:
        try:
            return self._folder.shards.stat().st_mtime_ns
        except FileNotFoundError:
            return _NO_FOLDER
        except OSError as error:
            raise CacheError(f"{self._folder.shards} cannot be read ({error.strerror}); check permissions") from error

    def _read_rows(self, names: set[str]) -> tuple[dict[str, ShardRow], list[DamagedFileError]]:
        """The rows of shards, from the index or else from themselves, and what is wrong with those that have none."""
        rows = self._index.shards(names)
        unreadable: list[DamagedFileError] = []
        read = {}
        for name in sorted(names - rows.keys()):
            path = self._folder.shard_path(name)
            try:
                read[name] = Shard(path, name).row
            except DamagedFileError as error:
                if path.exists():
                    unreadable.append(error)
        if read:
            self._index.save(shards=read)
        return {**rows, **read}, unreadable


def _by_key(rows: Mapping[str, ShardRow]) -> dict[str, str]:
    return {key: name for name, row in rows.items() for key in row.keys}


def _own_fields(header: Header) -> dict[str, Any]:
    """What a shard keeps of each header: all but what they share."""
    return {name: value for name, value in header.fields().items() if name not in _SHARED}


def _parse(document: Mapping[str, Any]) -> list[Header]:
    clips = document.get("clips")
    if document.keys() != {"clips", *_SHARED} or not isinstance(clips, list) or not clips:
        raise CacheError("not a shard of a feature cache")
    shared = {name: document[name] for name in _SHARED}
    if not all(isinstance(clip, dict) and not clip.keys() & shared.keys() for clip in clips):
        raise CacheError("its header is malformed")
    return [Header.parse({**clip, **shared}) for clip in clips]
