"""One entry of the cache: a safetensors file with the features of a clip, and a header with what is known of them."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ccln.cache.folder import refuse_links
from ccln.cache.keys import (
    JSON,
    CacheError,
    DamagedFileError,
    canonical_json,
    feature_key,
    is_digest,
    specification_digest,
)
from ccln.strict_json import strict_json

FORMAT_VERSION = 2
TENSORS = ("audio", "visual")

_MAX_HEADER_BYTES = 1 << 20  # a real header is a few kB; a larger one is not ours, and is not parsed
_MISSING = ((), ("audio",), ("video",))  # with neither there would be nothing to extract
_OPTIONAL = frozenset({"lost_seconds", "decoding_rules"})
"""Fields of the header that the files leave out where they hold nothing."""


@dataclass(frozen=True, eq=False)  # == on tensors has no single truth value
class Features:
    """Features of one clip.

    That the values are finite is checked when features are written, not here: here it would touch every
    memory-mapped page of an entry that is only being opened.

    Raises:
        CacheError: If a type, a shape, the duration, ``missing`` or ``lost_seconds`` is not as described.
    """

    visual: torch.Tensor
    """float16 (segment, height, width, channel)."""
    audio: torch.Tensor
    """float32 (segment, channel)."""
    duration_seconds: float
    """How much of the clip the source covers, above 0 and at most one second a segment; the rest is padding."""
    missing: tuple[str, ...] = ()
    """Which stream the source lacked, so that black frames or silence stand for it: (), ("audio",) or ("video",)."""
    lost_seconds: Mapping[str, float] = field(default_factory=dict)
    """How much of "audio" and "video" damage to the source took, where any; the frame before and silence stand for it.
    Above 0 and at most one second a segment."""
    decoding_rules: int | None = None
    """The edition of the rules by which the source was decoded; None if it is not known, as in older entries."""

    def __post_init__(self) -> None:
        for name, tensor, dtype, axes in (
            ("visual", self.visual, torch.float16, "(segment, height, width, channel)"),
            ("audio", self.audio, torch.float32, "(segment, channel)"),
        ):
            if tensor.dtype != dtype or tensor.ndim != axes.count(",") + 1 or tensor.numel() == 0:
                found = f"{tensor.dtype} {tuple(tensor.shape)}"
                raise CacheError(f"{name} features are {found}; they must be {dtype} {axes}, no axis empty")
        segments = len(self.visual)
        if len(self.audio) != segments:
            raise CacheError(f"visual features have {segments} segments, audio {len(self.audio)}; they must agree")
        if not (math.isfinite(self.duration_seconds) and 0 < self.duration_seconds <= segments):
            raise CacheError(f"duration_seconds is {self.duration_seconds}; it must be above 0 and at most {segments}")
        if self.missing not in _MISSING:
            raise CacheError(f"missing is {self.missing!r}; it must be one of {', '.join(map(str, _MISSING))}")
        for name, seconds in self.lost_seconds.items():
            if name not in ("audio", "video") or not (isinstance(seconds, float) and 0 < seconds <= segments):
                raise CacheError(f"lost_seconds has {name!r}: {seconds!r}; of audio and video above 0 and at most all")
        if self.decoding_rules is not None and (type(self.decoding_rules) is not int or self.decoding_rules < 1):
            raise CacheError(f"decoding_rules is {self.decoding_rules!r}; it must be an edition's number, from 1 on")


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an entry, kept as JSON in the safetensors metadata under ``ccln``."""

    source_path: str
    source_sha256: str
    specification: Mapping[str, JSON]
    duration_seconds: float
    missing: tuple[str, ...]
    content_sha256: str
    """Of the other fields, the shapes and the tensors' bytes, so that every flipped bit is noticed."""
    format_version: int = FORMAT_VERSION
    lost_seconds: Mapping[str, float] = field(default_factory=dict)
    """Left out of the file where it is empty, as older entries have it."""
    decoding_rules: int | None = None
    """Likewise left out where it is not known."""

    @property
    def key(self) -> str:
        """The key of the entry."""
        return feature_key(self.source_sha256, specification_digest(self.specification))

    def fields(self) -> dict[str, Any]:
        """All that the file states."""
        return {name: value for name, value in asdict(self).items() if name not in _OPTIONAL or value}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Header":
        """Read a header from a JSON object of unknown origin.

        Raises:
            CacheError: If it is none.
        """
        valid = (
            document.keys() | _OPTIONAL == cls.__dataclass_fields__.keys()
            and isinstance(document["source_path"], str)
            and isinstance(document["specification"], dict)
            and isinstance(document["duration_seconds"], float)
            and isinstance(document["missing"], list)
            and is_digest(document["content_sha256"])
            and isinstance(document.get("lost_seconds", {}), dict)
        )
        if not valid:
            raise CacheError("its header is malformed")
        return cls(**{**document, "missing": tuple(document["missing"])})


class Entry(NamedTuple):
    """One clip of the cache."""

    header: Header
    features: Features

    @classmethod
    def of(cls, header: Header, tensors: Mapping[str, torch.Tensor]) -> "Entry":
        """Put a header and its tensors together.

        Raises:
            CacheError: If they do not make features.
        """
        known = header.duration_seconds, header.missing, header.lost_seconds, header.decoding_rules
        return cls(header, Features(tensors["visual"], tensors["audio"], *known))

    def is_as_written(self) -> bool:
        """Whether the header and every byte of the tensors are what was written."""
        tensors = {name: getattr(self.features, name) for name in TENSORS}
        return _content_digest(self.header, tensors) == self.header.content_sha256


def encode(
    features: Features, *, source_path: str, source_sha256: str, specification: Mapping[str, JSON]
) -> tuple[Header, bytes]:
    """Make the header and the bytes of an entry's file.

    Raises:
        CacheError: If a value is not finite, or the header cannot be written or is larger than a reader accepts.
    """
    tensors = {name: getattr(features, name).detach().cpu().contiguous() for name in TENSORS}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor.numpy()).all():  # torch would wake all its threads for it
            raise CacheError(f"{source_path}: {name} features hold NaN or infinity; check the source and the extractor")
    plain = json.loads(canonical_json(dict(specification)))
    unsealed = Header(
        source_path,
        source_sha256,
        plain,
        float(features.duration_seconds),
        features.missing,
        content_sha256="",
        lost_seconds=dict(features.lost_seconds),
        decoding_rules=features.decoding_rules,
    )
    header = replace(unsealed, content_sha256=_content_digest(unsealed, tensors))
    data = save(tensors, metadata={"ccln": canonical_json(header.fields())})
    if int.from_bytes(data[:8], "little") > _MAX_HEADER_BYTES:
        raise CacheError(f"{source_path}: the specification makes a header above {_MAX_HEADER_BYTES} bytes; shorten it")
    return header, data


def read_entry(path: Path, *, verify: bool) -> Entry:
    """Read an entry, its tensors memory-mapped; ``verify`` reads all bytes once and compares their digest.

    Raises:
        DamagedFileError: If the file is not a whole entry under its own key, or its content is not what was written.
    """
    with opened(path, _MAX_HEADER_BYTES) as (document, file):
        header = Header.parse(document)
        if header.key != path.stem:
            raise CacheError(f"its name is not the key of what it holds ({header.key})")
        entry = Entry.of(header, tensors_of(file))
        if verify and not entry.is_as_written():
            raise CacheError("its content is not what was written (sha256 differs)")
        return entry


@contextmanager
def opened(path: Path, max_header_bytes: int) -> Iterator[tuple[dict[str, Any], safe_open]]:
    """Open a safetensors file of unknown origin, memory-mapped.

    Yields:
        The JSON object in its metadata, which is of this version, and the open file.

    Raises:
        DamagedFileError: Whatever is wrong with the file, errors raised by the body of the ``with`` included.
    """
    try:
        refuse_links(path)
        if not path.is_file():  # opening a pipe would wait for ever
            raise CacheError("not a regular file")
        with path.open("rb") as raw:
            header_bytes = int.from_bytes(raw.read(8), "little")
        if header_bytes > max_header_bytes:
            raise CacheError(f"its header claims {header_bytes} bytes")
        with safe_open(path, framework="pt") as file:
            document = strict_json((file.metadata() or {}).get("ccln", "null"))
            if not isinstance(document, dict):
                raise CacheError("not a feature cache entry")
            version = document.get("format_version")
            if version != FORMAT_VERSION:
                raise CacheError(f"its format version is {version!r}, and this version of CCLN reads {FORMAT_VERSION}")
            yield document, file
    except DamagedFileError:
        raise
    except (CacheError, SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DamagedFileError(path, str(error)) from error


def tensors_of(file: safe_open) -> dict[str, torch.Tensor]:
    """The tensors of an open file.

    Raises:
        CacheError: If they are not audio and visual.
    """
    if set(file.keys()) != set(TENSORS):
        raise CacheError(f"it holds the tensors {sorted(file.keys())}, not audio and visual")
    return {name: file.get_tensor(name) for name in TENSORS}


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, not copied."""
    return tensor.view(torch.uint8).reshape(-1).numpy().data


def _content_digest(header: Header, tensors: Mapping[str, torch.Tensor]) -> str:
    fields = {name: value for name, value in header.fields().items() if name != "content_sha256"}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    digest = hashlib.sha256(canonical_json([fields, shapes]).encode())
    for name in sorted(tensors):
        digest.update(bytes_of(tensors[name]))
    return digest.hexdigest()
