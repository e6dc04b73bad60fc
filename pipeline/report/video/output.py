"""The file that is written: pictures encoded anew, sound as it was, whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import lcm
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import av.error
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from ccln.pipeline.report.video.planes import FORMAT, stated_matrix
from ccln.pipeline.report.writers.files import OutputError, is_there, make_folder

# What players understand within MP4; FFmpeg writes more into it.
_SOUND_OF_MP4 = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})

_MAX_TICKS_PER_SECOND = (
    50_000_000  # MP4 has 32 bits for the time between two pictures: with more, not a minute and a half
)
_TICKS_PER_SECOND = 1_000_000  # where a file has more than that, which no picture needs
_MAX_MOVIE_TICKS_PER_SECOND = 2**31 - 1

_ENCODER_OPTIONS = {"crf": "20", "preset": "veryfast"}


def suffix_for(audio: AudioStream | None) -> str:
    """The suffix .mp4, or .mkv for sound that players do not expect in MP4."""
    return ".mp4" if audio is None or audio.codec_context.codec.canonical_name in _SOUND_OF_MP4 else ".mkv"


def common_ticks(time_base: Fraction, zero: Fraction) -> Fraction:
    """A unit of time, in seconds, in which a stream's times are whole numbers after `zero` is taken off."""
    denominator = lcm(time_base.denominator, zero.denominator)
    return Fraction(1, denominator if denominator <= _MAX_TICKS_PER_SECOND else _TICKS_PER_SECOND)


class VideoFile:
    """A video file in the making, as a context: there when it is left, and not at all when it is left by an error.

    Every method raises OutputError where the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        picture: VideoStream,
        first: VideoFrame,
        sound: AudioStream | None,
        ticks: Fraction,
        size: tuple[int, int],
    ) -> None:
        """Prepare a file; it is begun with the first picture or sound.

        Args:
            path: of the file when it is whole; `suffix_for` says what for. Its folder is made if it does not exist.
            picture: the stream that the pictures come from.
            first: of its frames, which says what its colours are.
            sound: the stream that the packets of sound come from.
            ticks: unit of the pictures' times, in seconds.
            size: width and height of the pictures, in pixels, both even.
        """
        self._path = path
        self._source = picture, first
        self._sound = sound
        self._ticks = ticks
        self._size = size
        self._partial = path.with_name(f".{uuid.uuid4().hex}.partial")

    def __enter__(self) -> Self:
        with _refusals(self._path):
            make_folder(self._path.parent)
            self._file: BinaryIO = self._partial.open("x+b")
            try:
                self._container: OutputContainer = self._begin()
            except BaseException:
                self._discard()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with _refusals(self._path):
                    self._container.mux(self._pictures.encode(None))
                    self._container.close()
                    self._file.close()
                    if not is_there(self._path, self._partial):
                        os.replace(self._partial, self._path)
        finally:
            self._discard()

    def add_picture(self, picture: VideoFrame) -> None:
        """Take the next picture, with its time."""
        with _refusals(self._path):
            self._container.mux(self._pictures.encode(picture))

    def add_sound(self, packet: Packet) -> None:
        """Take the next packet of sound, with its time on this file's clock."""
        with _refusals(self._path):
            packet.stream = self._sounds
            self._container.mux(packet)

    def _begin(self) -> OutputContainer:
        # Without bitexact, Matroska gets a random number: the same clip would not give the same file again.
        options = {"fflags": "bitexact"}
        mp4 = self._path.suffix == ".mp4"
        if mp4:
            movie = lcm(self._ticks.denominator, self._sound.rate if self._sound else 1)
            if movie > _MAX_MOVIE_TICKS_PER_SECOND:
                movie = self._ticks.denominator
            # The unit in which MP4 says when streams begin; by default it is a millisecond.
            options |= {"movie_timescale": str(movie), "video_track_timescale": str(self._ticks.denominator)}
        container = av.open(self._file, "w", format="mp4" if mp4 else "matroska", container_options=options)
        self._pictures = self._add_pictures(container)
        if self._sound is not None:
            try:
                self._sounds = container.add_stream_from_template(self._sound)
            except ValueError as error:
                raise OutputError(
                    f"{self._path}: cannot be written: neither MP4 nor Matroska holds sound as its source has it "
                    f"({self._sound.codec_context.name}). Convert the source's sound to AAC."
                ) from error
        return container

    def _add_pictures(self, container: OutputContainer) -> VideoStream:
        source, first = self._source
        # The stated rate only fills headers; what counts are the times.
        pictures = container.add_stream("libx264", rate=source.average_rate or 25, options=dict(_ENCODER_OPTIONS))
        assert isinstance(pictures, VideoStream)
        pictures.width, pictures.height = self._size
        pictures.pix_fmt = FORMAT
        context = pictures.codec_context
        context.time_base = self._ticks
        context.thread_type = "FRAME"
        context.color_range = ColorRange.MPEG
        context.colorspace = stated_matrix(first)
        context.color_primaries = first.color_primaries
        context.color_trc = first.color_trc
        aspect = source.sample_aspect_ratio
        if aspect:
            context.sample_aspect_ratio = 1 / aspect if round(first.rotation / 90) % 2 else aspect
        return pictures

    def _discard(self) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"{path}: cannot be written ({reason}). Make room there, or choose another place.") from error
