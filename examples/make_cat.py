"""Makes cat.mp4: ten seconds in which a cat is first silent, then out of view, then both seen and heard, then gone.

    uv run --with scikit-image examples/make_cat.py

The pictures are two photographs that come with scikit-image; every sound is computed here. README.md beside this file
says whose they are. Frames and samples are computed without chance; the encoded bytes still differ from run to run.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLIP_SECONDS = 10
LABEL = "Cat"
EVENT_SECONDS = (3, 8)
"""The truth: in this interval the cat is in view, and in each of its seconds a meow begins and ends."""
SILENT_SECONDS = (0, 1)
"""In this interval the cat is in view but makes no sound, which is no event. In all else a cup of coffee is in view."""

WIDTH, HEIGHT, FRAME_RATE_HZ = 320, 240, 25
SAMPLE_RATE_HZ = 44_100
ROOM_RMS = 0.008
MEOW_PEAK = 0.6

Waveform = NDArray[np.float64]


class Meow(NamedTuple):
    """One call of the cat."""

    start_seconds: float
    duration_seconds: float
    highest_hz: float
    """Of the fundamental."""


MEOWS = (
    Meow(3.08, 0.82, 700),
    Meow(4.10, 0.66, 620),
    Meow(5.06, 0.86, 760),
    Meow(6.14, 0.62, 660),
    Meow(7.05, 0.80, 690),
)

# A call as a path through mouth shapes: closed, narrow, wide open, rounded. A cat's vocal tract is half as long as a
# person's, so its resonances lie far higher.
_SHAPE_AT = np.array([0.0, 0.18, 0.45, 0.75, 1.0])
_FORMANTS_HZ = np.array(
    [
        [600, 2000, 4200, 6400],  # m
        [1000, 3400, 5000, 7000],  # i
        [1900, 3200, 4900, 7000],  # a
        [1500, 2600, 4600, 6800],  # o
        [900, 1900, 4300, 6500],  # u
    ]
)
_BANDWIDTHS_HZ = np.array([250, 300, 400, 550])
_PITCH_AT, _PITCH = np.array([0, 0.3, 0.6, 1]), np.array([0.72, 1, 0.93, 0.6])
_LOUDNESS_AT, _LOUDNESS = np.array([0, 0.06, 0.15, 0.35, 0.7, 1]), np.array([0, 0.18, 0.3, 1, 0.7, 0])
_VIBRATO_HZ, _VIBRATO = 6.0, 0.015
_BREATH = 0.06
_BLOCK, _HOP = 1024, 256


def sound() -> Waveform:
    """The clip's sound: samples (sample,) in -1..1, mono at `SAMPLE_RATE_HZ`."""
    rng = np.random.default_rng(1)
    room = _noise(CLIP_SECONDS * SAMPLE_RATE_HZ, rng)
    samples = ROOM_RMS * room
    for meow in MEOWS:
        voice = _in_a_room(_voice(meow, rng), rng)
        first = round(meow.start_seconds * SAMPLE_RATE_HZ)
        last = min(first + len(voice), len(samples))
        samples[first:last] += MEOW_PEAK * voice[: last - first]
    return samples


def _voice(meow: Meow, rng: np.random.Generator) -> Waveform:
    """A call with a peak of one: a buzz and some breath, through the resonances of a mouth that opens and closes."""
    count = round(meow.duration_seconds * SAMPLE_RATE_HZ)
    share = np.arange(count) / count
    seconds = share * meow.duration_seconds
    vibrato = 1 + _VIBRATO * np.sin(2 * np.pi * _VIBRATO_HZ * seconds)
    pitch_hz = meow.highest_hz * np.interp(share, _PITCH_AT, _PITCH) * vibrato
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    harmonics = range(1, int(0.45 * SAMPLE_RATE_HZ / pitch_hz.max()) + 1)
    buzz = sum((np.sin(number * phase) / number**0.8 for number in harmonics), np.zeros(count))
    voice = _through_mouth(buzz + _BREATH * rng.standard_normal(count)) * np.interp(share, _LOUDNESS_AT, _LOUDNESS)
    return voice / np.abs(voice).max()


def _through_mouth(source: Waveform) -> Waveform:
    """Filter block by block with the resonances of the moment, and add the blocks up where they overlap."""
    window = np.hanning(_BLOCK + 1)[:-1]
    hertz = np.fft.rfftfreq(2 * _BLOCK, 1 / SAMPLE_RATE_HZ)[:, None]
    padded = np.pad(source, (_BLOCK, 2 * _BLOCK))
    filtered = np.zeros(len(padded) + _BLOCK)
    for first in range(0, len(padded) - _BLOCK, _HOP):
        share = (first - _BLOCK / 2) / len(source)
        formants = np.array([np.interp(share, _SHAPE_AT, track) for track in _FORMANTS_HZ.T])
        # Each resonance is a two-pole filter with a gain of one at 0 Hz.
        gain = (formants**2 / (formants**2 - hertz**2 + 1j * hertz * _BANDWIDTHS_HZ)).prod(1)
        spectrum = np.fft.rfft(window * padded[first : first + _BLOCK], 2 * _BLOCK)
        filtered[first : first + 2 * _BLOCK] += np.fft.irfft(spectrum * gain)
    return filtered[_BLOCK : _BLOCK + len(source)]


def _in_a_room(voice: Waveform, rng: np.random.Generator, echo_seconds: float = 0.12) -> Waveform:
    """The voice and its echoes, which have died away within `echo_seconds`."""
    count = round(echo_seconds * SAMPLE_RATE_HZ)
    echoes = 0.03 * rng.standard_normal(count) * np.exp(-7 * np.arange(count) / count)
    echoes[0] = 1
    size = len(voice) + count
    return np.fft.irfft(np.fft.rfft(voice, size) * np.fft.rfft(echoes, size), size)


def _noise(count: int, rng: np.random.Generator) -> Waveform:
    """Pink noise with an RMS of one: the air of a quiet room."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ), 40)), count)
    return noise / np.sqrt(np.mean(noise**2))


class View(NamedTuple):
    """What the camera shows of a photograph: the middle in shares of its width and height, and the share of height."""

    across: float
    down: float
    size: float


def frames() -> Iterator[Image.Image]:
    """The clip's frames, each RGB of `WIDTH` x `HEIGHT`, at `FRAME_RATE_HZ`."""
    from skimage import data  # pyright: ignore[reportMissingImports] -- needed for nothing but making the clip

    cup, cat = Image.fromarray(data.coffee()), Image.fromarray(data.chelsea())
    _, away = SILENT_SECONDS
    begin, end = EVENT_SECONDS
    yield from _shot(cat, View(0.42, 0.5, 0.98), View(0.44, 0.5, 0.95), away)
    yield from _shot(cup, View(0.45, 0.52, 0.9), View(0.5, 0.48, 0.75), begin - away)
    yield from _shot(cat, View(0.42, 0.5, 0.98), View(0.5, 0.45, 0.8), end - begin)
    yield from _shot(cup, View(0.5, 0.48, 0.75), View(0.55, 0.5, 0.85), CLIP_SECONDS - end)


def _shot(photograph: Image.Image, begin: View, end: View, seconds: int) -> Iterator[Image.Image]:
    """A slow move over a photograph, from rest to rest."""
    count = seconds * FRAME_RATE_HZ
    for share in np.linspace(0, 1, count):
        eased = share * share * (3 - 2 * share)
        across, down, size = (a + (b - a) * eased for a, b in zip(begin, end, strict=True))
        height = size * photograph.height
        width = height * WIDTH / HEIGHT
        left = min(max(across * photograph.width - width / 2, 0), photograph.width - width)
        top = min(max(down * photograph.height - height / 2, 0), photograph.height - height)
        box = (left, top, left + width, top + height)
        yield photograph.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box)


def write(path: Path) -> None:
    """Encode the clip: H.264 and AAC in an mp4 file."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE_HZ, options={"preset": "slow", "crf": "25"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.thread_count = 1  # how many cores there are must not decide the file
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", options={"b": "64k"})
        samples = av.AudioFrame.from_ndarray(sound().astype(np.float32)[np.newaxis], format="fltp", layout="mono")
        samples.sample_rate, samples.time_base, samples.pts = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ), 0
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
        for number, image in enumerate(frames()):
            frame = av.VideoFrame.from_image(image)
            frame.time_base, frame.pts = Fraction(1, FRAME_RATE_HZ), number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


if __name__ == "__main__":
    write(Path(__file__).with_name("cat.mp4"))
