"""The state of an unfinished run: kept in its folder after every epoch, so that a stopped run goes on from there.

It is one file, with the one before kept beside it, from which nothing but tensors and plain values is loaded.
Accelerate's `save_state` writes several files in place, which a process that dies leaves half new, half old; and what
is registered with it, as the history would be, `load_state` reads by pickle, which can run code.
"""

import copy
import hashlib
import io
import json
import logging
import math
import os
import pickle
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from ccln.files import write_whole

log = logging.getLogger(__name__)

STATE_NAME = "training-state.pt"
EARLIER_NAME = "training-state-before.pt"
_DIGEST_BYTES = 32
"""A file begins with the sha256 of the rest."""
_IDENTITY, _STATE = "identity", "state"

Identity = Mapping[str, Any]
"""All that decides a run's outcome, by name, flat and fit for JSON: two runs of one identity are the same run."""


class TrainingError(Exception):
    """A training run that cannot start or cannot go on; the message says why and what to do."""


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


class RunState:
    """All that changes in the course of a run.

    Args:
        network: that is trained.
        optimizer: of its parameters.
        schedule: of the learning rate.
        order: generator of the order of clips and of their augmentation.
        accelerator: this process's place among those that train together, each with random numbers of its own.
    """

    def __init__(
        self, network: nn.Module, optimizer: Any, schedule: Any, order: torch.Generator, accelerator: Accelerator
    ) -> None:
        self._parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
        self._network, self._order, self._accelerator = network, order, accelerator
        self.history: list[Epoch] = []
        self.best_epoch = 0
        """From 1; the one with the highest validation score, the earliest of equals. 0 before the first."""
        self.best_weights: dict[str, Tensor] = {}
        """Of that epoch."""

    @property
    def best_selection(self) -> float:
        """The highest validation score so far."""
        return self.history[self.best_epoch - 1].selection if self.best_epoch else -math.inf

    def add(self, epoch: Epoch) -> None:
        """Note that an epoch is done, and keep the network's weights if it is the best so far."""
        is_best = epoch.selection > self.best_selection or not self.best_epoch
        self.history.append(epoch)
        if is_best:
            self.best_epoch = len(self.history)
            self.best_weights = copy.deepcopy(self._network.state_dict())

    def save(self, folder: Path, identity: Identity) -> None:
        """Write the state; every process must call it, and the main one writes.

        The state of the epoch before is kept beside it.

        Args:
            folder: of the run.
            identity: of the run.
        """
        state = {
            **{name: part.state_dict() for name, part in self._parts.items()},
            "order": self._order.get_state(),
            "random": gather_object([{"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}]),
            "history": json.dumps([asdict(epoch) for epoch in self.history]),
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }
        if not self._accelerator.is_main_process:
            return
        content = io.BytesIO()
        torch.save({_IDENTITY: json.dumps(identity), _STATE: state}, content)
        data = content.getvalue()
        with suppress(FileNotFoundError):
            os.replace(folder / STATE_NAME, folder / EARLIER_NAME)
        write_whole(folder / STATE_NAME, hashlib.sha256(data).digest() + data)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `kept_state` found."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self.history = [Epoch(**epoch) for epoch in json.loads(state["history"])]
        self.best_epoch, self.best_weights = state["best_epoch"], state["best_weights"]
        self._order.set_state(state["order"])
        random = state["random"][self._accelerator.process_index]
        torch.set_rng_state(random["cpu"])
        if random["cuda"]:
            torch.cuda.set_rng_state_all(random["cuda"])


def kept_state(folder: Path, identity: Identity) -> Mapping[str, Any] | None:
    """The newest whole state in the folder of a run; None if there is none.

    Raises:
        TrainingError: all are damaged, or it is of a run with other settings.
    """
    damaged = None
    for path in [folder / name for name in (STATE_NAME, EARLIER_NAME) if (folder / name).exists()]:
        try:
            found, state = _read(path)
            break
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            damaged = damaged or (path, error)
    else:
        if damaged is None:
            return None
        raise TrainingError(
            f"{damaged[0]}: the state of the unfinished run is damaged ({damaged[1]}). Remove it to train from the "
            "start."
        ) from damaged[1]
    require_same_run(folder, found, identity)
    if damaged is not None:
        log.warning("%s: is damaged (%s); going on from the epoch before it", *damaged)
    return state


def _read(path: Path) -> tuple[Identity, dict[str, Any]]:
    data = path.read_bytes()
    if hashlib.sha256(data[_DIGEST_BYTES:]).digest() != data[:_DIGEST_BYTES]:
        raise ValueError("its content is not what was written")
    content = io.BytesIO(data[_DIGEST_BYTES:])
    kept = torch.load(content, map_location="cpu", weights_only=True)  # nothing in it is ever executed
    return json.loads(kept[_IDENTITY]), kept[_STATE]


def remove_state(folder: Path) -> None:
    """Remove the state of a run that is finished."""
    for name in (STATE_NAME, EARLIER_NAME):
        (folder / name).unlink(missing_ok=True)


def require_same_run(folder: Path, found: Identity, wanted: Identity) -> None:
    """Check that the run in a folder, whose identity was read from JSON, is the one that is wanted.

    Raises:
        TrainingError: their identities differ; it names every field that does.
    """
    wanted = json.loads(json.dumps(wanted))  # lists for tuples
    differing = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if differing:
        shown = ", ".join(f"{name} {found.get(name)!r} there, {wanted.get(name)!r} here" for name in differing)
        raise TrainingError(
            f"{folder}: holds a run with other settings: {shown}. Give it the same settings, choose another --out, or "
            "remove that folder."
        )
