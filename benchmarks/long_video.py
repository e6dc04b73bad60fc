"""A synthetic video of any length, made in seconds."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

MINUTE_SECONDS = 60
WIDTH, HEIGHT, RATE_HZ, SAMPLE_RATE_HZ, AUDIO_SAMPLES = 320, 240, 25, 48_000, 960


def repeated_minute(folder: Path, minutes: int) -> Path:
    """One encoded minute, repeated: its packets, moved in time."""
    path = folder / f"{minutes}-minutes.mkv"
    if path.exists():
        return path
    unfinished = path.with_suffix(".unfinished.mkv")
    with av.open(str(unfinished), "w") as container:
        video = container.add_stream("libx264", RATE_HZ, options={"preset": "ultrafast", "g": str(RATE_HZ)})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("libopus", SAMPLE_RATE_HZ, layout="mono")
        packets = (*video_packets(video), *audio_packets(audio))
        minute = sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base)
        for start in range(0, minutes * MINUTE_SECONDS, MINUTE_SECONDS):
            for packet in minute:
                container.mux(moved(packet, start))
    return unfinished.rename(path)


def video_packets(stream: VideoStream) -> Iterator[Packet]:
    """A minute of noise that moves sideways, faster every ten seconds."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    image = noise.repeat(16, 0).repeat(16, 1)
    for number in range(MINUTE_SECONDS * RATE_HZ):
        frame = av.VideoFrame.from_ndarray(np.roll(image, number * (1 + number // 250), 1), "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
        yield from stream.encode(frame)
    yield from stream.encode()


def audio_packets(stream: AudioStream) -> Iterator[Packet]:
    """A minute of tones: another every five seconds, in turn with silence."""
    for number in range(MINUTE_SECONDS * SAMPLE_RATE_HZ // AUDIO_SAMPLES):
        seconds = (number * AUDIO_SAMPLES + np.arange(AUDIO_SAMPLES)) / SAMPLE_RATE_HZ
        step = int(seconds[0]) // 5
        tone = 0.3 * (step % 2) * np.sin(2 * np.pi * 110 * (1 + step) * seconds)
        frame = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, number * AUDIO_SAMPLES, Fraction(1, 48_000)
        yield from stream.encode(frame)


def moved(packet: Packet, seconds: int) -> Packet:
    assert packet.pts is not None
    assert packet.dts is not None
    copy = Packet(bytes(packet))
    copy.stream, copy.time_base = packet.stream, packet.time_base
    ticks = int(seconds / packet.time_base)
    copy.pts, copy.dts, copy.is_keyframe = packet.pts + ticks, packet.dts + ticks, packet.is_keyframe
    return copy
