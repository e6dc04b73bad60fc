"""Tasks with predictions for Label Studio: https://labelstud.io/guide/predictions .

The predictions fit a labeling configuration after the template "Video Timeline Segmentation",
https://labelstud.io/templates/video_timeline_segmentation , which holds times in seconds. The other way to label times
in a video, TimelineLabels, counts frames at a rate that the project sets: it could not say where an event is.
"""

import hashlib
import json
import os
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import quote

from ccln.pipeline.report.writers.timeline import Timeline, spans


def to_label_studio(timeline: Timeline) -> str:
    """A list of one task, whose prediction has a region an event.

    The configuration names its `Audio` "audio" and its `Labels` "events"; both players read `$video`. That is a file
    in Label Studio's local storage, relative to the document root: the folder where this ran, or / for absolute paths.
    """
    found = spans(timeline)
    prefix = hashlib.sha256(_address(timeline.path)).hexdigest()[:8]  # regions of two tasks must not share their name
    regions = [
        {
            "id": f"{prefix}-{number}",
            "from_name": "events",
            "to_name": "audio",
            "type": "labels",
            "original_length": timeline.duration_seconds,
            "value": {"start": span.start_seconds, "end": span.end_seconds, "channel": 0, "labels": [span.label]},
            "score": round(span.confidence, 4),
        }
        for number, span in enumerate(found, start=1)
    ]
    prediction: dict[str, Any] = {"model_version": "ccln", "result": regions}
    if found:  # what Label Studio sorts tasks by
        prediction["score"] = round(mean(span.confidence for span in found), 4)
    address = "/data/local-files/?d=" + quote(_address(timeline.path), safe="/")
    task = {"data": {"video": address}, "predictions": [prediction]}
    return json.dumps([task], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _address(path: Path) -> bytes:
    return os.fsencode(path.as_posix().lstrip("/"))
