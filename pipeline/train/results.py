"""What a finished run has achieved, and the files that hold it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from ccln.files import write_whole
from ccln.model import Checkpoint, EventDecoding, Network, load_checkpoint, save_checkpoint
from ccln.pipeline.data.clips import Split
from ccln.pipeline.data.features import DatasetFeatures
from ccln.pipeline.metrics.calibration import DecodingScores, choose_decoding, score_decoding
from ccln.pipeline.metrics.evaluation import Evaluation, TaskScores, percent, scores_by_name, without_nan
from ccln.pipeline.metrics.kinds import KindScores, kinds_by_name
from ccln.pipeline.metrics.localization import PredictedClips, SegmentDetails
from ccln.pipeline.metrics.videos import VideoScores, score_videos
from ccln.pipeline.train.loop import Trained
from ccln.pipeline.train.state import Epoch, Identity, TrainingError
from ccln.pipeline.train.tasks import DatasetTask
from ccln.pipeline.train.trained_rows import with_rows
from ccln.strict_json import strict_json

METRICS_NAME = "metrics.json"


@dataclass(frozen=True)
class RunFacts:
    """What a run was."""

    task: str
    """As in `--task`."""
    data: str
    """Path of the data set."""
    seed: int
    class_names: tuple[str, ...]
    segments: int
    """Of a clip."""
    rows: Mapping[Split, int]
    """With features, by split."""
    without: tuple[str, ...]
    """Parts left out of the network."""
    specification: Mapping[str, Any]
    """Of the extractors."""
    identity: Identity
    config: str
    """The resolved config, TOML."""
    versions: Mapping[str, str]
    """Of the packages that decide the outcome, by name."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    folder: Path
    facts: RunFacts
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
    """How the network's outputs become events, chosen on validation."""
    decoding_scores: Mapping[Split, DecodingScores]
    """Of validation and test; empty where the task finds no events."""
    best_test_selection: float | None
    """What validation is selected on, of the epoch that is best on test: selected on test, as some papers do, and so
    optimistic. None where it was not asked for."""
    videos: Mapping[Split, VideoScores] = field(default_factory=dict)
    """Of whole videos in validation and test; without those that have none longer than a clip."""
    warnings: tuple[str, ...] = ()
    """Why not to rely on the network."""

    @property
    def test(self) -> TaskScores:
        """Scores of the test split."""
        return self.on_test.scores

    @property
    def validation(self) -> TaskScores:
        """Scores of the validation split."""
        return self.on_validation.scores

    @property
    def kinds(self) -> Mapping[Split, Mapping[str, KindScores]]:
        """What is called event on test and validation, by kind of second; empty without a manifest."""
        found: dict[Split, Mapping[str, KindScores]] = {}
        evaluations: dict[Split, Evaluation] = {"test": self.on_test, "validation": self.on_validation}
        for split, evaluation in evaluations.items():
            if isinstance(evaluation.details, SegmentDetails) and evaluation.details.kinds:
                found[split] = evaluation.details.kinds
        return found

    @property
    def baselines(self) -> Mapping[str, TaskScores]:
        """Of the test split."""
        return self.on_test.baselines


@dataclass(frozen=True)
class SeveralRuns:
    """Finished runs that differ in their seeds, or in their seeds and in the parts left out."""

    folder: Path
    """That all of them lie in."""
    methods: Mapping[str, Sequence[TrainingResult]]
    """Of each method, by its name, the runs in the order of their seeds."""
    reference: str | None = None
    """The method of an ablation that the others are compared with."""


def evaluate_run(
    folder: Path, trained: Trained, features: DatasetFeatures, task: DatasetTask, facts: RunFacts
) -> TrainingResult:
    """Evaluate the selected network; on the test split once."""
    watched = [epoch.test_selection for epoch in trained.history if epoch.test_selection is not None]
    on_validation = task.evaluate(trained.model, features, "validation")
    on_test = task.evaluate(trained.model, features, "test")
    predicted = _predicted(on_validation)
    decoding = EventDecoding() if predicted is None else choose_decoding(predicted.predictions, predicted.truth)
    scores: dict[Split, DecodingScores | None] = {
        "validation": decoding_scores(on_validation, decoding),
        "test": decoding_scores(on_test, decoding),
    }
    videos: dict[Split, VideoScores] = {
        split: found
        for split in scores
        if (found := score_videos(trained.model, features.splits[split], features.class_names, decoding)) is not None
    }
    return TrainingResult(
        folder=folder,
        facts=facts,
        on_test=on_test,
        on_validation=on_validation,
        best_epoch=trained.best_epoch,
        history=trained.history,
        missing={split: len(clips.missing) for split, clips in features.splits.items()},
        dropped=features.dropped,
        decoding=decoding,
        decoding_scores={split: of_split for split, of_split in scores.items() if of_split is not None},
        best_test_selection=max(watched, default=None),
        videos=videos,
        warnings=tuple(_warnings(features, on_validation)),
    )


def decoding_scores(evaluation: Evaluation, decoding: EventDecoding) -> DecodingScores | None:
    """How good a decoding is on a split; None where there are no events to decode."""
    predicted = _predicted(evaluation)
    return None if predicted is None else score_decoding(predicted.predictions, predicted.truth, decoding)


def _predicted(evaluation: Evaluation) -> PredictedClips | None:
    return evaluation.details.predicted if isinstance(evaluation.details, SegmentDetails) else None


def _warnings(features: DatasetFeatures, validation: Evaluation) -> list[str]:
    """Of classes without training clips, and of a network that is no better than a trivial baseline on validation."""
    found = []
    counts = np.bincount(features.splits["train"].class_labels, minlength=len(features.class_names))
    untrained = [name for name, count in zip(features.class_names, counts, strict=False) if not count]
    if untrained:
        found.append(f"no training clip is of {'; '.join(untrained)}: the network cannot know what that is")
    best, reached = validation.best_trivial(), validation.scores.selection
    if best is not None and not reached > (trivial := validation.baselines[best].selection):
        found.append(
            f"the network is no better than a trivial baseline: its {validation.scores.selected_on} on validation is "
            f'{percent(reached)}, that of "{best}" {percent(trivial)}'
        )
    return found


def write_result(
    result: TrainingResult,
    trained: Trained,
    features: DatasetFeatures,
    *,
    drop_leaks: bool,
    init: Checkpoint | None = None,
    report: Callable[[TrainingResult], object] | None = None,
) -> None:
    """Write config, scores, report and, last of all, the checkpoint, which marks a finished run.

    Args:
        result: its folder is where they go.
        trained: the network.
        features: what it was trained on.
        drop_leaks: whether rows that leak into later splits were left out.
        init: the network that training started from; its rows were trained on, too.
        report: writes what people read into the folder.
    """
    facts, metrics = result.facts, _metrics(result)
    write_whole(result.folder / "config.toml", facts.config.encode())
    write_whole(result.folder / METRICS_NAME, (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())
    if report is not None:
        report(result)
    training = {
        "task": facts.task,
        "data": facts.data,
        "drop_leaks": drop_leaks,
        "seed": facts.seed,
        "best_epoch": result.best_epoch,
        "test": metrics["test"],
        "validation": metrics["validation"],
        "warnings": list(result.warnings),
        **({} if init is None else {"init": init.weights_sha256}),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": dict(facts.versions),
    }
    clips, network = features.splits["train"], cast(Network, trained.model)  # the loop takes any
    training = with_rows(training, clips.clips, clips.keys, earlier=None if init is None else init.training)
    save_checkpoint(
        result.folder, Checkpoint(network, features.class_names, features.specification, training, result.decoding)
    )


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a finished run."""
    return (folder / "config.json").exists()


def read_finished(folder: Path) -> tuple[Trained, Identity]:
    """The selected network of a finished run, its history, and the run's identity.

    Raises:
        TrainingError: ``metrics.json`` is not what a run writes.
        CheckpointError: the checkpoint is damaged.
    """
    path = folder / METRICS_NAME
    try:
        metrics = strict_json(path.read_bytes())
        history = tuple(Epoch(**epoch) for epoch in metrics["history"])
        best_epoch, identity = metrics["best_epoch"], metrics["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}). Remove the folder to train again.") from error
    return Trained(load_checkpoint(folder).model, best_epoch, history), identity


def _metrics(result: TrainingResult) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "test": result.test.as_dict(),
        "validation": result.validation.as_dict(),
        "baselines": scores_by_name(result.baselines),
        "validation_baselines": scores_by_name(result.on_validation.baselines),
        "best_epoch": result.best_epoch,
        "missing": result.missing,
        "dropped": dict(result.dropped),
        "identity": dict(result.facts.identity),
        "history": [asdict(epoch) for epoch in result.history],
    }
    if result.decoding_scores:
        scores = {split: asdict(of_split) for split, of_split in result.decoding_scores.items()}
        metrics["decoding"] = {**asdict(result.decoding), "scores": scores}
    if result.videos:
        metrics["videos"] = {split: without_nan(of_split) for split, of_split in result.videos.items()}
    if result.kinds:
        metrics["kinds"] = {split: kinds_by_name(of_split) for split, of_split in result.kinds.items()}
    if result.on_test.ablated:
        metrics["ablated"] = scores_by_name(result.on_test.ablated)
        metrics["validation_ablated"] = scores_by_name(result.on_validation.ablated)
    if result.best_test_selection is not None:
        metrics["selected on test, as some papers do: optimistic"] = result.best_test_selection
    return metrics
