"""What the page of a run shows of localization: confusions, classes, ends of events, and single clips of test."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ccln.pipeline.metrics.evaluation import best_and_worst, interval_text, percent
from ccln.pipeline.metrics.kinds import kind_rows
from ccln.pipeline.metrics.localization import PredictedClips, SegmentDetails
from ccln.pipeline.metrics.segments import events_of_classes, with_partners
from ccln.pipeline.segments import equal_runs

_SHADES = 10


def localization_context(details: SegmentDetails) -> dict[str, Any]:
    """What the template localization.html shows of the test split."""
    names, predicted = (*details.class_names, "background"), details.predicted
    context: dict[str, Any] = {
        "confusion": _shaded(details.scores.confusion),
        "labels": names,
        "confusions": details.largest_confusions(),
        "classes": _class_rows(details),
        "kinds": kind_rows(details.kinds) if details.kinds else [],
    }
    if predicted is not None:
        best, worst = (
            [_shown(predicted, names, position) for position in positions]
            for positions in best_and_worst(ranked_clips(predicted).tolist())
        )
        starts, ends, events = boundary_errors(predicted, len(details.class_names))
        context |= {"starts": starts, "ends": ends, "events": events, "best": best, "worst": worst}
    return context


def boundary_errors(predicted: PredictedClips, class_count: int) -> tuple[list[int], list[int], int]:
    """How late predicted events start and end against the true events of their class that they overlap.

    Returns:
        Whole seconds by which starts are late, early ones negative; the same of ends; the number of all true events.
    """
    starts, ends, events = [], [], 0
    labels = predicted.predictions.segment_labels()
    for _, found, true in events_of_classes(labels, predicted.truth, class_count):
        events += len(true)
        for partner, event in with_partners(found, true):
            starts.append(partner[0] - event[0])
            ends.append(partner[1] - event[1])
    return starts, ends, events


def ranked_clips(predicted: PredictedClips) -> np.ndarray:
    """Positions of the clips from the best predicted to the worst, by falling number of right seconds.

    Of equals, where all is right, those come first in which an event begins or ends, for there was more to find, and of
    these the most confident; where something is wrong the most confident comes last.
    """
    right = (predicted.predictions.segment_labels() == predicted.truth).sum(1)
    confidence = confidences(predicted)
    perfect = right == predicted.truth.shape[1]
    steady = perfect & (predicted.truth == predicted.truth[:, :1]).all(1)
    return np.lexsort((np.where(perfect, -confidence, confidence), steady, -right))


def confidences(predicted: PredictedClips) -> np.ndarray:
    """Mean probability of each clip's predicted labels, not calibrated, float64 (clip,)."""
    labels, predictions = predicted.predictions.segment_labels(), predicted.predictions
    event = predictions.event_probability.astype(np.float64)
    named = np.exp(predictions.class_logits.max(1, keepdims=True).astype(np.float64))
    return np.where(labels != predictions.class_logits.shape[1], event * named, 1 - event).mean(1)


def _shaded(confusion: np.ndarray) -> list[list[dict[str, Any]]]:
    """Of each cell of the matrix its count, its share of the row, and a shade that makes small shares visible."""
    rows = []
    for row in confusion.tolist():
        shares = [count / sum(row) if count else 0.0 for count in row]
        rows.append([
            {"count": count, "of": sum(row), "share": share, "shade": round(_SHADES * share**0.6)}
            for count, share in zip(row, shares, strict=True)
        ])  # fmt: skip
    return rows


def _class_rows(details: SegmentDetails) -> list[list[str]]:
    return [
        [
            name,
            str(of.clips),
            str(of.named_right),
            interval_text(of.named_right / max(1, of.clips), of.clips),
            *map(percent, (of.segment_recall, of.segment_precision, of.event_f1)),
        ]
        for name, of in details.worst_first()
    ]


def _shown(predicted: PredictedClips, names: Sequence[str], position: int) -> dict[str, Any]:
    """A clip beside its truth; what is wrong, and the event probability, 0 to 1, are by second."""
    clip, truth = predicted.clips[position], predicted.truth[position]
    labels = predicted.predictions.segment_labels()[position]
    probabilities = np.exp(predicted.predictions.class_logits[position])
    return {
        "name": clip.video_id,
        "truth": _bars(names, truth, truth, "true"),
        "predicted": _bars(names, labels, truth, "right"),
        "is_wrong": (labels != truth).tolist(),
        "event_probability": predicted.predictions.event_probability[position].tolist(),
        "right": int((labels == truth).sum()),
        "true_class": clip.label or "none",
        "named": names[int(probabilities.argmax())],
        "class_probability": float(probabilities.max()),
        "confidence": float(confidences(predicted)[position]),
    }


def _bars(names: Sequence[str], labels: np.ndarray, truth: np.ndarray, look: str) -> list[dict[str, Any]]:
    """Runs of one label that are right or wrong as a whole, so that a bar has one look."""
    bars = []
    for start, end in equal_runs(2 * labels + (labels == truth)):
        label, right = int(labels[start]), labels[start] == truth[start]
        shown = "wrong" if not right else "none" if label == len(names) - 1 else look
        title = f"{names[label]}, {start}–{end} s"
        bars.append({"label": names[label], "seconds": end - start, "look": shown, "title": title})
    return bars
