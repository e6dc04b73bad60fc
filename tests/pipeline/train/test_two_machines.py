"""Two machines, which read one cache at a URL by ranges of bytes, train as one does; the machines run this file.

They are two launchers of Accelerate on the loopback interface, and share no folder.
"""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file
from support.training_clips import made_up_set, prepared

from ccln import train
from ccln.cache import FeatureCache, pack
from ccln.pipeline.commands.train import train_command
from ccln.pipeline.train import loop, run, state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CONFIG = """
[model]
width = 16
members = 2
heads = 2
embedding_width = 8
dropout = 0
channel_dropout = 0
branch_noise = 0
[training]
epochs = 2
batch_size = 6
learning_rate = 0.003
"""
STOPPED = 3
WORLD = {"WORLD_SIZE": "2"}
"""What `accelerate launch --cpu` leaves to MPI or to the user, besides RANK and LOCAL_RANK."""
UNLAUNCHED = WORLD | {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
NOTES = "notes.pt"


def as_machine() -> None:
    """ccln-train, which also notes the clips that this process ran the network on, and its last weights."""

    def noting(model: torch.nn.Module, *arguments: Any, **options: Any) -> loop.Trained:
        model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]) if model.training else None)
        trained = loop.train_network(model, *arguments, **options)
        torch.save({"seen": seen, "weights": dict(trained.model.state_dict())}, NOTES)
        return trained

    def stopping(self: state.RunState, folder: Path, identity: state.Identity) -> None:
        save(self, folder, identity)
        if "STOP" in os.environ:
            os._exit(STOPPED)

    seen: list[torch.Tensor] = []
    save = state.RunState.save
    run.train_network = noting
    state.RunState.save = stopping
    train_command()


def launch(machines: list[Path], cache: Path, *, launcher: bool = True, **environment: str) -> list[int]:
    """Train on all machines at once, with packed features as a URL has them; returns the exit codes.

    Without the launcher, which imports torch for seconds, they get the environment that it makes.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    if launcher:
        words = [str(Path(sys.executable).with_name("accelerate")), "launch", "--cpu", "--num_machines", "2"]
        words += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", port]
        words += ["--num_cpu_threads_per_process", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        starts = [[*words, "--machine_rank", str(rank), __file__] for rank in range(len(machines))]
    else:
        environment = {**UNLAUNCHED, "MASTER_PORT": port, **environment}
        starts = [[sys.executable, __file__]] * len(machines)
    options = ["--data", "set", "--cache", cache.as_uri(), "--config", "config.toml", "--out", "run"]
    with ExitStack() as files:
        processes = [
            subprocess.Popen(
                [*starts[rank], *options],
                cwd=machine,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(sys.path), "RANK": str(rank), "LOCAL_RANK": "0"}
                | {"XDG_CACHE_HOME": str(machine / "copies")}
                | environment,
                stdout=files.enter_context((machine / "out").open("w")),
                stderr=files.enter_context((machine / "err").open("w")),
            )
            for rank, machine in enumerate(machines)
        ]
    try:
        return [process.wait(timeout=1500) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data set and configuration, to be copied, and packed features."""
    folder = tmp_path_factory.mktemp("machine")
    _, cache, _ = made_up_set(folder)
    pack(FeatureCache(cache), clips_per_shard=5)
    (folder / "config.toml").write_text(CONFIG)
    return folder


def _copy(machine: Path, to: Path) -> Path:
    return shutil.copytree(machine, to, ignore=shutil.ignore_patterns("cache"))


def test_two_machines_train_what_one_trains(machine: Path, tmp_path: Path) -> None:
    machines = [_copy(machine, tmp_path / name) for name in ("first", "second")]
    # After the first epoch; the second machine has no state of it.
    assert all(launch(machines, machine / "cache", launcher=False, STOP="1"))
    assert launch(machines, machine / "cache", launcher=True, **WORLD) == [0, 0], (machines[0] / "err").read_text()
    first, second = (torch.load(folder / NOTES, weights_only=True) for folder in machines)
    assert [
        name for name, weights in first["weights"].items() if not torch.equal(weights, second["weights"][name])
    ] == []

    one = train(machine / "set", cache=machine / "cache", config=machine / "config.toml", out=tmp_path / "alone").folder
    alone, together = (load_file(folder / "model.safetensors") for folder in (one, machines[0] / "run"))
    set_seed(0)
    start = (
        prepared(machine / "set", cache=machine / "cache", config=machine / "config.toml").new_network().state_dict()
    )
    difference, way = (sum((alone[name] - other[name]).norm() ** 2 for name in alone) for other in (together, start))
    assert way > 0
    assert difference < 1e-6 * way  # norms squared: a thousandth of the way

    assert len(first["seen"]) == len(second["seen"]) == 2  # of an epoch of two batches
    for mine, others in zip(first["seen"], second["seen"], strict=True):
        assert len(mine) == len(others) == 3
        assert not any(torch.equal(clip, other) for clip in mine for other in others)

    assert all(list((folder / "copies").rglob("*.safetensors")) for folder in machines)
    assert not any((machines[1] / "run").iterdir())
    assert "test, " in (machines[0] / "out").read_text()
    assert (machines[1] / "out").read_text() == ""


def test_machines_with_other_data_do_not_train_together(machine: Path, tmp_path: Path) -> None:
    machines = [_copy(machine, tmp_path / name) for name in ("first", "second")]
    rows = (machines[1] / "set" / "trainSet.txt").read_text().splitlines(keepends=True)
    (machines[1] / "set" / "trainSet.txt").write_text("".join(rows[:-1]))
    assert all(launch(machines, machine / "cache", launcher=False))
    for folder in machines:
        assert "the processes that train together differ in data." in (folder / "err").read_text()


def test_machines_that_would_train_each_alone_say_so(machine: Path) -> None:
    (code,) = launch([machine], machine / "cache")
    assert code == 1
    assert "accelerate launch --cpu starts one process, which would train alone." in (machine / "err").read_text()
    assert not (machine / "run").exists()


if __name__ == "__main__":
    as_machine()
