"""From video files to cached features: list what is missing, do that, lose nothing."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from ccln.cache import CacheError, FeatureCache, Features, feature_key, source_digest, specification_digest
from ccln.extractors import PRESETS, ExtractorError, Extractors, load_extractors, preset_with
from ccln.pipeline.annotations import VIDEO_ENDINGS
from ccln.pipeline.decoding import DecodedClip, DecodeError, FrameRequest, decode_clip

Progress = Callable[[int, int], None]
"""Called with clips done and clips in all."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Failure:
    """A file that gave no features."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ExtractionSummary:
    """What one run did."""

    done: int
    """Clips whose features were made."""
    cached: int
    """Clips whose features were there already."""
    failed: tuple[Failure, ...]
    specification: str
    """Digest of the extractor specification."""
    seconds: float
    """Of the whole run, from the first file's decoding to the last entry's writing."""
    decode_seconds: float
    """Of decoding and scaling, added up over the decoding threads."""
    network_seconds: float
    """In which a network ran."""


def extract(
    videos: Sequence[Path],
    *,
    cache: Path,
    preset: str = "light",
    visual: str | None = None,
    audio: str | None = None,
    visual_weights: Path | None = None,
    audio_weights: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> ExtractionSummary:
    """Extract the features of videos into a cache; what is there already is not done again.

    Args:
        videos: video files, and folders that are searched through and through (an AVE folder is one).
        cache: folder of the cache; made if it does not exist.
        preset: "light" or "ave".
        visual: another visual extractor than the preset's, "vgg19" or "timm:NAME", say.
        audio: another audio extractor than the preset's.
        visual_weights: local file with the visual network's weights.
        audio_weights: local file with the audio network's weights.
        device: "auto", "cpu", "cuda", ...
        workers: decoding threads; as many as there are processors if None.
        progress: called after each clip that was not cached.

    Raises:
        ExtractorError, WeightsError: the extractors cannot be had.
        FileNotFoundError: no path names, or leads to, a video.
        CacheError: the cache cannot be written.
    """
    files = find_videos(videos)
    extractors = load_extractors(
        preset_with(PRESETS[preset], visual=visual, audio=audio),
        device=device,
        visual_weights=visual_weights,
        audio_weights=audio_weights,
    )
    store = FeatureCache(cache)
    store.sweep_partial()
    digest = specification_digest(extractors.specification)
    request = frame_request(extractors)
    failed: list[Failure] = []
    todo: dict[str, tuple[Path, str]] = {}  # by key: two files of one content are one clip
    cached = 0
    started = time.perf_counter()
    decode_seconds = network_seconds = 0.0
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as threads:
        for path, source in zip(files, threads.map(_attempt(source_digest), files), strict=True):
            if isinstance(source, Exception):
                failed.append(Failure(path, str(source)))
            elif store.contains(key := feature_key(source, digest)) or key in todo:
                cached += 1
            else:
                todo[key] = path, source
        done = 0
        decoded = _ahead(threads, lambda item: _timed_decode(item[0], request), todo.values())
        for number, ((path, source), clip) in enumerate(decoded, start=1):
            try:
                clip, seconds = clip.result()
                decode_seconds += seconds
                before = time.perf_counter()
                features = clip_features(extractors, clip)
                network_seconds += time.perf_counter() - before
                store.write(features, source_sha256=source, source_path=path, specification=extractors.specification)
                done += 1
            except (DecodeError, ExtractorError) as error:
                failed.append(Failure(path, str(error)))
            if progress is not None:
                progress(number, len(todo))
    return ExtractionSummary(
        done, cached, tuple(failed), digest, time.perf_counter() - started, decode_seconds, network_seconds
    )


def find_videos(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the video files in the folders named and in theirs, each once, folders in sorted order.

    Raises:
        FileNotFoundError: a path does not exist, or not one video is there.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (file for file in sorted(path.rglob("*")) if file.suffix.lower() in VIDEO_ENDINGS)
            found.update((file, None) for file in inside if file.is_file())
        elif path.exists():
            found[path] = None
        else:
            raise FileNotFoundError(f"{path}: no such file or folder. Check the path.")
    if not found:
        names = ", ".join(map(str, paths))
        raise FileNotFoundError(f"{names}: no video in it (no file that ends in {', '.join(VIDEO_ENDINGS)}).")
    return list(found)


def frame_request(extractors: Extractors) -> FrameRequest:
    """The frames that the extractors read."""
    visual = extractors.preset.visual
    return FrameRequest(
        height=visual.frame_height,
        width=visual.frame_width,
        frames_per_segment=extractors.preset.frames_per_segment,
        interpolation=visual.interpolation,
    )


def clip_features(extractors: Extractors, clip: DecodedClip) -> Features:
    """Run both extractors over one clip; nothing outside the clip has any influence.

    Raises:
        ExtractorError: a feature is too large for half precision, or not a number.
    """
    visual, audio = map(torch.from_numpy, extractors(clip.frames, clip.waveform))
    visual = visual.to(torch.float16)
    if not torch.isfinite(visual).all() or not torch.isfinite(audio).all():
        raise ExtractorError("a feature is infinite or not a number in half precision. Check the weights.")
    return Features(visual, audio, clip.duration_seconds)


def _timed_decode(path: Path, request: FrameRequest) -> tuple[DecodedClip, float]:
    started = time.perf_counter()
    return decode_clip(path, request), time.perf_counter() - started


def _attempt(function: Callable[[Path], _Result]) -> Callable[[Path], _Result | CacheError]:
    def attempt(path: Path) -> _Result | CacheError:
        try:
            return function(path)
        except CacheError as error:
            return error

    return attempt


def _ahead(
    threads: ThreadPoolExecutor, work: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[tuple[_Item, "Future[_Result]"]]:
    """Work on a few items ahead of the one that is taken, so that memory does not grow with their number."""
    waiting: deque[tuple[_Item, Future[_Result]]] = deque()
    for item in items:
        waiting.append((item, threads.submit(work, item)))
        if len(waiting) > threads._max_workers + 1:
            yield waiting.popleft()
    yield from waiting
