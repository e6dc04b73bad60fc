"""Packets that a decoder refuses: an error, or a stretch that is passed over and counted."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from av.packet import Packet
from av.stream import Stream

from ccln.pipeline.decode.container import Clock, DecodeError
from ccln.pipeline.segments import CLIP_SECONDS

OnDamage = Literal["error", "conceal"]

MOST_LOST_SECONDS = 2.0
"""Of its picture, or of its sound, in ten seconds: of a file that loses more too little is left to be judged by."""


@dataclass(frozen=True)
class _Refused:
    """The last packet of a stream, which its decoder refused; if none follows, the file is only cut off there."""

    error: DecodeError
    start_seconds: float | None
    end_seconds: float | None


class Damage:
    """What of a file could not be decoded although more of the stream follows."""

    def __init__(self, clock: Clock, on_damage: OnDamage) -> None:
        self._clock = clock
        self.concealed = on_damage == "conceal"
        """Whether to go on past it."""
        self.end_seconds = 0.0
        """Until when the file goes on, by what was lost."""
        self._refused: dict[int, _Refused] = {}  # by the stream's index
        self._first: dict[int, DecodeError] = {}  # of each damaged stream
        self._lost: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)  # by kind, from when until when

    def refuse(self, packet: Packet, error: DecodeError) -> None:
        """A decoder has refused a packet."""
        start = self._start(packet)
        end = None if start is None or not packet.duration else start + float(packet.duration * packet.time_base)
        self._refused[packet.stream.index] = _Refused(error, start, end)
        self._first.setdefault(packet.stream.index, error)

    def is_before(self, packet: Packet) -> bool:
        """Whether the packet before in the same stream was refused, so that its time is lost.

        Raises:
            DecodeError: It was, and damage is an error.
        """
        if (refused := self._refused.pop(packet.stream.index, None)) is None:
            return False
        if not self.concealed:
            raise refused.error
        following = self._start(packet)
        start = following if refused.start_seconds is None else refused.start_seconds
        end = following if refused.end_seconds is None else refused.end_seconds
        if start is not None and end is not None:
            self.lose(packet.stream, start, end, refused.error)
        return True

    def lose(self, stream: Stream, start_seconds: float, end_seconds: float, error: DecodeError) -> None:
        """Nothing of a stream can be shown or heard between two times."""
        self._first.setdefault(stream.index, error)
        self._lost[stream.type].append((start_seconds, max(start_seconds, end_seconds)))
        self.end_seconds = max(self.end_seconds, end_seconds)

    def error_of(self, stream: Stream) -> DecodeError | None:
        """The first that befell a stream."""
        return self._first.get(stream.index)

    def lost_seconds(self, clip_start_seconds: float) -> dict[str, float]:
        """How much of the picture ("video") and of the sound ("audio") of a clip is lost; clips in order.

        Raises:
            DecodeError: It is more than may be.
        """
        found = {}
        for kind, stretches in self._lost.items():
            self._lost[kind] = stretches = [stretch for stretch in stretches if stretch[1] > clip_start_seconds]
            seconds = _covered(stretches, clip_start_seconds, clip_start_seconds + CLIP_SECONDS)
            if seconds > MOST_LOST_SECONDS:
                first = next(iter(self._first.values()))
                what = str(first).rsplit(". ", 1)[0]  # without its remedy
                raise DecodeError(
                    f"{what}; of its {kind} from {clip_start_seconds:.0f} to {clip_start_seconds + CLIP_SECONDS:.0f} s "
                    f"{seconds:.2f} s are lost, and at most {MOST_LOST_SECONDS:g} s are concealed. Fetch the file or "
                    "convert it again."
                ) from first
            if seconds > 0:
                found[kind] = seconds
        return found

    def _start(self, packet: Packet) -> float | None:
        stamp = packet.dts if packet.pts is None else packet.pts
        return None if stamp is None else self._clock.seconds(packet.stream, stamp)


def _covered(stretches: list[tuple[float, float]], start: float, end: float) -> float:
    """How many of the seconds from `start` to `end` lie in a stretch, to the millisecond."""
    total, reached = 0.0, start
    for first, last in sorted(stretches):
        first, last = max(first, reached), min(last, end)
        if last > first:
            total, reached = total + last - first, last
    return round(total, 3)


def lost_text(lost_seconds: Mapping[str, float]) -> str:
    """For people: "0.36 s of video and 0.05 s of audio lost to damage"; empty if nothing is."""
    parts = [f"{seconds:.2f} s of {kind}" for kind, seconds in sorted(lost_seconds.items(), reverse=True)]
    return f"{' and '.join(parts)} lost to damage" if parts else ""
