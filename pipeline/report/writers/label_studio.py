"""Tasks with predictions for Label Studio: https://labelstud.io/guide/predictions .

The predictions fit a labelling configuration after the template "Video Timeline Segmentation",
https://labelstud.io/templates/video_timeline_segmentation , which holds times in seconds. The other way to label times
in a video, TimelineLabels, counts frames at a rate that the project sets: it could not say where an event is.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from ccln.pipeline.localize.result import LocatedVideo, absolute
from ccln.pipeline.report.writers.files import OutputError

CONFIGURATION_NAME = "label-studio.xml"


def to_label_studio(located: LocatedVideo, media_root: Path | None = None) -> str:
    """A list of one task, whose prediction has one region for each event.

    Args:
        located: what was found.
        media_root: the document root of Label Studio's local storage (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT), in
            which the video lies; the task names the video relative to it. If None, the root of the file system.

    Raises:
        OutputError: the video is not within the media root.
    """
    address = os.fsencode(within_media_root(located.path, media_root).as_posix())
    prefix = hashlib.sha256(address).hexdigest()[:8]  # regions of two tasks must not share their name
    regions = [
        {
            "id": f"{prefix}-{number}",
            "from_name": "events",
            "to_name": "audio",
            "type": "labels",
            "original_length": located.duration_seconds,
            "value": {"start": event.start_seconds, "end": event.end_seconds, "channel": 0, "labels": [event.label]},
            "score": round(event.confidence, 4),
        }
        for number, event in enumerate(located.events, start=1)
    ]
    prediction: dict[str, Any] = {"model_version": f"ccln {located.provenance.ccln_version}", "result": regions}
    if located.events:  # what Label Studio sorts tasks by
        prediction["score"] = round(mean(event.confidence for event in located.events), 4)
    task = {"data": {"video": "/data/local-files/?d=" + quote(address, safe="/")}, "predictions": [prediction]}
    return json.dumps([task], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def within_media_root(path: Path, media_root: Path | None) -> Path:
    """A video's path relative to the media root, see `to_label_studio`.

    Raises:
        OutputError: it is not within the media root.
    """
    path = absolute(path)
    root = Path(path.anchor) if media_root is None else media_root.resolve()
    if not path.is_relative_to(root):
        raise OutputError(f"{path}: is not within the media root {root}. Name a folder that holds it: --media-root")
    return path.relative_to(root)


def labelling_configuration(event_labels: Iterable[str]) -> str:
    """The labelling configuration of a project for such tasks: all labels, and a field that searches them."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Video", name="video", value="$video", sync="audio")
    ElementTree.SubElement(view, "Filter", name="filter", toName="events", minlength="0")
    labels = ElementTree.SubElement(view, "Labels", name="events", toName="audio", choice="multiple")
    for name in event_labels:
        ElementTree.SubElement(labels, "Label", value=name)
    ElementTree.SubElement(view, "Audio", name="audio", value="$video", sync="video")
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"
