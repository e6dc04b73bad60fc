"""The frames of the demo's clips: a drifting, noisy scene, and moving objects in it."""

import colorsys
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ccln.pipeline.demo.plan import CLASS_BEAT_HZ, CLASS_NAMES, Span, clip_generator
from ccln.pipeline.segments import CLIP_SECONDS

FRAME_RATE_HZ = 16
FRAME_WIDTH, FRAME_HEIGHT = 320, 240

_CANVAS = (400, 300)  # the scene is larger than the frame: the camera drifts over it
_NOISE_MARGIN = 64
_SCENE_STREAM, _ACTOR_STREAM = 20, 21
_PHASES = 16  # drawings in a cycle of two beats
_SUPERSAMPLING = 3
_INK = (44, 38, 52)
_GLASS = (190, 226, 240)
_LINE = 0.022  # outline, in units of the sprite's height

Colour = tuple[int, ...]
Point = tuple[float, float]


def render_frames(seen: Sequence[Span], *, pace: float, entropy: tuple[int, int, int]) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames of one clip, one after the other.

    The scene and its noise do not depend on `seen`: two renders of the same clip differ only where an object is.

    Args:
        seen: Which class's object is visible when.
        pace: Factor on the classes' beats per second.
        entropy: The clip's `(seed, split, index)`.

    Yields:
        160 frames, uint8 RGB (height, width, channel), 240 x 320: ten seconds at 16 frames a second.
    """
    rng = clip_generator(entropy, _SCENE_STREAM)
    view = _camera(_draw_scene(rng), rng)
    discs = [_disc(rng) for _ in range(rng.integers(4))]
    noise_shape = (FRAME_HEIGHT + _NOISE_MARGIN, FRAME_WIDTH + _NOISE_MARGIN, 3)
    noise = rng.normal(0, rng.uniform(2, 5), noise_shape).round().astype(np.int16)
    corners = rng.integers(_NOISE_MARGIN, size=(CLIP_SECONDS * FRAME_RATE_HZ, 2))
    actors = {name: _Actor(name, pace, entropy) for name in sorted({span.class_name for span in seen})}
    for number, (top, left) in enumerate(corners):
        seconds = number / FRAME_RATE_HZ
        image = view(seconds)
        for disc, motion in discs:
            x, y = 0.5 + 0.5 * np.sin(2 * math.pi * motion[:2] * seconds + motion[2:])
            image.paste(disc, (round(x * (image.width - disc.width)), round(y * (image.height - disc.height))), disc)
        for span in seen:
            if span.start_seconds <= seconds < span.end_seconds:
                actors[span.class_name].paste(image, seconds)
        grain = noise[top : top + FRAME_HEIGHT, left : left + FRAME_WIDTH]
        yield np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)


class _Actor:
    """A class's object as it looks and moves in one clip."""

    def __init__(self, class_name: str, pace: float, entropy: tuple[int, int, int]):
        rng = clip_generator(entropy, _ACTOR_STREAM, CLASS_NAMES.index(class_name))
        self._drawing = drawing = _DRAWINGS[class_name]
        self._cycle_hz = CLASS_BEAT_HZ[class_name] * pace / 2
        self._height = round(FRAME_HEIGHT * rng.uniform(*drawing.height))
        size, colour = (round(self._height * drawing.aspect), self._height), rng.random()
        self._sprites = []
        for phase in range(_PHASES):
            large = Image.new("RGBA", (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING))
            drawing.draw(large, phase / _PHASES, colour)
            self._sprites.append(large.resize(size, Image.Resampling.BOX))
        self._sweeps_hz = rng.uniform(*drawing.sweeps_hz)
        self._start = rng.random()
        self._top = rng.uniform(*drawing.top)
        self._bob = drawing.bob * FRAME_HEIGHT
        self._bob_hz, self._bob_phase = rng.uniform((0.3, 0), (0.8, 2 * math.pi))

    def paste(self, image: Image.Image, seconds: float) -> None:
        turn = (self._start + self._sweeps_hz * seconds) % 1
        if self._drawing.faces_travel:
            place, mirrored = 1 - abs(2 * turn - 1), turn >= 0.5
        else:
            place, mirrored = 0.5 - 0.5 * math.cos(2 * math.pi * turn), False
        # A whole cycle is two beats, and phase 0 falls on a beat.
        sprite = self._sprites[int(self._cycle_hz * seconds * _PHASES) % _PHASES]
        if mirrored:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        bob = self._bob * math.sin(2 * math.pi * self._bob_hz * seconds + self._bob_phase)
        highest = FRAME_HEIGHT - self._height
        y = min(max(self._top * highest + bob, 0), highest)
        image.paste(sprite, (round(place * (image.width - sprite.width)), round(y)), sprite)


def _camera(scene: Image.Image, rng: np.random.Generator) -> Callable[[float], Image.Image]:
    """A window that drifts over the scene and zooms a little: what it shows at a time in seconds."""
    # Enlarged once: taking the nearest pixels of it is as smooth as interpolating each frame, and ten times faster.
    large = scene.resize((3 * scene.width, 3 * scene.height), Image.Resampling.BILINEAR)
    hz, phase = rng.uniform(0.02, 0.09, 3), rng.uniform(0, 2 * math.pi, 3)

    def view(seconds: float) -> Image.Image:
        x, y, zoom = 0.5 + 0.5 * np.sin(2 * math.pi * hz * seconds + phase)
        width, height = (side * (0.72 + 0.08 * zoom) for side in large.size)
        left, top = x * (large.width - width), y * (large.height - height)
        box = (left, top, left + width, top + height)
        return large.resize((FRAME_WIDTH, FRAME_HEIGHT), Image.Resampling.NEAREST, box=box)

    return view


def _disc(rng: np.random.Generator) -> tuple[Image.Image, NDArray[np.float64]]:
    """A pale disc that floats about, which is motion without meaning; its frequencies and phases (x, y)."""
    size = int(rng.integers(20, 60))
    disc = Image.new("RGBA", (3 * size, 3 * size))
    tint = _hsv(rng.random(), rng.uniform(0.1, 0.4), 1.0, alpha=int(rng.integers(60, 130)))
    _Pen(disc).ellipse((0.5, 0.5), (0.48, 0.48), tint, line=0)
    motion = rng.uniform((0.03, 0.03, 0, 0), (0.15, 0.15, 2 * math.pi, 2 * math.pi))
    return disc.resize((size, size), Image.Resampling.BOX), motion


def _draw_scene(rng: np.random.Generator) -> Image.Image:
    """A gradient with hills, a town or bokeh before it, and a fine texture over all."""
    hue = rng.random()
    upper, lower = (
        np.array(_hsv(hue + rng.uniform(-0.12, 0.12), rng.uniform(0.15, 0.6), rng.uniform(0.5, 1.0))[:3])
        for _ in range(2)
    )
    slope = np.linspace(0, 1, _CANVAS[1])[:, None, None]
    image = Image.fromarray((upper + (lower - upper) * slope).round().astype(np.uint8))  # one pixel wide
    image = image.resize((2 * _CANVAS[0], 2 * _CANVAS[1]), Image.Resampling.BILINEAR).convert("RGBA")
    (_hills, _town, _bokeh)[rng.integers(3)](image, hue, rng)
    pixels = np.asarray(image.convert("RGB").resize(_CANVAS, Image.Resampling.BOX)).astype(np.float32)
    for cells in (6, 20, 60):
        patches = rng.normal(0, rng.uniform(2, 7), (cells, cells)).astype(np.float32)
        pixels += np.asarray(Image.fromarray(patches).resize(_CANVAS, Image.Resampling.BICUBIC))[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _transparent_disc(image: Image.Image, centre: Point, radius: float, tint: Colour) -> None:
    layer = Image.new("RGBA", image.size)  # of its own, so that it blends
    _Pen(layer).ellipse(centre, (radius, radius), tint, line=0)
    image.alpha_composite(layer)


def _hills(image: Image.Image, hue: float, rng: np.random.Generator) -> None:
    across = image.width / image.height
    sun = (rng.uniform(0.1, across - 0.1), rng.uniform(0.1, 0.35))
    _transparent_disc(image, sun, 0.08, (255, 250, 225, 200))
    xs = np.linspace(0, across, 60)
    for layer in range(3):
        waves = rng.uniform((2, 0, 5, 0), (4, 6.3, 11, 6.3))
        level = 0.5 + 0.17 * layer + rng.uniform(-0.04, 0.04)
        ridge = level + 0.06 * np.sin(waves[0] * xs + waves[1]) + 0.02 * np.sin(waves[2] * xs + waves[3])
        colour = _hsv(hue + 0.3 + 0.04 * layer, 0.3 + 0.1 * layer, 0.75 - 0.13 * layer)
        points = [*zip(xs.tolist(), ridge.tolist(), strict=True), (across, 1.0), (0.0, 1.0)]
        _Pen(image).polygon(points, colour, line=0)


def _town(image: Image.Image, hue: float, rng: np.random.Generator) -> None:
    pen = _Pen(image)
    across = image.width / image.height
    window = _hsv(0.13, rng.uniform(0.2, 0.6), 0.95)
    for depth in range(2):
        x = -0.05
        while x < across:
            width, top = rng.uniform((0.1, 0.2 + 0.15 * depth), (0.22, 0.5 + 0.12 * depth))
            pen.box((x, top), (x + width, 1), _hsv(hue + 0.45, 0.2, 0.62 - 0.2 * depth), line=0)
            for column in np.arange(x + 0.025, x + width - 0.03, 0.045):
                for row in np.arange(top + 0.04, 0.8, 0.07):
                    if rng.random() < 0.45:
                        pen.box((column, row), (column + 0.022, row + 0.035), window, line=0)
            x += width + rng.uniform(0, 0.04)
    pen.box((0, 0.86), (across, 1), _hsv(0.7, 0.08, 0.34), line=0)
    for dash in np.arange(0.03, across, 0.16):
        pen.box((dash, 0.92), (dash + 0.08, 0.932), (222, 218, 200), line=0)


def _bokeh(image: Image.Image, hue: float, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(10, 22)):
        centre = rng.uniform(0, image.width / image.height), rng.uniform(0, 1)
        radius = rng.uniform(0.03, 0.17)
        tint = _hsv(hue + rng.uniform(-0.25, 0.25), rng.uniform(0.1, 0.7), rng.uniform(0.5, 1), alpha=70)
        _transparent_disc(image, centre, radius, tint)


def _hsv(hue: float, saturation: float, value: float, alpha: int = 255) -> Colour:
    """A colour by hue (in turns), saturation and value (0..1)."""
    return *(round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value)), alpha


class _Pen:
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
        self._draw.ellipse(box, fill, _INK, round(line * self._unit))

    def box(self, corner: Point, opposite: Point, fill: Colour, radius: float = 0.0, line: float = _LINE) -> None:
        """A rectangle with rounded corners."""
        box = self._scaled([corner, opposite])
        self._draw.rounded_rectangle(box, radius * self._unit, fill, _INK, round(line * self._unit))

    def polygon(self, points: Sequence[Point], fill: Colour, line: float = _LINE) -> None:
        """A closed shape with round joints."""
        self._draw.polygon(self._scaled(points), fill)
        if line:
            self.line([*points, points[0], points[1]], _INK, line)

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """A polyline with round joints."""
        self._draw.line(self._scaled(points), fill, max(1, round(width * self._unit)), joint="curve")


def _wheel(pen: _Pen, centre: Point, radius: float, turn: float, tyre: Colour, hub: Colour, spokes: int) -> None:
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
    swing = math.cos(2 * math.pi * phase)
    bell = Image.new("RGBA", image.size)
    pen = _Pen(bell)
    middle = 0.65
    clapper = middle + 0.09 * swing
    pen.line([(middle, 0.6), (clapper, 0.9)], _INK, 0.03)
    pen.ellipse((clapper, 0.9), (0.065, 0.065), _hsv(metal[0], 0.6, 0.5))
    heights = np.linspace(0, 1, 24)
    widths = 0.13 + 0.08 * np.minimum(heights / 0.25, 1) ** 0.5 + 0.06 * heights + 0.15 * heights**5
    levels = 0.2 + 0.62 * heights
    left, right = (list(zip(middle + side * widths, levels, strict=True)) for side in (-1, 1))
    for share, brightness in ((1.0, 0.78), (0.74, 0.93), (0.36, 1.0)):
        edge = list(zip(middle - widths + 2 * widths * share, levels, strict=True))
        pen.polygon([*left, *edge[::-1]], _hsv(*metal, brightness), line=_LINE if share == 1 else 0)
    pen.line([*left, *right[::-1], left[0]], _INK, _LINE)
    pen.line(list(zip(middle - 0.6 * widths, levels, strict=True))[4:20], (255, 250, 215), 0.035)
    for level in (0.33, 0.68):
        width = float(np.interp(level, levels, widths))
        pen.line([(middle - width, level), (middle + width, level)], _hsv(metal[0], 0.85, 0.58), 0.022)
    pen.box((middle - 0.45, 0.78), (middle + 0.45, 0.86), _hsv(*metal, 0.95), radius=0.04)
    pen.ellipse((middle, 0.16), (0.075, 0.075), _hsv(*metal, 0.85))
    pivot = (middle * image.height, 0.1 * image.height)
    image.alpha_composite(bell.rotate(18 * swing, Image.Resampling.BILINEAR, center=pivot))
    _Pen(image).box((0.35, 0.03), (0.95, 0.13), (122, 78, 50), radius=0.03)


def _bird(image: Image.Image, phase: float, colour: float) -> None:
    """A round bird that flaps once a beat."""
    pen = _Pen(image)
    body, belly, wing_colour = _hsv(colour, 0.75, 0.9), _hsv(colour + 0.03, 0.28, 1.0), _hsv(colour - 0.03, 0.85, 0.68)
    flap = math.sin(4 * math.pi * phase)
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
    pen = _Pen(image)
    shell, rim = _hsv(colour, 0.8, 0.8), (240, 200, 96)
    left, right, top, bottom, depth = 0.14, 1.06, 0.5, 0.86, 0.11
    pen.ellipse((0.6, 0.92), (0.5, 0.07), (0, 0, 0, 70), line=0)
    pen.ellipse((0.6, bottom), (0.46, depth), rim)
    pen.box((left, top), (right, bottom - 0.03), shell, line=0)
    pen.ellipse((0.6, bottom - 0.045), (0.46, depth), shell, line=0)
    for side in (left, right):
        pen.line([(side, top), (side, bottom)], _INK, _LINE)
    xs = np.linspace(left, right, 9)
    bulge = depth * np.sqrt(np.maximum(0, 1 - ((xs - 0.6) / 0.46) ** 2))
    ends = np.where(np.arange(9) % 2, bottom - 0.05, top) + bulge
    pen.line(list(zip(xs.tolist(), ends.tolist(), strict=True)), (250, 244, 226), 0.025)
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
    pen = _Pen(image)
    paint = _hsv(0.6, 0.1 * colour, 0.98)
    lamps = ((0.88, (255, 50, 50), phase < 0.5), (1.06, (60, 110, 255), phase >= 0.5))
    blink = 0.75 + 0.25 * math.sin(12 * math.pi * phase)
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
        x, y = square * 0.145, 0.05 * (square % 2)
        pen.box((0.14 + x, 0.63 + y), (0.21 + x, 0.68 + y), (250, 220, 60), line=0)
    pen.ellipse((1.82, 0.6), (0.06, 0.05), (255, 244, 170))
    pen.box((0.08, 0.56), (0.16, 0.64), (214, 50, 44), radius=0.02)
    for x in (0.48, 1.5):
        pen.ellipse((x, 0.82), (0.17, 0.15), _INK, line=0)
        _wheel(pen, (x, 0.82), 0.135, 2 * phase, (52, 50, 58), (200, 204, 212), spokes=5)


def _steam_train(image: Image.Image, phase: float, colour: float) -> None:
    """An engine whose chimney sends up a puff a beat; its wheels turn once in two."""
    pen = _Pen(image)
    paint, dark, brass, iron = _hsv(colour, 0.75, 0.72), _hsv(colour, 0.8, 0.48), (232, 186, 80), (70, 66, 78)
    for puff in range(4):
        age = (2 * phase + puff) % 4 / 4
        radius = 0.05 + 0.085 * age**0.7
        smoke = (*[round(255 - 50 * age)] * 3, round(245 - 110 * age))
        pen.ellipse((1.3 - 0.75 * age, 0.2 - 0.06 * age), (radius * 1.35, radius), smoke, line=0)
    pen.box((0.06, 0.93), (1.74, 0.96), (90, 84, 92), line=0)
    pen.box((0.16, 0.7), (1.6, 0.78), iron)
    pen.polygon([(1.5, 0.7), (1.7, 0.92), (1.42, 0.92)], (190, 50, 44))
    pen.box((0.6, 0.42), (1.52, 0.72), paint, radius=0.07)
    pen.box((0.66, 0.46), (1.46, 0.51), _hsv(colour, 0.5, 0.92), radius=0.02, line=0)
    for band in (0.8, 1.04, 1.28):
        pen.box((band, 0.425), (band + 0.03, 0.715), brass, line=0)
    pen.polygon([(1.22, 0.42), (1.24, 0.28), (1.38, 0.28), (1.4, 0.42)], iron)
    pen.box((1.19, 0.22), (1.43, 0.29), dark, radius=0.02)
    pen.ellipse((0.93, 0.41), (0.09, 0.08), brass)
    pen.box((0.2, 0.32), (0.66, 0.74), dark)
    pen.box((0.28, 0.39), (0.56, 0.56), _GLASS, radius=0.02)
    pen.box((0.13, 0.25), (0.72, 0.33), iron, radius=0.03)
    pen.ellipse((1.53, 0.55), (0.05, 0.06), (255, 240, 160))
    for x, y, radius in ((0.38, 0.8, 0.15), (0.74, 0.8, 0.15), (1.06, 0.84, 0.11), (1.33, 0.84, 0.11)):
        _wheel(pen, (x, y), radius, phase, iron, (212, 60, 50), spokes=6)
    x, y = 0.09 * math.cos(2 * math.pi * phase), 0.09 * math.sin(2 * math.pi * phase)
    rod = [(0.38 + x, 0.8 + y), (0.74 + x, 0.8 + y), (1.2, 0.78)]
    pen.line(rod, _INK, 0.06)
    pen.line(rod, (216, 216, 224), 0.032)


class _Drawing(NamedTuple):
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


_DRAWINGS = {
    "Bell": _Drawing(_bell, 1.3, (0.38, 0.52), (0.0, 0.5), (0.03, 0.1), 0.02, faces_travel=False),
    "Bird": _Drawing(_bird, 1.4, (0.28, 0.4), (0.0, 0.8), (0.1, 0.22), 0.1, faces_travel=True),
    "Drum": _Drawing(_drum, 1.2, (0.36, 0.5), (0.7, 1.0), (0.03, 0.1), 0.015, faces_travel=False),
    "Police car": _Drawing(_police_car, 2.0, (0.3, 0.42), (0.8, 1.0), (0.08, 0.2), 0.01, faces_travel=True),
    "Steam train": _Drawing(_steam_train, 1.8, (0.36, 0.5), (0.8, 1.0), (0.06, 0.13), 0.006, faces_travel=True),
}
