"""ccln-cache, run as on a command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from support.publishing import publish

from ccln.cache import FeatureCache, Features, specification_digest
from ccln.pipeline.commands.cache import cache_command

LIGHT = {
    "frames_per_segment": 4,
    "visual": {"name": "some-network", "layer": "pool5", "precision": "float32"},
    "audio": {"name": "some-ears", "output": "embedding"},
    "weights_sha256": {"visual": "0123456789abcdef", "audio": None},
}
OTHER = {**LIGHT, "frames_per_segment": 16}


class Shown(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Shown]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in the test's folder and in this process: starting another takes longer than all the tests."""

    def command(*words: object) -> Shown:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["ccln-cache", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cache_command()
        assert isinstance(ended.value.code, int)
        shown = capsys.readouterr()
        return Shown(ended.value.code, shown.out, shown.err)

    return command


def fill(root: Path, specification: dict, clips: int, seconds: float = 10.0, missing: tuple[str, ...] = ()) -> str:
    for number in range(clips):
        features = Features(torch.ones(10, 2, 2, 3).half(), torch.ones(10, 5), seconds, missing)
        FeatureCache(root).write(
            features, source_sha256=f"{number:064x}", source_path=f"{number}.mp4", specification=specification
        )
    return specification_digest(specification)


def test_help_names_every_command(run: Run) -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for name in ("info", "verify", "repair", "prune", "pack", "import-ave", "import-unav", "export-ave", "--version"):
        assert name in shown.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verfy"], "verify"),
        (["info"], "features"),
        (["import-ave", "nowhere"], "nowhere/Annotations.txt"),
        (["import-unav", "nowhere.json", "av_features"], "nowhere.json is missing"),
        (["export-ave", "out"], "--data"),
        (["prune"], "--keep"),
        (["prune", "--keep", "12", "--cache", "full"], "begin so"),
        (["prune", "--runs", "nowhere", "--cache", "full"], "nowhere"),
        (["pack", "--clips-per-shard", "0", "--cache", "full"], "0"),
    ],
)
def test_an_error_is_one_line_with_a_remedy(run: Run, tmp_path: Path, words: list[str], message: str) -> None:
    fill(tmp_path / "full", LIGHT, 1)
    shown = run(*words)
    assert shown.returncode == 2
    assert message in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stderr
    if words != ["verfy"]:
        assert len(shown.stderr.strip().splitlines()) == 1


def test_info_shows_the_entries_and_their_specification(run: Run, tmp_path: Path) -> None:
    digest = fill(tmp_path / "features", LIGHT, 3)
    fill(tmp_path / "features", {**OTHER, "audio": {"name": "\x1b[31mred"}}, 2, 3.5, ("audio",))
    run("pack", "--specification", digest[:10], "--clips-per-shard", 2)
    shown = run("info").stdout
    first, second = shown.split("\n\n")
    for text in (digest[:12], "3 clips", "some-network, pool5, 4 frames a second, float32, weights 01234567"):
        assert text in first
    assert "some-ears, embedding" in first
    assert "visual 10 x 2 x 2 x 3, audio 10 x 5" in first
    assert "3 clips in 2 shards" in first
    for text in ("2 clips", "16 frames a second", "2 shorter than the clip, 2 without audio"):
        assert text in second
    assert "shorter" not in first
    assert "\x1b" not in shown
    (tmp_path / "empty" / "entries").mkdir(parents=True)
    assert "empty holds no features" in run("info", "--cache", "empty").stdout


def test_verify_and_repair_name_damaged_files(run: Run, tmp_path: Path) -> None:
    fill(tmp_path / "features", LIGHT, 3)
    whole = run("verify")
    assert (whole.returncode, whole.stdout) == (0, "3 clips whole, 0 damaged\n")
    assert "3 clips in the new index" in run("repair").stdout
    path = sorted((tmp_path / "features").rglob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    damaged = run("verify")
    assert damaged.returncode == 1
    assert "2 clips whole, 1 damaged" in damaged.stdout
    assert str(path) in damaged.stderr
    assert "ccln-cache repair --cache features" in damaged.stderr
    repaired = run("repair")
    assert repaired.returncode == 1
    assert "2 clips in the new index" in repaired.stdout
    assert str(path) in repaired.stderr
    assert "They are in features/quarantine" in repaired.stderr
    assert (tmp_path / "features" / "quarantine" / path.name).exists()
    assert run("verify").returncode == 0


def test_verify_takes_a_sample(run: Run, tmp_path: Path) -> None:
    fill(tmp_path / "features", LIGHT, 10)
    assert run("verify", "--sample", "20%").stdout == "2 clips of a sample of 20% whole, 0 damaged\n"
    assert run("verify", "--sample", "100").stdout == "10 clips whole, 0 damaged\n"
    for nonsense in ("0%", "101%", "half", "nan%", "-1"):
        refused = run("verify", f"--sample={nonsense}")
        assert refused.returncode == 2
        assert f"--sample {nonsense}: is no part of the clips" in refused.stderr


def test_prune_lists_entries_and_deletes_them_only_on_request(run: Run, tmp_path: Path) -> None:
    kept, gone = fill(tmp_path / "features", LIGHT, 3), fill(tmp_path / "features", OTHER, 2)
    cache = FeatureCache(tmp_path / "features")
    shown = run("prune", "--keep", kept[:8])
    assert shown.returncode == 0
    assert gone[:12] in shown.stdout
    assert "would go: 2 clips" in shown.stdout
    assert set(cache.specifications()) == {kept, gone}
    assert "would go: 0 clips" in run("prune", "--keep", kept[:8], gone).stdout
    assert "deleted: 2 clips" in run("prune", "--keep", kept, "--delete").stdout
    assert set(cache.specifications()) == {kept}


def test_prune_keeps_features_that_checkpoints_were_trained_on(run: Run, tmp_path: Path) -> None:
    from ccln.model import CCLN, Checkpoint, ModelConfig, save_checkpoint

    kept, gone = fill(tmp_path / "features", LIGHT, 3), fill(tmp_path / "features", OTHER, 2)
    model = CCLN(ModelConfig(2, 2, 3, 5, 2))
    save_checkpoint(tmp_path / "runs" / "first", Checkpoint(model, ("a", "b"), LIGHT, {}))
    save_checkpoint(tmp_path / "repeated" / "ablation" / "full" / "seed-0", Checkpoint(model, ("a", "b"), LIGHT, {}))
    readable = fill(tmp_path / "features", {**LIGHT, "visual": {**LIGHT["visual"], "precision": "bfloat16"}}, 4)
    for runs in ("runs", "runs/first", "repeated"):
        shown = run("prune", "--runs", runs).stdout
        assert gone[:12] in shown
        assert "would go: 2 clips" in shown  # neither theirs nor those in the other arithmetic
    save_checkpoint(tmp_path / "other", Checkpoint(model, ("a", "b"), OTHER, {}))
    assert "would go: 0 clips" in run("prune", "--runs", "runs", "other").stdout
    config = tmp_path / "runs" / "first" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "specification": 1}))
    refused = run("prune", "--runs", "runs", "--delete")
    assert refused.returncode == 2
    assert "config.json" in refused.stderr
    assert set(FeatureCache(tmp_path / "features").specifications()) == {kept, readable, gone}


def test_published_features_are_imported_and_exported(run: Run, tmp_path: Path) -> None:
    publish(tmp_path / "ave")
    imported = run("import-ave", "ave")
    assert imported.returncode == 0, imported.stderr
    assert "15 clips imported, 0 there already, 3 of them background only" in imported.stdout
    assert "labels_closs.h5" in imported.stdout
    assert "0 clips imported, 15 there already" in run("import-ave", "ave").stdout
    assert "published AVE features" in run("info").stdout
    packed = run("pack", "--clips-per-shard", 4)
    assert "15 clips packed into 4 new shards" in packed.stdout
    exported = run("export-ave", "out", "--data", "ave")
    assert exported.returncode == 0, exported.stderr
    assert "12 clips and 3 background-only clips" in exported.stdout
    assert "note: train_order_match.h5" in exported.stdout
    again = run("export-ave", "out", "--data", "ave")
    assert again.returncode == 2
    assert "not empty" in again.stderr
    wide = run("export-ave", "wide", "--data", "ave", "--pad")
    assert wide.returncode == 2
    assert "7 x 7" in wide.stderr.splitlines()[-1]
