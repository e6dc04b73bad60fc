"""Predictions of a localization network, and their evaluation on a split."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ccln.pipeline.data.clips import AnnotatedClip, Split
from ccln.pipeline.data.features import DatasetFeatures, LabelledClips
from ccln.pipeline.data.manifest import segment_kinds
from ccln.pipeline.metrics.evaluation import Evaluation, aligned, percent, without_nan
from ccln.pipeline.metrics.kinds import KindScores, kind_rows, kinds_by_name, score_kinds
from ccln.pipeline.metrics.segments import ClassScores, DetailedScores, Scores, baselines, score, score_in_detail
from ccln.pipeline.segments import sigmoid

EVENT_THRESHOLD = 0.5
_SHOWN_CONFUSIONS = 10


@dataclass(frozen=True, eq=False)
class Predictions:
    """Outputs of a localization network for clips, as numpy arrays."""

    event_logits: np.ndarray
    """float32 (clip, segment): of an audio-visual event."""
    class_logits: np.ndarray
    """float32 (clip, class): log-probabilities."""
    visual_logits: np.ndarray
    """float32 (clip, segment, class): evidence for each class in the frames."""

    @property
    def event_probability(self) -> np.ndarray:
        """float32 (clip, segment), not calibrated."""
        return sigmoid(self.event_logits)

    def clip_labels(self) -> np.ndarray:
        """int64 (clip,): the clip's most probable class, whether or not there is an event."""
        return self.class_logits.argmax(1)

    def segment_labels(self) -> np.ndarray:
        """int64 (clip, segment): the clip's class where the event probability passes the threshold, else background."""
        class_count = self.class_logits.shape[1]
        is_event = self.event_probability >= EVENT_THRESHOLD
        return np.where(is_event, self.clip_labels()[:, None], class_count)


@torch.inference_mode()
def predict(model: nn.Module, clips: LabelledClips, batch_size: int = 128) -> Predictions:
    """Run the network over clips in their order, in evaluation mode, on the device it is on."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    events, classes, seen = [], [], []
    for start in range(0, len(clips), batch_size):
        chosen = slice(start, start + batch_size)
        visual = torch.stack(clips.visual[chosen]).to(device).float()  # (B, T, H, W, C)
        audio = torch.stack(clips.audio[chosen]).to(device)  # (B, T, D)
        output = model(visual, audio)
        events.append(output.event_logits.float().cpu())
        classes.append(output.class_logits.log_softmax(-1).float().cpu())
        seen.append(output.visual_logits.float().cpu())
    model.train(was_training)
    return Predictions(*(torch.cat(parts).numpy() for parts in (events, classes, seen)))


def evaluate(model: nn.Module, clips: LabelledClips) -> Scores:
    """Scores of the network's predictions for labelled clips."""
    return score(predict(model, clips).segment_labels(), clips.segment_labels, clips.class_count)


@dataclass(frozen=True, eq=False)
class PredictedClips:
    """The predictions for the clips of a split, beside the truth; kept so that nothing is predicted twice."""

    clips: tuple[AnnotatedClip, ...]
    """The clips evaluated."""
    truth: np.ndarray
    """int64 (clip, segment); background is the number of classes."""
    predictions: Predictions
    """Of the same clips."""


@dataclass(frozen=True, eq=False)
class SegmentDetails:
    """The classes one by one, the confusion matrix, and the kinds of seconds."""

    class_names: tuple[str, ...]
    """In label order, background not among them."""
    scores: DetailedScores
    predicted: PredictedClips | None = None
    """Clip by clip; None where only the figures are known."""
    kinds: Mapping[str, KindScores] = field(default_factory=dict)
    """By kind of second; empty where no manifest says what is in the background."""

    format: ClassVar[tuple[str, int]] = ("ccln-evaluation", 2)

    def as_dict(self) -> dict[str, Any]:
        """Entries of the report; None stands for a score whose denominator is empty.

        `clip_accuracy`, the share of the clips whose class was named right; `classes`, a list in label order with
        `name` and the fields of `ClassScores`; `confusion` with `labels`, the class names and, last, the background,
        and `segments`, the number of segments as a list of rows by true label of columns by predicted label; where
        the data set has a manifest `kinds`, by kind of second the fields of `KindScores`.
        """
        kinds = {"kinds": kinds_by_name(self.kinds)} if self.kinds else {}
        return {
            "clip_accuracy": None if math.isnan(self.scores.clip_accuracy) else self.scores.clip_accuracy,
            "classes": [
                {"name": name, **without_nan(scores)}
                for name, scores in zip(self.class_names, self.scores.classes, strict=True)
            ],
            "confusion": {"labels": [*self.class_names, "background"], "segments": self.scores.confusion.tolist()},
            **kinds,
        }

    def tables(self) -> list[str]:
        """The classes from the worst found on, what is taken for what where anything is, and the kinds of seconds."""
        rows = [
            [
                name,
                str(of.clips),
                str(of.named_right),
                *map(percent, (of.segment_recall, of.segment_precision, of.event_f1)),
            ]
            for name, of in self.worst_first()
        ]
        classes, confusions = self.scores.classes, self.largest_confusions()
        total = ["all", str(sum(of.clips for of in classes)), str(sum(of.named_right for of in classes)), "", "", ""]
        tables = [[["class", "clips", "named right", "recall", "precision", "event F1"], *rows, total]]
        if confusions:
            tables.append([["true class → predicted as", "segments", "of the true class"], *confusions])
        if self.kinds:
            tables.append(kind_rows(self.kinds))
        return [aligned(table) for table in tables]

    def worst_first(self) -> list[tuple[str, ClassScores]]:
        """The classes by rising recall; those without a segment last."""
        named = zip(self.class_names, self.scores.classes, strict=True)
        return sorted(named, key=lambda pair: np.nan_to_num(pair[1].segment_recall, nan=math.inf))

    def largest_confusions(self) -> list[list[str]]:
        """The wrong cells of the confusion matrix with the most segments, at most ten, as rows of a table.

        A row has the true and the predicted label, the number of segments, and their share of the true label's.
        """
        confusion, labels = self.scores.confusion, [*self.class_names, "background"]
        wrong = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
        largest = np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN_CONFUSIONS]
        return [
            [f"{labels[i]} → {labels[j]}", str(confusion[i, j]), percent(confusion[i, j] / confusion[i].sum())]
            for i, j in zip(*np.unravel_index(largest, wrong.shape), strict=True)
            if wrong[i, j]
        ]


def evaluate_localization(network: nn.Module, features: DatasetFeatures, split: Split) -> Evaluation:
    """Evaluate a localization network on a split, segment by segment."""
    clips = features.splits[split]
    truth, class_count = clips.segment_labels, clips.class_count
    predictions = predict(network, clips)
    predicted = predictions.segment_labels()
    detailed = score_in_detail(predicted, truth, class_count, predictions.clip_labels(), clips.class_labels)
    kinds = segment_kinds(clips.clips, truth != class_count)
    return Evaluation(
        scores=score(predicted, truth, class_count),
        ablated={},
        baselines=baselines(features.splits["train"].segment_labels, truth, class_count, clips.class_labels),
        details=SegmentDetails(
            features.class_names,
            detailed,
            PredictedClips(clips.clips, truth, predictions),
            {} if kinds is None else score_kinds(predicted != class_count, kinds),
        ),
    )
