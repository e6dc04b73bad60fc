"""From video files to cached features: list what is missing, do that, lose nothing."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from ccln.cache import CacheError, FeatureCache, Features, feature_key, source_digest, specification_digest
from ccln.extractors import ExtractorError, Extractors
from ccln.pipeline.decode.clip import DecodedClip, decode_clip
from ccln.pipeline.decode.container import DecodeError, MissingStreamError
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.workers import device_lock, worked_on

OnMissing = Literal["error", "zeros", "skip"]


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
    skipped: tuple[Failure, ...]
    """Clips without video or without audio, where these are to be left out."""
    failed: tuple[Failure, ...]
    specification: str
    """Digest of the extractor specification."""
    precision: str
    """The arithmetic of the visual network."""
    seconds: float
    """Of the whole run, from the first file's reading to the last entry's writing."""
    decode_seconds: float
    """Of decoding and scaling, added up over the workers."""
    network_seconds: float
    """Of the networks, added up over the workers."""


def extract_features(
    files: Sequence[Path],
    extractors: Extractors,
    cache: FeatureCache,
    *,
    on_missing: OnMissing = "error",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractionSummary:
    """Extract the features of video files into a cache; what is there already is not done again.

    Args:
        files: Video files.
        extractors: The networks to run.
        cache: Where the features go.
        on_missing: What to do with a file that has no video stream, or no audio stream: it fails; or black frames and
            silence stand for what is missing, which the entry records; or it is skipped.
        workers: Clips in work at the same time; as many as there are processors if None.
        progress: Called with clips done and clips in all, before the first clip and after each.

    Raises:
        CacheError: The cache cannot be written.
        ValueError: `workers` is less than 1.
    """
    cache.sweep_partial()
    worker = _Worker(extractors, cache, on_missing)
    outcomes: list[_Outcome] = []
    started = time.perf_counter()
    if progress is not None:
        progress(0, len(files))
    for outcome in worked_on(files, worker, workers):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(files))
    return ExtractionSummary(
        done=sum(outcome.kind == "done" for outcome in outcomes),
        cached=sum(outcome.kind == "cached" for outcome in outcomes),
        skipped=tuple(outcome.failure for outcome in outcomes if outcome.kind == "skipped" and outcome.failure),
        failed=tuple(outcome.failure for outcome in outcomes if outcome.kind == "failed" and outcome.failure),
        specification=worker.specification_digest,
        precision=extractors.preset.visual.precision,
        seconds=time.perf_counter() - started,
        decode_seconds=sum(outcome.decode_seconds for outcome in outcomes),
        network_seconds=sum(outcome.network_seconds for outcome in outcomes),
    )


def frame_request(extractors: Extractors) -> FrameRequest:
    """The frames that the extractors read."""
    visual = extractors.preset.visual
    return FrameRequest(
        height=visual.frame_height,
        width=visual.frame_width,
        frames_per_segment=extractors.preset.frames_per_segment,
        frame_at=extractors.preset.frame_at,
        interpolation=visual.interpolation,
    )


def clip_features(extractors: Extractors, clip: DecodedClip) -> Features:
    """Run both extractors over one clip; nothing outside the clip has any influence.

    Raises:
        ExtractorError: a feature is too large for half precision, or not a number.
    """
    visual, audio = extractors(clip.frames, clip.waveform)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found
        visual = visual.astype(np.float16)
    if not np.isfinite(visual).all() or not np.isfinite(audio).all():
        raise ExtractorError("a feature is infinite or not a number in half precision. Check the weights.")
    return Features(torch.from_numpy(visual), torch.from_numpy(audio), clip.duration_seconds, clip.missing)


class _Outcome(NamedTuple):
    kind: Literal["done", "cached", "skipped", "failed"]
    failure: Failure | None = None
    decode_seconds: float = 0.0
    network_seconds: float = 0.0


class _Worker:
    """Takes one clip after another from file to cache; any number of threads may call it."""

    def __init__(self, extractors: Extractors, store: FeatureCache, on_missing: OnMissing) -> None:
        self.specification_digest = specification_digest(extractors.specification)
        self._extractors = extractors
        self._store = store
        self._on_missing: OnMissing = on_missing
        # Two files of one content are one clip: the second waits, and finds it in the cache.
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._network = device_lock(extractors.device)

    def __call__(self, path: Path) -> _Outcome:
        try:
            source = source_digest(path)
        except CacheError as error:  # the file cannot be read; a cache that cannot be written ends the run
            return _Outcome("failed", Failure(path, str(error)))
        try:
            key = feature_key(source, self.specification_digest)
            with self._locks[key]:
                return _Outcome("cached") if self._store.contains(key) else self._extract(path, source)
        except MissingStreamError as error:
            return _Outcome("skipped" if self._on_missing == "skip" else "failed", Failure(path, str(error)))
        except (DecodeError, ExtractorError) as error:
            return _Outcome("failed", Failure(path, str(error)))

    def _extract(self, path: Path, source: str) -> _Outcome:
        started = time.perf_counter()
        clip = decode_clip(
            path,
            frame_request(self._extractors),
            on_missing="zeros" if self._on_missing == "zeros" else "error",
            decoder=self._extractors.preset.decoder,
        )
        decoded = time.perf_counter()
        with self._network:
            features = clip_features(self._extractors, clip)
        finished = time.perf_counter()
        self._store.write(
            features, source_sha256=source, source_path=path, specification=self._extractors.specification
        )
        return _Outcome("done", None, decoded - started, finished - decoded)
