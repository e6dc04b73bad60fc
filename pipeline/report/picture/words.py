"""What a timeline's picture says in words: times, names, and what was found in short."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import count

from ccln.pipeline.localize.result import Event
from ccln.pipeline.report.clock import clock
from ccln.pipeline.report.writers.text import one_line

_STEPS_SECONDS = (0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
_MOST_LISTED = 6
_IN_SECONDS = 120  # shorter files are told in seconds


def round_step(duration_seconds: float, most: int) -> float:
    """The least round number of seconds that divides a duration into no more than ``most`` parts."""
    hours = (3600.0 * 2**power for power in count())
    short = (step for step in _STEPS_SECONDS if duration_seconds <= most * step)
    return next(short, None) or next(step for step in hours if duration_seconds <= most * step)


def time_within(seconds: float, duration_seconds: float) -> str:
    """A time within a file of the given length: 2.5, or in longer files 1:05, or 1:00:05."""
    return f"{seconds:.1f}" if duration_seconds < _IN_SECONDS else clock(seconds, hours=duration_seconds >= 3600)


def clock_unit(duration_seconds: float) -> str:
    """What `time_within` counts in."""
    if duration_seconds < _IN_SECONDS:
        return "seconds"
    return "minutes:seconds" if duration_seconds < 3600 else "hours:minutes:seconds"


def printable(text: str) -> str:
    """The text on one line; what a file's name holds that is no text, as question marks."""
    return one_line(text).encode("utf-8", errors="replace").decode("utf-8")


def short_names(labels: Collection[str]) -> dict[str, str]:
    """Of each class what stands before its name's first comma, or the whole name where two would be the same."""
    labels = set(labels)
    firsts = Counter(label.split(",")[0] for label in labels)
    return {
        label: printable(first if first and firsts[first] == 1 else label)
        for label, first in ((label, label.split(",")[0]) for label in labels)
    }


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The text, or as many of its first and last letters as fit."""
    if fits(text):
        return text
    kept = bisect_left(range(1, len(text)), True, key=lambda count: not fits(_without_middle(text, count)))
    return _without_middle(text, max(kept, 1))


def two_lines(text: str, fits: Callable[[str], bool]) -> str:
    """The text on one line or two, broken between words, each shortened if it does not fit."""
    if fits(text):
        return text
    words = text.split(" ")
    first = max((n for n in range(1, len(words)) if fits(" ".join(words[:n]))), default=1)
    lines = (" ".join(words[:first]), " ".join(words[first:]))
    return "\n".join(shortened(line, fits) for line in lines if line)


def found_in_short(events: Sequence[Event], duration_seconds: float, fits: Callable[[str], bool]) -> str:
    """What was found: every event with its times, or where that is too much how many of which class.

    Args:
        events: in order of time.
        duration_seconds: of the file.
        fits: whether a line of text is short enough.
    """
    if not events:
        return "no event both seen and heard"
    names = short_names({event.label for event in events})
    unit = " s" if duration_seconds < _IN_SECONDS else ""
    listed = ", ".join(
        f"{names[event.label]} {time_within(event.start_seconds, duration_seconds)}"
        f"–{time_within(event.end_seconds, duration_seconds)}{unit}"
        for event in events[: _MOST_LISTED + 1]
    )
    if len(events) <= _MOST_LISTED and fits(listed):
        return listed
    counts = Counter(names[event.label] for event in events).most_common()
    total = f"{len(events)} event{'s' if len(events) > 1 else ''}: "
    for shown in range(len(counts), 0, -1):
        rest = len(counts) - shown
        others = [f"and {rest} other class{'es' if rest > 1 else ''}"] if rest else []
        line = total + ", ".join([f"{number} {name}" for name, number in counts[:shown]] + others)
        if fits(line):
            return line
    return shortened(total + ", ".join(name for name, _ in counts), fits)


def _without_middle(text: str, kept: int) -> str:
    return text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]
