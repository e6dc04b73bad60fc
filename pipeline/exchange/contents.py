"""What an export will hold: found and checked before a byte of it is written."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ccln.cache import FeatureCache, specification_digest
from ccln.pipeline.data.ave import HEADER, LAYOUT
from ccln.pipeline.data.background import BACKGROUND_SET, background_features
from ccln.pipeline.data.clips import SPLITS, AnnotatedClip, Dataset, DatasetError, Split
from ccln.pipeline.data.features import load_features
from ccln.pipeline.data.files import read_annotation_file
from ccln.pipeline.data.published import (
    BACKGROUND_LABELS,
    EVENT_LABELS,
    MATCH_ORDERS,
    background_labels,
    label_arrays,
    match_order_arrays,
    order_arrays,
    read_orders,
)
from ccln.pipeline.segments import SEGMENT_COUNT

ANNOTATIONS = "Annotations.txt"

# Built into the peers' code.
_PEERS_CLASSES, _PEERS_MAP, _PEERS_VISUAL_CHANNELS, _PEERS_AUDIO_CHANNELS = 28, (7, 7), 512, 128


class ClipFeatures(NamedTuple):
    """One clip's, memory-mapped."""

    visual: Tensor
    """float16 (segment, height, width, channel)."""
    audio: Tensor
    """float32 (segment, channel)."""


@dataclass(frozen=True, eq=False)
class ExportContents:
    """All that an export will hold."""

    clips: Sequence[ClipFeatures]
    """In the order of the annotations."""
    background: Sequence[ClipFeatures]
    """Background-only clips, in the order of their list."""
    visual_shape: tuple[int, int, int, int]
    """(segment, height, width, channel) of every clip as written."""
    audio_shape: tuple[int, int]
    """(segment, channel) of every clip as written."""
    specification: Mapping[str, Any]
    """Of the features."""
    arrays: Mapping[str, np.ndarray]
    """Labels and splits by name of their file."""
    notes: tuple[str, ...]
    """What will be lacking, or is not the data set's own."""


def gather(dataset: Dataset, cache: FeatureCache, specification: str | None, *, pad: bool) -> ExportContents:
    """Find the features of every row, and make the labels and the splits.

    Args:
        dataset: Rows and splits.
        cache: Where the features rest.
        specification: First digits of the specification wanted, where the cache holds several for this data.
        pad: Whether shapes are those that are built into the peers' code.

    Raises:
        DatasetError: A row has no features or no place, or `pad` cannot make it fit.
        CacheError: The cache is damaged.
    """
    place_of = _places(dataset)
    loaded = load_features(dataset, cache, specification)
    features, missing = {}, []
    for split in loaded.splits.values():
        missing += split.missing
        for clip, visual, audio in zip(split.clips, split.visual, split.audio, strict=True):
            features[place_of[clip.row]] = ClipFeatures(visual, audio)
    if missing:
        shown = ", ".join(f"{clip.row} ({clip.video_id})" for clip in missing[:5])
        more = ", ..." if len(missing) > 5 else ""
        raise DatasetError(
            f"{dataset.source}: {len(missing)} of {len(place_of)} rows have no features: {shown}{more}. The published "
            f"layout has a place for every row: make them (ccln-extract {dataset.source} --cache {cache.root}), or "
            "take the rows out of the data set"
        )
    clips = [features[place] for place in range(len(place_of))]
    background, notes = _background(dataset, cache, specification_digest(loaded.specification))
    shapes = Counter((tuple(clip.visual.shape), tuple(clip.audio.shape)) for clip in [*clips, *background])
    if len(shapes) > 1:
        raise DatasetError(f"{dataset.source}: features differ in shape: {dict(shapes)}. Extract them again")
    ((visual_shape, audio_shape),) = shapes
    columns = len(dataset.class_names) + 1
    if pad:
        visual_shape, audio_shape, columns = _peers_shapes(dataset, visual_shape, audio_shape)
    arrays, more_notes = _arrays(dataset, place_of, columns, len(background))
    return ExportContents(
        clips, background, visual_shape, audio_shape, loaded.specification, arrays, (*notes, *more_notes)
    )


def annotated_rows(folder: Path) -> int:
    """How many rows an AVE folder's Annotations.txt has, without header and blank lines.

    Raises:
        DatasetError: The file is missing, too large or unreadable.
    """
    data = read_annotation_file(folder / ANNOTATIONS, LAYOUT)
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n") if line.strip()]
    return len(lines) - (lines[:1] == [HEADER.encode()])


def _places(dataset: Dataset) -> dict[int | None, int]:
    """Each row's place in the files: in an AVE folder the row itself, in a CSV, which may have more rows, its rank."""
    unlisted = [clip.video_id for clip in dataset.clips if clip.row is None]
    if unlisted:
        raise DatasetError(
            f"{dataset.source}: {len(unlisted)} rows of the split files are not in {ANNOTATIONS} ({unlisted[0]}, ...), "
            "so they have no place in the published layout. Put them there"
        )
    rows = sorted({clip.row for clip in dataset.clips if clip.row is not None})
    if dataset.source.is_dir() and len(rows) != (listed := annotated_rows(dataset.source)):
        first = min(set(range(listed)) - set(rows))
        raise DatasetError(
            f"{dataset.source}: {listed - len(rows)} rows of {ANNOTATIONS} are in no split (row {first}, ...). "
            "Put them into one, or take them out"
        )
    return {row: place for place, row in enumerate(rows)}


def _background(dataset: Dataset, cache: FeatureCache, digest: str) -> tuple[list[ClipFeatures], list[str]]:
    """Features of the background-only clips, all or none, and why none."""
    present, lacking = background_features(dataset, cache, digest)
    if lacking:
        return [], [
            f"no background-only clips: {len(lacking)} of the {len(lacking) + len(present)} in "
            f"{dataset.source / BACKGROUND_SET} have no features ({lacking[0]!r}, ...)"
        ]
    return [ClipFeatures(entry.visual, entry.audio) for entry in present], []


def _peers_shapes(
    dataset: Dataset, visual: tuple[int, ...], audio: tuple[int, ...]
) -> tuple[tuple[int, int, int, int], tuple[int, int], int]:
    segments, height, width, channels = visual
    for fits, found, limit in (
        (
            len(dataset.class_names) <= _PEERS_CLASSES,
            f"{len(dataset.class_names)} classes",
            f"{_PEERS_CLASSES} at most",
        ),
        (segments == SEGMENT_COUNT, f"{segments} segments a clip", str(SEGMENT_COUNT)),
        ((height, width) == _PEERS_MAP, f"visual maps of {height} x {width}", "7 x 7"),
        (channels <= _PEERS_VISUAL_CHANNELS, f"{channels} visual channels", f"{_PEERS_VISUAL_CHANNELS} at most"),
        (audio[1] <= _PEERS_AUDIO_CHANNELS, f"{audio[1]} audio channels", f"{_PEERS_AUDIO_CHANNELS} at most"),
    ):
        if not fits:
            raise DatasetError(
                f"{dataset.source} has {found}; what is built into the peers' code is {limit}, and zeros cannot help "
                "that. Export without pad, and change their code"
            )
    return (segments, height, width, _PEERS_VISUAL_CHANNELS), (segments, _PEERS_AUDIO_CHANNELS), _PEERS_CLASSES + 1


def _arrays(
    dataset: Dataset, place_of: Mapping[int | None, int], columns: int, background: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    clip_at: dict[int, AnnotatedClip] = {place_of[clip.row]: clip for clip in dataset.clips}
    arrays = label_arrays([clip_at[place] for place in range(len(clip_at))], dataset.class_names, columns)
    splits: dict[Split, list[int]] = {
        split: [place_of[clip.row] for clip in dataset.clips_of(split)] for split in SPLITS
    }
    own = read_orders(dataset.source, MATCH_ORDERS, len(clip_at)) if dataset.source.is_dir() else {}
    whole = len(own) == len(MATCH_ORDERS)
    made = own if whole else match_order_arrays(splits, arrays[EVENT_LABELS])
    arrays |= order_arrays(splits) | made
    if background:
        arrays[BACKGROUND_LABELS] = background_labels(background, columns)
    if whole:
        return arrays, []
    return arrays, [
        f"{', '.join(made)}: this data set has none, so they are its own splits, without the validation and test rows "
        "whose event fills the clip"
    ]
