"""Score a finished run again, on any split of its data set or of another one with the same classes."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ccln.cache import FeatureCache, specification_digest
from ccln.extractors import pick_device
from ccln.model import Checkpoint, load_checkpoint
from ccln.pipeline import defaults
from ccln.pipeline.class_scores import ClassScores, DetailedScores, score_in_detail
from ccln.pipeline.datasets import read_dataset
from ccln.pipeline.datasets.annotations import Dataset, Split
from ccln.pipeline.evaluation import predict
from ccln.pipeline.features import load_features
from ccln.pipeline.metrics import Scores, floors, none_for_nan, score

FORMAT, VERSION = "ccln-evaluation", 1


class EvaluationError(Exception):
    """A checkpoint and a data set that do not fit together; the message says in what."""


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
    class_names: tuple[str, ...]
    """In label order, background not among them."""
    scores: Scores
    floors: dict[str, Scores]
    """What answers score that look at no clip, by name; see `ccln.pipeline.metrics.floors`."""
    detailed: DetailedScores
    missing: int
    """Rows of the split that have no features and are not scored."""

    def as_dict(self) -> dict[str, Any]:
        """The report fit for JSON; None stands for a score whose denominator is empty.

        Keys: `format` and `version` (raised whenever a key changes its meaning or goes); `run`, `data`, `split`,
        `specification` and `missing` as the attributes; `scores`, and `floors` by name, with the fields of `Scores`;
        `clip_accuracy`, the share of the clips whose class was named right; `classes`, a list in label order with
        `name` and the fields of `ClassScores`; `confusion` with `labels`, the class names and, last, the background,
        and `segments`, the number of segments as a list of rows by true label of columns by predicted label.
        """
        return {
            "format": FORMAT,
            "version": VERSION,
            "run": str(self.run),
            "data": str(self.data),
            "split": self.split,
            "specification": self.specification,
            "missing": self.missing,
            "scores": self.scores.as_dict(),
            "floors": {name: scores.as_dict() for name, scores in self.floors.items()},
            "clip_accuracy": none_for_nan(self.detailed.clip_accuracy),
            "classes": [
                {"name": name, **_class_dict(scores)}
                for name, scores in zip(self.class_names, self.detailed.classes, strict=True)
            ],
            "confusion": {
                "labels": [*self.class_names, "background"],
                "segments": self.detailed.confusion.tolist(),
            },
        }


def evaluate_checkpoint(
    run: Path | str,
    *,
    data: Path | str | None = None,
    cache: Path | str = defaults.CACHE,
    split: Split = "test",
    device: str = "auto",
) -> EvaluationReport:
    """Score the checkpoint of a run on one split of a data set.

    Where the run was trained without the rows that leak into later splits, they are left out here, too.

    Args:
        run: run folder of `train`.
        data: data set: a folder in AVE's layout or a CSV file with the checkpoint's classes, in whatever order; if
            None, the one the run was trained on where its checkpoint names one that is there, else the AVE folder in
            the working folder.
        cache: feature cache that holds the clips' features by the checkpoint's extractors.
        split: "train", "validation" or "test".
        device: "auto", "cpu", "cuda", ...

    Raises:
        CheckpointError: ``run`` holds no usable checkpoint.
        EvaluationError: the data set has other classes than the checkpoint.
        NothingFoundError: ``data`` is None and there is no telling which data set is meant.
        DatasetError, CacheError: the data set is malformed, or the cache lacks its features.
        ExtractorError: there is no such device.
    """
    run = Path(run)
    checkpoint = load_checkpoint(run)
    network = checkpoint.model.to(pick_device(device))
    dataset = read_dataset(_data_of(checkpoint) if data is None else data)
    _require_same_classes(run, checkpoint, dataset)
    # The same classes in another order are no other task: a label is looked up by its name.
    dataset = replace(dataset, class_names=checkpoint.class_names)
    specification = specification_digest(checkpoint.specification)
    drop_leaks = checkpoint.training.get("drop_leaks") is True
    splits = load_features(dataset, FeatureCache(cache), specification, drop_leaks=drop_leaks).splits
    clips = splits[split]
    truth, class_count = clips.segment_labels, clips.class_count
    predictions = predict(network, clips)
    predicted = predictions.segment_labels()
    return EvaluationReport(
        run=run,
        data=dataset.source,
        split=split,
        specification=specification,
        class_names=checkpoint.class_names,
        scores=score(predicted, truth, class_count),
        floors=floors(splits["train"].segment_labels, truth, class_count, clips.class_labels),
        detailed=score_in_detail(predicted, truth, class_count, predictions.clip_labels(), clips.class_labels),
        missing=len(clips.missing),
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


def _class_dict(scores: ClassScores) -> dict[str, float | int | None]:
    return {name: none_for_nan(value) for name, value in asdict(scores).items()}
