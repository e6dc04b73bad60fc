"""From a video file to ten seconds of frames at known times and one waveform, on one clock.

The clip's clock starts where the earlier of its two streams starts; every time below is counted from there, in seconds.
Segments are half-open: segment s covers [s, s + 1).
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import av.error
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ccln.pipeline.segments import CLIP_SECONDS, SEGMENT_COUNT, SEGMENT_SECONDS

SAMPLE_RATE_HZ = 16_000

# Matroska and WebM round timestamps to a millisecond; less than two of them apart is the same continuous sound.
_CONTINUITY_SECONDS = 0.002
# Larger than any camera's picture (8K is 33 million), small enough that a forged header cannot exhaust the memory.
_MAX_PIXELS = 120_000_000
_MAX_SAMPLE_RATE_HZ = 768_000
# Containers interleave their streams far closer than this; behind it nothing of the ten seconds can follow.
_MAX_INTERLEAVE_SECONDS = 10


class DecodeError(Exception):
    """A video file that cannot be turned into a clip; the message says which file, why, and what to do."""


@dataclass(frozen=True)
class FrameRequest:
    """Which frames are wanted of every segment, and how large."""

    height: int
    """Pixels."""
    width: int
    """Pixels; the picture is stretched to height × width, its aspect is not kept (the AVE field's recipe)."""
    frames_per_segment: int = 16
    """Frame i of n is the one on display (i + 1/2) / n seconds into its segment."""
    interpolation: str = "bicubic"
    """Name of one of FFmpeg's scaling filters."""

    def target_times(self) -> list[Fraction]:
        """The wanted times in seconds, ascending, all segments in one list."""
        count = self.frames_per_segment
        return [
            segment * SEGMENT_SECONDS + Fraction(2 * i + 1, 2 * count) * SEGMENT_SECONDS
            for segment in range(SEGMENT_COUNT)
            for i in range(count)
        ]


@dataclass(frozen=True, eq=False)
class DecodedClip:
    """Ten segments of a video file."""

    frames: np.ndarray
    """uint8 RGB (segment, frame, height, width, 3)."""
    frame_seconds: np.ndarray
    """float64 (segment, frame): the presentation time of the frame that was taken."""
    waveform: np.ndarray
    """float32 mono (sample,), 16 kHz, exactly ten seconds."""
    duration_seconds: float
    """How much of the ten seconds the file covers; behind it the last frame and silence are repeated."""

    def __post_init__(self) -> None:
        expected = (SEGMENT_COUNT, self.frame_seconds.shape[1])
        if self.frames.shape[:2] != expected or self.frames.shape[4:] != (3,) or self.frame_seconds.shape != expected:
            raise ValueError(f"frames {self.frames.shape} and times {self.frame_seconds.shape} do not fit together")
        if self.waveform.shape != (CLIP_SECONDS * SAMPLE_RATE_HZ,):
            raise ValueError(f"waveform {self.waveform.shape}, expected ten seconds at {SAMPLE_RATE_HZ} Hz")


def decode_clip(path: Path, request: FrameRequest) -> DecodedClip:
    """Decode the first ten seconds of a video file, both streams in one pass.

    A frame is on display from its presentation timestamp until the next one's: the frame taken for a wanted time is
    the one on display then. Before the first frame it is the first, behind the last it is the last. Sound is laid onto
    the clock by its timestamps (gaps are silence), mixed to mono by the mean of its channels, and resampled to 16 kHz.

    A picture is turned upright as its metadata asks; mirroring is not undone.

    Where a stream ends in a packet that the decoder refuses, as the last one of a cut-off file, the clip ends before
    it: what is left of the file is a shorter clip. A refused packet that others follow is an error. Damage that the
    decoder conceals is taken as it shows it.

    Memory is bounded by the decoder's own picture buffers plus the result, and time by about twenty seconds of the
    file, whatever its length. No other file is opened, whatever a playlist may ask for.

    Raises:
        DecodeError: the file is missing, is not a video, lacks one of the two streams, or is damaged.
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
                options=_decoder_options(),
                container_options={"protocol_whitelist": "none"},
                metadata_errors="replace",
            ) as container,
        ):
            return _decode(path, container, request)
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DecodeError(
            f"{path}: cannot be read as a video ({reason}). Check that it plays; if not, fetch or convert it again."
        ) from error


def _decoder_options() -> dict[str, str]:
    return {"max_pixels": str(_MAX_PIXELS)}


def _decode(path: Path, container: InputContainer, request: FrameRequest) -> DecodedClip:
    video, audio = _both_streams(path, container)
    picker = _FramePicker(request)
    sound = _WaveformBuilder()
    zero = _clock_zero(video, audio)
    refused: dict[str, DecodeError] = {}
    for packet in container.demux(video, audio):
        packet_seconds = _time(packet) - (zero or 0)
        if (picker.complete and sound.complete) or packet_seconds > CLIP_SECONDS + _MAX_INTERLEAVE_SECONDS:
            break
        kind, part = ("video", picker) if packet.stream is video else ("audio", sound)
        if part.complete:
            continue
        if kind in refused and packet.size:  # the empty packet at the end only asks for what the decoder still holds
            raise refused[kind]
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            refused[kind] = DecodeError(
                f"{path}: its {kind} is damaged at {float(packet_seconds):.2f} s. Fetch the file or convert it again."
            )
            refused[kind].__cause__ = error
            continue
        for frame in frames:
            if not isinstance(frame, VideoFrame | AudioFrame) or frame.pts is None or frame.time_base is None:
                continue
            time = frame.pts * frame.time_base
            zero = time if zero is None else zero
            if isinstance(frame, VideoFrame):
                picker.add(frame, time - zero)
            elif sound.accepts(frame.sample_rate):
                sound.add(frame, time - zero)
            else:
                raise DecodeError(
                    f"{path}: its sound at {float(time - zero):.2f} s has {frame.sample_rate} Hz, which is not the "
                    "rate before it or none that is supported. Convert the file to one sample rate."
                )
    if not picker.seen_any:
        raise DecodeError(f"{path}: its video stream shows nothing in these ten seconds. Check that it plays.")
    if not sound.seen_any:
        raise DecodeError(f"{path}: its audio stream holds nothing in these ten seconds. Check that it plays.")
    waveform = sound.result()
    if not np.isfinite(waveform).all():
        raise DecodeError(f"{path}: its sound holds values that are not numbers. Fetch the file or convert it again.")
    end_seconds = max(picker.end_seconds, sound.end_seconds)
    return DecodedClip(*picker.result(), waveform, min(float(CLIP_SECONDS), end_seconds))


def _both_streams(path: Path, container: InputContainer) -> tuple[VideoStream, AudioStream]:
    """The streams a player would choose, ready to be decoded."""
    video, audio = container.streams.best("video"), container.streams.best("audio")
    if isinstance(video, VideoStream) and video.disposition & Disposition.attached_pic:
        video = None  # the cover picture of a sound file
    if not isinstance(video, VideoStream) or not isinstance(audio, AudioStream):
        missing = "audio" if isinstance(video, VideoStream) else "video"
        raise DecodeError(
            f"{path}: has no {missing} stream. An audio-visual event needs both: leave the file out, or add the stream."
        )
    for stream in (video, audio):
        if stream.codec_context is None:
            raise DecodeError(f"{path}: no decoder for its {stream.type} stream. Convert the file to H.264 and AAC.")
    if not 0 < video.width * video.height <= _MAX_PIXELS:
        raise DecodeError(
            f"{path}: its pictures are larger than the {_MAX_PIXELS} pixels allowed, or of no known size "
            f"({video.width} × {video.height}). Scale the video down, or convert it again."
        )
    video.codec_context.options = _decoder_options()  # a stream may hold larger pictures than its header says
    return video, audio


def _time(packet: Packet) -> Fraction:
    """When a packet is due in seconds; 0 for the empty ones at the end, which have no time."""
    stamp = packet.pts if packet.dts is None else packet.dts
    return Fraction(0) if stamp is None else stamp * packet.time_base


def _clock_zero(*streams: Stream) -> Fraction | None:
    """Start of the earliest stream in seconds, None where the container does not say."""
    starts = (
        stream.start_time * stream.time_base
        for stream in streams
        if stream.start_time is not None and stream.time_base is not None
    )
    return min(starts, default=None)


class _FramePicker:
    """Takes frames in presentation order; scales and keeps those on display at the wanted times."""

    def __init__(self, request: FrameRequest) -> None:
        self._request = request
        self._targets = request.target_times()
        self._frames = np.empty((len(self._targets), request.height, request.width, 3), np.uint8)
        self._seconds = np.empty(len(self._targets))
        self._filled = 0
        self._on_display: tuple[VideoFrame, Fraction] | None = None
        self._scaler = VideoReformatter()

    @property
    def seen_any(self) -> bool:
        return self._on_display is not None

    @property
    def complete(self) -> bool:
        """Whether a frame from behind the ten seconds has come."""
        return self._on_display is not None and self._on_display[1] >= CLIP_SECONDS

    @property
    def end_seconds(self) -> float:
        """End of the last frame seen; a frame that does not say how long it lasts is taken to last no time."""
        if self._on_display is None:
            return 0.0
        frame, start = self._on_display
        return float(start + (frame.duration or 0) * (frame.time_base or 0))

    def add(self, frame: VideoFrame, start: Fraction) -> None:
        """Take the next frame, on display from ``start`` seconds."""
        if self._on_display is not None:
            if start <= self._on_display[1]:
                return  # a damaged stream may step back in time; what is on display stays
            self._fill_until(start)
        self._on_display = frame, start

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames (segment, frame, height, width, 3) and their times (segment, frame)."""
        self._fill_until(None)
        shape = (SEGMENT_COUNT, self._request.frames_per_segment)
        return self._frames.reshape(*shape, *self._frames.shape[1:]), self._seconds.reshape(shape)

    def _fill_until(self, end: Fraction | None) -> None:
        """Give the frame on display to every target before ``end`` seconds (None: to all that are left)."""
        assert self._on_display is not None
        frame, start = self._on_display
        first = self._filled
        while self._filled < len(self._targets) and (end is None or self._targets[self._filled] < end):
            self._filled += 1
        if self._filled > first:
            self._frames[first : self._filled] = self._scaled(frame)
            self._seconds[first : self._filled] = float(start)

    def _scaled(self, frame: VideoFrame) -> np.ndarray:
        """The picture upright, as RGB (height, width, 3)."""
        quarter_turns = round(frame.rotation / 90) % 4
        height, width = self._request.height, self._request.width
        if quarter_turns % 2:
            height, width = width, height
        scale = partial(self._scaler.reformat, frame, width, height, "rgb24", threads=1)
        return np.rot90(scale(interpolation=self._request.interpolation.upper()).to_ndarray(), quarter_turns)


class _WaveformBuilder:
    """Lays decoded sound onto the clock at its own rate, then resamples the ten seconds in one piece."""

    def __init__(self) -> None:
        self._source = ("", "")  # sample format and channel layout of the sound that is being converted
        self._floats = AudioResampler(format="flt")
        self._samples: np.ndarray | None = None
        self._rate_hz = 0
        self._position = 0  # where the next sample goes if the sound is continuous; may be negative or past the end

    @property
    def seen_any(self) -> bool:
        return self._samples is not None

    @property
    def complete(self) -> bool:
        return self._samples is not None and self._position >= len(self._samples)

    @property
    def end_seconds(self) -> float:
        return self._position / self._rate_hz if self._rate_hz else 0.0

    def accepts(self, rate_hz: int) -> bool:
        """Whether sound at this rate can be added: any sane rate, but one a file."""
        return rate_hz == self._rate_hz if self._rate_hz else 0 < rate_hz <= _MAX_SAMPLE_RATE_HZ

    def add(self, frame: AudioFrame, start: Fraction) -> None:
        """Take the next piece of sound, heard from ``start`` seconds."""
        if self._samples is None:
            self._rate_hz = frame.sample_rate
            self._samples = np.zeros(CLIP_SECONDS * self._rate_hz, np.float32)
            self._position = round(start * self._rate_hz)
        source = (frame.format.name, frame.layout.name)
        if source != self._source:  # broadcasts switch between stereo and 5.1
            self._source, self._floats = source, AudioResampler(format="flt")
        stated = round(start * self._rate_hz)
        if abs(stated - self._position) > _CONTINUITY_SECONDS * self._rate_hz:
            self._position = stated
        for converted in self._floats.resample(frame):
            # Interleaved: PyAV 18 reads beyond the end of planar sound with eight channels or more.
            channels = converted.to_ndarray().reshape(-1, converted.layout.nb_channels)
            self._place(channels.mean(axis=1))  # (sample, channel) -> (sample,)

    def _place(self, mono: np.ndarray) -> None:
        assert self._samples is not None
        begin, end = max(self._position, 0), min(self._position + len(mono), len(self._samples))
        if begin < end:
            self._samples[begin:end] = mono[begin - self._position : end - self._position]
        self._position += len(mono)

    def result(self) -> np.ndarray:
        """16 kHz (sample,), exactly ten seconds."""
        assert self._samples is not None
        resampled = soxr.resample(self._samples, self._rate_hz, SAMPLE_RATE_HZ)
        waveform = np.zeros(CLIP_SECONDS * SAMPLE_RATE_HZ, np.float32)
        kept = min(len(waveform), len(resampled))
        waveform[:kept] = resampled[:kept]
        return waveform
