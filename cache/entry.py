"""One entry: a safetensors file whose header says all that an index of the cache could want to know."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save

from ccln.cache.errors import CacheError
from ccln.cache.features import Features
from ccln.cache.folder import opened
from ccln.cache.keys import JSON, canonical_json, feature_key, is_digest, specification_digest

FORMAT_VERSION = 2
MAX_HEADER_BYTES = 1 << 20  # a real header is a few kB; a larger one is not ours, and is not parsed
TENSORS = ("audio", "visual")


@dataclass(frozen=True, slots=True)
class Header:
    """What an entry says of itself, kept as JSON in the safetensors metadata under ``ccln``.

    ``content_sha256`` covers the other fields, the shapes and the tensors' bytes, so that no flipped bit goes unseen.
    """

    source_path: str
    source_sha256: str
    specification: Mapping[str, JSON]
    duration_seconds: float
    missing: tuple[str, ...]
    content_sha256: str
    format_version: int = FORMAT_VERSION

    @property
    def key(self) -> str:
        """The key that the entry belongs under."""
        return feature_key(self.source_sha256, specification_digest(self.specification))

    @classmethod
    def parse(cls, document: Any) -> "Header":
        """The header in a JSON value that nobody vouches for.

        Raises:
            CacheError: where it is none.
        """
        check_version(document)
        sound = (
            document.keys() == cls.__dataclass_fields__.keys()
            and isinstance(document["source_path"], str)
            and isinstance(document["specification"], dict)
            and isinstance(document["duration_seconds"], float)
            and isinstance(document["missing"], list)
            and is_digest(document["content_sha256"])
        )
        if not sound:
            raise CacheError("its header is malformed")
        return cls(**{**document, "missing": tuple(document["missing"])})


class Entry(NamedTuple):
    """One clip of the cache."""

    header: Header
    features: Features


def encode(
    features: Features, *, source_path: str, source_sha256: str, specification: Mapping[str, JSON]
) -> tuple[Header, bytes]:
    """The header and the bytes of an entry's file.

    Raises:
        CacheError: where a value is not finite, or the header cannot be written or is larger than a reader accepts.
    """
    tensors = {name: getattr(features, name).detach().cpu().contiguous() for name in TENSORS}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor.numpy()).all():  # torch would wake all its threads for it
            raise CacheError(f"{source_path}: {name} features hold NaN or infinity; check the source and the extractor")
    plain = json.loads(canonical_json(dict(specification)))
    unsealed = Header(source_path, source_sha256, plain, float(features.duration_seconds), features.missing, "")
    header = replace(unsealed, content_sha256=_content_digest(unsealed, tensors))
    data = save(tensors, metadata={"ccln": canonical_json(asdict(header))})
    if int.from_bytes(data[:8], "little") > MAX_HEADER_BYTES:
        raise CacheError(f"{source_path}: the specification makes a header above {MAX_HEADER_BYTES} bytes; shorten it")
    return header, data


def read_entry(path: Path, *, verify: bool) -> Entry:
    """An entry, its tensors memory-mapped; ``verify`` reads all bytes once and compares their digest.

    Raises:
        DamagedFileError: where the file is not a whole entry under its own key, or its content is not what was written.
    """
    with opened(path, MAX_HEADER_BYTES) as file:
        header = Header.parse(parse_metadata(file.metadata()))
        if header.key != path.stem:
            raise CacheError(f"its name is not the key of what it holds ({header.key})")
        entry = assemble(header, tensors_of(file))
        if verify and not is_as_written(entry):
            raise CacheError("its content is not what was written (sha256 differs)")
        return entry


def parse_metadata(metadata: Mapping[str, str] | None) -> Any:
    """The JSON value in a file's metadata; None where there is none."""
    return json.loads((metadata or {}).get("ccln", "null"))


def check_version(document: Any) -> None:
    """Raises CacheError where a file's document is not one of ours, or of another version."""
    if not isinstance(document, dict):
        raise CacheError("not a feature cache entry")
    found = document.get("format_version")
    if found != FORMAT_VERSION:
        raise CacheError(f"its format version is {found!r}, and this version of CCLN reads {FORMAT_VERSION}")


def tensors_of(file: Any) -> dict[str, torch.Tensor]:
    """The tensors of an open file, memory-mapped.

    Raises:
        CacheError: where they are not audio and visual.
    """
    if set(file.keys()) != set(TENSORS):
        raise CacheError(f"it holds the tensors {sorted(file.keys())}, not audio and visual")
    return {name: file.get_tensor(name) for name in TENSORS}


def assemble(header: Header, tensors: Mapping[str, torch.Tensor]) -> Entry:
    """The entry of a header and its tensors.

    Raises:
        CacheError: where they do not make features.
    """
    return Entry(header, Features(tensors["visual"], tensors["audio"], header.duration_seconds, header.missing))


def is_as_written(entry: Entry) -> bool:
    """Whether the header and every byte of the tensors are what was written."""
    header, features = entry
    return _content_digest(header, {"audio": features.audio, "visual": features.visual}) == header.content_sha256


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, not copied."""
    return tensor.view(torch.uint8).reshape(-1).numpy().data


def _content_digest(header: Header, tensors: Mapping[str, torch.Tensor]) -> str:
    said = {name: value for name, value in asdict(header).items() if name != "content_sha256"}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    digest = hashlib.sha256(canonical_json([said, shapes]).encode())
    for name in sorted(tensors):
        digest.update(bytes_of(tensors[name]))
    return digest.hexdigest()
