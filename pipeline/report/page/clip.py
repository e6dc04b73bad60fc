"""What the page knows of a clip, as its script reads it."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any

import numpy as np

from ccln.pipeline.report.writers import LabelledTimeline, TrackedTimeline
from ccln.pipeline.report.writers.timeline import spans

PEAKS_PER_SECOND = 50

# A map without a preference would glow all over if its highest number were its brightest: the overlay's full strength
# is this many times the share that each region had if all had the same, or the clip's highest number if that is more.
_FULL_STRENGTH = 4


@dataclass(frozen=True, eq=False)
class PageClip:
    """A clip as the page shows it; each segment's class, too, if its timeline is a `LabelledTimeline`.

    Raises:
        ValueError: tracks, labels, attention or peaks have other shapes or numbers than said here.
    """

    timeline: TrackedTimeline
    attention: np.ndarray
    """float32 (segment, height, width), none negative: how much of its look each region gets."""
    peaks: np.ndarray
    """float32 (bin,), each 0 to 1, of `waveform_peaks`."""

    def __post_init__(self) -> None:
        path, tracks = self.timeline.path, self._tracks()
        count = len(tracks["both"])
        for name, track in tracks.items():
            if track.shape != (count,) or not np.all((track >= 0) & (track <= 1)):
                raise ValueError(f"{path}: the track {name!r} {track.shape} needs {count} numbers from 0 to 1")
        if isinstance(self.timeline, LabelledTimeline) and len(self.timeline.labels) != count:
            raise ValueError(f"{path}: {len(self.timeline.labels)} labels; expected {count}, one a segment")
        if self.attention.ndim != 3 or len(self.attention) != count or 0 in self.attention.shape[1:]:
            raise ValueError(f"{path}: attention is {self.attention.shape}; expected ({count}, height, width)")
        if not np.all((self.attention >= 0) & (self.attention < np.inf)):
            raise ValueError(f"{path}: attention has a number that is negative or not finite")
        if self.peaks.ndim != 1 or not np.all((self.peaks >= 0) & (self.peaks <= 1)):
            raise ValueError(f"{path}: peaks {self.peaks.shape} need to be (bin,), each from 0 to 1")

    def events(self) -> list[dict[str, Any]]:
        """The events in order of time, for JSON."""
        return [
            {
                "label": span.label,
                "start": span.start_seconds,
                "end": span.end_seconds,
                "confidence": round(span.confidence, 3),
            }
            for span in spans(self.timeline)
        ]

    def details(self) -> dict[str, Any]:
        """All that only the open clip needs, for JSON; long arrays as bytes in base64, 0 to 255."""
        full = max(float(self.attention.max(initial=0)), _FULL_STRENGTH * self._mean_attention())
        return {
            "segmentSeconds": float(getattr(self.timeline, "segment_seconds", 1.0)),
            **{name: [round(float(value), 3) for value in track] for name, track in self._tracks().items()},
            "labels": _runs(self.timeline.labels) if isinstance(self.timeline, LabelledTimeline) else None,
            "attention": {
                "height": self.attention.shape[1],
                "width": self.attention.shape[2],
                "values": _bytes(self.attention / full if full else self.attention),
            },
            "peaks": _bytes(self._fitting_peaks()),
        }

    def _tracks(self) -> dict[str, np.ndarray]:
        timeline = self.timeline
        return {"seen": timeline.seen, "heard": timeline.heard, "both": timeline.both}

    def _mean_attention(self) -> float:
        return float(self.attention.mean()) if self.attention.size else 0.0

    def _fitting_peaks(self) -> np.ndarray:
        """As many as the clip lasts: the sound of a file may be shorter than its picture."""
        count = max(1, ceil(self.timeline.duration_seconds * PEAKS_PER_SECOND))
        peaks = self.peaks[:count]
        return np.pad(peaks, (0, count - len(peaks)))


def waveform_peaks(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """The loudest sample of every fiftieth of a second, all that the page draws of a sound.

    The peaks of whole seconds may be computed piece by piece and joined.

    Args:
        samples: float32 mono (sample,), -1 to 1; what is beyond counts as full, NaN as silence.
        rate_hz: samples per second, at least 50.

    Returns:
        float32 (bin,), 0 to 1; the last bin may cover less than the others.
    """
    if samples.ndim != 1 or rate_hz < PEAKS_PER_SECOND:
        raise ValueError(f"samples {samples.shape} at {rate_hz} Hz; expected (sample,) at {PEAKS_PER_SECOND} or more")
    count = ceil(len(samples) * PEAKS_PER_SECOND / rate_hz)
    starts = np.arange(count) * rate_hz // PEAKS_PER_SECOND
    loudness = np.nan_to_num(np.abs(samples), nan=0.0, posinf=1.0).astype(np.float32)
    return np.minimum(np.maximum.reduceat(loudness, starts), 1) if count else np.zeros(0, np.float32)


def _runs(labels: Sequence[str]) -> dict[str, list[Any]]:
    """The names, each once, and how often in a row each of them, by its number, comes."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return {
        "names": list(numbers),
        "runs": [[numbers[label], sum(1 for _ in run)] for label, run in groupby(labels)],
    }


def _bytes(values: np.ndarray) -> str:
    return b64encode(np.rint(255 * values.clip(0, 1)).astype(np.uint8).tobytes()).decode("ascii")
