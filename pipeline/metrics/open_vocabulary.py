"""Scores of seen and unseen classes, as OV-AVEL has them: segment accuracy, segment F1 and event F1.

They are those of Zhou et al., "Towards Open-Vocabulary Audio-Visual Event Localization", CVPR 2025, and of its code.
Unlike the scores of `segments`, whose F1 is over the events of all clips, both F1 are means over the clips, of each the
mean over the labels that it has or is predicted to have, background among them. A network is asked for the seen and the
unseen classes together; a clip counts to those that its own class belongs to.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccln.pipeline.metrics.evaluation import aligned, percent, without_nan
from ccln.pipeline.metrics.segments import count_overlapping
from ccln.pipeline.segments import equal_runs


@dataclass(frozen=True)
class OpenScores:
    """The scores of some clips; NaN where there is none."""

    segment_accuracy: float
    """Share of the segments whose label, of the classes and the background, is right."""
    segment_f1: float
    """Mean over the clips of the mean F1 of their labels' segments."""
    event_f1: float
    """The same of events, maximal runs of a label; one is right where its temporal intersection over union with a true
    one is at least one half."""
    clips: int

    @property
    def average(self) -> float:
        """Mean of the three."""
        return (self.segment_accuracy + self.segment_f1 + self.event_f1) / 3


def score_open(predicted: np.ndarray, truth: np.ndarray) -> OpenScores:
    """Compare predicted labels with true ones.

    Args:
        predicted: integer labels (clip, segment); background is one of them.
        truth: true labels of the same shape.

    Raises:
        ValueError: the shapes differ or are not (clip, segment).
    """
    if predicted.shape != truth.shape or truth.ndim != 2:
        raise ValueError(f"predicted is {predicted.shape} and truth {truth.shape}; expected the same (clip, segment)")
    if not len(truth):
        return OpenScores(np.nan, np.nan, np.nan, 0)
    f1 = np.array([_clip_f1(*clip) for clip in zip(predicted, truth, strict=True)])
    return OpenScores(float(np.mean(predicted == truth)), *f1.mean(axis=0).tolist(), clips=len(truth))


def score_seen_and_unseen(
    predicted: np.ndarray,
    truth: np.ndarray,
    clip_labels: np.ndarray,
    class_names: Sequence[str],
    unseen: Collection[str],
) -> dict[str, OpenScores]:
    """The scores of all clips, and of those of seen and of unseen classes.

    Args:
        predicted: integer labels (clip, segment); the number of classes is background.
        truth: true labels of the same shape.
        clip_labels: class of each clip (clip,); clips without any count among all alone.
        class_names: in label order.
        unseen: names of those that were not trained.

    Returns:
        By "all", "seen" and "unseen".
    """
    is_unseen = np.array([*(name in unseen for name in class_names), False])[clip_labels]
    is_seen = ~is_unseen & (clip_labels < len(class_names))
    return {
        "all": score_open(predicted, truth),
        "seen": score_open(predicted[is_seen], truth[is_seen]),
        "unseen": score_open(predicted[is_unseen], truth[is_unseen]),
    }


def open_scores_by_name(scores: Mapping[str, OpenScores]) -> dict[str, dict[str, Any]]:
    """The scores by name, fit for JSON."""
    return {name: without_nan(of) for name, of in scores.items()}


def open_scores_table(scores: Mapping[str, OpenScores]) -> str:
    """The scores as text, a line each for all, seen and unseen classes."""
    rows = [["classes", "clips", "accuracy", "segment F1", "event F1", "average"]]
    for name, of in scores.items():
        shown = (of.segment_accuracy, of.segment_f1, of.event_f1, of.average)
        rows.append([name, str(of.clips), *map(percent, shown)])
    return aligned(rows)


def _clip_f1(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Mean F1 of segments and of events over the labels that a clip has in either."""
    of_segments, of_events = [], []
    for label in np.union1d(predicted, truth):
        found, wanted = predicted == label, truth == label
        of_segments.append(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))
        found, wanted = ([run for run in equal_runs(labels) if labels[run[0]]] for labels in (found, wanted))
        of_events.append(2 * count_overlapping(found, wanted) / (len(found) + len(wanted)))
    return float(np.mean(of_segments)), float(np.mean(of_events))
