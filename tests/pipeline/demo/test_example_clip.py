"""The example clip holds what its script makes, and the README of its folder names the sources."""

import importlib.util
from types import ModuleType

import av
import numpy as np
import pytest
from support.paths import ROOT

from ccln.pipeline.decode.clip import DecodedClip, decode_clip
from ccln.pipeline.decode.frames import FrameRequest

EXAMPLES = ROOT / "examples"
CLIP = EXAMPLES / "cat.mp4"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("make_cat", EXAMPLES / "make_cat.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clip() -> DecodedClip:
    return decode_clip(CLIP, FrameRequest(60, 80, frames_per_segment=4))


def in_event(script: ModuleType) -> np.ndarray:
    start, end = script.EVENT_SECONDS
    seconds = np.arange(10)
    return (start <= seconds) & (seconds < end)


def test_the_example_is_a_small_file_of_ten_seconds_with_both_streams():
    assert CLIP.stat().st_size <= 400_000
    with av.open(str(CLIP)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.width, video.height) == ("h264", 320, 240)
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 44_100, 1)
        for stream in (video, audio):
            assert stream.start_time == 0
            assert stream.duration is not None
            assert stream.time_base is not None
            assert stream.duration * stream.time_base == 10


def test_the_truth_is_one_event_of_a_cat_and_a_silent_cat_before_it(script: ModuleType):
    start, end = script.EVENT_SECONDS
    assert script.LABEL == "Cat"
    assert script.SILENT_SECONDS[0] == 0 < script.SILENT_SECONDS[1] < start < end < script.CLIP_SECONDS == 10


def test_frames_show_the_cat_in_its_seconds_and_the_cup_otherwise(script: ModuleType, clip: DecodedClip):
    frames = clip.frames.reshape(40, 60, 80, 3).astype(float)
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))  # from frame i to i + 1, four a second
    cuts = {4 * second - 1 for second in (script.SILENT_SECONDS[1], *script.EVENT_SECONDS)}
    assert set(np.flatnonzero(change > 30).tolist()) == cuts
    colour = frames.mean((1, 2)).reshape(10, 4, 3).mean(1)
    is_cat = in_event(script)
    is_cat[slice(*script.SILENT_SECONDS)] = True
    cat, cup = colour[script.EVENT_SECONDS[0]], colour[9]
    closer_to_cat = np.linalg.norm(colour - cat, axis=1) < np.linalg.norm(colour - cup, axis=1)
    np.testing.assert_array_equal(closer_to_cat, is_cat)


def test_each_second_of_the_event_has_one_meow_and_other_seconds_none(script: ModuleType, clip: DecodedClip):
    starts = [meow.start_seconds for meow in script.MEOWS]
    ends = [meow.start_seconds + meow.duration_seconds for meow in script.MEOWS]
    event = np.flatnonzero(in_event(script)).tolist()
    assert [int(start) for start in starts] == [int(end) for end in ends] == event
    loudness_db = 20 * np.log10(np.sqrt(np.mean(clip.waveform.reshape(10, -1) ** 2, axis=1)))
    assert loudness_db[in_event(script)].min() > loudness_db[~in_event(script)].max() + 15


def test_the_audio_of_the_file_is_that_of_the_script(script: ModuleType):
    with av.open(str(CLIP)) as container:
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    computed = script.sound()
    assert np.abs(computed).max() < 1
    assert np.corrcoef(decoded[: len(computed)], computed)[0, 1] > 0.95


def test_a_meow_glides_up_and_down_over_harmonics(script: ModuleType):
    samples, rate_hz = script.sound(), script.SAMPLE_RATE_HZ
    for meow in script.MEOWS:
        pitches = []
        for share in (0.12, 0.35, 0.85):
            first = round((meow.start_seconds + share * meow.duration_seconds) * rate_hz)
            spectrum = np.abs(np.fft.rfft(samples[first : first + 2048] * np.hanning(2048), 1 << 15))
            hertz = np.fft.rfftfreq(1 << 15, 1 / rate_hz)
            lowest = (hertz > 0.55 * meow.highest_hz) & (hertz < 1.08 * meow.highest_hz)
            pitches.append(hertz[lowest][spectrum[lowest].argmax()])
        rising, highest, falling = pitches
        assert highest > rising > falling
        assert highest == pytest.approx(meow.highest_hz, rel=0.06)


def test_the_readme_names_source_author_and_licence_of_every_part():
    rows = [line for line in (EXAMPLES / "README.md").read_text("utf-8").splitlines() if line.startswith("|")]
    parts = {row.split("|")[1].strip(): row for row in rows[2:]}
    for part, image, author in (("cat", "chelsea.png", "Stefan van der Walt"), ("cup", "coffee.png", "Michetti")):
        assert all(word in parts[part] for word in (image, "scikit-image", author, "CC0"))
    assert "make_cat.py" in parts["meows and room"]
    assert "MIT" in parts["meows and room"]
