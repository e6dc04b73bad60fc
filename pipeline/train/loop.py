"""The training loop, which knows nothing of what it trains for: a task has the batches, the losses and the scores.

After every epoch the whole state is kept in the run's folder: a run that was stopped goes on from there and ends with
the same weights to the last bit as one that was not. Several processes do what one does: each draws the same batches
and runs the network on its share of them. The main one alone writes.
"""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather, gather_object, recursively_apply, send_to_device, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from ccln.extractors import pick_device
from ccln.pipeline.train.config import TrainingConfig
from ccln.pipeline.train.state import Epoch, Identity, RunState, TrainingError, kept_state
from ccln.pipeline.train.tasks import Task

_Result = TypeVar("_Result")

Progress = Callable[[int, int, str], None]
"""Called with epochs done, epochs in all, and a line on how it goes."""
_NORM = "gradient_norm"
_WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables that launchers, and MPI's, set to the number of processes."""


@dataclass(frozen=True)
class Trained:
    """The network of the best validation epoch, and how it got there."""

    model: nn.Module
    best_epoch: int
    """From 1; the one with the highest validation score, the earliest of equals."""
    history: tuple[Epoch, ...]


def train_network(
    model: nn.Module,
    task: Task,
    training: TrainingConfig,
    folder: Path,
    *,
    identity: Identity | None = None,
    watch_test: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> Trained:
    """Train a network for a task and keep the epoch that does best on validation.

    Args:
        model: what the task's losses and scores take.
        task: what for.
        training: how.
        folder: where TensorBoard's event files go, and the state after every epoch.
        identity: of the run; a state in the folder that has the same is gone on from. If None, no state is kept.
        watch_test: score the test split after every epoch, too; only for comparison, never selected on.
        device: "auto", "cpu", "cuda", ...
        progress: called before the first epoch, and after each.

    Raises:
        TrainingError: the loss is no longer finite, the folder has the state of a run of another identity, or the
            processes that train together differ in theirs.
        ExtractorError: there is no such device.
    """
    accelerator, on = process_accelerator(), training_device(device)
    processes, is_main = accelerator.num_processes, accelerator.is_main_process
    order = torch.Generator().manual_seed(training.seed)

    def collate(batch: Any) -> dict[str, Tensor]:  # a whole batch already, see ClipBatches
        return task.augmented(batch, order)

    loader = DataLoader(task.clips, training.batch_size, shuffle=True, generator=order, collate_fn=collate)
    # Fused: one call instead of a dozen for each of a hundred small tensors.
    optimizer = torch.optim.AdamW(
        model.to(on).parameters(), training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    total_steps = training.epochs * len(loader)
    warm_steps = max(1, round(training.warmup_share * total_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, warm_steps, total_steps))
    prepared, optimizer = accelerator.prepare(model, optimizer)  # not the loader: all processes draw the whole batch
    network, model = accelerator.unwrap_model(prepared), prepared
    if processes > 1:
        model = _SharedModel(prepared, accelerator)
        set_seed(training.seed, device_specific=True)  # clips of different shares are not to have the same dropout
    run = RunState(network, optimizer, schedule, order, accelerator)
    if identity is not None:
        identity = {**identity, "processes": processes}  # each has random numbers of its own
        _require_agreement(identity)
        if (state := by_main(partial(kept_state, folder, identity))) is not None:
            run.restore(state)
    if not is_main:
        progress = None
    if progress is not None:
        progress(len(run.history), training.epochs, "")
    # What an interrupted run logged after its last state is struck out.
    with SummaryWriter(str(folder), purge_step=len(run.history) + 1) if is_main else nullcontext() as board:
        for number in range(len(run.history) + 1, training.epochs + 1):
            model.train()
            steps: list[dict[str, Tensor]] = []
            for batch in loader:
                warmth = min(1.0, schedule.last_epoch / warm_steps)
                losses = task.losses(model, cast(dict[str, Tensor], send_to_device(batch, on)), warmth)
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
            validation = task.scores(network, "validation")
            epoch = Epoch(
                losses={name: value for name, value in means.items() if "/" not in name and name != _NORM},
                watched={name: value for name, value in means.items() if "/" in name},
                gradient_norm=means[_NORM],
                learning_rate=float(schedule.get_last_lr()[0]),
                validation=validation.as_dict(),
                selection=validation.selection,
                test_selection=task.scores(network, "test").selection if watch_test else None,
            )
            run.add(epoch)
            if board is not None:
                _log(board, number, epoch)
            if identity is not None:
                run.save(folder, identity)
            if progress is not None:
                now, best = 100 * epoch.selection, 100 * run.best_selection
                progress(number, training.epochs, f"validation {now:.1f} %, best {best:.1f} %")
    network.load_state_dict(run.best_weights)
    return Trained(network.eval(), run.best_epoch, tuple(run.history))


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


def process_accelerator() -> Accelerator:
    """This process's place among those that train together; it leaves moving tensors to devices to us.

    Without `cpu=True`, processes that a launcher started on a machine without GPU would each take themselves for the
    only one.

    Raises:
        TrainingError: it is one of several that do not know of each other: `accelerate launch --cpu` starts one a
            machine, and leaves the rest to MPI.
    """
    launched = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_ADDR" in os.environ
    if launched and os.environ.keys().isdisjoint(_WORLD_SIZES):
        raise TrainingError(
            "accelerate launch --cpu starts one process, which would train alone. Use torchrun, or set WORLD_SIZE, "
            "RANK and LOCAL_RANK=0 on each machine before it"
        )
    return Accelerator(cpu=not torch.accelerator.is_available(), device_placement=False)


def training_device(device: str = "auto") -> torch.device:
    """The device that this process trains on.

    Args:
        device: "auto", or where there is one process also "cpu", "cuda", "cuda:1", ...

    Raises:
        TrainingError: a device is named for several processes.
        ExtractorError: there is no such device.
    """
    accelerator = process_accelerator()
    if device == "auto":
        return accelerator.device
    if accelerator.num_processes > 1:
        raise TrainingError(f"--device {device}: of several processes each has its own device. Leave the option out.")
    return torch.device(pick_device(device))


def by_main(action: Callable[[], _Result]) -> _Result:
    """What an action gives or raises in the main process, for all that train together.

    It alone reads what it has written: machines may have no common folder. Their clocks may differ, too.
    """
    accelerator = process_accelerator()
    if accelerator.num_processes == 1:
        return action()
    found: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            found[0] = action()
        except Exception as error:  # which the others would wait for
            found[1] = error
    result, error = broadcast_object_list(found)
    if error is not None:
        raise error
    return result


def _require_agreement(identity: Identity) -> None:
    """Raise TrainingError if processes, perhaps of machines with copies of the data, are not set to train the same."""
    every: list[Identity] = gather_object([identity])
    if differing := [name for name, value in identity.items() if any(other.get(name) != value for other in every)]:
        raise TrainingError(
            f"the processes that train together differ in {', '.join(differing)}. Give each machine the same data set, "
            "features and options."
        )


class _SharedModel(nn.Module):
    """Runs a prepared model on this process's share of a batch; takes the others' outputs from the other processes.

    What it returns is the same in every process: the outputs of the whole batch. Any loss of them, one that compares or
    averages over all clips too, is then one process's, and so are its gradients once DDP has taken their mean.

    Every process must call it with the same batch: tensors (clip, ...) or None. So must be the model's outputs, in any
    nesting of tuples and dictionaries.
    """

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        super().__init__()
        self.model = model
        self._rank, self._processes = accelerator.process_index, accelerator.num_processes

    def forward(self, *batch: Tensor | None) -> Any:
        """Outputs of the whole batch, in its order."""
        clips = next(len(tensor) for tensor in batch if tensor is not None)
        size = -(-clips // self._processes)
        # Shares are equally long, for gathering; the last take clips from the batch's start again, which are cut off.
        mine = torch.arange(self._rank * size, (self._rank + 1) * size) % clips
        output = self.model(*(None if tensor is None else tensor[mine.to(tensor.device)] for tensor in batch))
        # An output under two names stays one tensor: losses can tell by that which part the network has not.
        whole: dict[int, Tensor] = {}

        def gathered(tensor: Tensor) -> Tensor:
            if id(tensor) not in whole:
                whole[id(tensor)] = self._gathered(tensor)[:clips]
            return whole[id(tensor)]

        return recursively_apply(gathered, output)

    def _gathered(self, share: Tensor) -> Tensor:
        others: Any = gather(share.detach())
        if not share.requires_grad:
            return others
        parts = list(others.chunk(self._processes))
        parts[self._rank] = share
        whole = torch.cat(parts)
        # All processes compute the same loss, each with the gradient of its own share alone. The sum of these is
        # wanted, and DDP takes their mean.
        whole.register_hook(lambda gradient: gradient * self._processes)
        return whole
