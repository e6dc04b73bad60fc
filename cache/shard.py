"""One shard: a safetensors file with the entries of many clips that share specification and shape."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from ccln.cache.entry import (
    FORMAT_VERSION,
    TENSORS,
    Entry,
    Header,
    assemble,
    bytes_of,
    check_version,
    is_as_written,
    parse_metadata,
    tensors_of,
)
from ccln.cache.errors import CacheError, DamagedFileError
from ccln.cache.folder import opened
from ccln.cache.keys import canonical_json, feature_key, specification_digest

MAX_SHARD_HEADER_BYTES = 8 << 20  # some twenty thousand clips with paths of ordinary length
_DTYPES = {"audio": "F32", "visual": "F16"}  # in this order each begins where its type may
_SHARED = ("specification", "format_version")


class Shard:
    """An open shard; its tensors are memory-mapped, and every entry read from it is a view of them.

    Args:
        path: the file.
        name: the name that it has or is to get: ``shard_name`` of its keys.

    Raises:
        DamagedFileError: where the file is not a whole shard of this name.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        with opened(path, MAX_SHARD_HEADER_BYTES) as file:
            self.headers = _parse(parse_metadata(file.metadata()))
            self.specification = self.headers[0].specification
            self.specification_sha256 = specification_digest(self.specification)
            self.keys = [feature_key(header.source_sha256, self.specification_sha256) for header in self.headers]
            if shard_name(self.keys) != name or self.keys != sorted(set(self.keys)):
                raise CacheError("its name is not the digest of the keys that it holds, or they are out of order")
            self._tensors = tensors_of(file)
            for tensor_name, tensor in self._tensors.items():
                if tensor.ndim == 0 or len(tensor) != len(self.keys):
                    raise CacheError(f"it names {len(self.keys)} clips, and {tensor_name} is {tuple(tensor.shape)}")
            self.entry(self.keys[0], verify=False)  # all clips have the shape and the type of the first

    def header(self, key: str) -> Header:
        """The header of a key that the shard holds."""
        return self.headers[bisect_left(self.keys, key)]

    def entry(self, key: str, *, verify: bool) -> Entry:
        """The entry of a key that the shard holds; ``verify`` reads the clip's bytes and compares their digest.

        Raises:
            DamagedFileError: where the clip is not what was written.
        """
        position = bisect_left(self.keys, key)
        header = self.headers[position]
        try:
            entry = assemble(header, {name: tensor[position] for name, tensor in self._tensors.items()})
        except CacheError as error:
            raise DamagedFileError(self.path, f"{header.source_path}: {error}") from error
        if verify and not is_as_written(entry):
            raise DamagedFileError(self.path, f"{header.source_path} in it is not what was written (sha256 differs)")
        return entry


def shard_name(keys: Sequence[str]) -> str:
    """Sha256 (hex) of a shard's keys, which are in order, one after the other."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def header_bytes(header: Header) -> int:
    """Bytes that one clip adds to a shard's header."""
    return len(json.dumps(canonical_json(_own(header))))


def write_shard(file: BinaryIO, entries: Sequence[Entry]) -> None:
    """Writes entries of one specification and one shape, sorted by key, as a shard; no more than one is in memory.

    The safetensors library would want all tensors at once; its format is a length, a JSON header, and the bytes.
    """
    clips = [_own(entry.header) for entry in entries]
    said = {"clips": clips, "format_version": FORMAT_VERSION, "specification": entries[0].header.specification}
    layout: dict[str, Any] = {"__metadata__": {"ccln": canonical_json(said)}}
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


def _own(header: Header) -> dict[str, Any]:
    """What a shard keeps of each header: all but what they share."""
    return {name: value for name, value in asdict(header).items() if name not in _SHARED}


def _parse(document: Any) -> list[Header]:
    check_version(document)
    clips, specification = document.get("clips"), document.get("specification")
    if document.keys() != {"clips", *_SHARED} or not isinstance(clips, list) or not clips:
        raise CacheError("not a shard of a feature cache")
    shared = {"specification": specification, "format_version": FORMAT_VERSION}
    if not all(isinstance(clip, dict) and not clip.keys() & shared.keys() for clip in clips):
        raise CacheError("its header is malformed")
    return [Header.parse({**clip, **shared}) for clip in clips]
