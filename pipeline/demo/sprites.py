"""The demo's five classes as drawings, each in sixteen phases of its motion."""

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

PHASES = 16  # drawings in a cycle of two beats
_SUPERSAMPLING = 3
_INK = (44, 38, 52)
_GLASS = (190, 226, 240)
_LINE = 0.022  # outline, in units of the sprite's height

Colour = tuple[int, ...]
Point = tuple[float, float]


def hsv(hue: float, saturation: float, value: float, alpha: int = 255) -> Colour:
    """A colour by hue (in turns), saturation and value (0..1)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255), alpha


class Pen:
    """`ImageDraw` with outlined shapes, in units of the image's height."""

    def __init__(self, image: Image.Image):
        self._draw = ImageDraw.Draw(image)
        self._unit = image.height

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._unit, y * self._unit) for x, y in points]

    def ellipse(self, centre: Point, radii: Point, fill: Colour, line: float = _LINE) -> None:
        """An ellipse with half-axes `radii`."""
        (x, y), (across, down) = centre, radii
        box = self._scaled([(x - across, y - down), (x + across, y + down)])
        self._draw.ellipse(box, fill, _INK if line else None, round(line * self._unit))

    def box(self, corner: Point, opposite: Point, fill: Colour, radius: float = 0.0, line: float = _LINE) -> None:
        """A rectangle with rounded corners."""
        self._draw.rounded_rectangle(
            self._scaled([corner, opposite]),
            radius * self._unit,
            fill,
            _INK if line else None,
            round(line * self._unit),
        )

    def polygon(self, points: Sequence[Point], fill: Colour, line: float = _LINE) -> None:
        """A closed shape with round joints."""
        self._draw.polygon(self._scaled(points), fill)
        if line:
            self.line([*points, points[0], points[1]], _INK, line)

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """A polyline with round joints."""
        self._draw.line(self._scaled(points), fill, max(1, round(width * self._unit)), joint="curve")


def _wave(phase: float, cycles: int = 1) -> float:
    return math.sin(2 * math.pi * cycles * phase)


def _wheel(pen: Pen, centre: Point, radius: float, turn: float, colours: tuple[Colour, Colour], spokes: int) -> None:
    tyre, hub = colours
    pen.ellipse(centre, (radius, radius), tyre)
    pen.ellipse(centre, (radius * 0.68, radius * 0.68), hub, line=0)
    for spoke in range(spokes):
        angle = 2 * math.pi * (turn + spoke / spokes)
        rim = (centre[0] + 0.66 * radius * math.cos(angle), centre[1] + 0.66 * radius * math.sin(angle))
        pen.line([centre, rim], tyre, 0.028)
    pen.ellipse(centre, (radius * 0.2, radius * 0.2), tyre, line=0)


def _bell(image: Image.Image, phase: float, colour: float) -> None:
    """A golden bell under a beam; it swings to either side once in two beats and is struck at the turns."""
    metal = (0.1 + 0.035 * colour, 0.78)
    swing = 18 * math.cos(2 * math.pi * phase)
    bell = Image.new("RGBA", image.size)
    pen = Pen(bell)
    middle = 0.65
    clapper = middle + 0.09 * math.cos(2 * math.pi * phase)
    pen.line([(middle, 0.6), (clapper, 0.9)], _INK, 0.03)
    pen.ellipse((clapper, 0.9), (0.065, 0.065), hsv(metal[0], 0.6, 0.5))
    heights = np.linspace(0, 1, 24)
    widths = 0.13 + 0.08 * np.minimum(heights / 0.25, 1) ** 0.5 + 0.06 * heights + 0.15 * heights**5
    levels = 0.2 + 0.62 * heights
    for share, brightness in ((1.0, 0.78), (0.74, 0.93), (0.36, 1.0)):
        left = [(middle - w, y) for w, y in zip(widths, levels, strict=True)]
        right = [(middle - w + 2 * w * share, y) for w, y in zip(widths, levels, strict=True)]
        pen.polygon([*left, *right[::-1]], hsv(*metal, brightness), line=_LINE if share == 1 else 0)
    outline = [(middle - w, y) for w, y in zip(widths, levels, strict=True)]
    outline += [(middle + w, y) for w, y in zip(widths, levels, strict=True)][::-1]
    pen.line([*outline, outline[0]], _INK, _LINE)
    shine = [(middle - 0.6 * w, y) for w, y in zip(widths[4:20], levels[4:20], strict=True)]
    pen.line(shine, (255, 250, 215), 0.035)
    for level in (0.33, 0.68):
        width = float(np.interp(level, levels, widths))
        pen.line([(middle - width, level), (middle + width, level)], hsv(metal[0], 0.85, 0.58), 0.022)
    pen.box((middle - 0.45, 0.78), (middle + 0.45, 0.86), hsv(*metal, 0.95), radius=0.04)
    pen.ellipse((middle, 0.16), (0.075, 0.075), hsv(*metal, 0.85))
    image.alpha_composite(
        bell.rotate(swing, Image.Resampling.BILINEAR, center=(middle * image.height, 0.1 * image.height))
    )
    Pen(image).box((0.35, 0.03), (0.95, 0.13), (122, 78, 50), radius=0.03)


def _bird(image: Image.Image, phase: float, colour: float) -> None:
    """A round bird that flaps once a beat."""
    pen = Pen(image)
    body, belly, wing_colour = hsv(colour, 0.75, 0.9), hsv(colour + 0.03, 0.28, 1.0), hsv(colour - 0.03, 0.85, 0.68)
    flap = _wave(phase, cycles=2)
    pen.polygon([(0.34, 0.6), (0.04, 0.46), (0.1, 0.6), (0.03, 0.72), (0.34, 0.7)], wing_colour)
    pen.polygon([(1.14, 0.42), (1.36, 0.5), (1.14, 0.56)], (250, 172, 40))
    pen.ellipse((0.62, 0.62), (0.38, 0.24), body)
    pen.ellipse((1.0, 0.47), (0.21, 0.2), body)
    pen.ellipse((0.94, 0.58), (0.17, 0.14), body, line=0)
    pen.ellipse((0.68, 0.7), (0.26, 0.13), belly, line=0)
    pen.ellipse((1.06, 0.43), (0.07, 0.075), (255, 255, 255))
    pen.ellipse((1.085, 0.44), (0.035, 0.04), _INK, line=0)
    # A leaf that turns about the shoulder, its lower edge scalloped into feathers.
    angle = math.radians(200 + 50 * flap)
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    places = np.linspace(0, 1, 31)
    upper = 0.17 * np.sqrt(places + 0.02) * (1 - places) ** 0.6
    lower = -0.12 * (1 - places**3) - 0.035 * np.abs(np.sin(3.5 * np.pi * places)) * (1 - places)
    edge = [*zip(places, upper, strict=True), *zip(places[::-1], lower[::-1], strict=True)]
    wing = [(0.74 + 0.6 * u * along[0] + v * across[0], 0.58 + 0.6 * u * along[1] + v * across[1]) for u, v in edge]
    pen.polygon(wing, wing_colour)


def _drum(image: Image.Image, phase: float, colour: float) -> None:
    """A drum with cords; its two sticks take turns, one beat each."""
    pen = Pen(image)
    shell, rim = hsv(colour, 0.8, 0.8), (240, 200, 96)
    left, right, top, bottom, depth = 0.14, 1.06, 0.5, 0.86, 0.11
    pen.ellipse((0.6, 0.92), (0.5, 0.07), (0, 0, 0, 70), line=0)
    pen.ellipse((0.6, bottom), (0.46, depth), rim)
    pen.box((left, top), (right, bottom - 0.03), shell, line=0)
    pen.ellipse((0.6, bottom - 0.045), (0.46, depth), shell, line=0)
    pen.line([(left, top), (left, bottom)], _INK, _LINE)
    pen.line([(right, top), (right, bottom)], _INK, _LINE)
    xs = np.linspace(left, right, 9)
    bulge = depth * np.sqrt(np.maximum(0, 1 - ((xs - 0.6) / 0.46) ** 2))
    cords = [
        (float(x), (top if i % 2 == 0 else bottom - 0.05) + float(b))
        for i, (x, b) in enumerate(zip(xs, bulge, strict=True))
    ]
    pen.line(cords, (250, 244, 226), 0.025)
    pen.ellipse((0.6, top), (0.46, depth + 0.02), rim)
    pen.ellipse((0.6, top - 0.015), (0.42, depth - 0.015), (250, 246, 236))
    for side, lift in ((-1, 1 - math.cos(2 * math.pi * phase)), (1, 1 + math.cos(2 * math.pi * phase))):
        tip = (0.6 + side * 0.14, top - 0.05 - 0.2 * lift)
        hand = (0.6 + side * 0.5, 0.2 - 0.03 * lift)
        pen.line([hand, tip], _INK, 0.075)
        pen.line([hand, tip], (222, 168, 104), 0.045)
        pen.ellipse(tip, (0.05, 0.045), (236, 190, 130))


def _police_car(image: Image.Image, phase: float, colour: float) -> None:
    """A car with a blue stripe; its lamps change from red to blue with the tone of the siren."""
    pen = Pen(image)
    paint = hsv(0.6, 0.1 * colour, 0.98)
    red_lit = phase < 0.5
    lamps = ((0.88, (255, 50, 50), red_lit), (1.06, (60, 110, 255), not red_lit))
    blink = 0.75 + 0.25 * _wave(phase, cycles=6)
    for x, lamp, lit in lamps:
        if lit:
            for radius, alpha in ((0.24, 60), (0.17, 90), (0.11, 150)):
                pen.ellipse((x, 0.2), (radius * 1.2 * blink, radius * 0.8 * blink), (*lamp, alpha), line=0)
    pen.ellipse((1.0, 0.93), (0.9, 0.06), (0, 0, 0, 80), line=0)
    for x, lamp, lit in lamps:
        pen.box((x - 0.085, 0.17), (x + 0.085, 0.27), lamp if lit else (110, 96, 120), radius=0.03)
    pen.polygon([(0.42, 0.54), (0.6, 0.27), (1.26, 0.27), (1.5, 0.54)], paint)
    pen.polygon([(0.54, 0.52), (0.66, 0.33), (0.9, 0.33), (0.9, 0.52)], _GLASS)
    pen.polygon([(0.97, 0.52), (0.97, 0.33), (1.22, 0.33), (1.39, 0.52)], _GLASS)
    pen.box((0.1, 0.52), (1.9, 0.84), paint, radius=0.1)
    pen.box((0.12, 0.63), (1.88, 0.73), (36, 82, 190), line=0)
    for square in range(12):
        pen.box(
            (0.14 + square * 0.145, 0.63 + 0.05 * (square % 2)),
            (0.21 + square * 0.145, 0.68 + 0.05 * (square % 2)),
            (250, 220, 60),
            line=0,
        )
    pen.ellipse((1.82, 0.6), (0.06, 0.05), (255, 244, 170))
    pen.box((0.08, 0.56), (0.16, 0.64), (214, 50, 44), radius=0.02)
    for x in (0.48, 1.5):
        pen.ellipse((x, 0.82), (0.17, 0.15), _INK, line=0)
        _wheel(pen, (x, 0.82), 0.135, 2 * phase, ((52, 50, 58), (200, 204, 212)), spokes=5)


def _steam_train(image: Image.Image, phase: float, colour: float) -> None:
    """An engine whose chimney sends up a puff a beat; its wheels turn once in two."""
    pen = Pen(image)
    paint, dark, brass, iron = hsv(colour, 0.75, 0.72), hsv(colour, 0.8, 0.48), (232, 186, 80), (70, 66, 78)
    for puff in range(4):
        age = (2 * phase + puff) % 4 / 4
        radius = 0.05 + 0.085 * age**0.7
        grey = round(255 - 50 * age)
        pen.ellipse(
            (1.3 - 0.75 * age, 0.2 - 0.06 * age),
            (radius * 1.35, radius),
            (grey, grey, grey, round(245 - 110 * age)),
            line=0,
        )
    pen.box((0.06, 0.93), (1.74, 0.96), (90, 84, 92), line=0)
    pen.box((0.16, 0.7), (1.6, 0.78), iron)
    pen.polygon([(1.5, 0.7), (1.7, 0.92), (1.42, 0.92)], (190, 50, 44))
    pen.box((0.6, 0.42), (1.52, 0.72), paint, radius=0.07)
    pen.box((0.66, 0.46), (1.46, 0.51), hsv(colour, 0.5, 0.92), radius=0.02, line=0)
    for band in (0.8, 1.04, 1.28):
        pen.box((band, 0.425), (band + 0.03, 0.715), brass, line=0)
    pen.polygon([(1.22, 0.42), (1.24, 0.28), (1.38, 0.28), (1.4, 0.42)], iron)
    pen.box((1.19, 0.22), (1.43, 0.29), dark, radius=0.02)
    pen.ellipse((0.93, 0.41), (0.09, 0.08), brass)
    pen.box((0.2, 0.32), (0.66, 0.74), dark)
    pen.box((0.28, 0.39), (0.56, 0.56), _GLASS, radius=0.02)
    pen.box((0.13, 0.25), (0.72, 0.33), iron, radius=0.03)
    pen.ellipse((1.53, 0.55), (0.05, 0.06), (255, 240, 160))
    wheels = ((0.38, 0.8, 0.15), (0.74, 0.8, 0.15), (1.06, 0.84, 0.11), (1.33, 0.84, 0.11))
    for x, y, radius in wheels:
        _wheel(pen, (x, y), radius, phase, (iron, (212, 60, 50)), spokes=6)
    crank = (0.09 * math.cos(2 * math.pi * phase), 0.09 * math.sin(2 * math.pi * phase))
    rod = [(0.38 + crank[0], 0.8 + crank[1]), (0.74 + crank[0], 0.8 + crank[1]), (1.2, 0.78)]
    pen.line(rod, _INK, 0.06)
    pen.line(rod, (216, 216, 224), 0.032)


@dataclass(frozen=True)
class Drawing:
    """How a class looks and moves; lengths are shares of the frame's height."""

    draw: Callable[[Image.Image, float, float], None]
    """Draws one phase (0 to 1) in a colour (a number from 0 to 1) onto a transparent image."""
    aspect: float
    """Width of the sprite over its height."""
    height: tuple[float, float]
    """Smallest and largest height of the sprite."""
    top: tuple[float, float]
    """Smallest and largest position of the sprite in the room it has, 0 (top) to 1 (bottom)."""
    sweeps_hz: tuple[float, float]
    """Slowest and fastest passage across the frame and back."""
    bob: float
    """Largest swing up and down."""
    faces_travel: bool
    """Whether it moves to and fro at even speed and faces the direction of travel."""


DRAWINGS = {
    "Bell": Drawing(_bell, 1.3, (0.38, 0.52), (0.0, 0.5), (0.03, 0.1), 0.02, faces_travel=False),
    "Bird": Drawing(_bird, 1.4, (0.28, 0.4), (0.0, 0.8), (0.1, 0.22), 0.1, faces_travel=True),
    "Drum": Drawing(_drum, 1.2, (0.36, 0.5), (0.7, 1.0), (0.03, 0.1), 0.015, faces_travel=False),
    "Police car": Drawing(_police_car, 2.0, (0.3, 0.42), (0.8, 1.0), (0.08, 0.2), 0.01, faces_travel=True),
    "Steam train": Drawing(_steam_train, 1.8, (0.36, 0.5), (0.8, 1.0), (0.06, 0.13), 0.006, faces_travel=True),
}


def draw_phases(class_name: str, height: int, colour: float) -> list[Image.Image]:
    """Draw a class's cycle of motion, facing right.

    Args:
        class_name: One of the demo's classes.
        height: Height of the sprite in pixels.
        colour: Where the clip's object lies between 0 and 1 in the colours its class may have.

    Returns:
        The sixteen phases as RGBA images of one size.
    """
    drawing = DRAWINGS[class_name]
    width = round(height * drawing.aspect)
    sprites = []
    for phase in range(PHASES):
        large = Image.new("RGBA", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
        drawing.draw(large, phase / PHASES, colour)
        sprites.append(large.resize((width, height), Image.Resampling.BOX))
    return sprites
