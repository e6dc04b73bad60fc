"""Matroska files that were joined byte by byte: whether the first header holds for the recordings after it, too."""

import io

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

_HEADER = b"\x1aE\xdf\xa3"
_MOST_BYTES = 64_000_000
# FFmpeg tells no tracks without some packets.
_PACKET_BYTES = 1_000_000


def has_unread_recording(container: InputContainer, begin: int, end: int | None = None) -> bool:
    """Whether a recording begins there whose own header is needed, or that is not read at all.

    FFmpeg's demuxer passes over the header of a second recording, and gives its packets to the decoders of the first;
    it ends before a third.

    Args:
        container: What is being read.
        begin: Position in the file of the last packet before, in bytes.
        end: Position of the first packet of what may be another recording; None after the last packet.
    """
    if "matroska" not in container.format.name:
        return False
    with open(container.name, "rb") as file:
        file.seek(begin)
        data = file.read(_MOST_BYTES if end is None else max(0, min(end - begin, _MOST_BYTES)) + _PACKET_BYTES)
    header = data.rfind(_HEADER, 0, None if end is None else max(0, end - begin))
    if header < 0 or end is None:
        return header >= 0
    try:
        with av.open(io.BytesIO(data[header:]), "r", container_options={"protocol_whitelist": "none"}) as other:
            return _tracks(other) != _tracks(container)
    except (av.error.FFmpegError, OSError):
        return True


def _tracks(container: InputContainer) -> list[tuple[object, ...]]:
    return [_track(stream) for stream in container.streams if isinstance(stream, VideoStream | AudioStream)]


def _track(stream: VideoStream | AudioStream) -> tuple[object, ...]:
    """What of a track a decoder is set by."""
    if (context := stream.codec_context) is None:
        return (stream.type,)
    # FLAC's has a checksum of the recording; its packets say all that a decoder needs.
    private = None if context.name == "flac" else context.extradata
    if isinstance(stream, VideoStream):
        return stream.type, context.name, private, stream.width, stream.height
    return stream.type, context.name, private, stream.codec_context.sample_rate, stream.codec_context.layout.nb_channels
