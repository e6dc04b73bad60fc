"""Scores class by class and what is taken for what: where a network fails, rather than how well it does."""

from dataclasses import dataclass

import numpy as np

from ccln.pipeline.metrics.events import count_within_tolerance, events_by_class
from ccln.pipeline.metrics.segments import checked_clips, checked_pair, ratio


@dataclass(frozen=True)
class ClassScores:
    """How well one class was found. A score whose denominator is empty is NaN.

    Attributes:
        clips: Clips of this class.
        named_right: Those among them that were said to be of this class, whatever was found in their segments.
        segment_recall: Share of the segments of this class that were labelled so.
        segment_precision: Share of the segments labelled so that are of this class.
        event_f1: F1 over the events of this class, right where both ends are at most one second off.
    """

    clips: int
    named_right: int
    segment_recall: float
    segment_precision: float
    event_f1: float


@dataclass(frozen=True, eq=False)
class DetailedScores:
    """The scores of one set of clips in detail.

    Attributes:
        classes: Scores of each class, in the order of the labels, without the background.
        confusion: Number of segments by true and predicted label, int64 (true label, predicted label); the background
            is the last of both.
    """

    classes: tuple[ClassScores, ...]
    confusion: np.ndarray

    @property
    def clip_accuracy(self) -> float:
        """Share of the clips with a class whose class was named right; NaN where there is none."""
        return ratio(sum(scores.named_right for scores in self.classes), sum(scores.clips for scores in self.classes))


def score_in_detail(
    predicted: np.ndarray, truth: np.ndarray, class_count: int, named: np.ndarray, clip_labels: np.ndarray
) -> DetailedScores:
    """Compares predicted labels with true ones, class by class.

    Args:
        predicted: Integer labels (clip, segment), each 0 to `class_count`, which is the background.
        truth: True labels of the same shape.
        class_count: Number of classes without the background.
        named: The class that each clip was said to be of (clip,).
        clip_labels: True class of each clip (clip,); `class_count` where a clip has none.

    Raises:
        ValueError: Shapes do not fit together, there is no clip, or labels are not integers in range.
    """
    predicted, truth = checked_pair(predicted, truth, class_count)
    named = checked_clips("named", named, len(truth), class_count)
    clip_labels = checked_clips("clip_labels", clip_labels, len(truth), class_count)

    label_count = class_count + 1
    pairs = np.bincount((truth * label_count + predicted).ravel(), minlength=label_count**2)
    confusion = pairs.reshape(label_count, label_count)
    right_events, events = _count_events(predicted, truth, class_count)
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


def _count_events(predicted: np.ndarray, truth: np.ndarray, class_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each class how many events are right, and how many there are in all, true and predicted together; (class,)."""
    right, events = np.zeros(class_count, np.int64), np.zeros(class_count, np.int64)
    for predicted_clip, true_clip in zip(predicted, truth, strict=True):
        found, wanted = events_by_class(predicted_clip, class_count), events_by_class(true_clip, class_count)
        for label in found.keys() | wanted.keys():
            both = found.get(label, []), wanted.get(label, [])
            right[label] += count_within_tolerance(*both)
            events[label] += sum(map(len, both))
    return right, events
