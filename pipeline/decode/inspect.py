"""Report on what a video file holds, and on what would fail, before any network runs."""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ccln.pipeline.decode.clip import decode_first
from ccln.pipeline.decode.container import (
    Clock,
    DecodeError,
    chosen_streams,
    described,
    open_video,
    stream_start,
)
from ccln.pipeline.decode.damage import lost_text
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.packets import ContinuousPackets
from ccln.pipeline.decode.tone import dynamic_range
from ccln.pipeline.segments import CLIP_SECONDS
from ccln.pipeline.visible import visible

# -60 dBFS: below the noise of any microphone's room.
_SILENCE = 1e-3
# Every frame up to 60 a second is decoded, and only single pixels of each are converted.
_EVERY_FRAME = FrameRequest(2, 2, frames_per_segment=60, interpolation="point")
# Frames at a constant rate are this close to an even grid; containers round to milliseconds or worse.
_EVEN_SECONDS = 0.002


@dataclass(frozen=True)
class VideoReport:
    """A file's video stream, from its header and its first ten seconds."""

    codec: str
    """FFmpeg's name."""
    width: int
    """Pixels as stored, before the rotation."""
    height: int
    """Pixels as stored, before the rotation."""
    rate_hz: float
    """Frames a second; 0 if there is a single frame and the header gives no rate."""
    constant_rate: bool
    """Whether the frames are evenly spaced in time."""
    rotation_degrees: int
    """How far clockwise a player turns the stored frames: 0, 90, 180 or 270."""
    pixel_format: str
    """FFmpeg's name."""
    bit_depth: int
    """Bits a colour."""
    interlaced: bool
    dynamic_range: str | None
    """"HLG" or "PQ" where the dynamic range is high, else None."""
    start_seconds: float | None
    """On the container's own clock; None if the container does not say."""


@dataclass(frozen=True)
class AudioReport:
    """A file's audio stream, from its header."""

    codec: str
    """FFmpeg's name."""
    sample_rate_hz: int
    channels: int
    layout: str
    """FFmpeg's name, as "stereo"."""
    start_seconds: float | None
    """On the container's own clock; None if the container does not say."""


@dataclass(frozen=True)
class ClipReport:
    """What extraction would meet in a file."""

    path: Path
    duration_seconds: float | None = None
    """Of the whole file, from its header; None if that does not say."""
    video: VideoReport | None = None
    audio: AudioReport | None = None
    silent: bool = False
    """Whether there is audio, but in the clips that are used no sample above -60 dBFS."""
    covered_seconds: float = 0.0
    """How much of the clips that are used the file covers; the rest would be padding."""
    tracks: tuple[str, ...] = ()
    """What each of its video and audio tracks is, and whether it was taken; empty if none had to be chosen."""
    restart_seconds: tuple[float, ...] = ()
    """When, in the first ten seconds, the file's timestamps go on from another time."""
    problems: tuple[str, ...] = ()
    """Messages of `decode_clip`'s errors."""
    remarks: tuple[str, ...] = ()
    """What a user may want to know about a file that can be decoded."""


def inspect_clip(
    path: Path,
    starts: Collection[int] = (0,),
    *,
    missing_fails: bool = True,
    damage_fails: bool = True,
    audio_track: str | None = None,
) -> ClipReport:
    """Read the header of a video file and decode what is used of it; a bad file is a report with problems.

    Args:
        path: The video file.
        starts: Where its clips that are used start, in seconds, multiples of ten.
        missing_fails: Whether a file without audio or without video is a problem, or only worth a remark.
        damage_fails: Likewise whether damage is that could be concealed.
        audio_track: As for `decode_clip`.
    """
    report = ClipReport(path)
    lost_seconds: Mapping[str, float] = {}
    try:
        with open_video(path) as container:
            tracks = _tracks(container)
            report = replace(report, tracks=tuple(tracks.values()))
            video, audio = chosen_streams(path, container, audio_track)
            streams = [stream for stream in (video, *audio) if stream]
            clock, packets = Clock(*streams), ContinuousPackets(container, streams)
            report = ClipReport(
                path,
                container.duration / 1e6 if container.duration is not None else None,
                _video_report(video, packets, clock) if video else None,
                _audio_report(audio[0]) if audio else None,
                tracks=tuple(text + " (taken)" * (stream in streams) for stream, text in tracks.items()),
                restart_seconds=tuple(restart.seconds - float(clock.zero or 0) for restart in packets.restarts),
            )
        loudest = covered_seconds = end_seconds = 0.0
        missing = {"video", "audio"}
        lost = Counter[str]()
        options: dict[str, Any] = {"on_missing": "zeros", "audio_track": audio_track}
        clip_count = max(starts) // CLIP_SECONDS + 1
        for clip in decode_first(path, _EVERY_FRAME, clip_count, on_damage="conceal", **options):
            lost.update(clip.lost_seconds)
            end_seconds = clip.start_seconds + clip.duration_seconds
            missing.intersection_update(clip.missing)
            if clip.start_seconds in starts:
                loudest = max(loudest, float(np.abs(clip.waveform).max()))
                covered_seconds += clip.duration_seconds
        lost_seconds = lost
        if lost_seconds and damage_fails:
            deque(decode_first(path, _EVERY_FRAME, clip_count, **options), maxlen=0)  # raises what extraction would
    except DecodeError as error:
        concealed = f"{lost_text(lost_seconds)}: --on-damage conceal goes on past that"
        remarks = (*report.tracks, *([concealed] if lost_seconds else []))
        return replace(report, problems=(str(error),), remarks=remarks)
    report = replace(report, silent="audio" not in missing and loudest < _SILENCE, covered_seconds=covered_seconds)
    problems = tuple(
        f"ends at {end_seconds:.2f} s, and a clip from {start} s on is wanted"
        for start in sorted(starts)
        if start and start >= end_seconds
    )
    lacking = tuple(f"no {stream} stream, or nothing in it" for stream in sorted(missing))
    remarks = (*_remarks(report, starts), *([lost_text(lost_seconds)] if lost_seconds else []))
    if missing_fails:
        return replace(report, problems=(*lacking, *problems), remarks=remarks)
    return replace(report, problems=problems, remarks=(*lacking, *remarks))


def _tracks(container: InputContainer) -> dict[Stream, str]:
    """What each track is; nothing where there is no choice."""
    streams = [stream for stream in container.streams if isinstance(stream, VideoStream | AudioStream)]
    kinds = [stream.type for stream in streams]
    if len(set(kinds)) == len(kinds):
        return {}
    return {
        stream: f"{stream.type} track {kinds[: place + 1].count(stream.type)}: {described(stream)}"
        for place, stream in enumerate(streams)
    }


def _audio_report(audio: AudioStream) -> AudioReport:
    context, layout = audio.codec_context, audio.codec_context.layout
    return AudioReport(context.name, context.sample_rate, layout.nb_channels, layout.name, _start_seconds(audio))


def _video_report(video: VideoStream, packets: Iterable[Packet], clock: Clock) -> VideoReport:
    times: list[float] = []
    first: VideoFrame | None = None
    for packet in packets:
        if packet.stream is not video:
            continue
        if packet.pts is not None and not packet.is_discard:
            times.append(clock.seconds(video, packet.pts))
        if first is None and packet.size:
            with suppress(av.error.FFmpegError):  # decode_clip reports the damage
                first = next((frame for frame in packet.decode() if isinstance(frame, VideoFrame)), None)
        if clock.packet_seconds(packet) >= CLIP_SECONDS:
            break
    times = sorted(time for time in times if time < CLIP_SECONDS)  # after that, frames may be missing in between
    stated = float(video.average_rate or 0)
    pixels = first.format if first else video.codec_context.format
    return VideoReport(
        codec=video.codec_context.name,
        width=video.width,
        height=video.height,
        rate_hz=(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else stated,
        constant_rate=not times
        or np.allclose(times, np.linspace(times[0], times[-1], len(times)), rtol=0, atol=_EVEN_SECONDS),
        rotation_degrees=-round(first.rotation / 90) * 90 % 360 if first else 0,
        pixel_format=pixels.name if pixels else "unknown",
        bit_depth=pixels.components[0].bits if pixels and pixels.components else 0,
        interlaced=bool(first and first.interlaced_frame),
        dynamic_range=dynamic_range(first) if first else None,
        start_seconds=_start_seconds(video),
    )


def _start_seconds(stream: VideoStream | AudioStream) -> float | None:
    start = stream_start(stream)
    return None if start is None else float(start)


def _remarks(report: ClipReport, starts: Collection[int]) -> Iterable[str]:
    yield from report.tracks
    is_first_alone = max(starts) == 0
    if report.silent:
        where = "the first ten seconds" if is_first_alone else "what is used of it"
        yield f"silent: no sample above -60 dBFS in {where}"
    if is_first_alone and report.covered_seconds < CLIP_SECONDS - 0.05:
        yield f"shorter than ten seconds: padded from {report.covered_seconds:.2f} s on"
    if report.duration_seconds is not None and report.duration_seconds > CLIP_SECONDS + 0.5:
        used = "only the first ten of" if is_first_alone else f"{report.covered_seconds:.1f} of"
        yield f"longer than ten seconds: {used} {report.duration_seconds:.1f} s are used"
    if report.video is not None:
        if not report.video.constant_rate:
            yield f"variable frame rate, {report.video.rate_hz:.2f} a second on average"
        if report.video.interlaced:
            yield "interlaced: both fields are taken as one frame"
        if report.video.dynamic_range:
            yield f"high dynamic range ({report.video.dynamic_range}): its colours are mapped to those of BT.709"
    for seconds in report.restart_seconds:
        yield f"its timestamps restart at {seconds:.2f} s: what follows is taken as the continuation"
    begins = [stream.start_seconds for stream in (report.video, report.audio) if stream is not None]
    if len(begins) == 2 and None not in begins:
        late = float(begins[0] or 0) - float(begins[1] or 0)
        if abs(late) > 0.1:
            kind, other = ("video", "audio") if late > 0 else ("audio", "video")
            yield f"{kind} starts {abs(late):.2f} s after {other}"


def report_table(reports: Iterable[ClipReport]) -> str:
    """Reports as text for a terminal: a line for each file, its problems and remarks indented below it."""
    reports = list(reports)
    header, *rows = [("file", "seconds", "video", "audio", "covered"), *map(_row, reports)]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    lines = [line(header)]
    for report, row in zip(reports, rows, strict=True):
        notes = [f"problem: {text}" for text in report.problems] + [f"remark: {text}" for text in report.remarks]
        lines += [line(row), *(f"    {visible(note)}" for note in notes)]
    return "\n".join(lines)


def _row(report: ClipReport) -> tuple[str, ...]:
    video, audio = "-", "-"
    if (v := report.video) is not None:
        rate = f"{v.rate_hz:.2f}".rstrip("0").rstrip(".") + (" fps" if v.constant_rate else " fps variable")
        parts = [v.codec, f"{v.width}x{v.height}", rate, v.pixel_format]
        parts += [f"turned {v.rotation_degrees}"] * (v.rotation_degrees != 0) + ["interlaced"] * v.interlaced
        video = " ".join(parts)
    if (a := report.audio) is not None:
        audio = f"{a.codec} {a.sample_rate_hz} Hz {a.layout}" + (" silent" if report.silent else "")
    seconds = "-" if report.duration_seconds is None else f"{report.duration_seconds:.2f}"
    covered = "-" if report.problems else f"{report.covered_seconds:.2f}"
    return visible(str(report.path)), seconds, video, audio, covered
