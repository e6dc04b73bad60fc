import numpy as np
from PIL import Image

from ccln.pipeline.report.video.planes import Planes, colours_as_yuv

# From dark violet to pale yellow, as on the page: brightness rises all the way, so it reads without colour too.
_STOPS = np.array([(40, 10, 80), (125, 30, 109), (203, 65, 73), (248, 142, 8), (252, 235, 150)], float)
_STRENGTH = 0.7
# A map without a preference must not glow all over: full strength is this many times the mean of all regions.
_FULL_STRENGTH = 4


class HeatMap:
    """The attention as a glow over the picture; weak where it is low, so that the picture stays to be seen."""

    def __init__(self, attention: np.ndarray, segment_seconds: float, height: int, width: int, matrix: int) -> None:
        """Prepare for pictures of a size.

        Args:
            attention: float32 (segment, height, width), none negative.
            segment_seconds: length of a segment.
            height: of the pictures, in pixels.
            width: of the pictures, in pixels.
            matrix: of the pictures' colours.
        """
        self._attention, self._segment_seconds = attention, segment_seconds
        full = max(float(attention.max(initial=0)), _FULL_STRENGTH * float(attention.mean() if attention.size else 0))
        self._full = full or 1.0
        self._sizes = [(height, width)] + [((height + 1) // 2, (width + 1) // 2)] * 2
        values = np.arange(256) / 255
        places = values * (len(_STOPS) - 1)
        colours = np.stack([np.interp(places, range(len(_STOPS)), stops) for stops in _STOPS.T], axis=1)
        weight = np.rint(256 * _STRENGTH * np.minimum(1, 1.6 * values)).astype(np.uint16)  # of 256
        self._kept = 256 - weight
        self._added = colours_as_yuv(np.rint(colours).astype(np.uint8), matrix) * weight  # (plane, value)
        self._segment = -1
        self._glow: list[tuple[np.ndarray, np.ndarray]] = []  # of each plane: the picture's share of 256, and the rest

    def draw(self, picture: Planes, seconds: float) -> None:
        """Blend a segment's map into the picture; behind the last segment there is none."""
        segment = int(seconds // self._segment_seconds)
        if not 0 <= segment < len(self._attention):
            return
        if segment != self._segment:
            self._segment, self._glow = segment, self._prepare(segment)
        for plane, (kept, added) in zip(picture, self._glow, strict=True):
            mixed = np.multiply(plane, kept, dtype=np.uint16)
            mixed += added
            mixed >>= 8
            plane[:] = mixed

    def _prepare(self, segment: int) -> list[tuple[np.ndarray, np.ndarray]]:
        grid = Image.fromarray((self._attention[segment] / self._full).astype(np.float32))
        values = {
            (height, width): np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
            for height, width in set(self._sizes)
        }
        levels = {size: np.rint(255 * smooth.clip(0, 1)).astype(np.uint8) for size, smooth in values.items()}
        return [
            (self._kept[levels[size]], added[levels[size]])
            for size, added in zip(self._sizes, self._added, strict=True)
        ]
