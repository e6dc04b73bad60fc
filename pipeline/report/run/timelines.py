"""A clip's seconds as bars on one axis of time: what is true above, what was answered below."""

from collections.abc import Callable, Sequence

import numpy as np

from ccln.pipeline.report.run.markup import Markup, drawing, element
from ccln.pipeline.report.run.matrix import shortened
from ccln.pipeline.segments import equal_runs

_WIDTH, _LEFT, _RIGHT = 350, 50, 6
_ROW, _TRACK = 24, 44


def segment_timeline(
    names: Sequence[str], truth: np.ndarray, answer: np.ndarray, probability: np.ndarray, *, label: str
) -> Markup:
    """Truth, answer and the probability that there is an event, second by second.

    Args:
        names: Of the labels, the background last.
        truth: int64 (segment,).
        answer: int64 (segment,); where it is wrong the bar has a dashed edge, and each second a cross.
        probability: float32 (segment,), 0 to 1.
        label: The picture in words.
    """
    background, along = len(names) - 1, _along(len(truth))
    parts = [_name("truth", 17), _name("answer", 17 + _ROW + 4)]
    for y, labels in ((0, truth), (_ROW + 4, answer)):
        # A run is of one label, and right or wrong as a whole, so that a bar has one look.
        kinds = 2 * labels + (labels == truth)
        for start, end in equal_runs(kinds):
            value = int(labels[start])
            right = labels is truth or bool(labels[start] == truth[start])
            look = "true" if labels is truth and value != background else "right" if right else "wrong"
            if right and value == background:
                look = "none"
            parts += _bar(names[value], along(start), along(end), y, look, f"{start}–{end} s")
    wrong_y = 2 * _ROW + 14
    parts += [
        element("text", "×", x=along(second + 0.5), y=wrong_y, class_="middle bold")
        for second in np.flatnonzero(truth != answer).tolist()
    ]
    top = 2 * _ROW + 20
    parts.append(_name("P(event)", top + _TRACK / 2 + 4))
    for share in (0, 0.5, 1):
        y = top + _TRACK * (1 - share)
        look = "mark" if share == 0.5 else "grid"
        parts.append(element("line", x1=along(0), x2=along(len(truth)), y1=y, y2=y, class_=look))
    steps = [
        (along(second + side), top + _TRACK * (1 - float(value)))
        for second, value in enumerate(probability)
        for side in (0, 1)
    ]
    parts.append(element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in steps), class_="curve thick a"))
    return drawing(_WIDTH, top + _TRACK + 18, *parts, *_axis(along, len(truth), top + _TRACK), label=label)


def query_timeline(segments: int, length: int, starts: Sequence[tuple[str, int]], *, label: str) -> Markup:
    """One event of known length laid at several starts, each in a row of its own, the true one first.

    Args:
        segments: Of the clip, a second each.
        length: Of the event, in seconds.
        starts: Name of the row and where the event starts in it.
        label: The picture in words.
    """
    along, parts = _along(segments), []
    true = starts[0][1]
    for number, (name, start) in enumerate(starts):
        y = number * (_ROW + 4)
        parts.append(_name(name, y + 17))
        parts.append(element("rect", x=along(0), y=y, width=along(segments) - along(0), height=_ROW, class_="none"))
        look = "true" if not number else "right" if start == true else "wrong"
        parts += _bar(f"{start}–{start + length} s", along(start), along(start + length), y, look, name)
    bottom = len(starts) * (_ROW + 4)
    return drawing(_WIDTH, bottom + 18, *parts, *_axis(along, segments, bottom), label=label)


def _along(segments: int) -> Callable[[float], float]:
    return lambda second: _LEFT + (_WIDTH - _LEFT - _RIGHT) * second / segments


def _name(text: str, y: float) -> Markup:
    return element("text", text, x=_LEFT - 5, y=y, class_="soft end")


def _bar(text: str, start: float, end: float, y: float, look: str, when: str) -> list[Markup]:
    title = element("title", f"{text}, {when}")
    bar = element("rect", title, x=start + 0.5, y=y, width=end - start - 1, height=_ROW, class_=look)
    shown = shortened(text, (end - start - 8) / 6.4)
    fits = len(shown) > 2 or shown == text
    return [bar, *([element("text", title, shown, x=start + 4, y=y + 16)] if fits else [])]


def _axis(along: Callable[[float], float], segments: int, y: float) -> list[Markup]:
    ticks = []
    for second in range(segments + 1):
        x = along(second)
        ticks.append(element("line", x1=x, x2=x, y1=y, y2=y + 4, class_="axis"))
        text = f"{second} s" if second == segments else str(second)
        place = {"x": _WIDTH, "class_": "soft end"} if second == segments else {"x": x, "class_": "soft middle"}
        ticks.append(element("text", text, y=y + 15, **place))
    return [element("line", x1=along(0), x2=along(segments), y1=y, y2=y, class_="axis"), *ticks]
