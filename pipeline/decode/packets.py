"""The packets of a file's streams on one clock, which goes on where the file's timestamps restart or jump.

Recordings that were joined byte by byte, splices, and recorders whose clock is set each begin a new *part* of the file,
with times that have nothing to do with those before. A single stream cannot tell where its part belongs: the other may
still hold the end of the part before. Therefore packets of a new part wait until it is known for both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from ccln.pipeline.decode.causes import is_memory_short
from ccln.pipeline.decode.container import Clock, DecodeError
from ccln.pipeline.decode.joined import has_unread_recording

# As FFmpeg's own tools: a step back of more than this is a restart in any file, ...
_BACK_SECONDS = 0.1
# ... and a step forward of more than this a jump, in containers whose timestamps may jump by their specification.
_FORWARD_SECONDS = 10.0
_MAY_JUMP = 0x200  # FFmpeg's AVFMT_TS_DISCONT, in a container format's flags
# A damaged time is alone: the next packet is again where it would have been.
_GLITCH_SECONDS = 0.5
# A frame is displayed at most so many frames, and a little, after it is decoded.
_MAX_REORDERED = 16
_TORN_SECONDS = 1.0
# How much may wait until it is decided; streams are interleaved far closer.
_MAX_WAITING_SECONDS = 10.0
_MAX_WAITING_PACKETS = 4096
_MAX_WAITING_BYTES = 32_000_000


@dataclass(frozen=True)
class Restart:
    """Where a file's timestamps go on from another time."""

    seconds: float
    """On the container's own clock, as if it had gone on."""
    stated_seconds: float
    """What the timestamps say there."""


def _demuxed(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet]:
    """The packets of a file, and last an empty one of each stream.

    PyAV 18 looks for those of streams, too, that began in mid-file, and that it does not know.

    Raises:
        DecodeError: A packet is said to be larger than any memory.
    """
    ended = 0
    try:
        for packet in container.demux(*streams):
            ended += packet.dts is None and packet.pts is None and not packet.size
            yield packet
    except IndexError:
        if ended < len(streams):
            raise
    except av.error.MemoryError as error:
        if is_memory_short():
            raise
        raise DecodeError(  # FFmpeg does not even try
            f"{container.name}: its index names a packet that is larger than any memory. Fetch the file again, or "
            "convert it with another program."
        ) from error


class ContinuousPackets:
    """Iterates over packets as they are in the file, each with a time that follows those before it.

    Timestamps restart if they step back by more than a tenth of a second, and jump, in containers that allow for it, if
    they step forward by more than ten seconds, in every stream that goes on. The new part then begins where the last
    of the streams ended, and keeps its own synchronism. Where other streams go on, a step in one of them is a pause, or
    an error of that stream, and its timestamps stand. A single damaged timestamp is taken off.

    Iterating raises `DecodeError` where a recording follows that FFmpeg does not read with its own header.

    To be iterated over once. Memory is bounded by what may wait: 32 MB.
    """

    def __init__(self, container: InputContainer, streams: Sequence[Stream]) -> None:
        self.restarts: list[Restart] = []
        """Those met so far."""
        self.altered = False
        """Whether a packet got another time than the file states."""
        self._container, self._streams = container, streams
        self._may_jump = bool(container.format.flags & _MAY_JUMP)
        self._offsets = [Fraction(0)]  # of each part, in seconds
        self._tracks = {stream.index: _Track(stream.time_base or Fraction(1)) for stream in streams}
        self._waiting: list[Packet] = []  # of the part that is to begin
        self._position = self._waiting_from = 0  # in the file, of the last packet and of that before those which wait

    def __iter__(self) -> Iterator[Packet]:
        for packet in _demuxed(self._container, self._streams):
            yield from self._next(packet)
            self._position = packet.pos or self._position

    def _next(self, packet: Packet) -> Iterator[Packet]:
        track, stamp = self._tracks[packet.stream.index], packet.dts
        if self._may_jump and track.is_torn(packet):
            packet.pts, self.altered = None, True
        if stamp is None and packet.pts is None and not packet.size:  # the end
            yield from self._decide()
            if packet.stream is self._streams[-1] and has_unread_recording(self._container, self._position):
                raise self._unread()
            yield packet
        elif stamp is None:
            if track.ahead is None:
                yield self._placed(packet)
            else:
                self._waiting.append(packet)
        elif track.ahead is not None:
            if track.returns(stamp):
                yield from self._drop_times()
                yield self._placed(packet)
                return
            if track.ahead.steps(stamp, self._may_jump):  # a part so short that it is over before it is decided
                yield from self._begin_part()
                yield from self._next(packet)
                return
            self._wait(track, packet, stamp)
            if self._is_due():
                yield from self._decide()
        elif self._begins_part(track, stamp):
            self._wait(track, packet, stamp)
            if all(other.ahead is not None for other in self._tracks.values() if other.latest is not None):
                yield from self._begin_part()
        else:
            yield self._placed(packet)

    def _begins_part(self, track: "_Track", stamp: int) -> bool:
        """Whether a packet belongs to a part after that of its stream's last, which is not known yet."""
        if track.latest is None:
            if not self._waiting:
                track.part = len(self._offsets) - 1
            return bool(self._waiting)
        if not track.steps(stamp, self._may_jump):
            return False
        others = [other for other in self._tracks.values() if other is not track and other.latest is not None]
        if self._waiting:
            return True
        seconds = float(stamp * track.base)
        beyond = [other for other in others if other.part > track.part]
        if any(other.is_near(seconds) for other in beyond):  # that part has begun without this stream
            track.begin(beyond[0].part)
            return False
        is_pause = stamp > track.latest and any(other.is_near(seconds) for other in others)
        return not is_pause

    def _wait(self, track: "_Track", packet: Packet, stamp: int) -> None:
        if not self._waiting:
            self._waiting_from = self._position
            for other in self._tracks.values():
                other.before_waiting = other.latest
        if track.ahead is None:
            track.ahead = _Track(track.base)
        track.ahead.pass_by(packet, stamp)
        self._waiting.append(packet)

    def _is_due(self) -> bool:
        return (
            max(track.ahead.extent() for track in self._tracks.values() if track.ahead is not None)
            > _MAX_WAITING_SECONDS
            or len(self._waiting) > _MAX_WAITING_PACKETS
            or sum(packet.size for packet in self._waiting) > _MAX_WAITING_BYTES
        )

    def _decide(self) -> Iterator[Packet]:
        """Begin the part that waits, unless another stream has gone on in the meantime."""
        if not self._waiting:
            return
        ahead = [track.ahead for track in self._tracks.values() if track.ahead is not None]
        behind = [track for track in self._tracks.values() if track.ahead is None and track.latest is not None]
        waited = max(track.extent() for track in ahead)
        if any(track.extent(track.before_waiting) > waited / 2 for track in behind):
            yield from self._let_stand()
        else:
            yield from self._begin_part()

    def _begin_part(self) -> Iterator[Packet]:
        tracks = self._tracks.values()
        end = self._end_seconds
        start = min(track.ahead.start_seconds for track in tracks if track.ahead is not None)
        if has_unread_recording(self._container, self._waiting_from, self._waiting[0].pos or 0):
            raise self._unread()
        self._offsets.append(end - start)
        self.altered = True
        self.restarts.append(Restart(float(end), float(start)))
        for track in tracks:
            if track.ahead is not None:
                track.begin(len(self._offsets) - 1)
        yield from self._release()

    @property
    def _end_seconds(self) -> Fraction:
        """When the last packet so far ends, on the clock that goes on."""
        tracks = (track for track in self._tracks.values() if track.latest is not None)
        return max((track.end_seconds + self._offsets[track.part] for track in tracks), default=Fraction(0))

    def _unread(self) -> DecodeError:
        seconds = float(self._end_seconds - (Clock(*self._streams).zero or 0))
        return DecodeError(
            f"{self._container.name}: at {seconds:.2f} s another recording follows, which FFmpeg cannot read together "
            "with those before it. Split the file there, or join the recordings with a program that converts them."
        )

    def _let_stand(self) -> Iterator[Packet]:
        for track in self._tracks.values():
            track.ahead = None
        yield from self._release()

    def _drop_times(self) -> Iterator[Packet]:
        self.altered = True
        for packet in self._waiting:
            packet.pts = packet.dts = None
        yield from self._let_stand()

    def _release(self) -> Iterator[Packet]:
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            yield self._placed(packet)

    def _placed(self, packet: Packet) -> Packet:
        """The packet with its time on the clock that goes on."""
        track = self._tracks[packet.stream.index]
        if packet.dts is not None:
            track.pass_by(packet, packet.dts)
        if shift := round(self._offsets[track.part] / track.base):
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        return packet


def is_empty(packet: Packet) -> bool:
    """Whether a packet has a time and nothing in it: the frame before it again, or no audio.

    It must not be decoded: for a decoder, a packet without data is the end of the stream.
    """
    return not packet.size and packet.pts is not None


class _Track:
    """How far one stream has come, in ticks as the file states them."""

    def __init__(self, base: Fraction) -> None:
        self.base = base
        self.part = 0
        self.latest: int | None = None  # when the last packet is to be decoded
        self.ahead: _Track | None = None  # in the part that waits
        self.before_waiting: int | None = None  # the latest when it began to wait
        self._first = self._end = self._first_shown = 0
        self._step = 0  # of the last two packets

    def pass_by(self, packet: Packet, stamp: int) -> None:
        shown = stamp if packet.pts is None else packet.pts
        if self.latest is None:
            self._first, self._first_shown, self._end = stamp, shown, shown
        else:
            self._step = max(stamp - self.latest, 0)
        self._first_shown = min(self._first_shown, shown)
        self.latest = stamp
        self._end = max(self._end, shown + (packet.duration or self._step))

    def begin(self, part: int) -> None:
        """Go on in another part, as if nothing had come."""
        self.part, self.latest, self.ahead, self._step = part, None, None, 0

    def is_torn(self, packet: Packet) -> bool:
        """Whether FFmpeg gave the last frame before a jump the time of display of the first after it."""
        if packet.pts is None or packet.dts is None:
            return False
        ahead_seconds = float((packet.pts - packet.dts - _MAX_REORDERED * self._step) * self.base)
        return packet.pts < packet.dts or ahead_seconds > _TORN_SECONDS

    def steps(self, stamp: int, may_jump: bool) -> bool:
        """Whether a time does not follow the latest."""
        if self.latest is None:
            return False
        seconds = float((stamp - self.latest) * self.base)
        return seconds < -_BACK_SECONDS or (may_jump and seconds > _FORWARD_SECONDS + float(self._step * self.base))

    def returns(self, stamp: int) -> bool:
        """Whether a time follows the latest, and not that in the part that waits."""
        if self.latest is None or self.ahead is None or self.ahead.latest is None:
            return False
        here, there = (abs(float((stamp - latest) * self.base)) for latest in (self.latest, self.ahead.latest))
        return here < _GLITCH_SECONDS < there

    def is_near(self, seconds: float) -> bool:
        return self.latest is not None and abs(float(self.latest * self.base) - seconds) < _FORWARD_SECONDS

    def extent(self, since: int | None = None) -> float:
        """Seconds from the first packet to the latest, or from another time."""
        if self.latest is None:
            return 0.0
        return float((self.latest - (self._first if since is None else since)) * self.base)

    @property
    def end_seconds(self) -> Fraction:
        return self._end * self.base

    @property
    def start_seconds(self) -> Fraction:
        return self._first_shown * self.base
