"""A located video written again: its frames with the events drawn in, its audio untouched.

All that reads the source, and the encoder, run in a decoder's process; here the file gets its name.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ccln.files import whole
from ccln.pipeline.decode.container import Clock, DecodeError, MissingStreamError, chosen_streams, open_video, refusal
from ccln.pipeline.decode.damage import OnDamage
from ccln.pipeline.decode.packets import ContinuousPackets, is_empty
from ccln.pipeline.decode.processes import Decoders
from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.report.video.file import VideoFile, common_ticks, refusals, suffix_for
from ccln.pipeline.report.video.painting import Painter
from ccln.pipeline.report.video.planes import FORMAT, UprightFrames, matrix_of, planes_of
from ccln.pipeline.report.writers.files import is_there
from ccln.pipeline.segments import CLIP_SECONDS

_MINIMUM_WIDTH = 320  # pixels; on less, nothing can be read


def write_video(
    located: LocatedVideo,
    source: Path,
    destination: Path,
    decoders: Decoders,
    *,
    audio_track: str | None = None,
    on_damage: OnDamage = "error",
    heat_map: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a video again with a timeline below its frames, and over them the names of the events while they last.

    Every frame keeps its time to the tick (in Matroska to the millisecond), after the earliest of the streams is made
    to start at 0, as in decoding. Frames are turned upright as their metadata ask, and encoded as H.264; those less
    than 320 pixels wide are enlarged by a whole factor. The packets of audio are the source's, bit for bit: in MP4, or
    in Matroska where players do not expect their codec in MP4. Only audio that neither holds is encoded again, as AAC.

    One frame is held at a time, and what the encoder looks ahead: memory does not grow with the video, except by the
    few bytes a frame of the index that MP4 ends with. The file is written beside its place and moved there when it is
    whole; one that is there already, the same to the byte, stays as it is.

    Args:
        located: what was found in it.
        source: the video.
        destination: the file to be written, without the suffix, which is added: ".mp4", or ".mkv".
        decoders: what decodes, draws and encodes; each ten seconds have the time that is theirs.
        audio_track: as for `decode_clip`; of a mix all tracks are written.
        on_damage: as for `decode_clip`: of what is concealed the frame before stays. Packets of audio are written as
            they are.
        heat_map: whether to lay the attention over the frames.
        overwrite: whether to replace another file.

    Returns:
        The file.

    Raises:
        DecodeError: the source cannot be read, has no video stream or no such audio track, or ended its process.
        OutputError: the file is there with other content, or cannot be written.
    """
    path = destination.with_name(destination.name + decoders.once(suffix_of, source, audio_track))
    with refusals(path), whole(path) as place:
        for _ in decoders.each(
            draw_video, source, path, place, located, audio_track=audio_track, on_damage=on_damage, heat_map=heat_map
        ):
            pass
        if is_there(path, place, overwrite=overwrite):
            place.unlink()
    return path


def suffix_of(source: Path, audio_track: str | None) -> str:
    """The suffix of a file that holds the audio of a source."""
    with open_video(source) as container:
        return suffix_for(chosen_streams(source, container, audio_track)[1])


def draw_video(
    source: Path,
    path: Path,
    place: Path,
    located: LocatedVideo,
    *,
    audio_track: str | None,
    on_damage: OnDamage,
    heat_map: bool,
) -> Generator[float]:
    """Write `path` at `place`, as `write_video`; yield how far it is, every ten seconds, in seconds."""
    conceals = on_damage == "conceal"
    first, zero = _beginning(source, audio_track, conceals)
    with open_video(source) as container:
        video, audio = chosen_streams(source, container, audio_track)
        assert video is not None
        upright = UprightFrames(first, _MINIMUM_WIDTH)
        painter = Painter(located, upright.height, upright.width, matrix_of(first), attention=heat_map)
        base = Fraction(video.time_base or 0)
        ticks = common_ticks(base, zero)
        size = painter.width, painter.height
        next_seconds = Fraction(CLIP_SECONDS)
        with VideoFile(path, place, video, first, audio, ticks, size) as out:
            for piece in _pieces(source, container, video, audio, zero, conceals):
                if isinstance(piece, Packet):
                    _set_clock(piece, zero)
                    out.add_audio(piece)
                    continue
                seconds = (piece.pts or 0) * base - zero
                canvas = VideoFrame(painter.width, painter.height, FORMAT)
                painter.paint(planes_of(canvas), upright(piece), float(seconds))
                canvas.time_base, canvas.pts = ticks, round(seconds / ticks)
                canvas.duration = round((piece.duration or 0) * base / ticks)
                out.add_frame(canvas)
                if seconds >= next_seconds:
                    next_seconds = seconds + CLIP_SECONDS
                    yield float(seconds)


def _beginning(source: Path, audio_track: str | None, conceals: bool) -> tuple[VideoFrame, Fraction]:
    """The first frame, and when the video's clock starts, in seconds on the file's own."""
    with open_video(source) as container:
        video, audio = chosen_streams(source, container, audio_track)
        if video is None:
            raise MissingStreamError(f"{source}: has no video stream, so there is nothing to draw on. Leave it out.")
        clock = Clock(video, *audio)
        for packet in ContinuousPackets(container, [video, *audio]):
            if packet.stream is not video and packet.pts is not None:
                clock.start(packet.stream, packet.pts)
            if packet.stream is not video or is_empty(packet):
                continue
            with suppress(*([av.error.FFmpegError] if conceals and packet.size else [])):
                for frame in packet.decode():
                    if isinstance(frame, VideoFrame) and frame.pts is not None:
                        clock.start(video, frame.pts)
                        return frame, clock.zero or Fraction(0)
    raise DecodeError(f"{source}: its video stream holds no frame. Check that it plays.")


def _pieces(
    source: Path,
    container: InputContainer,
    video: VideoStream,
    audio: Sequence[AudioStream],
    zero: Fraction,
    conceals: bool,
) -> Iterator[VideoFrame | Packet]:
    """Frames and packets of audio as they come; each is later than all of its kind before it.

    What steps back in time in a damaged file, or has no time, is left out, as in decoding.
    """
    latest: dict[Stream, int] = {}
    refused: DecodeError | None = None
    shown: VideoFrame | None = None
    for packet in ContinuousPackets(container, [video, *audio]):
        frames: Sequence[Any] = ()
        if packet.stream is not video:
            if packet.size and _comes_next(packet.stream, packet.dts, latest):
                yield packet
            continue
        if (
            refused is not None and packet.size and not conceals
        ):  # damage; were it the last, the file would only be cut off
            raise refused
        if is_empty(packet):
            if shown is not None and _comes_next(video, packet.pts, latest):
                shown.pts = packet.pts
                yield shown
            continue
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            refused = refusal(source, video, float((packet.dts or 0) * Fraction(packet.time_base or 0) - zero), error)
        for frame in frames:
            if isinstance(frame, VideoFrame) and _comes_next(video, frame.pts, latest):
                shown = frame
                yield frame


def _comes_next(stream: Stream, stamp: int | None, latest: dict[Stream, int]) -> bool:
    """Whether a time is later than all before it in its stream; if so, it is the latest now."""
    if stamp is None or stamp <= latest.get(stream, stamp - 1):
        return False
    latest[stream] = stamp
    return True


def _set_clock(packet: Packet, zero: Fraction) -> None:
    """Make a packet's times count from the start of the video's clock."""
    assert packet.time_base is not None
    ticks = common_ticks(packet.time_base, zero)
    for name in ("pts", "dts"):
        stamp = getattr(packet, name)
        if stamp is not None:
            setattr(packet, name, round((stamp * packet.time_base - zero) / ticks))
    packet.duration = round((packet.duration or 0) * packet.time_base / ticks)
    packet.time_base = ticks
