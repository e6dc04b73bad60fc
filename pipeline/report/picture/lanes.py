"""Events as bars in lanes: which lane an event is in, and what is written in its bar."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ccln.pipeline.localize.result import Event
from ccln.pipeline.report.picture.words import short_names

DPI = 100
LETTERS = 9
"""Points, of the letters in bars."""

# Told apart by the colour-blind, too, and dark enough for white letters; what tells a class is its name.
_COLORS = ("#00785a", "#00629b", "#b34a00", "#86508f")


@dataclass(frozen=True)
class Bar:
    """An event as it is drawn."""

    event: Event
    text: str
    """Within it; empty where there is no room."""
    color: str


@dataclass(frozen=True)
class Lane:
    """A row of bars that do not overlap."""

    name: str
    """At its left: the class; empty where the bars say it, or the lane above."""
    bars: Sequence[Bar]
    """In order of time."""


def lanes_of(events: Sequence[Event], pixels_per_second: float, most: int) -> list[Lane]:
    """One lane if nothing overlaps and every bar has room for its name, else one a class, or more where it overlaps.

    Args:
        events: in any order.
        pixels_per_second: of the axis of time.
        most: lanes with a class of their own; the classes with the fewest events share the rest.

    Returns:
        At least one lane.
    """
    events = sorted(events, key=lambda event: (event.start_seconds, event.end_seconds, event.label))
    names = short_names({event.label for event in events})
    labels = list(dict.fromkeys(event.label for event in events))
    colors = {label: _COLORS[place % len(_COLORS)] for place, label in enumerate(labels)}

    def bar(event: Event, *texts: str) -> Bar:
        room = pixels_per_second * (event.end_seconds - event.start_seconds) - 8
        return Bar(
            event, next((text for text in texts if text_width(text, LETTERS, "bold") <= room), ""), colors[event.label]
        )

    together = [bar(e, f"{names[e.label]}  {e.confidence:.2f}", names[e.label]) for e in events]
    if all(one.text for one in together) and all(
        one.end_seconds <= other.start_seconds for one, other in pairwise(events)
    ):
        return [Lane("", together)]
    by_count = [label for label, _ in Counter(event.label for event in events).most_common()]
    own = labels if len(labels) <= most else [label for label in labels if label in by_count[: most - 1]]
    lanes = []
    for label in own:
        rows = _rows([bar(e, f"{e.confidence:.2f}") for e in events if e.label == label])
        lanes += [Lane("" if number else names[label], row) for number, row in enumerate(rows)]
    if rest := len(labels) - len(own):
        rows = _rows([one for one in together if one.event.label not in own])
        lanes += [Lane("" if number else f"{rest} other classes", row) for number, row in enumerate(rows)]
    return lanes


def _rows(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Each bar, in order of time, in the first row that is free by then."""
    rows: list[list[Bar]] = []
    for bar in bars:
        free = (row for row in rows if row[-1].event.end_seconds <= bar.event.start_seconds)
        row = next(free, None)
        if row is None:
            rows.append([bar])
        else:
            row.append(bar)
    return rows


@lru_cache(4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Pixels that a line of text takes."""
    figure = Figure(figsize=(0.1, 0.1), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure.text(0, 0, text, fontsize=size, fontweight=weight).get_window_extent().width
