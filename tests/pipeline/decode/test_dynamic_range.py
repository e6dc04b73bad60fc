"""Colours of high dynamic range come out as on an ordinary screen; what is not of high range stays as it is."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc
from av.video.stream import VideoStream

from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.inspect import inspect_clip

TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
COLORS = {"grey": (100, 100, 100), "orange": (150, 90, 40), "green": (50, 140, 60), "blue": (40, 60, 150)}


def hlg(light: np.ndarray) -> np.ndarray:
    return np.where(
        light <= 1 / 12, np.sqrt(3 * light), 0.17883277 * np.log(12 * light.clip(0.03) - 0.28466892) + 0.55991073
    )


def pq(light: np.ndarray) -> np.ndarray:
    power = light ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def of_color(path: Path, rgb: np.ndarray, transfer: int) -> Path:
    """Two frames of one colour, its signal R'G'B' from 0 to 1, in ten bits of BT.2020."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=1, options={"qp": "1", "bf": "0"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc = ColorPrimaries.BT2020, transfer
        context.colorspace, context.color_range = 9, ColorRange.MPEG
        brightness = float(rgb @ (0.2627, 0.6780, 0.0593))
        blue, red = (rgb[2] - brightness) / 1.8814, (rgb[0] - brightness) / 1.4746
        values = [round(64 + 876 * brightness), round(512 + 896 * blue), round(512 + 896 * red)]
        planes = [
            np.full((size, size), value, np.uint16).reshape(-1, 64)
            for value, size in zip(values, (64, 32, 32), strict=True)
        ]
        for number in range(2):
            frame = VideoFrame.from_ndarray(np.concatenate(planes), format="yuv420p10le")
            frame.pts, frame.time_base = number, Fraction(1)
            frame.color_primaries, frame.color_trc = ColorPrimaries.BT2020, transfer
            frame.colorspace, frame.color_range = 9, ColorRange.MPEG
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def seen(path: Path) -> np.ndarray:
    return decode_clip(path, FrameRequest(8, 8, 1), on_missing="zeros").frames[0, 0, 4, 4].astype(int)


@pytest.mark.parametrize("name", COLORS)
@pytest.mark.parametrize("kind", ["HLG", "PQ"])
def test_colours_of_high_range_are_about_those_of_sdr(tmp_path: Path, name: str, kind: str) -> None:
    """White of graphics is at 75 % of HLG and at 203 cd/m² in PQ; what is below comes out a little darker."""
    signal = np.array(COLORS[name]) / 255
    if kind == "HLG":
        scene = np.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45))
        coded, transfer = hlg(TO_BT2020 @ scene * 0.265), ColorTrc.ARIB_STD_B67
    else:
        coded, transfer = pq(TO_BT2020 @ signal**2.4 * 203 / 10_000), ColorTrc.SMPTE2084
    path = of_color(tmp_path / "clip.mp4", coded, transfer)
    np.testing.assert_allclose(seen(path), COLORS[name], atol=22)
    report = inspect_clip(path, missing_fails=False)
    assert any(f"high dynamic range ({kind})" in remark for remark in report.remarks)


@pytest.mark.parametrize("kind", [ColorTrc.ARIB_STD_B67, ColorTrc.SMPTE2084])
def test_brighter_light_is_never_darker(tmp_path: Path, kind: int) -> None:
    levels = [seen(of_color(tmp_path / "clip.mp4", np.full(3, value), kind))[0] for value in np.linspace(0, 1, 9)]
    assert levels[0] == 0
    assert levels[-1] >= 250
    assert (np.diff(levels) >= 0).all()


def test_ten_bits_of_standard_range_stay_as_they_are(tmp_path: Path) -> None:
    path = of_color(tmp_path / "clip.mp4", np.array(COLORS["orange"]) / 255, ColorTrc.BT2020_10)
    np.testing.assert_allclose(seen(path), COLORS["orange"], atol=3)
    assert not any("dynamic range" in remark for remark in inspect_clip(path, missing_fails=False).remarks)
