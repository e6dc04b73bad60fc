"""Clips to show on a page, and a browser to look at it with."""

import shutil
from pathlib import Path

import av
import numpy as np
from timelines import Tracked

from ccln.pipeline.events import Event
from ccln.pipeline.page import PageClip, waveform_peaks

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

DURATION_SECONDS = 6.0
EVENTS = (Event("Dog", 1.5, 3.0, 0.75), Event("Church bell", 2.5, 4.0, 0.5), Event("Dog", 5.0, 6.0, 0.25))


def make_video(path: Path, seconds: float = DURATION_SECONDS, codec: str = "libvpx") -> Path:
    """A picture of 64 × 48 pixels that gets brighter, ten frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(round(10 * seconds)):
            picture = np.full((48, 64, 3), 4 * number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def page_clip(
    path: Path, events: tuple[Event, ...] = EVENTS, duration_seconds: float = DURATION_SECONDS, segments: int = 6
) -> PageClip:
    """Tracks that rise, attention that wanders over a grid of 2 × 3, and a sound that is loud in its second half."""
    rising = np.linspace(0, 1, segments, dtype=np.float32)
    attention = np.zeros((segments, 2, 3), np.float32)
    attention.reshape(segments, 6)[range(segments), np.arange(segments) % 6] = 1
    sound = np.full(round(duration_seconds * 1000), 0.5, np.float32)
    sound[: len(sound) // 2] = 0.1
    timeline = Tracked(path, duration_seconds, events, rising, rising[::-1], rising / 2)
    return PageClip(timeline, attention, waveform_peaks(sound, 1000))
