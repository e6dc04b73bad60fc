"""Localization, assessed: scores and baselines of a split, class by class, and what is taken for what."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from ccln.pipeline.data.clips import Split
from ccln.pipeline.data.features import DatasetFeatures
from ccln.pipeline.metrics.answers import SegmentAnswers
from ccln.pipeline.metrics.assessment import Assessment
from ccln.pipeline.metrics.class_scores import ClassScores, DetailedScores, score_in_detail
from ccln.pipeline.metrics.prediction import predict
from ccln.pipeline.metrics.segments import baselines, none_for_nan, score
from ccln.pipeline.metrics.tables import aligned, percent

_SHOWN_CONFUSIONS = 10


@dataclass(frozen=True, eq=False)
class SegmentDetails:
    """The classes one by one, and the confusion matrix."""

    class_names: tuple[str, ...]
    """In label order, background not among them."""
    scores: DetailedScores
    answers: SegmentAnswers | None = None
    """Clip by clip; None where only the figures are known."""

    format: ClassVar[tuple[str, int]] = ("ccln-evaluation", 1)

    def as_dict(self) -> dict[str, Any]:
        """Entries of the report; None stands for a score whose denominator is empty.

        `clip_accuracy`, the share of the clips whose class was named right; `classes`, a list in label order with
        `name` and the fields of `ClassScores`; `confusion` with `labels`, the class names and, last, the background,
        and `segments`, the number of segments as a list of rows by true label of columns by predicted label.
        """
        return {
            "clip_accuracy": none_for_nan(self.scores.clip_accuracy),
            "classes": [
                {"name": name, **{field: none_for_nan(value) for field, value in asdict(scores).items()}}
                for name, scores in zip(self.class_names, self.scores.classes, strict=True)
            ],
            "confusion": {"labels": [*self.class_names, "background"], "segments": self.scores.confusion.tolist()},
        }

    def tables(self) -> list[str]:
        """The classes from the worst found on, and what is taken for what where anything is."""
        confusions = _confusions_table([*self.class_names, "background"], self.scores.confusion)
        return [self._class_table(), *([confusions] if confusions else [])]

    def _class_table(self) -> str:
        by_recall = sorted(zip(self.class_names, self.scores.classes, strict=True), key=lambda named: _worst(named[1]))
        rows = [
            [
                name,
                str(scores.clips),
                str(scores.named_right),
                percent(scores.segment_recall),
                percent(scores.segment_precision),
                percent(scores.event_f1),
            ]
            for name, scores in by_recall
        ]
        classes = self.scores.classes
        total = ["all", str(sum(s.clips for s in classes)), str(sum(s.named_right for s in classes)), "", "", ""]
        return aligned([["class", "clips", "named right", "recall", "precision", "event F1"], *rows, total])


def assess_segments(network: nn.Module, features: DatasetFeatures, split: Split) -> Assessment:
    """Score a localization network on a split, segment by segment."""
    clips = features.splits[split]
    truth, class_count = clips.segment_labels, clips.class_count
    predictions = predict(network, clips)
    predicted = predictions.segment_labels()
    detailed = score_in_detail(predicted, truth, class_count, predictions.clip_labels(), clips.class_labels)
    return Assessment(
        scores=score(predicted, truth, class_count),
        ablated={},
        baselines=baselines(features.splits["train"].segment_labels, truth, class_count, clips.class_labels),
        details=SegmentDetails(features.class_names, detailed, SegmentAnswers(clips.clips, truth, predictions)),
    )


def largest_confusions(confusion: np.ndarray) -> list[tuple[int, int]]:
    """The wrong cells of a confusion matrix with the most segments, at most ten, as (true label, predicted label)."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    largest = np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN_CONFUSIONS]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(largest, wrong.shape), strict=True) if wrong[i, j]]


def _worst(scores: ClassScores) -> float:
    """To sort by recall, classes that are not there last."""
    return math.inf if math.isnan(scores.segment_recall) else scores.segment_recall


def _confusions_table(labels: Sequence[str], confusion: np.ndarray) -> str:
    """The wrong cells of the matrix with the most segments; nothing where all is right."""
    rows = [
        [f"{labels[i]} → {labels[j]}", str(confusion[i, j]), percent(confusion[i, j] / confusion[i].sum())]
        for i, j in largest_confusions(confusion)
    ]
    return aligned([["what it is → taken for", "segments", "of all of it"], *rows]) if rows else ""
