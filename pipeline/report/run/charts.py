"""Charts of training runs: matplotlib figures, as SVG that takes its colours and font from the page around it."""

import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ccln.files import write_whole
from ccln.pipeline.report.style import BLUE, FAINT, GREEN, INK, LINE, ORANGE, SOFT
from ccln.pipeline.visible import visible

_VARIABLES = {
    **{INK: "ink", SOFT: "soft", LINE: "line", FAINT: "faint"},
    **{BLUE: "a", ORANGE: "b", GREEN: "c"},
}
"""Custom property of the page's style for each colour."""
_CURVES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (SOFT, "-"), (BLUE, ":"), (ORANGE, ":"), (GREEN, ":"))
_WIDTH = 350  # pixels, which are points of the figure: the SVG scales
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "ccln",  # the same chart has the same ids
}


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
    with _figure(230) as figure:
        axes = figure.subplots()
        _draw_curves(axes, curves, marked, log=log, top=top)
        figure.legend(loc="outside lower left", ncols=3, fontsize=9, handlelength=2.4, columnspacing=1.2)
        return _svg(figure, label)


def save_curves(
    losses: Mapping[str, Sequence[float]], shares: Mapping[str, Sequence[float]], marked: int, path: Path
) -> None:
    """Losses and validation scores over the epochs beside each other, written atomically as PNG.

    Args:
        losses: By name, a value an epoch.
        shares: Validation scores in per cent, the same.
        marked: The selected epoch, from 1.
        path: Of the picture.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_curves(left, losses, marked, log=True)
        left.set_title("Training losses")
        _draw_curves(right, shares, marked, top=100.0)
        right.set_title("Validation, %")
        for axes in (left, right):
            axes.legend(fontsize=8)
        picture = io.BytesIO()
        FigureCanvasAgg(figure).print_png(picture)
    write_whole(path, picture.getvalue())


def histogram(values: Sequence[int], *, label: str, before: str, after: str) -> Markup:
    """How often each whole number of seconds occurs, zero in the middle, the count above each bar.

    Args:
        values: Signed seconds.
        label: What the chart shows, in words.
        before: What a negative number means.
        after: What a positive one means.
    """
    reach = max([2, *(abs(value) for value in values)])
    counts = Counter(values)
    positions = range(-reach, reach + 1)
    with _figure(180) as figure:
        axes = figure.subplots()
        bars = axes.bar(positions, [counts[second] for second in positions], color=BLUE)
        axes.bar_label(bars, [str(counts[second] or "") for second in positions], padding=2, fontsize=9)
        shown = [second for second in positions if reach <= 7 or not second % 2]
        axes.set_xticks(shown, [f"{second:+d}".replace("-", "−") if second else "0" for second in shown])
        axes.grid(visible=False)
        axes.set_xlabel("seconds")
        below: Any = {"xycoords": ("axes fraction", axes.xaxis.label), "va": "bottom", "color": SOFT}
        axes.annotate(f"← {before}", (0, 0), **below)
        axes.annotate(f"{after} →", (1, 0), ha="right", **below)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return _svg(figure, label)


def dot_plot(
    groups: Mapping[str, Sequence[float]],
    *,
    label: str,
    unit: str = "%",
    span: tuple[float, float] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Markup:
    """A row a group: a dot for each value, and an upright bar at their mean, written beside it.

    Args:
        groups: Values by name; what is not finite is left out.
        label: What the chart shows, in words.
        unit: Of the values, "%" or "s".
        span: Where the axis begins and ends; if None, a little beyond the values.
        intervals: Of groups that have one, its ends; drawn as a line.
    """
    found = {name: [value for value in values if math.isfinite(value)] for name, values in groups.items()}
    finite = [value for values in found.values() for value in values] or [0.0, 1.0]
    room = max(0.1 * (max(finite) - min(finite)), 1.0 if unit == "%" else 0.05)
    with _figure(36 + 36 * len(groups)) as figure:
        axes = figure.subplots()
        axes.set_xlim(*(span or (min(finite) - room, max(finite) + room)))
        axes.set_ylim(len(groups) - 0.6, -0.7)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        beside: Any = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "annotation_clip": False}
        for row, (name, values) in enumerate(found.items()):
            axes.annotate(name, (0, row), (0, 9), **beside)
            if intervals and name in intervals:
                axes.plot(intervals[name], (row, row), color=BLUE, lw=5, alpha=0.3, solid_capstyle="butt")
            axes.plot(values, [row] * len(values), "o", ms=6, mfc=BLUE, mec=INK, mew=0.8, alpha=0.6)
            if values:
                mean = float(np.mean(values))
                axes.plot((mean, mean), (row - 0.16, row + 0.16), color=INK, lw=2)
                text = f"{mean:.1f} %" if unit == "%" else f"{mean:.2f} {unit}"
                axes.annotate(text, (1, row), (0, 9), ha="right", **beside)
        return _svg(figure, label)


def _draw_curves(
    axes: Axes, curves: Mapping[str, Sequence[float]], marked: int, *, log: bool = False, top: float | None = None
) -> None:
    for (name, values), (color, dash) in zip(curves.items(), _CURVES * len(curves), strict=False):
        drawable = [value if math.isfinite(value) and (value > 0 or not log) else math.nan for value in values]
        width = 2.4 if name == "total" else 1.6
        axes.plot(range(1, len(values) + 1), drawable, label=name, color=color, ls=dash, lw=width)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, top)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.axvline(marked, color=INK, lw=1, ls=":")
    last = max(map(len, curves.values()), default=1)
    offset, side = (-4, "right") if marked > last / 2 else (4, "left")
    beside: Any = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "color": SOFT}
    axes.annotate(f"chosen: {marked}", (marked, 1), (offset, 0), ha=side, va="top", **beside)


@contextmanager
def _figure(height: int) -> Iterator[Figure]:
    """An empty figure of the width of a card, drawn in the style of the page."""
    with rc_context(_STYLE):
        yield Figure(figsize=(_WIDTH / 72, height / 72), facecolor="none", layout="constrained")


def _svg(figure: Figure, label: str) -> Markup:
    """The figure as an element of the page.

    The page's security policy allows no style attributes: they become attributes of their own, and colours the page's
    variables, which follow its light and dark style.
    """
    for axes in figure.axes:
        axes.set_facecolor("none")
    for text in figure.findobj(Text):  # XML has no place for control characters
        assert isinstance(text, Text)
        text.set_text(visible(text.get_text(), keep="\n"))
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for declaration in element.attrib.pop("style", "").split(";"):
            name, _, value = (part.strip() for part in declaration.partition(":"))
            if value and name not in ("font", "font-family"):
                element.set(name, f"var(--{_VARIABLES[value]})" if value in _VARIABLES else value)
        if target := element.attrib.pop("{http://www.w3.org/1999/xlink}href", None):
            element.set("href", target)
        if element.tag == "g":
            element.attrib.pop("id", None)  # the same in each figure
    view = root.attrib["viewBox"]
    root.attrib = {"class": "plot", "viewBox": view, "role": "img", "aria-label": visible(label)}
    return Markup(ElementTree.tostring(root, encoding="unicode"))
