import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.decoded import RATE_HZ, overwrite_packets
from support.making import Audio, Video, audio_with_sweep, make_video, steady
from support.processes import run

from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.inspect import ClipReport, inspect_clip, report_table

NTSC = Fraction(30_000, 1001)


def audio_of(seconds: float = 10, rate_hz: int = 44_100, layout: str = "mono", **more: object) -> Audio:
    return Audio(audio_with_sweep(1, seconds, rate_hz), rate_hz, layout, "flac", **more)  # type: ignore[arg-type]


def test_a_plain_clip_has_no_remarks(tmp_path: Path):
    path = make_video(tmp_path / "clip.mp4", Video(steady(300, NTSC)), audio_of(layout="stereo"))
    report = inspect_clip(path)
    assert report.path == path
    assert report.duration_seconds == pytest.approx(10.01, abs=0.002)
    assert report.covered_seconds == 10
    assert not report.silent
    assert report.problems == report.remarks == ()
    assert report.video is not None
    assert report.video.rate_hz == pytest.approx(float(NTSC), rel=1e-4)
    assert report.video.constant_rate
    assert not report.video.interlaced
    video, audio = report.video, report.audio
    assert (video.codec, video.width, video.height, video.rotation_degrees) == ("h264", 64, 48, 0)
    assert (video.pixel_format, video.bit_depth, video.start_seconds) == ("yuv420p", 8, 0)
    assert audio is not None
    assert (audio.codec, audio.sample_rate_hz, audio.channels, audio.layout) == ("flac", 44_100, 2, "stereo")
    assert audio.start_seconds == 0


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm", "clip.avi", "clip.ts"])
def test_constant_rates_are_constant_in_every_container(tmp_path: Path, name: str):
    codec = {"clip.webm": "libvpx-vp9", "clip.avi": "mpeg4"}.get(name, "libx264")
    fast = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {}
    stream = Video(steady(90, 30), codec, options=fast, time_base=Fraction(1, 30 if name == "clip.avi" else 30_000))
    video = inspect_clip(make_video(tmp_path / name, stream)).video
    assert video is not None
    assert video.constant_rate
    assert video.rate_hz == pytest.approx(30, rel=1e-3)


def test_a_variable_rate_is_reported(tmp_path: Path):
    steps = random.Random(0).choices([20, 40, 100], k=200)
    seconds = [Fraction(sum(steps[:i]), 1000) for i in range(200)]
    report = inspect_clip(make_video(tmp_path / "clip.mp4", Video(seconds), audio_of()))
    assert report.video is not None
    assert not report.video.constant_rate
    assert report.video.rate_hz == pytest.approx(199 / float(seconds[-1]), rel=0.1)
    assert any(f"variable frame rate, {report.video.rate_hz:.2f}" in remark for remark in report.remarks)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_rotation_is_clockwise(tmp_path: Path, quarter_turns: int):
    stream = Video(steady(25), height=96, width=64, quarter_turns=quarter_turns)
    video = inspect_clip(make_video(tmp_path / "clip.mp4", stream, audio_of(1))).video
    assert video is not None
    assert video.rotation_degrees == 360 - 90 * quarter_turns
    assert (video.height, video.width) == ((64, 96) if quarter_turns % 2 else (96, 64))  # as stored


def test_ten_bits_and_fields_are_reported(tmp_path: Path):
    deep = Video(steady(25), pixel_format="yuv420p10le")
    video = inspect_clip(make_video(tmp_path / "deep.mp4", deep, audio_of(1))).video
    assert video is not None
    assert (video.pixel_format, video.bit_depth) == ("yuv420p10le", 10)
    fields = Video(steady(25), options={"x264-params": "tff=1"})
    report = inspect_clip(make_video(tmp_path / "fields.mp4", fields, audio_of(1)))
    assert report.video is not None
    assert report.video.interlaced
    assert any("interlaced" in remark for remark in report.remarks)


@pytest.mark.parametrize(("level", "silent"), [(0, True), (0.0009, True), (0.0012, False)])
def test_silence_ends_at_60_decibels_below_full_scale(tmp_path: Path, level: float, silent: bool):
    samples = level * np.sin(np.arange(3 * 16_000) / 5)
    path = make_video(tmp_path / "clip.mkv", Video(steady(75)), Audio(samples, 16_000, codec="pcm_f32le"))
    report = inspect_clip(path)
    assert report.silent == silent
    assert any("silent" in remark for remark in report.remarks) == silent


def test_lengths_and_starts_are_reported(tmp_path: Path):
    late = audio_of(3, start_seconds=Fraction(1, 2))
    report = inspect_clip(make_video(tmp_path / "short.mkv", Video(steady(75)), late))
    assert report.covered_seconds == pytest.approx(3.5, abs=0.002)
    assert report.video is not None
    assert report.audio is not None
    assert (report.video.start_seconds, report.audio.start_seconds) == (0, 0.5)
    assert report.remarks == (
        "shorter than ten seconds: padded from 3.50 s on",
        "audio starts 0.50 s after video",
    )
    report = inspect_clip(make_video(tmp_path / "long.mp4", Video(steady(130, 10)), audio_of(13)))
    assert report.duration_seconds == pytest.approx(13, abs=0.002)
    assert report.covered_seconds == 10
    assert report.remarks == ("longer than ten seconds: only the first ten of 13.0 s are used",)


def test_the_clips_that_a_data_set_uses_are_looked_at(tmp_path: Path):
    samples = np.zeros(45 * RATE_HZ, np.float32)
    samples[22 * RATE_HZ : 23 * RATE_HZ] = 0.5
    video = Video(steady(90, 2), options={"bf": "0"})
    path = make_video(tmp_path / "long.mkv", video, Audio(samples, RATE_HZ, codec="flac"))
    (tmp_path / "set.csv").write_text("path,start,end,label\nlong.mkv,12,14,Dog\nlong.mkv,22,24,Dog\n")
    report = inspect_clip(path, [10, 20])
    assert report.covered_seconds == 20
    assert report.remarks == ("longer than ten seconds: 20.0 of 45.0 s are used",)
    assert inspect_clip(path, [0, 10, 40]).remarks == (
        "silent: no sample above -60 dBFS in what is used of it",
        "longer than ten seconds: 25.0 of 45.0 s are used",
    )
    assert inspect_clip(path, [10, 50]).problems == ("ends at 45.00 s, and a clip from 50 s on is wanted",)
    assert "30.0 of 45.0 s are used" in run("ccln-extract", "--check", tmp_path / "set.csv").stdout
    overwrite_packets(path, "audio", lambda time: 37 <= time < 37.2)
    assert "its audio is damaged at 37." in inspect_clip(path, [10, 30]).problems[0]
    assert inspect_clip(path, [10]).problems == ()


def test_a_missing_stream_is_a_problem_or_a_remark_as_asked(tmp_path: Path):
    mute = make_video(tmp_path / "mute.mp4", Video(steady(250)))
    blind = make_video(tmp_path / "blind.mp4", None, audio_of())
    for path, message in ((mute, "no audio stream, or nothing in it"), (blind, "no video stream, or nothing in it")):
        failing, allowed = inspect_clip(path), inspect_clip(path, missing_fails=False)
        assert (failing.problems, failing.remarks) == ((message,), ())
        assert (allowed.problems, allowed.remarks) == ((), (message,))
        assert not failing.silent
    assert inspect_clip(mute).audio is None
    assert inspect_clip(blind).video is None


def damaged(path: Path) -> None:
    make_video(path, Video(steady(75), options={"bf": "0"}), audio_of(3))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.pts and packet.pts * packet.time_base > 2)
    assert packet.pos is not None
    content[packet.pos : packet.pos + packet.size] = random.Random(0).randbytes(packet.size)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "make",
    [
        damaged,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("This is no video.\n" * 99),
        Path.mkdir,
        lambda path: None,
    ],
    ids=["damaged", "empty", "no video", "a folder", "not there"],
)
def test_reported_problems_are_the_decoders_error_messages(tmp_path: Path, make):
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(DecodeError) as raised:
        decode_clip(path, FrameRequest(8, 8))
    report = inspect_clip(path)
    assert report.problems == (str(raised.value),)
    assert (report.video is not None) == (make is damaged)


def test_the_table_has_a_line_a_file_and_notes_below_it(tmp_path: Path):
    plain = inspect_clip(make_video(tmp_path / "clip.mp4", Video(steady(250)), audio_of()))
    turned = Video(steady(75, NTSC), height=96, width=64, quarter_turns=3)
    mute = inspect_clip(make_video(tmp_path / "turned.mov", turned), missing_fails=False)
    ghost = inspect_clip(tmp_path / "a\n\x1b[31mred.mp4")
    lines = report_table([plain, mute, ghost]).splitlines()
    assert len(lines) == 1 + 3 + 2 + 1
    heads = [line for line in lines if not line.startswith("    ")]
    columns = [heads[0].index(title) for title in ("seconds", "video", "audio", "covered")]
    for line in heads:
        assert all(line[column - 1] == " " and line[column] != " " for column in columns)
    assert "h264 64x48 25 fps yuv420p" in heads[1]
    assert "flac 44100 Hz mono" in heads[1]
    assert "h264 96x64 29.97 fps yuv420p turned 90" in heads[2]
    assert lines[3].startswith("    remark: no audio")
    assert r"a\n\u001b[31mred.mp4" in heads[3]
    assert lines[-1].startswith("    problem: ")
    assert "no such file" in lines[-1]
    assert all(line.isprintable() for line in lines)


def test_inspection_imports_no_heavy_library():
    code = (
        "import sys, ccln.pipeline.decode.inspect; "
        "print([m for m in ('torch', 'decord', 'librosa') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_report_without_files_is_empty():
    assert report_table([]).split() == ["file", "seconds", "video", "audio", "covered"]
    assert ClipReport(Path("x")).problems == ()
