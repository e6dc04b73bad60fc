"""Files of many kinds: each is made with numbered frames and a sweep at known times, and decoded."""

import os
import random
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from support.decoded import AT, MILLISECOND, NTSC, RATE_HZ, REQUEST, TICK_25, audio, video
from support.making import Audio, Video, make_video, numbers_in, on_display, steady, sweep_heard_at

from ccln.pipeline.decode.clip import DecodedClip, decode_clip
from ccln.pipeline.decode.container import DecodeError, MissingStreamError


def uneven(grid: int) -> list[Fraction]:
    """Times of frames at distances from one to 1900 milliseconds over three seconds, on a grid of 1/grid seconds."""
    steps = random.Random(1).choices([2, 8, 40, 55, 300, 900], k=60)
    times = [Fraction(sum(steps[:i]) * grid // 1000, grid) for i in range(60)]
    return [time for time in times if time < 10]


@dataclass(frozen=True)
class Case:
    """A file, and how its decoded content may differ from what was made."""

    id: str
    name: str = "clip.mp4"
    video: Video | None = field(default_factory=video)
    audio: Audio | None = field(default_factory=audio)
    more: dict[str, Any] = field(default_factory=dict)
    """For the muxer."""
    audio_leads: bool = False
    """Whether the audio encoder's priming starts the clock, so that all else is up to 30 ms later."""
    grid_seconds: float = 1e-6
    """How exactly the container keeps times."""
    decord: str = "agrees"
    """"agrees", or why decord refuses."""


def made(tmp_path: Path, case: Case) -> Path:
    for part in (case.video, case.audio):
        if part is not None and part.codec not in av.codecs_available:
            pytest.skip(f"this build of PyAV has no encoder {part.codec}")
    try:
        return make_video(tmp_path / case.name, case.video, case.audio, **case.more)
    except av.error.ArgumentError as error:
        pytest.skip(f"this build of PyAV cannot encode it: {error}")


def shift(times: list[Fraction], by: Fraction) -> list[Fraction]:
    return [time + by for time in times]


CODECS = [
    ("H.264 in MP4", "clip.mp4", video(), audio(codec="aac"), {}),
    ("H.264 at 29.97 in MP4", "clip.mp4", video(steady(90, NTSC)), audio(codec="libmp3lame"), {}),
    ("H.264 without B-frames in MP4", "clip.mp4", video(options={"bf": "0"}), audio(codec="ac3"), {}),
    ("H.264 in open groups in MP4", "clip.mp4", video(options={"g": "12", "x264-params": "open-gop=1"}), audio(), {}),
    (
        "H.264 in fragments in MP4",
        "clip.mp4",
        video(options={"bf": "0"}),
        audio(),
        {"options": {"movflags": "+frag_keyframe"}},
    ),
    ("HEVC in MP4", "clip.mp4", video(codec="libx265"), audio(codec="aac"), {}),
    ("AV1 in MP4", "clip.mp4", video(steady(30), "libsvtav1", height=96, width=128), audio(codec="aac"), {}),
    ("MPEG-4 in MP4", "clip.mp4", video(codec="mpeg4", time_base=TICK_25), audio(codec="aac"), {}),
    ("MPEG-2 in MP4", "clip.mp4", video(codec="mpeg2video", time_base=TICK_25, options={"bf": "2"}), audio(), {}),
    ("M4V", "clip.m4v", video(), audio(codec="aac"), {"container": "mp4"}),
    ("H.264 in MOV", "clip.mov", video(), audio(codec="pcm_s16le"), {}),
    ("M-JPEG in MOV", "clip.mov", video(codec="mjpeg"), audio(codec="aac"), {}),
    ("H.264 in MKV", "clip.mkv", video(), audio(codec="aac"), {}),
    ("HEVC in MKV", "clip.mkv", video(codec="libx265"), audio(codec="libopus"), {}),
    ("FFV1 in MKV", "clip.mkv", video(codec="ffv1"), audio(), {}),
    ("AV1 in MKV", "clip.mkv", video(steady(30), "libsvtav1", height=96, width=128), audio(), {}),
    ("VP9 in WebM", "clip.webm", video(codec="libvpx-vp9"), audio(codec="libopus"), {}),
    ("VP8 in WebM", "clip.webm", video(codec="libvpx"), audio(codec="libopus"), {}),
    ("MPEG-4 in AVI", "clip.avi", video(codec="mpeg4", time_base=TICK_25), audio(codec="pcm_s16le"), {}),
    ("M-JPEG in AVI", "clip.avi", video(codec="mjpeg", time_base=TICK_25), audio(codec="pcm_s16le"), {}),
    ("H.264 in TS", "clip.ts", video(steady(75, start_seconds=9)), audio(codec="mp2", start=9), {}),
    ("HEVC in TS", "clip.ts", video(steady(75, start_seconds=9), "libx265"), audio(codec="mp2", start=9), {}),
    (
        "MPEG-2 in TS",
        "clip.ts",
        video(steady(75, start_seconds=9), "mpeg2video", options={"bf": "2"}, time_base=TICK_25),
        audio(codec="ac3", start=9),
        {},
    ),
    ("no suffix", "clip", video(), audio(codec="aac"), {"container": "mp4"}),
    ("10 bits H.264", "clip.mp4", video(pixel_format="yuv420p10le"), audio(), {}),
    ("10 bits HEVC", "clip.mkv", video(codec="libx265", pixel_format="yuv420p10le"), audio(), {}),
    ("10 bits VP9", "clip.webm", video(codec="libvpx-vp9", pixel_format="yuv420p10le"), audio(codec="libopus"), {}),
    ("4:4:4 H.264", "clip.mp4", video(pixel_format="yuv444p"), audio(), {}),
    ("full range", "clip.mp4", video(pixel_format="yuvj420p"), audio(), {}),
    ("interlaced H.264", "clip.mp4", video(options={"x264-params": "tff=1"}), audio(), {}),
    (
        "interlaced MPEG-2",
        "clip.mkv",
        video(codec="mpeg2video", height=96, time_base=TICK_25, options={"flags": "+ilme+ildct"}),
        audio(),
        {},
    ),
]
STARTS = [(0, 0), (Fraction(1, 2), 0), (0, Fraction(7, 10)), (3, 0), (0, Fraction(5, 2)), (2, 2)]
CASES = [
    *(
        Case(
            id,
            name,
            video_stream,
            audio_stream,
            more,
            audio_leads=name.endswith("ts"),
            grid_seconds=MILLISECOND if name.endswith(("mkv", "webm")) else 2e-5,
            decord="AV1" if video_stream.codec == "libsvtav1" else "agrees",
        )
        for id, name, video_stream, audio_stream, more in CODECS
    ),
    *(
        Case(
            f"variable rate in {name}",
            name,
            video(uneven(grid), codec),
            audio(4, codec=audio_codec),
            grid_seconds=grid_seconds,
        )
        for name, grid, codec, audio_codec, grid_seconds in (
            ("clip.mp4", 30_000, "libx264", "flac", 1e-6),
            ("clip.mkv", 1000, "libx264", "flac", 1e-6),
            ("clip.webm", 1000, "libvpx-vp9", "libopus", 1e-6),
        )
    ),
    *(
        Case(
            f"turned by {90 * turns} in {name}",
            name,
            video(height=96, width=64, quarter_turns=turns),
            audio(codec="aac"),
        )
        for turns in (1, 2, 3)
        for name in ("clip.mp4", "clip.mov")
    ),
    *(
        Case(
            f"video from {float(first)} s, audio from {float(second)} s in {name}",
            name,
            video(steady(75, start_seconds=first)),
            audio(codec="pcm_s16le" if name == "clip.mov" else "flac", start=second),
        )
        for first, second in STARTS
        for name in ("clip.mp4", "clip.mkv", "clip.mov")
    ),
    Case("audio shorter than video", audio=audio(2)),
    Case("audio longer than video", audio=audio(5)),
    *(Case(f"{layout} audio", audio=audio(layout=layout)) for layout in ("stereo", "5.1", "7.1")),
    Case("5.1 AAC", audio=audio(codec="aac", layout="5.1")),
    Case(
        "stereo audio in 8 bits in AVI",
        "clip.avi",
        video(codec="mpeg4", time_base=TICK_25),
        audio(codec="pcm_u8", layout="stereo"),
    ),
    *(
        Case(f"audio at {rate} Hz", audio=audio(rate_hz=rate))
        for rate in (8000, 11_025, 16_000, 22_050, 44_100, 96_000)
    ),
    *(
        Case(f"AAC at {rate} Hz", audio=audio(rate_hz=rate, codec="aac"))
        for rate in (8000, 11_025, 22_050, 44_100, 96_000)
    ),
    Case("no audio", audio=None),
    Case("no audio in TS", "clip.ts", video(steady(75, start_seconds=9)), audio=None, grid_seconds=2e-5),
    Case("no video", video=None),
    Case("no video in WebM", "clip.webm", None, audio(codec="libopus")),
    Case("muted", audio=Audio(np.zeros(3 * 48_000, np.float32), 48_000, "stereo")),
    Case("13 s", video=video(steady(325), options={"preset": "ultrafast"}), audio=audio(13)),
    Case("13 s of video, 2 s of audio", video=video(steady(325), options={"preset": "ultrafast"}), audio=audio(2)),
    Case("13 s of audio, 1 s of video", video=video(steady(25)), audio=audio(13)),
    Case("one frame", video=video(steady(1)), audio=audio(11)),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def expected_times(case: Case, zero: Fraction) -> list[Fraction]:
    return shift(list(case.video.seconds), -zero) if case.video else []


def clock_zero(case: Case) -> Fraction:
    starts = [case.video.seconds[0]] if case.video else []
    return min(starts + ([case.audio.start_seconds] if case.audio else []))


def assert_as_made(case: Case, clip: DecodedClip) -> None:
    """Frames, their times, the sweep, the duration and what is missing are those of the file as it was made."""
    zero = clock_zero(case)
    lead = Fraction(0)
    if case.audio_leads:
        lead = Fraction(float(clip.frame_seconds[0, 0]))
        assert 0 <= lead < 0.03
    times = shift(expected_times(case, zero), lead)
    frames = clip.frame_seconds.shape[1]
    ends = []
    if case.video:
        expected = on_display(times, frames)
        np.testing.assert_array_equal(numbers_in(clip.frames), expected)
        np.testing.assert_allclose(clip.frame_seconds, np.array(times, float)[expected], rtol=0, atol=case.grid_seconds)
        ends.append(times[-1] + (times[1] - times[0] if len(times) > 1 else TICK_25))
    else:
        assert not clip.frames.any()
        np.testing.assert_allclose(clip.frame_seconds.ravel(), (np.arange(10 * frames) + 0.5) / frames)
    lossy = 0.0
    if case.audio:
        start = float(case.audio.start_seconds - zero + lead)
        if case.audio.samples.any():
            assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(start + AT, abs=MILLISECOND)
        else:
            assert not clip.waveform.any()
        length = case.audio.samples.shape[-1] / case.audio.rate_hz
        ends.append(start + length)
        if case.audio.codec not in ("flac", "pcm_s16le", "pcm_u8"):
            lossy = 2048 / case.audio.rate_hz  # the encoder fills its last piece
    else:
        assert not clip.waveform.any()
        lossy = 0.04 * case.name.endswith("ts")  # which do not hold the duration of a frame
    assert clip.duration_seconds == pytest.approx(min(10.0, float(max(ends))), abs=2 * MILLISECOND + lossy)
    assert clip.missing == (("audio",) if not case.audio else ("video",) if not case.video else ())


@each_case
def test_every_kind_of_file_is_decoded_as_it_was_made(tmp_path: Path, case: Case):
    path = made(tmp_path, case)
    clip = decode_clip(path, REQUEST, on_missing="zeros")
    assert_as_made(case, clip)
    if clip.missing:
        with pytest.raises(MissingStreamError, match=rf"{path.name}: has no {clip.missing[0]} stream.*add the stream"):
            decode_clip(path, REQUEST)


@pytest.mark.parametrize("case", [case for case in CASES if case.video], ids=lambda case: case.id)
def test_decord_gives_the_same_frames(tmp_path: Path, case: Case):
    pytest.importorskip("decord")
    path = made(tmp_path, case)
    if case.decord != "agrees":
        with pytest.raises(DecodeError, match=rf"{path.name}: decord cannot decode.*Use the decoder pyav"):
            decode_clip(path, REQUEST, on_missing="zeros", decoder="decord")
        return
    ours = decode_clip(path, REQUEST, on_missing="zeros")
    theirs = decode_clip(path, REQUEST, on_missing="zeros", decoder="decord")
    assert_as_made(case, theirs)
    np.testing.assert_array_equal(theirs.frame_seconds, ours.frame_seconds)
    np.testing.assert_array_equal(theirs.waveform, ours.waveform)
    assert theirs.duration_seconds == ours.duration_seconds
    # The frames are grey, since the two convert colour differently. Only PyAV scales each field on its own.
    error = np.abs(theirs.frames.astype(int) - ours.frames)
    assert error.mean() < 1
    assert error.max() <= (16 if "interlaced" in case.id else 2)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no such policies")
def test_encoding_av1_does_not_change_the_priority_of_this_process(tmp_path: Path):
    """As root it became a real-time process, and so did all processes of later tests, which then blocked each other."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    make_video(tmp_path / "clip.mp4", video(steady(5), "libsvtav1", height=96, width=128))
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
