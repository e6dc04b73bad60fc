"""Labels, splits and names as in AVE's published files, rebuilt from a data set's annotations.

The published files know a clip only by its row, and several rows may have the same video id. The name of an entry
imported from them therefore starts with the row; the id makes it readable, and distinct from rows of other data sets.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ccln.cache.hdf5 import ARRAY_KEY, ORDER_KEY, read_array
from ccln.pipeline.data.clips import AnnotatedClip, DatasetError, Split, class_labels, segment_labels
from ccln.pipeline.segments import SEGMENT_COUNT

LABELS, CLASS_LABELS, EVENT_LABELS = "labels.h5", "mil_labels.h5", "labels_closs.h5"
BACKGROUND_LABELS = "labels_noisy.h5"
ORDERS: dict[Split, str] = {"train": "train_order.h5", "validation": "val_order.h5", "test": "test_order.h5"}
MATCH_ORDERS: dict[Split, str] = {split: name.replace(".h5", "_match.h5") for split, name in ORDERS.items()}


def published_name(row: int, video_id: str) -> str:
    """Source name in the cache of an entry that was imported from the published files.

    Args:
        row: Position among the rows of Annotations.txt from 0, which is the position in the published files.
        video_id: The row's video id.

    Returns:
        A file name without a dot, as the cache takes a name's ending off. Unique for each row.
    """
    return f"ave-{row:04d}-{video_id.replace('.', '_')}"


def published_background_name(index: int) -> str:
    """As `published_name`, for the background-only clip at this position, from 0, in `audio_feature_noisy.h5`."""
    return f"ave-background-{index:03d}"


def label_arrays(
    clips: Sequence[AnnotatedClip], class_names: Sequence[str], columns: int | None = None
) -> dict[str, np.ndarray]:
    """The published label files, by name.

    Args:
        clips: One for each row.
        class_names: Names whose position is the class index.
        columns: Number of columns of a one-hot row, the last being the background; by default one more than classes.

    Returns:
        float32 zeros and ones: `labels.h5` (row, segment, column), the class or the background of every segment;
        `mil_labels.h5` (row, column), the row's class, event or not; `labels_closs.h5` (row, segment), 1 in events.

    Raises:
        DatasetError: A clip's label is not among `class_names`.
    """
    background = len(class_names)
    columns = columns or background + 1
    of_segments, of_clips = segment_labels(clips, class_names), class_labels(clips, class_names)
    return {
        LABELS: _one_hot(of_segments, background, columns),
        CLASS_LABELS: _one_hot(of_clips, background, columns),
        EVENT_LABELS: (of_segments != background).astype(np.float32),
    }


def background_labels(clips: int, columns: int) -> np.ndarray:
    """`labels_noisy.h5`: float32 (clip, column), ones in the last column."""
    return _one_hot(np.zeros(clips, np.int64), 0, columns)


def order_arrays(rows: Mapping[Split, Sequence[int]]) -> dict[str, np.ndarray]:
    """The order files, int64 (clip,): the rows of each split, by name of the file."""
    return {ORDERS[split]: np.array(of_split, np.int64) for split, of_split in rows.items()}


def match_order_arrays(rows: Mapping[Split, Sequence[int]], event_labels: np.ndarray) -> dict[str, np.ndarray]:
    """The order files for cross-modality localization, int64 (clip,), by name of the file.

    The splits are the same, but validation and test keep only rows whose event (`event_labels` as in `labels_closs.h5`)
    is shorter than the clip: in one that it fills there is nothing to find. AVE's own files were drawn anew; these keep
    videos apart as the splits do.
    """
    events = event_labels.sum(axis=1)
    partial = (events > 0) & (events < event_labels.shape[1])
    return {
        MATCH_ORDERS[split]: np.array([row for row in of_split if split == "train" or partial[row]], np.int64)
        for split, of_split in rows.items()
    }


def read_orders(folder: Path, names: Mapping[Split, str], row_count: int) -> dict[str, np.ndarray]:
    """The order files that a folder has, int64 (clip,), by name of the file.

    Raises:
        CacheError: One of them is malformed.
        DatasetError: One names a row that does not exist.
    """
    found = {}
    for name in names.values():
        if (folder / name).exists():
            order = read_array(folder / name, ORDER_KEY, (None,), "iu")
            wrong = order[(order < 0) | (order >= row_count)]
            if wrong.size:
                raise DatasetError(
                    f"{folder / name} names row {wrong[0]}, the rows are 0 to {row_count - 1}; remove it"
                )
            found[name] = order.astype(np.int64)
    return found


def compare_orders(folder: Path, rows: Mapping[Split, Sequence[int]], row_count: int) -> list[str]:
    """Compare the order files that a folder has with the splits of its text files; return their names.

    Raises:
        CacheError: One of them is malformed.
        DatasetError: One has other rows.
    """
    found = read_orders(folder, ORDERS, row_count)
    for split, name in ORDERS.items():
        if name in found:
            order = found[name].tolist()
            differing = sorted(set(order) ^ set(rows[split]))
            if differing or len(order) != len(rows[split]):
                shown = f", the first that only one of them has is {differing[0]}" if differing else ""
                raise DatasetError(
                    f"{folder / name} has {len(order)} rows, the text file of the {split} split {len(rows[split])}"
                    f"{shown}. Training follows the text file: replace it, or remove {name}"
                )
    return list(found)


def compare_labels(
    folder: Path, clips: Mapping[int, AnnotatedClip], class_names: Sequence[str], row_count: int
) -> list[str]:
    """Compare the label files that a folder has with its annotations, `clips` by their row; return their names.

    Raises:
        CacheError: One of them is malformed.
        DatasetError: A cell differs.
    """
    compared, rows = [], sorted(clips)
    for name, shape in (
        (LABELS, (row_count, SEGMENT_COUNT, None)),
        (CLASS_LABELS, (row_count, None)),
        (EVENT_LABELS, (row_count, SEGMENT_COUNT)),
    ):
        if not (folder / name).exists():
            continue
        found = read_array(folder / name, ARRAY_KEY, shape, "fiu")
        columns = None if shape[-1] else _columns(folder / name, found, class_names)
        wanted = label_arrays([clips[row] for row in rows], class_names, columns)[name]
        differing = (found[rows] != wanted).reshape(len(rows), -1).any(axis=1).nonzero()[0]
        if differing.size:
            row = rows[differing[0]]
            raise DatasetError(
                f"{folder / name}, row {row} ({clips[row].video_id}): not what Annotations.txt says of it "
                f"({differing.size} rows differ). Take both from one publication, or remove {name}"
            )
        compared.append(name)
    return compared


def compare_background_labels(folder: Path, clips: int, class_names: Sequence[str]) -> list[str]:
    """Check that the background-only clips are labelled as such, if the folder has their labels; return the name.

    Raises:
        CacheError: The file is malformed.
        DatasetError: A cell differs.
    """
    path = folder / BACKGROUND_LABELS
    if not path.exists():
        return []
    found = read_array(path, ARRAY_KEY, (clips, None), "fiu")
    differing = (found != background_labels(clips, _columns(path, found, class_names))).any(axis=1).nonzero()[0]
    if differing.size:
        raise DatasetError(f"{path}, row {differing[0]}: not labelled background alone; remove {path.name}")
    return [path.name]


def _columns(path: Path, labels: np.ndarray, class_names: Sequence[str]) -> int:
    if labels.shape[-1] <= len(class_names):
        needed = f"{len(class_names)} classes and the background need {len(class_names) + 1}"
        raise DatasetError(f"{path} has {labels.shape[-1]} columns, {needed}; remove {path.name}")
    return labels.shape[-1]


def _one_hot(labels: np.ndarray, background: int, columns: int) -> np.ndarray:
    """Float32 (..., column); the background goes to the last column."""
    return np.eye(columns, dtype=np.float32)[np.where(labels == background, columns - 1, labels)]
