"""What the commands use when an option is not given."""

import os
from pathlib import Path

import pytest

from ccln.pipeline.defaults import PRETRAINED, finished_runs, latest_localizing_run, run_named


def finish(run: str, at_seconds: int, config: str = "{}") -> None:
    path = Path(run) / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(config)
    os.utime(path, (at_seconds, at_seconds))


def test_the_newest_finished_run_is_found_however_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/unfinished/full/seed-0").mkdir(parents=True)
    assert latest_localizing_run() is None
    for at_seconds, run in enumerate(("runs/z", "runs/several/seed-1", "runs/ablation/without-sbi/seed-0", "runs/a")):
        finish(run, at_seconds)
        assert latest_localizing_run() == Path(run)
    assert len(finished_runs(Path("runs"))) == 4
    assert finished_runs(Path("runs/several")) == [Path("runs/several/seed-1")]


def test_a_run_of_another_network_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finish("runs/matching", 3, '{"network": "matching"}')
    assert latest_localizing_run() is None
    finish("runs/older", 1, '{"network": "ccln"}')
    finish("runs/newer", 2, '{"network": "ccln"}')
    assert latest_localizing_run() == Path("runs/newer")


def test_the_packaged_network_has_a_name_unless_a_run_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_named("packaged") == run_named(Path("packaged")) == PRETRAINED
    assert run_named("runs/one") == Path("runs/one")
    finish("packaged", 1, '{"network": "ccln"}')
    assert run_named("packaged") == Path("packaged")


@pytest.mark.parametrize("config", ["", "[", "[]", "3", "[" * 100_000, "\udcff"])
def test_a_damaged_run_is_not_skipped(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken, so that loading it names the damage, instead of an older run in its place."""
    monkeypatch.chdir(tmp_path)
    finish("runs/good", 1, '{"network": "ccln"}')
    finish("runs/damaged", 2)
    Path("runs/damaged/config.json").write_bytes(config.encode(errors="surrogateescape"))
    os.utime("runs/damaged/config.json", (2, 2))
    assert latest_localizing_run() == Path("runs/damaged")
