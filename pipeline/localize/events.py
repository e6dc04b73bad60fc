"""Event decoding: from a network's predictions for each second to tracks, and to events with a start and an end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ccln.model import EventDecoding
from ccln.pipeline.localize.result import Event
from ccln.pipeline.localize.windows import SegmentPredictions
from ccln.pipeline.segments import SEGMENT_COUNT, SEGMENT_SECONDS, equal_runs, sigmoid

SWITCH_COST = 12.0
"""In log-probability, so that a second or two alone do not change the class; how it was chosen, docs/experiments.md."""


_SUREST = 3.0
"""Logits, 95 %: beside other evidence a network counts for no more, for of what it was not trained on it is often as
sure and wrong."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Of every segment the class, and probabilities from 0 to 1."""

    classes: np.ndarray
    """int64 (segment,): the class, whether or not there is an event."""
    seen: np.ndarray
    """float32 (segment,): visual evidence for that class, in the region that the audio attends to."""
    heard: np.ndarray
    """float32 (segment,): evidence for that class in the audio alone."""
    event_probability: np.ndarray
    """float32 (segment,): calibrated probability of an event."""


def decode_tracks(
    predictions: SegmentPredictions, decoding: EventDecoding, more_logits: np.ndarray | None = None
) -> Tracks:
    """The class of each second, and the evidence for it.

    Args:
        predictions: of a network.
        decoding: of its checkpoint.
        more_logits: (segment,), independent evidence of an event, added to the calibrated logits, which then are
            bounded and count as much as the network knows what it judges: as the lower of how surely the second's
            class is seen, and how surely it is heard, in the best second around (`around`).
    """
    event_logits = predictions.event_logits / decoding.event_temperature
    classes = class_path(predictions.class_logits, sigmoid(event_logits))
    each = np.arange(len(classes)), classes
    seen, heard = sigmoid(predictions.visual_logits[each]), sigmoid(predictions.audio_logits[each])
    if more_logits is not None:
        known = np.minimum(around(seen), around(heard))
        event_logits = event_logits.clip(-_SUREST, _SUREST) * known + more_logits
    return Tracks(classes, seen, heard, sigmoid(event_logits))


def around(track: np.ndarray) -> np.ndarray:
    """The highest value of a track (segment,) within the ten seconds that begin or end with each segment."""
    reach = SEGMENT_COUNT - 1
    return sliding_window_view(np.pad(track, reach, constant_values=-np.inf), 2 * reach + 1).max(axis=1)


def decode_events(
    predictions: SegmentPredictions,
    tracks: Tracks,
    decoding: EventDecoding,
    class_names: Sequence[str],
    duration_seconds: float,
) -> tuple[Event, ...]:
    """The maximal runs of segments of one class whose event probability reaches the threshold, however short.

    Events end with the video at the latest.

    Args:
        predictions: for each segment that begins within the video.
        tracks: of these predictions.
        decoding: the checkpoint's, or another.
        class_names: in label order.
        duration_seconds: length of the video.

    Returns:
        In order of time. The confidence is the mean event probability of the event's seconds times the probability of
        its class, that of the mean of their class log-probabilities.
    """
    probabilities = tracks.event_probability
    kinds = np.where(probabilities >= decoding.event_threshold, tracks.classes, -1)
    events = []
    for start, end in equal_runs(kinds):
        if kinds[start] < 0:
            continue
        class_logits = predictions.class_logits[start:end].mean(axis=0, dtype=np.float64) / decoding.class_temperature
        share = np.exp(class_logits - class_logits.max())
        class_probability = share[kinds[start]] / share.sum()
        events.append(
            Event(
                label=class_names[int(kinds[start])],
                start_seconds=float(start * SEGMENT_SECONDS),
                end_seconds=float(min(end * SEGMENT_SECONDS, duration_seconds)),
                confidence=float(class_probability * probabilities[start:end].mean(dtype=np.float64)),
            )
        )
    return tuple(events)


def long_enough(events: Sequence[Event], decoding: EventDecoding, segment_count: int) -> tuple[Event, ...]:
    """The events of at least the decoding's minimum duration, or of all the video's segments if these are fewer."""
    least = min(decoding.minimum_duration_seconds, segment_count)
    return tuple(event for event in events if len(range(*segments_of(event).indices(segment_count))) >= least)


def segments_of(event: Event) -> slice:
    """The segments that an event lies in."""
    start = int(event.start_seconds // SEGMENT_SECONDS)
    return slice(start, max(start + 1, int(np.ceil(event.end_seconds / SEGMENT_SECONDS))))


def class_path(class_logits: np.ndarray, weights: np.ndarray, switch_cost: float = SWITCH_COST) -> np.ndarray:
    """The class of each second: the likeliest path, on which a change of class has a cost.

    The path c maximises sum_t w_t log p(c_t | t) - cost * (number of t with c_t != c_(t-1)). Found by dynamic
    programming (Viterbi 1967); where classes tie, the earlier one and the one without a change.

    Args:
        class_logits: (segment, class), of each second on its own.
        weights: (segment,), none negative: how much each second counts, such as the probability that it is event.
        switch_cost: of a change, at least 0.

    Returns:
        int64 (segment,).
    """
    shifted = class_logits - class_logits.max(axis=1, keepdims=True)
    log_share = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gains = weights.astype(np.float64)[:, np.newaxis] * log_share  # (segment, class)
    segments, classes = gains.shape
    came_from = np.empty((segments, classes), np.int64)
    best = np.zeros(classes)
    for segment in range(segments):
        leader = best.argmax()
        switches = best[leader] - switch_cost > best
        came_from[segment] = np.where(switches, leader, np.arange(classes))
        best = np.where(switches, best[leader] - switch_cost, best) + gains[segment]
    path = np.empty(segments, np.int64)
    label = int(best.argmax()) if segments else 0
    for segment in reversed(range(segments)):
        path[segment] = label
        label = came_from[segment, label]
    return path
