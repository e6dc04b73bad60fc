"""What pictures, pages, videos and reports look like alike: colors, the scale of attention, lanes of events."""

from collections.abc import Iterable, Sequence

import numpy as np

from ccln.pipeline.localize.result import Event

INK, SOFT, LINE, FAINT = "#1b1e23", "#565d68", "#868d98", "#d9dce1"
"""Text, less important text, lines, and lines and areas in the background."""
BLUE, ORANGE, GREEN = "#0072b2", "#b84f00", "#00795a"
"""Near Okabe and Ito's colors, which the color-blind tell apart, and dark enough for white letters."""
TRACK_COLORS = {"seen": BLUE, "heard": ORANGE, "event": INK}
CLASS_COLORS = (GREEN, BLUE, ORANGE, "#86508f", "#6b6a00", "#c2185b", "#5b6068", "#7a2e1f")
"""Of events by the number of their class, see `class_numbers`; white letters on any have a contrast of 5 or more."""

_ATTENTION_STOPS = ((40, 10, 80), (125, 30, 109), (203, 65, 73), (248, 142, 8), (252, 235, 150))
_ATTENTION_OPACITY = 0.75
_FULL_ATTENTION = 4


def class_numbers(events: Iterable[Event]) -> dict[str, int]:
    """The classes of events, numbered from 0 in the order in which they come first."""
    return {label: number for number, label in enumerate(dict.fromkeys(event.label for event in events))}


def class_color(number: int) -> str:
    """The color of a class; they repeat when there are more classes than `CLASS_COLORS`."""
    return CLASS_COLORS[number % len(CLASS_COLORS)]


def pack_lanes(events: Sequence[Event], most: int | None = None) -> list[int]:
    """The lane of each event, so that the events of a lane do not overlap.

    Args:
        events: in order of their starts.
        most: lanes; where all are taken, an event goes over the one that ends first. None for as many as it takes.

    Returns:
        Of each event the first lane that is free when it begins, from 0.
    """
    ends: list[float] = []
    lanes = []
    for event in events:
        lane = next((lane for lane, end in enumerate(ends) if end <= event.start_seconds), len(ends))
        if lane == len(ends) and len(ends) == most:
            lane = ends.index(min(ends))
        elif lane == len(ends):
            ends.append(0.0)
        ends[lane] = max(ends[lane], event.end_seconds)
        lanes.append(lane)
    return lanes


def attention_strength(attention: np.ndarray) -> np.ndarray:
    """How strongly each region of a video is to glow, float32 (segment, height, width), 0 to 1.

    A map without a preference would glow all over if the highest number were full strength: that is at least four
    times what each region has if all have the same.
    """
    full = max(float(attention.max(initial=0)), _FULL_ATTENTION * float(attention.mean() if attention.size else 0))
    return attention / full if full else attention


def attention_scale() -> np.ndarray:
    """What is laid over a frame for each strength of attention from 0 to 255: uint8 RGBA (strength, 4).

    From dark violet to pale yellow: brightness rises all the way, so it reads without color, too. Weak attention is
    transparent, so that the frame stays to be seen.
    """
    strength = np.arange(256) / 255
    stops = np.array(_ATTENTION_STOPS).T
    places = strength * (stops.shape[1] - 1)
    colors = [np.interp(places, range(stops.shape[1]), channel) for channel in stops]
    opacity = 255 * _ATTENTION_OPACITY * np.minimum(1, 1.6 * strength)
    return np.rint(np.stack([*colors, opacity], axis=1)).astype(np.uint8)
