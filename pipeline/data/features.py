"""From the rows of a data set to features and labels, ready for training and evaluation."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccln.cache import FeatureCache, feature_key, source_digest
from ccln.pipeline.data.clips import (
    SPLITS,
    AnnotatedClip,
    Dataset,
    DatasetError,
    Split,
    class_labels,
    segment_labels,
    videos_of,
)
from ccln.pipeline.data.published import published_name
from ccln.pipeline.data.report import Digests, report_on, without_leaks

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """Clips of one split that have features; `load_features` gives views of their memory-mapped files."""

    clips: tuple[AnnotatedClip, ...]
    visual: tuple[Tensor, ...]
    """Of each clip (segment, height, width, channel), float16 as in the cache, float32 where averaged to 1 x 1."""
    audio: tuple[Tensor, ...]
    """Of each clip float32 (segment, channel)."""
    segment_labels: np.ndarray
    """int64 (clip, segment); background is the number of classes."""
    class_labels: np.ndarray
    """int64 (clip,): the class that the row names, the number of classes where it names none."""
    class_count: int
    keys: tuple[str, ...]
    """Of each clip the key of its features in the cache: equal where the video is."""
    missing: tuple[AnnotatedClip, ...]
    """Rows of the split without features; they are in none of the other fields."""

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def event(self) -> Tensor:
        """float32 (clip, segment): 1 in event segments."""
        return torch.from_numpy((self.segment_labels != self.class_count).astype(np.float32))

    @property
    def labels(self) -> Tensor:
        """int64 (clip,): class of each clip's event, -1 where no segment is event."""
        classes = torch.from_numpy(self.class_labels)
        return torch.where(self.event.any(1), classes, -1)


@dataclass(frozen=True)
class DatasetFeatures:
    """A data set's splits and the specification that all their features share."""

    splits: Mapping[Split, LabelledClips]
    specification: dict[str, Any]
    class_names: tuple[str, ...]
    dropped: Mapping[Split, int]
    """How many rows were left out because a later split has their video; all zero where that was not asked for."""


def load_features(
    dataset: Dataset, cache: FeatureCache, specification: str | None = None, *, drop_leaks: bool = False
) -> DatasetFeatures:
    """Find the features of every row of a data set in a cache.

    A row's video is known by its content. Where that has no features, those are taken that were imported for this row
    from the published AVE files; failing these, and only where the video itself is absent, those of the file that had
    its name when they were made. What is remarkable about the data set and about what was found goes to the log.

    Args:
        dataset: Rows and splits.
        cache: Where the features rest.
        specification: First digits of the digest of the extractor specification wanted; needed only where the cache
            holds features of this data set under more than one.
        drop_leaks: Leave out the training rows whose video validation or test has, and the validation rows whose video
            test has, be it by id or by content.

    Raises:
        DatasetError: A split has no rows; no specification, or more than one, has features for this data set; a split
            has none at all; or several files could be meant by a row.
        CacheError: An entry of the cache is damaged, or a video cannot be read.
    """
    digests = _digests(videos_of(dataset))
    dataset, dropped = _looked_over(dataset, digests, drop_leaks)
    specifications = cache.specifications()
    candidates = {
        digest: keys
        for digest in specifications
        if digest.startswith(specification or "") and (keys := _keys(dataset, digests, cache, digest))
    }
    if not candidates:
        wanted = f" with a specification {specification}..." if specification else ""
        raise DatasetError(
            f"{dataset.source}: the cache {cache.root} has no features of this data set{wanted}. "
            f"Make them first: ccln-extract {dataset.source} --cache {cache.root}"
        )
    if len(candidates) > 1:
        found = ", ".join(f"{digest[:12]} ({len(keys)} clips)" for digest, keys in sorted(candidates.items()))
        raise DatasetError(
            f"{dataset.source}: the cache {cache.root} has its features under several specifications: {found}. "
            "Choose one with --specification."
        )
    ((digest, keys),) = candidates.items()
    splits: dict[Split, LabelledClips] = {split: _labelled(dataset, split, keys, cache) for split in SPLITS}
    return DatasetFeatures(splits, dict(specifications[digest]), dataset.class_names, dropped)


def _digests(videos: Iterable[Path]) -> Digests:
    videos = list(videos)
    with ThreadPoolExecutor() as threads:  # hashing lets other threads run
        return dict(zip(videos, threads.map(source_digest, videos), strict=True))


def _looked_over(dataset: Dataset, digests: Digests, drop_leaks: bool) -> tuple[Dataset, dict[Split, int]]:
    """The data set to use, and how many rows were dropped for that by split; with a report to the log."""
    whole = dataset
    if drop_leaks:
        dataset = without_leaks(dataset, digests)
    dropped: dict[Split, int] = {split: len(whole.clips_of(split)) - len(dataset.clips_of(split)) for split in SPLITS}
    report = report_on(dataset, digests)
    log.info("%s: %s", dataset.source, report.summary())
    for warning in report.warnings():
        log.warning("%s: %s", dataset.source, warning)
    for split, count in dropped.items():
        if count:
            log.info(
                "%s: %d rows of the %s split dropped: a later split has their videos", dataset.source, count, split
            )
    for split, count in report.clips.items():
        if not count:
            raise DatasetError(
                f"{dataset.source}: the {split} split has no clip. Put some into it: in AVE's layout in its file, "
                "in a CSV with a column split"
            )
    return dataset, dropped


def _keys(dataset: Dataset, digests: Digests, cache: FeatureCache, specification: str) -> dict[AnnotatedClip, str]:
    """Keys of the entries that exist, by row."""
    files_of: defaultdict[str, set[Path | None]] = defaultdict(set)
    for row in dataset.clips:
        files_of[row.video_id].add(row.path)

    def named(row: AnnotatedClip, name: str) -> str | None:
        keys = cache.find(specification, name)
        if len(keys) > 1:
            raise DatasetError(
                f"{dataset.source}: the video of {row.video_id} is absent or has no features of its own, and "
                f"{cache.root} holds features of {len(keys)} different files named {name}. Put the video back and "
                "extract its features, or use a cache of its own."
            )
        return keys[0] if keys else None

    def key_of(row: AnnotatedClip) -> str | None:
        digest = None if row.path is None else digests.get(row.path)
        if digest is not None and cache.contains(key := feature_key(digest, specification)):
            return key
        if row.row is not None and (key := named(row, published_name(row.row, row.video_id))) is not None:
            return key
        # A name says nothing where the video is there, or where the data set itself has two files of that name.
        return named(row, row.video_id) if digest is None and len(files_of[row.video_id]) == 1 else None

    return {row: key for row in dataset.clips if (key := key_of(row)) is not None}


def _labelled(dataset: Dataset, split: Split, keys: Mapping[AnnotatedClip, str], cache: FeatureCache) -> LabelledClips:
    """A split's clips that have features; what is lacking goes to the log."""
    rows = dataset.clips_of(split)
    present = tuple(row for row in rows if row in keys)
    missing = tuple(row for row in rows if row not in keys)
    if not present:
        raise DatasetError(f"{dataset.source}: not one clip of the {split} split has features in {cache.root}")
    if missing:
        log.warning(
            "%d of %d rows of the %s split have no features and are left out (%s, ...): run ccln-extract %s to see why",
            *(len(missing), len(rows), split, ", ".join(row.video_id for row in missing[:3]), dataset.source),
        )
    features = [cache.read(keys[row]) for row in present]
    _check_one_shape(split, Counter((tuple(f.visual.shape), tuple(f.audio.shape)) for f in features))
    lacking = Counter(stream for entry in features for stream in entry.missing)
    for stream, count in sorted(lacking.items()):
        log.info("%d of %d clips of the %s split have no %s: zeros stand for it", count, len(present), split, stream)
    return LabelledClips(
        clips=present,
        visual=tuple(entry.visual for entry in features),
        audio=tuple(entry.audio for entry in features),
        segment_labels=segment_labels(present, dataset.class_names),
        class_labels=class_labels(present, dataset.class_names),
        class_count=len(dataset.class_names),
        keys=tuple(keys[row] for row in present),
        missing=missing,
    )


def _check_one_shape(split: Split, shapes: Counter) -> None:
    if len(shapes) > 1:
        raise DatasetError(f"features of the {split} split differ in shape: {dict(shapes)}. Extract them again.")
