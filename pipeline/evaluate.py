"""Evaluate a finished run, on any split of its data set or of another one with the same classes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ccln.cache import FeatureCache, specification_digest
from ccln.extractors import pick_device
from ccln.model import Checkpoint, EventDecoding, load_checkpoint
from ccln.pipeline import defaults
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import Dataset, Split
from ccln.pipeline.data.features import load_features
from ccln.pipeline.metrics.calibration import DecodingScores
from ccln.pipeline.metrics.evaluation import Evaluation, TaskScores
from ccln.pipeline.train.trainable import TASKS, TaskName, TrainableTask
from ccln.pipeline.train.trained_rows import trained_rows


class EvaluationError(Exception):
    """A checkpoint and a data set or a task that do not fit together; the message says in what."""


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """What a checkpoint achieves on one split of a data set."""

    run: Path
    """Folder of the checkpoint."""
    data: Path
    """The data set."""
    split: Split
    specification: str
    """Digest of the extractor specification of the features."""
    evaluation: Evaluation
    missing: int
    """Rows of the split that have no features and are not evaluated."""
    decoding: EventDecoding
    """Of the checkpoint."""
    decoding_scores: DecodingScores | None
    """How good that decoding is on the split; None where the task has no events to decode."""
    trained_on: int | None
    """Rows evaluated that the network was trained on; None where the checkpoint does not say which those were."""

    @property
    def scores(self) -> TaskScores:
        """Of the network."""
        return self.evaluation.scores

    @property
    def baselines(self) -> Mapping[str, TaskScores]:
        """Scores of the trivial baselines and the oracle class, by name."""
        return self.evaluation.baselines

    def as_dict(self) -> dict[str, Any]:
        """The report fit for JSON; None stands for a score whose denominator is empty.

        Keys: `format` and `version` (raised whenever a key changes its meaning or goes); `run`, `data`, `split`,
        `specification`, `missing` and `trained_on` as the attributes; `scores`, and `baselines` by name, with the
        fields of the task's scores; and what the format has of its own:

        - "ccln-evaluation", localization, scored per segment: `Scores`, `SegmentDetails.as_dict`, and `decoding`, the
          checkpoint's `EventDecoding` with its `DecodingScores`.
        - "ccln-cml-evaluation", cross-modality localization: `CmlScores`, `CmlDetails.as_dict`, and
          `ablated`, by what was taken from the clips, with the fields of the scores.
        """
        name, version = self.evaluation.details.format
        ablated = {"ablated": _by_name(self.evaluation.ablated)} if self.evaluation.ablated else {}
        return {
            "format": name,
            "version": version,
            "run": str(self.run),
            "data": str(self.data),
            "split": self.split,
            "specification": self.specification,
            "missing": self.missing,
            "trained_on": self.trained_on,
            "scores": self.scores.as_dict(),
            **ablated,
            "baselines": _by_name(self.baselines),
            **({"decoding": {**asdict(self.decoding), **asdict(self.decoding_scores)}} if self.decoding_scores else {}),
            **self.evaluation.details.as_dict(),
        }


def evaluate(
    run: Path | str,
    *,
    data: Path | str | None = None,
    cache: Path | str = defaults.CACHE,
    split: Split = "test",
    task: TaskName | None = None,
    device: str = "auto",
) -> EvaluationReport:
    """Evaluate the checkpoint of a run on one split of a data set.

    Where the run was trained without the rows that leak into later splits, they are left out here, too. For
    cross-modality localization, rows that the run was trained on are refused, whatever it was trained for and whichever
    data set or split has them now; for the other tasks the report counts them.

    Args:
        run: run folder of `train`.
        data: data set: a folder in AVE's layout or a CSV file with the checkpoint's classes, in whatever order; if
            None, the one the run was trained on where its checkpoint names one that is there, else the AVE folder in
            the working folder.
        cache: feature cache that holds the clips' features by the checkpoint's extractors, in whichever arithmetic.
        split: "train", "validation" or "test".
        task: what to evaluate it for; if None, what its network is for. Full and weak supervision are evaluated alike.
        device: "auto", "cpu", "cuda", ...

    Raises:
        CheckpointError: ``run`` holds no usable checkpoint.
        EvaluationError: the data set has other classes than the checkpoint, or its network is for another task.
        SeenRowsError: rows to evaluate were trained on, or there is no telling whether they were.
        NothingFoundError: ``data`` is None and there is no telling which data set is meant.
        DatasetError, CacheError: the data set is malformed, or the cache lacks its features.
        ExtractorError: there is no such device.
    """
    run = Path(run)
    checkpoint = load_checkpoint(run)
    wanted = _task_of(checkpoint) if task is None else TASKS[task]
    dataset = read_dataset(_data_of(checkpoint) if data is None else data)
    _require_same_classes(run, checkpoint, dataset)
    # The same classes in another order are no other task: a label is looked up by its name.
    dataset = replace(wanted.arranged(dataset), class_names=checkpoint.class_names)
    drop_leaks = checkpoint.training.get("drop_leaks") is True
    features = load_features(dataset, FeatureCache(cache), checkpoint.specification, drop_leaks=drop_leaks)
    trained_on = wanted.seen(trained_rows(checkpoint.training), features.splits[split])
    _require_network(run, checkpoint, wanted)
    evaluation = wanted.evaluation(checkpoint.model.to(pick_device(device)), features, split)
    return EvaluationReport(
        run=run,
        data=dataset.source,
        split=split,
        specification=specification_digest(features.specification),
        evaluation=evaluation,
        decoding=checkpoint.decoding,
        decoding_scores=wanted.score_decoding(evaluation, checkpoint.decoding),
        missing=len(features.splits[split].missing),
        trained_on=trained_on,
    )


def _task_of(checkpoint: Checkpoint) -> type[TrainableTask]:
    """The first task that has such a network; those that share one are evaluated alike."""
    return next(task for task in TASKS.values() if isinstance(checkpoint.model, task.network_type))


def _require_network(run: Path, checkpoint: Checkpoint, wanted: type[TrainableTask]) -> None:
    if not isinstance(checkpoint.model, wanted.network_type):
        raise EvaluationError(
            f"{run}: its network is one of --task {_task_of(checkpoint).name} and has no answer to --task "
            f"{wanted.name}. Train one that has: ccln-train --task {wanted.name}"
        )


def _data_of(checkpoint: Checkpoint) -> Path:
    named = checkpoint.training.get("data")
    return Path(named) if isinstance(named, str) and Path(named).exists() else defaults.find_data()


def _require_same_classes(run: Path, checkpoint: Checkpoint, dataset: Dataset) -> None:
    known, found = checkpoint.class_names, dataset.class_names
    if set(known) != set(found):
        only_known = ", ".join(name for name in known if name not in found) or "none"
        only_found = ", ".join(name for name in found if name not in known) or "none"
        raise EvaluationError(
            f"the checkpoint {run} and the data set {dataset.source} have different classes. Only the checkpoint "
            f"has: {only_known}. Only the data set has: {only_found}. Name the data set it was trained on: --data"
        )


def _by_name(scores: Mapping[str, TaskScores]) -> dict[str, Any]:
    return {name: of.as_dict() for name, of in scores.items()}
