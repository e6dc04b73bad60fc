"""Which frames of a video are wanted, and how a frame becomes a picture of the wanted size."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from ccln.pipeline.segments import CLIP_SECONDS, SEGMENT_COUNT, SEGMENT_SECONDS

OPENCV_LINEAR = "opencv-linear"
INTERPOLATIONS = (
    OPENCV_LINEAR,
    *("area", "bicubic", "bicublin", "bilinear", "fast_bilinear", "gauss", "lanczos", "point", "sinc", "spline"),
)
"""What a picture may be scaled with."""


@dataclass(frozen=True)
class FrameRequest:
    """Which frames are wanted of every segment, and how large."""

    height: int
    """Pixels."""
    width: int
    """Pixels; the picture is stretched to height × width, its aspect is not kept (the AVE field's recipe)."""
    frames_per_segment: int = 16
    interpolation: str = "bicubic"
    """Name of one of FFmpeg's scaling filters, which widen when they shrink a picture; or "opencv-linear", OpenCV's
    INTER_LINEAR, which mixes the nearest 2 × 2 pixels whatever the size."""
    frame_at: float = 0.5
    """Where in its 1/n of a second a frame is wanted: frame i of n is the one on display (i + frame_at) / n seconds
    into its segment. The published AVE features used 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.frame_at < 1:
            raise ValueError(f"frame_at {self.frame_at}: must be 0 or more and less than 1")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation {self.interpolation!r}: must be one of {', '.join(INTERPOLATIONS)}")

    def target_times(self) -> list[Fraction]:
        """The wanted times in seconds, ascending, all segments in one list."""
        count = self.frames_per_segment
        return [
            segment * SEGMENT_SECONDS + (i + Fraction(self.frame_at)) / count * SEGMENT_SECONDS
            for segment in range(SEGMENT_COUNT)
            for i in range(count)
        ]


class FramePicker:
    """Takes frames in presentation order; scales and keeps those on display at the wanted times."""

    def __init__(self, request: FrameRequest) -> None:
        self._request = request
        self._targets = [float(time) for time in request.target_times()]
        self._frames = np.empty((len(self._targets), request.height, request.width, 3), np.uint8)
        self._seconds = np.array(self._targets)
        self._filled = 0
        self._latest: float | None = None
        self._on_display: tuple[VideoFrame, float] | None = None
        self._reformatter = VideoReformatter()

    @property
    def seen_any(self) -> bool:
        """Whether any frame in the ten seconds has come."""
        return self._on_display is not None

    @property
    def complete(self) -> bool:
        """Whether a frame from behind the ten seconds has come."""
        return self._latest is not None and self._latest >= CLIP_SECONDS

    @property
    def end_seconds(self) -> float:
        """End of the last frame seen; a frame that does not say how long it lasts is taken to last no time."""
        if self._on_display is None:
            return 0.0
        frame, start = self._on_display
        return float(start + (frame.duration or 0) * (frame.time_base or 0))

    def add(self, frame: VideoFrame, start: float) -> None:
        """Take the next frame, on display from ``start`` seconds."""
        if self._latest is not None and start <= self._latest:
            return  # a damaged stream may step back in time; what is on display stays
        self._latest = start
        self._fill_until(start)
        if self._on_display is not None or start < CLIP_SECONDS:
            self._on_display = frame, start

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Frames (segment, frame, height, width, 3) and their times (segment, frame).

        Where no frame has come they are black, and their times the wanted ones.
        """
        if self._on_display is None:
            self._frames[:] = 0
        self._fill_until(None)
        shape = (SEGMENT_COUNT, self._request.frames_per_segment)
        return self._frames.reshape(*shape, *self._frames.shape[1:]), self._seconds.reshape(shape)

    def _fill_until(self, end: float | None) -> None:
        """Give the frame on display to every target before ``end`` seconds (None: to all that are left)."""
        if self._on_display is None:
            return
        frame, start = self._on_display
        first = self._filled
        while self._filled < len(self._targets) and (end is None or self._targets[self._filled] < end):
            self._filled += 1
        if self._filled > first:
            self._frames[first : self._filled] = self._scaled(frame)
            self._seconds[first : self._filled] = start

    def _scaled(self, frame: VideoFrame) -> np.ndarray:
        """The picture upright, as RGB (height, width, 3)."""
        quarter_turns = round(frame.rotation / 90) % 4
        height, width = self._request.height, self._request.width
        if quarter_turns % 2:
            height, width = width, height
        if self._request.interpolation == OPENCV_LINEAR:
            picture = opencv_linear(self._rgb(frame, frame.height, frame.width, Interpolation.BICUBIC), height, width)
        else:
            picture = self._rgb(frame, height, width, Interpolation[self._request.interpolation.upper()])
        return np.rot90(picture, quarter_turns)

    def _rgb(self, frame: VideoFrame, height: int, width: int, interpolation: Interpolation) -> np.ndarray:
        # To planes, not to packed rgb24: that takes FFmpeg twice as long and comes out 1.5 of 255 too dark, its colours
        # at half the resolution. Accurate and bit-exact costs nothing where a picture is scaled; where it is not,
        # FFmpeg would take the same short cut.
        interpolation |= Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        reformat = self._reformatter.reformat
        return reformat(frame, width, height, "gbrp", interpolation=interpolation, threads=1).to_ndarray()


def opencv_linear(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize as OpenCV's INTER_LINEAR: every pixel is mixed from the 2 × 2 nearest, with no filter against aliasing.

    The middles of the corner pixels lie at half a pixel from the edges in both pictures, as in
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``. OpenCV weighs in steps of 1/2048, so that
    its values may differ by 1.

    Args:
        picture: uint8 (height, width, channel).
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        uint8 (height, width, channel).
    """
    top, bottom, down = _neighbours(picture.shape[0], height)
    left, right, across = _neighbours(picture.shape[1], width)
    down, across = down[:, None, None], across[:, None]
    rows = [picture[row[:, None], left] * (1 - across) + picture[row[:, None], right] * across for row in (top, bottom)]
    return np.rint(rows[0] * (1 - down) + rows[1] * down).astype(np.uint8)


def _neighbours(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every one of ``target`` places along a side of ``source`` pixels: the two next to it, the second's share."""
    place = ((np.arange(target) + 0.5) * (source / target) - 0.5).clip(0, source - 1)
    before = np.floor(place).astype(np.intp)
    return before, np.minimum(before + 1, source - 1), (place - before).astype(np.float32)
