"""From a network's answers to events with a start and an end, and to tracks of what is seen, heard and both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ccln.model import EventDecoding
from ccln.pipeline.events import Event, equal_runs, sigmoid
from ccln.pipeline.localize.answers import Answers
from ccln.pipeline.localize.class_path import class_path
from ccln.pipeline.segments import SEGMENT_SECONDS


@dataclass(frozen=True, eq=False)
class Tracks:
    """Of every segment, numbers from 0 to 1."""

    classes: np.ndarray
    """int64 (segment,): the class, whether or not there is an event."""
    seen: np.ndarray
    """float32 (segment,): evidence for that class in the picture, looked at where the sound points."""
    heard: np.ndarray
    """float32 (segment,): evidence for that class in the sound alone."""
    both: np.ndarray
    """float32 (segment,): calibrated probability that the segment is event."""


def decode_tracks(answers: Answers, decoding: EventDecoding) -> Tracks:
    """The class of each second, and the evidence for it."""
    both = sigmoid(answers.event_logits / decoding.event_temperature)
    classes = class_path(answers.class_logits, both)
    each = np.arange(len(classes)), classes
    return Tracks(classes, sigmoid(answers.visual_logits[each]), sigmoid(answers.audio_logits[each]), both)


def decode_events(
    answers: Answers, tracks: Tracks, decoding: EventDecoding, class_names: Sequence[str], duration_seconds: float
) -> tuple[Event, ...]:
    """The maximal runs of segments of one class whose event probability reaches the threshold.

    Events end with the video at the latest. One that is shorter than the decoding's shortest is none, unless the video
    itself is.

    Args:
        answers: of each segment that begins within the video.
        tracks: of these answers.
        decoding: the checkpoint's, or another.
        class_names: in label order.
        duration_seconds: length of the video.

    Returns:
        In order of time. The confidence is the mean event probability of the event's seconds times the probability of
        its class, that of the mean of their class log-probabilities.
    """
    shortest = min(decoding.minimum_duration_seconds, len(tracks.both))
    kinds = np.where(tracks.both >= decoding.event_threshold, tracks.classes, -1)
    events = []
    for start, end in equal_runs(kinds):
        if kinds[start] < 0 or end - start < shortest:
            continue
        class_logits = answers.class_logits[start:end].mean(axis=0, dtype=np.float64) / decoding.class_temperature
        share = np.exp(class_logits - class_logits.max())
        class_probability = share[kinds[start]] / share.sum()
        events.append(
            Event(
                label=class_names[int(kinds[start])],
                start_seconds=float(start * SEGMENT_SECONDS),
                end_seconds=float(min(end * SEGMENT_SECONDS, duration_seconds)),
                confidence=float(class_probability * tracks.both[start:end].mean(dtype=np.float64)),
            )
        )
    return tuple(events)
