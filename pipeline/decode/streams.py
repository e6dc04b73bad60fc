"""The two streams of a video file, decoded packet by packet, each frame and piece of sound at its time on one clock."""

from collections.abc import Iterator
from math import isinf
from pathlib import Path

import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ccln.pipeline.decode.audio import WaveformBuilder
from ccln.pipeline.decode.container import Clock, DecodeError
from ccln.pipeline.decode.decord import DecordFrames
from ccln.pipeline.decode.frames import FramePicker, FrameRequest, shown_aspect
from ccln.pipeline.decode.skipping import PictureSkipper

_BLACK_ASPECT = 4 / 3


class Streams:
    """Fills a `FramePicker` and a `WaveformBuilder` from a file."""

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        video: VideoStream | None,
        audio: AudioStream | None,
        request: FrameRequest,
        decoder: str,
        until_seconds: float,
    ) -> None:
        """Prepare for one pass through a file.

        Args:
            path: for messages.
            container: the open file.
            video: its stream, None if there is none.
            audio: its stream, None if there is none.
            request: which frames, how large.
            decoder: "pyav" or "decord", which gives no frames but those of the first clip.
            until_seconds: where to stop: no more is decoded than is needed to know what is before.
        """
        self.picker = FramePicker(request, until_seconds)
        self.sound = WaveformBuilder()
        self._parts = {"video": self.picker, "audio": self.sound}
        self.refused: dict[str, DecodeError] = {}
        """What is to be said of a stream ("video", "audio") whose last packet so far was refused."""
        self._path, self._container, self._request, self._until_seconds = path, container, request, until_seconds
        self._video, self._streams = video, [stream for stream in (video, audio) if stream]
        self._clock = Clock(video, audio)
        self._aspect = _BLACK_ASPECT
        self._taking: dict[str, FramePicker | WaveformBuilder | DecordFrames] = {
            stream.type: self._parts[stream.type] for stream in self._streams
        }
        if video is not None and isinf(until_seconds) and video.codec_context.codec.name == "libdav1d":
            # It holds pictures back to decode several at a time; those of a slideshow would come too late.
            video.codec_context.options = {**video.codec_context.options, "max_frame_delay": "1"}
        self._skipper = None
        if video is not None and decoder == "decord":
            self._taking["video"] = DecordFrames(path, video, self._clock)
        elif video is not None and (zero := self._clock.zero) is not None:
            first, second = (request.target_time(number) + zero for number in (0, 1))
            self._skipper = PictureSkipper(video, first, second - first, until_seconds + zero)

    def packets(self) -> Iterator[tuple[Packet, float]]:
        """All packets of both streams, each with the time in seconds when it is due."""
        packets = self._container.demux(*self._streams)
        for packet in packets if self._skipper is None else self._skipper.packets(packets):
            yield packet, self._clock.packet_seconds(packet)

    def have_passed(self, seconds: float) -> bool:
        """Whether all of both streams before then has been decoded."""
        return all(part.has_passed(seconds) for part in self._taking.values())

    def absent(self, before_seconds: float) -> tuple[str, ...]:
        """The kinds of stream of which nothing has come that starts before then: "video", "audio"."""
        return tuple(kind for kind, part in self._parts.items() if part.first_seconds >= before_seconds)

    def end_seconds(self, before_seconds: float) -> float:
        """Where the later of the streams that start before then ends, as far as they have come."""
        ends = (part.end_seconds for part in self._parts.values() if part.first_seconds < before_seconds)
        return max(ends, default=0.0)

    def aspect(self, before_seconds: float) -> float:
        """Width over height of the file's first picture as a player shows it; 4/3 if none has come that starts before.

        That of each later one would hardly ever differ, and decord gives all in the shape of the first.
        """
        return self._aspect if self.picker.first_seconds < before_seconds else _BLACK_ASPECT

    def decode(self, packet: Packet, packet_seconds: float) -> None:
        """Take the next packet.

        Raises:
            DecodeError: it cannot be decoded rightly, or one before it in its stream could not be decoded at all.
        """
        stream = packet.stream
        part = self._taking[stream.type]
        if part.has_passed(self._until_seconds):
            return
        if isinstance(part, DecordFrames):
            part.add(packet)
            return
        if stream.type in self.refused and packet.size:  # the empty one at the end only asks for what is still held
            raise self.refused[stream.type]
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            self.refused[stream.type] = DecodeError(
                f"{self._path}: its {stream.type} is damaged at {packet_seconds:.2f} s. Fetch the file or convert it "
                "again."
            )
            self.refused[stream.type].__cause__ = error
            return
        for frame in frames:
            if isinstance(frame, VideoFrame | AudioFrame) and frame.pts is not None:
                self._clock.start(stream, frame.pts)
                self._add(frame, self._clock.seconds(stream, frame.pts))

    def _add(self, frame: VideoFrame | AudioFrame, seconds: float) -> None:
        if isinstance(frame, VideoFrame):
            if self._video is not None and isinf(self.picker.first_seconds):
                self._aspect = shown_aspect(self._video, frame)
            self.picker.add(frame, seconds)
            if self._skipper is not None:
                self._skipper.saw(frame)
        elif self.sound.accepts(frame.sample_rate):
            self.sound.add(frame, seconds)
        else:
            raise DecodeError(
                f"{self._path}: its sound at {seconds:.2f} s has {frame.sample_rate} Hz, which is not the "
                "rate before it or none that is supported. Convert the file to one sample rate."
            )

    def finish(self) -> None:
        """Give the picker the frames that are only decoded when all packets are there, which are decord's.

        Raises:
            DecodeError: decord cannot decode them.
        """
        if isinstance(pictures := self._taking.get("video"), DecordFrames):
            self._aspect = pictures.aspect
            for frame, seconds in pictures.frames(self._request.target_times()):
                self.picker.add(frame, seconds)
