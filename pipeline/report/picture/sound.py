"""The mel spectrogram of a sound of any length in a bounded number of columns."""

from copy import deepcopy

import numpy as np

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ

_MOST_COLUMNS = 1500
_BANDS = 64
_HOP_SAMPLES = 160
_WINDOW_SAMPLES = 1024


class PooledSpectrogram:
    """Mean mel power over columns of equal length; when there are too many, every two become one."""

    def __init__(self) -> None:
        self._sums = np.zeros((_MOST_COLUMNS, _BANDS))  # over each column's hops
        self._hops = 0
        self._hops_per_column = 1
        self._rest: np.ndarray | None = None  # the samples that windows to come begin with

    def add(self, waveform: np.ndarray) -> None:
        """Take the next part of the sound, float32 mono (sample,), 16 kHz.

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
    import librosa

    if len(samples) < _WINDOW_SAMPLES:
        return np.zeros((0, _BANDS), np.float32)
    return librosa.feature.melspectrogram(
        y=samples,
        sr=SAMPLE_RATE_HZ,
        n_fft=_WINDOW_SAMPLES,
        hop_length=_HOP_SAMPLES,
        n_mels=_BANDS,
        fmax=SAMPLE_RATE_HZ / 2,
        center=False,
    ).T
