"""Audio whose stated times are some milliseconds off, as live recordings have them, is not torn."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoded import restamped
from support.making import Audio, Video, audio_with_sweep, make_video, steady, sweep_heard_at

from ccln.pipeline.decode.clip import decode_clips
from ccln.pipeline.decode.frames import FrameRequest

REQUEST = FrameRequest(8, 8, 1)
RATE_HZ = 16_000
BANDS_HZ = (0, 250, 500, 1000, 2000, 4000, 8000)


def tone_file(path: Path, seconds: float, pitch_hz: float = 440) -> Path:
    samples = (0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)
    video = Video(steady(round(seconds * 10), 10), options={"preset": "ultrafast", "bf": "0"})
    return make_video(path, video, Audio(samples, RATE_HZ, codec="pcm_s16le"))


def waveform(path: Path) -> np.ndarray:
    return np.concatenate([clip.waveform for clip in decode_clips(path, REQUEST)])


def band_levels(samples: np.ndarray) -> np.ndarray:
    """dB in each band, of the loudest window of a quarter of a second: a click is in one of them."""
    windows = samples[: len(samples) // 4000 * 4000].reshape(-1, 4000) * np.hanning(4000)
    power = np.abs(np.fft.rfft(windows)) ** 2
    edges = [round(edge * 4000 / RATE_HZ) for edge in BANDS_HZ]
    levels = [power[:, low:high].sum(axis=1).max() for low, high in pairwise(edges)]
    return 10 * np.log10(np.array(levels) + 1e-12)


@settings(max_examples=40, deadline=None)
@given(
    pitch_hz=st.floats(300, 3000),
    jitter_ms=st.floats(1, 8),
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["clip.mkv", "clip.mov"]),
)
def test_jitter_does_not_distort_a_tone(
    tmp_path_factory: pytest.TempPathFactory, pitch_hz: float, jitter_ms: float, seed: int, name: str
) -> None:
    folder = tmp_path_factory.mktemp("jitter")
    plain = tone_file(folder / "plain.mkv", 6, pitch_hz)
    random = np.random.default_rng(seed)
    jittered = restamped(plain, folder / name, lambda number, seconds: random.uniform(-jitter_ms, jitter_ms) / 1000)
    inner = slice(RATE_HZ // 2, int(5.5 * RATE_HZ))
    before, after = (band_levels(waveform(path)[inner]) for path in (plain, jittered))
    assert (after <= before + 3).all()


@settings(max_examples=10, deadline=None)
@given(gap_ms=st.integers(25, 500))
def test_gaps_are_kept(tmp_path_factory: pytest.TempPathFactory, gap_ms: int) -> None:
    folder = tmp_path_factory.mktemp("gap")
    path = restamped(
        tone_file(folder / "plain.mkv", 4), folder / "gap.mkv", lambda number, seconds: gap_ms / 1000 * (seconds >= 2)
    )
    heard = np.abs(waveform(path)[: 4 * RATE_HZ]) > 0
    silent = np.flatnonzero(~heard[RATE_HZ : 3 * RATE_HZ])
    longest = max(len(run) for run in np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1))
    assert longest == pytest.approx(gap_ms / 1000 * RATE_HZ, abs=0.002 * RATE_HZ)


@pytest.mark.parametrize("drift", [-0.0005, 0.0005])
def test_drift_is_followed_between_clips_alone(tmp_path: Path, drift: float) -> None:
    """A clock of the audio that is 500 millionths off: 5 ms in ten seconds."""
    plain = tone_file(tmp_path / "plain.mkv", 60)
    path = restamped(plain, tmp_path / "drift.mkv", lambda number, seconds: seconds * drift)
    clips = list(decode_clips(path, REQUEST))
    for clip in clips[:-1]:
        inner = clip.waveform[320:-320]
        spectrum = np.abs(np.fft.rfft(inner * np.blackman(len(inner)), 8 * len(inner)))
        beside = np.abs(np.fft.rfftfreq(8 * len(inner), 1 / RATE_HZ) - 440) > 5
        assert spectrum[beside].max() < 1e-3 * spectrum.max()
    samples = audio_with_sweep(55, 60, RATE_HZ)
    plain = make_video(plain, Video(steady(60, 1), options={"bf": "0"}), Audio(samples, RATE_HZ, codec="pcm_s16le"))
    path = restamped(plain, path, lambda number, seconds: seconds * drift)
    assert sweep_heard_at(waveform(path), RATE_HZ) == pytest.approx(55 * (1 + drift), abs=0.008)
