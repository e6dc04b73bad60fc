"""The training loop, on a task without events: to fit a line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from ccln.pipeline.data.clips import Split
from ccln.pipeline.train.config import TrainingConfig
from ccln.pipeline.train.loop import train_network
from ccln.pipeline.train.state import TrainingError
from ccln.pipeline.train.tasks import ClipBatches


@dataclass(frozen=True)
class Closeness:
    selection: float

    def as_dict(self) -> dict[str, Any]:
        return {"closeness": self.selection}


class Line:
    """Predict the label from the audio; its scores are those of a given list, if there is one."""

    name = "line"

    def __init__(self, scores: list[float] | None = None, factor: float = 1.0) -> None:
        audio = torch.linspace(-1, 1, 10)[:, None, None]
        self.clips = ClipBatches(list(torch.zeros(10, 1, 1, 1, 1).half()), list(audio), label=3 * audio[:, 0, 0])
        self.made_up, self.factor = scores, factor
        self.warmths: list[float] = []
        self.asked: list[Split] = []

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        return batch

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        self.warmths.append(warmth)
        error = (model(batch["audio"][:, 0]).squeeze(-1) - batch["label"]).square().mean()
        return {"square": error, "total": self.factor * error, "watched/constant": torch.tensor(0.5)}

    def scores(self, network: nn.Module, split: Split) -> Closeness:
        self.asked.append(split)
        if self.made_up is not None:
            return Closeness(self.made_up[self.asked.count(split) - 1])
        slope = sum(parameter.sum().item() for name, parameter in network.named_parameters() if "weight" in name)
        return Closeness(-abs(slope - 3))


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


CONFIG = TrainingConfig(epochs=4, batch_size=4, learning_rate=0.3, weight_decay=0.0)


def test_the_loop_trains_and_reports_its_history(tmp_path: Path) -> None:
    task, calls = Line(), []
    config = TrainingConfig(epochs=40, batch_size=4, learning_rate=0.3, weight_decay=0.0)
    trained = train_network(line(), task, config, tmp_path, progress=lambda *step: calls.append(step))
    assert task.scores(trained.model, "validation").selection > -0.1
    assert not trained.model.training
    assert [step[0] for step in calls] == list(range(41))
    first = trained.history[0]
    assert first.losses.keys() == {"square", "total"}
    assert first.watched == {"watched/constant": 0.5}
    assert first.gradient_norm > trained.history[-1].gradient_norm
    assert first.validation == {"closeness": first.selection}
    assert task.warmths[0] == 0
    assert task.warmths[-1] == 1
    events = EventAccumulator(str(tmp_path)).Reload()
    expected = {"loss/square", "loss/total", "watched/constant", "validation/closeness", "learning_rate"}
    assert set(events.Tags()["scalars"]) == expected | {"gradient_norm"}


def test_the_earliest_of_the_best_epochs_is_kept(tmp_path: Path) -> None:
    kept = train_network(line(), Line([0.1, 0.7, 0.7, 0.2]), CONFIG, tmp_path / "a")
    assert kept.best_epoch == 2
    last = train_network(line(), Line([0.1, 0.2, 0.3, 0.4]), CONFIG, tmp_path / "b")
    assert last.best_epoch == 4
    assert not torch.equal(kept.model.weight, last.model.weight)  # pyright: ignore[reportArgumentType]


def test_scores_may_be_negative(tmp_path: Path) -> None:
    assert train_network(line(), Line([-3.0, -2.0, -5.0, -9.0]), CONFIG, tmp_path).best_epoch == 2


def test_the_test_split_is_scored_only_when_asked_and_has_no_effect(tmp_path: Path) -> None:
    tasks = Line(), Line()
    blind = train_network(line(), tasks[0], CONFIG, tmp_path / "a")
    watching = train_network(line(), tasks[1], CONFIG, tmp_path / "b", watch_test=True)
    assert set(tasks[0].asked) == {"validation"}
    assert set(tasks[1].asked) == {"validation", "test"}
    assert torch.equal(blind.model.weight, watching.model.weight)  # pyright: ignore[reportArgumentType]
    assert [epoch.test_selection for epoch in blind.history] == [None] * 4
    assert all(epoch.test_selection is not None for epoch in watching.history)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1\. Lower learning_rate"):
        train_network(line(), Line(factor=float("nan")), CONFIG, tmp_path)
