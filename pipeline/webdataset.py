"""Cached features as tar files in the layout of the webdataset package, for other trainers."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ccln.cache import CacheError, FeatureCache, keys_of
from ccln.files import whole

_FETCHED_AT_A_TIME = 250


class WebDatasetSummary(NamedTuple):
    """What one export wrote."""

    folder: Path
    clips: int
    tars: int
    specification: str
    """Digest of that of the features."""


def export_features(
    folder: Path,
    cache: FeatureCache,
    specification: str | None,
    *,
    clips_per_tar: int,
    progress: Callable[[int, int], None] | None,
) -> WebDatasetSummary:
    """Write features as tar files; `ccln.export_webdataset` describes arguments and errors."""
    folder = Path(os.path.abspath(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CacheError(f"{folder} is there already and not empty; choose another folder, or remove it")
    if clips_per_tar < 1:
        raise CacheError(f"clips_per_tar is {clips_per_tar}; it must be at least 1")
    digest, keys = keys_of(cache, specification or "")
    with whole(folder) as new:
        new.mkdir()
        for begin in range(0, len(keys), clips_per_tar):
            with tarfile.open(
                new / f"features-{begin // clips_per_tar:06}.tar", "w", format=tarfile.USTAR_FORMAT
            ) as tar:
                for number, key in enumerate(keys[begin : begin + clips_per_tar], begin):
                    if progress is not None:
                        progress(number, len(keys))
                    if (number - begin) % _FETCHED_AT_A_TIME == 0:
                        cache.fetch(keys[number : min(number + _FETCHED_AT_A_TIME, begin + clips_per_tar)])
                    _add_clip(tar, cache, key)
    if progress is not None:
        progress(len(keys), len(keys))
    return WebDatasetSummary(folder, len(keys), -(-len(keys) // clips_per_tar), digest)


def _add_clip(tar: tarfile.TarFile, cache: FeatureCache, key: str) -> None:
    features = cache.read(key)
    about: dict[str, Any] = {
        "source_path": cache.source_path_of(key),
        "source_sha256": cache.source_of(key),
        "duration_seconds": features.duration_seconds,
        "missing": list(features.missing),
        "lost_seconds": dict(features.lost_seconds),
    }
    _add(tar, f"{key}.audio.npy", _npy(features.audio.numpy()))
    _add(tar, f"{key}.json", json.dumps(about, sort_keys=True).encode())
    _add(tar, f"{key}.visual.npy", _npy(features.visual.numpy()))


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # Neither times nor owners: the same features make the same file.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
