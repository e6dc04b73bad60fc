"""The file that is written: frames encoded again, audio as it was."""

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from math import lcm
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import av.error
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from ccln.pipeline.report.video.planes import FORMAT, matrix_to_state
from ccln.pipeline.report.writers.files import OutputError

# What players understand within MP4; FFmpeg writes more into it.
_AUDIO_IN_MP4 = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})

# MP4 has 32 bits for the time between two frames: with more ticks a second, that is not a minute and a half.
_MAX_TICKS_PER_SECOND = 50_000_000
_TICKS_PER_SECOND = 1_000_000  # where a file has more than that, which no frame needs
_MAX_MOVIE_TICKS_PER_SECOND = 2**31 - 1

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# Without mbtree: x264's reads memory that nobody has written, on processors with AVX-512, and the same video would not
# give the same file again. At the same quality, files are 7 % larger for it.
_ENCODER_OPTIONS = {"crf": "21", "preset": "veryfast", "mbtree": "0"}
# More wait for the drawing; one a processor would keep frames, and addresses, that a decoder's process may not have.
_ENCODER_THREADS = 4


def suffix_for(audio: Iterable[AudioStream]) -> str:
    """The suffix .mp4, or .mkv for audio that players do not expect in MP4."""
    codecs = {stream.codec_context.codec.canonical_name for stream in audio}
    return ".mp4" if codecs <= _AUDIO_IN_MP4 else ".mkv"


def common_ticks(time_base: Fraction, zero: Fraction) -> Fraction:
    """A unit of time, in seconds, in which a stream's times are whole numbers after `zero` is taken off."""
    denominator = lcm(time_base.denominator, zero.denominator)
    return Fraction(1, denominator if denominator <= _MAX_TICKS_PER_SECOND else _TICKS_PER_SECOND)


class VideoFile:
    """A video file in the making, as a context: complete when it is left, unless by an error.

    Every method raises OutputError where the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        place: Path,
        video: VideoStream,
        first: VideoFrame,
        audio: Sequence[AudioStream],
        ticks: Fraction,
        size: tuple[int, int],
    ) -> None:
        """Prepare a file; it is begun when the context is entered.

        Args:
            path: what the file will be called, with the suffix of `suffix_for`.
            place: where it is written until then.
            video: the stream that the frames come from.
            first: of its frames, which states the colors.
            audio: the streams that the packets of audio come from.
            ticks: unit of the frames' times, in seconds.
            size: width and height of the frames, in pixels, both even.
        """
        self._path, self._place = path, place
        self._source = video, first
        self._audio_sources = audio
        self._ticks = ticks
        self._size = size

    def __enter__(self) -> Self:
        with refusals(self._path), ExitStack() as stack:
            self._file: BinaryIO = stack.enter_context(self._place.open("w+b"))
            self._container: OutputContainer = self._begin()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with refusals(self._path), self._file:
            if error is None:
                self._container.mux(self._video.encode(None))
                for track in self._audio.values():
                    self._container.mux(list(track.packets(None)))
                self._container.close()

    def add_frame(self, frame: VideoFrame) -> None:
        """Write the next frame, with its time."""
        with refusals(self._path):
            self._container.mux(self._video.encode(frame))

    def add_audio(self, packet: Packet) -> None:
        """Write the next packet of audio, with its time on this file's clock."""
        with refusals(self._path):
            self._container.mux(list(self._audio[packet.stream.index].packets(packet)))

    def _begin(self) -> OutputContainer:
        # Without bitexact, Matroska gets a random number: the same video would not give the same file again.
        options = {"fflags": "bitexact"}
        mp4 = self._path.suffix == ".mp4"
        if mp4:
            movie = lcm(self._ticks.denominator, *(source.rate for source in self._audio_sources))
            if movie > _MAX_MOVIE_TICKS_PER_SECOND:
                movie = self._ticks.denominator
            # The unit in which MP4 says when streams begin; by default it is a millisecond.
            options |= {"movie_timescale": str(movie), "video_track_timescale": str(self._ticks.denominator)}
        container = av.open(self._file, "w", format="mp4" if mp4 else "matroska", container_options=options)
        self._video = self._add_video(container)
        self._audio = {source.index: _AudioTrack(container, source) for source in self._audio_sources}
        return container

    def _add_video(self, container: OutputContainer) -> VideoStream:
        source, first = self._source
        # The stated rate only fills headers; what counts are the times.
        video = container.add_stream("libx264", rate=source.average_rate or 25, options=dict(_ENCODER_OPTIONS))
        assert isinstance(video, VideoStream)
        video.width, video.height = self._size
        video.pix_fmt = FORMAT
        context = video.codec_context
        context.time_base = self._ticks
        context.thread_type, context.thread_count = "FRAME", _ENCODER_THREADS
        context.color_range = ColorRange.MPEG
        context.colorspace = matrix_to_state(first)
        context.color_primaries = first.color_primaries
        context.color_trc = first.color_trc
        aspect = source.sample_aspect_ratio
        if aspect:
            context.sample_aspect_ratio = 1 / aspect if round(first.rotation / 90) % 2 else aspect
        return video


class _AudioTrack:
    """A track of audio: packets are copied, or encoded again where the container does not hold their codec."""

    def __init__(self, container: OutputContainer, source: AudioStream) -> None:
        self._source = context = source.codec_context
        self._filter = self._resampler = None
        try:
            self._stream = container.add_stream_from_template(source)
        except ValueError:
            layout = context.layout if context.layout.nb_channels <= 2 else "stereo"
            self._stream = container.add_stream("aac", rate=context.sample_rate, layout=layout)
            self._resampler = AudioResampler("fltp", layout, context.sample_rate, self._stream.codec_context.frame_size)
            return
        if context.name == "aac" and not context.extradata:
            # In transport streams every packet of AAC has a header; files have one for all.
            self._filter = BitStreamFilterContext("aac_adtstoasc", source)

    def packets(self, packet: Packet | None) -> Iterator[Packet]:
        """What to write for the next packet of the source, or at the end."""
        if self._resampler is None:
            plain = [] if packet is None else [packet]
            for copied in plain if self._filter is None else self._filter.filter(packet):
                copied.stream = self._stream
                yield copied
            return
        for frame in [*self._source.decode(packet), *([None] if packet is None else [])]:
            for resampled in self._resampler.resample(frame):
                yield from self._stream.encode(resampled)
        if packet is None:
            yield from self._stream.encode(None)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn errors of writing a file into OutputError, which names it."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            remedy = "Make room there, or choose another place."
        elif isinstance(error, av.error.FFmpegError):
            remedy = "Convert the source to H.264 and AAC in MP4 first."
        else:
            remedy = "Choose another place."
        raise OutputError(f"{path}: cannot be written ({reason}). {remedy}") from error
