"""What a writer is given, and the whole milliseconds that every format shares."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ccln.pipeline.events import Event

# What ends a line, or moves the cursor, in one reader or another.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

# Events end where their clip does up to the rounding of floating point; more than this is no rounding.
_TOLERANCE_SECONDS = 0.001


class Timeline(Protocol):
    """A clip and the events found in it; events may overlap in time."""

    @property
    def path(self) -> Path:
        """The media file, as the user named it."""
        ...

    @property
    def duration_seconds(self) -> float:
        """Length of the clip."""
        ...

    @property
    def events(self) -> tuple[Event, ...]:
        """Of any number of classes, in any order, each within the clip."""
        ...


@runtime_checkable
class TrackedTimeline(Timeline, Protocol):
    """A timeline that has a number for each segment too.

    Segments last one second, unless the timeline has an attribute `segment_seconds` that says otherwise.
    """

    @property
    def seen(self) -> np.ndarray:
        """float32 (segment,), each 0 to 1: evidence in the picture."""
        ...

    @property
    def heard(self) -> np.ndarray:
        """float32 (segment,), each 0 to 1: evidence in the sound."""
        ...

    @property
    def both(self) -> np.ndarray:
        """float32 (segment,), each 0 to 1: evidence for an event, both seen and heard."""
        ...


@runtime_checkable
class LabelledTimeline(TrackedTimeline, Protocol):
    """A timeline that names each segment's most probable class, whether or not there is an event."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Of each segment."""
        ...


@dataclass(frozen=True)
class Span:
    """An event in whole milliseconds of its clip, half-open and never empty."""

    label: str
    start_milliseconds: int
    end_milliseconds: int
    confidence: float

    @property
    def start_seconds(self) -> float:
        """The start, with at most three decimals."""
        return self.start_milliseconds / 1000

    @property
    def end_seconds(self) -> float:
        """The end, with at most three decimals."""
        return self.end_milliseconds / 1000


def spans(timeline: Timeline) -> tuple[Span, ...]:
    """The events in order of time, rounded to milliseconds; none becomes empty or ends after the clip.

    Raises:
        ValueError: an event is empty or not within its clip, or a clip has no length that could hold one.
    """
    if not 0 <= timeline.duration_seconds < math.inf:
        raise ValueError(
            f"{timeline.path}: duration_seconds is {timeline.duration_seconds}; give the clip's length, 0 or more"
        )
    last = _whole_milliseconds(timeline.duration_seconds)
    rounded = [_span(event, last, timeline) for event in timeline.events]
    return tuple(sorted(rounded, key=lambda span: (span.start_milliseconds, span.end_milliseconds, span.label)))


def timestamp(milliseconds: int, decimal_mark: str) -> str:
    """A time as `00:00:01.500`; hours have two digits or more."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{milliseconds:03}"


def one_line(text: str) -> str:
    """The text with each run of line ends, tabs and other controls as one space."""
    return _CONTROLS.sub(" ", text)


def caption(span: Span) -> str:
    """What a viewer reads of an event, on one line: `Church bell (0.87)`."""
    return f"{one_line(span.label)} ({span.confidence:.2f})"


def _span(event: Event, last: int, timeline: Timeline) -> Span:
    start, end = float(event.start_seconds), float(event.end_seconds)  # numpy's numbers are none to json
    within = 0 <= start < end <= timeline.duration_seconds + _TOLERANCE_SECONDS  # NaN is not
    if not within or start >= timeline.duration_seconds or last < 1:
        raise ValueError(
            f"{timeline.path}: the event {event.label!r} from {start} to {end} s is not within the clip's "
            f"{timeline.duration_seconds} s; give events of at least a millisecond that end with their clip"
        )
    start_milliseconds = min(round(start * 1000), last - 1)
    end_milliseconds = max(min(round(end * 1000), last), start_milliseconds + 1)
    return Span(event.label, start_milliseconds, end_milliseconds, float(event.confidence))


def _whole_milliseconds(seconds: float) -> int:
    """How many fit; 1.001 s are 1001, though 1.001 * 1000 is less."""
    nearest = round(seconds * 1000)
    return nearest if nearest / 1000 <= seconds else nearest - 1
