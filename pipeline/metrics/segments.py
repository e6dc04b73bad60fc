"""How well segments and events were found, and the baselines below which a result says nothing.

Everything is computed from integer labels (clip, segment) in which the background is the number of classes. Segments
last one second, so positions are seconds.
"""

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from ccln.pipeline.metrics.assessment import Column
from ccln.pipeline.metrics.events import (
    boundary_errors,
    count_overlapping,
    count_within_tolerance,
    events_by_class,
)

TOLD_THE_CLASS = "right class, every segment an event"  # a reference that uses the truth, not a floor


@dataclass(frozen=True)
class Scores:
    """The scores of one set of clips. A score whose denominator is empty is NaN.

    Attributes:
        segment_accuracy: Share of the segments whose label, of the classes and the background, is right. AVE's metric.
        background_recall: Share of the background segments that were called background.
        background_precision: Share of the segments called background that are.
        event_f1: F1 over all events of the set. An event is a maximal run of one class; a predicted one is right where
            it is matched one to one with a true one of its class in its clip, both ends at most one second apart.
        event_f1_tiou: The same, a pair being right where its temporal intersection over union is at least one half.
        boundary_error_seconds: Mean distance of the ends of a true event from those of the predicted event of its class
            that overlaps it most (the earliest of several), over the true events that have one.
        boundary_matched: Share of the true events that have one.
        clips: Number of clips.
    """

    segment_accuracy: float
    background_recall: float
    background_precision: float
    event_f1: float
    event_f1_tiou: float
    boundary_error_seconds: float
    boundary_matched: float
    clips: int

    columns: ClassVar[tuple[Column, ...]] = (
        Column("segment_accuracy", "accuracy", over_seeds=True, headline=True),
        Column("background_recall", "bg recall", over_seeds=True),
        Column("background_precision", "bg precision"),
        Column("event_f1", "event F1", over_seeds=True),
        Column("event_f1_tiou", "at tIoU 0.5"),
        Column("boundary_error_seconds", "boundary error", unit="s", over_seeds=True),
    )
    selected_on: ClassVar[str] = "accuracy"

    @property
    def selection(self) -> float:
        """Segment accuracy."""
        return self.segment_accuracy

    def as_dict(self) -> dict[str, float | int | None]:
        """The scores by name, fit for JSON: None instead of NaN."""
        return {name: none_for_nan(value) for name, value in asdict(self).items()}


def score(predicted: np.ndarray, truth: np.ndarray, class_count: int) -> Scores:
    """Compares predicted labels with true ones.

    Args:
        predicted: Integer labels (clip, segment), each 0 to `class_count`, which is the background.
        truth: True labels of the same shape.
        class_count: Number of classes without the background.

    Raises:
        ValueError: Shapes differ or are not (clip, segment), there is no clip, or labels are not integers in range.
    """
    predicted, truth = checked_pair(predicted, truth, class_count)
    predicted_count = true_count = within_tolerance = overlapping = 0
    errors = []
    for predicted_clip, true_clip in zip(predicted, truth, strict=True):
        predicted_events = events_by_class(predicted_clip, class_count)
        true_events = events_by_class(true_clip, class_count)
        predicted_count += sum(map(len, predicted_events.values()))
        true_count += sum(map(len, true_events.values()))
        for label in predicted_events.keys() & true_events.keys():
            both = predicted_events[label], true_events[label]
            within_tolerance += count_within_tolerance(*both)
            overlapping += count_overlapping(*both)
            errors += boundary_errors(*both)

    is_background, called_background = truth == class_count, predicted == class_count
    right_background = (is_background & called_background).sum().item()
    return Scores(
        segment_accuracy=float(np.mean(predicted == truth)),
        background_recall=ratio(right_background, is_background.sum().item()),
        background_precision=ratio(right_background, called_background.sum().item()),
        event_f1=ratio(2 * within_tolerance, predicted_count + true_count),
        event_f1_tiou=ratio(2 * overlapping, predicted_count + true_count),
        boundary_error_seconds=ratio(sum(errors), len(errors)),
        boundary_matched=ratio(len(errors), true_count),
        clips=len(truth),
    )


def baselines(
    train_truth: np.ndarray, truth: np.ndarray, class_count: int, clip_labels: np.ndarray
) -> dict[str, Scores]:
    """Scores of answers that look at no clip, and of one that is told the class but looks for no boundary.

    Args:
        train_truth: True labels of the training clips (clip, segment).
        truth: True labels of the clips to score (clip, segment).
        class_count: Number of classes without the background.
        clip_labels: True class of each clip to score (clip,); `class_count` where a clip is background throughout.

    Returns:
        By name: "always background"; "most frequent label per segment", the commonest of all labels in training, for
        each segment on its own; "best single class", the commonest class in training in every segment; and, as it uses
        the truth a reference rather than a floor, "right class, every segment an event". Ties go to the lowest index.

    Raises:
        ValueError: Shapes do not fit together, or labels are not integers in range.
    """
    train_truth = _checked("train_truth", train_truth, class_count)
    truth = _checked("truth", truth, class_count)
    if train_truth.shape[1] != truth.shape[1]:
        raise ValueError(f"train_truth has {train_truth.shape[1]} segments a clip but truth {truth.shape[1]}")
    clip_labels = checked_clips("clip_labels", clip_labels, len(truth), class_count)

    counts = np.stack([np.bincount(labels, minlength=class_count + 1) for labels in train_truth.T])  # (segment, label)
    answers = {
        "always background": class_count,
        "most frequent label per segment": counts.argmax(axis=1),
        "best single class": counts[:, :class_count].sum(axis=0).argmax(),
        TOLD_THE_CLASS: clip_labels[:, np.newaxis],
    }
    return {name: score(np.broadcast_to(answer, truth.shape), truth, class_count) for name, answer in answers.items()}


def checked_pair(predicted: np.ndarray, truth: np.ndarray, class_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true labels (clip, segment) as int64.

    Raises:
        ValueError: Shapes differ or are not (clip, segment), there is no clip, or labels are not integers in range.
    """
    predicted = _checked("predicted", predicted, class_count)
    truth = _checked("truth", truth, class_count)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted has the shape {predicted.shape} but truth {truth.shape}; expected the same")
    return predicted, truth


def checked_clips(name: str, labels: np.ndarray, clips: int, class_count: int) -> np.ndarray:
    """One label a clip (clip,) as int64.

    Raises:
        ValueError: There are not `clips` of them, or they are not integers from 0 to `class_count`.
    """
    labels = np.asarray(labels)
    if labels.shape != (clips,):
        raise ValueError(f"{name} has the shape {labels.shape}; expected {(clips,)}")
    return _checked(name, labels[:, np.newaxis], class_count)[:, 0]


def _checked(name: str, labels: np.ndarray, highest: int) -> np.ndarray:
    """The labels as int64, so that they compare and count alike whatever integers they came in."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.size == 0:
        raise ValueError(f"{name} has the shape {labels.shape}; expected (clip, segment), neither of them 0")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} holds {labels.dtype}; expected integer labels")
    if labels.min() < 0 or labels.max() > highest:
        raise ValueError(f"{name} has labels from {labels.min()} to {labels.max()}; expected 0 to {highest}")
    return labels.astype(np.int64)


def ratio(part: float, whole: float) -> float:
    """`part / whole`, NaN where there is nothing to divide by."""
    return float(part / whole) if whole else math.nan


def none_for_nan(value: float) -> float | None:
    """The number, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value
