"""Small plots as SVG: curves over epochs, histograms of whole seconds, dots of single runs."""

import math
from collections.abc import Callable, Mapping, Sequence

from ccln.pipeline.report.run.markup import Markup, drawing, element, joined

WIDTH = 350
_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 190, 46, 10, 10, 32
_STYLES = (("thick a", ""), ("b", "6 3"), ("c", "2 2"), ("", "9 3 2 3"), ("", "1 3"), ("a", "4 4"), ("b", "12 3"))


def line_chart(
    curves: Mapping[str, Sequence[float]], marked: int, *, label: str, log: bool = False, top: float | None = None
) -> Markup:
    """Curves over epochs with a legend below; the marked epoch stands out.

    Args:
        curves: By name, a value an epoch; what is not finite, or not above zero on a logarithmic axis, is left out.
        marked: Epoch, from 1.
        label: What the chart shows, in words.
        log: Whether the axis of values is logarithmic.
        top: Where a linear axis ends; if None, with the highest value.
    """
    drawable = {name: [v if _is_drawable(v, log) else math.nan for v in values] for name, values in curves.items()}
    finite = [v for values in drawable.values() for v in values if not math.isnan(v)] or [1.0]
    low, high = (min(finite), max(finite)) if log else (0.0, top or max(finite) or 1.0)
    if log and low == high:
        low, high = low / 2, high * 2
    epochs = len(next(iter(drawable.values()), ()))
    along = _scale(1, max(epochs, 2), _LEFT, WIDTH - _RIGHT)
    measure = math.log if log else float
    up = _scale(measure(low), measure(high), _HEIGHT - _BOTTOM, _TOP)
    parts = [_tick(up(measure(value)), value) for value in (_decades(low, high) if log else _round_numbers(low, high))]
    for epoch in sorted({1, *range(5, epochs - 2, 5), epochs}) if epochs else ():
        parts.append(element("text", str(epoch), x=along(epoch), y=_HEIGHT - 16, class_="soft middle"))
    parts.append(element("text", "epoch", x=WIDTH / 2, y=_HEIGHT - 2, class_="soft middle"))
    at = along(marked)
    parts.append(element("line", x1=at, x2=at, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="mark"))
    side = {"x": at - 4, "class_": "soft end"} if marked > epochs / 2 else {"x": at + 4, "class_": "soft"}
    parts.append(element("text", f"chosen: {marked}", y=_HEIGHT - _BOTTOM - 5, **side))
    legend, x, y = [], 6.0, _HEIGHT + 12.0
    for number, (name, values) in enumerate(drawable.items()):
        style, dash = _STYLES[number % len(_STYLES)]
        look = {"class_": f"curve {style}".strip(), "stroke_dasharray": dash or "none"}
        points = [(along(n), up(measure(v))) for n, v in enumerate(values, 1) if not math.isnan(v)]
        parts.append(element("polyline", points=" ".join(f"{px:.1f},{py:.1f}" for px, py in points), **look))
        wide = 34 + 6.2 * len(name)
        if x + wide > WIDTH and x > 6:
            x, y = 6.0, y + 16
        legend.append(element("line", x1=x, x2=x + 24, y1=y - 4, y2=y - 4, **look))
        legend.append(element("text", name, x=x + 28, y=y))
        x += wide + 6
    return drawing(WIDTH, y + 6, *parts, *legend, label=label)


def histogram(values: Sequence[int], *, label: str, before: str, after: str) -> Markup:
    """How often each whole number of seconds occurs, zero in the middle, the count above each bar.

    Args:
        values: Signed seconds.
        label: What the chart shows, in words.
        before: What a negative number means.
        after: What a positive one means.
    """
    reach = max([2, *(abs(value) for value in values)])
    counts = {second: sum(value == second for value in values) for second in range(-reach, reach + 1)}
    along, up = _scale(-reach - 0.5, reach + 0.5, 8, WIDTH - 8), _scale(0, max(*counts.values(), 1), 140, 20)
    wide = 0.8 * (along(1) - along(0))
    parts = []
    for second, count in counts.items():
        x, y = along(second), up(count)
        bar = element("rect", element("title", f"{_signed(second)} s: {count}"), x=x - wide / 2, y=y, width=wide,
                      height=140 - y, class_="bar")  # fmt: skip
        parts.append(bar)
        if count:
            parts.append(element("text", str(count), x=x, y=y - 4, class_="middle"))
        if reach <= 7 or not second % 2:
            parts.append(element("text", _signed(second), x=x, y=154, class_="soft middle"))
    parts.append(element("line", x1=8, x2=WIDTH - 8, y1=140, y2=140, class_="axis"))
    parts.append(element("text", f"← {before}", x=8, y=172, class_="soft"))
    parts.append(element("text", "seconds", x=WIDTH / 2, y=172, class_="soft middle"))
    parts.append(element("text", f"{after} →", x=WIDTH - 8, y=172, class_="soft end"))
    return drawing(WIDTH, 178, *parts, label=label)


def dot_plot(
    groups: Mapping[str, Sequence[float]], *, label: str, unit: str = "%", span: tuple[float, float] | None = None
) -> Markup:
    """A line a group: a dot for each value, and an upright bar at their mean, written beside it.

    Args:
        groups: Values by name; what is not finite is left out.
        label: What the chart shows, in words.
        unit: Of the values, "%" or "s".
        span: Where the axis begins and ends; if None, a little beyond the values.
    """
    values = [value for group in groups.values() for value in group if math.isfinite(value)] or [0.0, 1.0]
    room = max(0.1 * (max(values) - min(values)), 1.0 if unit == "%" else 0.05)
    low, high = span or (min(values) - room, max(values) + room)
    along, height = _scale(low, high, 10, WIDTH - 52), 40 * len(groups)
    parts = []
    for at in _round_numbers(low, high):
        x = along(at)
        parts.append(element("line", x1=x, x2=x, y1=4, y2=height, class_="grid"))
        parts.append(element("text", f"{at:.4g}", x=x, y=height + 14, class_="soft middle"))
    for number, (name, group) in enumerate(groups.items()):
        y = 40 * number + 28
        finite = [value for value in group if math.isfinite(value)]
        parts.append(element("text", name, x=4, y=y - 13, class_="bold"))
        parts.append(element("line", x1=10, x2=WIDTH - 52, y1=y, y2=y, class_="grid"))
        for value in finite:
            dot = element("circle", element("title", f"{name}: {value:.2f} {unit}"), cx=along(value), cy=y, r=4.5,
                          class_="dot")  # fmt: skip
            parts.append(dot)
        if finite:
            mean = sum(finite) / len(finite)
            parts.append(element("line", x1=along(mean), x2=along(mean), y1=y - 8, y2=y + 8, class_="curve thick"))
            shown = f"{mean:.1f} %" if unit == "%" else f"{mean:.2f} {unit}"
            parts.append(element("text", shown, x=WIDTH - 2, y=y + 4, class_="end"))
    return drawing(WIDTH, height + 20, *parts, label=label)


def _tick(y: float, value: float) -> Markup:
    return joined([
        element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"),
        element("text", f"{value:.3g}", x=_LEFT - 5, y=y + 4, class_="soft end"),
    ])  # fmt: skip


def _is_drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From values to places."""
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _signed(seconds: int) -> str:
    return f"{seconds:+d}".replace("-", "−") if seconds else "0"


def _round_numbers(low: float, high: float) -> list[float]:
    """Four to six or so numbers between two, a step of 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= 0.999 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.6g}") for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between two numbers, and their ends where there are fewer than two."""
    powers = [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return powers if len(powers) > 1 else [low, math.sqrt(low * high), high]
