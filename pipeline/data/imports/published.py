"""Published data sets by their own files: UnAV-100, OV-AVEBench, and LLP (AVVP).

Their annotations have splits, and more videos than can still be had: those that are not there are left out.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ccln.pipeline.data.clips import DatasetError, Split, read_annotation_file, read_annotation_text
from ccln.pipeline.data.imports.annotations import AnnotatedVideo, event_of
from ccln.pipeline.data.windows import LabelledSpan
from ccln.pipeline.segments import CLIP_SECONDS, equal_runs
from ccln.strict_json import strict_json

LAYOUT = (
    "published sets are UnAV-100 (unav100_annotations.json), OV-AVEBench (the JSON of its annotations and "
    "ovave_dataset_meta.csv together) and LLP (AVVP_train.csv, AVVP_val_pd.csv, AVVP_test_pd.csv, AVVP_eval_audio.csv "
    "and AVVP_eval_visual.csv)"
)
_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_OV_META = ["split", "cls_name", "cls_type", "vid_name"]
_LLP_WEAK, _LLP_TIMED = ["filename", "event_labels"], ["filename", "onset", "offset", "event_labels"]

Table = tuple[Path, list[list[str]]]


def read_published(files: Sequence[Path]) -> tuple[list[AnnotatedVideo], list[Path], list[str]]:
    """Read the files of published sets among some files.

    Returns:
        What they say of each video; the other files; and remarks on what is left out.

    Raises:
        DatasetError: A file is not as its set has it, or one that belongs to it is missing.
    """
    videos: list[AnnotatedVideo] = []
    others: list[Path] = []
    labels: list[tuple[Path, dict[str, Any]]] = []
    meta: list[Table] = []
    weak: list[Table] = []
    timed: list[Table] = []
    for file in files:
        if file.suffix.lower() == ".json" and (document := _published_json(file)) is not None:
            if "database" in document:
                videos += _unav(file, document["database"])
            else:
                labels.append((file, document))
            continue
        table = _table(file) if file.suffix.lower() == ".csv" else []
        kinds = [(_OV_META, meta), (_LLP_WEAK, weak), (_LLP_TIMED, timed)]
        of_kind = next((tables for header, tables in kinds if table and table[0] == header), None)
        if of_kind is None:
            others.append(file)
        else:
            of_kind.append((file, table[1:]))
    if labels or meta:
        videos += _ov_ave(labels, meta)
    remarks: list[str] = []
    if weak or timed:
        found, several = _llp(weak, timed)
        videos += found
        if several:
            remarks.append(
                f"{several} training clips of LLP have several classes, and weak training takes one: left out"
            )
    return videos, others, remarks


def _published_json(file: Path) -> dict[str, Any] | None:
    """The object in a file if it is one of UnAV-100 or OV-AVEBench."""
    data = read_annotation_file(file, LAYOUT)
    if data.lstrip()[:1] != b"{":
        return None
    try:
        document = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        first = bytes(next(iter(document.values()), b""))
        if "database" in document or (b'"category"' in first and b'"label"' in first):
            return strict_json(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: {error}; {LAYOUT}") from error
    return None


def _table(file: Path) -> list[list[str]]:
    text = read_annotation_text(file, LAYOUT)
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return []  # the reader of data sets says what is wrong


# --- UnAV-100 ---------------------------------------------------------------------------------------------------------


class _Annotation(msgspec.Struct):
    segment: tuple[float, float]
    label: str


class _UnAV(msgspec.Struct):
    subset: str
    annotations: list[_Annotation] = []


def _unav(file: Path, database: Any) -> Iterator[AnnotatedVideo]:
    videos = _converted(file, database, dict[str, _UnAV])
    for name, video in videos.items():
        events = [event_of(file, name, one.label, *one.segment) for one in video.annotations]
        yield AnnotatedVideo(file, (name,), _present(events), _split(file, name, video.subset))


def read_unav(file: Path) -> list[AnnotatedVideo]:
    """Read UnAV-100's annotations.

    Raises:
        DatasetError: The file is not those.
    """
    document = _published_json(file)
    if document is None or "database" not in document:
        raise DatasetError(f"{file}: is not UnAV-100's annotations. Name unav100_annotations.json")
    return list(_unav(file, document["database"]))


# --- OV-AVEBench ------------------------------------------------------------------------------------------------------


class _OvAve(msgspec.Struct):
    category: str
    label: str


def _ov_ave(labels: Sequence[tuple[Path, dict[str, Any]]], meta: Sequence[Table]) -> Iterator[AnnotatedVideo]:
    if len(labels) != 1 or len(meta) != 1:
        raise DatasetError(f"of OV-AVEBench one JSON and one table are needed, here are {len(labels)} and {len(meta)}")
    (file, document), (table, rows) = labels[0], meta[0]
    videos = _converted(file, document, dict[str, _OvAve])
    for row in rows:
        if len(row) != len(_OV_META) or row[3] not in videos:
            raise DatasetError(
                f"{table}: its row {','.join(row)[:100]!r} has no annotation in {file}; take both from one"
            )
        name, video = row[3], videos[row[3]]
        seconds = _converted(file, _seconds(file, name, video.label), list[int])
        if len(seconds) != CLIP_SECONDS or not set(seconds) <= {0, 1}:
            raise DatasetError(f"{file}: the label of {name!r} is {video.label[:60]!r}; expected ten times 0 or 1")
        runs = [(start, end) for start, end in equal_runs(np.array(seconds)) if seconds[start]]
        events = [event_of(file, name, video.category, start, end) for start, end in runs]
        yield AnnotatedVideo(file, (name,), _present(events), _split(table, name, row[0]))


def _seconds(file: Path, name: str, label: str) -> Any:
    try:
        return json.loads(label)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: the label of {name!r} is {label[:60]!r}; expected ten times 0 or 1") from error


# --- LLP --------------------------------------------------------------------------------------------------------------


def _llp(weak: Sequence[Table], timed: Sequence[Table]) -> tuple[list[AnnotatedVideo], int]:
    """The clips, and how many training clips were left out because they have several classes."""
    split_of: dict[Path, Split] = {file: _llp_split(file) for file, _ in weak}
    evaluated = [file for file, split in split_of.items() if split != "train"]
    modalities = {("audio" if "audio" in file.stem else "visual"): (file, rows) for file, rows in timed}
    if len(modalities) != len(timed) or (evaluated and len(timed) != 2) or not weak:
        raise DatasetError(
            "of LLP the tables of splits (AVVP_train.csv, AVVP_val_pd.csv, AVVP_test_pd.csv) are needed, and for "
            "validation and test AVVP_eval_audio.csv and AVVP_eval_visual.csv beside them"
        )
    heard, seen = (_llp_spans(*modalities[name]) if name in modalities else {} for name in ("audio", "visual"))
    found, several = [], 0
    for file, rows in weak:
        for row in rows:
            if len(row) != 2 or not row[1]:
                raise DatasetError(f"{file}: its row {row!r:.100} has no two columns, filename and event_labels")
            name, split, labels = row[0], split_of[file], row[1].split(",")
            names = (name, name.rsplit("_", 2)[0])
            if split != "train":
                events = _both(heard.get(name, []), seen.get(name, []))
            elif len(labels) == 1:
                events = [LabelledSpan(labels[0], 0, CLIP_SECONDS)]
            else:
                several += 1
                continue
            checked = [event_of(file, name, *event) for event in events]
            found.append(AnnotatedVideo(file, names, _present(checked), split, CLIP_SECONDS))
    return found, several


def _llp_split(file: Path) -> Split:
    for word, split in _SPLITS.items():
        if word in file.stem.lower():
            return split
    raise DatasetError(f"{file}: its name says no split; expected that of LLP, such as AVVP_val_pd.csv")


def _llp_spans(file: Path, rows: Iterable[list[str]]) -> dict[str, list[LabelledSpan]]:
    found: dict[str, list[LabelledSpan]] = {}
    for row in rows:
        try:
            name, onset, offset, label = row
            found.setdefault(name, []).append(LabelledSpan(label, float(onset), float(offset)))
        except ValueError as error:
            raise DatasetError(f"{file}: its row {row!r:.100} is not {','.join(_LLP_TIMED)}") from error
    return found


def _both(heard: Sequence[LabelledSpan], seen: Sequence[LabelledSpan]) -> list[LabelledSpan]:
    """When a class is both heard and seen."""
    shared = (
        LabelledSpan(a.label, max(a.start_seconds, v.start_seconds), min(a.end_seconds, v.end_seconds))
        for a in heard
        for v in seen
        if a.label == v.label
    )
    return [span for span in shared if span.start_seconds < span.end_seconds]


def _converted(file: Path, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise DatasetError(f"{file}: {error}; {LAYOUT}") from error


def _split(file: Path, name: str, written: str) -> Split:
    if (split := _SPLITS.get(written.lower())) is None:
        raise DatasetError(f"{file}: {name!r} is in {written[:40]!r}; expected one of {', '.join(_SPLITS)}")
    return split


def _present(events: Iterable[LabelledSpan | None]) -> tuple[LabelledSpan, ...]:
    return tuple(event for event in events if event is not None)
