"""What an export will hold: found and checked before a byte of it is written."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ccln.cache import FeatureCache, feature_key, source_digest, specification_digest
from ccln.pipeline.datasets.annotations import SPLITS, VIDEO_ENDINGS, AnnotatedClip, Dataset, DatasetError, Split
from ccln.pipeline.datasets.ave_folder import HEADER, LAYOUT
from ccln.pipeline.datasets.files import read_annotation_file
from ccln.pipeline.exchange.labels import (
    BACKGROUND_LABELS,
    EVENT_LABELS,
    MATCH_ORDERS,
    background_labels,
    label_arrays,
    match_order_arrays,
    order_arrays,
    read_orders,
)
from ccln.pipeline.exchange.names import published_background_name
from ccln.pipeline.features import load_features
from ccln.pipeline.segments import SEGMENT_COUNT

ANNOTATIONS, BACKGROUND_SET = "Annotations.txt", "backgroundSet.txt"

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
    listing = dataset.source / BACKGROUND_SET
    if dataset.source.is_dir() and listing.exists():
        ids = _background_ids(listing)
        # Ids are written by others: they are looked up in a listing, never made into paths.
        videos = {path.stem: path for path in (dataset.source / "AVE").glob("*") if path.suffix in VIDEO_ENDINGS}
        found = [_background_key(videos.get(name), cache, digest, index, name) for index, name in enumerate(ids)]
        lacking = [video_id for video_id, key in zip(ids, found, strict=True) if key is None]
        if lacking:
            return [], [
                f"no background-only clips: {len(lacking)} of the {len(ids)} in {listing} have no features "
                f"({lacking[0]!r}, ...)"
            ]
        keys = [key for key in found if key is not None]
    else:  # imported ones are in no list
        keys = []
        for index in count():
            named = cache.find(digest, published_background_name(index))
            if not named:
                break
            keys.append(named[0])
    return [ClipFeatures(entry.visual, entry.audio) for entry in map(cache.read, keys)], []


def _background_ids(listing: Path) -> list[str]:
    """Video ids of a file in the format of the split files."""
    rows = [line.split("&") for line in read_annotation_file(listing, LAYOUT).decode(errors="replace").splitlines()]
    return [row[1] for row in rows if len(row) == 5 and row[4] != "EndTime"]


def _background_key(video: Path | None, cache: FeatureCache, digest: str, index: int, video_id: str) -> str | None:
    if video is not None and cache.contains(key := feature_key(source_digest(video), digest)):
        return key
    named = cache.find(digest, published_background_name(index))
    if not named and video is None:  # a name says nothing where the video is there
        named = cache.find(digest, video_id)
    return named[0] if len(named) == 1 else None


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
