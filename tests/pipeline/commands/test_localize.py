"""The commands, run as on a command line."""

import csv
import io
import json
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import av
import pytest
from support.processes import run

from ccln.pipeline.commands.localize import FileFormat, PrintedFormat
from ccln.pipeline.report.writers import FORMATS

COMMANDS = ("ccln-extract", "ccln-train", "ccln-localize", "ccln-evaluate", "ccln-cache", "ccln-demo")
TINY = "the folder of a small data set"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_every_option(command: str) -> None:
    shown = run(command, "--help")
    assert shown.returncode == 0
    assert command in shown.stdout
    for line in ("--help", "--version"):
        assert line in shown.stdout


def test_version_is_printed() -> None:
    assert run("ccln-extract", "--version").stdout.strip() == "0.1.0"


@pytest.mark.parametrize(
    ("command", "words", "meant"),
    [
        ("ccln-extract", ["x.mp4", "--cach", "y"], "--cache"),
        ("ccln-extract", ["x.mp4", "--workers", "two"], "--workers"),
        ("ccln-extract", [], "VIDEOS"),
        ("ccln-train", ["--without", "wcl"], "wccl"),
        ("ccln-train", ["--sed", "1"], "--seed"),
        ("ccln-train", ["--task", "clm"], "cml"),
        ("ccln-localize", ["x.mp4", "--format", "jsn"], "json"),
        ("ccln-localize", ["x.mp4", "--jobs", "0"], "--jobs"),
    ],
)
def test_the_error_of_a_wrong_option_names_the_right_one(command: str, words: list[str], meant: str) -> None:
    shown = run(command, *words)
    assert shown.returncode == 2
    assert meant in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("ccln-extract", ["gone.mp4"], "gone.mp4"),
        ("ccln-extract", [".", "--preset", "lihgt"], "light"),
        ("ccln-train", [], "--data"),
        ("ccln-train", ["--data", "."], "Annotations.txt"),
        ("ccln-train", ["--data", TINY, "--seed", "1", "--seeds", "2"], "--seeds"),
        ("ccln-train", ["--data", TINY, "--ablate", "--without", "sbi"], "--without"),
        ("ccln-train", ["--data", TINY, "--task", "cml", "--without", "sbi"], "left out of it: wccl"),
        ("ccln-localize", ["x.mp4", "--checkpoint", "."], "ccln-train"),
        ("ccln-localize", ["x.mp4", "--checkpoint", "."], "config.json"),
        ("ccln-localize", ["x.mp4", "--checkpoint", "x.mp4"], "is a file"),
        ("ccln-localize", ["x.mp4", "--heat-map"], "--video"),
        ("ccln-localize", ["x.mp4", "--format", "srt", "--format", "csv"], "--out"),
        ("ccln-localize", [".", "--format", "srt"], "--out"),
        ("ccln-localize", ["x.mp4", "--out", "events", "--format", "table"], "no --out"),
        ("ccln-demo", ["--out", "."], "--out"),
    ],
)
def test_an_error_is_one_line_with_a_remedy(
    command: str, words: list[str], message: str, tiny_set: Path, tmp_path: Path
) -> None:
    for name in ("x.mp4", "y.mp4"):
        (tmp_path / name).write_bytes(b"nothing")
    shown = run(command, *(str(tiny_set) if word is TINY else word for word in words), cwd=tmp_path)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_three_commands_run_without_options_in_one_folder(tiny_set: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(tiny_set)
    (tmp_path / "config.toml").write_text("[training]\nepochs = 1\n")
    extracted = run("ccln-extract", "videos/", cwd=tmp_path)
    assert extracted.returncode == 0, extracted.stderr
    assert "16 done, 0 cached, 0 failed" in extracted.stdout
    trained = run("ccln-train", "--config", "config.toml", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    for word in ("accuracy", "bg recall", "event F1", "boundary error", "trivial baselines", "oracle class"):
        assert word in trained.stdout
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    located = run("ccln-localize", clip, "--format", "json", cwd=tmp_path)
    assert located.returncode == 0, located.stderr
    assert json.loads(located.stdout)["videos"][0]["path"] == str(clip)


def test_localize_writes_files_and_a_page_and_lists_them(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    words = ("--checkpoint", tiny_run, "--out", "events", "--format", "webvtt", "--format", "json", "--html", "a.html")
    shown = run("ccln-localize", "broken.mp4", clip, *words, cwd=tmp_path)
    assert shown.returncode == 1
    assert shown.stdout == ""
    written, failed = shown.stderr.splitlines()
    assert written == f"written: events/{clip.stem}.vtt, events/{clip.stem}.json, a.html"
    assert "broken.mp4" in failed
    assert (tmp_path / "events" / f"{clip.stem}.vtt").read_text("utf-8").startswith("WEBVTT")
    document = json.loads((tmp_path / "events" / f"{clip.stem}.json").read_text("utf-8"))
    assert document["videos"][0]["path"] == str(clip)
    assert "broken.mp4" in (tmp_path / "a.html").read_text("utf-8")


def test_localize_prints_a_format_and_files_are_json_unless_named(
    tiny_set: Path, tiny_run: Path, tmp_path: Path
) -> None:
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    printed = run("ccln-localize", clip, "--checkpoint", tiny_run, "--format", "elan", "--html", "a.html", cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert "ANNOTATION_DOCUMENT" in ElementTree.fromstring(printed.stdout).tag
    assert printed.stderr == "written: a.html\n"
    written = run("ccln-localize", clip, "--checkpoint", tiny_run, "--out", "events", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert [path.name for path in (tmp_path / "events").iterdir()] == [f"{clip.stem}.json"]


@pytest.mark.parametrize(
    ("words", "named_by"),
    [
        (("--any",), {"none"}),
        (("--classes", "trained"), {"trained", "none"}),
        (("--classes", "open"), {"open", "none"}),
        (("--classes", "both"), {"trained", "open", "none"}),
    ],
)
def test_localize_names_events_by_what_is_asked_for(
    words: tuple[str, ...], named_by: set[str], tiny_set: Path, tiny_run: Path, tmp_path: Path
) -> None:
    clips = sorted((tiny_set / "AVE").iterdir())[:3]
    words = (*words, "--threshold", "0.2", "--checkpoint", str(tiny_run))
    shown = run("ccln-localize", *clips, *words, "--format", "csv", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert rows
    assert {row["named_by"] for row in rows} <= named_by
    names = {row["label"] for row in rows if row["named_by"] == "none"}
    assert names <= {"event" if "--any" in words else "unknown"}
    assert {bool(row["heard"] and row["seen"]) for row in rows} == {"trained" not in words}


def test_the_formats_offered_are_a_table_and_those_that_are_written() -> None:
    assert get_args(FileFormat) == tuple(FORMATS)
    assert get_args(PrintedFormat) == ("table", *FORMATS)


def test_failed_videos_give_exit_code_one_and_are_named(tiny_set: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    shown = run("ccln-extract", clip, "broken.mp4", cwd=tmp_path)
    assert shown.returncode == 1
    assert "1 done, 0 cached, 1 failed" in shown.stdout
    assert "broken.mp4" in shown.stderr


def test_check_extracts_nothing_and_names_files_that_would_fail(tiny_set: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    good = run("ccln-extract", clip, "--check", cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert "h264" in good.stdout
    bad = run("ccln-extract", clip, "broken.mp4", "--check", cwd=tmp_path)
    assert bad.returncode == 1
    assert "broken.mp4" in bad.stdout
    assert not (tmp_path / "features").exists()


def test_a_clip_without_audio_is_skipped_when_asked(tiny_set: Path, tmp_path: Path) -> None:
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    with av.open(str(clip)) as source, av.open(str(tmp_path / "mute.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    shown = run("ccln-extract", "mute.mp4", "--on-missing", "skip", cwd=tmp_path)
    assert shown.returncode == 0
    assert "0 done, 0 cached, 1 skipped, 0 failed" in shown.stdout
    assert "mute.mp4: has no audio stream" in shown.stderr
    checked = run("ccln-extract", "mute.mp4", "--check", cwd=tmp_path)
    assert checked.returncode == 1
    assert "no audio" in checked.stdout


@pytest.mark.slow
def test_several_seeds_give_mean_and_spread_and_finished_runs_are_kept(
    tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    words = ("--data", tiny_set, "--cache", tiny_cache, "--out", "runs", "--epochs", 1, "--seeds", 2, "--task", "weak")
    first = run("ccln-train", *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "±" in first.stdout
    weights = {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/seed-*/model.safetensors")}
    assert len(weights) == 2
    again = run("ccln-train", *words, cwd=tmp_path)
    assert again.stdout == first.stdout
    assert {file: file.stat().st_mtime_ns for file in weights} == weights
