"""A stopped run resumes with the same results, or the error names the cause."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.training_clips import made_up_set
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccln import train
from ccln.pipeline.train.state import EARLIER_NAME, STATE_NAME, TrainingError

Train = Callable[..., Any]


class StoppedError(Exception):
    pass


def stop_after(epochs: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, note: str) -> None:
        if done == epochs and note:
            raise StoppedError

    return progress


pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return made_up_set(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def start(made: tuple[Path, Path, Path]) -> Train:
    """Train, by default for three epochs."""
    data, cache, config = made
    return lambda out, **options: train(data, out=out, **({"cache": cache, "config": config, "epochs": 3} | options))


def outcome(run: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    return json.loads((run / "metrics.json").read_text()), load_file(run / "model.safetensors")


def assert_same(run: Path, other: Path) -> None:
    (metrics, weights), (other_metrics, other_weights) = outcome(run), outcome(other)
    assert metrics == other_metrics
    assert weights.keys() == other_weights.keys()
    assert [name for name in weights if not torch.equal(weights[name], other_weights[name])] == []


@pytest.mark.parametrize(("task", "stops"), [("supervised", (1,)), ("supervised", (1, 2, 3)), ("weak", (1,))])
def test_a_stopped_run_ends_with_the_same_bits(start: Train, tmp_path: Path, task: str, stops: tuple[int, ...]) -> None:
    start(tmp_path / "whole", task=task)
    for epoch in stops:
        with pytest.raises(StoppedError):
            start(tmp_path / "run", task=task, progress=stop_after(epoch))
        assert not (tmp_path / "run" / "config.json").exists()
        torch.rand(7)  # random numbers drawn in between must not matter
        time.sleep(1)  # TensorBoard orders its files by the second that they were made in
    seen = []
    start(tmp_path / "run", task=task, progress=lambda done, total, note: seen.append(done))
    assert seen == list(range(stops[-1], 4))
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert {path.name for path in (tmp_path / "run").iterdir() if "tfevents" not in path.name} == {
        *("config.json", "config.toml", "metrics.json", "model.safetensors", "report.html")
    }
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [scalar.step for scalar in events.Scalars("loss/total")] == [1, 2, 3]


@pytest.fixture
def stopped(start: Train, tmp_path: Path) -> Path:
    """A run that was stopped after its first epoch."""
    with pytest.raises(StoppedError):
        start(tmp_path / "run", progress=stop_after(1))
    return tmp_path / "run"


def test_other_settings_are_refused_by_name(start: Train, stopped: Path) -> None:
    before = (stopped / STATE_NAME).read_bytes()
    for other, message in (
        ({"seed": 5}, r"run with other settings: training\.seed 0 there, 5 here\. "),
        ({"epochs": 4}, r"settings: training\.epochs 3 there, 4 here\. "),
        ({"without": ["fee"]}, r"settings: model\.without \[\] there, \['fee'\] here\. "),
        ({"task": "weak"}, r"settings: task 'supervised' there, 'weak' here"),
        ({"config": None}, r"training\.batch_size 4 there, 64 here.*model\.width 16 there, 128 here"),
    ):
        with pytest.raises(TrainingError, match=message):
            start(stopped, **other)
    assert (stopped / STATE_NAME).read_bytes() == before


def test_another_data_set_is_refused(start: Train, stopped: Path, made: tuple[Path, Path, Path]) -> None:
    other = shutil.copytree(made[0], stopped.parent / "other")
    rows = (other / "trainSet.txt").read_text()
    (other / "trainSet.txt").write_text(rows.split("\n", 1)[1])
    with pytest.raises(TrainingError, match=r"settings: data '"):
        train(other, cache=made[1], config=made[2], epochs=3, out=stopped)


def flip(data: bytes) -> bytes:
    """One bit, in the middle of the network's numbers."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "other": lambda data: b"no state",
    "cut": lambda data: data[:-100],
    "flipped": flip,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_is_refused(start: Train, stopped: Path, damage: Callable[[bytes], bytes]) -> None:
    for name in (STATE_NAME, EARLIER_NAME):
        if (stopped / name).exists():
            (stopped / name).write_bytes(damage((stopped / name).read_bytes()))
    with pytest.raises(TrainingError, match=rf"{STATE_NAME}.*Remove it"):
        start(stopped)


@pytest.mark.parametrize("damage", [*DAMAGE.values(), None], ids=[*DAMAGE, "gone"])
def test_a_damaged_state_costs_an_epoch(
    start: Train,
    tmp_path: Path,
    damage: Callable[[bytes], bytes] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(StoppedError):
        start(tmp_path / "run", progress=stop_after(2))
    state = tmp_path / "run" / STATE_NAME
    assert (tmp_path / "run" / EARLIER_NAME).exists()
    if damage is None:
        state.unlink()
    else:
        state.write_bytes(damage(state.read_bytes()))
    first: list[int] = []
    start(tmp_path / "run", progress=lambda done, total, note: first.append(done))
    assert first[0] == 1
    said = [record.getMessage() for record in caplog.records if STATE_NAME in record.getMessage()]
    assert len(said) == (damage is not None)
    assert all("going on from the epoch before" in line for line in said)
    assert not state.exists()
    assert not (tmp_path / "run" / EARLIER_NAME).exists()


def test_a_state_cannot_run_code(start: Train, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "evil"),)

    (tmp_path / "run").mkdir()
    content = BytesIO()
    torch.save({"identity": "{}", "state": Evil()}, content)
    data = content.getvalue()
    (tmp_path / "run" / STATE_NAME).write_bytes(hashlib.sha256(data).digest() + data)
    with pytest.raises(TrainingError, match=STATE_NAME):
        start(tmp_path / "run")
    assert not (tmp_path / "evil").exists()


@pytest.mark.slow
def test_a_run_of_a_killed_process_can_be_resumed(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    data, cache, config = made
    code = (
        "import sys; from ccln import train; d, c, f, o = sys.argv[1:]; train(d, cache=c, config=f, out=o, epochs=400)"
    )
    words = [sys.executable, "-c", code, str(data), str(cache), str(config), str(tmp_path / "run")]
    with subprocess.Popen(words) as process:
        while not (tmp_path / "run" / STATE_NAME).exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    first: list[int] = []

    def progress(done: int, total: int, note: str) -> None:
        first.append(done)
        if note:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(data, cache=cache, config=config, out=tmp_path / "run", epochs=400, progress=progress)
    assert 1 <= first[0] < 400
    assert first[1] == first[0] + 1
