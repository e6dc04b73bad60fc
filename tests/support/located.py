"""Located videos to write, and how hypothesis makes more."""

from collections.abc import Callable, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
from hypothesis import strategies as st

from ccln.pipeline.localize.result import Event, LocatedVideo, Provenance, VideoFormat

PROVENANCE = Provenance("1.2.3", "0" * 64, ("Church bell", "Dog"), 0.5, 2, 2)
FORMAT = VideoFormat(height=48, width=64, rate_hz=25.0)


def located_video(
    path: Path | str = "clip.mp4", duration_seconds: float = 6.0, events: Sequence[Event] = (), **parts: Any
) -> LocatedVideo:
    """A located video, with tracks of zeros and uniform attention unless they are given.

    Args:
        path: of the video, which need not be there.
        duration_seconds: of the video.
        events: in any order.
        **parts: any other field of `LocatedVideo`; the first of the tracks decides how many segments there are.
    """
    tracks = ("seen", "heard", "event_probability")
    given = next((len(parts[name]) for name in tracks if name in parts), None)
    count = min(ceil(duration_seconds), 60) if given is None else given
    evenly = np.full((count, 7, 7), 1 / 49, np.float32)
    filled = {
        **{name: np.zeros(count, np.float32) for name in tracks},
        **{"labels": ("Dog",) * count, "attention": evenly, "video_format": FORMAT, "provenance": PROVENANCE},
        **parts,
    }
    return LocatedVideo(Path(path), duration_seconds, tuple(events), **filled)


BELL = Event("Church bell", 1.0, 4.0, 0.875)
DOG = Event("Dog", 2.5, 6.006, 0.5)
BELL_AGAIN = Event("Church bell", 5.0, 6.0, 0.25)
VIDEO = located_video("videos/tower.mp4", 6.006, (DOG, BELL, BELL_AGAIN))

# Every character with a meaning in one of the formats, and some that are unusual.
NASTY = (
    "&amp; <b>Bell</b> & co",
    "00 --> 01",
    '"quoted", and; more',
    "=SUM(A1:A9)",
    "back\\slash {\\an8}",
    "Glocke läutet",
    "教会の鐘 🔔👩‍🚀",
    "פעמון כנסייה",
    "]]> <!-- no comment --> <?x?>",
    "NOTE",
    "two  spaces",
    " around ",
    "",
)
BROKEN = ("two\nlines", "an\n\nempty one", "win\r\ndows", "old\rmac", "tab\there", "line\u2028separator", "nul\x00\x07")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(NASTY + BROKEN)


@st.composite
def located_videos(
    draw: st.DrawFn, labels: st.SearchStrategy[str] = texts, most_milliseconds: int = 2 * 10**9
) -> LocatedVideo:
    """Up to five events within a video of a millisecond to weeks, all times on whole milliseconds, in any order."""
    duration = draw(st.integers(1, 20_000) | st.integers(1, most_milliseconds))
    events = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, duration - 1))
        end = draw(st.integers(start + 1, duration) | st.just(duration))
        events.append(Event(draw(labels), start / 1000, end / 1000, draw(st.floats(0, 1))))
    return located_video("clip.mp4", duration / 1000, events)


def expected(located: LocatedVideo, label_as: Callable[[str], str] = str) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds and what becomes of the label, sorted."""
    return sorted(
        (round(event.start_seconds * 1000), round(event.end_seconds * 1000), label_as(event.label))
        for event in located.events
    )


def as_one_line(label: str) -> str:
    """A label as formats of lines write it."""
    return "".join(
        " " if broken else "".join(run)
        for broken, run in groupby(label, lambda character: category(character) in ("Cc", "Zl", "Zp"))
    )
