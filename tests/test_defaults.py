"""What the commands take when they are not told."""

import os
from pathlib import Path

import pytest

from ccln.pipeline.defaults import NothingFoundError, finished_runs, latest_run


def finish(run: str, at_seconds: int) -> None:
    path = Path(run) / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    os.utime(path, (at_seconds, at_seconds))


def test_the_newest_finished_run_is_found_however_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/unfinished/full/seed-0").mkdir(parents=True)
    with pytest.raises(NothingFoundError, match="ccln-train"):
        latest_run()
    for at_seconds, run in enumerate(("runs/z", "runs/several/seed-1", "runs/ablation/without-sbi/seed-0", "runs/a")):
        finish(run, at_seconds)
        assert latest_run() == Path(run)
    assert len(finished_runs(Path("runs"))) == 4
    assert finished_runs(Path("runs/several")) == [Path("runs/several/seed-1")]
