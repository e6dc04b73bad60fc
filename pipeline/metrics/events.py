"""Events of a clip, and which predicted ones are right: both ends near enough, or enough in common."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ccln.pipeline.segments import equal_runs

EVENT_TOLERANCE_SECONDS = 1
LEAST_TIOU = 0.5

Span = tuple[int, int]
"""An event from its first second up to but not including its last number."""


def events_by_class(labels: np.ndarray, background: int) -> dict[int, list[Span]]:
    """The events of a clip, maximal runs of one class, by class and in order of time, from its labels (segment,)."""
    events = defaultdict(list)
    for start, end in equal_runs(labels):
        if labels[start] != background:
            events[int(labels[start])].append((start, end))
    return events


def count_within_tolerance(predicted: Sequence[Span], true: Sequence[Span]) -> int:
    """How many events of one class in one clip pair up with both ends at most `EVENT_TOLERANCE_SECONDS` apart.

    The size of the largest one-to-one matching. Both lists are in order and their events do not overlap, so two matches
    that cross can be uncrossed: matching the earliest pair that fits is never worse, and of a pair that does not fit,
    the event whose start or end comes too early for the other fits nothing later either.
    """
    right = i = j = 0
    while i < len(predicted) and j < len(true):
        start_ahead, end_ahead = (p - t for p, t in zip(predicted[i], true[j], strict=True))
        if max(abs(start_ahead), abs(end_ahead)) <= EVENT_TOLERANCE_SECONDS:
            right, i, j = right + 1, i + 1, j + 1
        elif min(start_ahead, end_ahead) < -EVENT_TOLERANCE_SECONDS:
            i += 1
        else:
            j += 1
    return right


def count_overlapping(predicted: Sequence[Span], true: Sequence[Span]) -> int:
    """How many events of one class in one clip pair up with a temporal intersection over union of `LEAST_TIOU` or more.

    The size of the largest one-to-one matching, without any search: an event that had one half or more of the union in
    common with each of two others would consist of what it shares with them, so these two would touch and be one event.
    """
    return sum(_tiou(p, t) >= LEAST_TIOU for p in predicted for t in true)


def boundary_errors(predicted: Sequence[Span], true: Sequence[Span]) -> list[float]:
    """How far off the ends are on average, in seconds, for each true event that has a partner (`with_partners`)."""
    return [
        (abs(found[0] - event[0]) + abs(found[1] - event[1])) / 2 for found, event in with_partners(predicted, true)
    ]


def with_partners(predicted: Sequence[Span], true: Sequence[Span]) -> list[tuple[Span, Span]]:
    """Each true event that a predicted one of its class overlaps, as (predicted, true), in order of the true ones.

    Of several the one that overlaps most counts, of equals the earliest. There must be a predicted event.
    """
    best = ((max(predicted, key=lambda other: _overlap(other, event)), event) for event in true)
    return [(found, event) for found, event in best if _overlap(found, event) > 0]


def _overlap(a: Span, b: Span) -> int:
    """Seconds that two events share; negative where they lie apart."""
    return min(a[1], b[1]) - max(a[0], b[0])


def _tiou(a: Span, b: Span) -> float:
    shared = max(0, _overlap(a, b))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)
