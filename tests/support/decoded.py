"""Made-up videos and what decoding them must give."""

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.decode.frames import FrameRequest
from support.making import HEIGHT, WIDTH, Audio, Video, audio_with_sweep, make_video, numbers_in, on_display, steady

REQUEST = FrameRequest(HEIGHT, WIDTH)
MILLISECOND = 1e-3
NTSC = Fraction(30_000, 1001)
AT = 1.3
"""Second of the audio at which the sweep starts in most clips."""
TICK_25 = Fraction(1, 25)
RATE_HZ = 16_000
FAST = {
    "libx265": {"x265-params": "log-level=none:keyint=20:bframes=3", "preset": "ultrafast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "9"},  # faster ones blur one number into the next
    "mjpeg": {"strict": "unofficial"},
}


def sweep_audio(seconds: float = 3, rate_hz: int = 48_000, codec: str = "flac", **more: Any) -> Audio:
    return Audio(audio_with_sweep(AT, seconds, rate_hz), rate_hz, codec=codec, **more)


def assert_shows(
    clip: DecodedClip, seconds: list[Fraction], tolerance_seconds: float = 1e-6, frame_at: float = 0.5
) -> None:
    """The frames and their times are those displayed at the wanted times."""
    in_clip = [time - Fraction(clip.start_seconds) for time in seconds]
    expected = on_display(in_clip, clip.frame_seconds.shape[1], frame_at)
    np.testing.assert_array_equal(numbers_in(clip.frames), expected)
    times = np.array([float(time) for time in seconds])[expected]
    np.testing.assert_allclose(clip.frame_seconds, times, rtol=0, atol=tolerance_seconds)


def same(one: DecodedClip, other: DecodedClip) -> bool:
    return (
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.frame_seconds, other.frame_seconds)
        and np.array_equal(one.waveform, other.waveform)
        and one.duration_seconds == other.duration_seconds
    )


def overwrite_packets(path: Path, kind: str, when: Callable[[float], bool]) -> list[float]:
    """Fill the packets of a stream at the chosen times with noise; returns those times in seconds."""
    content = bytearray(path.read_bytes())
    noise = random.Random(0)
    times = []
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.stream.type == kind and packet.pos is not None and packet.pts is not None and packet.size:
                time = float(packet.pts * packet.time_base)
                if when(time):
                    begin = content.index(bytes(packet), packet.pos)  # Matroska's position is that of a header
                    content[begin : begin + packet.size] = noise.randbytes(packet.size)
                    times.append(time)
    path.write_bytes(content)
    return times


def restamped(source: Path, path: Path, shift_seconds: Callable[[int, float], float]) -> Path:
    """The same packets; those of audio later by what is given for their number and time."""
    with av.open(str(source)) as one, av.open(str(path), "w") as other:
        streams = {stream: other.add_stream_from_template(stream) for stream in one.streams}
        number = 0
        for packet in one.demux():
            if packet.pts is None:
                continue
            assert packet.time_base is not None
            if packet.stream.type == "audio":
                shift = round(shift_seconds(number, float(packet.pts * packet.time_base)) / packet.time_base)
                packet.pts, packet.dts = max(packet.pts + shift, 0), max((packet.dts or 0) + shift, 0)
                number += 1
            packet.stream = streams[packet.stream]
            other.mux(packet)
    return path


def joined(tmp_path: Path, one: tuple[Video, Audio], other: tuple[Video, Audio]) -> Path:
    """Two transport streams one after the other, as in broadcasts; neither may start at 0, or it would be moved."""
    parts = [
        make_video(tmp_path / f"{number}.ts", *streams, container="mpegts").read_bytes()
        for number, streams in enumerate((one, other))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    return path


def video(seconds: list[Fraction] | None = None, codec: str = "libx264", **more: Any) -> Video:
    """By default three seconds at 25 frames a second."""
    options = FAST.get(codec, {}) | more.pop("options", {})
    return Video(seconds or steady(75), codec, options=options, **more)


def audio(
    seconds: float = 3, rate_hz: int = 48_000, codec: str = "flac", layout: str = "mono", start: Any = 0
) -> Audio:
    return Audio(audio_with_sweep(AT, seconds, rate_hz), rate_hz, layout, codec, Fraction(start))
