"""Results as text: scores and located clips, for people and for programs."""

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

from ccln.pipeline.metrics import TOLD_THE_CLASS, Scores

if TYPE_CHECKING:
    from ccln.pipeline.localization import Localization, LocatedClip
    from ccln.pipeline.training import TrainingResult


def score_table(result: "TrainingResult") -> str:
    """The test scores of a run with the floors beside them, as text."""
    rows: list[tuple[str, Scores]] = [("CCLN, test", result.test), ("CCLN, validation", result.validation)]
    rows += [(f"{'told' if name == TOLD_THE_CLASS else 'floor'}: {name}", s) for name, s in result.floors.items()]
    wide = max(len(name) for name, _ in rows)
    head = f"{'':{wide}}  accuracy  bg recall  event F1  boundary error  clips"
    lines = [head]
    for name, scores in rows:
        lines.append(
            f"{name:{wide}}  {_percent(scores.segment_accuracy):>8}  {_percent(scores.background_recall):>9}  "
            f"{_percent(scores.event_f1):>8}  {_number(scores.boundary_error_seconds, ' s'):>14}  {scores.clips:>5}"
        )
    missing = {split: count for split, count in result.missing.items() if count}
    if missing:
        lines.append("rows without features: " + ", ".join(f"{split} {count}" for split, count in missing.items()))
    return "\n".join(lines)


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _number(value: float, unit: str) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}{unit}"


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
