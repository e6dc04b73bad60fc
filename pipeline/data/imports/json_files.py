"""JSON of Label Studio, of the VGG Image Annotator (VIA 3), and of ccln-localize."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from ccln.pipeline.data.clips import VIDEO_ENDINGS, DatasetError, read_annotation_file
from ccln.pipeline.data.imports.annotations import AnnotatedVideo, event_of
from ccln.pipeline.data.windows import LabelledSpan
from ccln.strict_json import strict_json

LAYOUT = (
    "JSON is read of Label Studio (JSON or JSON-MIN), of VIA 3 (a project with file, view, attribute and metadata), "
    "and of ccln-localize"
)
_AUDIO_ENDINGS = (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac", ".opus", ".oga")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_SEGMENT_ANCHOR = "FILE1_Z2_XY0"  # of VIA's attributes those that describe a span of time

_Kind = TypeVar("_Kind")


def read_json(file: Path) -> list[AnnotatedVideo]:
    """Read a JSON file of any of the three.

    Raises:
        DatasetError: The file cannot be read or is none of these; an event has no label or no times; or a task of Label
            Studio has several annotations.
    """
    data = read_annotation_file(file, LAYOUT)
    if data.lstrip()[:1] == b"[":
        return list(_tasks(file, _decoded(file, data, list[dict[str, Any]])))
    head = _decoded(file, data, dict[str, msgspec.Raw])
    if bytes(head.get("format", b"")) == b'"ccln-localization"':
        return list(_localized(file, _decoded(file, data, _Localization)))
    if not {"file", "view", "attribute", "metadata"} <= head.keys():
        raise DatasetError(f"{file}: is none of the JSON files that can be read; {LAYOUT}")
    return list(_via(file, _decoded(file, data, _Via)))


def _decoded(file: Path, data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        strict_json(data)
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: {error}; {LAYOUT}") from error


# --- ccln-localize ----------------------------------------------------------------------------------------------------


class _Event(msgspec.Struct):
    label: str
    start_seconds: float
    end_seconds: float


class _Video(msgspec.Struct):
    path: str
    events: list[_Event]


class _Localization(msgspec.Struct):
    videos: list[_Video]


def _localized(file: Path, found: _Localization) -> Iterator[AnnotatedVideo]:
    for video in found.videos:
        events = (
            event_of(file, f"event {number} of {video.path!r}", one.label, one.start_seconds, one.end_seconds)
            for number, one in enumerate(video.events, start=1)
        )
        yield AnnotatedVideo(file, (video.path,), tuple(event for event in events if event is not None))


# --- Label Studio -----------------------------------------------------------------------------------------------------


class _Region(msgspec.Struct):
    value: dict[str, Any]
    type: str = ""


class _Annotation(msgspec.Struct):
    result: list[_Region]
    was_cancelled: bool = False


class _Task(msgspec.Struct):
    data: dict[str, Any]
    annotations: list[_Annotation] = []
    predictions: list[Any] = []


def _tasks(file: Path, tasks: list[dict[str, Any]]) -> Iterator[AnnotatedVideo]:
    seen: dict[tuple[str, ...], str] = {}
    for number, task in enumerate(tasks, start=1):
        place = f"task {task.get('id', number)}"
        if isinstance(task.get("data"), dict):
            names, regions = _media_names(file, place, task["data"]), _regions(file, place, task)
        else:  # JSON-MIN
            lists = [value for value in task.values() if isinstance(value, list)]
            regions = [one for values in lists for one in values if isinstance(one, dict)]
            names = _media_names(file, place, task)
        if regions is None:
            continue
        if names in seen:
            raise DatasetError(
                f"{file}, {place}: its video is that of {seen[names]}; keep the annotation of one person"
            )
        seen[names] = place
        events = [event for value in regions for event in _labelled(file, place, value)]
        yield AnnotatedVideo(file, names, tuple(events))


def _regions(file: Path, place: str, task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The values of a task's regions: as corrected, else as predicted; None of a task that was skipped."""
    try:
        found = msgspec.convert(task, _Task)
        annotations = [one for one in found.annotations if not one.was_cancelled]
        if not annotations and not found.annotations:  # nobody has looked at it: the prediction
            annotations = msgspec.convert(found.predictions, list[_Annotation])
    except msgspec.ValidationError as error:
        raise DatasetError(f"{file}, {place}: {error}; {LAYOUT}") from error
    if len(annotations) > 1:
        raise DatasetError(f"{file}, {place}: has {len(annotations)} annotations; keep one, such as the ground truth")
    return [region.value for region in annotations[0].result] if annotations else None


def _labelled(file: Path, place: str, value: dict[str, Any]) -> Iterator[LabelledSpan]:
    if "timelinelabels" in value or "ranges" in value:
        raise DatasetError(
            f"{file}, {place}: its labels count frames (TimelineLabels); expected seconds, as Labels on an Audio have "
            "them: ccln-localize --format label-studio writes such a configuration"
        )
    start, end, labels = value.get("start"), value.get("end"), value.get("labels")
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        return  # a choice, a text, or another thing that is no span
    if not isinstance(labels, list) or not labels:
        raise DatasetError(f"{file}, {place}: the region from {start:g} to {end:g} s has no label")
    for label in labels:
        event = event_of(file, place, str(label), start, end)
        if event is not None:
            yield event


def _media_names(file: Path, place: str, data: dict[str, Any]) -> tuple[str, ...]:
    """What a task's video may be called."""
    found = {
        key: names
        for key, value in data.items()
        if isinstance(value, str)
        and (names := _names_of_url(value))
        and PurePosixPath(names[-1]).suffix.lower() in (*VIDEO_ENDINGS, *_AUDIO_ENDINGS)
    }
    if len(set(found.values())) > 1 and "video" in found:
        return found["video"]
    if len(set(found.values())) != 1:
        listed = ", ".join(found) or "none"
        raise DatasetError(f"{file}, {place}: expected one video among its data, called 'video'; found: {listed}")
    return next(iter(found.values()))


def _names_of_url(url: str) -> tuple[str, ...]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return (url,)
    if parts.path.rstrip("/").endswith("/data/local-files") and (local := parse_qs(parts.query).get("d")):
        return local[0], f"/{local[0].lstrip('/')}"
    if not parts.scheme and "/data/upload/" not in parts.path:
        return (url,)
    name = PurePosixPath(unquote(parts.path)).name
    return tuple(dict.fromkeys((_UPLOAD_PREFIX.sub("", name), name)))


# --- VIA --------------------------------------------------------------------------------------------------------------


class _Attribute(msgspec.Struct):
    anchor_id: str = ""
    options: dict[str, str] = {}


class _File(msgspec.Struct):
    fname: str


class _View(msgspec.Struct):
    fid_list: list[str | int]


class _Metadata(msgspec.Struct):
    vid: str | int
    z: list[float]
    xy: list[Any]
    av: dict[str, str]


class _Via(msgspec.Struct):
    file: dict[str, _File]
    view: dict[str, _View]
    metadata: dict[str, _Metadata]
    attribute: dict[str, _Attribute]


def _via(file: Path, project: _Via) -> Iterator[AnnotatedVideo]:
    """The videos that have a span of time; others may not have been looked at yet."""
    found: dict[str, list[LabelledSpan]] = {}
    for name, one in project.metadata.items():
        if len(one.z) != 2 or one.xy:  # a region of a frame, or a remark on the file
            continue
        place = f"metadata {name!r}"
        view = project.view.get(str(one.vid))
        files = [project.file.get(str(number)) for number in (view.fid_list if view else [])]
        if len(files) != 1 or files[0] is None:
            raise DatasetError(f"{file}, {place}: belongs to {len(files)} files; expected one")
        labels = [
            project.attribute[key].options.get(label, label)
            for key, value in one.av.items()
            if value.strip() and key in project.attribute and project.attribute[key].anchor_id == _SEGMENT_ANCHOR
            for label in (value.split(",") if project.attribute[key].options else [value])
        ]
        if not labels:
            raise DatasetError(f"{file}, {place}: the segment from {one.z[0]:g} to {one.z[1]:g} s has no label")
        events = (event_of(file, place, label, round(one.z[0], 6), round(one.z[1], 6)) for label in labels)
        found.setdefault(files[0].fname, []).extend(event for event in events if event is not None)
    for video, events in found.items():
        yield AnnotatedVideo(file, (video,), tuple(sorted(events, key=lambda event: event[1:])))
