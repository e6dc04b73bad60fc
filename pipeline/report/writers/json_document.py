"""Events and tracks as JSON, for programs; docs/localization-json.md describes every field."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ccln.pipeline.report.writers.timeline import LabelledTimeline, Timeline, TrackedTimeline, spans

FORMAT = "ccln-localization"
VERSION = 2

_SEGMENT_SECONDS = 1.0


def to_json(timeline: Timeline) -> str:
    """The document of one clip, as text."""
    return json.dumps(json_document([timeline]), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def json_document(timelines: Iterable[Timeline], failed: Iterable[tuple[Path, str]] = ()) -> dict[str, Any]:
    """The document of any number of clips, for `json.dumps`.

    Args:
        timelines: what was found.
        failed: files that could not be read, each with the reason.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "clips": [_clip(timeline) for timeline in timelines],
        "failed": [{"path": str(path), "reason": reason} for path, reason in failed],
    }


def _clip(timeline: Timeline) -> dict[str, Any]:
    clip: dict[str, Any] = {
        "path": str(timeline.path),
        "duration_seconds": round(timeline.duration_seconds, 3),
        "events": [
            {
                "label": span.label,
                "start_seconds": span.start_seconds,
                "end_seconds": span.end_seconds,
                "confidence": round(span.confidence, 4),
            }
            for span in spans(timeline)
        ],
    }
    if isinstance(timeline, TrackedTimeline):
        clip["tracks"] = {
            "segment_seconds": float(getattr(timeline, "segment_seconds", _SEGMENT_SECONDS)),
            **{
                name: [round(float(value), 4) for value in track]
                for name, track in (("seen", timeline.seen), ("heard", timeline.heard), ("both", timeline.both))
            },
        }
    if isinstance(timeline, LabelledTimeline):
        clip["tracks"]["labels"] = list(timeline.labels)
    return clip
