"""The frames of the demo's clips: a drifting, noisy scene and moving objects in it."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccln.pipeline.demo.plan import CLASS_BEAT_HZ, CLASS_NAMES, Span, clip_generator
from ccln.pipeline.demo.sprites import DRAWINGS, PHASES, Pen, draw_phases, hsv
from ccln.pipeline.segments import CLIP_SECONDS

FRAME_RATE_HZ = 16
FRAME_WIDTH, FRAME_HEIGHT = 320, 240

_CANVAS = (400, 300)  # the scene is larger than the frame: the camera drifts over it
_NOISE_MARGIN = 64
_SCENE_STREAM, _ACTOR_STREAM = 20, 21


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
    camera = _Camera(_draw_scene(rng), rng)
    clutter = _Clutter(rng)
    noise = rng.normal(0, rng.uniform(2, 5), (FRAME_HEIGHT + _NOISE_MARGIN, FRAME_WIDTH + _NOISE_MARGIN, 3))
    noise = noise.round().astype(np.int16)
    corners = rng.integers(_NOISE_MARGIN, size=(CLIP_SECONDS * FRAME_RATE_HZ, 2))
    actors = {name: _Actor(name, pace, entropy) for name in sorted({span.class_name for span in seen})}
    for number, (top, left) in enumerate(corners):
        seconds = number / FRAME_RATE_HZ
        image = camera.view(seconds)
        clutter.paste(image, seconds)
        for span in seen:
            if span.start_seconds <= seconds < span.end_seconds:
                actors[span.class_name].paste(image, seconds)
        grain = noise[top : top + FRAME_HEIGHT, left : left + FRAME_WIDTH]
        yield np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)


class _Actor:
    """A class's object as it looks and moves in one clip."""

    def __init__(self, class_name: str, pace: float, entropy: tuple[int, int, int]):
        rng = clip_generator(entropy, _ACTOR_STREAM, CLASS_NAMES.index(class_name))
        drawing = DRAWINGS[class_name]
        self._drawing = drawing
        self._cycle_hz = CLASS_BEAT_HZ[class_name] * pace / 2
        self._height = round(FRAME_HEIGHT * rng.uniform(*drawing.height))
        self._sprites = draw_phases(class_name, self._height, rng.random())
        self._mirrored = [sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for sprite in self._sprites]
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
        phase = int(self._cycle_hz * seconds * PHASES) % PHASES
        sprite = (self._mirrored if mirrored else self._sprites)[phase]
        bob = self._bob * math.sin(2 * math.pi * self._bob_hz * seconds + self._bob_phase)
        highest = FRAME_HEIGHT - self._height
        y = min(max(self._top * highest + bob, 0), highest)
        image.paste(sprite, (round(place * (image.width - sprite.width)), round(y)), sprite)


class _Camera:
    """A window that drifts over the scene and zooms a little."""

    def __init__(self, scene: Image.Image, rng: np.random.Generator):
        # Enlarged once: taking the nearest pixels of it is as smooth as interpolating each frame, and ten times faster.
        self._scene = scene.resize((3 * scene.width, 3 * scene.height), Image.Resampling.BILINEAR)
        self._hz = rng.uniform(0.02, 0.09, 3)
        self._phase = rng.uniform(0, 2 * math.pi, 3)

    def view(self, seconds: float) -> Image.Image:
        x, y, zoom = 0.5 + 0.5 * np.sin(2 * math.pi * self._hz * seconds + self._phase)
        share = 0.72 + 0.08 * zoom
        width, height = self._scene.width * share, self._scene.height * share
        left, top = x * (self._scene.width - width), y * (self._scene.height - height)
        return self._scene.resize(
            (FRAME_WIDTH, FRAME_HEIGHT), Image.Resampling.NEAREST, box=(left, top, left + width, top + height)
        )


class _Clutter:
    """Up to three pale discs that float about: motion without meaning."""

    def __init__(self, rng: np.random.Generator):
        self._discs = []
        for _ in range(rng.integers(4)):
            size = int(rng.integers(20, 60))
            disc = Image.new("RGBA", (3 * size, 3 * size))
            tint = hsv(rng.random(), rng.uniform(0.1, 0.4), 1.0, alpha=int(rng.integers(60, 130)))
            Pen(disc).ellipse((0.5, 0.5), (0.48, 0.48), tint, line=0)
            motion = rng.uniform((0.03, 0.03, 0, 0), (0.15, 0.15, 2 * math.pi, 2 * math.pi))
            self._discs.append((disc.resize((size, size), Image.Resampling.BOX), motion))

    def paste(self, image: Image.Image, seconds: float) -> None:
        for disc, motion in self._discs:
            x, y = 0.5 + 0.5 * np.sin(2 * math.pi * motion[:2] * seconds + motion[2:])
            place = round(x * (image.width - disc.width)), round(y * (image.height - disc.height))
            image.paste(disc, place, disc)


def _draw_scene(rng: np.random.Generator) -> Image.Image:
    """A gradient with hills, a town or bokeh before it, and a fine texture over all."""
    hue = rng.random()
    upper, lower = (
        np.array(hsv(hue + rng.uniform(-0.12, 0.12), rng.uniform(0.15, 0.6), rng.uniform(0.5, 1.0))[:3])
        for _ in range(2)
    )
    slope = np.linspace(0, 1, _CANVAS[1])[:, None, None]
    gradient = np.broadcast_to(upper + (lower - upper) * slope, (_CANVAS[1], _CANVAS[0], 3))
    image = Image.fromarray(gradient.round().astype(np.uint8))
    image = image.resize((2 * _CANVAS[0], 2 * _CANVAS[1]), Image.Resampling.BILINEAR).convert("RGBA")
    (_hills, _town, _bokeh)[rng.integers(3)](image, hue, rng)
    pixels = np.asarray(image.convert("RGB").resize(_CANVAS, Image.Resampling.BOX)).astype(np.float32)
    for cells in (6, 20, 60):
        patches = rng.normal(0, rng.uniform(2, 7), (cells, cells)).astype(np.float32)
        pixels += np.asarray(Image.fromarray(patches).resize(_CANVAS, Image.Resampling.BICUBIC))[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _overlay(image: Image.Image, draw: Callable[[Pen], None]) -> None:
    """Draw on a layer of its own, so that transparent shapes blend."""
    layer = Image.new("RGBA", image.size)
    draw(Pen(layer))
    image.alpha_composite(layer)


def _hills(image: Image.Image, hue: float, rng: np.random.Generator) -> None:
    across = image.width / image.height
    sun = (rng.uniform(0.1, across - 0.1), rng.uniform(0.1, 0.35))
    _overlay(image, lambda pen: pen.ellipse(sun, (0.08, 0.08), (255, 250, 225, 200), line=0))
    xs = np.linspace(0, across, 60)
    for layer in range(3):
        waves = rng.uniform((2, 0, 5, 0), (4, 6.3, 11, 6.3))
        level = 0.5 + 0.17 * layer + rng.uniform(-0.04, 0.04)
        ridge = level + 0.06 * np.sin(waves[0] * xs + waves[1]) + 0.02 * np.sin(waves[2] * xs + waves[3])
        colour = hsv(hue + 0.3 + 0.04 * layer, 0.3 + 0.1 * layer, 0.75 - 0.13 * layer)
        points = [*zip(xs.tolist(), ridge.tolist(), strict=True), (across, 1.0), (0.0, 1.0)]
        Pen(image).polygon(points, colour, line=0)


def _town(image: Image.Image, hue: float, rng: np.random.Generator) -> None:
    pen = Pen(image)
    across = image.width / image.height
    window = hsv(0.13, rng.uniform(0.2, 0.6), 0.95)
    for depth in range(2):
        x = -0.05
        while x < across:
            width, top = rng.uniform((0.1, 0.2 + 0.15 * depth), (0.22, 0.5 + 0.12 * depth))
            pen.box((x, top), (x + width, 1), hsv(hue + 0.45, 0.2, 0.62 - 0.2 * depth), line=0)
            for column in np.arange(x + 0.025, x + width - 0.03, 0.045):
                for row in np.arange(top + 0.04, 0.8, 0.07):
                    if rng.random() < 0.45:
                        pen.box((column, row), (column + 0.022, row + 0.035), window, line=0)
            x += width + rng.uniform(0, 0.04)
    pen.box((0, 0.86), (across, 1), hsv(0.7, 0.08, 0.34), line=0)
    for dash in np.arange(0.03, across, 0.16):
        pen.box((dash, 0.92), (dash + 0.08, 0.932), (222, 218, 200), line=0)


def _bokeh(image: Image.Image, hue: float, rng: np.random.Generator) -> None:
    across = image.width / image.height
    for _ in range(rng.integers(10, 22)):
        centre, radius = (rng.uniform(0, across), rng.uniform(0, 1)), rng.uniform(0.03, 0.17)
        tint = hsv(hue + rng.uniform(-0.25, 0.25), rng.uniform(0.1, 0.7), rng.uniform(0.5, 1), alpha=70)
        _overlay(image, lambda pen, c=centre, r=radius, t=tint: pen.ellipse(c, (r, r), t, line=0))
