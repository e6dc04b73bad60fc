"""What a finished run says of itself, and the files that say it."""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ccln.model import CCLN, Checkpoint, load_checkpoint, save_checkpoint
from ccln.pipeline.datasets.annotations import Split
from ccln.pipeline.features import DatasetFeatures
from ccln.pipeline.fitting import Epoch, Fitted
from ccln.pipeline.metrics import Scores, floors
from ccln.pipeline.run_folder import Identity, TrainingError, write_text
from ccln.pipeline.tasks import SupervisedLocalization, WeakLocalization

METRICS_NAME = "metrics.json"


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    folder: Path
    test: Scores
    validation: Scores
    best_epoch: int
    """From 1; the one with the highest validation accuracy, the earliest of equals."""
    floors: dict[str, Scores]
    """On the test split."""
    history: tuple[Epoch, ...]
    missing: dict[str, int]
    """Rows without features, by split."""
    dropped: Mapping[Split, int]
    """Rows left out because a later split has their video, by split."""
    best_test_epoch_accuracy: float | None
    """Test accuracy of the epoch that is best on test: selected on test, as some papers do, and so optimistic. None
    where it was not asked for."""


def result_of(
    folder: Path, fitted: Fitted, features: DatasetFeatures, task: SupervisedLocalization | WeakLocalization
) -> TrainingResult:
    """Score the selected network; the test split once."""
    test, train_clips = features.splits["test"], features.splits["train"]
    watched = [epoch.test_selection for epoch in fitted.history if epoch.test_selection is not None]
    return TrainingResult(
        folder=folder,
        test=task.evaluate(fitted.model, "test").scores,
        validation=task.evaluate(fitted.model, "validation").scores,
        best_epoch=fitted.best_epoch,
        floors=floors(train_clips.segment_labels, test.segment_labels, test.class_count, test.class_labels),
        history=fitted.history,
        missing={split: len(clips.missing) for split, clips in features.splits.items()},
        dropped=features.dropped,
        best_test_epoch_accuracy=max(watched, default=None),
    )


def write_result(
    result: TrainingResult, fitted: Fitted, features: DatasetFeatures, identity: Identity, about: Mapping[str, Any]
) -> None:
    """Write scores, curves and, last of all, the checkpoint.

    Args:
        result: its folder is where they go.
        fitted: the network.
        features: what it was trained on.
        identity: of the run.
        about: more that the checkpoint shall say of the training.
    """
    from ccln.pipeline.plots import plot_curves

    metrics: dict[str, Any] = {
        "test": result.test.as_dict(),
        "validation": result.validation.as_dict(),
        "floors": {name: scores.as_dict() for name, scores in result.floors.items()},
        "best_epoch": result.best_epoch,
        "missing": result.missing,
        "dropped": dict(result.dropped),
        "identity": dict(identity),
        "history": [asdict(epoch) for epoch in result.history],
    }
    if result.best_test_epoch_accuracy is not None:
        metrics["selected on test, as some papers do: optimistic"] = result.best_test_epoch_accuracy
    write_text(result.folder / METRICS_NAME, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    plot_curves(result.history, result.best_epoch, result.folder / "curves.png")
    training = {
        **about,
        "best_epoch": result.best_epoch,
        "test": metrics["test"],
        "validation": metrics["validation"],
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {name: importlib.metadata.version(name) for name in ("ccln", "torch", "accelerate")},
    }
    assert isinstance(fitted.model, CCLN)
    save_checkpoint(result.folder, Checkpoint(fitted.model, features.class_names, features.specification, training))


def read_finished(folder: Path) -> tuple[Fitted, Identity]:
    """The selected network of a finished run, its history, and the run's identity.

    Raises:
        TrainingError: ``metrics.json`` is not what a run writes.
        CheckpointError: the checkpoint is damaged.
    """
    path = folder / METRICS_NAME
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        history = tuple(Epoch(**epoch) for epoch in metrics["history"])
        best_epoch, identity = metrics["best_epoch"], metrics["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}). Remove the folder to train again.") from error
    return Fitted(load_checkpoint(folder).model, best_epoch, history), identity
