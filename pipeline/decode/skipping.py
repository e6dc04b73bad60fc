"""Sparing the decoder frames that are not wanted, where that cannot change any other frame."""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import inf, lcm

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# How far to look for the frame that is displayed next; if it comes later still, one more frame is decoded.
_AHEAD_FRAMES = 24
_AHEAD_BYTES = 32_000_000
_AHEAD_PACKETS = 4096
# More than can be ahead of a frame in decoding order (24) or in display order (16).
_REMEMBERED = 64


class FrameSkipper:
    """Sets an H.264 decoder to skip frames that are displayed at none of the wanted times.

    Only frames from which no other is predicted are skipped (most B-frames are such; the packet says so). The frames
    that are decoded are the same to the bit.

    Only for H.264: what HEVC calls a frame without reference may still be referred to from a higher layer. Only for
    progressive video: the two fields of an interlaced frame may lie in two packets.
    """

    def __init__(self, video: VideoStream, first: Fraction, step: Fraction, until: Fraction | float = inf) -> None:
        """Prepare for one pass through a stream.

        Args:
            video: The stream; nothing is skipped in others than H.264 with B-frames.
            first: The first wanted time, in seconds on the stream's own clock.
            step: From each wanted time to the next, in seconds.
            until: The frame displayed then is wanted, and all after it are.
        """
        assert video.time_base is not None
        self._video = video
        self._until = until / video.time_base
        # In whole parts of a tick: most videos ask for every frame, and fractions are slow.
        self._parts = lcm((first / video.time_base).denominator, (step / video.time_base).denominator)
        self._first, self._step = (int(time / video.time_base * self._parts) for time in (first, step))
        self._reorder_depth: int = getattr(video.codec_context, "reorder_depth", 0)  # new in PyAV 17
        self._able = video.codec_context.name == "h264" and self._reorder_depth > 0
        self._progressive = False
        self._skipping = False
        self._latest: int | None = None  # latest display time so far
        self._shown: list[int] = []  # display times up to the last packet read, ascending, the last of them

    def observe(self, frame: VideoFrame) -> None:
        """Learn from a decoded frame whether the stream is interlaced; nothing is skipped before the first."""
        self._able = self._able and not frame.interlaced_frame
        self._progressive = True

    def packets(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """The same packets in the same order, the decoder set for each; some are read ahead."""
        if not self._able:
            yield from packets
            return
        shown = self._shown
        waiting: deque[Packet] = deque()
        frames = size = 0
        for packet in packets:
            waiting.append(packet)
            size += packet.size
            if packet.stream is self._video:
                frames += 1
                self._able = self._able and (packet.pts is not None or not packet.size)
                if packet.pts is not None and not packet.is_discard:
                    # If the stream does not say how many frames wait for another, FFmpeg guesses, and raises its guess
                    # when it sees more wait; when it does so must not depend on what was skipped.
                    self._able = self._able and len(shown) - bisect_right(shown, packet.pts) <= self._reorder_depth
                    insort(shown, packet.pts)
                    del shown[:-_REMEMBERED]
            while frames > _AHEAD_FRAMES or size > _AHEAD_BYTES or len(waiting) > _AHEAD_PACKETS:
                passed = waiting.popleft()
                size -= passed.size
                frames -= passed.stream is self._video
                yield self._set(passed)
        for packet in waiting:
            yield self._set(packet)

    def _set(self, packet: Packet) -> Packet:
        if packet.stream is self._video:
            time = packet.pts
            # A frame that another waits for shows that the times are those of display: AVI has none, and FFmpeg's
            # guess ascends in decoding order.
            waited_for = time is not None and self._latest is not None and time < self._latest
            skip = self._able and self._progressive and waited_for and not self._is_wanted(packet)
            if time is not None and not waited_for:
                self._latest = time
            if skip != self._skipping:
                self._skipping = skip
                self._video.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
        return packet

    def _is_wanted(self, packet: Packet) -> bool:
        """Whether a frame is displayed at a wanted time, as far as can be told."""
        time, shown = packet.pts, self._shown
        if time is None or packet.is_discard or time in (shown[0], shown[-1]):
            return True
        end = shown[bisect_right(shown, time)]
        number = max(0, -((self._first - time * self._parts) // self._step))  # of the first wanted time from here on
        return end > self._until or self._first + number * self._step < end * self._parts
