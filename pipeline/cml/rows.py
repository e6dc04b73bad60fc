"""Which rows cross-modality localization trains on and is scored on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ccln.model.matching import is_findable
from ccln.pipeline.data.clips import SPLITS, AnnotatedClip, Dataset, DatasetError, Split, segment_labels
from ccln.pipeline.data.published import MATCH_ORDERS, match_order_arrays, read_orders


def cml_dataset(dataset: Dataset) -> Dataset:
    """The data set in the splits of cross-modality localization.

    An AVE folder that has train_order_match.h5, val_order_match.h5 and test_order_match.h5 has exactly the splits that
    they name, which are not those of localization. Any other data set keeps its splits; of validation and test only the
    clips stay whose event is shorter than the clip, for in the others there is nothing to find.

    Raises:
        DatasetError: Only some of the files are there, one is of another data set, or validation or test has no clip
            with something to find.
        CacheError: One of the files is malformed.
    """
    placed = _published(dataset)
    if placed is None:
        placed = _restricted(dataset)
    for split in ("validation", "test"):
        if not is_findable(torch.from_numpy(_event(dataset, placed[split]))).any():
            raise DatasetError(
                f"{dataset.source}: no clip of the {split} split has one event shorter than the clip, so there is "
                "nothing to find in the other modality. Put some into it"
            )
    clips = tuple(replace(clip, split=split) for split in SPLITS for clip in placed[split])
    return replace(dataset, clips=clips)


def _published(dataset: Dataset) -> dict[Split, list[AnnotatedClip]] | None:
    """The clips that the order files name; None where there are no such files."""
    folder = dataset.source
    if not any((folder / name).exists() for name in MATCH_ORDERS.values()):
        return None
    clip_at = {clip.row: clip for clip in dataset.clips if clip.row is not None}
    orders = read_orders(folder, MATCH_ORDERS, max(clip_at, default=-1) + 1)
    placed: dict[Split, list[AnnotatedClip]] = {}
    for split, name in MATCH_ORDERS.items():
        if name not in orders:
            raise DatasetError(
                f"{folder / name} is missing, {', '.join(orders)} is there. Take all three from one publication, or "
                "remove them"
            )
        rows = orders[name].tolist()
        lacking = next((row for row in rows if row not in clip_at), None)
        if lacking is not None:
            raise DatasetError(
                f"{folder / name} names row {lacking}, which is in no split of the text files. Take all files from "
                "one publication"
            )
        placed[split] = [clip_at[row] for row in rows]
    return placed


def _restricted(dataset: Dataset) -> dict[Split, list[AnnotatedClip]]:
    rows: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for row, clip in enumerate(dataset.clips):
        rows[clip.split].append(row)
    orders = match_order_arrays(rows, _event(dataset, dataset.clips))
    return {split: [dataset.clips[row] for row in orders[name].tolist()] for split, name in MATCH_ORDERS.items()}


def _event(dataset: Dataset, clips: Sequence[AnnotatedClip]) -> np.ndarray:
    """float32 (clip, segment): 1 in event segments."""
    return (segment_labels(clips, dataset.class_names) != len(dataset.class_names)).astype(np.float32)
