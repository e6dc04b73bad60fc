"""The training loop, which knows nothing of what it trains for: a task says what a batch is, what it costs and scores.

After every epoch the whole state is kept in the run's folder, so that a run that was stopped goes on from there and
ends with the same weights to the last bit as one that was not.

Several processes, started by a launcher, do what one does: each draws the same batches and runs the network on its
share of them. The main one alone writes.
"""

import copy
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object, send_to_device, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from ccln.pipeline.data.clips import Split
from ccln.pipeline.train.batches import ClipBatches
from ccln.pipeline.train.config import TrainingConfig
from ccln.pipeline.train.run_folder import Identity, TrainingError, load_state, save_state
from ccln.pipeline.train.sharing import process_accelerator, shared

Progress = Callable[[int, int, str], None]
"""Called with epochs done, epochs in all, and a line on how it goes."""


class Selectable(Protocol):
    """Scores of a split, of any kind."""

    @property
    def selection(self) -> float:
        """The figure to select on, 0..1; the higher the better."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """The scores by name, fit for JSON."""
        ...


class Task(Protocol):
    """What a network is trained for."""

    name: str
    """As in `--task`."""
    clips: ClipBatches
    """To train on."""

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """A batch of `clips` with such changes as keep its labels true; still on the CPU."""
        ...

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """Scalars of a batch on the model's device.

        "total" is what is minimised. A name with a slash ("gate/fee") is no loss, only to be watched.

        Args:
            model: in training mode.
            batch: from `augmented`.
            warmth: from 0, at the first step, to 1, at the end of the warm-up.
        """
        ...

    def evaluate(self, network: nn.Module, split: Split) -> Selectable:
        """Score a network on a split."""
        ...


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split gave."""

    losses: dict[str, float]
    """Mean of each loss over the steps."""
    watched: dict[str, float]
    """Mean over the steps of what the task has watched."""
    gradient_norm: float
    """Mean over the steps, before clipping."""
    learning_rate: float
    """At the end of the pass."""
    validation: dict[str, Any]
    """Scores by name."""
    selection: float
    """The validation score that the epoch is selected on."""
    test_selection: float | None = None
    """The same of the test split, only where that was asked for."""


@dataclass(frozen=True)
class Fitted:
    """The network of the best validation epoch, and how it got there."""

    model: nn.Module
    best_epoch: int
    """From 1; the one with the highest validation score, the earliest of equals."""
    history: tuple[Epoch, ...]


def fit(
    model: nn.Module,
    task: Task,
    training: TrainingConfig,
    folder: Path,
    *,
    identity: Identity | None = None,
    watch_test: bool = False,
    progress: Progress | None = None,
) -> Fitted:
    """Train a network for a task and keep the epoch that does best on validation.

    Args:
        model: what the task's losses and scores take.
        task: what for.
        training: how.
        folder: where TensorBoard's event files go, and the state after every epoch.
        identity: of the run; a state in the folder that has the same is gone on from. If None, no state is kept.
        watch_test: score the test split after every epoch, too; only for comparison, never selected on.
        progress: called before the first epoch, and after each.

    Raises:
        TrainingError: the loss is no longer finite, or the folder has the state of a run of another identity.
    """
    accelerator = process_accelerator()
    order = torch.Generator().manual_seed(training.seed)

    def collate(batch: Any) -> dict[str, Tensor]:  # a whole batch already, see ClipBatches
        return task.augmented(batch, order)

    loader = DataLoader(task.clips, training.batch_size, shuffle=True, generator=order, collate_fn=collate)
    # Fused: one call instead of a dozen for each of a hundred small tensors.
    optimizer = torch.optim.AdamW(
        model.parameters(), training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    total_steps = training.epochs * len(loader)
    warm_steps = max(1, round(training.warmup_share * total_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, warm_steps, total_steps))
    prepared, optimizer = accelerator.prepare(model, optimizer)  # not the loader: all processes draw the whole batch
    network, model = accelerator.unwrap_model(prepared), shared(prepared, accelerator)
    processes, is_main = accelerator.num_processes, accelerator.is_main_process
    if processes > 1:
        set_seed(training.seed, device_specific=True)  # clips of different shares are not to have the same dropout
    run = _Run(network, optimizer, schedule, order, accelerator.process_index)
    if identity is not None:
        identity = {**identity, "processes": processes}  # each has random numbers of its own
        if (state := load_state(folder, identity)) is not None:
            run.restore(state)
        accelerator.wait_for_everyone()  # the first that is done with the run removes the state
    if not is_main:
        progress = None
    if progress is not None:
        progress(len(run.history), training.epochs, "")
    # What an interrupted run logged beyond its last state is struck out.
    with SummaryWriter(str(folder), purge_step=len(run.history) + 1) if is_main else nullcontext() as board:
        for number in range(len(run.history) + 1, training.epochs + 1):
            model.train()
            steps: list[dict[str, Tensor]] = []
            for batch in loader:
                warmth = min(1.0, schedule.last_epoch / warm_steps)
                losses = task.losses(model, send_to_device(batch, accelerator.device), warmth)
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(losses["total"])
                norm = accelerator.clip_grad_norm_(model.parameters(), training.gradient_clip)
                optimizer.step()
                schedule.step()
                # Read at the end of the epoch: to read a number makes the processor wait for the GPU.
                steps.append({name: value.detach() for name, value in losses.items()} | {_NORM: torch.as_tensor(norm)})
            means = _means(steps)
            if not math.isfinite(means["total"]):
                raise TrainingError(
                    f"the loss is {means['total']} in epoch {number}. Lower learning_rate in [training]."
                )
            validation = task.evaluate(network, "validation")
            epoch = Epoch(
                losses={name: value for name, value in means.items() if "/" not in name and name != _NORM},
                watched={name: value for name, value in means.items() if "/" in name},
                gradient_norm=means[_NORM],
                learning_rate=float(schedule.get_last_lr()[0]),
                validation=validation.as_dict(),
                selection=validation.selection,
                test_selection=task.evaluate(network, "test").selection if watch_test else None,
            )
            run.add(epoch)
            if board is not None:
                _log(board, number, epoch)
            if identity is not None:
                state = run.state()
                if is_main:
                    save_state(folder, identity, state)
            if progress is not None:
                progress(
                    number,
                    training.epochs,
                    f"loss {means['total']:.3f}, validation {100 * epoch.selection:.1f} % "
                    f"(best {100 * run.best_selection:.1f} % in epoch {run.best_epoch})",
                )
    network.load_state_dict(run.best_weights)
    return Fitted(network.eval(), run.best_epoch, tuple(run.history))


_NORM = "gradient_norm"


class _Run:
    """All that a run changes while it goes on, and the way to and from something that can be kept."""

    def __init__(self, network: nn.Module, optimizer: Any, schedule: Any, order: torch.Generator, rank: int) -> None:
        self._parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
        self._network, self._order, self._rank = network, order, rank
        self.history: list[Epoch] = []
        self.best_selection, self.best_epoch = -math.inf, 0
        self.best_weights: dict[str, Tensor] = {}

    def add(self, epoch: Epoch) -> None:
        self.history.append(epoch)
        if epoch.selection > self.best_selection or not self.best_epoch:
            self.best_selection, self.best_epoch = epoch.selection, len(self.history)
            self.best_weights = copy.deepcopy(self._network.state_dict())

    def state(self) -> dict[str, Any]:
        """The same in every process; to be asked for in all of them."""
        return {
            **{name: part.state_dict() for name, part in self._parts.items()},
            "order": self._order.get_state(),
            "random": gather_object([{"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}]),
            "history": json.dumps([asdict(epoch) for epoch in self.history]),
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self.history = [Epoch(**epoch) for epoch in json.loads(state["history"])]
        self.best_epoch, self.best_weights = state["best_epoch"], state["best_weights"]
        self.best_selection = self.history[self.best_epoch - 1].selection
        self._order.set_state(state["order"])
        random = state["random"][self._rank]
        torch.set_rng_state(random["cpu"])
        if random["cuda"]:
            torch.cuda.set_rng_state_all(random["cuda"])


def _means(steps: list[dict[str, Tensor]]) -> dict[str, float]:
    return {
        name: sum(value / len(steps) for value in torch.stack([s[name] for s in steps]).tolist()) for name in steps[0]
    }


def _warm_cosine(step: int, warm_steps: int, total_steps: int) -> float:
    """Learning rate as a share of its highest: up in a line, then down a half cosine to zero."""
    if step < warm_steps:
        return (step + 1) / warm_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warm_steps) / max(1, total_steps - warm_steps)))


def _log(board: SummaryWriter, number: int, epoch: Epoch) -> None:
    scalars = {f"loss/{name}": value for name, value in epoch.losses.items()} | epoch.watched
    scalars |= {f"validation/{name}": value for name, value in epoch.validation.items() if name != "clips"}
    scalars |= {"learning_rate": epoch.learning_rate, _NORM: epoch.gradient_norm}
    for name, value in scalars.items():
        if isinstance(value, float):
            board.add_scalar(name, value, number)
