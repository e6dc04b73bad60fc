"""Evaluating on sets that hold no more than what is evaluated."""

from pathlib import Path

import pytest
from support.training_clips import made_up, made_up_set, rows_of, store

from ccln import evaluate, train
from ccln.cache import FeatureCache
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.evaluate import EvaluationError

pytestmark = pytest.mark.usefixtures("one_core", "no_curves")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on a made-up set of three classes, and the cache."""
    folder = tmp_path_factory.mktemp("run")
    data, cache, config = made_up_set(folder)
    return train(data, cache=cache, config=config, out=folder / "run", epochs=3).folder, cache


def csv_of(folder: Path, cache: Path, split: str, classes: tuple[str, ...]) -> Path:
    """A data set of new clips of these classes, all in one split."""
    lines = ["path,start,end,label,split"]
    for name, label, start, end in rows_of("new", 9):
        if label not in classes:
            continue
        store(FeatureCache(cache), name, made_up((name, label, start, end)))
        lines.append(f"{name}.mp4,{start},{end},{label},{split}")
    (folder / "set.csv").write_text("\n".join(lines))
    return folder / "set.csv"


def test_a_set_of_a_test_split_alone_is_evaluated(run: tuple[Path, Path], tmp_path: Path):
    folder, cache = run
    report = evaluate(folder, data=csv_of(tmp_path, cache, "test", ("Bark", "Cat", "Flute")), cache=cache)
    assert report.scores.clips == 9
    assert report.trained_on == 0
    assert list(report.baselines) == ["always background", "oracle class, every segment an event"]
    with pytest.raises(DatasetError, match="the validation split has no clip"):
        evaluate(folder, data=tmp_path / "set.csv", cache=cache, split="validation")


def test_a_set_of_some_of_the_classes_is_evaluated(run: tuple[Path, Path], tmp_path: Path):
    folder, cache = run
    report = evaluate(folder, data=csv_of(tmp_path, cache, "validation", ("Cat",)), cache=cache, split="validation")
    assert report.scores.clips == 3
    assert {entry["name"]: entry["clips"] for entry in report.as_dict()["classes"]} == {"Bark": 0, "Cat": 3, "Flute": 0}


def test_a_class_that_the_network_does_not_know_is_refused(run: tuple[Path, Path], tmp_path: Path):
    folder, cache = run
    data = csv_of(tmp_path, cache, "test", ("Cat",))
    data.write_text(data.read_text().replace("Cat", "Owl"))
    with pytest.raises(EvaluationError, match="Only the data set has: Owl"):
        evaluate(folder, data=data, cache=cache)
