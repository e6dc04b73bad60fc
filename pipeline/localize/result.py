"""What localization finds in a video: events, the tracks that they come from, and what made them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ccln.pipeline.segments import SEGMENT_SECONDS

if TYPE_CHECKING:
    import pandas

# Events end where their video does up to the rounding of floating point; more than this is an error.
_TOLERANCE_SECONDS = 0.001


@dataclass(frozen=True)
class Named:
    """A thing of the open vocabulary in an event."""

    name: str
    probability: float
    """From 0 to 1, mean over the event."""


@dataclass(frozen=True)
class Event:
    """Something both seen and heard, from `start_seconds` up to but not including `end_seconds` of its video."""

    label: str
    """Name of the trained class, or in the open vocabulary; "unknown" where neither is sure, "event" where no name was
    asked for."""
    start_seconds: float
    end_seconds: float
    confidence: float
    """From 0 to 1."""
    named_by: Literal["trained", "open", "none"] = "trained"
    """Where the label comes from."""
    heard: tuple[Named, ...] = ()
    """The five most probable of AudioSet's classes, where the extractors have such."""
    seen: tuple[Named, ...] = ()
    """The five most probable of ImageNet's classes, likewise."""

    @property
    def start_milliseconds(self) -> int:
        """The start, to the nearest millisecond."""
        return round(self.start_seconds * 1000)

    @property
    def end_milliseconds(self) -> int:
        """The end, to the nearest millisecond."""
        return round(self.end_seconds * 1000)


@dataclass(frozen=True)
class Provenance:
    """What the events of a video were made with."""

    ccln_version: str
    weights_sha256: str
    """Of the checkpoint's weights, as its config.json states it."""
    class_names: tuple[str, ...]
    """All classes that the checkpoint knows."""
    event_threshold: float
    """Least event probability of an event's segments."""
    minimum_duration_seconds: int
    """Shorter events are left out, unless the video itself is shorter."""
    hop_seconds: int
    """From the start of one window of the network to that of the next."""


@dataclass(frozen=True)
class VideoFormat:
    """The picture of a video file as its header describes it."""

    height: int
    """Pixels, as stored, before a rotation."""
    width: int
    """Pixels, as stored, before a rotation."""
    rate_hz: float
    """Frames a second on average; 0 where the file does not say."""


@dataclass(frozen=True, eq=False, repr=False)
class LocatedVideo:
    """A video and what was found in it.

    Times are whole milliseconds: others are rounded, so that no event becomes empty or ends after the video, and events
    are sorted by time. Tracks have one number for each segment of a second that the video covers.

    Raises:
        ValueError: the duration is no length, an event is empty or not within the video, or tracks, labels and
            attention differ in length or hold impossible numbers.
    """

    path: Path
    """The file, as it was named."""
    duration_seconds: float
    events: tuple[Event, ...]
    """Of any number of classes; those of different classes may overlap in time."""
    labels: tuple[str, ...]
    """(segment,): in an event its label, else the most probable class; so, too, in what is too short for an event."""
    seen: np.ndarray
    """float32 (segment,), 0 to 1: visual evidence for that class, where there is no name for the most probable one."""
    heard: np.ndarray
    """float32 (segment,), 0 to 1: evidence for that class in the audio alone, likewise."""
    event_probability: np.ndarray
    """float32 (segment,), 0 to 1: calibrated probability of an event, both seen and heard; events are made of it."""
    attention: np.ndarray
    """float32 (segment, height, width): audio-guided visual attention; a segment's numbers add up to one."""
    video_format: VideoFormat
    provenance: Provenance
    seeable: np.ndarray | None = None
    """bool (segment,): False where no picture could show the label, since ImageNet has no name for it, and `seen` is
    0. If None, every label can be seen."""
    lost_seconds: Mapping[str, float] = field(default_factory=dict)
    """How much of "video" and "audio" damage to the file took, where any."""

    def __post_init__(self) -> None:
        """Check everything, and round times to milliseconds."""
        if not 0 <= self.duration_seconds < math.inf:
            raise ValueError(
                f"{self.path}: duration_seconds is {self.duration_seconds}; give the video's length, 0 or more"
            )
        count = len(self.event_probability)
        for name, track in self.tracks.items():
            if track.shape != (count,) or not np.all((track >= 0) & (track <= 1)):
                raise ValueError(f"{self.path}: the track {name!r} {track.shape} needs {count} numbers from 0 to 1")
        if self.seeable is not None and (self.seeable.shape != (count,) or self.seen[~self.seeable].any()):
            raise ValueError(f"{self.path}: seeable {self.seeable.shape} needs {count} values, with seen 0 where False")
        if len(self.labels) != count:
            raise ValueError(f"{self.path}: {len(self.labels)} labels; expected {count}, one for each segment")
        if self.attention.ndim != 3 or len(self.attention) != count or 0 in self.attention.shape[1:]:
            raise ValueError(f"{self.path}: attention is {self.attention.shape}; expected ({count}, height, width)")
        if not np.all((self.attention >= 0) & (self.attention < np.inf)):
            raise ValueError(f"{self.path}: attention has a number that is negative or not finite")
        last = _whole_milliseconds(self.duration_seconds)
        rounded = [self._rounded(event, last) for event in self.events]
        rounded.sort(key=lambda event: (event.start_seconds, event.end_seconds, event.label))
        object.__setattr__(self, "events", tuple(rounded))
        object.__setattr__(self, "duration_seconds", last / 1000)

    def __repr__(self) -> str:
        """Name, length and events, not the arrays."""
        events = "1 event" if len(self.events) == 1 else f"{len(self.events)} events"
        listed = "".join(f"; {e.label} {e.start_seconds:g} to {e.end_seconds:g} s" for e in self.events[:3])
        more = "; ..." if len(self.events) > 3 else ""
        return f"<LocatedVideo {self.path.name}, {self.duration_seconds:g} s, {events}{listed}{more}>"

    @property
    def tracks(self) -> Mapping[str, np.ndarray]:
        """The three tracks by the names under which they are shown: seen, heard and event."""
        return {"seen": self.seen, "heard": self.heard, "event": self.event_probability}

    @property
    def known_tracks(self) -> Mapping[str, list[float | None]]:
        """The same, with None where a modality can say nothing about the label: what is not `seeable`."""
        seeable = np.ones(len(self.seen), bool) if self.seeable is None else self.seeable
        seen = [value if known else None for value, known in zip(self.seen.tolist(), seeable, strict=True)]
        return {"seen": seen, "heard": self.heard.tolist(), "event": self.event_probability.tolist()}

    @property
    def resolved_path(self) -> Path:
        """The absolute path, see `absolute`."""
        return absolute(self.path)

    def to_dict(self) -> dict[str, Any]:
        """All but the attention, ready for `json.dumps`; docs/localization-json.md describes every field."""
        return {
            "path": str(self.resolved_path),
            "duration_seconds": self.duration_seconds,
            "height": self.video_format.height,
            "width": self.video_format.width,
            "frame_rate_hz": round(self.video_format.rate_hz, 3),
            "lost_seconds": {kind: round(self.lost_seconds.get(kind, 0.0), 3) for kind in ("video", "audio")},
            "made_by": {**asdict(self.provenance), "class_names": list(self.provenance.class_names)},
            "events": [
                {
                    **asdict(event),
                    "confidence": round(event.confidence, 4),
                    "heard": list(map(asdict, event.heard)),
                    "seen": list(map(asdict, event.seen)),
                }
                for event in self.events
            ],
            "tracks": {
                "segment_seconds": float(SEGMENT_SECONDS),
                "labels": list(self.labels),
                **{name: [round(float(value), 4) for value in track] for name, track in self.tracks.items()},
                "seeable": [value is not None for value in self.known_tracks["seen"]],
            },
        }

    def to_dataframe(self) -> "pandas.DataFrame":
        """One row for each event: path, label, start_seconds, end_seconds, confidence.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_dataframe needs pandas, which is not installed: pip install pandas") from error
        names = ["label", "start_seconds", "end_seconds", "confidence"]
        rows = [(str(self.resolved_path), *(getattr(event, name) for name in names)) for event in self.events]
        return pd.DataFrame(rows, columns=["path", *names])

    def _rounded(self, event: Event, last_milliseconds: int) -> Event:
        start, end = float(event.start_seconds), float(event.end_seconds)  # json cannot write numpy's numbers
        within = 0 <= start < end <= self.duration_seconds + _TOLERANCE_SECONDS  # NaN is not
        if not within or start >= self.duration_seconds or last_milliseconds < 1:
            raise ValueError(
                f"{self.path}: the event {event.label!r} from {start} to {end} s is not within the video's "
                f"{self.duration_seconds} s; give events of at least a millisecond that end with their video"
            )
        first = min(round(start * 1000), last_milliseconds - 1)
        end_milliseconds = max(min(round(end * 1000), last_milliseconds), first + 1)
        return replace(
            event,
            start_seconds=first / 1000,
            end_seconds=end_milliseconds / 1000,
            confidence=float(event.confidence),
        )


def absolute(path: Path) -> Path:
    """The absolute path of a file, the same however it is spelled; a link to a file keeps its own name."""
    return path.parent.resolve() / path.name


def _whole_milliseconds(seconds: float) -> int:
    """How many fit; 1.001 s are 1001, though 1.001 * 1000 is less."""
    nearest = round(seconds * 1000)
    return nearest if nearest / 1000 <= seconds else nearest - 1
