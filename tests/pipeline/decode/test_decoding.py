"""One clock for frames and audio, waveforms, lengths, containers."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support.decoded import (
    AT,
    MILLISECOND,
    NTSC,
    REQUEST,
    TICK_25,
    assert_shows,
    joined,
    overwrite_packets,
    same,
    sweep_audio,
)
from support.making import (
    HEIGHT,
    WIDTH,
    Audio,
    Video,
    audio_with_sweep,
    make_video,
    numbers_in,
    on_display,
    steady,
    sweep_heard_at,
)

from ccln.pipeline.decode.clip import DecodedClip, decode_clip
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.decode.frames import FrameRequest

RATE_HZ = 16_000


def heard_at(clip: DecodedClip) -> float:
    return sweep_heard_at(clip.waveform, RATE_HZ)


# One clock


@pytest.mark.parametrize("start", [0, 1000, 95_442], ids=str)  # the last one: the 33 bits overflow after 1.7 s
@pytest.mark.parametrize(("codec", "rate_hz"), [("aac", 44_100), ("mp2", 48_000), ("ac3", 48_000)])
def test_transport_streams_may_start_at_any_time(tmp_path: Path, start: int, codec: str, rate_hz: int):
    audio = sweep_audio(rate_hz=rate_hz, codec=codec, start_seconds=Fraction(start))
    video = Video(steady(75, start_seconds=start))
    clip = decode_clip(make_video(tmp_path / "clip.ts", video, audio, container="mpegts"), REQUEST)
    # The encoder's priming comes first and starts the clock: 1024 samples for AAC, less for the others.
    first = clip.frame_seconds[0, 0]
    assert 0 <= first < 0.03
    assert_shows(clip, steady(75, start_seconds=Fraction(round(first * 90_000), 90_000)), 2e-5)
    assert heard_at(clip) - first == pytest.approx(AT, abs=MILLISECOND)


# Audio


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
    audio = Audio(noise, RATE_HZ, layout, codec)  # at 16 kHz nothing is resampled
    clip = decode_clip(make_video(tmp_path / "clip.mkv", Video(steady(75)), audio), REQUEST)
    step = 2**-7 if codec == "pcm_u8" else 2**-15
    np.testing.assert_allclose(clip.waveform[: 3 * RATE_HZ], noise.mean(axis=0), rtol=0, atol=step)
    assert not clip.waveform[3 * RATE_HZ :].any()


@pytest.mark.parametrize("rate_hz", [32_000, 48_000])
def test_audio_comes_at_the_rate_that_is_asked_for(tmp_path: Path, rate_hz: int):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 48_000).astype(np.float32)
    path = make_video(tmp_path / "clip.mkv", Video(steady(75)), Audio(noise, 48_000, codec="pcm_f32le"))
    clip = decode_clip(path, replace(REQUEST, sample_rate_hz=rate_hz))
    assert (clip.sample_rate_hz, clip.waveform.shape) == (rate_hz, (10 * rate_hz,))
    assert np.abs(clip.waveform[round(3.1 * rate_hz) :]).max() < 1e-4
    if rate_hz == 48_000:  # nothing is resampled
        np.testing.assert_array_equal(clip.waveform[: len(noise)], noise)


def test_opposite_channels_cancel(tmp_path: Path):
    mono = audio_with_sweep(AT, 3, 44_100)
    audio = Audio(np.stack([mono, -mono]), 44_100, "stereo", "flac")
    clip = decode_clip(make_video(tmp_path / "clip.mkv", Video(steady(75)), audio), REQUEST)
    assert np.abs(clip.waveform).max() < 1e-4


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_a_gap_in_the_timestamps_is_silent(tmp_path: Path, codec: str):
    rate_hz = 44_100
    samples = 0.3 * np.sin(2 * np.pi * 500 * np.arange(4 * rate_hz) / rate_hz)
    samples[2 * rate_hz :] = audio_with_sweep(1, 2, rate_hz)
    audio = Audio(samples, rate_hz, codec=codec, gap=(0.8, 1.5))
    clip = decode_clip(make_video(tmp_path / "clip.mkv", Video(steady(100)), audio), REQUEST)

    def level(start: float, end: float) -> float:
        return float(np.sqrt(np.mean(clip.waveform[round(start * RATE_HZ) : round(end * RATE_HZ)] ** 2)))

    tone = 0.3 / np.sqrt(2)
    assert level(0.1, 0.75) == pytest.approx(tone, rel=0.05)
    assert level(0.9, 1.45) < 1e-3
    assert level(1.6, 1.95) == pytest.approx(tone, rel=0.05)
    assert heard_at(clip) == pytest.approx(3, abs=MILLISECOND)


def test_audio_may_change_its_channels(tmp_path: Path):
    one = Video(steady(50, start_seconds=1)), Audio(np.zeros(96_000), 48_000, "stereo", "mp2", Fraction(1))
    other = Video(steady(75, start_seconds=3)), sweep_audio(codec="mp2", layout="mono", start_seconds=Fraction(3))
    clip = decode_clip(joined(tmp_path, one, other), REQUEST)
    # The parts overlap by less than what is a gap, and their audio is continuous.
    assert heard_at(clip) - clip.frame_seconds[0, 0] == pytest.approx(2 + AT, abs=0.018)
    assert clip.duration_seconds == pytest.approx(5, abs=0.06)


def test_a_recording_that_follows_another_is_its_continuation(tmp_path: Path):
    one = Video(steady(75, start_seconds=1)), Audio(np.zeros(144_000), 48_000, codec="mp2", start_seconds=Fraction(1))
    other = Video(steady(75, start_seconds=3)), sweep_audio(codec="mp2", start_seconds=Fraction(3))
    clip = decode_clip(joined(tmp_path, one, other), FrameRequest(HEIGHT, WIDTH, 50))
    starts = clip.frame_seconds.ravel()
    numbers = numbers_in(clip.frames).ravel()
    assert (np.diff(starts) >= 0).all()
    assert list(dict.fromkeys(zip(numbers.tolist(), starts > 3.01, strict=True))) == [
        *((number, False) for number in range(75)),
        *((number, True) for number in range(75)),
    ]
    assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(starts[numbers == 0].max() + AT, abs=0.05)


def test_audio_may_not_change_its_rate(tmp_path: Path):
    one = Video(steady(50, start_seconds=1)), sweep_audio(2, 48_000, "mp2", start_seconds=Fraction(1))
    other = Video(steady(75, start_seconds=3)), sweep_audio(3, 32_000, "mp2", start_seconds=Fraction(3))
    with pytest.raises(DecodeError, match=r"joined\.ts: its audio at (1\.9|2\.0)\d s has 32000 Hz.*Convert"):
        decode_clip(joined(tmp_path, one, other), REQUEST)


def test_audio_that_is_not_a_number_is_refused(tmp_path: Path):
    samples = np.zeros(48_000, np.float32)
    samples[24_000] = np.nan
    path = make_video(tmp_path / "clip.mkv", Video(steady(25)), Audio(samples, 48_000, codec="pcm_f32le"))
    with pytest.raises(DecodeError, match=r"clip\.mkv: its audio holds values that are not numbers.*again"):
        decode_clip(path, REQUEST)


# Length


@pytest.mark.parametrize("frames_per_segment", [1, 16])
@pytest.mark.parametrize(("frames", "audio_seconds", "expected"), [(75, 5, 5), (125, 2, 5), (300, 2, 10), (25, 12, 10)])
def test_the_longer_stream_gives_the_duration(
    tmp_path: Path, frames: int, audio_seconds: int, expected: float, frames_per_segment: int
):
    path = make_video(tmp_path / "clip.mkv", Video(steady(frames)), sweep_audio(audio_seconds))
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, frames_per_segment))
    assert clip.duration_seconds == pytest.approx(expected, abs=MILLISECOND)


@pytest.mark.parametrize("audio_seconds", [2, 13])
def test_nothing_after_ten_seconds_is_decoded(tmp_path: Path, audio_seconds: int):
    video = Video(steady(325), options={"bf": "0"})
    long = make_video(tmp_path / "long.mp4", video, sweep_audio(audio_seconds, codec="aac"))
    whole = decode_clip(long, REQUEST)
    assert whole.duration_seconds == 10
    assert_shows(whole, steady(325))
    damaged = [overwrite_packets(long, kind, lambda time: time > 10.1) for kind in ("video", "audio")]
    assert len(damaged[0]) > 70
    assert bool(damaged[1]) == (audio_seconds == 13)
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


@pytest.mark.parametrize("audio_seconds", [2, 60])
def test_a_long_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, audio_seconds: int):
    video = Video(steady(300, 5), "rawvideo", time_base=Fraction(1, 5))
    path = make_video(tmp_path / "clip.mkv", video, sweep_audio(audio_seconds))
    file = CountedFile(path)
    monkeypatch.setattr(Path, "open", lambda *_: file)
    clip = decode_clip(path, REQUEST)
    assert clip.duration_seconds == 10
    assert_shows(clip, steady(300, 5))
    assert 0.15 < file.count / path.stat().st_size < 0.45


# Containers


@pytest.mark.parametrize("container", ["avi", "flv", "mpeg"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_containers_may_lack_start_times_of_their_streams(tmp_path: Path, container: str, b_frames: str):
    codec = {"avi": "mpeg4", "flv": "libx264", "mpeg": "mpeg2video"}[container]
    video = Video(steady(75), codec, time_base=TICK_25, options={"bf": b_frames})
    audio = sweep_audio(rate_hz=44_100, codec={"avi": "libmp3lame", "flv": "aac", "mpeg": "mp2"}[container])
    clip = decode_clip(make_video(tmp_path / "clip", video, audio, container=container), REQUEST)
    numbers = numbers_in(clip.frames)
    # Decoder delay and priming are within one frame and one packet of audio; nothing is lost or out of order.
    assert (np.diff(numbers.ravel()) >= 0).all()
    assert np.abs(numbers - on_display(steady(75))).max() <= 2
    assert heard_at(clip) == pytest.approx(AT, abs=0.03)
    assert clip.duration_seconds == pytest.approx(3, abs=0.1)


def test_metadata_need_not_be_unicode(tmp_path: Path):
    path = make_video(tmp_path / "clip.avi", Video(steady(75), "mpeg4", time_base=TICK_25), sweep_audio(codec="ac3"))
    plain = decode_clip(path, REQUEST)
    titled = make_video(
        tmp_path / "titled.avi",
        Video(steady(75), "mpeg4", time_base=TICK_25),
        sweep_audio(codec="ac3"),
        metadata={"title": "Cafe au lait"},
    )
    content = titled.read_bytes()
    assert b"Cafe au" in content
    titled.write_bytes(content.replace(b"Cafe au", b"Caf\xe9 au"))
    assert same(plain, decode_clip(titled, REQUEST))


def test_two_decoders_at_once_give_the_same_as_one_alone(tmp_path: Path):
    one = make_video(tmp_path / "one.mp4", Video(steady(250)), sweep_audio(10, codec="aac"))
    other = make_video(tmp_path / "other.mkv", Video(steady(299, NTSC), height=96, width=128), sweep_audio(10))
    paths = [one, other] * 2
    alone = [decode_clip(path, REQUEST) for path in (one, other)] * 2
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: decode_clip(path, REQUEST), paths))
    assert all(map(same, alone, together))
    assert not same(alone[0], alone[1])
