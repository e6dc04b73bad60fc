"""Scores of segments and events, overall and class by class, and the baselines to compare them with.

Everything is computed from integer labels (clip, segment) in which the background is the number of classes. Segments
last one second, so positions are seconds.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ccln.pipeline.metrics.evaluation import ORACLE_CLASS, Column, ratio, without_nan
from ccln.pipeline.segments import equal_runs

EVENT_TOLERANCE_SECONDS = 1
LEAST_TIOU = 0.5

Span = tuple[int, int]
"""An event from its first second up to but not including its last number."""

Interval = tuple[float, float]
"""An event from its start to its end, in seconds."""


@dataclass(frozen=True)
class Scores:
    """The scores of one set of clips. A score whose denominator is empty is NaN."""

    segment_accuracy: float
    """Share of the segments whose label, of the classes and the background, is right. AVE's metric."""
    background_recall: float
    """Share of the background segments that were predicted as background."""
    background_precision: float
    """Share of the segments predicted as background that are."""
    event_f1: float
    """F1 over all events of the set. An event is a maximal run of one class; a predicted one is right where it is
    matched one to one with a true one of its class in its clip, both ends at most one second apart."""
    event_f1_tiou: float
    """The same, a pair being right where its temporal intersection over union is at least one half."""
    boundary_error_seconds: float
    """Mean distance of the ends of a true event from those of the predicted event of its class that overlaps it most
    (the earliest of several), over the true events that have one."""
    boundary_matched: float
    """Share of the true events that have one."""
    clips: int
    """Number of clips."""

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
        return without_nan(self)


def score(predicted: np.ndarray, truth: np.ndarray, class_count: int) -> Scores:
    """Compare predicted labels with true ones.

    Args:
        predicted: Integer labels (clip, segment), each 0 to `class_count`, which is the background.
        truth: True labels of the same shape.
        class_count: Number of classes without the background.

    Raises:
        ValueError: Shapes differ or are not (clip, segment), there is no clip, or labels are not integers in range.
    """
    predicted, truth = _checked_pair(predicted, truth, class_count)
    predicted_count = true_count = within_tolerance = overlapping = 0
    errors = []
    for _, found, wanted in events_of_classes(predicted, truth, class_count):
        predicted_count += len(found)
        true_count += len(wanted)
        within_tolerance += count_within_tolerance(found, wanted)
        overlapping += count_overlapping(found, wanted)
        errors += [(abs(p[0] - t[0]) + abs(p[1] - t[1])) / 2 for p, t in with_partners(found, wanted)]

    is_background, predicted_background = truth == class_count, predicted == class_count
    right_background = (is_background & predicted_background).sum().item()
    return Scores(
        segment_accuracy=float(np.mean(predicted == truth)),
        background_recall=ratio(right_background, is_background.sum().item()),
        background_precision=ratio(right_background, predicted_background.sum().item()),
        event_f1=ratio(2 * within_tolerance, predicted_count + true_count),
        event_f1_tiou=ratio(2 * overlapping, predicted_count + true_count),
        boundary_error_seconds=ratio(sum(errors), len(errors)),
        boundary_matched=ratio(len(errors), true_count),
        clips=len(truth),
    )


@dataclass(frozen=True)
class ClassScores:
    """How well one class was found. A score whose denominator is empty is NaN."""

    clips: int
    """Clips of this class."""
    named_right: int
    """Those among them whose predicted class is right, whatever was found in their segments."""
    segment_recall: float
    """Share of the segments of this class that were labelled so."""
    segment_precision: float
    """Share of the segments labelled so that are of this class."""
    event_f1: float
    """F1 over the events of this class, right where both ends are at most one second off."""


@dataclass(frozen=True, eq=False)
class DetailedScores:
    """The scores of one set of clips in detail."""

    classes: tuple[ClassScores, ...]
    """Scores of each class, in the order of the labels, without the background."""
    confusion: np.ndarray
    """Number of segments by true and predicted label, int64 (true label, predicted label); the background is the last
    of both."""

    @property
    def clip_accuracy(self) -> float:
        """Share of the clips with a class whose class was named right; NaN where there is none."""
        return ratio(sum(scores.named_right for scores in self.classes), sum(scores.clips for scores in self.classes))


def score_in_detail(
    predicted: np.ndarray, truth: np.ndarray, class_count: int, named: np.ndarray, clip_labels: np.ndarray
) -> DetailedScores:
    """Compare predicted labels with true ones, class by class.

    Args:
        predicted: Integer labels (clip, segment), each 0 to `class_count`, which is the background.
        truth: True labels of the same shape.
        class_count: Number of classes without the background.
        named: The predicted class of each clip (clip,).
        clip_labels: True class of each clip (clip,); `class_count` where a clip has none.

    Raises:
        ValueError: Shapes do not fit together, there is no clip, or labels are not integers in range.
    """
    predicted, truth = _checked_pair(predicted, truth, class_count)
    named = _checked_clips("named", named, len(truth), class_count)
    clip_labels = _checked_clips("clip_labels", clip_labels, len(truth), class_count)

    label_count = class_count + 1
    pairs = np.bincount((truth * label_count + predicted).ravel(), minlength=label_count**2)
    confusion = pairs.reshape(label_count, label_count)
    right_events, events = np.zeros((2, class_count), np.int64)  # of each class; true and predicted ones together
    for label, found, wanted in events_of_classes(predicted, truth, class_count):
        right_events[label] += count_within_tolerance(found, wanted)
        events[label] += len(found) + len(wanted)
    classes = []
    for label in range(class_count):
        of_class = clip_labels == label
        classes.append(
            ClassScores(
                clips=int(of_class.sum()),
                named_right=int((of_class & (named == label)).sum()),
                segment_recall=ratio(confusion[label, label], confusion[label].sum()),
                segment_precision=ratio(confusion[label, label], confusion[:, label].sum()),
                event_f1=ratio(2 * right_events[label], events[label]),
            )
        )
    return DetailedScores(tuple(classes), confusion)


def baselines(
    train_truth: np.ndarray, truth: np.ndarray, class_count: int, clip_labels: np.ndarray
) -> dict[str, Scores]:
    """Scores of trivial baselines, which look at no clip, and of the oracle class.

    Args:
        train_truth: True labels of the training clips (clip, segment).
        truth: True labels of the clips evaluated (clip, segment).
        class_count: Number of classes without the background.
        clip_labels: True class of each clip evaluated (clip,); `class_count` where a clip is background throughout.

    Returns:
        By name: "always background"; "most frequent label per segment", the commonest of all labels in training, for
        each segment on its own; "best single class", the commonest class in training in every segment. Beside these
        trivial baselines `ORACLE_CLASS`: every segment has the clip's true class. Ties go to the lowest index. Without
        training clips the two that go by them are left out.

    Raises:
        ValueError: Shapes do not fit together, or labels are not integers in range.
    """
    truth = _checked("truth", truth, class_count)
    train_truth = _checked("train_truth", train_truth, class_count) if len(train_truth) else truth[:0]
    if train_truth.shape[1] != truth.shape[1]:
        raise ValueError(f"train_truth has {train_truth.shape[1]} segments a clip but truth {truth.shape[1]}")
    clip_labels = _checked_clips("clip_labels", clip_labels, len(truth), class_count)

    counts = np.stack([np.bincount(labels, minlength=class_count + 1) for labels in train_truth.T])  # (segment, label)
    of_training = {
        "most frequent label per segment": counts.argmax(axis=1),
        "best single class": counts[:, :class_count].sum(axis=0).argmax(),
    }
    predicted = {
        "always background": class_count,
        **(of_training if len(train_truth) else {}),
        ORACLE_CLASS: clip_labels[:, np.newaxis],
    }
    return {name: score(np.broadcast_to(labels, truth.shape), truth, class_count) for name, labels in predicted.items()}


def _checked_pair(predicted: np.ndarray, truth: np.ndarray, class_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true labels (clip, segment) as int64.

    Raises:
        ValueError: Shapes differ or are not (clip, segment), there is no clip, or labels are not integers in range.
    """
    predicted = _checked("predicted", predicted, class_count)
    truth = _checked("truth", truth, class_count)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted has the shape {predicted.shape} but truth {truth.shape}; expected the same")
    return predicted, truth


def _checked_clips(name: str, labels: np.ndarray, clips: int, class_count: int) -> np.ndarray:
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


def _events_by_class(labels: np.ndarray, background: int) -> dict[int, list[Span]]:
    """The events of a clip, maximal runs of one class, by class and in order of time, from its labels (segment,)."""
    events = defaultdict(list)
    for start, end in equal_runs(labels):
        if labels[start] != background:
            events[int(labels[start])].append((start, end))
    return events


def events_of_classes(
    predicted: np.ndarray, truth: np.ndarray, class_count: int
) -> Iterator[tuple[int, list[Span], list[Span]]]:
    """Each class that a clip has or is predicted to have, with its predicted and its true events, clip by clip.

    Arguments are as of `score`.
    """
    for clips in zip(predicted, truth, strict=True):
        found, wanted = (_events_by_class(labels, class_count) for labels in clips)
        for label in found.keys() | wanted.keys():
            yield label, found.get(label, []), wanted.get(label, [])


def count_within_tolerance(predicted: Sequence[Interval], true: Sequence[Interval]) -> int:
    """How many events of one class in one clip pair up with both ends at most `EVENT_TOLERANCE_SECONDS` apart.

    The size of the largest one-to-one matching. Both lists are in order and their events do not overlap, so two matches
    that cross can be uncrossed: matching the earliest pair that fits is never worse, and of a pair that does not fit,
    the event whose start or end comes too early for the other fits nothing later either.
    """
    right = i = j = 0
    while i < len(predicted) and j < len(true):
        start_ahead, end_ahead = (p - t for p, t in zip(predicted[i], true[j], strict=True))
        if max(abs(start_ahead), abs(end_ahead)) <= EVENT_TOLERANCE_SECONDS:
            right, i, j = right + 1, i + 1, j + 1
        elif min(start_ahead, end_ahead) < -EVENT_TOLERANCE_SECONDS:
            i += 1
        else:
            j += 1
    return right


def count_overlapping(predicted: Sequence[Interval], true: Sequence[Interval]) -> int:
    """How many events of one class in one clip pair up with a temporal intersection over union of `LEAST_TIOU` or more.

    The size of the largest one-to-one matching, without any search: an event that had one half or more of the union in
    common with each of two others would consist of what it shares with them, so these two would touch and be one event.
    """
    return sum(_tiou(p, t) >= LEAST_TIOU for p in predicted for t in true)


def with_partners(predicted: Sequence[Span], true: Sequence[Span]) -> list[tuple[Span, Span]]:
    """Each true event that a predicted one of its class overlaps, as (predicted, true), in order of the true ones.

    Of several the one that overlaps most counts, of equals the earliest.
    """
    best = ((max(predicted, key=lambda other: _overlap(other, event)), event) for event in true if predicted)
    return [(found, event) for found, event in best if _overlap(found, event) > 0]


def _overlap(a: Interval, b: Interval) -> float:
    """Seconds that two events share; negative where they lie apart."""
    return min(a[1], b[1]) - max(a[0], b[0])


def _tiou(a: Interval, b: Interval) -> float:
    shared = max(0, _overlap(a, b))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)
