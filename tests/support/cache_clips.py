"""Helpers for the tests of the cache: small features, and functions that read a cache's files directly."""

import hashlib
import sqlite3
import time
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any

import torch

from ccln.cache import FeatureCache, Features, feature_key, specification_digest

SPECIFICATION = {"visual": {"backbone": "vgg19", "frames": 16}, "audio": "vggish", "mean": [0.485, 0.456, 0.406]}


def make_features(seed: int = 0, *, segments: int = 3, duration_seconds: float = 2.5) -> Features:
    generator = torch.Generator().manual_seed(seed)
    visual = torch.randn(segments, 2, 2, 4, generator=generator).half()
    return Features(visual, torch.randn(segments, 5, generator=generator), duration_seconds)


def sha(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


DIGEST = specification_digest(SPECIFICATION)
KEYS = [feature_key(sha(number), DIGEST) for number in range(200)]
"""Keys of the clips that `write` writes, by their number."""


def write(cache: FeatureCache, number: int = 0, specification: dict[str, Any] = SPECIFICATION) -> str:
    return cache.write(
        make_features(number),
        source_sha256=sha(number),
        source_path=f"/videos/clip {number}.mp4",
        specification=specification,
    )


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def same(one: Features, other: Features) -> bool:
    return (
        one.visual.shape == other.visual.shape
        and one.audio.shape == other.audio.shape
        and raw(one.visual) == raw(other.visual)
        and raw(one.audio) == raw(other.audio)
        and one.duration_seconds == other.duration_seconds
        and one.missing == other.missing
    )


def index_rows(root: Path) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(root / "index.sqlite")
    try:
        return [
            *sorted(connection.execute("SELECT * FROM entries")),
            *sorted(connection.execute("SELECT * FROM shards")),
        ]
    finally:
        connection.close()


def entries(cache: FeatureCache) -> list[Path]:
    # Unlike Path.glob, glob does not mind a folder that packing removes meanwhile.
    return [cache.root / name for name in glob("entries/??/??/*", root_dir=cache.root)]


def shards(cache: FeatureCache) -> list[Path]:
    return sorted((cache.root / "shards").iterdir())


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def files_below(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
