"""Timelines to write, and how hypothesis makes more."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from unicodedata import category

import numpy as np
from hypothesis import strategies as st

from ccln.pipeline.events import Event


@dataclass(frozen=True)
class Plain:
    """The least that a writer needs."""

    path: Path
    duration_seconds: float
    events: tuple[Event, ...]


@dataclass(frozen=True, eq=False)
class Tracked(Plain):
    seen: np.ndarray
    heard: np.ndarray
    both: np.ndarray


BELL = Event("Church bell", 1.0, 4.0, 0.875)
DOG = Event("Dog", 2.5, 6.006, 0.5)
BELL_AGAIN = Event("Church bell", 5.0, 6.0, 0.25)
CLIP = Plain(Path("clips/tower.mp4"), 6.006, (DOG, BELL, BELL_AGAIN))

# Every character that means something to one of the formats, and some that only look odd.
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
def timelines(draw: st.DrawFn, labels: st.SearchStrategy[str] = texts, most_milliseconds: int = 2 * 10**9) -> Plain:
    """Up to five events within a clip of a millisecond to weeks, all times on whole milliseconds, in any order."""
    duration = draw(st.integers(1, 20_000) | st.integers(1, most_milliseconds))
    events = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, duration - 1))
        end = draw(st.integers(start + 1, duration) | st.just(duration))
        events.append(Event(draw(labels), start / 1000, end / 1000, draw(st.floats(0, 1))))
    return Plain(Path("clip.mp4"), duration / 1000, tuple(events))


def expected(timeline: Plain, label_as: Callable[[str], str] = str) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds and what becomes of the label, sorted."""
    return sorted(
        (round(event.start_seconds * 1000), round(event.end_seconds * 1000), label_as(event.label))
        for event in timeline.events
    )


def as_one_line(label: str) -> str:
    """What formats of lines make of a label."""
    return "".join(
        " " if broken else "".join(run)
        for broken, run in groupby(label, lambda character: category(character) in ("Cc", "Zl", "Zp"))
    )
