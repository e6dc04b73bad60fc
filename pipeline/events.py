"""From probabilities per segment to events with a start and an end."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Event:
    """Something both seen and heard, from `start_seconds` up to but not including `end_seconds` of its clip.

    Attributes:
        label: Name of the class.
        start_seconds: Where it begins.
        end_seconds: Where it has ended.
        confidence: From 0 to 1.
    """

    label: str
    start_seconds: float
    end_seconds: float
    confidence: float


def equal_runs(values: np.ndarray) -> list[tuple[int, int]]:
    """The maximal runs of equal neighbours of `values` (segment,) as half-open positions (start, end), in order."""
    edges = (np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(values)], strict=True)) if len(values) else []


def events_from_segments(
    event_probability: ArrayLike,
    label: str,
    label_probability: float,
    threshold: float = 0.5,
    duration_seconds: float = 10.0,
    segment_seconds: float = 1.0,
) -> tuple[Event, ...]:
    """Joins neighbouring segments that reach the threshold into events.

    A clip may end inside a segment or before the last one: events end with the clip at the latest, and segments that
    begin only when it is over count for nothing.

    Args:
        event_probability: Probability that a segment holds an event rather than background, (segment,), each 0 to 1.
        label: The class of the clip.
        label_probability: Probability of that class, 0 to 1.
        threshold: Least `event_probability` of a segment of an event.
        duration_seconds: Length of the clip.
        segment_seconds: Length of a segment.

    Returns:
        The events in order of time. Confidence is `label_probability` times the mean `event_probability` of the run.

    Raises:
        ValueError: `event_probability` has another shape, or a number is outside its range.
    """
    probability = np.asarray(event_probability, dtype=np.float64)
    if probability.ndim != 1:
        raise ValueError(f"event_probability has the shape {probability.shape}; expected (segment,)")
    for name, values in (("event_probability", probability), ("label_probability", np.float64(label_probability))):
        if not np.all((values >= 0) & (values <= 1)):  # NaN is neither
            raise ValueError(f"{name} is {values}; expected probabilities from 0 to 1")
    if not 0 < segment_seconds < np.inf:
        raise ValueError(f"segment_seconds is {segment_seconds}; expected a length above 0")
    if not 0 <= duration_seconds < np.inf:
        raise ValueError(f"duration_seconds is {duration_seconds}; expected a length of 0 or more")

    probability = probability[np.arange(len(probability)) * segment_seconds < duration_seconds]
    is_event = probability >= threshold
    return tuple(
        Event(
            label=label,
            start_seconds=start * segment_seconds,
            end_seconds=min(end * segment_seconds, duration_seconds),
            confidence=float(label_probability * probability[start:end].mean()),
        )
        for start, end in equal_runs(is_event)
        if is_event[start]
    )
