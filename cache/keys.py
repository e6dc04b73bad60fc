"""The cache's errors, and its keys: digests of all that decides a clip's features."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"


class CacheError(Exception):
    """The cache cannot do what was asked; the message names the file or value, the reason and the remedy."""


class DamagedFileError(CacheError):
    """A file of the cache is not what its name promises."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error can be pickled
        self.path = path
        """The file; a URL is a text."""
        self.reason = reason
        """What is wrong with it."""

    def __str__(self) -> str:
        return f"{self.path} cannot be used: {self.reason}; run ccln-extract again, which makes it anew"


def is_digest(text: object) -> bool:
    """Whether ``text`` is a sha256 in lower-case hex."""
    return isinstance(text, str) and _is_hex(text, 64)


def _is_hex(text: str, digits: int) -> bool:
    try:  # faster than a regular expression, and there are millions
        return len(text) == digits and bytes.fromhex(text).hex() == text
    except ValueError:
        return False


def canonical_json(value: JSON) -> str:
    """Write ``value`` as JSON in one fixed way: keys sorted, no spaces, ASCII only.

    Raises:
        CacheError: If ``value`` is not JSON; NaN and the infinities are not.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CacheError(f"{value!r} cannot be written as JSON ({error}); use plain JSON values only") from error


def specification_digest(specification: Mapping[str, JSON]) -> str:
    """Sha256 (hex) of the specification's canonical JSON.

    Raises:
        CacheError: If the specification is not JSON.
    """
    return hashlib.sha256(canonical_json(dict(specification)).encode()).hexdigest()


def source_digest(path: str | os.PathLike[str]) -> str:
    """Sha256 (hex) of a file's bytes, read piece by piece.

    Raises:
        CacheError: If the file cannot be read, or is a pipe, a device or a socket.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe is to wait for who writes to it
            raise CacheError(f"{path}: is not a file; check the path")
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or error
        raise CacheError(f"{path}: cannot be read ({reason}); check the path and its permissions") from error


def clip_digest(source_sha256: str, start_seconds: int) -> str:
    """What stands for the content of a part of a file: sha256 (hex) of the file's and of where the part starts.

    Of the part at the start it is the file's own.

    Raises:
        CacheError: If `source_sha256` is not a sha256 in lower-case hex, or the start is negative.
    """
    if not is_digest(source_sha256) or start_seconds < 0:
        raise CacheError(f"no part of a file: sha256 {source_sha256!r}, from {start_seconds} s on")
    if start_seconds == 0:
        return source_sha256
    return hashlib.sha256(f"{source_sha256}@{start_seconds}".encode()).hexdigest()


def feature_key(source_sha256: str, specification_sha256: str) -> str:
    """Key of the features that one specification gives for one source file: sha256 (hex) over both digests.

    Raises:
        CacheError: If an argument is not a sha256 in lower-case hex.
    """
    both = f"{source_sha256}{specification_sha256}"
    if not (len(both) == 2 * len(source_sha256) and _is_hex(both, 128)):  # one look at both, there are millions
        raise CacheError(
            f"source_sha256 {source_sha256!r} and specification_sha256 {specification_sha256!r}: pass 64 lower-case "
            "hex digits each"
        )
    return hashlib.sha256(both.encode()).hexdigest()


def shard_name(keys: Sequence[str]) -> str:
    """Sha256 (hex) of a shard's keys, which are in order, one after the other."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()
