"""Frames by decord, for those whose other tools use it: the optional second decoder.

decord finds frames by their number and has an FFmpeg of 2021 (no AV1), which silently seeks to wrong frames in
transport streams and in HEVC. Therefore PyAV reads the file, and decord gets the compressed frames of the ten seconds
alone, in a small Matroska file in memory, which it decodes from the first on, without a seek. When a frame is displayed
is known from PyAV's timestamps.
"""

import io
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ccln.pipeline.decode.container import Clock, DecodeError
from ccln.pipeline.decode.frames import shown_aspect
from ccln.pipeline.segments import CLIP_SECONDS

# Matroska rounds both of two times to a millisecond.
_TOLERANCE_SECONDS = 0.002
# In H.264 and HEVC at most sixteen frames may come before one that is displayed before them; no codec allows more.
_MAX_REORDERED = 16
_MAX_FRAMES = 100_000
# Decord's messages start with time, file and line of its source.
_LOG_PREFIX = re.compile(r"\[[\d:]+\] \S+:\d+: ")


class DecordMissingError(Exception):
    """decord is asked for and not installed."""


def load_decord() -> Any:
    """Import decord.

    Raises:
        DecordMissingError: It is not installed.
    """
    try:
        import decord
    except ImportError as error:
        raise DecordMissingError(
            "the decoder decord is not installed: it comes with ccln on Linux on x86-64 alone, where it has a wheel. "
            "Leave the decoder at pyav."
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


class _CompressedFrame(NamedTuple):
    """When a compressed frame is displayed, in ticks of its stream."""

    pts: int
    duration: int
    shown: bool
    """False if an edit list hides it; it is decoded all the same."""


class DecordFrames:
    """Collects the compressed frames of the ten seconds, then decodes the wanted ones."""

    def __init__(self, path: Path, video: VideoStream, clock: Clock) -> None:
        """Prepare for the video stream of a file, whose path is for messages.

        Raises:
            DecordMissingError: decord is not installed.
        """
        self.aspect = nan
        """Width over height of the first frame as a player displays it, once it has come."""
        self._decord = load_decord()
        self._path, self._video, self._clock = path, video, clock
        self._compressed: list[_CompressedFrame] = []
        self._quarter_turns = 0
        self._file = io.BytesIO()
        self._output = av.open(self._file, "w", format="matroska")
        self._later = 0

    def has_passed(self, seconds: float) -> bool:
        """Whether all frames before then, at most the end of the ten seconds, have come."""
        return seconds <= CLIP_SECONDS and self._later > _MAX_REORDERED

    def add(self, packet: Packet) -> None:
        """Take the next packet of the stream.

        Raises:
            DecodeError: decord would give wrong frames.
        """
        if not packet.size:
            return
        if packet.pts is None or len(self._compressed) == _MAX_FRAMES:
            raise self._refusal("not all its frames have a time, or they are too many")
        try:
            if not self._compressed:
                self._clock.start(self._video, packet.pts)
                self._begin(packet)
            elif packet.pts < self._compressed[0].pts:
                raise self._refusal("it starts with frames that refer to earlier ones")
            if self._video.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10:
                raise self._refusal("it holds hidden frames, which decord counts")
            self._compressed.append(_CompressedFrame(packet.pts, packet.duration or 0, not packet.is_discard))
            self._later += self._clock.seconds(self._video, packet.pts) >= CLIP_SECONDS
            # Matroska need not say when frames are to be decoded: any ascending times before those of display do.
            packet.dts = self._compressed[0].pts + len(self._compressed) - _MAX_FRAMES
            packet.stream = self._stream
            self._output.mux(packet)
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            raise self._refusal(f"its {self._video.codec_context.name} video cannot be passed to it") from error

    def _begin(self, packet: Packet) -> None:
        if not packet.is_keyframe:
            raise self._refusal("it does not start with a key frame")
        frames = [*packet.decode(), *self._video.codec_context.decode(None)]
        if not frames or not isinstance(frames[0], VideoFrame):
            raise self._refusal("its first frame cannot be decoded")
        self._quarter_turns = round(frames[0].rotation / 90) % 4
        self.aspect = shown_aspect(self._video, frames[0])
        self._stream = self._output.add_stream_from_template(
            self._video, opaque=True, rate=self._video.average_rate or 25
        )

    def frames(self, wanted_seconds: Sequence[Fraction]) -> Iterator[tuple[VideoFrame, float]]:
        """The frames displayed at the wanted times and at the end of the ten seconds, upright, and when each starts.

        The wanted times are on the file's clock, ascending.

        Raises:
            DecodeError: decord cannot decode them.
        """
        self._output.close()
        compressed = sorted(self._compressed)
        numbers = [number for number, frame in enumerate(compressed) if frame.shown]
        if not numbers:
            return
        times = [self._clock.seconds(self._video, frame.pts) for frame in compressed]
        starts = [times[number] for number in numbers]
        displayed = (max(bisect_right(starts, time) - 1, 0) for time in (*map(float, wanted_seconds), CLIP_SECONDS))
        wanted = dict.fromkeys(displayed)
        decoded = self._decoded([numbers[i] for i in wanted], times)
        for i, rgb in zip(wanted, decoded, strict=True):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(rgb, self._quarter_turns)), format="rgb24")
            frame.pts, frame.time_base = compressed[numbers[i]].pts, self._video.time_base
            frame.duration = compressed[numbers[i]].duration
            yield frame, starts[i]

    def _decoded(self, numbers: Sequence[int], seconds: Sequence[float]) -> Iterator[np.ndarray]:
        """Frames by number in display order, ascending, as uint8 RGB (height, width, channel), one held at a time.

        `seconds` are when all frames are displayed; decord must find the same times.
        """
        try:
            self._file.seek(0)
            reader = self._decord.VideoReader(self._file, ctx=self._decord.cpu(0), num_threads=1)
            theirs = reader.get_frame_timestamp(range(len(reader)))[:, 0]
            ours = np.subtract(seconds, seconds[0])
            if len(theirs) != len(ours) or np.abs(theirs - theirs[0] - ours).max() > _TOLERANCE_SECONDS:
                raise self._refusal("it counts other frames than PyAV")
            # decord seeks whenever it is sent past a key frame. Sent to the frame before and asked for that, it stands
            # at the key frame without a seek.
            before_keys = [key - 1 for key in reader.get_key_indices()]
            position = 0
            for number in numbers:
                for step in before_keys:
                    if position <= step < number:
                        reader.seek_accurate(step)
                        reader.next()
                reader.seek_accurate(number)
                yield reader.next().asnumpy()
                position = number + 1
        except (self._decord.DECORDError, RuntimeError, AssertionError, StopIteration) as error:
            raise self._refusal(_LOG_PREFIX.sub("", str(error)).strip().split("\n")[0] or repr(error)) from error

    def _refusal(self, reason: str) -> DecodeError:
        return DecodeError(f"{self._path}: decord cannot decode its video ({reason}). Use the decoder pyav.")
