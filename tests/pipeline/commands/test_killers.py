"""Commands over videos of which some end the process that reads them: each costs itself alone."""

import shutil
from pathlib import Path

import pytest
from support import killers

from ccln.pipeline.commands.data import data_command
from ccln.pipeline.commands.localize import localize_command

CAUSES = {
    "segfault": "its decoder crashed (SIGSEGV)",
    "abort": "its decoder crashed (SIGABRT)",
    "spin": "its decoder ran out of time (",
    "demand": "its decoder ran out of memory (",
    "divide": "an unforeseen error (ZeroDivisionError",
}


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int | str | None:
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    with pytest.raises(SystemExit) as ended:
        localize_command() if words[0] == "ccln-localize" else data_command()
    return ended.value.code


def copies(folder: Path, names: list[str], video: Path) -> list[Path]:
    folder.mkdir()
    return [Path(shutil.copy(video, folder / f"{name}.mp4")) for name in names]


def lines_of(path: Path, text: str) -> list[str]:
    return [line for line in text.splitlines() if str(path) in line]


def test_a_video_that_kills_its_drawing_is_one_line_and_leaves_no_file(
    tiny_set: Path,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video = next((tiny_set / "AVE").iterdir())
    one, *killing, other = copies(tmp_path / "in", ["a", *CAUSES, "b"], video)
    call = ["ccln-localize", "--checkpoint", tiny_run, "--jobs", 2, "--timeout", 8]
    assert run(monkeypatch, *call, one, other, "--video", tmp_path / "alone") == 0
    capsys.readouterr()
    monkeypatch.setattr("ccln.pipeline.report.video.video.draw_video", killers.draw_video)
    assert run(monkeypatch, *call, one, *killing, other, "--video", tmp_path / "out") == 1
    shown = capsys.readouterr()
    for path, cause in zip(killing, CAUSES.values(), strict=True):
        (line,) = lines_of(path, shown.err)
        assert cause in line
    drawn = ["a.events.mp4", "b.events.mp4"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == drawn
    for name in drawn:
        found, expected = ((tmp_path / folder / name).read_bytes() for folder in ("out", "alone"))
        same = found == expected  # not in the assertion: pytest would look for the difference for minutes
        assert same, name


def test_a_video_that_kills_what_listens_is_one_line_of_the_report(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video = next((tiny_set / "AVE").iterdir())
    causes = {name: cause for name, cause in CAUSES.items() if name != "spin"}  # this has its 300 s
    _, *killing, _ = copies(tmp_path / "in", ["a", *causes, "b"], video)
    rows = [f"in/{name}.mp4,0,1,Bark,train" for name in ("a", *causes, "b")]
    (tmp_path / "clips.csv").write_text("\n".join(["path,start,end,label,split", *rows]))
    monkeypatch.setattr("ccln.pipeline.data.media.silences", killers.silences)
    assert run(monkeypatch, "ccln-data", "check", tmp_path / "clips.csv") == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("6 clips of 1 classes")
    warnings = [line for line in shown.err.splitlines() if line.startswith("warning: /")]
    assert len(warnings) == len(killing)
    for path, cause in zip(killing, causes.values(), strict=True):
        (line,) = lines_of(path, "\n".join(warnings))
        assert cause in line


def test_a_video_that_takes_longer_to_listen_to_than_was_allowed_is_reported(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copies(tmp_path / "in", ["a", "sleep"], next((tiny_set / "AVE").iterdir()))
    rows = [f"in/{name}.mp4,0,1,Bark,train" for name in ("a", "sleep")]
    (tmp_path / "clips.csv").write_text("\n".join(["path,start,end,label,split", *rows]))
    monkeypatch.setattr("ccln.pipeline.data.media.silences", killers.silences)
    assert run(monkeypatch, "ccln-data", "check", tmp_path / "clips.csv", "--timeout", 3) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "its decoder " in line]
    assert "in/sleep.mp4: its decoder ran out of time (3 s for 10 s of video). Allow for more: --timeout." in line
