"""From video files to cached features: list what is missing, do that, lose nothing."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from ccln.cache import CacheError, FeatureCache, Features, feature_key, source_digest, specification_digest
from ccln.extractors import ExtractorError, Extractors, load_extractors, preset_named, preset_with
from ccln.pipeline import defaults
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
    """Of decoding and scaling, added up over the workers."""
    network_seconds: float
    """Of the networks, added up over the workers."""


def extract(
    videos: Iterable[Path | str],
    *,
    cache: Path | str = defaults.CACHE,
    preset: str = "light",
    visual: str | None = None,
    audio: str | None = None,
    visual_weights: Path | str | None = None,
    audio_weights: Path | str | None = None,
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
        workers: clips in work at the same time; as many as there are processors if None.
        progress: called before the first clip that was not cached, and after each.

    Raises:
        ExtractorError, WeightsError: the extractors cannot be had.
        FileNotFoundError: no path names, or leads to, a video.
        CacheError: the cache cannot be written.
    """
    files = find_videos(map(Path, videos))
    extractors = load_extractors(
        preset_with(preset_named(preset), visual=visual, audio=audio),
        device=device,
        visual_weights=visual_weights,
        audio_weights=audio_weights,
    )
    store = FeatureCache(cache)
    store.sweep_partial()
    digest = specification_digest(extractors.specification)
    failed: list[Failure] = []
    todo: dict[str, tuple[Path, str]] = {}  # by key: two files of one content are one clip
    cached = done = 0
    decode_seconds = network_seconds = 0.0
    started = time.perf_counter()
    workers = workers or os.cpu_count() or 1
    # Each worker takes a clip from file to cache on one core. Networks that shared the cores among their own threads
    # would wait for each other, and for the decoders, at every layer: measured, half the speed.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as threads:
        for path, source in zip(files, threads.map(_digest, files), strict=True):
            if isinstance(source, CacheError):
                failed.append(Failure(path, str(source)))
            elif store.contains(key := feature_key(source, digest)) or key in todo:
                cached += 1
            else:
                todo[key] = path, source
        work = partial(_extract_clip, extractors, store)
        if progress is not None and todo:
            progress(0, len(todo))
        for number, outcome in enumerate(_in_order(threads, 2 * workers, work, todo.values()), start=1):
            if isinstance(outcome, Failure):
                failed.append(outcome)
            else:
                done += 1
                decode_seconds += outcome.decode
                network_seconds += outcome.network
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
    paths = list(paths)
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


class _Seconds(NamedTuple):
    decode: float
    network: float


def _extract_clip(extractors: Extractors, store: FeatureCache, item: tuple[Path, str]) -> _Seconds | Failure:
    path, source = item
    try:
        started = time.perf_counter()
        clip = decode_clip(path, frame_request(extractors))
        decoded = time.perf_counter()
        features = clip_features(extractors, clip)
        finished = time.perf_counter()
    except (DecodeError, ExtractorError) as error:
        return Failure(path, str(error))
    store.write(features, source_sha256=source, source_path=path, specification=extractors.specification)
    return _Seconds(decoded - started, finished - decoded)


def _digest(path: Path) -> str | CacheError:
    try:
        return source_digest(path)
    except CacheError as error:
        return error


def _in_order(
    threads: ThreadPoolExecutor, ahead: int, work: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Results in the order of the items, only a few of which are handed out ahead, however many there are."""
    waiting: deque[Future[_Result]] = deque()
    for item in items:
        waiting.append(threads.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
