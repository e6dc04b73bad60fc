"""From high dynamic range (HLG and PQ in the colours of BT.2020) to the pixels of an ordinary screen.

Light is taken relative to the white of graphics (ITU-R BT.2408: 75 % of HLG's signal, 203 cd/m² in PQ), turned into the
colours of BT.709, and compressed by Reinhard's extended curve, which keeps the dark and takes the brightest to white.
HLG describes the light of the scene, and is encoded as BT.709 does that; PQ describes the light of a screen, and is
encoded for a screen of BT.1886.
"""

from functools import cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

_PQ_WHITE, _PQ_PEAK = 203 / 10_000, 1000 / 10_000  # of the highest value; brighter screens are hardly used
_HLG_WHITE = 0.265  # of the light that the highest value stands for
_KINDS: dict[int, str] = {ColorTrc.ARIB_STD_B67: "HLG", ColorTrc.SMPTE2084: "PQ"}
# Linear RGB of BT.2020 to that of BT.709, ITU-R BT.2087.
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


def dynamic_range(frame: VideoFrame) -> str | None:
    """What kind of high dynamic range a frame states: "HLG", "PQ", or None."""
    return _KINDS.get(frame.color_trc)


def to_standard_range(frame: VideoFrame, rgb: np.ndarray) -> np.ndarray:
    """The pixels of a frame, uint8 RGB (height, width, channel), as an ordinary screen is to show them."""
    kind = dynamic_range(frame)
    if kind is None:
        return rgb
    light = _light(kind)[rgb]
    if frame.color_primaries == ColorPrimaries.BT2020:
        light = (light @ _TO_BT709.T).clip(min=0)
    white, peak = (_HLG_WHITE, 1.0) if kind == "HLG" else (_PQ_WHITE, _PQ_PEAK)
    light /= white
    brightest = light.max(axis=-1, keepdims=True)  # all three are scaled alike: the colour stays
    light *= (1 + brightest * (white / peak) ** 2) / (1 + brightest)
    light = light.clip(0, 1)
    of_scene = np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)
    return np.rint(255 * (of_scene if kind == "HLG" else light ** (1 / 2.4))).astype(np.uint8)


@cache
def _light(kind: str) -> np.ndarray:
    """The light that each value from 0 to 255 stands for, float32: of the scene for HLG, of the screen for PQ."""
    value = np.arange(256) / 255
    if kind == "HLG":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    else:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = value ** (1 / m2)
        light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return light.astype(np.float32)
