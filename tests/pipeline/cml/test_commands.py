"""Cross-modality localization from the commands: train, repeat, evaluate, and what is refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.training_clips import ave_folder, made_up, made_up_set, rows_of, store

from ccln import evaluate, train
from ccln.cache import FeatureCache
from ccln.model import MatchingNetwork, load_checkpoint
from ccln.pipeline.cml.task import cml_dataset
from ccln.pipeline.commands.evaluate import evaluate_command
from ccln.pipeline.commands.localize import localize_command
from ccln.pipeline.commands.train import train_command
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.features import load_features
from ccln.pipeline.evaluate import EvaluationError
from ccln.pipeline.train.results import TrainingResult
from ccln.pipeline.train.trained_rows import SeenRowsError, trained_rows

BASELINES = ("random start", "always start 0", "most frequent start for the length")


pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Data set, cache, config."""
    return made_up_set(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def result(made: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    data, cache, config = made
    return train(data, task="cml", cache=cache, config=config, epochs=2, out=tmp_path_factory.mktemp("cml") / "run")


@pytest.fixture(scope="module")
def localizing(made: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of localization on the same data set."""
    data, cache, config = made
    return train(data, cache=cache, config=config, epochs=1, out=tmp_path_factory.mktemp("ccln") / "run").folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; returns its exit code, output and errors."""

    def run(command: Callable[[], None], *words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command()
        assert isinstance(ended.value.code, int)
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


def of_set(made: tuple[Path, Path, Path]) -> list[object]:
    return ["--data", made[0], "--cache", made[1], "--config", made[2]]


def test_a_run_is_scored_beside_its_baselines_on_both_splits(result: TrainingResult) -> None:
    assert isinstance(load_checkpoint(result.folder).model, MatchingNetwork)
    metrics = json.loads((result.folder / "metrics.json").read_text())
    for split, prefix in (("test", ""), ("validation", "validation_")):
        assert metrics[split].keys() == {"a2v", "v2a", "clips"}
        assert metrics[split]["clips"] == 3  # of six, three fill their clip
        assert tuple(metrics[f"{prefix}baselines"]) == BASELINES
        assert metrics[f"{prefix}ablated"].keys() == {"searched seconds shuffled"}
    assert metrics["history"][result.best_epoch - 1]["selection"] == result.validation.selection
    training = load_checkpoint(result.folder).training
    assert training["task"] == "cml"
    assert len(trained_rows(training) or ()) == 12


def test_the_table_shows_the_baselines_beside_the_result(
    made: tuple[Path, Path, Path], tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "run"
    code, shown, _ = run(
        train_command, "--task", "cml", *of_set(made), "--out", out, "--epochs", 1, "--without", "wccl", "--watch-test"
    )
    assert code == 0
    for split in ("test", "validation"):
        table = shown[shown.index(f"{split}, 3 clips, beside trivial baselines") :].split("\n\n")[0].splitlines()
        assert [line.split("  ")[0] for line in table[-4:-2]] == ["A2V", "V2A"]
        headings = " ".join(table[1:-4]).split()
        assert sorted(headings) == sorted(" ".join(["CCLN", "CCLN, searched seconds shuffled", *BASELINES]).split())
    assert "mean of A2V and V2A of the epoch that is best on test" in shown
    assert not any(name.startswith("branch") for name in load_file(out / "model.safetensors"))


def test_a_stopped_run_can_be_resumed(made: tuple[Path, Path, Path], result: TrainingResult, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int, note: str) -> None:
        if done == 1:
            raise StoppedError

    options = {"task": "cml", "cache": made[1], "config": made[2], "epochs": 2, "out": tmp_path / "run"}
    with pytest.raises(StoppedError):
        train(made[0], **options, progress=stop)
    train(made[0], **options)
    one, other = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", result.folder))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("words", [["--without", "sbi"], ["--without", "wccl", "--without", "fee"]])
def test_parts_that_the_network_lacks_cannot_be_left_out(
    made: tuple[Path, Path, Path], words: list[str], tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    for several in ([], ["--seeds", 1]):
        code, _, errors = run(
            train_command, "--task", "cml", *of_set(made), "--out", tmp_path / "run", *words, *several
        )
        assert code == 2
        (line,) = [line for line in errors.splitlines() if "without" in line]
        assert f"--without {words[-1]}: the network of --task cml has no such part" in line
        assert line.endswith("left out of it: wccl.")
        assert not (tmp_path / "run").exists()


def test_tables_of_seeds_and_ablation_show_both_directions(
    made: tuple[Path, Path, Path], tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    words = ["--task", "cml", *of_set(made), "--epochs", 1]
    code, shown, _ = run(train_command, *words, "--seeds", 2, "--watch-test", "--out", tmp_path / "seeds")
    assert code == 0
    title, head, line, *_ = shown.splitlines()
    assert (title, " ".join(head.split())) == ("test", "A2V % V2A %")
    assert line.startswith("CCLN ")
    assert "±" in line
    for text in ("A2V of the runs %", "V2A of the runs %", "\nvalidation\n", "\nselected on test: "):
        assert text in shown
    code, shown, _ = run(train_command, *words, "--ablate", "--seeds", 1, "--out", tmp_path / "ablation")
    assert code == 0
    *_, table = shown.split("\nvalidation\n")[1].split("\n\n")[:3]
    head, full, less = table.splitlines()
    assert head.endswith("V2A: full minus this")
    assert full.startswith("full ")
    assert less.startswith("without WCCL ")
    assert {folder.name for folder in (tmp_path / "ablation").iterdir()} == {"full", "report.html", "without-wccl"}


def test_evaluation_gives_the_scores_of_the_training_run(
    made: tuple[Path, Path, Path],
    result: TrainingResult,
    tmp_path: Path,
    run: Callable[..., tuple[int, str, str]],
) -> None:
    metrics = json.loads((result.folder / "metrics.json").read_text())
    for split, prefix in (("test", ""), ("validation", "validation_")):
        code, shown, _ = run(
            evaluate_command, result.folder, "--cache", made[1], "--split", split, "--json", tmp_path / "report.json"
        )
        assert code == 0
        for text in (f"{split}, 3 clips", "random start", "A2V found", "shuffled"):
            assert text in shown
        report = json.loads((tmp_path / "report.json").read_text())
        assert (report["format"], report["version"], report["split"]) == ("ccln-cml-evaluation", 2, split)
        assert report["scores"] == metrics[split]
        assert report["baselines"] == metrics[f"{prefix}baselines"]
        assert report["ablated"] == metrics[f"{prefix}ablated"]
        assert (report["missing"], report["trained_on"]) == (0, 0)
        assert sum(of_class["rows"] for of_class in report["classes"]) == 3


def swapped(made: tuple[Path, Path, Path], target: Path) -> Path:
    """The data set with its test and training rows exchanged."""
    shutil.copytree(made[0], target)
    (target / "trainSet.txt").write_text((made[0] / "testSet.txt").read_text())
    (target / "testSet.txt").write_text((made[0] / "trainSet.txt").read_text())
    return target


def test_trained_rows_are_refused_in_any_data_set_or_split(
    made: tuple[Path, Path, Path],
    result: TrainingResult,
    localizing: Path,
    tmp_path: Path,
    run: Callable[..., tuple[int, str, str]],
) -> None:
    """Six of the 12 training rows have a query."""
    data, cache, _ = made
    other = swapped(made, tmp_path / "other")
    for words in (["--data", other], ["--data", data, "--split", "train"]):
        for checkpoint in (result.folder, localizing):
            code, shown, errors = run(evaluate_command, checkpoint, "--cache", cache, "--task", "cml", *words)
            assert code == 2
            assert "6 of the 6 rows to evaluate on are among those that the checkpoint was trained on" in errors
            assert shown == ""
    # What was the test split is not refused, nor is localization scored on its own training rows.
    assert evaluate(result.folder, data=other, cache=cache, split="train").scores.clips == 3
    seen = evaluate(localizing, data=other, cache=cache)
    assert seen.scores.clips == seen.trained_on == 12


def test_a_single_trained_row_is_refused(made: tuple[Path, Path, Path], result: TrainingResult, tmp_path: Path) -> None:
    train_rows = rows_of("train", 12)
    splits = {"train": train_rows[:3], "val": rows_of("val", 6), "test": [*rows_of("test", 6), train_rows[4]]}
    other = ave_folder(tmp_path / "other", splits)
    with pytest.raises(SeenRowsError, match=r"^1 of the 4 rows .*\(train4\)"):
        evaluate(result.folder, data=other, cache=made[1])


def test_a_checkpoint_without_its_trained_rows_is_not_scored(
    made: tuple[Path, Path, Path], result: TrainingResult, tmp_path: Path
) -> None:
    folder = shutil.copytree(result.folder, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config.pop("config_sha256", None)
    for rows in (None, "", 5, ["0123456789abcdef"]):
        config["training"]["rows"] = rows
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(SeenRowsError, match="does not say which rows"):
            evaluate(folder, data=made[0], cache=made[1])


def test_a_network_is_not_scored_for_a_task_it_has_no_output_for(
    made: tuple[Path, Path, Path], result: TrainingResult, localizing: Path
) -> None:
    with pytest.raises(EvaluationError, match=r"a CCLN, predicts nothing for --task cml\. Train"):
        evaluate(localizing, data=made[0], cache=made[1], task="cml")
    for task in ("supervised", "weak"):
        with pytest.raises(EvaluationError, match=rf"a MatchingNetwork, predicts nothing for --task {task}\. Train"):
            evaluate(result.folder, data=made[0], cache=made[1], task=task)
    assert evaluate(localizing, data=made[0], cache=made[1], task="weak").scores.clips == 6


def test_every_task_records_its_trained_rows(
    made: tuple[Path, Path, Path], result: TrainingResult, localizing: Path
) -> None:
    rows = trained_rows(load_checkpoint(localizing).training)
    assert rows == trained_rows(load_checkpoint(result.folder).training)
    assert len(set(rows or ())) == 12


def test_keys_identify_videos_and_stay_with_their_clips(tmp_path: Path) -> None:
    """One video in two rows, and a row without features."""
    cache = FeatureCache(tmp_path / "cache")
    names = ["one", "two", "three", "four"]
    for name in names:
        store(cache, name, made_up((name, "Bark", 1, 4)))
    rows = [("one", "Bark", 1, 4), ("gone", "Bark", 1, 4), ("two", "Bark", 1, 4), ("one", "Bark", 5, 7)]
    splits = {"train": rows, "val": [("three", "Bark", 1, 4)], "test": [("four", "Bark", 1, 4)]}
    dataset = cml_dataset(read_dataset(ave_folder(tmp_path / "set", splits)))
    clips = load_features(dataset, cache).splits["train"]
    assert [clip.video_id for clip in clips.clips] == ["one", "two", "one"]
    assert clips.keys[0] == clips.keys[2] != clips.keys[1]
    for key, visual in zip(clips.keys, clips.visual, strict=True):
        assert torch.equal(cache.read(key).visual, visual)


def test_localizing_refuses_a_matching_network_in_one_line(
    result: TrainingResult, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    code, _, errors = run(localize_command, tmp_path / "x.mp4", "--checkpoint", result.folder)
    assert code == 2
    (line,) = errors.strip().splitlines()
    for words in ("cross-modality localization", "--task supervised or weak", "--checkpoint"):
        assert words in line
