"""Short videos that say of themselves what is in them, and when.

Every picture carries its own number as a grid of black and white blocks, which any codec leaves readable; the sound
is silence but for one sweep at a known second, which a matched filter finds again to the sample.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

HEIGHT, WIDTH = 48, 64
ROWS, COLUMNS = 3, 4
SWEEP_SECONDS = 0.25


def numbered_frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Grey uint8 (height, width): ``number`` in binary, most significant bit at the top left, a bit a block."""
    bits = (number >> np.arange(ROWS * COLUMNS)[::-1]) & 1
    blocks = np.where(bits.reshape(ROWS, COLUMNS), 235, 16).astype(np.uint8)
    return blocks.repeat(height // ROWS, axis=0).repeat(width // COLUMNS, axis=1)


def number_in(picture: np.ndarray) -> int:
    """The number painted into an RGB picture (height, width, 3) of any size; what the middles of its blocks say."""
    height, width = picture.shape[:2]
    rows = (np.arange(ROWS) * 2 + 1) * height // (2 * ROWS)
    columns = (np.arange(COLUMNS) * 2 + 1) * width // (2 * COLUMNS)
    bits = picture[np.ix_(rows, columns)].mean(axis=-1).ravel() > 128
    return int(bits @ (1 << np.arange(ROWS * COLUMNS)[::-1]))


def numbers_in(frames: np.ndarray) -> np.ndarray:
    """The numbers in frames (segment, frame, height, width, 3), as (segment, frame)."""
    return np.array([[number_in(frame) for frame in segment] for segment in frames])


def on_display(seconds: Sequence[Fraction], frames_per_segment: int = 16, frame_at: float = 0.5) -> np.ndarray:
    """Number of the picture on display at every wanted time (segment, frame), from the times on the clip's clock."""
    wanted = [(place + Fraction(frame_at)) / frames_per_segment for place in range(10 * frames_per_segment)]
    picked = [bisect_right(seconds, time) - 1 for time in wanted]
    return np.array(picked).clip(min=0).reshape(10, frames_per_segment)


def sweep(rate_hz: int) -> np.ndarray:
    """Float32 (sample,): a quarter of a second from 300 to 3000 Hz at full height from its first period on."""
    time = np.arange(round(SWEEP_SECONDS * rate_hz)) / rate_hz
    phase = 2 * np.pi * (300 * time + (3000 - 300) / (2 * SWEEP_SECONDS) * time**2)
    return (0.5 * np.sin(phase)).astype(np.float32)


def audio_with_sweep(at_seconds: float, seconds: float, rate_hz: int) -> np.ndarray:
    """Float32 (sample,): silence but for the sweep that starts ``at_seconds``."""
    sound = np.zeros(round(seconds * rate_hz), np.float32)
    burst = sweep(rate_hz)
    start = round(at_seconds * rate_hz)
    sound[start : start + len(burst)] = burst[: len(sound) - start]
    return sound


def sweep_heard_at(waveform: np.ndarray, rate_hz: int) -> float:
    """Second at which the sweep starts in a waveform (sample,), by matched filter."""
    burst = sweep(rate_hz)
    size = len(waveform) + len(burst)
    match = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(burst, size).conj(), size)
    lag = int(np.argmax(match))
    return (lag if lag < len(waveform) else lag - size) / rate_hz


@dataclass(frozen=True)
class Video:
    """The video stream to be made; picture i carries the number i."""

    seconds: Sequence[Fraction]
    """When each picture is shown."""
    codec: str = "libx264"
    height: int = HEIGHT
    width: int = WIDTH
    quarter_turns: int = 0
    """How often a player must turn the stored picture counter-clockwise; the number is readable after that."""
    pixel_format: str = "yuv420p"
    time_base: Fraction = Fraction(1, 30_000)
    """Grid of the times. AVI and MPEG-2 want one over the frame rate."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the encoder."""


@dataclass(frozen=True)
class Audio:
    """The audio stream to be made."""

    samples: np.ndarray
    """Float32 (sample,), or (channel, sample)."""
    rate_hz: int = 44_100
    layout: str = "mono"
    codec: str = "aac"
    start_seconds: Fraction = Fraction(0)
    gap: tuple[float, float] | None = None
    """Start and end, in seconds of the samples, of a stretch that is left out of the stream."""


def steady(count: int, rate: Fraction | int = 25, start_seconds: Fraction | int = 0) -> list[Fraction]:
    """Times of ``count`` pictures at a constant rate."""
    return [start_seconds + i / Fraction(rate) for i in range(count)]


@contextmanager
def _own_priority() -> Iterator[None]:
    """SVT-AV1 gives whoever encodes, if it is root, the highest real-time priority (SCHED_FIFO, 99), for ever.

    All processes that a test then starts inherit it, and one that is busy never lets another have its processor.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def make_video(
    path: Path,
    picture: Video | None = None,
    sound: Audio | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    container: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a file with either stream, or both.

    Args:
        path: its suffix names the container, unless ``container`` does.
        picture: the video stream.
        sound: the audio stream.
        metadata: of the container.
        container: FFmpeg's name of the muxer.
        options: of the muxer.
    """
    with _own_priority(), av.open(str(path), "w", format=container, container_options=dict(options or {})) as output:
        output.metadata.update(metadata or {})
        video = _add_video(output, picture) if picture else None
        audio = _add_audio(output, sound) if sound else None
        pieces: list[tuple[Fraction, VideoFrame | AudioFrame]] = []
        if picture:
            pieces += _video_frames(picture)
        if sound and audio:
            pieces += _audio_frames(sound, audio)
        for _, piece in sorted(pieces, key=lambda timed: timed[0]):
            if isinstance(piece, VideoFrame) and video:
                output.mux(video.encode(piece))
            elif isinstance(piece, AudioFrame) and audio:
                output.mux(audio.encode(piece))
        for stream in (video, audio):
            if stream:
                output.mux(stream.encode(None))
    return path


def cover_image() -> bytes:
    """A small JPEG picture, as music files carry one."""
    image = BytesIO()
    VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24").to_image().save(image, "jpeg")
    return image.getvalue()


def _add_video(output: OutputContainer, picture: Video) -> VideoStream:
    # The stated rate only fills headers; what counts are the time stamps.
    rate = Fraction(25) if len(picture.seconds) < 2 else 1 / (picture.seconds[1] - picture.seconds[0])
    stream = output.add_stream(picture.codec, rate=rate, options=dict(picture.options))
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = picture.height, picture.width
    if picture.quarter_turns % 2:
        stream.height, stream.width = picture.width, picture.height
    stream.pix_fmt = picture.pixel_format
    stream.codec_context.time_base = picture.time_base
    stream.codec_context.thread_count = 1
    if picture.quarter_turns:
        stream.set_display_rotation(90 * picture.quarter_turns)
    return stream


def _video_frames(picture: Video) -> list[tuple[Fraction, VideoFrame | AudioFrame]]:
    frames: list[tuple[Fraction, VideoFrame | AudioFrame]] = []
    for number, seconds in enumerate(picture.seconds):
        stored = np.rot90(numbered_frame(number, picture.height, picture.width), -picture.quarter_turns)
        colourless = np.full((stored.shape[0] // 2, stored.shape[1]), 128, np.uint8)
        frame = VideoFrame.from_ndarray(np.concatenate([stored, colourless]), format="yuv420p")
        frame = frame.reformat(format=picture.pixel_format)
        frame.pts, frame.time_base = round(seconds / picture.time_base), picture.time_base
        frames.append((seconds, frame))
    return frames


def _add_audio(output: OutputContainer, sound: Audio) -> AudioStream:
    stream = output.add_stream(sound.codec, rate=sound.rate_hz, layout=sound.layout)
    assert isinstance(stream, AudioStream)
    return stream


def _audio_frames(sound: Audio, stream: AudioStream) -> list[tuple[Fraction, VideoFrame | AudioFrame]]:
    samples = np.atleast_2d(sound.samples)
    if len(samples) == 1:
        samples = samples.repeat(AudioLayout(sound.layout).nb_channels, axis=0)
    stream.codec_context.open(strict=False)
    size = stream.codec_context.frame_size or 1024
    first, last = (round(edge * sound.rate_hz) for edge in sound.gap or (0, 0))
    pieces: list[tuple[Fraction, VideoFrame | AudioFrame]] = []
    for begin in range(0, samples.shape[1], size):
        if first <= begin < last:
            continue
        piece = samples[:, begin : begin + size].astype(np.float32)
        # (channel, sample) -> interleaved (1, sample x channel): PyAV 18 cannot fill eight planes or more.
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(piece.T).reshape(1, -1), format="flt", layout=sound.layout)
        frame.sample_rate = sound.rate_hz
        frame.time_base = Fraction(1, sound.rate_hz)
        frame.pts = begin + round(sound.start_seconds * sound.rate_hz)
        pieces.append((sound.start_seconds + Fraction(begin, sound.rate_hz), frame))
    return pieces
