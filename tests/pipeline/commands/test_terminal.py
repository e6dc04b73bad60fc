"""Names and metadata from outside, printed by real commands: no control reaches the terminal, and no encoding fails."""

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest
from support.cache_clips import SPECIFICATION, make_features, sha
from support.making import Audio, Video, audio_with_sweep, make_video, steady
from support.processes import run

from ccln.cache import FeatureCache
from ccln.model import load_checkpoint, save_checkpoint
from ccln.pipeline.visible import is_control, visible

HOSTILE = "a\x1b]0;owned\x07\x1b[31m\u202egpj\u2066\x9b2J"
FORGED = "b\nfailed: forged\r犬"
UNDECODABLE = os.fsdecode(b"c\xff\xfe\x1b[2J")
UTF8 = {"PYTHONIOENCODING": "utf-8"}
TERMINALS = {
    "utf-8": UTF8,
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
SCRIPT = """
import logging, sys, types
from ccln.pipeline.commands.console import ProgressBar, report, run_function

class KnownError(Exception):
    __module__ = "ccln.test"

def act(how: str, *, wanted: int = 1) -> None:
    '''Act in some way.

    Args:
        how: In which.
        wanted: How much.
    '''
    name = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    if how == "unknown":
        raise RuntimeError(name)
    if how == "known":
        raise KnownError(name)
    with ProgressBar("act", "clip") as bar:
        bar(0, 2)
        bar(1, 2, name)
        bar.print(name + chr(10))
    logging.getLogger("ccln.some").warning("of %s", name)
    print(name, file=sys.stderr)
    sys.stdout.writelines([name, chr(10)])
    report([types.SimpleNamespace(reason=name)])  # a failure; the real one comes with torch

run_function("act", act, lambda call: call() or 0)
"""

each_terminal = pytest.mark.parametrize("terminal", TERMINALS.values(), ids=TERMINALS.keys())


def checked(raw: bytes, keep: str = "\n\t") -> str:
    """What was printed as text, in which no control is left."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    left = [letter for letter in text if is_control(letter) and letter not in keep]
    assert left == [], text
    return text


def act(how: str, name: str, environment: dict[str, str]) -> tuple[str, str]:
    typed = os.fsencode(name)
    words = [sys.executable, "-c", SCRIPT, how]
    done = subprocess.run(words, input=typed, capture_output=True, env={**os.environ, **environment}, timeout=120)
    return checked(done.stdout), checked(done.stderr)


@each_terminal
@pytest.mark.parametrize("name", [HOSTILE, FORGED, UNDECODABLE], ids=["hostile", "forged", "undecodable"])
def test_all_that_a_command_says_is_free_of_controls(name: str, terminal: dict[str, str]) -> None:
    out, errors = act("print", name, terminal)
    plain = "\\u001b" if "\x1b" in name else "forged"
    assert out.count(plain) >= 2
    assert "Traceback" not in errors
    failed = [line for line in errors.splitlines() if line.startswith("failed: ")]
    logged = [line for line in errors.splitlines() if line.startswith("act: of ")]
    # The name printed without `visible` may end a line; failures and what is logged may not.
    assert len(failed) == (2 if name is FORGED else 1)
    assert len(logged) == 1
    assert plain in failed[-1]
    assert plain in logged[0]


@each_terminal
def test_errors_are_free_of_controls_too(terminal: dict[str, str]) -> None:
    _, known = act("known", HOSTILE + FORGED, terminal)
    assert len(known.splitlines()) == 1
    _, unknown = act("unknown", HOSTILE, terminal)
    assert "Traceback" in unknown
    assert "\\u001b]0;owned\\u0007" in unknown


@each_terminal
def test_a_wrong_option_is_shown_without_controls(terminal: dict[str, str]) -> None:
    words = [sys.executable, "-c", SCRIPT, "print", f"--{HOSTILE}"]
    done = subprocess.run(words, capture_output=True, env={**os.environ, **terminal, "COLUMNS": "200"}, timeout=120)
    assert done.returncode == 2
    assert "u001b" in checked(done.stderr)


def on_a_terminal(words: list[str], typed: bytes) -> str:
    """What a process writes to a terminal."""
    near, far = pty.openpty()
    termios.tcsetwinsize(far, (24, 300))
    environment = {**os.environ, **UTF8, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=far, stderr=far, env=environment)
    os.close(far)
    assert process.stdin is not None
    process.stdin.write(typed)
    process.stdin.close()
    read = b"".join(iter(lambda: _read(near), b""))
    os.close(near)
    process.wait(120)
    return read.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_colours_and_progress_of_our_own_still_reach_a_terminal() -> None:
    shown = on_a_terminal([sys.executable, "-c", SCRIPT, "--help"], b"")
    assert "\x1b[" in shown
    assert "\\u001b" not in shown
    refused = on_a_terminal([sys.executable, "-c", SCRIPT, "print", "--wantde", "3"], b"")
    assert "\x1b[" in refused
    assert "--wanted" in refused
    moving = on_a_terminal([sys.executable, "-c", SCRIPT, "print"], os.fsencode(HOSTILE))
    assert "\ract" in moving  # the bar is drawn again in its line
    assert "\\r" not in moving
    assert "\x1b]0" not in moving
    assert "\u202e" not in moving
    assert moving.count("\\u001b]0;owned") >= 4  # the note, the text above, the log, and the failure


def script(name: str, *words: object, terminal: dict[str, str] | None = None) -> tuple[str, str]:
    """Run a command; returns what it writes, free of controls."""
    terminal = terminal or UTF8
    if encoding := terminal.get("PYTHONIOENCODING", "").removesuffix(":strict"):
        shown = run(name, *words, encoding=encoding)
        out, errors = shown.stdout.encode(encoding), shown.stderr.encode(encoding)
    else:  # names of files are in another encoding, too, which a process has from its start
        arguments = [os.fsencode(str(word)) for word in (Path(sys.executable).with_name(name), *words)]
        done = subprocess.run(arguments, capture_output=True, env={**os.environ, **terminal}, timeout=250)
        out, errors = done.stdout, done.stderr
    assert b"Traceback" not in errors, errors.decode(errors="replace")
    return checked(out), checked(errors)


@pytest.fixture(scope="module")
def hostile_videos(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos and two damaged files, all with hostile names."""
    folder = tmp_path_factory.mktemp("hostile") / HOSTILE
    folder.mkdir()
    video = next((tiny_set / "AVE").iterdir())
    for name in (HOSTILE, UNDECODABLE):
        shutil.copy(video, folder / f"{name}.mp4")
    for name in (FORGED, f"{UNDECODABLE}-damaged"):
        (folder / f"{name}.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def hostile_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose classes and warnings are hostile."""
    checkpoint = load_checkpoint(tiny_run)
    names = tuple(f"{HOSTILE} {number}\n" for number, _ in enumerate(checkpoint.class_names))
    training = {**checkpoint.training, "warnings": [HOSTILE, FORGED]}
    folder = tmp_path_factory.mktemp("runs") / HOSTILE
    save_checkpoint(folder, replace(checkpoint, class_names=names, training=training))
    return folder


@pytest.mark.slow
@each_terminal
def test_extraction_and_its_cache(hostile_videos: Path, tmp_path: Path, terminal: dict[str, str]) -> None:
    refused = script("ccln-extract", hostile_videos, "--cache", tmp_path / UNDECODABLE, terminal=terminal)[1]
    assert "must be text in UTF-8" in refused.splitlines()[-1]
    cache = tmp_path / HOSTILE if terminal is not TERMINALS["C"] else tmp_path / "\x1b[31m"
    out, errors = script("ccln-extract", hostile_videos, "--cache", cache, terminal=terminal)
    assert out.startswith("1 done, 1 cached, 2 failed")
    assert len([line for line in errors.splitlines() if line.startswith("failed: ")]) == 2
    out, _ = script("ccln-extract", "--check", hostile_videos, terminal=terminal)
    assert out.count("problem: ") == 2
    (entry,) = cache.rglob("*.safetensors")
    assert "1 clip," in script("ccln-cache", "info", "--cache", cache, terminal=terminal)[0]
    entry.write_bytes(entry.read_bytes()[:-1])
    assert len(script("ccln-cache", "verify", "--cache", cache, terminal=terminal)[1].splitlines()) == 2
    script("ccln-cache", "repair", "--cache", cache, terminal=terminal)


def test_titles_and_languages_of_tracks_are_checked_without_controls(tmp_path: Path) -> None:
    sound = audio_with_sweep(0, 1, 44_100)
    tracks = [Audio(sound, metadata={"title": f"{HOSTILE}\nremark: forged", "language": "\x1b[5m"}) for _ in range(2)]
    video = make_video(tmp_path / "tracks.mkv", Video(steady(25)), tracks)
    out, _ = script("ccln-extract", "--check", video)
    assert "\\u001b]0;owned\\u0007" in out
    assert not [line for line in out.splitlines() if line.startswith("remark: ")]


def test_metadata_of_entries_is_shown_without_controls(tmp_path: Path) -> None:
    made_by = {**SPECIFICATION, "visual": {"name": f"{HOSTILE}\nforged"}}
    FeatureCache(tmp_path).write(
        make_features(), source_sha256=sha(0), source_path=Path(HOSTILE), specification=made_by
    )
    out, _ = script("ccln-cache", "info", "--cache", tmp_path)
    assert "\\u001b]0;owned" in out
    assert "\nforged" not in out


@pytest.mark.slow
@each_terminal
def test_localization(hostile_videos: Path, hostile_run: Path, terminal: dict[str, str], tmp_path: Path) -> None:
    words = ("ccln-localize", hostile_videos, "--checkpoint", hostile_run, "--classes", "trained")
    table, errors = script(*words, "--threshold", 0.01, terminal=terminal)
    assert table.count("\\u001b]0;owned") > 2
    assert "  event  " in table
    assert len([line for line in errors.splitlines() if line.startswith("failed: ")]) == 2
    rows = list(csv.reader(io.StringIO(script(*words, "--format", "csv", terminal=terminal)[0])))
    assert {len(row) for row in rows} == {8}
    document = json.loads(script(*words, "--format", "json", terminal=terminal)[0])
    paths = {video["path"] for video in document["videos"]}
    if terminal is UTF8:
        assert paths == {str(hostile_videos / f"{name}.mp4") for name in (HOSTILE, UNDECODABLE)}
    formats = ("json", "csv", "webvtt", "srt", "audacity", "elan", "label-studio")
    chosen = [word for name in formats for word in ("--format", name)]
    page = tmp_path / "page.html"
    made = ("--out", tmp_path / HOSTILE, "--html", page, "--plot", tmp_path / "plots", "--video", tmp_path / "videos")
    script(*words, *chosen, *made, terminal=terminal)
    assert len([path for path in (tmp_path / HOSTILE).iterdir() if path.suffix != ".xml"]) == 2 * len(formats)
    checked(page.read_bytes())
    for path in (tmp_path / HOSTILE).glob("*.csv"):
        path.read_bytes().decode("utf-8")


@pytest.mark.slow
@each_terminal
def test_training_and_evaluation(tiny_set: Path, tiny_cache: Path, tmp_path: Path, terminal: dict[str, str]) -> None:
    data, run = tmp_path / HOSTILE, tmp_path / "\x1b[31m\x07"
    shutil.copytree(tiny_set, data)
    out, _ = script("ccln-train", "--data", data, "--cache", tiny_cache, "--out", run, "--epochs", 1, terminal=terminal)
    assert "page: " in out
    refused = script("ccln-train", "--data", data, "--out", tmp_path / UNDECODABLE, terminal=terminal)[1]
    assert "must be text in UTF-8" in refused
    checked((run / "report.html").read_bytes())
    out, _ = script("ccln-evaluate", run, "--cache", tiny_cache, "--json", tmp_path / "e.json", terminal=terminal)
    assert visible(HOSTILE)[:15] in out


def test_readers_of_annotations_refuse_without_controls(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").touch()
    for name in (HOSTILE, FORGED, UNDECODABLE):
        file = tmp_path / f"{name}.eaf"
        file.write_bytes(b"<a")
        _, errors = script("ccln-data", "import", file, "--media-root", tmp_path)
        assert len(errors.splitlines()) == 2  # the file is no video, and no annotations
    table = tmp_path / "set.csv"
    table.write_text(f"path,start,end,label\n{HOSTILE}.mp4,0,1,Dog\n", "utf-8")
    assert len(script("ccln-data", "check", "--data", table)[1].splitlines()) == 1
