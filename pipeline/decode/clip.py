"""From a video file to clips of ten seconds: frames at known times and one waveform, on one clock.

The file's clock starts where the earlier of its two streams starts; every time below is counted from there, in seconds.
Clips and segments are half-open: clip k covers [10 k, 10 k + 10), its segment s covers [10 k + s, 10 k + s + 1).
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

import numpy as np

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.container import Clock, DecodeError, MissingStreamError, chosen_streams, open_video
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.streams import Streams
from ccln.pipeline.segments import CLIP_SECONDS, SEGMENT_COUNT

# Containers interleave their streams far closer than this; behind it nothing of a clip can follow.
_MAX_INTERLEAVE_SECONDS = 10
# Less than this behind a full clip is the padding of an encoder, or a picture that is on display a little longer.
_MIN_CLIP_SECONDS = 0.1
# An hour. A file of a few bytes may say that its last picture is shown in a million years.
_MAX_STILL_CLIPS = 360


@dataclass(frozen=True, eq=False)
class DecodedClip:
    """Ten consecutive segments of a video file."""

    frames: np.ndarray
    """uint8 RGB (segment, frame, height, width, 3)."""
    frame_seconds: np.ndarray
    """float64 (segment, frame): the presentation time of the frame that was taken, on the file's clock."""
    aspect: float
    """Width over height of the picture as a player shows it, upright; the frames are stretched to the size asked for.
    That of the file's first picture; 4/3 where none has come up to the end of these ten seconds."""
    waveform: np.ndarray
    """float32 mono (sample,), 16 kHz, exactly ten seconds."""
    duration_seconds: float
    """How much of the ten seconds the file covers; behind it the last frame and silence are repeated."""
    missing: tuple[str, ...] = ()
    """("audio",) or ("video",) where there is none up to the end of these ten seconds: silence or black frames."""
    start_seconds: float = 0.0
    """Where the ten seconds start on the file's clock."""

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
        decoder: what decodes the frames, "pyav" or "decord" (see `ccln.pipeline.decode.decord`). Sound is always
            PyAV's.

    Raises:
        MissingStreamError: there is no video, or no audio, and `on_missing` is "error".
        DecodeError: the file is missing, is not a video, or is damaged, or decord would not decode it rightly.
        DecordMissingError: decord is asked for and not installed.
    """
    with closing(_clips(path, request, on_missing, decoder, CLIP_SECONDS)) as clips:
        return next(clips)


def decode_clips(
    path: Path,
    request: FrameRequest,
    *,
    on_missing: Literal["error", "zeros"] = "error",
    decoder: str = "pyav",
) -> Generator[DecodedClip]:
    """Decode a video file of any length as consecutive clips of ten seconds, in one pass.

    Each clip is given as soon as it is complete, so that an error comes behind the clips before it. All of
    `decode_clip` holds for each of them, and the first is the same as there; this is what a longer file adds:

    A frame stays on display, and is in every clip, until the next one comes, and the last until the end. Sound that
    lies on the border of two clips is split at the sample; each clip is resampled for itself.

    Every clip but the last is ten seconds long. The file ends where the later of its two streams does; less than 0.1 s
    behind a full clip are left out.

    A stream may start or end anywhere. Before its first sound there is silence; the clips before that with its first
    frame are black, and that clip shows it from its start. Such clips say so in `missing`; only a stream that never
    comes at all is an error, or not, as `on_missing` says. What comes more than ten seconds later in the file than what
    it is shown with, or steps back in time behind a clip that has been given, is left out. The last few pictures of a
    stream that ends long before the other are known only at the end of the file where its decoder reorders pictures
    (H.264 and HEVC with B-pictures): the clip in which it ends then shows the one before them until its end.

    Memory is bounded by the decoder's own picture buffers, as many pictures again, and four clips.

    Args:
        path: the video file.
        request: which frames, how large.
        on_missing: where the file has no video, or no audio: "error", or "zeros" for black frames and silence.
        decoder: what decodes the frames; "decord" only in files that end with the first clip.

    Yields:
        Clip after clip, at least one.

    Raises:
        MissingStreamError: there is no video, or no audio, and `on_missing` is "error".
        DecodeError: the file is missing, is not a video, or is damaged, has nothing to see or hear for an hour, or goes
            on behind what decord decodes, or decord would not decode it rightly.
        DecordMissingError: decord is asked for and not installed.
    """
    if decoder == "decord":
        _check_ends_with_first_clip(path)
        yield decode_clip(path, request, on_missing=on_missing, decoder=decoder)
    else:
        yield from _clips(path, request, on_missing, decoder, inf)


def _check_ends_with_first_clip(path: Path) -> None:
    with open_video(path) as container:
        streams = chosen_streams(path, container)
        clock = Clock(*streams)
        for packet in container.demux(*(stream for stream in streams if stream)):
            if packet.pts is None:
                continue
            clock.start(packet.stream, packet.pts)
            if clock.seconds(packet.stream, packet.pts) >= CLIP_SECONDS + _MIN_CLIP_SECONDS:
                raise DecodeError(
                    f"{path}: is longer than ten seconds, and decord gives the first ten alone. Checkpoints trained "
                    "with the decoder decord localize in files of ten seconds; train with pyav for longer ones."
                )


def _clips(
    path: Path, request: FrameRequest, on_missing: str, decoder: str, until_seconds: float
) -> Generator[DecodedClip]:
    """All clips before ``until_seconds``, a multiple of ten or infinite, as far as the file goes; at least one."""
    with open_video(path) as container:
        video, audio = chosen_streams(path, container)
        _check_missing(path, [kind for kind, stream in (("video", video), ("audio", audio)) if not stream], on_missing)
        streams = Streams(path, container, video, audio, request, decoder, until_seconds)
        still_count = 0
        for clip in _cut(path, streams, on_missing, until_seconds):
            yield clip
            still_count = still_count + 1 if _is_still(clip) else 0
            if still_count == _MAX_STILL_CLIPS:
                raise DecodeError(
                    f"{path}: nothing new is seen or heard in the hour before {clip.start_seconds:.0f} s; its times "
                    "seem to be damaged. Convert it again."
                )


def _cut(path: Path, streams: Streams, on_missing: str, until_seconds: float) -> Iterator[DecodedClip]:
    index = 0
    for packet, packet_seconds in streams.packets():
        while due := _is_due(streams, (index + 1) * CLIP_SECONDS, packet_seconds):
            if (index + 1) * CLIP_SECONDS >= until_seconds:
                break
            yield _clip(path, streams, index, float(CLIP_SECONDS))
            index += 1
        if due:
            break
        streams.decode(packet, packet_seconds)
    streams.finish()
    absent = streams.absent(until_seconds)
    for kind in absent:
        if kind in streams.refused:
            raise streams.refused[kind]
    if len(absent) == 2:
        raise DecodeError(f"{path}: neither its video nor its audio holds anything. Check that it plays.")
    _check_missing(path, absent, on_missing)
    end_seconds = min(streams.end_seconds(until_seconds), until_seconds)
    while index == 0 or end_seconds - index * CLIP_SECONDS >= _MIN_CLIP_SECONDS:
        yield _clip(path, streams, index, min(float(CLIP_SECONDS), end_seconds - index * CLIP_SECONDS))
        index += 1


def _is_due(streams: Streams, end_seconds: float, packet_seconds: float) -> bool:
    """Whether the clip that ends then is complete, or nothing that follows may wait for what it lacks."""
    return (
        streams.have_passed(end_seconds)
        or packet_seconds > end_seconds + _MAX_INTERLEAVE_SECONDS
        or streams.picker.overfull
        or streams.sound.overfull
    )


def _clip(path: Path, streams: Streams, index: int, duration_seconds: float) -> DecodedClip:
    missing = streams.absent((index + 1) * CLIP_SECONDS)
    frames, frame_seconds = streams.picker.take()
    waveform = streams.sound.take()
    if not np.isfinite(waveform).all():
        raise DecodeError(f"{path}: its sound holds values that are not numbers. Fetch the file or convert it again.")
    start_seconds = float(index * CLIP_SECONDS)
    aspect = streams.aspect((index + 1) * CLIP_SECONDS)
    return DecodedClip(frames, frame_seconds, aspect, waveform, duration_seconds, missing, start_seconds)


def _is_still(clip: DecodedClip) -> bool:
    """Whether nothing begins in a clip: no frame, and there is no sound."""
    no_frame = "video" in clip.missing or clip.frame_seconds[-1, -1] < clip.start_seconds
    return bool(no_frame and not clip.waveform.any())


def _check_missing(path: Path, missing: Sequence[str], on_missing: str) -> None:
    if missing and on_missing == "error":
        raise MissingStreamError(
            f"{path}: has no {missing[0]} stream, or nothing in its first ten seconds. An audio-visual event needs "
            "both: leave the file out, or add the stream."
        )
