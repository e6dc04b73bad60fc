"""Two processes train as one does. The processes run this file, too."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import set_seed
from support.training_clips import made_up, made_up_set
from torch import nn

from ccln.cache import FeatureCache
from ccln.model import CCLN, ModelConfig
from ccln.model.matching import MatchingNetwork
from ccln.pipeline.cml.task import CrossModalityLocalization
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.features import DatasetFeatures, load_features
from ccln.pipeline.train.config import RunConfig, TrainingConfig
from ccln.pipeline.train.loop import Trained, process_accelerator, train_network
from ccln.pipeline.train.state import EARLIER_NAME, STATE_NAME, TrainingError
from ccln.pipeline.train.tasks import SupervisedLocalization, Task, WeakLocalization

pytestmark = pytest.mark.slow

# Batches of 11 clips and of one, for weak supervision of 11 and two: no share of 11 fits, of one there is none for the
# second process. High enough a learning rate that wrong gradients would show.
TRAINING = TrainingConfig(epochs=2, batch_size=11, learning_rate=3e-3)
CONFIG = RunConfig(TRAINING)
BACKGROUND = (made_up(("b", None, 0, 0)),)
STEADY = ModelConfig(
    *(2, 2, 4, 5, 3), width=16, members=2, heads=2, embedding_width=8, dropout=0, channel_dropout=0, branch_noise=0
)
BARE = replace(STEADY, without=("sbi", "fee", "wccl"))
RANDOM = replace(STEADY, dropout=0.2)
RUNS: dict[str, tuple[type[nn.Module], ModelConfig, Callable[[DatasetFeatures], Task]]] = {
    "supervised": (CCLN, STEADY, lambda features: SupervisedLocalization(features, CONFIG)),
    "ablation": (CCLN, BARE, lambda features: SupervisedLocalization(features, CONFIG)),
    "weak": (CCLN, STEADY, lambda features: WeakLocalization(replace(features, background=BACKGROUND), CONFIG)),
    "cml": (MatchingNetwork, STEADY, lambda features: CrossModalityLocalization(features, CONFIG)),
    "dropout": (CCLN, RANDOM, lambda features: SupervisedLocalization(features, CONFIG)),
}


def run(name: str, made: Path, out: Path, **options: Any) -> Trained:
    make, config, task = RUNS[name]
    features = load_features(read_dataset(made / "set"), FeatureCache(made / "cache"))
    set_seed(0)
    return train_network(make(config), task(features), TRAINING, out, identity={"name": name}, **options)


def in_each_process(made: Path) -> None:
    """All runs, and the last of them again, resumed after its first epoch."""
    rank = process_accelerator().process_index
    stopped = made / "stopped"

    def keep(done: int, total: int, note: str) -> None:
        if done == 1:
            stopped.mkdir()
            shutil.copy(made / "dropout" / STATE_NAME, stopped)

    outcomes = {name: run(name, made, made / name, progress=keep if name == "dropout" else None) for name in RUNS}
    outcomes["stopped"] = run("dropout", made, stopped)
    for name, trained in outcomes.items():
        kept = {"history": json.dumps([asdict(epoch) for epoch in trained.history]), "weights": weights(trained)}
        torch.save(kept, made / f"{name}-{rank}.pt")


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return dict(trained.model.state_dict())


def flat(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set, and with what two processes made of it."""
    folder = tmp_path_factory.mktemp("two")
    made_up_set(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shown = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    shown["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the tests' own helpers
    environment = os.environ | shown | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}  # as a launcher sets them
    processes = [
        subprocess.Popen([sys.executable, __file__, str(folder)], env=environment | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return folder


def outcome(made: Path, name: str, rank: int = 0) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    kept = torch.load(made / f"{name}-{rank}.pt", weights_only=True)
    return json.loads(kept["history"]), kept["weights"]


@pytest.mark.parametrize("name", ["supervised", "ablation", "weak", "cml"])
def test_two_processes_give_what_one_gives(made: Path, tmp_path: Path, name: str) -> None:
    alone = run(name, made, tmp_path)
    history, found = outcome(made, name)
    torch.manual_seed(0)
    start, end, end_alone = map(flat, (RUNS[name][0](RUNS[name][1]).state_dict(), found, weights(alone)))
    assert (end - end_alone).norm() < 1e-3 * (end_alone - start).norm()
    for epoch, expected in zip(history, alone.history, strict=True):
        # The norm of the gradient too: AdamW would not show it if all were twice as long.
        assert epoch["gradient_norm"] == pytest.approx(expected.gradient_norm, rel=1e-3)
        assert epoch["losses"] == pytest.approx(expected.losses, rel=1e-3)
        assert epoch["watched"] == pytest.approx(expected.watched, rel=1e-3)
        assert epoch["validation"].keys() == expected.validation.keys()


@pytest.mark.parametrize("name", [*RUNS, "stopped"])
def test_both_processes_end_with_the_same_bits(made: Path, name: str) -> None:
    (history, found), (other_history, other) = outcome(made, name, 0), outcome(made, name, 1)
    assert history == other_history
    assert [key for key in found if not torch.equal(found[key], other[key])] == []


def test_a_stopped_run_ends_with_the_same_bits(made: Path) -> None:
    (history, found), (whole_history, whole) = outcome(made, "stopped"), outcome(made, "dropout")
    assert history == whole_history
    assert [key for key in found if not torch.equal(found[key], whole[key])] == []


def test_dropout_differs_between_the_processes(made: Path) -> None:
    state = torch.load(BytesIO((made / "dropout" / STATE_NAME).read_bytes()[32:]), weights_only=True)["state"]
    first, second = (random["cpu"] for random in state["random"])
    assert not torch.equal(first, second)


def test_only_one_process_writes(made: Path) -> None:
    names = [path.name.split(".")[0] for path in (made / "supervised").iterdir()]
    assert set(names) == {"events", STATE_NAME.split(".")[0], EARLIER_NAME.split(".")[0]}


def test_one_process_does_not_resume_a_run_of_two(made: Path) -> None:
    with pytest.raises(TrainingError, match=r"settings: processes 2 there, 1 here\."):
        run("dropout", made, made / "stopped")


def test_the_command_in_two_processes_makes_one_run_and_prints_once(tmp_path: Path) -> None:
    data, cache, config = made_up_set(tmp_path)
    command = Path(sys.executable).with_name("ccln-train")
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(command)]
    options = ["--data", data, "--cache", cache, "--config", config, "--epochs", "1"]
    done = subprocess.run([*launched, *map(str, options)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "config.json").exists()
    assert done.stdout.count("test, ") == done.stdout.count("selected epoch") == 1


if __name__ == "__main__":
    in_each_process(Path(sys.argv[1]))
