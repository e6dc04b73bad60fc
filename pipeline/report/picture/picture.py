"""A file's timeline as one picture, gathered while the file streams by: memory does not grow with its length."""

import io
import warnings
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import fontManager

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.report.picture.panels import timeline_figure
from ccln.pipeline.report.picture.sound import PooledSpectrogram
from ccln.pipeline.report.writers import write_files

_MOST_FRAMES = 64
_FRAMES_PER_SECOND = 4  # at first: a clip of two seconds is shown as more than two pictures
_FRAME_PIXELS = 144

# The first is always there; of the others, which have what it lacks, those that the machine has.
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei", "Arial Unicode MS")


class TimelinePicture:
    """Frames with attention, mel spectrogram, what is seen, heard and event, and events, on one axis of time.

    Feed it each ten seconds of a file with `add`, then `draw`. Frames have the shape that a player gives them. It keeps
    at most 64 small ones, evenly spread, and 1,500 columns of the spectrogram, whatever the length of the file.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._aspect = 1.0
        self._frames: dict[int, np.ndarray] = {}  # by number, counted from the file's start, four a second
        self._frame_stride = 1
        self._spectrogram = PooledSpectrogram()

    def add(self, clip: DecodedClip) -> None:
        """Take what the picture needs of the next ten seconds.

        Args:
            clip: in the order of the file, without a gap.
        """
        self._aspect = clip.aspect  # of a file whose pictures begin late, the first clips do not know it
        self._add_frames(clip)
        self._spectrogram.add(clip.waveform[: round(clip.duration_seconds * SAMPLE_RATE_HZ)])

    def draw(self, located: LocatedVideo, path: Path) -> None:
        """Write the picture as PNG, 1200 pixels wide; it reads without colour, too.

        Args:
            located: what was found in the file whose clips were added.
            path: of the picture.

        Raises:
            OutputError: a file is there with other content, or it cannot be written.
            ValueError: no clip was added.
        """
        if not self._frames:
            raise ValueError(f"{located.path}: nothing to draw; add the file's clips first")
        there = set(fontManager.get_font_names())
        fonts = [font for font in _FONTS if font in there]
        # Names are shown as they are: a pair of dollar signs is no mathematics, and for a letter that no font has
        # there is a box, not a warning.
        with mpl.rc_context({"text.parse_math": False, "font.family": fonts}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")
            figure = timeline_figure(located, self._frames_by_seconds(), self._spectrogram.columns(), self._aspect)
            png = io.BytesIO()
            FigureCanvasAgg(figure).print_png(png)
        write_files({path: [png.getvalue()]})

    def _add_frames(self, clip: DecodedClip) -> None:
        first = round(clip.start_seconds * _FRAMES_PER_SECOND)
        decoded = clip.frames.shape[1]
        for place in range(ceil(clip.duration_seconds * _FRAMES_PER_SECOND)):
            if (first + place) % self._frame_stride:
                continue
            segment, part = divmod(place, _FRAMES_PER_SECOND)
            middle = (2 * part + 1) * decoded // (2 * _FRAMES_PER_SECOND)
            self._frames[first + place] = _small(clip.frames[segment, middle])
            if len(self._frames) > _MOST_FRAMES:
                self._frame_stride *= 2
                self._frames = {n: frame for n, frame in self._frames.items() if n % self._frame_stride == 0}

    def _frames_by_seconds(self) -> dict[float, np.ndarray]:
        """Uint8 RGB (height, width, 3) by the second at the middle of what each stands for."""
        return {(number + 0.5) / _FRAMES_PER_SECOND: frame for number, frame in self._frames.items()}


def _small(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(frame)
    image.thumbnail((_FRAME_PIXELS, _FRAME_PIXELS))
    return np.asarray(image)
