"""From a video file to clips of ten seconds: frames at known times and one waveform, on one clock.

The file's clock starts where the earlier of its two streams starts; all times below are seconds on that clock.
Clips and segments are half-open: clip k covers [10 k, 10 k + 10), its segment s covers [10 k + s, 10 k + s + 1).
"""

import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from math import inf, isinf
from pathlib import Path
from typing import Literal

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from ccln.pipeline.decode.audio import MixedAudio, WaveformBuilder
from ccln.pipeline.decode.container import Clock, DecodeError, MissingStreamError, chosen_streams, open_video, refusal
from ccln.pipeline.decode.damage import Damage, OnDamage
from ccln.pipeline.decode.decord import DecordFrames
from ccln.pipeline.decode.frames import FramePicker, FrameRequest, FrameSkipper, shown_aspect
from ccln.pipeline.decode.packets import ContinuousPackets, is_empty
from ccln.pipeline.segments import CLIP_SECONDS

# Containers interleave their streams far closer than this; nothing that comes later belongs to the clip.
_MAX_INTERLEAVE_SECONDS = 10
# Less than this after a full clip is an encoder's padding, or a last frame that is displayed a little longer.
_MIN_CLIP_SECONDS = 0.1
# An hour. A file of a few bytes may claim that its last frame is displayed for a million years.
_MAX_STILL_CLIPS = 360
# A thousand frames and a thousand pieces of audio. A file of a megabyte may hold each sample in a packet of its own.
_MAX_PACKETS_A_SECOND = 2000
_BLACK_ASPECT = 4 / 3


@dataclass(frozen=True, eq=False)
class DecodedClip:
    """Ten consecutive segments of a video file."""

    frames: np.ndarray
    """uint8 RGB (segment, frame, height, width, channel)."""
    frame_seconds: np.ndarray
    """float64 (segment, frame): presentation time of the frame that was taken, on the file's clock."""
    aspect: float
    """Width over height as a player displays the video, upright; the frames are stretched to the requested size.
    It is that of the file's first frame; 4/3 while there has been none by the end of these ten seconds."""
    waveform: np.ndarray
    """float32 mono (sample,), exactly ten seconds at the rate that was asked for."""
    duration_seconds: float
    """How much of the ten seconds the file covers; after that the last frame and silence are repeated."""
    missing: tuple[str, ...] = ()
    """("audio",) or ("video",) where there is none by the end of these ten seconds: silence or black frames."""
    start_seconds: float = 0.0
    """Where the ten seconds start on the file's clock."""
    lost_seconds: Mapping[str, float] = field(default_factory=dict)
    """How much of "video" and "audio" damage took, where any: there the frame before stays, and it is silent."""
    differs: bool = False
    """Whether the first edition of the rules of decoding, of earlier releases, may have given another clip."""

    @property
    def sample_rate_hz(self) -> int:
        """Of the waveform."""
        return len(self.waveform) // CLIP_SECONDS


def decode_clip(
    path: Path,
    request: FrameRequest,
    *,
    on_missing: Literal["error", "zeros"] = "error",
    decoder: str = "pyav",
    audio_track: str | None = None,
    on_damage: OnDamage = "error",
) -> DecodedClip:
    """Decode the first ten seconds of a video file, both streams in one pass.

    A frame is displayed from its presentation time until the next frame's; the frame for a wanted time is the one
    displayed then. Before the first frame that is the first, after the last it is the last. Frames are turned upright
    as the metadata say; mirroring is not undone. Interlaced frames are used as they are, both fields in one.

    Timestamps that restart or jump, as in recordings joined byte by byte, go on where both streams ended (see
    `ContinuousPackets`).

    Audio is placed on the clock by its timestamps (gaps are silence), mixed to mono as the mean of its channels, and
    resampled to the requested rate, 16 kHz if it is left open.

    If a stream ends in a packet that the decoder refuses, as a cut-off file does, the clip ends before that packet. A
    refused packet that others follow is damage: an error, or passed over up to two seconds of a stream in ten. Damage
    that the decoder conceals, or in a frame that is neither wanted nor needed for another, is not noticed.

    Memory is bounded by the decoder's own frame buffers plus the result (and, for decord, the compressed frames of the
    ten seconds), and time by about twenty seconds of the file, however long it is. No other file is opened, even if a
    playlist asks for it.

    Args:
        path: The video file.
        request: Which frames, and their size.
        on_missing: If the file has no video, or no audio, in these ten seconds: "error", or "zeros" for black frames
            and silence. A silent audio stream is not missing.
        decoder: What decodes the frames, "pyav" or "decord" (see `ccln.pipeline.decode.decord`). Audio is always
            decoded by PyAV.
        audio_track: Which of several audio tracks: its number, counted from 1, its language, or "mix", the mean of all;
            None is the best of the video's program, see `chosen_streams`.
        on_damage: "error", or "conceal" to go on past packets that a decoder refuses: the frame before stays, the audio
            is silent, and both go on in time. Frames that decord refuses are an error all the same.

    Raises:
        MissingStreamError: There is no video, or no audio, and `on_missing` is "error".
        DecodeError: The file is missing, is no video or is damaged, has no such audio track although it has others, or
            decord would not decode it correctly.
        DecordMissingError: decord is asked for and not installed.
    """
    options = _Options(on_missing, decoder, audio_track, on_damage)
    with closing(_clips(path, request, options, CLIP_SECONDS)) as clips:
        return next(clips)


def decode_clips(
    path: Path,
    request: FrameRequest,
    *,
    on_missing: Literal["error", "zeros"] = "error",
    decoder: str = "pyav",
    audio_track: str | None = None,
    on_damage: OnDamage = "error",
) -> Generator[DecodedClip]:
    """Decode a video file of any length as consecutive clips of ten seconds, in one pass.

    Each clip is yielded as soon as it is complete, so that an error comes after the clips before it. All of
    `decode_clip` holds for each clip, and the first is the same as there. For longer files:

    A frame is displayed, in every clip, until the next one comes, and the last until the end. Audio across the border
    of two clips is split at the sample; each clip is resampled by itself.

    Every clip but the last is ten seconds long. The file ends where the later of its two streams does; less than 0.1 s
    after a full clip is left out.

    A stream may start or end anywhere. Before its first audio there is silence; the clips before that with its first
    frame are black, and that clip shows the first frame from its start. `missing` names the stream in such clips; only
    a stream that never comes is treated as `on_missing` says. What comes more than ten seconds later in the file than
    what it is presented with, or steps back in time to before a clip that has been yielded, is left out. If the video
    ends long before the audio and its decoder reorders frames (H.264 and HEVC with B-frames), its last few frames are
    known only at the end of the file: the clip in which it ends then shows the frame before them until its end.

    Memory is bounded by the decoder's own frame buffers, as many frames again, and four clips.

    Args:
        path: The video file.
        request: Which frames, and their size.
        on_missing: If the file has no video, or no audio: "error", or "zeros" for black frames and silence.
        decoder: What decodes the frames; "decord" only in files that end with the first clip.
        audio_track: As for `decode_clip`.
        on_damage: As for `decode_clip`.

    Yields:
        Clip after clip, at least one.

    Raises:
        MissingStreamError: There is no video, or no audio, and `on_missing` is "error".
        DecodeError: The file is missing, is no video or is damaged, has no such audio track although it has others,
            holds nothing for an hour, is longer than what decord decodes, or decord would not decode it correctly.
        DecordMissingError: decord is asked for and not installed.
    """
    if decoder == "decord":
        _check_ends_with_first_clip(path, audio_track)
        yield decode_clip(
            path, request, on_missing=on_missing, decoder=decoder, audio_track=audio_track, on_damage=on_damage
        )
    else:
        yield from _clips(path, request, _Options(on_missing, decoder, audio_track, on_damage), inf)


def decode_first(
    path: Path,
    request: FrameRequest,
    clip_count: int,
    *,
    on_missing: Literal["error", "zeros"] = "error",
    decoder: str = "pyav",
    audio_track: str | None = None,
    on_damage: OnDamage = "error",
) -> Generator[DecodedClip]:
    """The first clips of a video file, as many as there are: one as `decode_clip`, more as `decode_clips` gives them.

    The other arguments, and the errors, are theirs.
    """
    options = _Options(on_missing, decoder, audio_track, on_damage)
    if clip_count == 1:
        yield decode_clip(path, request, **asdict(options))
        return
    with closing(decode_clips(path, request, **asdict(options))) as clips:
        yield from itertools.islice(clips, clip_count)


def _check_ends_with_first_clip(path: Path, audio_track: str | None) -> None:
    with open_video(path) as container:
        video, audio = chosen_streams(path, container, audio_track)
        clock = Clock(video, *audio)
        for packet in ContinuousPackets(container, [stream for stream in (video, *audio) if stream]):
            if packet.pts is None:
                continue
            clock.start(packet.stream, packet.pts)
            if clock.seconds(packet.stream, packet.pts) >= CLIP_SECONDS + _MIN_CLIP_SECONDS:
                raise DecodeError(
                    f"{path}: is longer than ten seconds, and decord gives the first ten alone. Checkpoints trained "
                    "with the decoder decord localize in files of ten seconds; train with pyav for longer ones."
                )


@dataclass(frozen=True)
class _Options:
    """As for `decode_clip`."""

    on_missing: str
    decoder: str
    audio_track: str | None
    on_damage: OnDamage


def _clips(path: Path, request: FrameRequest, options: _Options, until_seconds: float) -> Generator[DecodedClip]:
    """All clips before ``until_seconds``, a multiple of ten or infinite, to the end of the file; at least one."""
    with open_video(path) as container:
        still_count = 0  # clips in a row in which no frame begins, and which are silent
        empty_count = packet_count = 0  # clips for which no packet came, less those for which one did; packets
        reader = ClipReader(path, container, request, options, until_seconds)
        for clip in reader.clips():
            yield clip
            empty_count += 1 if reader.packet_count == packet_count else -1
            packet_count = reader.packet_count
            if empty_count == _MAX_STILL_CLIPS:
                raise DecodeError(
                    f"{path}: has next to nothing in most of the {clip.start_seconds:.0f} s so far; its times seem to "
                    "be damaged. Convert it again."
                )
            no_frame = "video" in clip.missing or clip.frame_seconds[-1, -1] < clip.start_seconds
            still_count = still_count + 1 if no_frame and not clip.waveform.any() else 0
            if still_count == _MAX_STILL_CLIPS:
                raise DecodeError(
                    f"{path}: nothing new is seen or heard in the hour before {clip.start_seconds:.0f} s; its times "
                    "seem to be damaged. Convert it again."
                )


class ClipReader:
    """One pass through an open file: decodes packet after packet, and gives each clip as soon as it is complete."""

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        request: FrameRequest,
        options: _Options,
        until_seconds: float,
    ) -> None:
        """Choose the streams and prepare their decoders; the arguments are as for `decode_clips`.

        No more is decoded than is needed to know what is before `until_seconds`. decord gives the first clip only.

        Raises:
            MissingStreamError: There is no video, or no audio, and `on_missing` is "error".
            DecodeError: There is neither, or one that cannot be decoded.
            DecordMissingError: decord is asked for and not installed.
        """
        video, audio = chosen_streams(path, container, options.audio_track)
        self._path, self._container, self._request = path, container, request
        self._on_missing, self._until_seconds = options.on_missing, until_seconds
        self.packet_count = 0
        """Packets so far."""
        self._check_missing([kind for kind, stream in (("video", video), ("audio", audio)) if not stream])
        self._video, self._streams = video, [stream for stream in (video, *audio) if stream]
        self._clock = Clock(*self._streams)
        self._packets = ContinuousPackets(container, self._streams)
        # What the rules of decoding were changed for since their first edition, as far as it is known here.
        best = [container.streams.best(kind) for kind in ("video", "audio")]
        taken = [video or best[0], next(iter(audio), None) if options.audio_track is None else best[1]]
        self._differs = best != taken
        self._aspect = _BLACK_ASPECT
        self._damage = Damage(self._clock, options.on_damage)
        self._frames, self._audio = (
            FramePicker(request, until_seconds),
            MixedAudio((stream.index for stream in audio), request.sample_rate_hz),
        )
        self._collectors = {"video": self._frames, "audio": self._audio}
        self._receivers: dict[int, FramePicker | WaveformBuilder | DecordFrames] = {**self._audio.tracks}
        self._skipper: FrameSkipper | None = None
        if video is None:
            return
        self._receivers[video.index] = self._frames
        if isinf(until_seconds) and video.codec_context.codec.name == "libdav1d":
            # It holds frames back to decode several at a time; those of a slideshow would come too late.
            video.codec_context.options = {**video.codec_context.options, "max_frame_delay": "1"}
        if options.decoder == "decord":
            self._receivers[video.index] = DecordFrames(path, video, self._clock)
        elif (zero := self._clock.zero) is not None:
            first, second = (request.target_time(number) + zero for number in (0, 1))
            self._skipper = FrameSkipper(video, first, second - first, until_seconds + zero)

    def clips(self) -> Iterator[DecodedClip]:
        """The clips in order; to be called once.

        Raises:
            MissingStreamError: Nothing of a stream has come by the end, and `on_missing` is "error".
            DecodeError: The file is damaged, or empty.
        """
        index = 0
        for packet, packet_seconds in self.packets():
            while complete := self._is_complete(index, packet_seconds):
                if (index + 1) * CLIP_SECONDS >= self._until_seconds:
                    break
                yield self._clip(index, float(CLIP_SECONDS))
                index += 1
            if complete:
                break
            self.packet_count += 1
            if self.packet_count > (index + 2) * CLIP_SECONDS * _MAX_PACKETS_A_SECOND:
                raise DecodeError(
                    f"{self._path}: has more than {_MAX_PACKETS_A_SECOND} packets a second, as no camera or microphone "
                    "writes them. Convert it again."
                )
            self._decode(packet, packet_seconds)
        for receiver in self._receivers.values():
            if isinstance(receiver, DecordFrames):  # it decodes when all packets are there
                self._aspect = receiver.aspect
                for frame, seconds in receiver.frames(self._request.target_times()):
                    self._frames.add(frame, seconds)
        absent = self._absent(self._until_seconds)
        for stream in self._streams:
            if stream.type in absent and (error := self._damage.error_of(stream)) is not None:
                raise error
        if len(absent) == 2:
            raise DecodeError(f"{self._path}: neither its video nor its audio holds anything. Check that it plays.")
        self._check_missing(absent)
        present = (part.end_seconds for kind, part in self._collectors.items() if kind not in absent)
        end_seconds = min(max(*present, self._damage.end_seconds), self._until_seconds)
        while index == 0 or end_seconds - index * CLIP_SECONDS >= _MIN_CLIP_SECONDS:
            yield self._clip(index, min(float(CLIP_SECONDS), end_seconds - index * CLIP_SECONDS))
            index += 1

    def packets(self) -> Iterator[tuple[Packet, float]]:
        """All packets of both streams, each with the time in seconds when it is due."""
        packets = self._packets
        for packet in packets if self._skipper is None else self._skipper.packets(packets):
            yield packet, self._clock.packet_seconds(packet)

    def _is_complete(self, index: int, packet_seconds: float) -> bool:
        """Whether a clip has all it needs, or nothing that follows in the file may belong to it any more."""
        end_seconds = (index + 1) * CLIP_SECONDS
        return (
            all(part.has_passed(end_seconds) for part in self._receivers.values())
            or packet_seconds > end_seconds + _MAX_INTERLEAVE_SECONDS
            or self._frames.overfull
            or self._audio.overfull
        )

    def _decode(self, packet: Packet, packet_seconds: float) -> None:
        stream = packet.stream
        receiver = self._receivers[stream.index]
        if receiver.has_passed(self._until_seconds):
            return
        if packet.has_sidedata("encryption_info"):
            raise DecodeError(f"{self._path}: its {stream.type} is encrypted. Get a copy without protection.")
        if isinstance(receiver, DecordFrames):
            receiver.add(packet)
            return
        if is_empty(packet):
            self._differs = True
            if isinstance(receiver, FramePicker):
                receiver.repeat(self._clock.seconds(stream, packet.pts or 0), self._clock.end_seconds(packet))
            return
        # The empty one at the end only asks for what is still held.
        if packet.size and self._damage.is_before(packet) and isinstance(receiver, WaveformBuilder):
            receiver.break_off()
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if packet.pts is not None:
                self._clock.start(stream, packet.pts)
            self._damage.refuse(packet, refusal(self._path, stream, packet_seconds, error))
            return
        for frame in frames:
            if isinstance(frame, AudioFrame) and not frame.samples:
                continue
            if isinstance(frame, VideoFrame | AudioFrame) and frame.pts is not None:
                self._clock.start(stream, frame.pts)
                seconds = self._clock.seconds(stream, frame.pts)

                if isinstance(frame, VideoFrame):
                    self._add_video(frame, seconds)
                else:
                    self._add_audio(stream, frame, seconds)

    def _add_video(self, frame: VideoFrame, seconds: float) -> None:
        if self._video is not None and isinf(self._frames.first_seconds):
            self._aspect = shown_aspect(self._video, frame)
        self._frames.add(frame, seconds)
        if self._skipper is not None:
            self._skipper.observe(frame)

    def _add_audio(self, stream: Stream, frame: AudioFrame, seconds: float) -> None:
        track = self._audio.tracks[stream.index]
        if track.accepts(frame.sample_rate):
            track.add(frame, seconds)
            return
        error = DecodeError(
            f"{self._path}: its audio at {seconds:.2f} s has {frame.sample_rate} Hz, which is not the rate before "
            "it, or is not supported. Convert the file to one sample rate."
        )
        if not self._damage.concealed:
            raise error
        self._damage.lose(stream, seconds, seconds + frame.samples / max(frame.sample_rate, 1), error)
        track.break_off()

    def _clip(self, index: int, duration_seconds: float) -> DecodedClip:
        missing = self._absent((index + 1) * CLIP_SECONDS)
        frames, frame_seconds = self._frames.take()
        waveform = self._audio.take()
        if not np.isfinite(waveform).all():
            raise DecodeError(
                f"{self._path}: its audio holds values that are not numbers. Fetch the file or convert it again."
            )
        # The first frame's: that of a later one would hardly ever differ, and decord gives all in the first's shape.
        aspect = _BLACK_ASPECT if "video" in missing else self._aspect
        start_seconds = float(index * CLIP_SECONDS)
        lost_seconds = self._damage.lost_seconds(start_seconds)
        self._differs |= (
            self._packets.altered
            or self._frames.mapped
            or any(track.kept_unbroken for track in self._audio.tracks.values())
            or (self._skipper is not None and self._skipper.spared)
        )
        known = missing, start_seconds, lost_seconds, self._differs
        return DecodedClip(frames, frame_seconds, aspect, waveform, duration_seconds, *known)

    def _absent(self, before_seconds: float) -> tuple[str, ...]:
        """The kinds of stream of which nothing has come that starts before then: "video", "audio"."""
        return tuple(kind for kind, part in self._collectors.items() if part.first_seconds >= before_seconds)

    def _check_missing(self, missing: Sequence[str]) -> None:
        if missing and self._on_missing == "error":
            raise MissingStreamError(
                f"{self._path}: has no {missing[0]} stream, or nothing in its first ten seconds. An audio-visual event "
                "needs both: leave the file out, or add the stream."
            )
