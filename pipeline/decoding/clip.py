"""From a video file to ten seconds of frames at known times and one waveform, on one clock.

The clip's clock starts where the earlier of its two streams starts; every time below is counted from there, in seconds.
Segments are half-open: segment s covers [s, s + 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ccln.pipeline.decoding.decord import DecordFrames
from ccln.pipeline.decoding.pictures import FramePicker, FrameRequest
from ccln.pipeline.decoding.skipping import PictureSkipper
from ccln.pipeline.decoding.sound import SAMPLE_RATE_HZ, WaveformBuilder
from ccln.pipeline.decoding.video_file import Clock, DecodeError, MissingStreamError, chosen_streams, open_video
from ccln.pipeline.segments import CLIP_SECONDS, SEGMENT_COUNT

# Containers interleave their streams far closer than this; behind it nothing of the ten seconds can follow.
_MAX_INTERLEAVE_SECONDS = 10


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
    missing: tuple[str, ...] = ()
    """("audio",) or ("video",) where the file has none and silence or black frames stand for it."""

    def __post_init__(self) -> None:
        expected = (SEGMENT_COUNT, self.frame_seconds.shape[1])
        if self.frames.shape[:2] != expected or self.frames.shape[4:] != (3,) or self.frame_seconds.shape != expected:
            raise ValueError(f"frames {self.frames.shape} and times {self.frame_seconds.shape} do not fit together")
        if self.waveform.shape != (CLIP_SECONDS * SAMPLE_RATE_HZ,):
            raise ValueError(f"waveform {self.waveform.shape}, expected ten seconds at {SAMPLE_RATE_HZ} Hz")


def decode_clip(
    path: Path,
    request: FrameRequest,
    *,
    on_missing: Literal["error", "zeros"] = "error",
    decoder: str = "pyav",
) -> DecodedClip:
    """Decode the first ten seconds of a video file, both streams in one pass.

    A frame is on display from its presentation timestamp until the next one's: the frame taken for a wanted time is
    the one on display then. Before the first frame it is the first, behind the last it is the last. Sound is laid onto
    the clock by its timestamps (gaps are silence), mixed to mono by the mean of its channels, and resampled to 16 kHz.

    A picture is turned upright as its metadata asks; mirroring is not undone. Interlaced pictures are taken as they
    are, both fields in one.

    Where a stream ends in a packet that the decoder refuses, as the last one of a cut-off file, the clip ends before
    it: what is left of the file is a shorter clip. A refused packet that others follow is an error. Damage that the
    decoder conceals, or in a picture that is neither wanted nor needed for another, is taken as it comes.

    Memory is bounded by the decoder's own picture buffers plus the result (and, for decord, the compressed pictures of
    the ten seconds), and time by about twenty seconds of the file, whatever its length. No other file is opened,
    whatever a playlist may ask for.

    Args:
        path: the video file.
        request: which frames, how large.
        on_missing: where the file has no video, or no audio, in these ten seconds: "error", or "zeros" for black frames
            and silence. A silent audio stream is not missing.
        decoder: what decodes the frames, "pyav" or "decord" (see `ccln.pipeline.decoding.decord`). Sound is always
            PyAV's.

    Raises:
        MissingStreamError: there is no video, or no audio, and `on_missing` is "error".
        DecodeError: the file is missing, is not a video, or is damaged, or decord would not decode it rightly.
        DecordMissingError: decord is asked for and not installed.
    """
    with open_video(path) as container:
        video, audio = chosen_streams(path, container)
        _check_missing(path, [kind for kind, stream in (("video", video), ("audio", audio)) if not stream], on_missing)
        return _decode(path, container, video, audio, request, on_missing, decoder)


def _check_missing(path: Path, missing: Sequence[str], on_missing: str) -> None:
    if missing and on_missing == "error":
        raise MissingStreamError(
            f"{path}: has no {missing[0]} stream, or nothing in its first ten seconds. An audio-visual event needs "
            "both: leave the file out, or add the stream."
        )


def _decode(
    path: Path,
    container: InputContainer,
    video: VideoStream | None,
    audio: AudioStream | None,
    request: FrameRequest,
    on_missing: str,
    decoder: str,
) -> DecodedClip:
    picker = FramePicker(request)
    sound = WaveformBuilder()
    clock = Clock(video, audio)
    packets = container.demux(*(stream for stream in (video, audio) if stream))
    pictures = picker
    skipper = None
    if video is not None and decoder == "decord":
        pictures = DecordFrames(path, video, clock)
    elif video is not None and clock.zero is not None:
        wanted = (*request.target_times(), CLIP_SECONDS)
        skipper = PictureSkipper(video, [time + clock.zero for time in wanted])
        packets = skipper.packets(packets)
    refused: dict[str, DecodeError] = {}
    for packet in packets:
        packet_seconds = clock.packet_seconds(packet)
        full = (video is None or pictures.complete) and (audio is None or sound.complete)
        if full or packet_seconds > CLIP_SECONDS + _MAX_INTERLEAVE_SECONDS:
            break
        kind, part = ("video", pictures) if packet.stream is video else ("audio", sound)
        if part.complete:
            continue
        if isinstance(part, DecordFrames):
            part.add(packet)
            continue
        if kind in refused and packet.size:  # the empty packet at the end only asks for what the decoder still holds
            raise refused[kind]
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            refused[kind] = DecodeError(
                f"{path}: its {kind} is damaged at {packet_seconds:.2f} s. Fetch the file or convert it again."
            )
            refused[kind].__cause__ = error
            continue
        for frame in frames:
            if not isinstance(frame, VideoFrame | AudioFrame) or frame.pts is None:
                continue
            clock.start(packet.stream, frame.pts)
            seconds = clock.seconds(packet.stream, frame.pts)
            if isinstance(frame, VideoFrame):
                picker.add(frame, seconds)
                if skipper is not None:
                    skipper.saw(frame)
            elif sound.accepts(frame.sample_rate):
                sound.add(frame, seconds)
            else:
                raise DecodeError(
                    f"{path}: its sound at {seconds:.2f} s has {frame.sample_rate} Hz, which is not the "
                    "rate before it or none that is supported. Convert the file to one sample rate."
                )
    if isinstance(pictures, DecordFrames):
        for frame, seconds in pictures.frames(request.target_times()):
            picker.add(frame, seconds)
    missing = [kind for kind, part in (("video", picker), ("audio", sound)) if not part.seen_any]
    for kind in missing:
        if kind in refused:
            raise refused[kind]
    if len(missing) == 2:
        raise DecodeError(f"{path}: neither its video nor its audio holds anything. Check that it plays.")
    _check_missing(path, missing, on_missing)
    waveform = sound.result()
    if not np.isfinite(waveform).all():
        raise DecodeError(f"{path}: its sound holds values that are not numbers. Fetch the file or convert it again.")
    end_seconds = max(picker.end_seconds, sound.end_seconds)
    return DecodedClip(*picker.result(), waveform, min(float(CLIP_SECONDS), end_seconds), tuple(missing))
