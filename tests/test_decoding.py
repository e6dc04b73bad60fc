import io
import os
import random
import shutil
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
from hypothesis import given, settings
from hypothesis import strategies as st
from making import (
    HEIGHT,
    WIDTH,
    Picture,
    Sound,
    make_video,
    number_in,
    numbered_picture,
    numbers_in,
    sound_with_sweep,
    steady,
    sweep_heard_at,
)

from ccln.pipeline import decoding
from ccln.pipeline.decoding import DecodedClip, DecodeError, FrameRequest, decode_clip

REQUEST = FrameRequest(HEIGHT, WIDTH)
RATE_HZ = 16_000
MILLISECOND = 1e-3
NTSC = Fraction(30_000, 1001)
AT = 1.3
"""Second of its sound at which the sweep starts in most clips."""
TICK_25 = Fraction(1, 25)
VPX_FAST = {"deadline": "realtime", "cpu-used": "8"}


def sweep_sound(seconds: float = 3, rate_hz: int = 48_000, codec: str = "flac", **more: Any) -> Sound:
    return Sound(sound_with_sweep(AT, seconds, rate_hz), rate_hz, codec=codec, **more)


def short_video(path: Path, **more: Any) -> Path:
    """Three seconds, 75 pictures, a sweep."""
    return make_video(path, Picture(steady(75)), sweep_sound(), **more)


def on_display(seconds: list[Fraction], frames_per_segment: int = 16) -> np.ndarray:
    """Number of the picture on display at every wanted time (segment, frame), from the times on the clip's clock."""
    wanted = [
        Fraction(2 * (segment * frames_per_segment + i) + 1, 2 * frames_per_segment)
        for segment in range(10)
        for i in range(frames_per_segment)
    ]
    starts = np.array(seconds, dtype=object)
    picked = np.searchsorted(starts, np.array(wanted, dtype=object), side="right") - 1
    return picked.clip(min=0).reshape(10, frames_per_segment)


def assert_shows(clip: DecodedClip, seconds: list[Fraction], tolerance_seconds: float = 1e-6) -> None:
    """The frames are those on display at the wanted times, and say so."""
    expected = on_display(seconds, clip.frame_seconds.shape[1])
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


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_variable_rate_gives_the_frame_on_display(tmp_path: Path, name: str):
    steps = random.Random(1).choices([1, 2, 8, 40, 55, 300, 1900], k=120)
    seconds = [Fraction(sum(steps[:i]), 1000) for i in range(120)]  # Matroska's grid is a millisecond
    assert seconds[-1] > 10
    clip = decode_clip(make_video(tmp_path / name, Picture(seconds), sweep_sound()), REQUEST)
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


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (30, 100)])
def test_rotated_pictures_come_out_upright(tmp_path: Path, quarter_turns: int, size: tuple[int, int]):
    seconds = steady(75)
    picture = Picture(seconds, height=96, width=64, quarter_turns=quarter_turns)
    clip = decode_clip(make_video(tmp_path / "clip.mp4", picture, sweep_sound()), FrameRequest(*size))
    assert clip.frames.shape[2:4] == size
    assert_shows(clip, seconds)


def test_pictures_keep_their_values_and_places(tmp_path: Path):
    path = short_video(tmp_path / "clip.mp4")
    frame = decode_clip(path, REQUEST).frames[1, 3]
    truth = numbered_picture(number_in(frame)).astype(int)
    error = np.abs(frame.astype(int) - ((truth - 16) * 255 / 219).round()[..., None])
    assert number_in(frame) == 30
    assert error.mean() < 6  # studio range 16 to 235 opened to 0 to 255
    coarse = decode_clip(path, FrameRequest(3, 2, interpolation="area")).frames[1, 3]
    np.testing.assert_allclose(coarse, frame.reshape(3, 16, 2, 32, 3).mean(axis=(1, 3)), atol=6)


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
    monkeypatch.setattr(decoding, "VideoReformatter", CountingReformatter)
    decode_clip(path, FrameRequest(HEIGHT, WIDTH, 4))
    wanted = {round(seconds[i] * 30_000) for i in on_display(seconds, 4).ravel()}
    assert len(wanted) == 21  # four in each of five seconds, and the last, which stays
    assert len(scaled) == len(wanted)
    assert set(scaled) == wanted


# One clock


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.mov"])
@pytest.mark.parametrize(
    ("video_start", "audio_start"),
    [(0, 0), (Fraction(1, 2), 0), (0, Fraction(7, 10)), (Fraction(3), 0), (0, Fraction(5, 2))],
    ids=str,
)
def test_the_clock_starts_with_the_earlier_stream(
    tmp_path: Path, name: str, video_start: Fraction, audio_start: Fraction
):
    seconds = steady(75, start_seconds=video_start)
    sound = sweep_sound(codec="pcm_s16le" if name == "clip.mov" else "flac", start_seconds=Fraction(audio_start))
    clip = decode_clip(make_video(tmp_path / name, Picture(seconds), sound), REQUEST)
    assert_shows(clip, seconds)
    assert heard_at(clip) == pytest.approx(AT + float(audio_start), abs=MILLISECOND)
    assert clip.duration_seconds == pytest.approx(3 + float(max(video_start, audio_start)), abs=2 * MILLISECOND)


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


def test_a_large_offset_in_matroska_is_taken_off(tmp_path: Path):
    picture = Picture(steady(75, start_seconds=1000))
    clip = decode_clip(make_video(tmp_path / "clip.mkv", picture, sweep_sound(start_seconds=Fraction(1000))), REQUEST)
    assert_shows(clip, steady(75))
    assert heard_at(clip) == pytest.approx(AT, abs=MILLISECOND)


# Sound


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mkv", "pcm_s16le"), ("clip.mp4", "flac"), ("clip.mp4", "aac"), ("clip.mkv", "aac")]
)
def test_a_sound_is_heard_when_it_sounds(tmp_path: Path, rate_hz: int, name: str, codec: str):
    path = make_video(tmp_path / name, Picture(steady(75)), sweep_sound(3, rate_hz, codec))
    clip = decode_clip(path, REQUEST)
    assert clip.waveform.shape == (160_000,)
    assert clip.waveform.dtype == np.float32
    assert heard_at(clip) == pytest.approx(AT, abs=MILLISECOND)
    if codec != "aac":
        onset = np.argmax(np.abs(clip.waveform) > 0.1) / RATE_HZ
        assert onset == pytest.approx(AT, abs=MILLISECOND)
        assert np.abs(clip.waveform[: round((AT - 0.05) * RATE_HZ)]).max() < 1e-3
        assert np.abs(clip.waveform).max() == pytest.approx(0.5, abs=0.03)


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


def test_a_short_clip_ends_in_its_last_frame_and_silence(tmp_path: Path):
    clip = decode_clip(make_video(tmp_path / "clip.mkv", Picture(steady(75)), sweep_sound()), REQUEST)
    assert clip.duration_seconds == pytest.approx(3, abs=MILLISECOND)
    assert_shows(clip, steady(75))
    assert (numbers_in(clip.frames)[3:] == 74).all()
    assert not clip.waveform[3 * RATE_HZ :].any()


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


# Containers and names


@pytest.mark.parametrize(
    ("name", "picture", "codec", "container"),
    [
        ("clip.mp4", Picture(steady(75)), "aac", None),
        ("clip.mp4", Picture(steady(75)), "libmp3lame", None),
        ("clip.mp4", Picture(steady(75), options={"bf": "0"}), "ac3", None),
        ("clip.mp4", Picture(steady(75), "libx265", options={"x265-params": "log-level=none"}), "aac", None),
        ("clip.mp4", Picture(steady(75), "mpeg4", time_base=TICK_25), "aac", None),
        ("clip.m4v", Picture(steady(75)), "aac", "mp4"),
        ("clip.mov", Picture(steady(75)), "aac", None),
        ("clip.mov", Picture(steady(75), "mjpeg", options={"strict": "unofficial"}), "pcm_s16le", None),
        ("clip.mkv", Picture(steady(75)), "aac", None),
        ("clip.mkv", Picture(steady(75), "ffv1"), "flac", None),
        ("clip.mkv", Picture(steady(75), "libx265", options={"x265-params": "log-level=none"}), "libopus", None),
        ("clip.webm", Picture(steady(75), "libvpx-vp9", options=VPX_FAST), "libopus", None),
        ("clip.webm", Picture(steady(75), "libvpx", options=VPX_FAST), "libopus", None),
        ("clip.avi", Picture(steady(75), "mpeg4", time_base=TICK_25), "pcm_s16le", None),
        ("clip.avi", Picture(steady(75), "mjpeg", time_base=TICK_25, options={"strict": "unofficial"}), "ac3", None),
        ("clip of no suffix", Picture(steady(75)), "aac", "mp4"),
    ],
    ids=lambda value: f"{value.codec}" if isinstance(value, Picture) else str(value),
)
def test_containers_and_codecs(tmp_path: Path, name: str, picture: Picture, codec: str, container: str | None):
    clip = decode_clip(make_video(tmp_path / name, picture, sweep_sound(codec=codec), container=container), REQUEST)
    if name == "clip.avi" and codec == "ac3":  # AVI has no times: what the encoder primes with delays the sound
        assert heard_at(clip) == pytest.approx(AT, abs=0.05)
        assert np.abs(numbers_in(clip.frames) - on_display(steady(75))).max() <= 1
        return
    assert_shows(clip, steady(75), 2 * MILLISECOND)
    assert heard_at(clip) == pytest.approx(AT, abs=MILLISECOND)


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


@pytest.mark.parametrize(
    "name",
    [
        "two words.mp4",
        "salt & pepper.mp4",
        "Straße 東京.mp4",
        "-dash.mp4",
        "12:30.mp4",
        "http:clip.mp4",
        "file:clip.mp4",
        "concat:clip.mp4",
        "pipe:0",
        "picture%03d.mp4",
        "what?.mp4",
        "#1.mp4",
        "a|b*.mp4",
        "a\nb.mp4",
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="most of these names are not allowed on Windows")
def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    shutil.move(make_video(tmp_path / "plain.mp4", Picture(steady(25)), sweep_sound()), tmp_path / name)
    assert heard_at(decode_clip(Path(name), REQUEST)) == pytest.approx(AT, abs=MILLISECOND)


def test_a_name_that_is_not_unicode(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"\xff\xfe.mp4")
    try:
        shutil.move(short_video(tmp_path / "plain.mp4"), path)
    except OSError:
        pytest.skip("this file system wants Unicode")
    assert heard_at(decode_clip(path, REQUEST)) == pytest.approx(AT, abs=MILLISECOND)


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


# Refusals


def make_no_audio(path: Path) -> None:
    make_video(path, Picture(steady(25)))


def make_no_video(path: Path) -> None:
    make_video(path, None, sweep_sound())


def make_only_cover(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as output:
        output.add_attachment("cover.jpg", "image/jpeg", cover())
        stream = output.add_stream("pcm_s16le", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def cover() -> bytes:
    image = io.BytesIO()
    av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24").to_image().save(image, "jpeg")
    return image.getvalue()


def make_cut_index(path: Path) -> None:
    """The index of a plain MP4 file is its end."""
    short_video(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_playlist(path: Path) -> None:
    short_video(path.with_name("segment.ts"), container="mpegts")
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nsegment.ts\n#EXT-X-ENDLIST\n")


def make_concatenation(path: Path) -> None:
    short_video(path.with_name("part.mp4"))
    path.write_text("ffconcat version 1.0\nfile part.mp4\n")


def make_unknown_codec(path: Path) -> None:
    content = short_video(path).read_bytes()
    assert content.count(b"V_MPEG4/ISO/AVC") == 1
    path.write_bytes(content.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))


REFUSALS: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("clip.mp4", make_no_audio, "no audio stream", "add the stream"),
    ("clip.mp4", make_no_video, "no video stream", "add the stream"),
    ("clip.mkv", make_only_cover, "no video stream", "add the stream"),
    ("clip.mp4", lambda path: path.write_bytes(b""), "is empty", "Fetch it again"),
    ("clip.mp4", lambda path: path.write_text("This is no video.\n" * 99), "Invalid data", "Check that it plays"),
    ("clip.mp4", make_cut_index, "Invalid data", "fetch or convert it again"),
    ("clip.mp4", Path.mkdir, "is not a file", "Check the path"),
    ("clip.mp4", lambda path: None, "no such file", "Check the path"),
    ("clip.m3u8", make_playlist, "cannot be read", "Check that it plays"),
    ("clip.mp4", make_concatenation, "cannot be read", "Check that it plays"),
    ("clip.mkv", make_unknown_codec, "no decoder for its video", "Convert the file"),
]


@pytest.mark.parametrize(("name", "make", "reason", "remedy"), REFUSALS, ids=[reason for _, _, reason, _ in REFUSALS])
def test_what_cannot_be_decoded_is_refused(
    tmp_path: Path, name: str, make: Callable[[Path], object], reason: str, remedy: str
):
    path = tmp_path / name
    make(path)
    with pytest.raises(DecodeError) as raised:
        decode_clip(path, REQUEST)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert remedy in message


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path):
    path = short_video(tmp_path / "clip.mp4")
    path.chmod(0)
    with pytest.raises(DecodeError, match=r"clip\.mp4: .*Permission denied"):
        decode_clip(path, REQUEST)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(DecodeError, match="is not a file"):
        decode_clip(tmp_path / "clip.mp4", REQUEST)


@pytest.mark.parametrize(
    ("name", "codec", "time_base"),
    [("clip.mp4", "libx264", Fraction(1, 30_000)), ("clip.webm", "libvpx", TICK_25), ("clip.avi", "mpeg4", TICK_25)],
)
def test_pictures_over_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, time_base: Fraction
):
    sound = sweep_sound(codec="libopus" if name == "clip.webm" else "ac3")
    path = make_video(tmp_path / name, Picture(steady(25), codec, time_base=time_base), sound)
    monkeypatch.setattr(decoding, "_MAX_PIXELS", HEIGHT * WIDTH * 32)  # FFmpeg counts its own padding
    decode_clip(path, REQUEST)
    monkeypatch.setattr(decoding, "_MAX_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.raises(DecodeError, match=rf"{name}: its pictures are larger than the 3071 pixels.*Scale"):
        decode_clip(path, REQUEST)


def test_pictures_that_grow_over_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = Picture(steady(50, start_seconds=1)), sweep_sound(2, codec="mp2", start_seconds=Fraction(1))
    larger = Picture(steady(75, start_seconds=3), height=4 * HEIGHT, width=4 * WIDTH, options={"bf": "0"})
    path = joined(tmp_path, one, (larger, sweep_sound(3, codec="mp2", start_seconds=Fraction(3))))
    numbers = numbers_in(decode_clip(path, REQUEST).frames)
    assert (numbers[1] > 20).all()
    assert numbers[4, -1] > 70  # scaled like the small ones
    monkeypatch.setattr(decoding, "_MAX_PIXELS", 2 * HEIGHT * WIDTH)
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


@pytest.mark.parametrize(
    ("name", "codec", "more"),
    [
        ("clip.mp4", "aac", {"options": {"movflags": "+faststart"}}),
        ("clip.mkv", "aac", {}),
        ("clip.mov", "pcm_s16le", {"options": {"movflags": "+faststart"}}),
        ("clip.ts", "mp2", {"container": "mpegts"}),
    ],
)
@pytest.mark.parametrize("part", [0.8, 0.9])
def test_a_cut_off_file_is_a_shorter_clip(tmp_path: Path, name: str, codec: str, more: dict[str, Any], part: float):
    path = make_video(tmp_path / name, Picture(steady(125)), sweep_sound(5, codec=codec), **more)
    whole = decode_clip(path, REQUEST)
    path.write_bytes(path.read_bytes()[: round(part * path.stat().st_size)])
    clip = decode_clip(path, REQUEST)
    assert 1.5 < clip.duration_seconds < whole.duration_seconds
    kept = int(clip.duration_seconds)
    np.testing.assert_array_equal(clip.frames[:kept], whole.frames[:kept])
    assert (np.diff(numbers_in(clip.frames).ravel()) >= 0).all()
    assert heard_at(clip) == pytest.approx(heard_at(whole), abs=MILLISECOND)


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
        output.add_attachment("cover.jpg", "image/jpeg", cover())
        streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    assert same(decode_clip(path, REQUEST), decode_clip(plain, REQUEST))
