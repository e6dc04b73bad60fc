"""Evaluate a finished run again, on any split of its data set or of another one with classes that it knows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ccln.cache import FeatureCache, specification_digest
from ccln.extractors import pick_device
from ccln.model import Checkpoint, EventDecoding, ZeroShot
from ccln.pipeline.data.clips import Dataset, Split, class_labels
from ccln.pipeline.metrics.calibration import DecodingScores
from ccln.pipeline.metrics.evaluation import Evaluation, TaskScores, scores_by_name, without_nan
from ccln.pipeline.metrics.localization import SegmentDetails
from ccln.pipeline.metrics.open_vocabulary import OpenScores, open_scores_by_name, score_seen_and_unseen
from ccln.pipeline.metrics.videos import VideoScores, score_videos
from ccln.pipeline.train.results import decoding_scores
from ccln.pipeline.train.tasks import DatasetTask
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
    """Rows of the split that have no features and are not evaluated on."""
    decoding: EventDecoding
    """Of the checkpoint."""
    decoding_scores: DecodingScores | None
    """How good it is on the split; None where the task finds no events."""
    videos: VideoScores | None
    """On whole videos; None where the split has none longer than a clip, or the task finds no events."""
    trained_on: int | None
    """Rows evaluated on that the network was trained on; None where the checkpoint does not name those."""
    open_scores: Mapping[str, OpenScores] = field(default_factory=dict)
    """Of "all", "seen" and "unseen" classes; empty where no class is unseen."""
    method: str = "CCLN"
    """What was evaluated, as tables name it."""

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
          checkpoint's `EventDecoding` with its `DecodingScores`; where the split has videos longer than a clip
          `videos`, the `VideoScores` of their merged timelines; where classes are unseen `open`, by "all", "seen" and
          "unseen" the fields of `OpenScores`.
        - "ccln-cml-evaluation", cross-modality localization: `CmlScores`, `CmlDetails.as_dict`, and `ablated`, by what
          was taken from the clips, with the fields of the scores.
        """
        name, version = self.evaluation.details.format
        ablated = {"ablated": scores_by_name(self.evaluation.ablated)} if self.evaluation.ablated else {}
        decoding = {**asdict(self.decoding), **asdict(self.decoding_scores)} if self.decoding_scores else None
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
            "baselines": scores_by_name(self.baselines),
            **({"decoding": decoding} if decoding else {}),
            **({"videos": without_nan(self.videos)} if self.videos else {}),
            **({"open": open_scores_by_name(self.open_scores)} if self.open_scores else {}),
            **self.evaluation.details.as_dict(),
        }


def evaluate_checkpoint(
    run: Path,
    checkpoint: Checkpoint,
    dataset: Dataset,
    task: type[DatasetTask],
    cache: FeatureCache,
    *,
    split: Split = "test",
    unseen: Collection[str] = (),
    device: str = "auto",
) -> EvaluationReport:
    """Evaluate a checkpoint on one split of a data set.

    Where the run was trained without the rows that leak into later splits, they are left out here, too.

    Args:
        run: folder of the checkpoint.
        checkpoint: read from there.
        dataset: with the checkpoint's classes or some of them, in whatever order. It needs clips in this split alone.
        task: what to evaluate it for.
        cache: that holds the clips' features by the checkpoint's extractors, in whichever arithmetic.
        split: "train", "validation" or "test".
        unseen: names of classes that were not trained, to be scored apart.
        device: "auto", "cpu", "cuda", ...

    Raises:
        EvaluationError: the data set has classes that the checkpoint has not, or its network is for another task.
        SeenRowsError: the task refuses rows that were trained on, and some were, or it is not known whether they were.
        DatasetError, CacheError: the data set does not serve the task, or the cache lacks its features.
        ExtractorError: there is no such device.
    """
    _require_known_classes(run, checkpoint, dataset)
    # The same classes in another order, or fewer, are no other task: a label is looked up by its name.
    dataset = replace(dataset, class_names=checkpoint.class_names)
    drop_leaks = checkpoint.training.get("drop_leaks") is True
    features = task.load_features(dataset, cache, checkpoint.specification, drop_leaks=drop_leaks, needed=(split,))
    clips = features.splits[split]
    is_zero_shot = isinstance(checkpoint.model, ZeroShot)  # and so trained on nothing
    trained_on = 0 if is_zero_shot else task.count_trained(trained_rows(checkpoint.training), clips)
    if not isinstance(checkpoint.model, task.evaluated_type):
        raise EvaluationError(
            f"{run}: its network, a {type(checkpoint.model).__name__}, predicts nothing for --task {task.name}. "
            f"Train one that does: ccln-train --task {task.name}"
        )
    evaluation = task.evaluate(checkpoint.model.to(pick_device(device)), features, split)
    return EvaluationReport(
        run=run,
        data=dataset.source,
        split=split,
        specification=specification_digest(features.specification),
        evaluation=evaluation,
        missing=len(clips.missing),
        decoding=checkpoint.decoding,
        decoding_scores=decoding_scores(evaluation, checkpoint.decoding),
        videos=score_videos(checkpoint.model, clips, checkpoint.class_names, checkpoint.decoding),
        trained_on=trained_on,
        open_scores=_open_scores(evaluation, features.class_names, unseen),
        method="zero-shot" if is_zero_shot else "CCLN",
    )


def _open_scores(evaluation: Evaluation, class_names: Sequence[str], unseen: Collection[str]) -> dict[str, OpenScores]:
    predicted = evaluation.details.predicted if isinstance(evaluation.details, SegmentDetails) else None
    if predicted is None or not unseen:
        return {}
    labels = class_labels(predicted.clips, class_names)
    return score_seen_and_unseen(predicted.predictions.segment_labels(), predicted.truth, labels, class_names, unseen)


def _require_known_classes(run: Path, checkpoint: Checkpoint, dataset: Dataset) -> None:
    known, found = checkpoint.class_names, dataset.class_names
    if not set(found) <= set(known):
        only_known = ", ".join(name for name in known if name not in found) or "none"
        only_found = ", ".join(name for name in found if name not in known) or "none"
        raise EvaluationError(
            f"the checkpoint {run} and the data set {dataset.source} have different classes. Only the checkpoint "
            f"has: {only_known}. Only the data set has: {only_found}. Name the data set it was trained on: --data"
        )
