"""Pictures as FFmpeg's yuv420p: brightness of every pixel, and two numbers of colour for each 2 × 2 of them."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from PIL import Image

FORMAT = "yuv420p"
Planes = list[np.ndarray]
"""uint8 brightness (height, width), and twice colour ((height + 1) // 2, (width + 1) // 2)."""

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
    """The matrix a player goes back to RGB with: as the frame says, or else as FFmpeg assumes, BT.601."""
    return frame.colorspace if frame.colorspace in (_BT709, _BT2020) else _BT601


def stated_matrix(frame: VideoFrame) -> int:
    """What to write of the matrix into a file: as the frame says; of RGB, the one it was converted with."""
    return _BT601 if frame.colorspace == _RGB else frame.colorspace


class UprightPictures:
    """Turns frames of a video upright, and into yuv420p of one size."""

    def __init__(self, first: VideoFrame, least_width: int) -> None:
        """Prepare for a video.

        Args:
            first: of its frames; all come out in its size.
            least_width: in pixels; smaller pictures are enlarged by a whole factor.
        """
        turned = _quarter_turns(first) % 2
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        factor = -(-least_width // width) if width < least_width else 1
        self.width, self.height = factor * width, factor * height
        self._reformatter = VideoReformatter()

    def upright(self, frame: VideoFrame) -> Planes:
        """The picture upright; rotation is what the metadata say, mirroring stays."""
        turns = _quarter_turns(frame)
        width, height = (self.height, self.width) if turns % 2 else (self.width, self.height)
        full_range = frame.color_range == ColorRange.JPEG
        if full_range or (frame.width, frame.height, frame.format.name) != (width, height, FORMAT):
            matrix, limited = matrix_of(frame), ColorRange.MPEG
            frame = self._reformatter.reformat(
                frame, width, height, FORMAT, None, matrix, _EXACT, dst_color_range=limited, threads=1
            )
        return [np.rot90(plane, turns) for plane in planes_of(frame)]


def planes_of_image(image: Image.Image, matrix: int) -> Planes:
    """A drawing, its sides even, as planes."""
    frame = VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
    return planes_of(
        frame.reformat(
            format=FORMAT, dst_colorspace=matrix, dst_color_range=ColorRange.MPEG, interpolation=_EXACT, threads=1
        )
    )


def colours_as_yuv(colours: np.ndarray, matrix: int) -> np.ndarray:
    """RGB colours, uint8 (colour, 3), as uint8 (3, colour)."""
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(colours[None]), format="rgb24")
    full = frame.reformat(
        format="yuv444p", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG, interpolation=_EXACT, threads=1
    )
    return np.concatenate([plane[:1] for plane in planes_of(full)])


def paste(onto: Planes, drawing: Planes, top: int, left: int) -> None:
    """Lay a drawing over a picture, both numbers even; what does not fit is cut off."""
    for plane, drawn, step in zip(onto, drawing, (1, 2, 2), strict=True):
        place = plane[top // step :, left // step :][: drawn.shape[0], : drawn.shape[1]]
        place[:] = drawn[: place.shape[0], : place.shape[1]]


def _quarter_turns(frame: VideoFrame) -> int:
    return round(frame.rotation / 90) % 4
