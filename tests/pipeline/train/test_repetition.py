"""Several seeds and the ablation: which runs are made, that finished ones are kept, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.networks import each_ablation
from support.training_clips import made_up_set, prepared

from ccln import train
from ccln.model import Part, load_checkpoint
from ccln.pipeline.metrics.seeds import seeds_table
from ccln.pipeline.train.run import Experiment
from ccln.pipeline.train.state import TrainingError

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(scope="module")
def experiment(options: dict[str, Any]) -> Experiment:
    return prepared(**options)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data, cache, config = made_up_set(tmp_path_factory.mktemp("made"))
    return {"data": data, "cache": cache, "config": config, "epochs": 1}


def test_a_run_of_several_seeds_equals_the_run_of_one(
    experiment: Experiment, options: dict[str, Any], tmp_path: Path
) -> None:
    steps: list[tuple[int, int, str]] = []
    results = experiment.run_seeds(tmp_path / "runs", 2, progress=lambda *step: steps.append(step))
    assert [result.folder for result in results] == [tmp_path / "runs" / f"seed-{seed}" for seed in (0, 1)]
    assert [step[:2] for step in steps] == [(0, 2), (1, 2), (1, 2), (2, 2)]
    alone = train(**options, out=tmp_path / "alone", seed=1)
    one, other = (load_file(folder / "model.safetensors") for folder in (results[1].folder, alone.folder))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "100" not in seeds_table({"CCLN": [result.test for result in results]}).split("±")[0]


def test_finished_runs_are_kept_and_read(experiment: Experiment, options: dict[str, Any], tmp_path: Path) -> None:
    first = experiment.run_seeds(tmp_path, 1)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "seed-0").iterdir()}
    more = experiment.run_seeds(tmp_path, 2)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "seed-0").iterdir()} == written
    assert more[0].history == first[0].history
    assert more[0].best_epoch == first[0].best_epoch
    for split in ("test", "validation"):
        assert getattr(more[0], split).as_dict() == getattr(first[0], split).as_dict()
    with pytest.raises(TrainingError, match=r"seed-0.*settings: training\.epochs 1 there, 2 here"):
        prepared(**{**options, "epochs": 2}).run_seeds(tmp_path, 2)


def test_the_ablation_leaves_out_the_named_parts(experiment: Experiment, tmp_path: Path) -> None:
    results = experiment.ablate(tmp_path, 1)
    left_out = {name: load_checkpoint(runs[0].folder).model.config.without for name, runs in results.items()}
    assert left_out == {
        "full": (),
        "without SBI": ("sbi",),
        "without FEE": ("fee",),
        "without WCCL": ("wccl",),
        "without all": ("sbi", "fee", "wccl"),
    }
    assert results["without all"][0].folder == tmp_path / "without-all" / "seed-0"
    tests = {name: [run.test for run in runs] for name, runs in results.items()}
    assert "without WCCL" in seeds_table(tests, "full")


def test_fewer_than_one_seed_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at least 1"):
        experiment.run_seeds(tmp_path, 0)


def test_selection_on_test_is_reported_only_when_asked(options: dict[str, Any], tmp_path: Path) -> None:
    blind = train(**{**options, "epochs": 2}, out=tmp_path / "blind")
    watching = train(**{**options, "epochs": 2}, out=tmp_path / "watching", watch_test=True)
    assert blind.best_test_selection is None
    assert watching.best_test_selection is not None
    assert watching.best_test_selection >= watching.test.selection
    assert watching.test == blind.test
    label = "selected on test, as some papers do: optimistic"
    assert json.loads((watching.folder / "metrics.json").read_text())[label] == watching.best_test_selection
    assert label not in (blind.folder / "metrics.json").read_text()


@each_ablation
def test_an_ablation_starts_from_the_weights_of_the_full_network(experiment: Experiment, without: tuple[Part, ...]):
    """So that differences between ablations of one seed are those of the parts."""
    started = []
    for parts in ((), without):
        torch.manual_seed(0)
        network = experiment.new_network(parts)
        assert network.config.without == parts
        started.append((network.state_dict(), torch.rand(1)))
    (full, drawn), (reduced, drawn_too) = started
    assert reduced.keys() <= full.keys()
    assert all(torch.equal(full[name], value) for name, value in reduced.items())
    assert torch.equal(drawn, drawn_too)  # and its dropout from the same random numbers
