"""From the rows of a data set to features and labels, ready for training and evaluation."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ccln.cache import FeatureCache, feature_key, source_digest
from ccln.pipeline.annotations import AnnotatedClip, AVEFolder, DatasetError, Split, segment_labels

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledClips(Dataset):
    """Clips of one split that have features; every tensor of features is a view of its memory-mapped file."""

    clips: tuple[AnnotatedClip, ...]
    visual: tuple[Tensor, ...]
    """Of each clip float16 (segment, height, width, channel)."""
    audio: tuple[Tensor, ...]
    """Of each clip float32 (segment, channel)."""
    segment_labels: np.ndarray
    """int64 (clip, segment); background is the number of classes."""
    class_labels: np.ndarray
    """int64 (clip,): the class that the row names."""
    class_count: int
    missing: tuple[AnnotatedClip, ...]
    """Rows of the split without features; they are in none of the other fields."""

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One clip: visual, audio, event (segment,) of 0 and 1, and label, -1 where the clip holds no event."""
        event = self.segment_labels[index] != self.class_count
        label = int(self.class_labels[index]) if event.any() else -1
        return {
            "visual": self.visual[index],
            "audio": self.audio[index],
            "event": torch.from_numpy(event.astype(np.float32)),
            "label": torch.tensor(label),
        }


@dataclass(frozen=True)
class DatasetFeatures:
    """A data set's splits and the specification that all their features share."""

    splits: Mapping[Split, LabelledClips]
    specification: dict[str, Any]
    class_names: tuple[str, ...]


def load_features(dataset: AVEFolder, cache: FeatureCache, specification: str | None = None) -> DatasetFeatures:
    """Find the features of every row of a data set in a cache.

    A row's video is known by its content; where the video itself is absent, by the name of the file it had when its
    features were made.

    Args:
        dataset: Rows and splits.
        cache: Where the features rest.
        specification: First digits of the digest of the extractor specification wanted; needed only where the cache
            holds features of this data set under more than one.

    Raises:
        DatasetError: No specification, or more than one, has features for this data set; or a split has none at all.
        CacheError: An entry of the cache is damaged.
    """
    digests = {row: source_digest(video) for row in dataset.clips if (video := dataset.video_of(row)) is not None}
    specifications = cache.specifications()
    candidates = {
        digest: keys
        for digest in specifications
        if digest.startswith(specification or "") and (keys := _keys(dataset, digests, cache, digest))
    }
    if not candidates:
        wanted = f" with a specification {specification}..." if specification else ""
        raise DatasetError(
            f"{dataset.folder}: the cache {cache.root} has no features of this data set{wanted}. "
            f"Make them first: ccln-extract {dataset.folder} --cache {cache.root}"
        )
    if len(candidates) > 1:
        found = ", ".join(f"{digest[:12]} ({len(keys)} clips)" for digest, keys in sorted(candidates.items()))
        raise DatasetError(
            f"{dataset.folder}: the cache {cache.root} has its features under several specifications: {found}. "
            "Choose one with --specification."
        )
    ((digest, keys),) = candidates.items()
    splits: dict[Split, LabelledClips] = {
        split: _labelled(dataset, split, keys, cache) for split in ("train", "validation", "test")
    }
    for split, clips in splits.items():
        if not clips.clips:
            raise DatasetError(f"{dataset.folder}: not one clip of the {split} split has features in {cache.root}")
        if clips.missing:
            names = ", ".join(clip.video_id for clip in clips.missing[:3])
            log.warning(
                "%d of %d rows of the %s split have no features and are left out (%s, ...): "
                "run ccln-extract %s to see why",
                *(len(clips.missing), len(clips.missing) + len(clips), split, names, dataset.folder),
            )
    return DatasetFeatures(splits, dict(specifications[digest]), dataset.class_names)


def _keys(
    dataset: AVEFolder, digests: Mapping[AnnotatedClip, str], cache: FeatureCache, specification: str
) -> dict[AnnotatedClip, str]:
    """Keys of the entries that exist, by row."""
    keys = {}
    for row in dataset.clips:
        if row in digests:
            key = feature_key(digests[row], specification)
            if cache.contains(key):
                keys[row] = key
            continue
        named = cache.find(specification, row.video_id)
        if len(named) > 1:
            raise DatasetError(
                f"{dataset.folder}: the video of {row.video_id} is absent, and {cache.root} holds features of "
                f"{len(named)} different files of that name. Put the video back, or use a cache of its own."
            )
        if named:
            keys[row] = named[0]
    return keys


def _labelled(
    dataset: AVEFolder, split: Split, keys: Mapping[AnnotatedClip, str], cache: FeatureCache
) -> LabelledClips:
    rows = dataset.clips_of(split)
    present = tuple(row for row in rows if row in keys)
    features = [cache.read(keys[row]) for row in present]
    _check_one_shape(split, Counter((tuple(f.visual.shape), tuple(f.audio.shape)) for f in features))
    return LabelledClips(
        clips=present,
        visual=tuple(entry.visual for entry in features),
        audio=tuple(entry.audio for entry in features),
        segment_labels=segment_labels(present, dataset.class_names),
        class_labels=_class_labels(present, dataset.class_names),
        class_count=len(dataset.class_names),
        missing=tuple(row for row in rows if row not in keys),
    )


def _class_labels(clips: Sequence[AnnotatedClip], class_names: Sequence[str]) -> np.ndarray:
    return np.array([class_names.index(clip.label) for clip in clips], np.int64)


def _check_one_shape(split: Split, shapes: Counter) -> None:
    if len(shapes) > 1:
        raise DatasetError(f"features of the {split} split differ in shape: {dict(shapes)}. Extract them again.")
