"""Which rows cross-modality localization trains on and is scored on, and the guard between the two."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ccln.model.matching import is_findable
from ccln.pipeline.datasets.annotations import SPLITS, AnnotatedClip, Dataset, DatasetError, Split, segment_labels
from ccln.pipeline.exchange.labels import MATCH_ORDERS, match_order_arrays, read_orders

_FINGERPRINT_DIGITS = 16
_ROWS = "rows"


class SeenRowsError(Exception):
    """A checkpoint is to be scored on rows that it was trained on, or does not say on which it was."""


def matching_dataset(dataset: Dataset) -> Dataset:
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


def row_fingerprints(clips: Sequence[AnnotatedClip], videos: Sequence[str]) -> list[str]:
    """A digest a row, to be kept with what was trained on them: equal for the same event of the same video, in order.

    It goes by rows and not by videos, as the published splits do, in which some videos have rows on both sides.

    Args:
        clips: The rows.
        videos: What tells each row's video from every other, wherever it lies: the cache's key of its features.
    """
    fingerprints = []
    for clip, video in zip(clips, videos, strict=True):
        spans = [(float(start), float(end)) for start, end in clip.spans]
        text = f"{video}&{clip.label}&{spans}"
        fingerprints.append(hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS])
    return fingerprints


def with_rows(training: Mapping[str, Any], clips: Sequence[AnnotatedClip], videos: Sequence[str]) -> dict[str, Any]:
    """A checkpoint's account of its training, and in it the rows; arguments as of `row_fingerprints`."""
    return {**training, _ROWS: " ".join(row_fingerprints(clips, videos))}


def trained_rows(training: Mapping[str, Any]) -> list[str] | None:
    """Fingerprints of the rows that a checkpoint was trained on, by its account; None if that does not say."""
    rows = training.get(_ROWS)
    return (rows.split() or None) if isinstance(rows, str) else None


def refuse_seen_rows(trained: Collection[str] | None, clips: Sequence[AnnotatedClip], videos: Sequence[str]) -> None:
    """Nothing, where none of the rows was trained on.

    AVE's two splits are drawn apart: 314 of the 402 test rows of cross-modality localization are training rows of
    localization.

    Args:
        trained: Fingerprints of the rows that the checkpoint was trained on; None if it does not say.
        clips: The rows to score.
        videos: As for `row_fingerprints`.

    Raises:
        SeenRowsError: One was, or there is no telling.
    """
    if trained is None:
        raise SeenRowsError(
            "the checkpoint does not say which rows it was trained on, so there is no telling whether these are among "
            "them. Train it again."
        )
    known = set(trained)
    seen = [clip.video_id for clip, row in zip(clips, row_fingerprints(clips, videos), strict=True) if row in known]
    if seen:
        shown = ", ".join(seen[:3]) + (", ..." if len(seen) > 3 else "")
        raise SeenRowsError(
            f"{len(seen)} of the {len(clips)} rows to score are among those that the checkpoint was trained on "
            f"({shown}). Score it on a split of its own, or train one on the training split that belongs to these rows."
        )
