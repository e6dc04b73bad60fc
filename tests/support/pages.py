"""Videos to show on a page, and a browser to open it in."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from ccln.pipeline.localize.result import Event
from ccln.pipeline.report.page import PageVideo, waveform_peaks
from support.located import located_video

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

DURATION_SECONDS = 6.0
EVENTS = (Event("Dog", 1.5, 3.0, 0.75), Event("Church bell", 2.5, 4.0, 0.5), Event("Dog", 5.0, 6.0, 0.25))


def make_video(
    path: Path, seconds: float = DURATION_SECONDS, codec: str = "libvpx", size: tuple[int, int] = (64, 48)
) -> Path:
    """Write a video whose frames, by default of 64 × 48 pixels, get brighter, at ten frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(round(10 * seconds)):
            image = np.full((size[1], size[0], 3), 4 * number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def page_video(
    path: Path,
    events: tuple[Event, ...] = EVENTS,
    duration_seconds: float = DURATION_SECONDS,
    segments: int = 6,
    grid: tuple[int, int] = (2, 3),
    labels: tuple[str, ...] | None = None,
) -> PageVideo:
    """Tracks that rise, attention that moves over a grid, and audio that is loud in its second half.

    Args:
        path: Of the video.
        events: Of any classes.
        duration_seconds: Of the video.
        segments: How many.
        grid: Height and width of the attention.
        labels: Each segment's class; if None, of the first event that it touches, else "Silence".
    """
    rising = np.linspace(0, 1, segments, dtype=np.float32)
    regions = grid[0] * grid[1]
    attention = np.zeros((segments, *grid), np.float32)
    attention.reshape(segments, regions)[range(segments), np.arange(segments) % regions] = 1
    samples = np.full(round(duration_seconds * 1000), 0.5, np.float32)
    samples[: len(samples) // 2] = 0.1
    if labels is None:
        there = [[e.label for e in events if e.start_seconds < s + 1 and s < e.end_seconds] for s in range(segments)]
        labels = tuple(its[0] if its else "Silence" for its in there)
    tracks = {"seen": rising, "heard": rising[::-1], "event_probability": rising / 2}
    located = located_video(path, duration_seconds, events, labels=labels, attention=attention, **tracks)
    return PageVideo(located, waveform_peaks(samples, 1000))


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """The contrast ratio of two RGB colors, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio ."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Sequence[int]) -> float:
    """Relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance ."""
    shares = [part / 255 for part in colour]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
