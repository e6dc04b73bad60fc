"""The panels of a timeline's picture, one below the other on one axis of time, laid out to the pixel."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import ceil, log1p

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.clock import clock_unit, round_step, time_within
from ccln.pipeline.report.names import printable, short_names, shortened
from ccln.pipeline.report.picture.lanes import DPI, LETTERS, Bar, Lane, lanes_of, text_width
from ccln.pipeline.report.style import FAINT, INK, SOFT, TRACK_COLORS, attention_scale, attention_strength
from ccln.pipeline.segments import SEGMENT_SECONDS

WIDTH, LEFT, RIGHT = 1200, 150, 32
"""Pixels: of the picture, and of its margins beside the axis of time."""

_ACROSS = WIDTH - LEFT - RIGHT
_HEAD, _CAPTION, _FOOT = 58, 24, 46
_FRAME_HEIGHTS = (48, 104)
_LANE_HEIGHT, _MOST_LANES = 28, 24
_LEAST_BAR = 3
_MOST_BINS = _ACROSS // 2  # of the tracks; a step narrower than two pixels is none

_MOST_LISTED = 6  # events by name and times, in the head


def timeline_figure(
    located: LocatedVideo, frames: Mapping[float, np.ndarray], power: tuple[np.ndarray, float], aspect: float
) -> Figure:
    """The whole picture, 1200 pixels wide, as high as its lanes of events need.

    Args:
        located: what was found.
        frames: uint8 RGB (height, width, 3) by second.
        power: mel power (column, band), and how many seconds a column covers.
        aspect: width over height of the frames as shown.
    """
    duration = located.duration_seconds
    lanes = lanes_of(located.events, duration, _ACROSS / duration, _MOST_LANES)
    strip = _strip(attention_strength(located.attention), frames, duration, aspect)
    heights = [len(strip), 120, 42, 42, 60, _LANE_HEIGHT * len(lanes) + 6]
    captions = [
        "Frames: the glow is where the network attends, guided by the audio",
        "Audio: mel spectrogram, Hz",
        _tracks_caption(located),
        "",
        "",
        _events_caption(located),
    ]
    gaps = [_CAPTION if caption else 10 for caption in captions]
    total = _HEAD + sum(heights) + sum(gaps) + _FOOT
    figure = Figure(figsize=(WIDTH / DPI, total / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    rows: list[Axes] = []
    top = _HEAD
    for height, gap, caption in zip(heights, gaps, captions, strict=True):
        top += gap
        if caption:
            figure.text(LEFT / WIDTH, 1 - (top - 5) / total, caption, fontsize=8.5, color=SOFT, va="bottom")
        box = (LEFT / WIDTH, 1 - (top + height) / total, _ACROSS / WIDTH, height / total)
        rows.append(figure.add_axes(box, sharex=rows[0] if rows else None))
        top += height
    _write_head(figure, located, total)
    frame_row, audio_row, *tracks, event_row = rows
    frame_row.imshow(strip, extent=(0, duration, 0, 1), aspect="auto", interpolation="nearest")
    frame_row.set_yticks([])
    _draw_spectrogram(audio_row, *power)
    threshold = located.provenance.event_threshold
    for axes, (name, track) in zip(tracks, located.tracks.items(), strict=True):
        ticks = (0, threshold, 1) if name == "event" else (0, 1)
        _draw_track(axes, name, track, duration, ticks)
    for segment, value in enumerate(located.known_tracks["seen"]):
        if value is None and _segments_per_bin(len(located.labels)) == 1:
            middle = (segment + 0.5) * SEGMENT_SECONDS
            tracks[0].text(min(middle, duration), 0.1, "–", ha="center", color=SOFT)
    tracks[-1].axhline(threshold, color="white", lw=1.2)  # between the dashes: white on black and black on white
    tracks[-1].axhline(threshold, color=INK, lw=1.2, ls=(0, (4, 4)))
    _draw_events(event_row, lanes, duration)
    _share_time(rows, duration)
    return figure


def _write_head(figure: Figure, located: LocatedVideo, height: int) -> None:
    """The file's name and length, and below what was found in it."""
    duration = located.duration_seconds
    length = time_within(duration, duration) + (" s" if clock_unit(duration) == "seconds" else "")
    room = WIDTH - 20 - text_width(f"   {length}", 13, "bold")
    name = shortened(printable(located.path.name), lambda text: text_width(text, 13, "bold") <= room)
    figure.text(10 / WIDTH, 1 - 26 / height, f"{name}   {length}", fontsize=13, fontweight="bold", color=INK)
    found = summary(located.events, duration, lambda text: text_width(text, 10.5) <= WIDTH - 20)
    figure.text(10 / WIDTH, 1 - 50 / height, found, fontsize=10.5, color=INK)


def summary(events: Sequence[Event], duration_seconds: float, fits: Callable[[str], bool]) -> str:
    """The events on a line: each with its times, or where that is too much how many there are of which class.

    Args:
        events: in order of time.
        duration_seconds: of the file.
        fits: whether a line of text is short enough.
    """
    if not events:
        return "no event both seen and heard"
    names = short_names({event.label for event in events})
    unit = " s" if clock_unit(duration_seconds) == "seconds" else ""
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


def _strip(strength: np.ndarray, frames: Mapping[float, np.ndarray], duration: float, aspect: float) -> np.ndarray:
    """Frames side by side, each in the middle of the time that it stands for: uint8 RGB (height, width, 3)."""
    aspect = min(max(aspect, 0.45), 2.4)
    step = round_step(duration, int(_ACROSS / max(50, 56 * aspect)))
    cell = _ACROSS * step / duration
    height = round(min(max((cell - 3) / aspect, _FRAME_HEIGHTS[0]), _FRAME_HEIGHTS[1]))
    width = round(min(cell - 3, height * aspect))
    strip = np.full((height, _ACROSS, 3), 255, np.uint8)
    times = np.array(list(frames))
    for middle in np.arange(step / 2, max(duration, step), step):
        seconds = times[np.abs(times - middle).argmin()]
        segment = min(int(seconds / SEGMENT_SECONDS), len(strength) - 1)
        frame = _with_attention(frames[seconds], strength[segment], height, width)
        left = round(_ACROSS * middle / duration - width / 2)
        shown = strip[:, max(left, 0) : left + width]
        shown[:] = frame[:, max(-left, 0) :][:, : shown.shape[1]]
    return strip


def _with_attention(frame: np.ndarray, strength: np.ndarray, height: int, width: int) -> np.ndarray:
    """The frame under the glow of the attention: uint8 RGB (height, width, 3)."""
    from PIL import Image

    smooth = Image.fromarray(strength.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    glow = attention_scale()[np.rint(255 * np.asarray(smooth).clip(0, 1)).astype(np.uint8)]
    image = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    return np.asarray(Image.alpha_composite(image, Image.fromarray(glow)).convert("RGB"))


def _draw_spectrogram(axes: Axes, power: np.ndarray, column_seconds: float) -> None:
    bands = power.shape[1]
    # Silence stays dark: without a lower limit, its loudest noise would be bright.
    loudest = max(float(power.max(initial=0)), 1e-6)
    decibels = 10 * np.log10(np.maximum(power / loudest, 1e-7))
    extent = (0, len(power) * column_seconds, 0, bands)
    axes.imshow(decibels.T, extent=extent, aspect="auto", origin="lower", cmap="magma", vmin=-70, vmax=0)
    axes.set_yticks([bands * mel(hertz) / mel(SAMPLE_RATE_HZ / 2) for hertz in (200, 1000, 4000)], ["200", "1k", "4k"])


def mel(hertz: float) -> float:
    """A frequency on HTK's mel scale, on which the spectrogram's bands are evenly spaced."""
    return 1127 * log1p(hertz / 700)


def _tracks_caption(located: LocatedVideo) -> str:
    classes = set(located.labels)
    whose = (
        f"for {printable(next(iter(classes)))}"
        if len(classes) == 1
        else "for each second's event, else for its most probable class"
    )
    caption = f"Evidence {whose}; event: probability of an event, from the dashed line on"
    per_bin = _segments_per_bin(len(located.labels))
    return caption if per_bin == 1 else f"{caption}; dark: mean, pale: highest of {per_bin} s"


def _segments_per_bin(count: int) -> int:
    return max(1, ceil(count / _MOST_BINS))


def _events_caption(located: LocatedVideo) -> str:
    shortest = located.provenance.minimum_duration_seconds
    lasting = f", for at least {shortest} s" if shortest > 1 else ""
    return f"Events: both seen and heard{lasting}; with their confidence"


def _draw_track(axes: Axes, name: str, values: np.ndarray, duration: float, ticks: Sequence[float]) -> None:
    color = TRACK_COLORS[name]
    per_bin = _segments_per_bin(len(values))
    starts = np.arange(0, len(values), per_bin)
    edges = np.minimum(np.append(starts, len(values)) * SEGMENT_SECONDS, duration)
    highest = np.maximum.reduceat(values, starts)
    mean = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
    if per_bin > 1:
        axes.stairs(highest, edges, fill=True, color=color, alpha=0.35, lw=0)
    axes.stairs(mean, edges, fill=True, color=color, alpha=0.8, lw=0)
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.set_ylim(0, 1.04)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    _name_row(axes, 0.5, name, 34)


def _draw_events(axes: Axes, lanes: Sequence[Lane], duration: float) -> None:
    least = _LEAST_BAR * duration / _ACROSS
    for number, lane in enumerate(lanes):
        middle = len(lanes) - number - 0.5
        if number:
            axes.axhline(len(lanes) - number, color=FAINT, lw=0.8)
        _name_row(axes, middle, lane.name, 8)
        spans = []
        for bar in lane.bars:
            start, end = bar.event.start_seconds, min(bar.event.end_seconds, duration)
            width = max(end - start, least)
            spans.append((min(start, duration - width), width))
            _write_in_lane(axes, bar, start, end, middle - 0.02)
        colors = [bar.color for bar in lane.bars]
        axes.broken_barh(spans, (middle - 0.4, 0.8), facecolors=colors, edgecolor="white", lw=0.8)
    if not lanes[0].bars:
        axes.text(duration / 2, 0.5, "none", fontsize=9, ha="center", va="center", color=SOFT)
    axes.set_ylim(0, len(lanes))
    axes.set_yticks([])


def _write_in_lane(axes: Axes, bar: Bar, start: float, end: float, y: float) -> None:
    x, align, color, points = {
        "within": ((start + end) / 2, "center", "white", 0),
        "right": (end, "left", INK, 3),
        "left": (start, "right", INK, -3),
    }[bar.side]
    axes.annotate(
        bar.text, (x, y), (points, 0), textcoords="offset points",
        fontsize=LETTERS, fontweight="bold", ha=align, va="center", color=color,
    )  # fmt: skip


def _name_row(axes: Axes, y: float, name: str, pixels_left: int) -> None:
    """A bold name at the left of the panel, on two lines if it is long."""
    room = LEFT - pixels_left - 6
    lines = two_lines(name, lambda text: text_width(text, 8.5, "bold") <= room)
    place = (-pixels_left * 72 / DPI, 0)
    axes.annotate(
        lines, (0, y), place, axes.get_yaxis_transform(), "offset points",
        fontsize=8.5, fontweight="bold", color=INK, ha="right", va="center", annotation_clip=False,
    )  # fmt: skip


def two_lines(text: str, fits: Callable[[str], bool]) -> str:
    """The text on one line or two, broken between words, each shortened if it does not fit."""
    if fits(text):
        return text
    words = text.split(" ")
    first = max((n for n in range(1, len(words)) if fits(" ".join(words[:n]))), default=1)
    lines = (" ".join(words[:first]), " ".join(words[first:]))
    return "\n".join(shortened(line, fits) for line in lines if line)


def _share_time(rows: Sequence[Axes], duration: float) -> None:
    """The same ticks below each panel, labelled below the last; pale lines lead up from them."""
    step = round_step(duration, 12)
    ticks = np.arange(0, duration + step / 1000, step)
    labels = [f"{tick:g}" if clock_unit(duration) == "seconds" else time_within(tick, duration) for tick in ticks]
    for axes in rows:
        axes.set_xlim(0, duration)
        axes.tick_params(labelsize=8, colors=INK, length=3, labelbottom=axes is rows[-1])
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
    rows[0].spines[:].set_visible(False)
    rows[0].tick_params(bottom=False)
    for axes in rows[2:]:
        axes.grid(axis="x", color=FAINT, lw=0.6)
        axes.set_axisbelow(True)
    rows[-1].set_xticks(ticks, labels)
    rows[-1].set_xlabel(clock_unit(duration), fontsize=8.5, color=SOFT)
