"""Names of files and classes as they are drawn: class names come from anywhere, and may hold anything."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection

from ccln.pipeline.localize.result import Event
from ccln.pipeline.report.writers.text import one_line
from ccln.pipeline.visible import visible


def printable(text: str) -> str:
    """The text on one line, what else is no text in it escaped."""
    return visible(one_line(text))


def short_names(labels: Collection[str]) -> dict[str, str]:
    """Of each class the part of its name before the first comma, or the whole name where two would be the same."""
    labels = set(labels)
    firsts = {label: label.split(",")[0] for label in labels}
    counts = Counter(firsts.values())
    return {label: printable(first if first and counts[first] == 1 else label) for label, first in firsts.items()}


def heard_and_seen(event: Event) -> str:
    """What is heard and what is seen most in an event without a trained name; empty where that is not known."""
    if event.named_by == "trained" or not (event.heard and event.seen):
        return ""
    most = event.heard[0], event.seen[0]
    heard, seen = (f"{thing.name.split(',')[0]} {thing.probability:.0%}" for thing in most)
    return f"heard {heard}, seen {seen}"


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The text, or as many of its first and last letters as fit around an ellipsis; at the least the first."""
    if fits(text):
        return text

    def without_middle(kept: int) -> str:
        return text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]

    kept = bisect_left(range(1, len(text)), True, key=lambda count: not fits(without_middle(count)))
    return without_middle(max(kept, 1))
