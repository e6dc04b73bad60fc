"""Opening a video file of any kind: its errors, the streams that are used, and the clock they share."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ccln.pipeline.decode.causes import cause_of
from ccln.pipeline.visible import visible

# Larger than any camera's frame (8K is 33 million), small enough that a forged header cannot exhaust the memory.
MAX_PIXELS = 120_000_000

MIX = "mix"
"""The audio track that is the mean of all of a program."""
# ISO 639-2 has two codes for some languages: MP4 states the first, Matroska and QuickTime the second.
_CODES: list[tuple[str, str]] = re.findall(
    r"(\w+)/(\w+)",
    "sqi/alb hye/arm eus/baq mya/bur zho/chi ces/cze nld/dut fra/fre kat/geo deu/ger ell/gre isl/ice mkd/mac mri/mao "
    "msa/may fas/per ron/rum slk/slo bod/tib cym/wel",
)
_OTHER_CODES = dict(_CODES) | {second: first for first, second in _CODES}


class DecodeError(Exception):
    """A video file that cannot be turned into a clip; the message names the file, the cause and the remedy."""


class MissingStreamError(DecodeError):
    """A file that plays but has no video, or no audio, in its first ten seconds."""


def unforeseen(path: Path, error: Exception) -> str:
    """What to say of an error that is none of ours, and happened with a file."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}".partition("\n")[0]
    return f"{path}: an unforeseen error ({what}, {Path(place.filename).name}:{place.lineno}). Report it."


@contextmanager
def open_video(path: Path) -> Iterator[InputContainer]:
    """Open a file for reading, as a context. No other file is opened, even if a playlist asks for it.

    Raises:
        DecodeError: The file is missing, or is no video, or FFmpeg or the disk fails within the context.
        MemoryError: There is not enough memory.
    """
    try:
        if not path.is_file():
            raise DecodeError(f"{path}: {'is not a file' if path.exists() else 'no such file'}. Check the path.")
        if path.stat().st_size == 0:
            raise DecodeError(f"{path}: is empty. Fetch it again.")
        # Given an open file and no protocol, FFmpeg neither takes "12:30.mp4" for an address nor follows a playlist.
        with (
            path.open("rb") as file,
            av.open(
                file,
                "r",
                options={"max_pixels": str(MAX_PIXELS)},
                container_options={"protocol_whitelist": "none"},
                metadata_errors="replace",
            ) as container,
        ):
            yield container
    except (av.error.FFmpegError, OSError) as error:
        if isinstance(error, MemoryError):  # FFmpeg's is one, too
            raise
        raise DecodeError(f"{path}: {cause_of(path, error)}") from error


def chosen_streams(
    path: Path, container: InputContainer, audio_track: str | None = None
) -> tuple[VideoStream | None, tuple[AudioStream, ...]]:
    """The streams to take, ready to be decoded: None or nothing for what is not there.

    The video is the one that a player would choose. Where the best has no decoder, another is taken that has one.

    Args:
        path: For messages.
        container: The open file.
        audio_track: None takes the best audio of the video's program, as television channels in one transport stream
            are. A number takes that of the file's audio tracks, counted from 1; a language the first track of the
            video's program in it that has a decoder; "mix" all of the program that have one.

    Raises:
        DecodeError: There is neither, none that can be decoded, or no such audio track although there are others.
    """
    video = _best_stream(container, "video")
    if not isinstance(video, VideoStream) or video.disposition & Disposition.attached_pic:
        video = None  # the latter is the cover of an audio file
    audio = _chosen_audio(path, container, video, audio_track)
    if video is None and not audio:
        raise DecodeError(f"{path}: has neither a video nor an audio stream. Check that it plays.")
    for stream in (video, *audio):
        if stream is not None and stream.codec_context is None:
            raise DecodeError(f"{path}: no decoder for its {stream.type} stream. Convert the file to H.264 and AAC.")
    if video is not None:
        if not 0 < video.width * video.height <= MAX_PIXELS:
            raise DecodeError(
                f"{path}: its frames are larger than the {MAX_PIXELS} pixels allowed, or of no known size "
                f"({video.width} × {video.height}). Scale the video down, or convert it again."
            )
        # A stream may hold larger frames than its header says.
        video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return video, audio


def _chosen_audio(
    path: Path, container: InputContainer, video: VideoStream | None, track: str | None
) -> tuple[AudioStream, ...]:
    if track is None:
        best = _best_stream(container, "audio", video)
        return (best,) if isinstance(best, AudioStream) and _is_related(container, video, best) else ()
    tracks = audio_tracks(container)
    if track.isdecimal():
        named = tracks[int(track) - 1 : int(track)]
    else:
        named = [stream for stream in tracks if _is_related(container, video, stream)]
        if not named:
            return ()
        if track != MIX:
            codes = {track, _OTHER_CODES.get(track, track)}
            named = [stream for stream in named if codes & _languages(stream)]
        named = [stream for stream in named if stream.codec_context is not None] or named
        named = named if track == MIX else named[:1]
    if tracks and not named:
        there = "; ".join(f"{number}: {described(stream)}" for number, stream in enumerate(tracks, 1))
        what = f"track {track}" if track.isdecimal() else f"track in the language {track!r}"
        raise DecodeError(f"{path}: has no audio {what}. It has {there}. Choose one of them, or leave the file out.")
    return tuple(named)


def _languages(stream: AudioStream) -> set[str]:
    """What a track states; in transport streams that may be several."""
    return set((stream.language or "").lower().split(","))


def audio_tracks(container: InputContainer) -> list[AudioStream]:
    """All audio tracks of a file in their order, those without a decoder too."""
    return [stream for stream in container.streams if isinstance(stream, AudioStream)]


def described(stream: VideoStream | AudioStream) -> str:
    """A track for people: codec, size or rate and channels, language and title."""
    if (context := stream.codec_context) is None:
        words = ["no decoder"]
    elif isinstance(stream, VideoStream):
        words = [context.name, f"{stream.width}x{stream.height}"]
    else:
        words = [context.name, f"{stream.codec_context.sample_rate} Hz", stream.codec_context.layout.name]
    words += [stream.language] if stream.language else []
    title = stream.metadata.get("title")
    return visible(" ".join([*words, f'"{title}"'] if title else words))


def _best_stream(
    container: InputContainer, kind: Literal["video", "audio"], related: Stream | None = None
) -> Stream | None:
    best = container.streams.best(kind, related=related)
    if best is not None and best.codec_context is not None:
        return best
    of_kind = [stream for stream in container.streams if stream.type == kind]
    if best is None:  # FFmpeg takes none for the best of which it cannot tell the parameters
        return next(iter(of_kind), None)
    return next((stream for stream in of_kind if stream.codec_context is not None), best)


def _is_related(container: InputContainer, video: VideoStream | None, audio: AudioStream) -> bool:
    """Whether an audio stream is not the sound of another video; FFmpeg gives that where a program has no audio."""
    return video is None or container.streams.best("video", related=audio) in (video, container.streams.best("video"))


def refusal(path: Path, stream: Stream, seconds: float, error: av.error.FFmpegError) -> DecodeError:
    """The error for a packet that a decoder refuses, at a time on the file's clock.

    Raises:
        MemoryError: That was why: the file may be whole.
    """
    if isinstance(error, MemoryError):
        raise error
    at = f"at {max(seconds, 0.0):.2f} s ({error.strerror})"  # frames that an edit list hides come before the start
    if isinstance(error, av.error.PatchWelcomeError | av.error.NotImplementedError):
        text = f"its {stream.type} needs what FFmpeg's decoder cannot do, {at}. Convert the file with another program."
    else:
        text = f"its {stream.type} is damaged {at}. Fetch the file again, or go on past that: --on-damage conceal."
    refused = DecodeError(f"{path}: {text}")
    refused.__cause__ = error
    return refused


class Picture(NamedTuple):
    """What a file's header says of its video stream."""

    height: int
    """Pixels as stored; 0 without a video stream."""
    width: int
    """Pixels as stored; 0 without a video stream."""
    rate_hz: float
    """0 if that is not said, and without a video stream."""


def stated_picture(path: Path) -> Picture:
    """What a file's header says of its video stream.

    Raises:
        DecodeError: The file is missing, or is no video.
    """
    with open_video(path) as container:
        video, _ = chosen_streams(path, container)
        return Picture(video.height, video.width, float(video.average_rate or 0)) if video else Picture(0, 0, 0.0)


def stated_seconds(path: Path) -> float | None:
    """How long a video is by its header; None if that does not say.

    Raises:
        DecodeError: The file is missing, or is no video.
    """
    with open_video(path) as container:
        return None if container.duration is None else container.duration / 1_000_000


def stream_start(stream: Stream) -> Fraction | None:
    """When a stream starts, in seconds on the container's own clock; None if the container does not say."""
    if stream.start_time is None or stream.time_base is None:
        return None
    return stream.start_time * stream.time_base


class Clock:
    """Turns the timestamps of a file's streams into seconds since the earliest of them starts."""

    def __init__(self, *streams: Stream | None) -> None:
        present = [stream for stream in streams if stream is not None]
        self.zero = min((start for start in map(stream_start, present) if start is not None), default=None)
        """When it starts, in seconds on the container's own clock; None until that is known."""
        self._bases = {stream.index: stream.time_base or Fraction(1) for stream in present}  # demuxed streams have one

    def start(self, stream: Stream, stamp: int) -> None:
        """Start the clock at a timestamp of a stream, unless it has started."""
        if self.zero is None:
            self.zero = stamp * self._bases[stream.index]

    def seconds(self, stream: Stream, stamp: int) -> float:
        """Timestamp in seconds, as the double nearest to the exact time: equal times are equal numbers."""
        base, zero = self._bases[stream.index], self.zero or Fraction(0)
        scaled = stamp * base.numerator * zero.denominator - zero.numerator * base.denominator
        return scaled / (base.denominator * zero.denominator)

    def end_seconds(self, packet: Packet) -> float:
        """When what is in a packet, whose time is stated, has been displayed."""
        return self.seconds(packet.stream, (packet.pts or 0) + (packet.duration or 0))

    def packet_seconds(self, packet: Packet) -> float:
        """When a packet is due; 0 for the empty ones at the end, which have no time."""
        stamp = packet.pts if packet.dts is None else packet.dts
        return 0.0 if stamp is None else self.seconds(packet.stream, stamp)
