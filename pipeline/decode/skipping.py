"""Sparing the decoder pictures that nobody looks at, where that cannot change any other picture."""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import inf, lcm

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# How far to look for the picture that is displayed next; where it comes later still, one more picture is decoded.
_AHEAD_PACKETS = 24
_AHEAD_BYTES = 32_000_000
_AHEAD_PACKETS_OF_ANY = 4096
# More than can be ahead of a picture in the order of decoding (24) or of display (16).
_REMEMBERED = 64


class PictureSkipper:
    """Tells an H.264 decoder which pictures it may leave out.

    It may leave out a picture that is on display at none of the wanted times, if no other picture is predicted from it
    (most B-pictures are such; the packet says so). The pictures that do come out are the same to the bit.

    Only for H.264: what HEVC calls a picture without reference may still be referred to from a higher layer. Only for
    progressive pictures: the two fields of interlaced ones may lie in two packets.
    """

    def __init__(self, video: VideoStream, first: Fraction, step: Fraction, until: Fraction | float = inf) -> None:
        """Prepare for one pass through a stream.

        Args:
            video: the stream; others than H.264 with B-pictures are passed as they are.
            first: the first wanted time, in seconds on the stream's own clock.
            step: the distance of each wanted time from the one before, in seconds.
            until: the picture on display then is wanted, and all behind it are.
        """
        assert video.time_base is not None
        self._video = video
        self._until = until / video.time_base
        # In whole parts of a tick: most videos ask for every picture, and fractions are slow.
        self._parts = lcm((first / video.time_base).denominator, (step / video.time_base).denominator)
        self._first, self._step = (int(time / video.time_base * self._parts) for time in (first, step))
        self._waiting: int = getattr(video.codec_context, "reorder_depth", 0)  # new in PyAV 17
        self._able = video.codec_context.name == "h264" and self._waiting > 0
        self._progressive = False
        self._leaving_out = False
        self._latest: int | None = None  # time of display of the latest picture so far
        self._shown: list[int] = []  # times of display up to the last packet read, ascending, the last of them

    def saw(self, frame: VideoFrame) -> None:
        """Learn from a decoded frame whether the stream is interlaced; nothing is left out before the first."""
        self._able = self._able and not frame.interlaced_frame
        self._progressive = True

    def packets(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """The same packets in the same order, the decoder set for each; some are read before they are passed on."""
        if not self._able:
            yield from packets
            return
        shown = self._shown
        waiting: deque[Packet] = deque()
        pictures = size = 0
        for packet in packets:
            waiting.append(packet)
            size += packet.size
            if packet.stream is self._video:
                pictures += 1
                self._able = self._able and (packet.pts is not None or not packet.size)
                if packet.pts is not None and not packet.is_discard:
                    # Where the stream does not say how many pictures wait for another, FFmpeg guesses, and adds to its
                    # guess when it sees more wait; when it does so must not depend on what was left out.
                    self._able = self._able and len(shown) - bisect_right(shown, packet.pts) <= self._waiting
                    insort(shown, packet.pts)
                    del shown[:-_REMEMBERED]
            while pictures > _AHEAD_PACKETS or size > _AHEAD_BYTES or len(waiting) > _AHEAD_PACKETS_OF_ANY:
                passed = waiting.popleft()
                size -= passed.size
                pictures -= passed.stream is self._video
                yield self._set(passed)
        for packet in waiting:
            yield self._set(packet)

    def _set(self, packet: Packet) -> Packet:
        if packet.stream is self._video:
            time = packet.pts
            # A picture that another waits for shows that the times are those of display: AVI has none, and FFmpeg's
            # guess ascends in the order of decoding.
            waited_for = time is not None and self._latest is not None and time < self._latest
            leave_out = self._able and self._progressive and waited_for and not self._is_wanted(packet)
            if time is not None and not waited_for:
                self._latest = time
            if leave_out != self._leaving_out:
                self._leaving_out = leave_out
                self._video.codec_context.skip_frame = "NONREF" if leave_out else "DEFAULT"
        return packet

    def _is_wanted(self, packet: Packet) -> bool:
        """Whether a picture is on display at a wanted time, as far as can be told."""
        time, shown = packet.pts, self._shown
        if time is None or packet.is_discard or time in (shown[0], shown[-1]):
            return True
        end = shown[bisect_right(shown, time)]
        number = max(0, -((self._first - time * self._parts) // self._step))  # of the first wanted time from here on
        return end > self._until or self._first + number * self._step < end * self._parts
