"""A video's timeline as one picture, gathered while it is decoded: memory does not grow with its length."""

import io
import warnings
from copy import deepcopy
from functools import cache
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import soxr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import fontManager

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.report.picture.panels import mel, timeline_figure
from ccln.pipeline.report.writers import write_files

_MOST_FRAMES = 64
_FRAMES_PER_SECOND = 4  # at first: a video of two seconds is shown as more than two frames
_FRAME_PIXELS = 144

_MOST_COLUMNS = 1500
_BANDS = 64
_HOP_SAMPLES = 160
_WINDOW_SAMPLES = 1024

# The first is always there; of the others, which have what it lacks, those that the machine has.
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei", "Arial Unicode MS")


class TimelinePicture:
    """Frames with attention, mel spectrogram, the tracks seen, heard and event, and events, on one axis of time.

    Give it each ten seconds of a video with `add`, then `draw`. Frames have the shape that a player gives them. It
    keeps at most 64 small ones, evenly spread, and 1,500 columns of the spectrogram, whatever the length of the video.
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
            clip: in order of time, without a gap.
        """
        self._aspect = clip.aspect  # in a file whose frames begin late, unknown to the first clips
        self._add_frames(clip)
        waveform = clip.waveform
        if clip.sample_rate_hz != SAMPLE_RATE_HZ:
            waveform = soxr.resample(waveform, clip.sample_rate_hz, SAMPLE_RATE_HZ)
        self._spectrogram.add(waveform[: round(clip.duration_seconds * SAMPLE_RATE_HZ)])

    def draw(self, located: LocatedVideo, path: Path, *, overwrite: bool = False) -> None:
        """Write the picture as PNG, 1200 pixels wide; it reads without color, too.

        Args:
            located: what was found in the video whose clips were added.
            path: of the picture.
            overwrite: whether to replace another file.

        Raises:
            OutputError: a file is there with other content, or it cannot be written.
            ValueError: nothing was added.
        """
        if not self._frames:
            raise ValueError(f"{located.path}: nothing to draw; add the video's clips first")
        there = set(fontManager.get_font_names())
        fonts = [font for font in _FONTS if font in there]
        # Names are shown as they are: a pair of dollar signs is no mathematics, and for a letter that no font has
        # there is a box, not a warning.
        with mpl.rc_context({"text.parse_math": False, "font.family": fonts}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")
            figure = timeline_figure(located, self._frames_by_seconds(), self._spectrogram.columns(), self._aspect)
            png = io.BytesIO()
            FigureCanvasAgg(figure).print_png(png)
        write_files({path: [png.getvalue()]}, overwrite=overwrite)

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


class PooledSpectrogram:
    """Mean mel power over columns of equal length; when there are too many, every two become one."""

    def __init__(self) -> None:
        self._sums = np.zeros((_MOST_COLUMNS, _BANDS))  # over each column's hops
        self._hops = 0
        self._hops_per_column = 1
        self._rest: np.ndarray | None = None  # the samples that windows to come begin with

    def add(self, waveform: np.ndarray) -> None:
        """Take the next part of the audio, float32 mono (sample,), 16 kHz.

        Windows reach from part to part: each padded by itself, there would be a click between them.
        """
        if self._rest is None:
            samples = np.pad(waveform, (_WINDOW_SAMPLES // 2, 0), "reflect")
        else:
            samples = np.concatenate([self._rest, waveform])
        power = _mel_power(samples)
        self._rest = samples[len(power) * _HOP_SAMPLES :]
        self._pool(power)

    def columns(self) -> tuple[np.ndarray, float]:
        """Mel power (column, band), and how many seconds a column covers; the last may hold less."""
        whole = deepcopy(self)  # more may come after the windows that now reach past the end
        if self._rest is not None:
            whole._pool(_mel_power(np.pad(self._rest, (0, _WINDOW_SAMPLES // 2), "reflect")))
        starts = np.arange(0, whole._hops, whole._hops_per_column)
        covered = np.minimum(whole._hops - starts, whole._hops_per_column)
        return whole._sums[: len(starts)] / covered[:, None], whole._hops_per_column * _HOP_SAMPLES / SAMPLE_RATE_HZ

    def _pool(self, power: np.ndarray) -> None:
        hops = self._hops + np.arange(len(power))
        self._hops += len(power)
        while self._hops > _MOST_COLUMNS * self._hops_per_column:
            pairs = self._sums[::2] + self._sums[1::2]
            self._sums = np.concatenate([pairs, np.zeros_like(pairs)])
            self._hops_per_column *= 2
        np.add.at(self._sums, hops // self._hops_per_column, power)


def _mel_power(samples: np.ndarray) -> np.ndarray:
    """Float32 (hop, band) of each whole window within the samples."""
    if len(samples) < _WINDOW_SAMPLES:
        return np.zeros((0, _BANDS), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW_SAMPLES)[::_HOP_SAMPLES]
    hann = np.hanning(_WINDOW_SAMPLES + 1)[:-1].astype(np.float32)
    return (np.abs(np.fft.rfft(windows * hann)) ** 2 @ _mel_filters()).astype(np.float32)


@cache
def _mel_filters() -> np.ndarray:
    """Triangles of equal area on the bins of a window's spectrum, evenly spaced in mel: (bin, band)."""
    bins_hz = np.fft.rfftfreq(_WINDOW_SAMPLES, 1 / SAMPLE_RATE_HZ)[:, None]
    edges_hz = 700 * np.expm1(np.linspace(0, mel(SAMPLE_RATE_HZ / 2), _BANDS + 2) / 1127)
    low, middle, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    triangles = np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)).clip(0)
    return triangles * 2 / (high - low)
