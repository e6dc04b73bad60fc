"""What every extractor takes and gives, and the checks both sides rely on.

    frames    uint8 RGB   (segment, frame, height, width, 3)   ->  visual  float32  (segment, height, width, channel)
    waveform  float32     (sample,), mono, segments x rate      ->  audio   float32  (segment, channel)

A segment is one second. Each frame passes through a network on its own; the resulting maps of a segment are averaged.
Features of a clip depend on nothing but that clip and the specification: no state is kept between calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ccln.extractors.choices import Preset

    Array = np.ndarray | torch.Tensor

SEGMENT_SECONDS = 1


class ExtractorError(Exception):
    """An extractor that cannot be had, or an input that does not fit it; the message says which, why, what to do."""


class WeightsError(ExtractorError):
    """Weights that cannot be had or do not fit their network; the message names the file and what to do."""


def check_frames(frames: Array, preset: Preset) -> int:
    """Return the number of segments in `frames`.

    Args:
        frames: uint8 (segment, frame, height, width, 3), as the preset asks for them.
        preset: what the frames have to fit.

    Raises:
        ExtractorError: the frames have another type or shape than the preset asks for.
    """
    wanted = (preset.frames_per_segment, preset.visual.frame_height, preset.visual.frame_width, 3)
    if _dtype_name(frames) != "uint8" or frames.ndim != 5 or tuple(frames.shape[1:]) != wanted or frames.shape[0] == 0:
        raise ExtractorError(
            f"frames are {_dtype_name(frames)} {tuple(frames.shape)}, but {preset.visual.name} wants uint8 RGB "
            f"(segment, {', '.join(map(str, wanted))}): decode them as the preset says"
        )
    return frames.shape[0]


def check_waveform(waveform: Array, preset: Preset) -> int:
    """Return the number of segments in `waveform`.

    Args:
        waveform: float32 (sample,), a whole number of seconds at the preset's sample rate.
        preset: what the waveform has to fit.

    Raises:
        ExtractorError: the waveform has another type or shape than the preset asks for.
    """
    samples = preset.audio.sample_rate_hz * SEGMENT_SECONDS
    if _dtype_name(waveform) != "float32" or waveform.ndim != 1 or not waveform.shape[0] or waveform.shape[0] % samples:
        raise ExtractorError(
            f"waveform is {_dtype_name(waveform)} {tuple(waveform.shape)}, but {preset.audio.name} wants mono float32 "
            f"(segments x {samples},): resample it to {preset.audio.sample_rate_hz} Hz and pad it to whole segments"
        )
    return waveform.shape[0] // samples


def _dtype_name(array: Array) -> str:
    return str(array.dtype).removeprefix("torch.")
