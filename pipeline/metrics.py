"""How well segments and events were found, and the floors below which a result says nothing.

Everything is computed from integer labels (clip, segment) in which the background is the number of classes. Segments
last one second, so positions are seconds.
"""

import math
from collections import defaultdict
from dataclasses import asdict, dataclass

import numpy as np

from ccln.pipeline.events import equal_runs

EVENT_TOLERANCE_SECONDS = 1
TOLD_THE_CLASS = "right class, every segment an event"  # a reference that uses the truth, not a floor

_Span = tuple[int, int]


@dataclass(frozen=True)
class Scores:
    """The scores of one set of clips. A score whose denominator is empty is NaN.

    Attributes:
        segment_accuracy: Share of the segments whose label, of the classes and the background, is right. AVE's metric.
        background_recall: Share of the background segments that were called background.
        event_f1: F1 over all events of the set. An event is a maximal run of one class; a predicted one is right where
            it is matched one to one with a true one of its class in its clip, both ends at most
            `EVENT_TOLERANCE_SECONDS` apart.
        boundary_error_seconds: Mean distance of the ends of a true event from those of the predicted event of its class
            that overlaps it most (the earliest of several), over the true events that have one.
        boundary_matched: Share of the true events that have one.
        clips: Number of clips.
    """

    segment_accuracy: float
    background_recall: float
    event_f1: float
    boundary_error_seconds: float
    boundary_matched: float
    clips: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The scores by name, fit for JSON: None instead of NaN."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def score(predicted: np.ndarray, truth: np.ndarray, class_count: int) -> Scores:
    """Compares predicted labels with true ones.

    Args:
        predicted: Integer labels (clip, segment), each 0 to `class_count`, which is the background.
        truth: True labels of the same shape.
        class_count: Number of classes without the background.

    Raises:
        ValueError: Shapes differ or are not (clip, segment), there is no clip, or labels are not integers in range.
    """
    predicted = _checked("predicted", predicted, class_count)
    truth = _checked("truth", truth, class_count)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted has the shape {predicted.shape} but truth {truth.shape}; expected the same")

    predicted_count = true_count = right_count = 0
    boundary_errors = []
    for predicted_clip, true_clip in zip(predicted, truth, strict=True):
        predicted_events = _events(predicted_clip, class_count)
        true_events = _events(true_clip, class_count)
        predicted_count += sum(map(len, predicted_events.values()))
        true_count += sum(map(len, true_events.values()))
        for label in predicted_events.keys() & true_events.keys():
            right_count += _count_right(predicted_events[label], true_events[label])
            boundary_errors += _boundary_errors(predicted_events[label], true_events[label])

    is_background = truth == class_count
    return Scores(
        segment_accuracy=float(np.mean(predicted == truth)),
        background_recall=_ratio((is_background & (predicted == truth)).sum().item(), is_background.sum().item()),
        event_f1=_ratio(2 * right_count, predicted_count + true_count),
        boundary_error_seconds=_ratio(sum(boundary_errors), len(boundary_errors)),
        boundary_matched=_ratio(len(boundary_errors), true_count),
        clips=len(truth),
    )


def floors(train_truth: np.ndarray, truth: np.ndarray, class_count: int, clip_labels: np.ndarray) -> dict[str, Scores]:
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
    clip_labels = np.asarray(clip_labels)
    if train_truth.shape[1] != truth.shape[1]:
        raise ValueError(f"train_truth has {train_truth.shape[1]} segments a clip but truth {truth.shape[1]}")
    if clip_labels.shape != truth.shape[:1]:
        raise ValueError(f"clip_labels has the shape {clip_labels.shape}; expected {truth.shape[:1]}")
    _checked("clip_labels", clip_labels[:, np.newaxis], class_count)

    counts = np.stack([np.bincount(labels, minlength=class_count + 1) for labels in train_truth.T])  # (segment, label)
    answers = {
        "always background": class_count,
        "most frequent label per segment": counts.argmax(axis=1),
        "best single class": counts[:, :class_count].sum(axis=0).argmax(),
        TOLD_THE_CLASS: clip_labels[:, np.newaxis],
    }
    return {name: score(np.broadcast_to(answer, truth.shape), truth, class_count) for name, answer in answers.items()}


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


def _events(labels: np.ndarray, background: int) -> dict[int, list[_Span]]:
    """The events of a clip by class, in order of time, from its labels (segment,)."""
    events = defaultdict(list)
    for start, end in equal_runs(labels):
        if labels[start] != background:
            events[int(labels[start])].append((start, end))
    return events


def _count_right(predicted: list[_Span], true: list[_Span]) -> int:
    """Size of the largest one-to-one matching of the events of one class in one clip.

    Both lists are in order and their events do not overlap, so two matches that cross can be uncrossed: matching the
    earliest pair that fits is never worse, and of a pair that does not fit, the event whose start or end comes too
    early for the other fits nothing later either.
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


def _boundary_errors(predicted: list[_Span], true: list[_Span]) -> list[float]:
    """For each true event that a predicted one of its class overlaps, how far the ends are off on average."""
    errors = []
    for start, end in true:
        best = max(predicted, key=lambda span: min(span[1], end) - max(span[0], start))
        if best[0] < end and start < best[1]:
            errors.append((abs(best[0] - start) + abs(best[1] - end)) / 2)
    return errors


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
