"""Which frames are taken, how they are scaled, and which need not be decoded."""

from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoded import NTSC, TICK_25, assert_shows, sweep_audio
from support.making import HEIGHT, WIDTH, Video, make_video, numbers_in, on_display, steady

from ccln.pipeline.decode import frames
from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.frames import FrameRequest, FrameSkipper, opencv_linear

# Frames


@pytest.mark.parametrize("rate", [25, NTSC], ids=["25 fps", "29.97 fps"])
@pytest.mark.parametrize("frames_per_segment", [1, 3, 16, 31])
def test_constant_rate_videos_give_the_displayed_frame(tmp_path: Path, rate: int | Fraction, frames_per_segment: int):
    seconds = steady(int(10 * rate), rate)
    path = make_video(tmp_path / "clip.mp4", Video(seconds), sweep_audio(10))
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, frames_per_segment))
    assert clip.frames.shape == (10, frames_per_segment, HEIGHT, WIDTH, 3)
    assert clip.frames.dtype == np.uint8
    assert_shows(clip, seconds)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.integers(100, 40_000), min_size=1, max_size=40),
    frames_per_segment=st.integers(1, 20),
)
def test_variable_rate_videos_give_the_displayed_frame(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], frames_per_segment: int
):
    seconds = [Fraction(sum(steps[:i]), 30_000) for i in range(len(steps) + 1)]
    path = make_video(tmp_path_factory.mktemp("any") / "clip.mp4", Video(seconds), sweep_audio(2))
    assert_shows(decode_clip(path, FrameRequest(HEIGHT, WIDTH, frames_per_segment)), seconds)


def test_a_frame_that_starts_at_a_wanted_time_is_taken(tmp_path: Path):
    seconds = [Fraction(0), Fraction(1, 2), Fraction(3, 2) + Fraction(1, 30_000)]
    path = make_video(tmp_path / "clip.mp4", Video(seconds), sweep_audio())
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, 1))
    assert numbers_in(clip.frames).ravel().tolist() == [1, 1] + [2] * 8


@pytest.mark.parametrize("frame_at", [0, 0.25, 0.999])
@pytest.mark.parametrize("frames_per_segment", [1, 4, 16])
def test_frames_can_be_taken_anywhere_in_their_interval(tmp_path: Path, frames_per_segment: int, frame_at: float):
    seconds = steady(90, NTSC)
    path = make_video(tmp_path / "clip.mp4", Video(seconds), sweep_audio())
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, frames_per_segment, frame_at=frame_at))
    assert_shows(clip, seconds, frame_at=frame_at)
    if frame_at == 0:
        assert clip.frame_seconds[0, 0] == 0
        assert clip.frame_seconds[2, 0] == pytest.approx(2, abs=1 / 29)


@pytest.mark.parametrize("frame_at", [-0.1, 1, float("nan")])
def test_a_frame_position_outside_its_interval_is_refused(frame_at: float):
    with pytest.raises(ValueError, match="frame_at"):
        FrameRequest(HEIGHT, WIDTH, frame_at=frame_at)


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match=r"interpolation 'cubic': must be one of opencv-linear, area, bicubic"):
        FrameRequest(HEIGHT, WIDTH, interpolation="cubic")


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
@pytest.mark.parametrize("interpolation", ["bicubic", "opencv-linear"])
def test_rotated_frames_of_another_shape_come_out_upright(tmp_path: Path, quarter_turns: int, interpolation: str):
    seconds = steady(50)
    video = Video(seconds, height=96, width=64, quarter_turns=quarter_turns)
    request = FrameRequest(30, 100, interpolation=interpolation)
    clip = decode_clip(make_video(tmp_path / "clip.mp4", video, sweep_audio()), request)
    assert clip.frames.shape[2:4] == (30, 100)
    assert_shows(clip, seconds)


def coloured_video(path: Path, luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> Path:
    """Half a second of one frame, lossless, from planes (height, width) with colour at half the size; and silence."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = *luma.shape, "yuv420p"
        audio = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        planes = np.concatenate([plane.reshape(-1, luma.shape[1]) for plane in (luma, blue, red)])
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, TICK_25
            output.mux(stream.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        for part in (audio.encode(silence), audio.encode(None), stream.encode(None)):
            output.mux(part)
    return path


def rgb_of(luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 in studio range, in floats (height, width, 3); colour is as large as luma."""
    y, u, v = (luma - 16.0) / 219, (blue - 128.0) / 224, (red - 128.0) / 224
    colours = [y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u]
    return np.clip(255 * np.stack(colours, axis=-1), 0, 255)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "area", "opencv-linear"])
def test_decoded_colours_agree_with_bt601(tmp_path: Path, interpolation: str):
    rng = np.random.default_rng(0)
    luma = rng.integers(60, 190, (6, 8), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    blue, red = (rng.integers(90, 166, (3, 4), np.uint8).repeat(16, axis=0).repeat(16, axis=1) for _ in range(2))
    truth = rgb_of(luma, *(plane.repeat(2, axis=0).repeat(2, axis=1) for plane in (blue, red)))
    path = coloured_video(tmp_path / "clip.mkv", luma, blue, red)
    frame = decode_clip(path, FrameRequest(96, 128, interpolation=interpolation)).frames[0, 0].astype(float)
    middles = (slice(8, None, 16), slice(8, None, 16))  # of blocks of one colour: no filter mixes there
    error = (frame - truth)[middles]
    assert np.abs(error).max() < 2
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.5  # no colour too bright or too dark
    half = decode_clip(path, FrameRequest(48, 64, interpolation="area")).frames[0, 0].astype(float)
    np.testing.assert_allclose(half, truth.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3)), atol=25)
    assert np.abs(half.mean(axis=(0, 1)) - truth.mean(axis=(0, 1))).max() < 0.5


def linear_reference(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The 2 x 2 nearest pixels of (height, width, channel), mixed by distance, a pixel at a time."""
    result = np.empty((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
            x = min(max((j + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
            total = np.zeros(image.shape[2])
            for row in {int(y), min(int(y) + 1, image.shape[0] - 1)}:
                for column in {int(x), min(int(x) + 1, image.shape[1] - 1)}:
                    total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
            result[i, j] = total
    return result


@pytest.mark.parametrize("size", [(17, 23), (48, 64), (60, 200), (1, 1), (5, 300)])
def test_opencv_linear_mixes_the_four_nearest_pixels(size: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    resized = opencv_linear(image, *size)
    assert resized.dtype == np.uint8
    assert np.abs(resized - linear_reference(image, *size)).max() <= 0.5001


def test_opencv_linear_is_taken_from_the_frame_at_its_own_size(tmp_path: Path):
    path = make_video(tmp_path / "clip.mp4", Video(steady(75), height=192, width=256), sweep_audio())
    whole = decode_clip(path, FrameRequest(192, 256, 1)).frames[1, 0]
    small = decode_clip(path, FrameRequest(31, 45, 1, interpolation="opencv-linear")).frames[1, 0]
    assert np.abs(small - linear_reference(whole, 31, 45)).max() <= 1.5
    filtered = decode_clip(path, FrameRequest(31, 45, 1, interpolation="bilinear")).frames[1, 0]
    assert np.abs(small.astype(int) - filtered).max() > 30  # FFmpeg's widens its filter


def test_unwanted_frames_are_never_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scaled: list[int | None] = []

    class CountingReformatter:
        def __init__(self) -> None:
            self.reformatter = VideoReformatter()

        def reformat(self, frame: av.VideoFrame, *arguments: Any, **more: Any) -> av.VideoFrame:
            scaled.append(frame.pts)
            return self.reformatter.reformat(frame, *arguments, **more)

    seconds = steady(125)
    path = make_video(tmp_path / "clip.mp4", Video(seconds), sweep_audio(5))
    monkeypatch.setattr(frames, "VideoReformatter", CountingReformatter)
    decode_clip(path, FrameRequest(HEIGHT, WIDTH, 4))
    wanted = {round(seconds[i] * 30_000) for i in on_display(seconds, 4).ravel()}
    assert len(wanted) == 21  # four in each of five seconds, and the last, which stays
    assert len(scaled) == len(wanted)
    assert set(scaled) == wanted


# Skipped frames


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bf": "8", "x264-params": "b-adapt=0:b-pyramid=strict"},
        {"bf": "3", "x264-params": "b-pyramid=none:open-gop=1:keyint=9"},
        {"bf": "16", "x264-params": "b-adapt=0:ref=16:b-pyramid=normal"},
        {"bf": "2", "x264-params": "tff=1"},
        {"bf": "0"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi"])
def test_skipping_frames_does_not_change_the_others(tmp_path: Path, name: str, options: dict[str, str]):
    seconds = steady(120, start_seconds=9 if name == "clip.ts" else 0)
    time_base = TICK_25 if name == "clip.avi" else Fraction(1, 30_000)  # AVI has no times of display, only an order
    video = Video(seconds, height=96, width=128, options=options, time_base=time_base)
    path = make_video(tmp_path / name, video, sweep_audio(codec="mp2"))
    every = decode_clip(path, FrameRequest(96, 128, 50))
    few = decode_clip(path, FrameRequest(96, 128, 2))
    np.testing.assert_array_equal(few.frames, every.frames[:, 12::25])  # both want 1/4 and 3/4 of every second
    np.testing.assert_array_equal(few.frame_seconds, every.frame_seconds[:, 12::25])
    assert few.duration_seconds == every.duration_seconds


def decoded_times(path: Path, first: Fraction, step: Fraction, until: Fraction | float) -> list[float]:
    """When the frames that a decoder with a skipper gives are displayed."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        skipper = FrameSkipper(video, first, step, until)
        times = []
        for packet in skipper.packets(container.demux(video)):
            for frame in packet.decode():
                skipper.observe(frame)
                times.append(float(frame.time or 0))
    return times


def test_unwanted_frames_are_skipped_where_that_is_safe(tmp_path: Path):
    options = {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=none"}
    plain = make_video(tmp_path / "plain.mp4", Video(steady(150), options=options))
    wanted = Fraction(2), Fraction(13, 10), Fraction(33, 10)
    times = decoded_times(plain, *wanted)
    assert len(times) < 110
    assert {2.0, 3.28} <= set(times)
    assert sum(time > 3.3 for time in times) == 67  # nothing is skipped after the last
    endless = decoded_times(plain, Fraction(2), Fraction(13, 10), inf)
    assert len(endless) < len(times) - 20
    assert {2.0, 3.28, 4.6, 5.88, 5.96} <= set(endless)  # and the last, for none may follow
    fields = make_video(tmp_path / "fields.mp4", Video(steady(150), options=options | {"flags": "+ilme+ildct"}))
    hevc = {"x265-params": "log-level=none:bframes=4"}
    other = make_video(tmp_path / "other.mp4", Video(steady(150), "libx265", options=hevc))
    assert len(decoded_times(fields, *wanted)) == len(decoded_times(other, *wanted)) == 150
