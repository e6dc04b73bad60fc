"""Short videos whose content shows what is displayed and heard when.

Every frame carries its own number as a grid of black and white blocks, which stays readable in any codec; the audio is
silence except for one sweep at a known second, which a matched filter finds again to the sample.
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
    """Grey uint8 (height, width): ``number`` in binary, a bit in each block, the most significant at the top left."""
    bits = (number >> np.arange(ROWS * COLUMNS)[::-1]) & 1
    blocks = np.where(bits.reshape(ROWS, COLUMNS), 235, 16).astype(np.uint8)
    return blocks.repeat(height // ROWS, axis=0).repeat(width // COLUMNS, axis=1)


def number_in(frame: np.ndarray) -> int:
    """The number painted into an RGB frame (height, width, channel) of any size, from the centres of its blocks."""
    height, width = frame.shape[:2]
    rows = (np.arange(ROWS) * 2 + 1) * height // (2 * ROWS)
    columns = (np.arange(COLUMNS) * 2 + 1) * width // (2 * COLUMNS)
    bits = frame[np.ix_(rows, columns)].mean(axis=-1).ravel() > 128
    return int(bits @ (1 << np.arange(ROWS * COLUMNS)[::-1]))


def numbers_in(frames: np.ndarray) -> np.ndarray:
    """The numbers in frames (segment, frame, height, width, channel), as (segment, frame)."""
    return np.array([[number_in(frame) for frame in segment] for segment in frames])


def on_display(seconds: Sequence[Fraction], frames_per_segment: int = 16, frame_at: float = 0.5) -> np.ndarray:
    """Number of the frame displayed at every wanted time (segment, frame), from the times on the clip's clock."""
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
    samples = np.zeros(round(seconds * rate_hz), np.float32)
    burst = sweep(rate_hz)
    start = round(at_seconds * rate_hz)
    samples[start : start + len(burst)] = burst[: len(samples) - start]
    return samples


def sweep_heard_at(waveform: np.ndarray, rate_hz: int) -> float:
    """Second at which the sweep starts in a waveform (sample,), by matched filter."""
    burst = sweep(rate_hz)
    size = len(waveform) + len(burst)
    match = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(burst, size).conj(), size)
    lag = int(np.argmax(match))
    return (lag if lag < len(waveform) else lag - size) / rate_hz


@dataclass(frozen=True)
class Video:
    """The video stream to be made; frame i carries the number ``first_number`` + i."""

    seconds: Sequence[Fraction]
    """When each frame is displayed."""
    codec: str = "libx264"
    height: int = HEIGHT
    width: int = WIDTH
    quarter_turns: int = 0
    """How often a player must turn the stored frame counter-clockwise; the number is readable after that."""
    pixel_format: str = "yuv420p"
    time_base: Fraction = Fraction(1, 30_000)
    """Grid of the times. AVI and MPEG-2 want one over the frame rate."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the encoder."""
    first_number: int = 0


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
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Language and title."""


def steady(count: int, rate: Fraction | int = 25, start_seconds: Fraction | int = 0) -> list[Fraction]:
    """Times of ``count`` frames at a constant rate."""
    return [start_seconds + i / Fraction(rate) for i in range(count)]


@contextmanager
def _own_priority() -> Iterator[None]:
    """SVT-AV1 gives the encoding process, if it runs as root, the highest real-time priority (SCHED_FIFO, 99) for good.

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
    video: Video | None = None,
    audio: Audio | Sequence[Audio] | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    container: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a file with either stream, or both, or several audio streams.

    Args:
        path: Its suffix names the container, unless ``container`` does.
        video: The video stream.
        audio: The audio stream, or several in order.
        metadata: Of the container.
        container: FFmpeg's name of the muxer.
        options: Of the muxer.
    """
    with _own_priority(), av.open(str(path), "w", format=container, container_options=dict(options or {})) as output:
        output.metadata.update(metadata or {})
        video_stream = _add_video(output, video) if video else None
        audios = [audio] if isinstance(audio, Audio) else audio or []
        audio_streams = [_add_audio(output, each) for each in audios]
        frames: list[tuple[Fraction, VideoStream | AudioStream, VideoFrame | AudioFrame]] = []
        if video and video_stream:
            frames += [(seconds, video_stream, frame) for seconds, frame in _video_frames(video)]
        for each, stream in zip(audios, audio_streams, strict=True):
            frames += [(seconds, stream, frame) for seconds, frame in _audio_frames(each, stream)]
        for _, stream, frame in sorted(frames, key=lambda timed: timed[0]):
            output.mux(stream.encode(frame))  # type: ignore[arg-type]
        for stream in ([video_stream] if video_stream else []) + audio_streams:
            output.mux(stream.encode(None))
    return path


def cover_image() -> bytes:
    """A small JPEG image, as music files carry one."""
    image = BytesIO()
    VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24").to_image().save(image, "jpeg")
    return image.getvalue()


def _add_video(output: OutputContainer, video: Video) -> VideoStream:
    # The stated rate only fills headers; what counts are the time stamps.
    rate = Fraction(25) if len(video.seconds) < 2 else 1 / (video.seconds[1] - video.seconds[0])
    stream = output.add_stream(video.codec, rate=rate, options=dict(video.options))
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = video.height, video.width
    if video.quarter_turns % 2:
        stream.height, stream.width = video.width, video.height
    stream.pix_fmt = video.pixel_format
    stream.codec_context.time_base = video.time_base
    stream.codec_context.thread_count = 1
    if video.quarter_turns:
        stream.set_display_rotation(90 * video.quarter_turns)
    return stream


def _video_frames(video: Video) -> list[tuple[Fraction, VideoFrame | AudioFrame]]:
    frames: list[tuple[Fraction, VideoFrame | AudioFrame]] = []
    for number, seconds in enumerate(video.seconds, video.first_number):
        stored = np.rot90(numbered_frame(number, video.height, video.width), -video.quarter_turns)
        colourless = np.full((stored.shape[0] // 2, stored.shape[1]), 128, np.uint8)
        frame = VideoFrame.from_ndarray(np.concatenate([stored, colourless]), format="yuv420p")
        frame = frame.reformat(format=video.pixel_format)
        frame.pts, frame.time_base = round(seconds / video.time_base), video.time_base
        frames.append((seconds, frame))
    return frames


def _add_audio(output: OutputContainer, audio: Audio) -> AudioStream:
    stream = output.add_stream(audio.codec, rate=audio.rate_hz, layout=audio.layout)
    assert isinstance(stream, AudioStream)
    stream.metadata.update(audio.metadata)
    return stream


def _audio_frames(audio: Audio, stream: AudioStream) -> list[tuple[Fraction, VideoFrame | AudioFrame]]:
    samples = np.atleast_2d(audio.samples)
    if len(samples) == 1:
        samples = samples.repeat(AudioLayout(audio.layout).nb_channels, axis=0)
    stream.codec_context.open(strict=False)
    size = stream.codec_context.frame_size or 1024
    first, last = (round(edge * audio.rate_hz) for edge in audio.gap or (0, 0))
    frames: list[tuple[Fraction, VideoFrame | AudioFrame]] = []
    for begin in range(0, samples.shape[1], size):
        if first <= begin < last:
            continue
        # (channel, sample) -> interleaved (1, sample x channel): PyAV 18 cannot fill eight planes or more.
        interleaved = np.ascontiguousarray(samples[:, begin : begin + size].astype(np.float32).T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(interleaved, format="flt", layout=audio.layout)
        frame.sample_rate = audio.rate_hz
        frame.time_base = Fraction(1, audio.rate_hz)
        frame.pts = begin + round(audio.start_seconds * audio.rate_hz)
        frames.append((audio.start_seconds + Fraction(begin, audio.rate_hz), frame))
    return frames
