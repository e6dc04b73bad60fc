import io
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st
from making import (
    HEIGHT,
    WIDTH,
    Picture,
    Sound,
    cover_picture,
    make_video,
    numbers_in,
    on_display,
    sound_with_sweep,
    steady,
    sweep_heard_at,
)

from ccln.pipeline import pictures, video_file
from ccln.pipeline.decoding import DecodedClip, DecodeError, FrameRequest, decode_clip
from ccln.pipeline.skipping import PictureSkipper

REQUEST = FrameRequest(HEIGHT, WIDTH)
RATE_HZ = 16_000
MILLISECOND = 1e-3
NTSC = Fraction(30_000, 1001)
AT = 1.3
"""Second of its sound at which the sweep starts in most clips."""
TICK_25 = Fraction(1, 25)


def sweep_sound(seconds: float = 3, rate_hz: int = 48_000, codec: str = "flac", **more: Any) -> Sound:
    return Sound(sound_with_sweep(AT, seconds, rate_hz), rate_hz, codec=codec, **more)


def short_video(path: Path, **more: Any) -> Path:
    """Three seconds, 75 pictures, a sweep."""
    return make_video(path, Picture(steady(75)), sweep_sound(), **more)


def assert_shows(
    clip: DecodedClip, seconds: list[Fraction], tolerance_seconds: float = 1e-6, frame_at: float = 0.5
) -> None:
    """The frames are those on display at the wanted times, and say so."""
    expected = on_display(seconds, clip.frame_seconds.shape[1], frame_at)
    np.testing.assert_array_equal(numbers_in(clip.frames), expected)
    times = np.array([float(time) for time in seconds])[expected]
    np.testing.assert_allclose(clip.frame_seconds, times, rtol=0, atol=tolerance_seconds)


def heard_at(clip: DecodedClip) -> float:
    return sweep_heard_at(clip.waveform, RATE_HZ)


def same(one: DecodedClip, other: DecodedClip) -> bool:
    return (
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.frame_seconds, other.frame_seconds)
        and np.array_equal(one.waveform, other.waveform)
        and one.duration_seconds == other.duration_seconds
    )


def overwrite_packets(path: Path, kind: str, when: Callable[[float], bool]) -> list[float]:
    """Fill the packets of a stream whose time says so with noise; returns those times in seconds."""
    content = bytearray(path.read_bytes())
    noise = random.Random(0)
    times = []
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.stream.type == kind and packet.pos is not None and packet.pts is not None and packet.size:
                time = float(packet.pts * packet.time_base)
                if when(time):
                    begin = content.index(bytes(packet), packet.pos)  # Matroska's position is that of a header
                    content[begin : begin + packet.size] = noise.randbytes(packet.size)
                    times.append(time)
    path.write_bytes(content)
    return times


# Frames


@pytest.mark.parametrize("rate", [25, NTSC], ids=["25 fps", "29.97 fps"])
@pytest.mark.parametrize("frames_per_segment", [1, 3, 16, 31])
def test_constant_rate_gives_the_frame_on_display(tmp_path: Path, rate: int | Fraction, frames_per_segment: int):
    seconds = steady(int(10 * rate), rate)
    path = make_video(tmp_path / "clip.mp4", Picture(seconds), sweep_sound(10))
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, frames_per_segment))
    assert clip.frames.shape == (10, frames_per_segment, HEIGHT, WIDTH, 3)
    assert clip.frames.dtype == np.uint8
    assert_shows(clip, seconds)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.integers(100, 40_000), min_size=1, max_size=40),
    frames_per_segment=st.integers(1, 20),
)
def test_any_times_give_the_frame_on_display(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], frames_per_segment: int
):
    seconds = [Fraction(sum(steps[:i]), 30_000) for i in range(len(steps) + 1)]
    path = make_video(tmp_path_factory.mktemp("any") / "clip.mp4", Picture(seconds), sweep_sound(2))
    assert_shows(decode_clip(path, FrameRequest(HEIGHT, WIDTH, frames_per_segment)), seconds)


def test_a_frame_that_starts_at_a_wanted_time_is_on_display_then(tmp_path: Path):
    seconds = [Fraction(0), Fraction(1, 2), Fraction(3, 2) + Fraction(1, 30_000)]
    path = make_video(tmp_path / "clip.mp4", Picture(seconds), sweep_sound())
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, 1))
    assert numbers_in(clip.frames).ravel().tolist() == [1, 1] + [2] * 8


@pytest.mark.parametrize("frame_at", [0, 0.25, 0.999])
@pytest.mark.parametrize("frames_per_segment", [1, 4, 16])
def test_a_frame_may_be_wanted_anywhere_in_its_interval(tmp_path: Path, frames_per_segment: int, frame_at: float):
    seconds = steady(90, NTSC)
    path = make_video(tmp_path / "clip.mp4", Picture(seconds), sweep_sound())
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, frames_per_segment, frame_at=frame_at))
    assert_shows(clip, seconds, frame_at=frame_at)
    if frame_at == 0:
        assert clip.frame_seconds[0, 0] == 0
        assert clip.frame_seconds[2, 0] == pytest.approx(2, abs=1 / 29)


@pytest.mark.parametrize("frame_at", [-0.1, 1, float("nan")])
def test_a_frame_is_wanted_in_its_own_interval(frame_at: float):
    with pytest.raises(ValueError, match="frame_at"):
        FrameRequest(HEIGHT, WIDTH, frame_at=frame_at)


def test_filters_have_names():
    with pytest.raises(ValueError, match=r"interpolation 'cubic': must be one of opencv-linear, area, bicubic"):
        FrameRequest(HEIGHT, WIDTH, interpolation="cubic")


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
@pytest.mark.parametrize("interpolation", ["bicubic", "opencv-linear"])
def test_rotated_pictures_of_another_shape_come_out_upright(tmp_path: Path, quarter_turns: int, interpolation: str):
    seconds = steady(50)
    picture = Picture(seconds, height=96, width=64, quarter_turns=quarter_turns)
    request = FrameRequest(30, 100, interpolation=interpolation)
    clip = decode_clip(make_video(tmp_path / "clip.mp4", picture, sweep_sound()), request)
    assert clip.frames.shape[2:4] == (30, 100)
    assert_shows(clip, seconds)


def coloured_video(path: Path, luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> Path:
    """Half a second of one picture, lossless, from planes (height, width) with colour at half the size; and silence."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = *luma.shape, "yuv420p"
        sound = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        planes = np.concatenate([plane.reshape(-1, luma.shape[1]) for plane in (luma, blue, red)])
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, TICK_25
            output.mux(stream.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        for part in (sound.encode(silence), sound.encode(None), stream.encode(None)):
            output.mux(part)
    return path


def rgb_of(luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 in studio range, in floats (height, width, 3); colour is as large as luma."""
    y, u, v = (luma - 16.0) / 219, (blue - 128.0) / 224, (red - 128.0) / 224
    colours = [y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u]
    return np.clip(255 * np.stack(colours, axis=-1), 0, 255)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "area", "opencv-linear"])
def test_colours_are_right(tmp_path: Path, interpolation: str):
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


def linear_reference(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The 2 x 2 nearest pixels of (height, width, channel), mixed by distance, a pixel at a time."""
    result = np.empty((height, width, picture.shape[2]))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * picture.shape[0] / height - 0.5, 0), picture.shape[0] - 1)
            x = min(max((j + 0.5) * picture.shape[1] / width - 0.5, 0), picture.shape[1] - 1)
            total = np.zeros(picture.shape[2])
            for row in {int(y), min(int(y) + 1, picture.shape[0] - 1)}:
                for column in {int(x), min(int(x) + 1, picture.shape[1] - 1)}:
                    total += picture[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
            result[i, j] = total
    return result


@pytest.mark.parametrize("size", [(17, 23), (48, 64), (60, 200), (1, 1), (5, 300)])
def test_opencv_linear_mixes_the_four_nearest_pixels(size: tuple[int, int]):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    resized = pictures.opencv_linear(picture, *size)
    assert resized.dtype == np.uint8
    assert np.abs(resized - linear_reference(picture, *size)).max() <= 0.5001


def test_opencv_linear_is_taken_from_the_picture_at_its_own_size(tmp_path: Path):
    path = make_video(tmp_path / "clip.mp4", Picture(steady(75), height=192, width=256), sweep_sound())
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
    path = make_video(tmp_path / "clip.mp4", Picture(seconds), sweep_sound(5))
    monkeypatch.setattr(pictures, "VideoReformatter", CountingReformatter)
    decode_clip(path, FrameRequest(HEIGHT, WIDTH, 4))
    wanted = {round(seconds[i] * 30_000) for i in on_display(seconds, 4).ravel()}
    assert len(wanted) == 21  # four in each of five seconds, and the last, which stays
    assert len(scaled) == len(wanted)
    assert set(scaled) == wanted


# Pictures left out


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
def test_pictures_left_out_change_no_other(tmp_path: Path, name: str, options: dict[str, str]):
    seconds = steady(120, start_seconds=9 if name == "clip.ts" else 0)
    time_base = TICK_25 if name == "clip.avi" else Fraction(1, 30_000)  # AVI has no times of display, only an order
    picture = Picture(seconds, height=96, width=128, options=options, time_base=time_base)
    path = make_video(tmp_path / name, picture, sweep_sound(codec="mp2"))
    every = decode_clip(path, FrameRequest(96, 128, 50))
    few = decode_clip(path, FrameRequest(96, 128, 2))
    np.testing.assert_array_equal(few.frames, every.frames[:, 12::25])  # both want 1/4 and 3/4 of every second
    np.testing.assert_array_equal(few.frame_seconds, every.frame_seconds[:, 12::25])
    assert few.duration_seconds == every.duration_seconds


def decoded_times(path: Path, wanted: list[Fraction]) -> list[float]:
    """When the pictures that a decoder with a skipper gives are shown."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        skipper = PictureSkipper(video, wanted)
        times = []
        for packet in skipper.packets(container.demux(video)):
            for frame in packet.decode():
                skipper.saw(frame)
                times.append(float(frame.time or 0))
    return times


def test_pictures_that_nobody_wants_are_left_out_where_that_is_safe(tmp_path: Path):
    options = {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=none"}
    plain = make_video(tmp_path / "plain.mp4", Picture(steady(150), options=options))
    wanted = [Fraction(2), Fraction(33, 10)]
    times = decoded_times(plain, wanted)
    assert len(times) < 110
    assert {2.0, 3.28} <= set(times)
    assert sum(time > 3.3 for time in times) == 67  # nothing is left out behind the last
    fields = make_video(tmp_path / "fields.mp4", Picture(steady(150), options=options | {"flags": "+ilme+ildct"}))
    hevc = {"x265-params": "log-level=none:bframes=4"}
    other = make_video(tmp_path / "other.mp4", Picture(steady(150), "libx265", options=hevc))
    assert len(decoded_times(fields, wanted)) == len(decoded_times(other, wanted)) == 150


# One clock


@pytest.mark.parametrize("start", [0, 1000, 95_442], ids=str)  # the last one: the 33 bits overflow after 1.7 s
@pytest.mark.parametrize(("codec", "rate_hz"), [("aac", 44_100), ("mp2", 48_000), ("ac3", 48_000)])
def test_transport_streams_that_start_anywhere(tmp_path: Path, start: int, codec: str, rate_hz: int):
    sound = sweep_sound(rate_hz=rate_hz, codec=codec, start_seconds=Fraction(start))
    picture = Picture(steady(75, start_seconds=start))
    clip = decode_clip(make_video(tmp_path / "clip.ts", picture, sound, container="mpegts"), REQUEST)
    # The encoder's priming comes first and starts the clock: 1024 samples for AAC, less for the others.
    first = clip.frame_seconds[0, 0]
    assert 0 <= first < 0.03
    assert_shows(clip, steady(75, start_seconds=Fraction(round(first * 90_000), 90_000)), 2e-5)
    assert heard_at(clip) - first == pytest.approx(AT, abs=MILLISECOND)


# Sound


@pytest.mark.parametrize(
    ("layout", "codec"),
    [
        ("mono", "flac"),
        ("stereo", "flac"),
        ("5.1", "flac"),
        ("stereo", "pcm_u8"),
        ("stereo", "pcm_s24le"),
        ("5.1", "pcm_f32le"),
        ("7.1", "flac"),
        ("7.1", "pcm_f32le"),
        ("hexadecagonal", "pcm_s16le"),
    ],
)
def test_channels_are_averaged(tmp_path: Path, layout: str, codec: str):
    count = av.AudioLayout(layout).nb_channels
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, (count, 3 * RATE_HZ)).astype(np.float32)
    sound = Sound(noise, RATE_HZ, layout, codec)  # at 16 kHz nothing is resampled
    clip = decode_clip(make_video(tmp_path / "clip.mkv", Picture(steady(75)), sound), REQUEST)
    step = 2**-7 if codec == "pcm_u8" else 2**-15
    np.testing.assert_allclose(clip.waveform[: 3 * RATE_HZ], noise.mean(axis=0), rtol=0, atol=step)
    assert not clip.waveform[3 * RATE_HZ :].any()


def test_opposite_channels_cancel(tmp_path: Path):
    mono = sound_with_sweep(AT, 3, 44_100)
    sound = Sound(np.stack([mono, -mono]), 44_100, "stereo", "flac")
    clip = decode_clip(make_video(tmp_path / "clip.mkv", Picture(steady(75)), sound), REQUEST)
    assert np.abs(clip.waveform).max() < 1e-4


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_a_gap_in_the_timestamps_is_silent(tmp_path: Path, codec: str):
    rate_hz = 44_100
    samples = 0.3 * np.sin(2 * np.pi * 500 * np.arange(4 * rate_hz) / rate_hz)
    samples[2 * rate_hz :] = sound_with_sweep(1, 2, rate_hz)
    sound = Sound(samples, rate_hz, codec=codec, gap=(0.8, 1.5))
    clip = decode_clip(make_video(tmp_path / "clip.mkv", Picture(steady(100)), sound), REQUEST)

    def level(start: float, end: float) -> float:
        return float(np.sqrt(np.mean(clip.waveform[round(start * RATE_HZ) : round(end * RATE_HZ)] ** 2)))

    tone = 0.3 / np.sqrt(2)
    assert level(0.1, 0.75) == pytest.approx(tone, rel=0.05)
    assert level(0.9, 1.45) < 1e-3
    assert level(1.6, 1.95) == pytest.approx(tone, rel=0.05)
    assert heard_at(clip) == pytest.approx(3, abs=MILLISECOND)


def joined(tmp_path: Path, one: tuple[Picture, Sound], other: tuple[Picture, Sound]) -> Path:
    """Two transport streams one behind the other, as broadcasts are; neither may start at 0, or it would be moved."""
    parts = [
        make_video(tmp_path / f"{number}.ts", picture, sound, container="mpegts").read_bytes()
        for number, (picture, sound) in enumerate((one, other))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    return path


def test_sound_may_change_its_channels(tmp_path: Path):
    one = Picture(steady(50, start_seconds=1)), Sound(np.zeros(96_000), 48_000, "stereo", "mp2", Fraction(1))
    other = Picture(steady(75, start_seconds=3)), sweep_sound(codec="mp2", layout="mono", start_seconds=Fraction(3))
    clip = decode_clip(joined(tmp_path, one, other), REQUEST)
    assert heard_at(clip) - clip.frame_seconds[0, 0] == pytest.approx(2 + AT, abs=MILLISECOND)
    assert clip.duration_seconds == pytest.approx(5, abs=0.06)


def test_pictures_that_step_back_in_time_are_left_out(tmp_path: Path):
    one = Picture(steady(75, start_seconds=1)), Sound(np.zeros(144_000), 48_000, codec="mp2", start_seconds=Fraction(1))
    other = Picture(steady(75, start_seconds=3)), sweep_sound(codec="mp2", start_seconds=Fraction(3))
    clip = decode_clip(joined(tmp_path, one, other), FrameRequest(HEIGHT, WIDTH, 50))
    starts = clip.frame_seconds.ravel()
    numbers = numbers_in(clip.frames).ravel()
    assert (np.diff(starts) >= 0).all()
    assert (numbers == np.round((starts - starts[0]) * 25) - np.where(starts - starts[0] > 2.98, 50, 0)).all()
    assert numbers[-1] == 74


def test_sound_may_not_change_its_rate(tmp_path: Path):
    one = Picture(steady(50, start_seconds=1)), sweep_sound(2, 48_000, "mp2", start_seconds=Fraction(1))
    other = Picture(steady(75, start_seconds=3)), sweep_sound(3, 32_000, "mp2", start_seconds=Fraction(3))
    with pytest.raises(DecodeError, match=r"joined\.ts: its sound at (1\.9|2\.0)\d s has 32000 Hz.*Convert"):
        decode_clip(joined(tmp_path, one, other), REQUEST)


def test_sound_that_is_no_number_is_refused(tmp_path: Path):
    samples = np.zeros(48_000, np.float32)
    samples[24_000] = np.nan
    path = make_video(tmp_path / "clip.mkv", Picture(steady(25)), Sound(samples, 48_000, codec="pcm_f32le"))
    with pytest.raises(DecodeError, match=r"clip\.mkv: its sound holds values that are not numbers.*again"):
        decode_clip(path, REQUEST)


# Length


@pytest.mark.parametrize("frames_per_segment", [1, 16])
@pytest.mark.parametrize(
    ("pictures", "sound_seconds", "expected"), [(75, 5, 5), (125, 2, 5), (300, 2, 10), (25, 12, 10)]
)
def test_the_longer_stream_gives_the_duration(
    tmp_path: Path, pictures: int, sound_seconds: int, expected: float, frames_per_segment: int
):
    path = make_video(tmp_path / "clip.mkv", Picture(steady(pictures)), sweep_sound(sound_seconds))
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, frames_per_segment))
    assert clip.duration_seconds == pytest.approx(expected, abs=MILLISECOND)


@pytest.mark.parametrize("sound_seconds", [2, 13])
def test_nothing_behind_ten_seconds_is_decoded(tmp_path: Path, sound_seconds: int):
    picture = Picture(steady(325), options={"bf": "0"})
    long = make_video(tmp_path / "long.mp4", picture, sweep_sound(sound_seconds, codec="aac"))
    whole = decode_clip(long, REQUEST)
    assert whole.duration_seconds == 10
    assert_shows(whole, steady(325))
    damaged = [overwrite_packets(long, kind, lambda time: time > 10.1) for kind in ("video", "audio")]
    assert len(damaged[0]) > 70
    assert bool(damaged[1]) == (sound_seconds == 13)
    assert same(whole, decode_clip(long, REQUEST))
    overwrite_packets(long, "video", lambda time: 9 < time < 9.1)
    with pytest.raises(DecodeError, match="damaged"):
        decode_clip(long, REQUEST)


class CountedFile(io.FileIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> Any:
        content = super().read(size)
        self.count += len(content or b"")
        return content


@pytest.mark.parametrize("sound_seconds", [2, 60])
def test_a_long_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound_seconds: int):
    picture = Picture(steady(300, 5), "rawvideo", time_base=Fraction(1, 5))
    path = make_video(tmp_path / "clip.mkv", picture, sweep_sound(sound_seconds))
    file = CountedFile(path)
    monkeypatch.setattr(Path, "open", lambda *_: file)
    clip = decode_clip(path, REQUEST)
    assert clip.duration_seconds == 10
    assert_shows(clip, steady(300, 5))
    assert 0.15 < file.count / path.stat().st_size < 0.45


# Containers


@pytest.mark.parametrize("container", ["avi", "flv", "mpeg"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_containers_that_cannot_say_how_sound_and_picture_begin(tmp_path: Path, container: str, b_frames: str):
    codec = {"avi": "mpeg4", "flv": "libx264", "mpeg": "mpeg2video"}[container]
    picture = Picture(steady(75), codec, time_base=TICK_25, options={"bf": b_frames})
    sound = sweep_sound(rate_hz=44_100, codec={"avi": "libmp3lame", "flv": "aac", "mpeg": "mp2"}[container])
    clip = decode_clip(make_video(tmp_path / "clip", picture, sound, container=container), REQUEST)
    numbers = numbers_in(clip.frames)
    # Decoder delay and priming are within one picture and one packet of sound; nothing is lost or out of order.
    assert (np.diff(numbers.ravel()) >= 0).all()
    assert np.abs(numbers - on_display(steady(75))).max() <= 2
    assert heard_at(clip) == pytest.approx(AT, abs=0.03)
    assert clip.duration_seconds == pytest.approx(3, abs=0.1)


def test_metadata_need_not_be_unicode(tmp_path: Path):
    path = make_video(tmp_path / "clip.avi", Picture(steady(75), "mpeg4", time_base=TICK_25), sweep_sound(codec="ac3"))
    plain = decode_clip(path, REQUEST)
    titled = make_video(
        tmp_path / "titled.avi",
        Picture(steady(75), "mpeg4", time_base=TICK_25),
        sweep_sound(codec="ac3"),
        metadata={"title": "Cafe au lait"},
    )
    content = titled.read_bytes()
    assert b"Cafe au" in content
    titled.write_bytes(content.replace(b"Cafe au", b"Caf\xe9 au"))
    assert same(plain, decode_clip(titled, REQUEST))


def test_two_at_once_give_what_one_gives_alone(tmp_path: Path):
    one = make_video(tmp_path / "one.mp4", Picture(steady(250)), sweep_sound(10, codec="aac"))
    other = make_video(tmp_path / "other.mkv", Picture(steady(299, NTSC), height=96, width=128), sweep_sound(10))
    paths = [one, other] * 2
    alone = [decode_clip(path, REQUEST) for path in (one, other)] * 2
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: decode_clip(path, REQUEST), paths))
    assert all(map(same, alone, together))
    assert not same(alone[0], alone[1])


# Too large


@pytest.mark.parametrize(
    ("name", "codec", "time_base"),
    [("clip.mp4", "libx264", Fraction(1, 30_000)), ("clip.webm", "libvpx", TICK_25), ("clip.avi", "mpeg4", TICK_25)],
)
def test_pictures_over_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, time_base: Fraction
):
    sound = sweep_sound(codec="libopus" if name == "clip.webm" else "ac3")
    path = make_video(tmp_path / name, Picture(steady(25), codec, time_base=time_base), sound)
    monkeypatch.setattr(video_file, "MAX_PIXELS", HEIGHT * WIDTH * 32)  # FFmpeg counts its own padding
    decode_clip(path, REQUEST)
    monkeypatch.setattr(video_file, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.raises(DecodeError, match=rf"{name}: its pictures are larger than the 3071 pixels.*Scale"):
        decode_clip(path, REQUEST)


def test_pictures_that_grow_over_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = Picture(steady(50, start_seconds=1)), sweep_sound(2, codec="mp2", start_seconds=Fraction(1))
    larger = Picture(steady(75, start_seconds=3), height=4 * HEIGHT, width=4 * WIDTH, options={"bf": "0"})
    path = joined(tmp_path, one, (larger, sweep_sound(3, codec="mp2", start_seconds=Fraction(3))))
    numbers = numbers_in(decode_clip(path, REQUEST).frames)
    assert (numbers[1] > 20).all()
    assert numbers[4, -1] > 70  # scaled like the small ones
    monkeypatch.setattr(video_file, "MAX_PIXELS", 2 * HEIGHT * WIDTH)
    with pytest.raises(DecodeError, match=r"its video is damaged at 2\.0\d s"):
        decode_clip(path, REQUEST)


# Damage


@pytest.mark.parametrize(
    ("name", "kind"), [("clip.mp4", "video"), ("clip.mp4", "audio"), ("clip.mkv", "audio"), ("clip.mov", "audio")]
)
def test_damage_in_the_middle_is_an_error_that_names_the_second(tmp_path: Path, name: str, kind: str):
    path = make_video(tmp_path / name, Picture(steady(75), options={"bf": "0"}), sweep_sound(codec="aac"))
    (time,) = overwrite_packets(path, kind, lambda time: 2 < time <= 2.021 if kind == "audio" else 2 < time <= 2.041)
    with pytest.raises(DecodeError, match=rf"{name}: its {kind} is damaged at {time:.2f} s.*again") as raised:
        decode_clip(path, REQUEST)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_damage_in_the_last_packet_shortens_the_clip(tmp_path: Path, kind: str):
    path = make_video(tmp_path / "clip.mp4", Picture(steady(75), options={"bf": "0"}), sweep_sound(codec="aac"))
    whole = decode_clip(path, REQUEST)
    last = max(overwrite_packets(path, kind, lambda time: time > (2.95 if kind == "video" else 2.985)))
    clip = decode_clip(path, REQUEST)
    if kind == "video":
        assert last == pytest.approx(2.96)
        assert (numbers_in(clip.frames)[3:] == 73).all()
        np.testing.assert_array_equal(clip.waveform, whole.waveform)
    else:
        np.testing.assert_array_equal(clip.frames, whole.frames)
        assert clip.duration_seconds < whole.duration_seconds


def test_a_recording_cut_out_of_a_broadcast_starts_where_it_can(tmp_path: Path):
    picture = Picture(steady(250), options={"g": "50", "bf": "2"})
    path = make_video(tmp_path / "clip.ts", picture, sweep_sound(10, codec="mp2"), container="mpegts")
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 3 // 188 * 188 :])
    clip = decode_clip(path, REQUEST)
    numbers = numbers_in(clip.frames)
    shown = numbers.ravel()[clip.frame_seconds.ravel() > clip.frame_seconds[0, 0]]
    offsets = shown / 25 - clip.frame_seconds.ravel()[clip.frame_seconds.ravel() > clip.frame_seconds[0, 0]]
    assert np.ptp(offsets) < MILLISECOND  # every picture at its place on one clock
    assert 4 < clip.duration_seconds < 8


def test_a_video_with_a_cover_picture_is_a_video(tmp_path: Path):
    path = tmp_path / "clip.mkv"
    plain = short_video(tmp_path / "plain.mkv")
    with av.open(str(path), "w") as output, av.open(str(plain)) as source:
        assert isinstance(source, InputContainer)
        output.add_attachment("cover.jpg", "image/jpeg", cover_picture())
        streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    assert same(decode_clip(path, REQUEST), decode_clip(plain, REQUEST))
