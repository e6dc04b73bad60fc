"""What the page holds of a video, as its script reads it."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any

import numpy as np

from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.report.names import heard_and_seen
from ccln.pipeline.report.style import attention_strength, class_numbers, pack_lanes
from ccln.pipeline.segments import SEGMENT_SECONDS

PEAKS_PER_SECOND = 50


@dataclass(frozen=True, eq=False)
class PageVideo:
    """A video as the page shows it.

    Raises:
        ValueError: the peaks are not numbers from 0 to 1.
    """

    located: LocatedVideo
    peaks: np.ndarray
    """float32 (bin,), each 0 to 1, of `waveform_peaks`."""

    def __post_init__(self) -> None:
        if self.peaks.ndim != 1 or not np.all((self.peaks >= 0) & (self.peaks <= 1)):
            raise ValueError(f"{self.located.path}: peaks {self.peaks.shape} need to be (bin,), each from 0 to 1")

    def events(self) -> list[dict[str, Any]]:
        """The events in order of time, each with its lane among those of its class, for JSON."""
        lanes: dict[str, Iterator[int]] = {
            label: iter(pack_lanes([event for event in self.located.events if event.label == label]))
            for label in class_numbers(self.located.events)
        }
        return [
            {
                "label": event.label,
                "start": event.start_seconds,
                "end": event.end_seconds,
                "confidence": round(event.confidence, 3),
                "lane": next(lanes[event.label]),
                **({"beside": beside} if (beside := heard_and_seen(event)) else {}),
            }
            for event in self.located.events
        ]

    def details(self) -> dict[str, Any]:
        """All that is needed of the open video only, for JSON; long arrays as bytes in base64, 0 to 255."""
        strength = attention_strength(self.located.attention)
        return {
            "segmentSeconds": float(SEGMENT_SECONDS),
            "minimumSeconds": self.located.provenance.minimum_duration_seconds,
            **{
                name: [None if value is None else round(value, 3) for value in track]
                for name, track in self.located.known_tracks.items()
            },
            "labels": _runs(self.located.labels),
            "attention": {
                "height": strength.shape[1],
                "width": strength.shape[2],
                "values": _bytes(strength),
            },
            "peaks": _bytes(self._fitting_peaks()),
        }

    def _fitting_peaks(self) -> np.ndarray:
        """As many as the video lasts: the audio of a file may be shorter than its video stream."""
        count = max(1, ceil(self.located.duration_seconds * PEAKS_PER_SECOND))
        peaks = self.peaks[:count]
        return np.pad(peaks, (0, count - len(peaks)))


def waveform_peaks(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """The loudest sample of every fiftieth of a second, all that the page draws of the audio.

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
