"""The HDF5 files in which AVE publishes features and labels, and which the peers' code reads: import and export."""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ccln.cache import CacheError, FeatureCache, feature_key, specification_digest
from ccln.cache.hdf5 import ARRAY_KEY, ORDER_KEY, PublishedFeatures, create_array, open_features, write_array
from ccln.files import whole
from ccln.pipeline.data.ave import ANNOTATIONS, BACKGROUND_SET, HEADER, LAYOUT, SPLIT_FILES, read_ave_folder
from ccln.pipeline.data.clips import SPLITS, AnnotatedClip, Dataset, DatasetError, Split, read_annotation_file
from ccln.pipeline.data.features import background_features, load_features
from ccln.pipeline.data.published import (
    BACKGROUND_LABELS,
    EVENT_LABELS,
    MATCH_ORDERS,
    background_labels,
    compare_background_labels,
    compare_labels,
    compare_orders,
    label_arrays,
    match_order_arrays,
    order_arrays,
    published_background_name,
    published_name,
    read_orders,
)
from ccln.pipeline.segments import SEGMENT_COUNT

Progress = Callable[[int, int], None]
"""Called with the number of clips done and of all clips."""

VISUAL, AUDIO, VISUAL_VECTOR = "visual_feature.h5", "audio_feature.h5", "visual_feature_vec.h5"
VISUAL_BACKGROUND, AUDIO_BACKGROUND = "visual_feature_noisy.h5", "audio_feature_noisy.h5"

_WHERE = "the README of github.com/YapengTian/AVE-ECCV18 links the published files"
_AS_PUBLISHED = {
    (SEGMENT_COUNT, 7, 7, 512): "as published: VGG-19 block5_pool, Keras weights, mean of 16 frames a second",
    (SEGMENT_COUNT, 128): "as published: VGGish after its last ReLU, first 0.96 s of each second",
}
# Constants in the peers' code.
_PEERS_CLASSES, _PEERS_MAP, _PEERS_VISUAL_CHANNELS, _PEERS_AUDIO_CHANNELS = 28, (7, 7), 512, 128

_ClipFeatures = tuple[Tensor, Tensor]
"""Memory-mapped visual float16 (segment, height, width, channel) and audio float32 (segment, channel) of one clip."""


@dataclass(frozen=True)
class ImportSummary:
    """What one import did."""

    cache: Path
    """Folder of the cache."""
    done: int
    """Clips that were written to the cache, background-only clips included."""
    cached: int
    """Clips that were there already."""
    background: int
    """How many of both are background-only clips."""
    specification: str
    """Digest of the specification under which the features are kept."""
    compared: tuple[str, ...]
    """Files that agree with the annotations."""
    notes: tuple[str, ...]
    """What was not imported, and why."""
    data: Path
    """The data set whose features these are."""


@dataclass(frozen=True)
class ExportSummary:
    """What one export wrote."""

    folder: Path
    """Where the files are."""
    clips: int
    """Rows of the feature files."""
    background: int
    """Background-only clips, in files of their own."""
    specification: str
    """Digest of the specification whose features were exported."""
    notes: tuple[str, ...]
    """What is lacking, or is not the data set's own, and why."""


class _Contents(NamedTuple):
    """All that an export will hold, checked before a byte of it is written."""

    clips: Sequence[_ClipFeatures]
    """In the order of the annotations."""
    background: Sequence[_ClipFeatures]
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


def import_features(folder: Path, cache: FeatureCache, progress: Progress | None = None) -> ImportSummary:
    """Write the published features of a data set to a cache; `ccln.import_ave` describes arguments and errors."""
    dataset = read_ave_folder(folder)
    clips = {clip.row: clip for clip in dataset.clips if clip.row is not None}
    row_count = _annotated_rows(folder)
    notes = [f"{row_count - len(clips)} rows of {ANNOTATIONS} are in no split"] if len(clips) < row_count else []
    with ExitStack() as files:
        published = files.enter_context(_opened(folder, VISUAL, AUDIO))
        specification = _specification(published)
        if len(published) != row_count:
            raise DatasetError(
                f"{folder / VISUAL} has {len(published)} rows, {folder / ANNOTATIONS} has {row_count}; "
                "take both from one publication"
            )
        splits: dict[Split, list[int]] = {
            split: [clip.row for clip in dataset.clips_of(split) if clip.row is not None] for split in SPLITS
        }
        compared = compare_orders(folder, splits, row_count)
        compared += compare_labels(folder, clips, dataset.class_names, row_count)
        parts = [(published, {row: published_name(row, clip.video_id) for row, clip in clips.items()})]
        background_count = 0
        lacking = [name for name in (VISUAL_BACKGROUND, AUDIO_BACKGROUND) if not (folder / name).exists()]
        if lacking:
            notes.append(f"no background-only clips: {' and '.join(lacking)} not there; {_WHERE}")
        else:
            background = files.enter_context(_opened(folder, VISUAL_BACKGROUND, AUDIO_BACKGROUND))
            background_count = len(background)
            if _specification(background) != specification:
                raise DatasetError(
                    f"{folder / VISUAL_BACKGROUND} and {folder / VISUAL} differ in shape or in how they were made; "
                    "take both from one publication"
                )
            compared += compare_background_labels(folder, background_count, dataset.class_names)
            parts.append((background, {row: published_background_name(row) for row in range(background_count)}))
        done, cached = _store(parts, cache, specification, progress)
    digest = specification_digest(specification)
    return ImportSummary(cache.root, done, cached, background_count, digest, tuple(compared), tuple(notes), folder)


def export_features(
    folder: Path,
    dataset: Dataset,
    cache: FeatureCache,
    specification: str | None = None,
    *,
    pad: bool = False,
    progress: Progress | None = None,
) -> ExportSummary:
    """Write a data set's features, labels and splits as AVE does; `ccln.export_ave` describes arguments and errors."""
    folder = Path(os.path.abspath(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"{folder} is there already and not empty; choose another folder, or remove it")
    contents = _gather(dataset, cache, specification, pad=pad)
    parts: list[tuple[Sequence[_ClipFeatures], tuple[str, ...]]] = [(contents.clips, (VISUAL, AUDIO, VISUAL_VECTOR))]
    texts = [ANNOTATIONS, *SPLIT_FILES.values()] if dataset.source.is_dir() else []
    if contents.background:
        parts.append((contents.background, (VISUAL_BACKGROUND, AUDIO_BACKGROUND)))
        texts += [BACKGROUND_SET] if (dataset.source / BACKGROUND_SET).is_file() else []
    step = _steps(sum(len(clips) for clips, _ in parts), progress)
    # Whole or not at all: a folder of this name is a finished export.
    with whole(folder) as new:
        new.mkdir()
        step()
        for clips, names in parts:
            _write_features([new / name for name in names], clips, contents, step)
        for name, array in contents.arrays.items():
            write_array(new / name, ORDER_KEY if array.ndim == 1 else ARRAY_KEY, array)
        for name in texts:
            (new / name).write_bytes(read_annotation_file(dataset.source / name, LAYOUT))
    digest = specification_digest(contents.specification)
    return ExportSummary(folder, len(contents.clips), len(contents.background), digest, contents.notes)


@contextmanager
def _opened(folder: Path, visual: str, audio: str) -> Iterator[PublishedFeatures]:
    for name in (visual, audio):
        if not (folder / name).exists():
            raise DatasetError(f"{folder / name} is missing; {_WHERE}")
    with open_features(folder / visual, folder / audio) as published:
        segments = published.visual.shape[1]
        if segments != SEGMENT_COUNT:
            raise DatasetError(f"{folder / visual} has {segments} segments a clip, a clip here has {SEGMENT_COUNT}")
        yield published


def _specification(published: PublishedFeatures) -> dict[str, Any]:
    """A specification for imported features; no extractor has it, so they are never mistaken for extracted ones."""
    shapes = {"visual": published.visual.shape[1:], "audio": published.audio.shape[1:]}
    described: dict[str, dict[str, Any]] = {name: {"shape": list(shape)} for name, shape in shapes.items()}
    if (own := published.visual.specification) is not None:
        return {"imported": "features exported by ccln", "made_with": own, **described}
    for name, shape in shapes.items():
        described[name]["made_with"] = _AS_PUBLISHED.get(shape, "not known")
    return {"imported": "published AVE features", **described}


def _store(
    parts: Sequence[tuple[PublishedFeatures, Mapping[int, str]]],
    cache: FeatureCache,
    specification: Mapping[str, Any],
    progress: Progress | None,
) -> tuple[int, int]:
    """Write the named rows of each part; return how many were written, and how many were there."""
    digest, done, cached = specification_digest(specification), 0, 0
    there: dict[str, list[str]] = {}
    with suppress(CacheError):  # no cache yet
        there = {name: cache.find(digest, name) for _, names in parts for name in names.values()}
    step = _steps(sum(len(published) for published, _ in parts), progress)
    step()
    for published, names in parts:
        for row, source_sha256, features in published.clips():
            if row in names:
                key = feature_key(source_sha256, digest)
                if cache.whole(key) is not None:
                    cached += 1
                elif any(other != key for other in there.get(names[row], ())):
                    raise CacheError(
                        f"{published.visual.path}, row {row}: {cache} holds other features of this row, from "
                        "another publication. Import into a cache of its own"
                    )
                else:
                    cache.write(
                        features, source_sha256=source_sha256, source_path=names[row], specification=specification
                    )
                    done += 1
            step()
    cache.flush()
    return done, cached


def _gather(dataset: Dataset, cache: FeatureCache, specification: str | None, *, pad: bool) -> _Contents:
    """Find the features of every row, and make the labels and the splits."""
    place_of = _places(dataset)
    loaded = load_features(dataset, cache, specification)
    features, missing = {}, []
    for split in loaded.splits.values():
        missing += split.missing
        for clip, visual, audio in zip(split.clips, split.visual, split.audio, strict=True):
            features[place_of[clip.row]] = visual, audio
    if missing:
        shown = ", ".join(f"{clip.row} ({clip.video_id})" for clip in missing[:5])
        more = ", ..." if len(missing) > 5 else ""
        raise DatasetError(
            f"{dataset.source}: {len(missing)} of {len(place_of)} rows have no features: {shown}{more}. The published "
            f"layout has a place for every row: make them (ccln-extract {dataset.source} --cache {cache}), or "
            "take the rows out of the data set"
        )
    clips = [features[place] for place in range(len(place_of))]
    notes, background = [], []
    present, lacking = background_features(dataset, cache, loaded.alike)
    if lacking:  # all or none
        notes.append(
            f"no background-only clips: {len(lacking)} of the {len(lacking) + len(present)} in "
            f"{dataset.source / BACKGROUND_SET} have no features ({lacking[0]!r}, ...)"
        )
    else:
        background = [(features.visual, features.audio) for features in present]
    shapes = Counter((tuple(visual.shape), tuple(audio.shape)) for visual, audio in [*clips, *background])
    if len(shapes) > 1:
        raise DatasetError(f"{dataset.source}: features differ in shape: {dict(shapes)}. Extract them again")
    ((visual_shape, audio_shape),) = shapes
    columns = len(dataset.class_names) + 1
    if pad:
        visual_shape, audio_shape, columns = _peers_shapes(dataset, visual_shape, audio_shape)
    arrays, more_notes = _arrays(dataset, place_of, columns, len(background))
    return _Contents(clips, background, visual_shape, audio_shape, loaded.specification, arrays, (*notes, *more_notes))


def _annotated_rows(folder: Path) -> int:
    """The number of rows in Annotations.txt, without header and blank lines."""
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
    if dataset.source.is_dir() and len(rows) != (listed := _annotated_rows(dataset.source)):
        first = min(set(range(listed)) - set(rows))
        raise DatasetError(
            f"{dataset.source}: {listed - len(rows)} rows of {ANNOTATIONS} are in no split (row {first}, ...). "
            "Put them into one, or take them out"
        )
    return {row: place for place, row in enumerate(rows)}


def _peers_shapes(
    dataset: Dataset, visual: tuple[int, ...], audio: tuple[int, ...]
) -> tuple[tuple[int, int, int, int], tuple[int, int], int]:
    """Shapes of a clip's features and columns of the labels as the peers' code has them."""
    classes, (segments, height, width, channels) = len(dataset.class_names), visual
    for fits, found, limit in (
        (classes <= _PEERS_CLASSES, f"{classes} classes", f"{_PEERS_CLASSES} at most"),
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
    """Labels and splits by name of their file, and a note where the splits for CML are not the data set's own."""
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


def _write_features(
    paths: Sequence[Path], clips: Sequence[_ClipFeatures], contents: _Contents, step: Callable[[], None]
) -> None:
    """Write float64 files, as published: visual, audio and, if there is a third path, visual means over the map."""
    segments, _, _, channels = contents.visual_shape
    shapes = (contents.visual_shape, contents.audio_shape, (segments, channels))
    with ExitStack() as files:
        writers = [
            files.enter_context(create_array(path, ARRAY_KEY, (len(clips), *shape), "float64", contents.specification))
            for path, shape in zip(paths, shapes, strict=False)
        ]
        for row, (visual, audio) in enumerate(clips):
            visual, audio = _padded(visual, contents.visual_shape), _padded(audio, contents.audio_shape)
            for write, values in zip(writers, (visual, audio, visual.mean(axis=(1, 2))), strict=False):
                write(row, values)
            step()


def _padded(features: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """float64, filled up with zeros."""
    padded = np.zeros(shape)
    padded[tuple(map(slice, features.shape))] = features.numpy()
    return padded


def _steps(total: int, progress: Progress | None) -> Callable[[], None]:
    """What to call once before the first clip, and after each."""
    done = itertools.count()
    return lambda: None if progress is None else progress(next(done), total)
