"""Results as text: scores and located clips, for people and for programs."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ccln.pipeline.metrics import TOLD_THE_CLASS, Scores
from ccln.pipeline.tables import aligned, percent, seconds

if TYPE_CHECKING:
    from ccln.pipeline.class_scores import ClassScores, DetailedScores
    from ccln.pipeline.localization import Localization, LocatedClip
    from ccln.pipeline.reports import EvaluationReport
    from ccln.pipeline.training import TrainingResult

_SHOWN_CONFUSIONS = 10


def score_table(result: "TrainingResult") -> str:
    """The test scores of a run with the floors beside them, as text."""
    rows = {"CCLN, test": result.test, "CCLN, validation": result.validation, **_named_floors(result.floors)}
    text = scores_table(rows)
    if result.best_test_epoch_accuracy is not None:
        best = percent(result.best_test_epoch_accuracy)
        text += f"\naccuracy of the epoch that is best on test, selected on test as some papers do: {best}, optimistic"
    missing = {split: count for split, count in result.missing.items() if count}
    if missing:
        text += "\nrows without features: " + ", ".join(f"{split} {count}" for split, count in missing.items())
    return text


def evaluation_table(report: "EvaluationReport") -> str:
    """For people: scores beside the floors, the classes from the worst found on, and what is taken for what."""
    scores = scores_table({f"CCLN, {report.split}": report.scores, **_named_floors(report.floors)})
    if report.missing:
        scores += f"\nrows without features: {report.missing}"
    return "\n\n".join(
        [
            f"{report.run} on {report.data}",
            scores,
            _class_table(report.class_names, report.detailed),
            *_confusions_table([*report.class_names, "background"], report.detailed.confusion),
        ]
    )


def evaluation_json(report: "EvaluationReport") -> str:
    """For programs: see `EvaluationReport.as_dict`."""
    return json.dumps(report.as_dict(), indent=2, allow_nan=False)


def scores_table(rows: Mapping[str, Scores]) -> str:
    """A line for each of the named scores."""
    head = ["", "accuracy", "bg recall", "bg precision", "event F1", "at tIoU 0.5", "boundary error", "clips"]
    return aligned(
        [
            head,
            *(
                [
                    name,
                    percent(scores.segment_accuracy),
                    percent(scores.background_recall),
                    percent(scores.background_precision),
                    percent(scores.event_f1),
                    percent(scores.event_f1_tiou),
                    seconds(scores.boundary_error_seconds),
                    str(scores.clips),
                ]
                for name, scores in rows.items()
            ),
        ]
    )


def _named_floors(floors: Mapping[str, Scores]) -> dict[str, Scores]:
    return {f"{'told' if name == TOLD_THE_CLASS else 'floor'}: {name}": scores for name, scores in floors.items()}


def _class_table(class_names: Sequence[str], detailed: "DetailedScores") -> str:
    by_recall = sorted(zip(class_names, detailed.classes, strict=True), key=lambda named: _nan_last(named[1]))
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
    total = ["all", str(sum(s.clips for s in detailed.classes)), str(sum(s.named_right for s in detailed.classes))]
    rows.append([*total, "", "", ""])
    return aligned([["class", "clips", "named right", "recall", "precision", "event F1"], *rows])


def _nan_last(scores: "ClassScores") -> float:
    return math.inf if math.isnan(scores.segment_recall) else scores.segment_recall


def _confusions_table(labels: Sequence[str], confusion: np.ndarray) -> list[str]:
    """The wrong cells of the matrix with the most segments, at most ten; nothing where all is right."""
    wrong = confusion * (1 - np.eye(len(labels), dtype=np.int64))
    largest = np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN_CONFUSIONS]
    cells = [(i, j) for i, j in zip(*np.unravel_index(largest, wrong.shape), strict=True) if wrong[i, j]]
    rows = [
        [f"{labels[i]} → {labels[j]}", str(wrong[i, j]), percent(wrong[i, j] / confusion[i].sum())] for i, j in cells
    ]
    return [aligned([["what it is → taken for", "segments", "of all of it"], *rows])] if rows else []


def localization_table(found: "Localization") -> str:
    """For people: each clip as `clip_table` shows it."""
    return "\n\n".join(clip_table(clip) for clip in found.clips)


def clip_table(clip: "LocatedClip") -> str:
    """Events, then second by second in per cent what was seen, heard, and both."""
    lines = [f"{clip.path}  ({clip.duration_seconds:.1f} s)"]
    for event in clip.events:
        times = f"{event.start_seconds:4.1f} – {event.end_seconds:4.1f} s"
        lines.append(f"  event  {times}  {event.label}  (confidence {event.confidence:.2f})")
    if not clip.events:
        lines.append(f"  no event is both seen and heard (most like {clip.label}, {clip.label_probability:.2f})")
    lines.append("  second" + "".join(f"{second:>5}" for second in range(len(clip.both))))
    for name in ("seen", "heard", "both"):
        lines.append(f"  {name:6}" + "".join(f"{round(100 * p):>4}%" for p in getattr(clip, name)))
    return "\n".join(lines)


def localization_json(found: "Localization") -> str:
    """For programs: events and tracks of each clip, and the files that failed."""
    document: dict[str, Any] = {
        "clips": [clip.as_dict() for clip in found.clips],
        "failed": [{"path": str(failure.path), "reason": failure.reason} for failure in found.failed],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def localization_csv(found: "Localization") -> str:
    """For programs: one line an event."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "label", "start_seconds", "end_seconds", "confidence"])
    for clip in found.clips:
        for event in clip.as_dict()["events"]:
            rows.writerow([clip.path, *event.values()])
    return text.getvalue().rstrip("\n")


LOCALIZATION_FORMATS = {"table": localization_table, "json": localization_json, "csv": localization_csv}
