"""Frames as yuv420p, which is drawn into: brightness of every pixel, and two numbers of color for each 2 × 2."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from PIL import Image

from ccln.pipeline.report.style import attention_scale, attention_strength
from ccln.pipeline.segments import SEGMENT_SECONDS

FORMAT = "yuv420p"
BLACKEST, WHITEST, COLORLESS = 16, 235, 128
Planes = list[np.ndarray]
"""uint8 brightness (height, width), and twice color ((height + 1) // 2, (width + 1) // 2)."""

_BT709, _BT601, _BT2020 = 1, 5, 9  # what swscale calls the matrices between RGB and YUV
_RGB = 0
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def planes_of(frame: VideoFrame) -> Planes:
    """The planes of a frame in yuv420p: not copies, so that to change them changes the frame."""
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]


def matrix_of(frame: VideoFrame) -> int:
    """The matrix with which players go back to RGB: the frame's, or if it has none BT.601, as FFmpeg assumes."""
    return frame.colorspace if frame.colorspace in (_BT709, _BT2020) else _BT601


def matrix_to_state(frame: VideoFrame) -> int:
    """The matrix that a file is to state: the frame's; for RGB, the one that it was converted with."""
    return _BT601 if frame.colorspace == _RGB else frame.colorspace


class UprightFrames:
    """Turns frames of a video upright, and into yuv420p of one size."""

    def __init__(self, first: VideoFrame, minimum_width: int) -> None:
        """Prepare for a video.

        Args:
            first: of its frames; all come out in its size.
            minimum_width: in pixels; smaller frames are enlarged by a whole factor.
        """
        turned = _quarter_turns(first) % 2
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        factor = -(-minimum_width // width) if width < minimum_width else 1
        self.width, self.height = factor * width, factor * height
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Planes:
        """The frame upright; it is rotated as the metadata ask, mirroring stays."""
        turns = _quarter_turns(frame)
        width, height = (self.height, self.width) if turns % 2 else (self.width, self.height)
        full_range = frame.color_range == ColorRange.JPEG
        if full_range or (frame.width, frame.height, frame.format.name) != (width, height, FORMAT):
            matrix, limited = matrix_of(frame), ColorRange.MPEG
            frame = self._reformatter.reformat(
                frame, width, height, FORMAT, None, matrix, _EXACT, dst_color_range=limited, threads=1
            )
        return [np.rot90(plane, turns) for plane in planes_of(frame)]


class AttentionGlow:
    """The attention as a glow over frames."""

    def __init__(self, attention: np.ndarray, height: int, width: int, matrix: int) -> None:
        """Prepare for frames of a size.

        Args:
            attention: float32 (segment, height, width), none negative.
            height: of the frames, in pixels.
            width: of the frames, in pixels.
            matrix: of the frames' colors.
        """
        self._strength = attention_strength(attention)
        self._sizes = [(height, width)] + [((height + 1) // 2, (width + 1) // 2)] * 2
        scale = attention_scale()
        opacity = np.rint(scale[:, 3] * (256 / 255)).astype(np.uint16)
        self._kept = 256 - opacity
        self._added = [plane[0] * opacity for plane in _planes(scale[np.newaxis, :, :3], "yuv444p", matrix)]
        self._segment = -1
        self._glow: list[tuple[np.ndarray, np.ndarray]] = []
        """Of each plane in the segment: how many of 256 parts are kept of the frame, and what is added to them."""

    def draw(self, frame: Planes, seconds: float) -> None:
        """Blend a segment's map into the frame; after the last segment there is none."""
        segment = int(seconds // SEGMENT_SECONDS)
        if not 0 <= segment < len(self._strength):
            return
        if segment != self._segment:
            self._segment, self._glow = segment, self._of_segment(segment)
        for plane, (kept, added) in zip(frame, self._glow, strict=True):
            mixed = np.multiply(plane, kept, dtype=np.uint16)
            mixed += added
            mixed >>= 8
            plane[:] = mixed

    def _of_segment(self, segment: int) -> list[tuple[np.ndarray, np.ndarray]]:
        grid = Image.fromarray(self._strength[segment].astype(np.float32))
        glow = []
        for (height, width), added in zip(self._sizes, self._added, strict=True):
            smooth = np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
            level = np.rint(255 * smooth.clip(0, 1)).astype(np.uint8)
            glow.append((self._kept[level], added[level]))
        return glow


def planes_of_image(image: Image.Image, matrix: int) -> Planes:
    """A drawing, its sides even, as planes."""
    return _planes(np.asarray(image.convert("RGB")), FORMAT, matrix)


def paste(onto: Planes, drawing: Planes, top: int, left: int) -> None:
    """Lay a drawing over a frame, both numbers even; what does not fit is cut off."""
    for plane, drawn, step in zip(onto, drawing, (1, 2, 2), strict=True):
        place = plane[top // step :, left // step :][: drawn.shape[0], : drawn.shape[1]]
        place[:] = drawn[: place.shape[0], : place.shape[1]]


def _planes(colors: np.ndarray, pixel_format: str, matrix: int) -> Planes:
    """RGB, uint8 (height, width, 3), converted with a matrix."""
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(colors), format="rgb24")
    converted = frame.reformat(
        format=pixel_format, dst_colorspace=matrix, dst_color_range=ColorRange.MPEG, interpolation=_EXACT, threads=1
    )
    return planes_of(converted)


def _quarter_turns(frame: VideoFrame) -> int:
    return round(frame.rotation / 90) % 4
