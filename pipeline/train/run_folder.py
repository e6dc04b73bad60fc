"""What a run keeps in its folder while it trains, so that it goes on where it was stopped, and how files get there."""

import json
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

STATE_NAME = "training-state.pt"
_IDENTITY, _STATE = "identity", "state"


class TrainingError(Exception):
    """A training run that cannot start or cannot go on; the message says why and what to do."""


Identity = Mapping[str, Any]
"""All that decides a run's outcome, by name, flat and fit for JSON: two runs of one identity are the same run."""


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the whole new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def refuse_other_run(folder: Path, found: Identity, wanted: Identity) -> None:
    """Nothing, where both identities are equal.

    Raises:
        TrainingError: they differ; it names every field that does.
    """
    differing = [
        name
        for name in (*wanted, *(name for name in found if name not in wanted))
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        shown = ", ".join(f"{name} {found.get(name)!r} there, {wanted.get(name)!r} here" for name in differing)
        raise TrainingError(
            f"{folder}: holds a run with other settings: {shown}. Give it the same settings, choose another --out, or "
            "remove that folder."
        )


def save_state(folder: Path, identity: Identity, state: Mapping[str, Any]) -> None:
    """Keep the state of an unfinished run; a process that dies meanwhile leaves the state of the epoch before.

    Args:
        folder: the run's.
        identity: of the run.
        state: tensors, numbers, text, and dictionaries and lists of them.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        path = Path(partial, STATE_NAME)
        torch.save({_IDENTITY: json.dumps(identity), _STATE: dict(state)}, path)
        os.replace(path, folder / STATE_NAME)


def load_state(folder: Path, identity: Identity) -> dict[str, Any] | None:
    """The state of the unfinished run in a folder, on the CPU; None where there is none.

    Raises:
        TrainingError: it is damaged, or of a run with other settings.
    """
    path = folder / STATE_NAME
    if not path.exists():
        return None
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)  # nothing in it is ever executed
        found, state = json.loads(kept[_IDENTITY]), kept[_STATE]
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path}: the state of the unfinished run is damaged ({type(error).__name__}). Remove it to train from the "
            "start."
        ) from error
    refuse_other_run(folder, found, json.loads(json.dumps(identity)))  # both as JSON gives them back
    return state


def remove_state(folder: Path) -> None:
    """Forget the state; the run is finished."""
    (folder / STATE_NAME).unlink(missing_ok=True)
