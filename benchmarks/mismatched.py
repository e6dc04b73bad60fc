"""Videos in which what is heard does not belong to what is seen, made of real ones: background that looks like events.

Audio is written without loss as it is decoded, 16 kHz mono, and a picture's packets are copied: but for what is
exchanged, a video made here is the one that it was made of.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.clip import decode_clips
from ccln.pipeline.decode.container import Clock, chosen_streams, open_video
from ccln.pipeline.decode.frames import FrameRequest

HEIGHT, STILL_RATE_HZ = 240, 5


@dataclass(frozen=True, eq=False)
class Content:
    """What of a video goes into others."""

    waveform: np.ndarray
    """float32 mono (sample,), 16 kHz."""
    first_frame: np.ndarray
    """uint8 RGB (height, width, channel), upright, both sides even."""


def read_content(path: Path) -> Content:
    """Decode the waveform and the first frame of a video.

    Raises:
        DecodeError: it cannot be read.
    """
    request = FrameRequest(HEIGHT, HEIGHT, frames_per_segment=1, frame_at=0.0)
    clips = list(decode_clips(path, request))
    first, last = clips[0], clips[-1]
    samples = round((last.start_seconds + last.duration_seconds) * SAMPLE_RATE_HZ)
    frame = av.VideoFrame.from_ndarray(first.frames[0, 0], "rgb24")
    frame = frame.reformat(width=max(2, 2 * round(HEIGHT * first.aspect / 2)), height=HEIGHT)
    return Content(np.concatenate([clip.waveform for clip in clips])[:samples], frame.to_ndarray())


def with_sound(video: Path, waveform: np.ndarray, target: Path) -> Path:
    """Write a Matroska file with a video's picture and another sound; returns its path."""
    with open_video(video) as source, av.open(str(target), "w", format="matroska") as container:
        picture, audio = chosen_streams(video, source)
        assert picture is not None
        copied = container.add_stream_from_template(picture)
        zero = Clock(picture, *audio).zero or Fraction(0)
        muxed(container, _copied(source, picture, copied, zero), waveform)
    return target


def with_picture(frame: np.ndarray, waveform: np.ndarray, target: Path) -> Path:
    """Write a Matroska file with a still picture as long as its sound; returns its path."""
    with av.open(str(target), "w", format="matroska") as container:
        stream = container.add_stream("libx264", STILL_RATE_HZ, options={"preset": "ultrafast", "crf": "18"})
        stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv420p"
        count = max(1, len(waveform) * STILL_RATE_HZ // SAMPLE_RATE_HZ)
        muxed(container, _still(stream, frame, count), waveform)
    return target


def muxed(container: OutputContainer, picture: Iterator[Packet], waveform: np.ndarray) -> None:
    """Write a picture's packets and a sound into a container that has the picture's stream."""
    sound = _encoded_sound(container.add_stream("pcm_f32le", SAMPLE_RATE_HZ, layout="mono"), waveform)
    packets = [*picture, *sound]
    for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
        container.mux(packet)


def _copied(source: InputContainer, picture: VideoStream, target: VideoStream, zero: Fraction) -> Iterator[Packet]:
    """The packets of a picture on the file's clock, which starts at 0."""
    for packet in source.demux(picture):
        if packet.dts is None or packet.pts is None:
            continue  # the empty one at the end
        ticks = round(zero / packet.time_base)
        packet.pts, packet.dts, packet.stream = packet.pts - ticks, packet.dts - ticks, target
        yield packet


def _still(stream: VideoStream, frame: np.ndarray, count: int) -> Iterator[Packet]:
    for number in range(count):
        again = av.VideoFrame.from_ndarray(frame, "rgb24")
        again.pts, again.time_base = number, Fraction(1, STILL_RATE_HZ)
        yield from stream.encode(again)
    yield from stream.encode()


def _encoded_sound(stream: AudioStream, waveform: np.ndarray) -> Iterator[Packet]:
    for start in range(0, len(waveform), SAMPLE_RATE_HZ):
        samples = np.ascontiguousarray(waveform[None, start : start + SAMPLE_RATE_HZ])
        frame = av.AudioFrame.from_ndarray(samples, "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, start, Fraction(1, SAMPLE_RATE_HZ)
        yield from stream.encode(frame)
    yield from stream.encode()
