"""What a finished run says of itself, and the files that say it."""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from ccln.model import Checkpoint, EventDecoding, Network, load_checkpoint, save_checkpoint
from ccln.pipeline.data.clips import Split
from ccln.pipeline.data.features import DatasetFeatures
from ccln.pipeline.metrics.calibration import DecodingScores
from ccln.pipeline.metrics.evaluation import Evaluation, TaskScores
from ccln.pipeline.train.loop import Epoch, Fitted
from ccln.pipeline.train.run_folder import Identity, TrainingError, write_text
from ccln.pipeline.train.trainable import TrainableTask
from ccln.pipeline.train.trained_rows import with_rows

METRICS_NAME = "metrics.json"
SELECTED_ON_TEST = "selected on test, as some papers do: optimistic"


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    folder: Path
    on_test: Evaluation
    on_validation: Evaluation
    best_epoch: int
    """From 1; the one with the highest validation score, the earliest of equals."""
    history: tuple[Epoch, ...]
    missing: dict[str, int]
    """Rows without features, by split."""
    dropped: Mapping[Split, int]
    """Rows left out because a later split has their video, by split."""
    decoding: EventDecoding
    """How the network's answers become events, chosen on validation."""
    decoding_scores: Mapping[Split, DecodingScores]
    """How good that decoding is on validation and test; empty where the task has no events to decode."""
    best_test_selection: float | None
    """What validation is selected on, of the epoch that is best on test: selected on test, as some papers do, and so
    optimistic. None where it was not asked for."""

    @property
    def test(self) -> TaskScores:
        """Scores of the test split."""
        return self.on_test.scores

    @property
    def validation(self) -> TaskScores:
        """Scores of the validation split."""
        return self.on_validation.scores

    @property
    def baselines(self) -> Mapping[str, TaskScores]:
        """Of the test split."""
        return self.on_test.baselines


def result_of(folder: Path, fitted: Fitted, features: DatasetFeatures, task: TrainableTask) -> TrainingResult:
    """Score the selected network; the test split once."""
    watched = [epoch.test_selection for epoch in fitted.history if epoch.test_selection is not None]
    on_validation: Evaluation = task.evaluation(fitted.model, features, "validation")
    on_test: Evaluation = task.evaluation(fitted.model, features, "test")
    decoding = task.chosen_decoding(on_validation)
    splits: dict[Split, Evaluation] = {"validation": on_validation, "test": on_test}
    decoding_scores: dict[Split, DecodingScores] = {}
    for split, evaluation in splits.items():
        if (scores := task.score_decoding(evaluation, decoding)) is not None:
            decoding_scores[split] = scores
    return TrainingResult(
        folder=folder,
        on_test=on_test,
        on_validation=on_validation,
        decoding=decoding,
        decoding_scores=decoding_scores,
        best_epoch=fitted.best_epoch,
        history=fitted.history,
        missing={split: len(clips.missing) for split, clips in features.splits.items()},
        dropped=features.dropped,
        best_test_selection=max(watched, default=None),
    )


def write_result(
    result: TrainingResult,
    fitted: Fitted,
    features: DatasetFeatures,
    identity: Identity,
    about: Mapping[str, Any],
    config: str,
) -> None:
    """Write config, scores, curves, page and, last of all, the checkpoint.

    Args:
        result: its folder is where they go.
        fitted: the network.
        features: what it was trained on.
        identity: of the run.
        about: more that the checkpoint shall say of the training; task, data and seed are among it.
        config: the resolved one, TOML.
    """
    from ccln.pipeline.report.run.run import RunFacts, write_run_page

    write_text(result.folder / "config.toml", config)
    metrics = _metrics(result, identity)
    write_text(result.folder / METRICS_NAME, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    network = cast(Network, fitted.model)  # the loop takes any
    versions = {name: importlib.metadata.version(name) for name in ("ccln", "torch", "accelerate")}
    facts = RunFacts(
        task=about["task"],
        data=about["data"],
        seed=about["seed"],
        class_names=features.class_names,
        segments=network.config.segment_count,
        rows={split: len(clips) for split, clips in features.splits.items()},
        without=network.config.without,
        specification=features.specification,
        identity=identity,
        config=config,
        versions=versions,
    )
    write_run_page(result, facts)
    training = {
        **about,
        "best_epoch": result.best_epoch,
        "test": metrics["test"],
        "validation": metrics["validation"],
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions,
    }
    train = features.splits["train"]
    training = with_rows(training, train.clips, train.keys)
    save_checkpoint(
        result.folder, Checkpoint(network, features.class_names, features.specification, training, result.decoding)
    )


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


def _metrics(result: TrainingResult, identity: Identity) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "test": result.test.as_dict(),
        "validation": result.validation.as_dict(),
        "baselines": _by_name(result.baselines),
        "validation_baselines": _by_name(result.on_validation.baselines),
        "best_epoch": result.best_epoch,
        "missing": result.missing,
        "dropped": dict(result.dropped),
        "identity": dict(identity),
        "history": [asdict(epoch) for epoch in result.history],
    }
    if result.decoding_scores:
        scores = {split: asdict(of_split) for split, of_split in result.decoding_scores.items()}
        metrics["decoding"] = {**asdict(result.decoding), "scores": scores}
    if result.on_test.ablated:
        metrics["ablated"] = _by_name(result.on_test.ablated)
        metrics["validation_ablated"] = _by_name(result.on_validation.ablated)
    if result.best_test_selection is not None:
        metrics[SELECTED_ON_TEST] = result.best_test_selection
    return metrics


def _by_name(scores: Mapping[str, TaskScores]) -> dict[str, Any]:
    return {name: of.as_dict() for name, of in scores.items()}
