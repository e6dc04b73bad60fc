"""One entry: a safetensors file whose header says all that an index of the cache could want to know."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ccln.cache.errors import CacheError
from ccln.cache.features import Features
from ccln.cache.keys import JSON, canonical_json, feature_key, is_digest, specification_digest

SUFFIX = ".safetensors"
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 1 << 20  # a real header is a few kB; a larger one is not ours, and is not parsed


@dataclass(frozen=True)
class Header:
    """What an entry says of itself, kept as JSON in the safetensors metadata under ``ccln``.

    ``content_sha256`` covers the other fields, the shapes and the tensors' bytes, so that no flipped bit goes unseen.
    """

    source_path: str
    source_sha256: str
    specification: Mapping[str, JSON]
    duration_seconds: float
    content_sha256: str
    format_version: int = FORMAT_VERSION

    @property
    def key(self) -> str:
        """The key that the entry belongs under."""
        return feature_key(self.source_sha256, specification_digest(self.specification))


def refuse_links(path: Path) -> None:
    """Raises CacheError where a symbolic link leads ``path`` elsewhere: a cache from others must not reach outside."""
    if os.path.realpath(path) != os.fspath(path):
        raise CacheError(f"{path} is, or lies behind, a symbolic link; remove the link")


def encode(
    features: Features, *, source_path: str, source_sha256: str, specification: Mapping[str, JSON]
) -> tuple[Header, bytes]:
    """The header and the bytes of an entry's file.

    Raises:
        CacheError: where a value is not finite, or the header cannot be written or is larger than a reader accepts.
    """
    tensors = {name: getattr(features, name).detach().cpu().contiguous() for name in ("audio", "visual")}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CacheError(f"{source_path}: {name} features hold NaN or infinity; check the source and the extractor")
    plain = json.loads(canonical_json(dict(specification)))
    unsealed = Header(source_path, source_sha256, plain, float(features.duration_seconds), "")
    header = replace(unsealed, content_sha256=_content_digest(unsealed, tensors))
    data = save(tensors, metadata={"ccln": canonical_json(asdict(header))})
    if int.from_bytes(data[:8], "little") > MAX_HEADER_BYTES:
        raise CacheError(f"{source_path}: the specification makes a header above {MAX_HEADER_BYTES} bytes; shorten it")
    return header, data


def read_header(path: Path) -> Header:
    """An entry's header; the tensors are not read.

    Raises:
        CacheError: where the file is not a whole entry under its own key.
    """
    with _opened(path) as (_, header):
        return header


def read_features(path: Path, *, verify: bool) -> Features:
    """An entry's features, memory-mapped; ``verify`` reads all bytes once and compares their digest.

    Raises:
        CacheError: where the file is not a whole entry under its own key, or its content is not what was written.
    """
    with _opened(path) as (file, header):
        if set(file.keys()) != {"audio", "visual"}:
            raise CacheError(f"it holds the tensors {sorted(file.keys())}, not audio and visual")
        tensors = {name: file.get_tensor(name) for name in ("audio", "visual")}
        features = Features(tensors["visual"], tensors["audio"], header.duration_seconds)
        if verify and _content_digest(header, tensors) != header.content_sha256:
            raise CacheError("its content is not what was written (sha256 differs)")
        return features


@contextmanager
def _opened(path: Path) -> Iterator[tuple[safe_open, Header]]:
    """Opens a file that nobody vouches for; whatever is wrong with it becomes one CacheError."""
    try:
        refuse_links(path)
        if not path.is_file():  # opening a pipe would wait for ever
            raise CacheError("not a regular file")
        with path.open("rb") as raw:
            header_bytes = int.from_bytes(raw.read(8), "little")
        if header_bytes > MAX_HEADER_BYTES:
            raise CacheError(f"its header claims {header_bytes} bytes")
        with safe_open(path, framework="pt") as file:
            yield file, _parse_header(file.metadata(), path.stem)
    except (CacheError, SafetensorError, OSError, ValueError, RuntimeError) as error:
        remedy = "delete the file and run ccln-extract again"
        raise CacheError(f"{path} cannot be used: {error}; {remedy}") from error


def _parse_header(metadata: Mapping[str, str] | None, key: str) -> Header:
    document = json.loads((metadata or {}).get("ccln", "null"))
    if not isinstance(document, dict):
        raise CacheError("not a feature cache entry")
    if document.get("format_version") != FORMAT_VERSION:
        raise CacheError(f"format version {document.get('format_version')!r}, and this version reads {FORMAT_VERSION}")
    sound = (
        document.keys() == {field.name for field in fields(Header)}
        and isinstance(document["source_path"], str)
        and isinstance(document["specification"], dict)
        and isinstance(document["duration_seconds"], float)
        and is_digest(document["content_sha256"])
    )
    if not sound:
        raise CacheError("its header is malformed")
    header = Header(**document)
    if header.key != key:
        raise CacheError(f"its name is not the key of what it holds ({header.key})")
    return header


def _content_digest(header: Header, tensors: Mapping[str, torch.Tensor]) -> str:
    said = {name: value for name, value in asdict(header).items() if name != "content_sha256"}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    digest = hashlib.sha256(canonical_json([said, shapes]).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].view(torch.uint8).reshape(-1).numpy().data)
    return digest.hexdigest()
