"""Which rows a network was trained on: kept in its checkpoint, to recognise them when it is evaluated."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ccln.pipeline.data.clips import AnnotatedClip

_FINGERPRINT_DIGITS = 16
_ROWS = "rows"


class SeenRowsError(Exception):
    """A checkpoint is to be evaluated on rows that it was trained on, or does not name those."""


def row_fingerprints(clips: Sequence[AnnotatedClip], videos: Sequence[str]) -> list[str]:
    """A digest of each row, in order: equal for the same event of the same video.

    It goes by rows and not by videos, as the published splits do, in which some videos have rows on both sides.

    Args:
        clips: The rows.
        videos: What distinguishes each row's video from every other, wherever it lies: the cache's key of its features.
    """
    texts = (
        f"{video}&{clip.label}&{[(float(start), float(end)) for start, end in clip.spans]}"
        for clip, video in zip(clips, videos, strict=True)
    )
    return [hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS] for text in texts]


def with_rows(
    training: Mapping[str, Any],
    clips: Sequence[AnnotatedClip],
    videos: Sequence[str],
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A checkpoint's account of its training, and in it the rows; clips and videos as of `row_fingerprints`.

    With `earlier`, the account of a network that training started from, that one's rows are among them; if these are
    not known, none are named.
    """
    before = [] if earlier is None else trained_rows(earlier)
    if before is None:
        return dict(training)
    return {**training, _ROWS: " ".join(dict.fromkeys([*before, *row_fingerprints(clips, videos)]))}


def trained_rows(training: Mapping[str, Any]) -> list[str] | None:
    """Fingerprints of the rows that a checkpoint was trained on, by its account; None if they are not in it."""
    rows = training.get(_ROWS)
    return (rows.split() or None) if isinstance(rows, str) else None


def seen_rows(trained: Collection[str], clips: Sequence[AnnotatedClip], videos: Sequence[str]) -> list[str]:
    """Video ids of those rows whose fingerprints are `trained`, in their order; arguments as of `row_fingerprints`."""
    known = set(trained)
    return [clip.video_id for clip, row in zip(clips, row_fingerprints(clips, videos), strict=True) if row in known]


def refuse_seen_rows(trained: Collection[str] | None, clips: Sequence[AnnotatedClip], videos: Sequence[str]) -> None:
    """Check that none of the rows was trained on.

    AVE's two splits are drawn apart: 314 of the 402 test rows of cross-modality localization are training rows of
    localization. Arguments are as of `seen_rows`; `trained` is None if the checkpoint does not name its rows.

    Raises:
        SeenRowsError: One was, or it is not known whether one was.
    """
    if trained is None:
        raise SeenRowsError(
            "the checkpoint does not say which rows it was trained on, so there is no telling whether these are among "
            "them. Train it again."
        )
    seen = seen_rows(trained, clips, videos)
    if seen:
        shown = ", ".join(seen[:3]) + (", ..." if len(seen) > 3 else "")
        raise SeenRowsError(
            f"{len(seen)} of the {len(clips)} rows to evaluate on are among those that the checkpoint was trained on "
            f"({shown}). Evaluate it on a split of its own, or train one on the training split that belongs to these "
            "rows."
        )
