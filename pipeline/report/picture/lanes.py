"""Events as bars in lanes: which lane an event is in, and what is written in its bar or beside it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ccln.pipeline.localize.result import Event
from ccln.pipeline.report.names import short_names
from ccln.pipeline.report.style import class_color, class_numbers, pack_lanes

DPI = 100
LETTERS = 9
"""Size in points of the letters in and beside bars."""

_PADDING = 8  # pixels a text needs besides its own width


@dataclass(frozen=True)
class Bar:
    """An event as it is drawn."""

    event: Event
    color: str
    text: str
    """Empty where there is no room."""
    side: str
    """Where the text is: "within" the bar, to its "left" or its "right"."""


@dataclass(frozen=True)
class Lane:
    """A row of bars that do not overlap."""

    name: str
    """At its left: the class; empty where the bars say it, or the lane above."""
    bars: Sequence[Bar]
    """In order of time."""


def lanes_of(events: Sequence[Event], duration_seconds: float, pixels_per_second: float, most: int) -> list[Lane]:
    """One lane if nothing overlaps and every bar has room for its name, else one a class, or more where it overlaps.

    Args:
        events: in any order.
        duration_seconds: of the video.
        pixels_per_second: of the axis of time.
        most: lanes with a class of their own; the classes with the fewest events share the rest.

    Returns:
        At least one lane.
    """
    events = sorted(events, key=lambda event: (event.start_seconds, event.end_seconds, event.label))
    numbers = class_numbers(events)
    names = short_names(numbers)

    def lane(name: str, events: Sequence[Event], *, named: bool) -> Lane:
        """A lane whose bars show names, too, where there is room."""
        ends = [0.0, *(event.end_seconds for event in events)]
        starts = [*(event.start_seconds for event in events[1:]), duration_seconds]
        bars, free_from = [], 0.0
        for event, before, after in zip(events, ends, starts, strict=False):
            confidence, name_of = f"{event.confidence:.2f}", names[event.label]
            texts = (f"{name_of}  {confidence}", name_of, confidence) if named else (confidence,)
            room = {
                "within": event.end_seconds - event.start_seconds,
                "right": after - event.end_seconds,
                "left": event.start_seconds - max(before, free_from),
            }
            fitting = (
                (text, side)
                for side in room
                for text in texts
                if text_width(text, LETTERS, "bold") + _PADDING <= room[side] * pixels_per_second
            )
            text, side = next(fitting, ("", "within"))
            if side == "right":
                free_from = event.end_seconds + (text_width(text, LETTERS, "bold") + _PADDING) / pixels_per_second
            bars.append(Bar(event, class_color(numbers[event.label]), text, side))
        return Lane(name, bars)

    def lanes(name: str, events: Sequence[Event], *, named: bool = False) -> list[Lane]:
        """As many as it takes for no bars to overlap; the name is at the first."""
        placed = sorted(zip(pack_lanes(events), events, strict=True), key=lambda pair: pair[0])
        rows = [[event for _, event in row] for _, row in groupby(placed, key=lambda pair: pair[0])]
        return [lane("" if number else name, row, named=named) for number, row in enumerate(rows)]

    together = lane("", events, named=True)
    apart = all(one.end_seconds <= other.start_seconds for one, other in pairwise(events))
    if apart and all(bar.side == "within" and names[bar.event.label] in bar.text for bar in together.bars):
        return [together]
    by_count = [label for label, _ in Counter(event.label for event in events).most_common()]
    own = [label for label in numbers if len(numbers) <= most or label in by_count[: most - 1]]
    made = [row for label in own for row in lanes(names[label], [e for e in events if e.label == label])]
    if rest := len(numbers) - len(own):
        made += lanes(f"{rest} other classes", [e for e in events if e.label not in own], named=True)
    return made


@lru_cache(4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Pixels that a line of text takes."""
    figure = Figure(figsize=(0.1, 0.1), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure.text(0, 0, text, fontsize=size, fontweight=weight).get_window_extent().width
