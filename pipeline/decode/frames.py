"""Which frames of a video are wanted, how they are scaled, and which need not be decoded."""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import inf, lcm

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.tone import dynamic_range, to_standard_range
from ccln.pipeline.segments import CLIP_SECONDS, SEGMENT_COUNT, SEGMENT_SECONDS

# Frames come up to a clip before their audio, and those that a decoder holds back are displayed soon after.
_MAX_OPEN_CLIPS = 3
# H.264 and HEVC hold back so many frames at most; in a slow slideshow all may be displayed much later than the rest.
_MAX_AHEAD = 16
# How far to look for the frame that is displayed next; if it comes later still, one more frame is decoded.
_LOOK_AHEAD_FRAMES = 24
_LOOK_AHEAD_BYTES = 32_000_000
_LOOK_AHEAD_PACKETS = 4096
# More than can be ahead of a frame in decoding order (24) or in display order (16).
_REMEMBERED = 64
# A decoder gives the frames that it holds back as others come, and skipped ones do not count; less than the ten seconds
# after which a clip waits for no frame any more.
_MAX_SKIPPED_SECONDS = 5

OPENCV_LINEAR = "opencv-linear"
INTERPOLATIONS = (
    OPENCV_LINEAR,
    *("area", "bicubic", "bicublin", "bilinear", "fast_bilinear", "gauss", "lanczos", "point", "sinc", "spline"),
)
"""What a frame may be scaled with."""


@dataclass(frozen=True)
class FrameRequest:
    """Which frames are wanted of every segment, their size, and the rate of the waveform."""

    height: int
    """Pixels."""
    width: int
    """Pixels; frames are stretched to height × width, their aspect is not kept (the AVE field's recipe)."""
    frames_per_segment: int = 16
    interpolation: str = "bicubic"
    """Name of one of FFmpeg's scaling filters, which widen when they shrink a frame; or "opencv-linear", OpenCV's
    INTER_LINEAR, which always mixes the nearest 2 × 2 pixels."""
    frame_at: float = 0.5
    """Where in its 1/n of a second a frame is wanted: frame i of n is the one displayed (i + frame_at) / n seconds into
    its segment. The published AVE features used 0."""
    sample_rate_hz: int = SAMPLE_RATE_HZ
    """Of the waveform beside the frames."""

    def __post_init__(self) -> None:
        if not 0 <= self.frame_at < 1:
            raise ValueError(f"frame_at {self.frame_at}: must be 0 or more and less than 1")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation {self.interpolation!r}: must be one of {', '.join(INTERPOLATIONS)}")

    def target_time(self, number: int) -> Fraction:
        """When frame ``number`` is wanted, in seconds; wanted frames are counted from 0 through the whole file."""
        numerator, denominator = self.frame_at.as_integer_ratio()
        return Fraction(number * denominator + numerator, self.frames_per_segment * denominator) * SEGMENT_SECONDS

    def target_times(self) -> list[Fraction]:
        """When the frames of the first clip are wanted, in seconds, ascending, all segments in one list."""
        return [self.target_time(number) for number in range(SEGMENT_COUNT * self.frames_per_segment)]


class FramePicker:
    """Takes frames in display order; scales and keeps those displayed at the wanted times, clip after clip."""

    def __init__(self, request: FrameRequest, until_seconds: float) -> None:
        """Prepare for one file, of which no frame is wanted after ``until_seconds``."""
        self.first_seconds = inf
        """When the first frame starts."""
        self._request = request
        self._until_seconds = until_seconds
        self._clip_targets = SEGMENT_COUNT * request.frames_per_segment
        self._clip = 0  # the next to be taken
        self._open: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of each clip begun: its frames, when they start
        self._next_target(0)
        self.mapped = False
        """Whether the dynamic range of a frame was mapped."""
        self._latest = -inf
        self._repeated = -inf  # from when on the displayed frame is stated to be displayed once more, ...
        self._repeated_until = 0.0  # ... and until when
        self._displayed: tuple[VideoFrame, float] | None = None  # and when it starts
        self._ahead: deque[tuple[VideoFrame, float]] = deque()  # start after all clips that may be begun
        self._reformatter = VideoReformatter()

    @property
    def end_seconds(self) -> float:
        """End of the last frame so far; a frame without a duration is taken to last no time."""
        if (last := self._ahead[-1] if self._ahead else self._displayed) is None:
            return 0.0
        frame, start = last
        return max(float(start + (frame.duration or 0) * (frame.time_base or 0)), self._repeated_until)

    @property
    def overfull(self) -> bool:
        """Whether a clip must be taken now to keep memory bounded."""
        return len(self._ahead) > _MAX_AHEAD

    def has_passed(self, seconds: float) -> bool:
        """Whether a frame has come that starts then or later."""
        return max(self._latest, self._repeated) >= seconds

    def repeat(self, start: float, end: float) -> None:
        """The frame before is displayed once more, between these seconds."""
        self._repeated, self._repeated_until = start, max(end, self._repeated_until)

    def add(self, frame: VideoFrame, start: float) -> None:
        """Take the next frame, displayed from ``start`` seconds."""
        if start <= self._latest:
            return  # a damaged stream may step back in time; the displayed frame stays
        self._latest = start
        self.first_seconds = min(self.first_seconds, start)
        self._ahead.append((frame, start))
        self._display()

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """The next clip: uint8 frames (segment, frame, height, width, channel), float64 times (segment, frame).

        After the last frame that has come it is repeated. If none has, the frames are black, their times the wanted
        ones.
        """
        self._fill((self._clip + 1) * CLIP_SECONDS)
        shape = (SEGMENT_COUNT, self._request.frames_per_segment)
        frames, seconds = self._open.pop(self._clip, None) or self._black(self._clip)
        self._clip += 1
        self._next_target(max(self._target, self._clip * self._clip_targets))
        self._display()
        return frames.reshape(*shape, *frames.shape[1:]), seconds.reshape(shape)

    def _display(self) -> None:
        """Display frames, one after the other, as far as clips may be begun."""
        horizon = min((self._clip + _MAX_OPEN_CLIPS) * CLIP_SECONDS, self._until_seconds)
        while self._ahead:
            start = self._ahead[0][1]
            self._fill(min(start, horizon))
            if start >= horizon:
                return
            if self._displayed is None:  # the clip of the first frame shows it from its start, those before are black
                self._next_target(max(self._target, int(start // CLIP_SECONDS) * self._clip_targets))
            self._displayed = self._ahead.popleft()

    def _fill(self, end: float) -> None:
        """Give the displayed frame to every target before ``end`` seconds that has none."""
        if self._displayed is None or self._target_seconds >= end:
            return
        frame, start = self._displayed
        scaled = self._scaled(frame)
        while self._target_seconds < end:
            clip, place = divmod(self._target, self._clip_targets)
            if clip not in self._open:
                self._open[clip] = self._black(clip)
            frames, seconds = self._open[clip]
            frames[place], seconds[place] = scaled, start
            self._next_target(self._target + 1)

    def _next_target(self, number: int) -> None:
        self._target, self._target_seconds = number, float(self._request.target_time(number))

    def _black(self, clip: int) -> tuple[np.ndarray, np.ndarray]:
        """Black frames (target, height, width, channel) and the wanted times (target,) of a clip."""
        targets = range(clip * self._clip_targets, (clip + 1) * self._clip_targets)
        frames = np.zeros((len(targets), self._request.height, self._request.width, 3), np.uint8)
        return frames, np.array([float(self._request.target_time(number)) for number in targets])

    def _scaled(self, frame: VideoFrame) -> np.ndarray:
        """The frame upright, as RGB (height, width, channel)."""
        quarter_turns = round(frame.rotation / 90) % 4
        height, width = self._request.height, self._request.width
        if quarter_turns % 2:
            height, width = width, height
        if self._request.interpolation == OPENCV_LINEAR:
            scaled = opencv_linear(self._rgb(frame, frame.height, frame.width, Interpolation.BICUBIC), height, width)
        else:
            scaled = self._rgb(frame, height, width, Interpolation[self._request.interpolation.upper()])
        self.mapped = self.mapped or dynamic_range(frame) is not None
        return np.rot90(to_standard_range(frame, scaled), quarter_turns)

    def _rgb(self, frame: VideoFrame, height: int, width: int, interpolation: Interpolation) -> np.ndarray:
        # To planes, not to packed rgb24: that takes FFmpeg twice as long and comes out 1.5 of 255 too dark, its colours
        # at half the resolution. Accurate and bit-exact costs nothing when a frame is scaled; when it is not, FFmpeg
        # would take the same short cut.
        interpolation |= Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        scaled = self._reformatter.reformat(frame, width, height, "gbrp", interpolation=interpolation, threads=1)
        return scaled.to_ndarray()


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
        self._reorder_depth = video.codec_context.reorder_depth
        self._able = video.codec_context.name == "h264" and self._reorder_depth > 0
        self.spared = False
        """Whether a frame was decoded since the next is late; earlier rules skipped it."""
        self._progressive = False
        self._skipping = False
        self._latest: int | None = None  # latest display time so far
        self._decoded: int | None = None  # when the last frame that was not skipped was due to be decoded
        self._most_skipped = _MAX_SKIPPED_SECONDS / video.time_base
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
            while frames > _LOOK_AHEAD_FRAMES or size > _LOOK_AHEAD_BYTES or len(waiting) > _LOOK_AHEAD_PACKETS:
                passed = waiting.popleft()
                size -= passed.size
                frames -= passed.stream is self._video
                yield self._set(passed, waiting)
        while waiting:
            passed = waiting.popleft()
            yield self._set(passed, waiting)

    def _set(self, packet: Packet, following: Iterable[Packet]) -> Packet:
        if packet.stream is self._video:
            time = packet.pts
            # A frame that another waits for shows that the times are those of display: AVI has none, and FFmpeg's
            # guess ascends in decoding order.
            waited_for = time is not None and self._latest is not None and time < self._latest
            skip = self._able and self._progressive and waited_for and not self._is_wanted(packet)
            if skip and not self._is_soon_followed(following):
                skip = False
                self.spared = self.spared or not self._is_last(following)
            if not skip:
                self._decoded = packet.dts
            if time is not None and not waited_for:
                self._latest = time
            if skip != self._skipping:
                self._skipping = skip
                self._video.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
        return packet

    def _is_soon_followed(self, following: Iterable[Packet]) -> bool:
        """Whether the decoder gets another frame in time."""
        due = next((packet.dts for packet in following if packet.stream is self._video), None)
        return due is not None and self._decoded is not None and due - self._decoded < self._most_skipped

    def _is_last(self, following: Iterable[Packet]) -> bool:
        """Whether the end of the stream follows."""
        after = next((packet for packet in following if packet.stream is self._video), None)
        return after is not None and not after.size

    def _is_wanted(self, packet: Packet) -> bool:
        """Whether a frame is displayed at a wanted time, as far as is known."""
        time, shown = packet.pts, self._shown
        if time is None or packet.is_discard or time in (shown[0], shown[-1]):
            return True
        end = shown[bisect_right(shown, time)]
        number = max(0, -((self._first - time * self._parts) // self._step))  # of the first wanted time from here on
        return end > self._until or self._first + number * self._step < end * self._parts


def shown_aspect(video: VideoStream, frame: VideoFrame) -> float:
    """Width over height of a frame, just decoded from the stream, as a player displays it, upright."""
    # The container's pixel aspect goes before that of the frames; without either, pixels are square.
    pixel_aspect = video.sample_aspect_ratio or video.codec_context.sample_aspect_ratio or 1
    aspect = Fraction(frame.width, frame.height) * pixel_aspect
    return float(1 / aspect if round(frame.rotation / 90) % 2 else aspect)


def opencv_linear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize as OpenCV's INTER_LINEAR: every pixel is mixed from the 2 × 2 nearest, with no filter against aliasing.

    The centres of the corner pixels lie half a pixel from the edges in both images, as in
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``. OpenCV weighs in steps of 1/2048, so that
    its values may differ by 1.

    Args:
        image: uint8 (height, width, channel), as the result is.
        height: Of the result, in pixels.
        width: Of the result, in pixels.
    """
    top, bottom, down = _neighbours(image.shape[0], height)
    left, right, across = _neighbours(image.shape[1], width)
    down, across = down[:, None, None], across[:, None]
    rows = [image[row[:, None], left] * (1 - across) + image[row[:, None], right] * across for row in (top, bottom)]
    return np.rint(rows[0] * (1 - down) + rows[1] * down).astype(np.uint8)


def _neighbours(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``target`` places along a side of ``source`` pixels: the two next to it, and the second's share."""
    place = ((np.arange(target) + 0.5) * (source / target) - 0.5).clip(0, source - 1)
    before = np.floor(place).astype(np.intp)
    return before, np.minimum(before + 1, source - 1), (place - before).astype(np.float32)
