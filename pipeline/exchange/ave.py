"""Features to and from the files that AVE publishes, which the peers' code reads."""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccln.cache import CacheError, FeatureCache, feature_key, specification_digest
from ccln.cache.hdf5 import write_array
from ccln.cache.published import ARRAY_KEY, ORDER_KEY, PublishedFeatures, create_features, open_features
from ccln.pipeline import defaults
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.ave import LAYOUT, SPLIT_FILES, read_ave_folder
from ccln.pipeline.data.background import BACKGROUND_SET
from ccln.pipeline.data.clips import SPLITS, DatasetError, Split
from ccln.pipeline.data.files import read_annotation_file
from ccln.pipeline.data.published import compare_background_labels, compare_labels, compare_orders
from ccln.pipeline.data.published_names import published_background_name, published_name
from ccln.pipeline.exchange.contents import ANNOTATIONS, ClipFeatures, annotated_rows, gather
from ccln.pipeline.segments import SEGMENT_COUNT

Progress = Callable[[int, int], None]
"""Called with clips done and clips in all."""

VISUAL, AUDIO, VISUAL_VECTOR = "visual_feature.h5", "audio_feature.h5", "visual_feature_vec.h5"
VISUAL_BACKGROUND, AUDIO_BACKGROUND = "visual_feature_noisy.h5", "audio_feature_noisy.h5"

_WHERE = "the README of github.com/YapengTian/AVE-ECCV18 links the published files"
_AS_PUBLISHED = {
    (SEGMENT_COUNT, 7, 7, 512): "as published: VGG-19 block5_pool, Keras weights, mean of 16 frames a second",
    (SEGMENT_COUNT, 128): "as published: VGGish after its last ReLU, first 0.96 s of each second",
}


@dataclass(frozen=True)
class ImportSummary:
    """What one import did."""

    done: int
    """Clips that were written to the cache, background-only clips included."""
    cached: int
    """Clips that were there already."""
    background: int
    """How many of both are background-only clips."""
    specification: str
    """Digest of the specification that the features are kept under."""
    compared: tuple[str, ...]
    """Files that agree with what the annotations say."""
    notes: tuple[str, ...]
    """What was not imported, and why."""


@dataclass(frozen=True)
class ExportSummary:
    """What one export wrote."""

    clips: int
    """Rows of the feature files."""
    background: int
    """Background-only clips, in files of their own."""
    specification: str
    """Digest of the specification whose features were exported."""
    notes: tuple[str, ...]
    """What is lacking, or is not the data set's own, and why."""


def import_ave(
    folder: Path | str, *, cache: Path | str = defaults.CACHE, progress: Progress | None = None
) -> ImportSummary:
    """Take published features of a data set in AVE's layout into a cache, so that training needs no video.

    What is there already is not done again: an import that was stopped goes on. Label and order files in the folder are
    compared with what the annotations say. Background-only clips are taken, too, where their files are there.

    Args:
        folder: Annotations.txt, the split files, visual_feature.h5, audio_feature.h5, and what else is published.
        cache: Folder of the cache; made if it does not exist.
        progress: Called before the first clip, and after each.

    Raises:
        DatasetError: A file is missing, has not a row for each row of Annotations.txt, or contradicts it.
        CacheError: A file is malformed, holds a number that is none or too large for half precision; or the cache
            cannot be written, or holds other features of these rows.
    """
    folder = Path(folder)
    dataset = read_ave_folder(folder)
    clips = {clip.row: clip for clip in dataset.clips if clip.row is not None}
    row_count = annotated_rows(folder)
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
        background = 0
        lacking = [name for name in (VISUAL_BACKGROUND, AUDIO_BACKGROUND) if not (folder / name).exists()]
        if lacking:
            notes.append(f"no background-only clips: {' and '.join(lacking)} not there; {_WHERE}")
        else:
            more = files.enter_context(_opened(folder, VISUAL_BACKGROUND, AUDIO_BACKGROUND))
            background = len(more)
            if _specification(more) != specification:
                raise DatasetError(
                    f"{folder / VISUAL_BACKGROUND} and {folder / VISUAL} differ in shape or in how they were made; "
                    "take both from one publication"
                )
            compared += compare_background_labels(folder, background, dataset.class_names)
            parts.append((more, {row: published_background_name(row) for row in range(background)}))
        done, cached = _store(parts, FeatureCache(cache), specification, progress)
    return ImportSummary(done, cached, background, specification_digest(specification), tuple(compared), tuple(notes))


def export_ave(
    folder: Path | str,
    *,
    data: Path | str,
    cache: Path | str = defaults.CACHE,
    specification: str | None = None,
    pad: bool = False,
    progress: Progress | None = None,
) -> ExportSummary:
    """Write the features of a data set as AVE publishes its own: features, labels and splits in HDF5 files.

    Row i of every file is row i of the annotations (of a CSV: the i-th clip). Feature files hold float64, label files
    float32, order files int64. `visual_feature_vec.h5` is the mean over height and width; its published type is not
    known to us, and the peers convert it to float32. The splits for cross-modality localization (`*_order_match.h5`)
    are the data set's own where its folder has all three, else see `match_order_arrays`. Annotations.txt and the split
    files are copied; a CSV has none. The background-only clips that backgroundSet.txt names, or that were imported,
    become the `*_noisy.h5` files. The layout has no place for the length of padded clips and for missing streams.

    Args:
        folder: Where it all goes; must not exist yet, or be empty.
        data: Data set: a folder in AVE's layout, or a CSV file.
        cache: Folder of the feature cache.
        specification: First digits of the specification wanted, where the cache holds several for this data.
        pad: Fill up with zeros to the shapes that are built into the peers' code: 512 channels seen, 128 heard, 29
            columns of labels, the last for the background.
        progress: Called before the first clip, and after each.

    Raises:
        DatasetError: `folder` holds something, a row has no features or no place, or `pad` cannot make it fit.
        CacheError: The cache is damaged, or a file cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"{folder} is there already and not empty; choose another folder, or remove it")
    dataset = read_dataset(data)
    contents = gather(dataset, FeatureCache(cache), specification, pad=pad)
    parts: list[tuple[Sequence[ClipFeatures], tuple[str, ...]]] = [(contents.clips, (VISUAL, AUDIO, VISUAL_VECTOR))]
    texts = [ANNOTATIONS, *SPLIT_FILES.values()] if dataset.source.is_dir() else []
    if contents.background:
        parts.append((contents.background, (VISUAL_BACKGROUND, AUDIO_BACKGROUND)))
        texts += [BACKGROUND_SET] if (dataset.source / BACKGROUND_SET).is_file() else []
    step = _steps(sum(len(clips) for clips, _ in parts), progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a folder of this name is a finished export.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as partial:
        new = Path(partial, folder.name)
        new.mkdir()
        step()
        for clips, names in parts:
            with create_features(
                [new / name for name in names],
                rows=len(clips),
                visual_shape=contents.visual_shape,
                audio_shape=contents.audio_shape,
                specification=contents.specification,
            ) as files:
                for row, clip in enumerate(clips):
                    files.write(row, clip.visual, clip.audio)
                    step()
        for name, array in contents.arrays.items():
            write_array(new / name, ORDER_KEY if array.ndim == 1 else ARRAY_KEY, array)
        for name in texts:
            (new / name).write_bytes(read_annotation_file(dataset.source / name, LAYOUT))
        os.replace(new, folder)
    return ExportSummary(
        len(contents.clips), len(contents.background), specification_digest(contents.specification), contents.notes
    )


@contextmanager
def _opened(folder: Path, visual: str, audio: str) -> Iterator[PublishedFeatures]:
    for name in (visual, audio):
        if not (folder / name).exists():
            raise DatasetError(f"{folder / name} is missing; {_WHERE}")
    # The names of the files keep rows and background-only clips of the same number apart.
    with open_features(folder / visual, folder / audio, domain=f"{visual}, {audio}") as published:
        segments = published.visual.shape[1]
        if segments != SEGMENT_COUNT:
            raise DatasetError(f"{folder / visual} has {segments} segments a clip, a clip here has {SEGMENT_COUNT}")
        yield published


def _specification(published: PublishedFeatures) -> dict[str, Any]:
    """What decides imported features: nothing that can be done again, and never mistaken for an extractor's choices."""
    shapes = {"visual": published.visual.shape[1:], "audio": published.audio.shape[1:]}
    own = published.visual.specification
    if own is not None:
        return {
            "imported": "features exported by ccln",
            "made_with": own,
            **{name: {"shape": list(shape)} for name, shape in shapes.items()},
        }
    return {
        "imported": "published AVE features",
        **{
            name: {"made_with": _AS_PUBLISHED.get(shape, "not known"), "shape": list(shape)}
            for name, shape in shapes.items()
        },
    }


def _store(
    parts: Iterable[tuple[PublishedFeatures, Mapping[int, str]]],
    cache: FeatureCache,
    specification: Mapping[str, Any],
    progress: Progress | None,
) -> tuple[int, int]:
    """Write the named rows of each part; return how many were written, and how many were there."""
    parts = list(parts)
    digest, done, cached = specification_digest(specification), 0, 0
    there: set[str] = set()
    with suppress(CacheError):  # no cache yet
        there = {name for _, names in parts for name in names.values() if cache.find(digest, name)}
    step = _steps(sum(len(published) for published, _ in parts), progress)
    step()
    for published, names in parts:
        for row, source_sha256, features in published.clips():
            if row in names:
                if cache.contains(feature_key(source_sha256, digest)):
                    cached += 1
                elif names[row] in there:
                    raise CacheError(
                        f"{published.visual.path}, row {row}: {cache.root} holds other features of this row, from "
                        "another publication. Import into a cache of its own"
                    )
                else:
                    cache.write(
                        features, source_sha256=source_sha256, source_path=names[row], specification=specification
                    )
                    done += 1
            step()
    return done, cached


def _steps(total: int, progress: Progress | None) -> Callable[[], None]:
    """What to call once before the first clip, and after each."""
    done = itertools.count()
    return lambda: None if progress is None else progress(next(done), total)
