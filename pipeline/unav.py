"""UnAV-100's published features: a folder with three files a video, taken into a cache, and a data set of its windows.

ID_rgb.npy and ID_flow.npy hold I3D's vectors and ID_vggish.npy VGGish's, each a row every 8 frames over 24 frames at 25
frames a second (`libs/core/config.py` of ttgeng233/UnAV). Its code puts the first two side by side and cuts all to the
shortest; so does this. That a second has the mean of the rows whose centres lie in it is our choice.
"""

import hashlib
import re
import tokenize
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccln.cache import CacheError, FeatureCache, Features, clip_digest, feature_key, specification_digest
from ccln.cache.hdf5 import errors_naming
from ccln.cache.keys import canonical_json
from ccln.cache.store import tracked
from ccln.pipeline.data.clips import DatasetError, clip_name
from ccln.pipeline.data.csv_file import write_csv
from ccln.pipeline.data.imports.annotations import AnnotatedVideo
from ccln.pipeline.data.imports.published import read_unav
from ccln.pipeline.exchange import ImportSummary, Progress
from ccln.pipeline.segments import CLIP_SECONDS

_STRIDE_FRAMES, _WINDOW_FRAMES, _FRAMES_PER_SECOND = 8, 24, 25
_CHANNELS = {"rgb": 1024, "flow": 1024, "vggish": 128}
_SPECIFICATION: dict[str, Any] = {
    "imported": "published UnAV-100 features",
    "visual": {
        "shape": [CLIP_SECONDS, 1, 1, _CHANNELS["rgb"] + _CHANNELS["flow"]],
        "made_with": "as published: I3D of RGB, then of optical flow, 0.96 s every 0.32 s",
    },
    "audio": {"shape": [CLIP_SECONDS, _CHANNELS["vggish"]], "made_with": "as published: VGGish, 0.96 s every 0.32 s"},
    "second": "mean of the rows whose centres lie in it",
}
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_MAX_BYTES = 1 << 26  # of a file; a minute has less than a megabyte
_AGAIN = "download it again, or take the files of this video away to leave it out"


def import_features(
    annotations: Path,
    folder: Path,
    cache: FeatureCache,
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ImportSummary:
    """Write the published features to a cache, and the data set; `ccln.import_unav` describes arguments and errors."""
    if out.exists() and not overwrite:
        raise DatasetError(f"{out}: is there already. Name another place, or replace it: --overwrite")
    videos = {video.names[0]: video for video in read_unav(annotations)}
    for name in videos:
        if not _ID.fullmatch(name):
            raise DatasetError(f"{annotations}: {name[:80]!r} is no id of a video: letters, digits, '-' and '_'")
    digest, done, cached = specification_digest(_SPECIFICATION), 0, 0
    there: set[str] = set()
    with suppress(CacheError):  # no cache yet
        there = {name for name in videos if cache.find(digest, name)}
    rows: list[tuple[object, ...]] = []
    lacking: list[str] = []
    for name, video in tracked(list(videos.items()), progress):
        files = {kind: folder / f"{name}_{kind}.npy" for kind in _CHANNELS}
        if absent := [file.name for file in files.values() if not file.exists()]:
            lacking.append(absent[0])
            continue
        content, visual, audio = _seconds(files)
        if name in there and not cache.contains(feature_key(content, digest)):
            raise CacheError(f"{cache}: holds other features of {name}. Import into a cache of its own")
        for start, features in _windows(visual, audio):
            source = clip_digest(content, start)
            if cache.whole(feature_key(source, digest)) is not None:
                cached += 1
            else:
                path = clip_name(name, start)
                cache.write(features, source_sha256=source, source_path=path, specification=_SPECIFICATION)
                done += 1
        rows += _rows(name, video, len(visual))
    if not rows:
        raise DatasetError(
            f"{folder}: no video of {annotations} has its features there, ID_rgb.npy, ID_flow.npy and ID_vggish.npy. "
            "Name the folder that holds these files, as published av_features"
        )
    write_csv(out, [("path", "start", "end", "label", "split"), *rows])
    shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
    notes = [f"videos that lack a file and are left out: {len(lacking)} ({shown})"] if lacking else []
    cache.flush()
    return ImportSummary(cache.root, done, cached, 0, digest, (), tuple(notes), out)


def _seconds(files: dict[str, Path]) -> tuple[str, np.ndarray, np.ndarray]:
    """A video's features by second.

    Returns:
        What stands for its content, and visual (second, channel) and audio (second, channel) as far as all files reach.
    """
    arrays = {kind: _read(file, _CHANNELS[kind]) for kind, file in files.items()}
    described = [[file.name, arrays[kind].dtype.str, list(arrays[kind].shape)] for kind, file in files.items()]
    digest = hashlib.sha256(canonical_json(described).encode())
    for array in arrays.values():
        digest.update(array.tobytes())
    count = min(map(len, arrays.values()))
    centre_frames = np.arange(count) * _STRIDE_FRAMES + _WINDOW_FRAMES // 2
    _, firsts, counts = np.unique(centre_frames // _FRAMES_PER_SECOND, return_index=True, return_counts=True)
    rgb, flow, vggish = (
        np.add.reduceat(arrays[kind][:count], firsts, axis=0, dtype=np.float64) / counts[:, np.newaxis]
        for kind in _CHANNELS
    )
    return digest.hexdigest(), np.concatenate([rgb, flow], axis=1), vggish


def _read(file: Path, channels: int) -> np.ndarray:
    """The rows of a file of unknown origin, float (row, channel), memory-mapped: a forged size takes no memory."""
    with errors_naming(file, _AGAIN):
        if not file.is_file():  # opening a pipe would wait for ever
            raise CacheError("is no file")
        if file.stat().st_size > _MAX_BYTES:
            raise CacheError(f"has {file.stat().st_size} bytes, features of a video have {_MAX_BYTES} at most")
        try:
            array = np.lib.format.open_memmap(file, mode="r")  # this unpickles nothing
        except (ValueError, SyntaxError, tokenize.TokenError, MemoryError) as error:  # a forged header raises any
            reason = " ".join(str(error).split())[:150].rstrip(".")
            raise CacheError(f"is no .npy file of plain numbers ({reason})") from error
        floats = array.dtype.kind == "f" and array.dtype.itemsize <= 8
        if not floats or array.ndim != 2 or not len(array) or array.shape[1] != channels:
            raise CacheError(f"holds {array.dtype} {array.shape}, expected floats (row, {channels})")
        if not (np.abs(array) <= np.finfo(np.float16).max).all():  # the cache's visual features are float16
            raise CacheError(f"holds a value that is no number up to {np.finfo(np.float16).max:g}")
        return array


def _windows(visual: np.ndarray, audio: np.ndarray) -> Iterator[tuple[int, Features]]:
    """The features of each window by its start, filled up with zeros."""
    for start in range(0, len(visual), CLIP_SECONDS):
        covered = min(len(visual) - start, CLIP_SECONDS)
        both = []
        for array, dtype in ((visual, torch.float16), (audio, torch.float32)):
            window = torch.zeros(CLIP_SECONDS, array.shape[1], dtype=dtype)
            window[:covered] = torch.from_numpy(array[start : start + covered])
            both.append(window)
        yield start, Features(both[0][:, None, None, :], both[1], float(covered))


def _rows(name: str, video: AnnotatedVideo, seconds: int) -> Iterator[tuple[object, ...]]:
    """The rows of a video, annotated as far as its features reach.

    Its path has no ending, so that it is no file's even where the videos lie: features of a video that is there are
    looked up by its content, and these by their name.
    """
    for label, start, end in video.events:
        if start < seconds:
            yield name, float(start), float(min(end, seconds)), label, video.split
    yield name, 0, seconds, "", video.split
