"""Data sets of your own: a CSV file with columns path, start, end, label and optionally split, beside the videos."""

import csv
import hashlib
import io
import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ccln.pipeline.data.clips import AnnotatedClip, Dataset, DatasetError, Split, read_annotation_file, row_error
from ccln.pipeline.segments import CLIP_SECONDS

LAYOUT = (
    "a data set of your own is a CSV file in UTF-8 whose first line is path,start,end,label or "
    "path,start,end,label,split, separated by commas"
)
_REQUIRED, _OPTIONAL = ("path", "start", "end", "label"), ("split",)
_SPLIT_NAMES: dict[str, Split] = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_TRAIN_SHARE, _VALIDATION_SHARE = 0.7, 0.15
_BIDIRECTIONAL_CONTROLS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))

_Span = tuple[float, float]
_RowError = Callable[[str, str, str], DatasetError]
"""`row_error` of one line: from the name of a value, the value, and what is expected."""


def read_csv_dataset(file: str | os.PathLike[str]) -> Dataset:
    """Read a data set from a CSV file.

    A row is one event: `path` relative to the CSV's folder, `start` and `end` in seconds (fractions allowed, half-open,
    within the first ten seconds, which are the clip), `label` the class. A clip with several events of its class has
    several rows; its spans that overlap or touch are merged. A row with a path alone is a clip that is background
    throughout. Space around labels, times and splits is ignored.

    `split` is train, validation (or val) or test. Without that column the sha256 of the path decides, so that a clip
    keeps its split when others are added or removed: its first eight bytes, as a share of their highest value, below
    0.7 train, below 0.85 validation, else test.

    Args:
        file: The CSV file.

    Raises:
        DatasetError: The file is missing, too large, unreadable or no such CSV; a value is not as above; rows of one
            path disagree; a path leads out of the CSV's folder; or no row has a label.
    """
    file = Path(file)
    rows_of: dict[str, list[_Row]] = {}
    for row in _read_rows(file):
        rows_of.setdefault(row.path, []).append(row)
    clips = tuple(_clip(file, rows) for rows in rows_of.values())
    class_names = tuple(dict.fromkeys(clip.label for clip in clips if clip.label is not None))
    if not class_names:
        raise DatasetError(f"{file} has no row with a label; {LAYOUT}")
    return Dataset(file, class_names, clips)


class _Row(NamedTuple):
    position: int
    line_number: int
    path: str
    label: str | None
    span: _Span | None
    split: Split


def _clip(file: Path, rows: list[_Row]) -> AnnotatedClip:
    """The clip that the rows of one path describe together."""
    first = rows[0]
    for row in rows[1:]:
        if row.label != first.label:
            shown = "none" if first.label is None else repr(first.label)
            expected = f"{shown}, as in line {first.line_number}: a clip has one class"
            raise row_error(file, row.line_number, f"label of {row.path!r}", row.label or "", expected)
        if row.split != first.split:
            expected = f"{first.split}, as in line {first.line_number}: a clip is in one split"
            raise row_error(file, row.line_number, f"split of {row.path!r}", row.split, expected)
    spans = _merged(row.span for row in rows if row.span is not None)
    path = file.parent / first.path
    return AnnotatedClip(first.position, first.label, path.stem, spans, first.split, path)


def _merged(spans: Iterable[_Span]) -> tuple[_Span, ...]:
    """The spans in order; those that overlap or touch are merged."""
    merged: list[_Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return tuple(merged)


def _read_rows(file: Path) -> Iterator[_Row]:
    data = read_annotation_file(file, LAYOUT)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line_number = data.count(b"\n", 0, error.start) + 1
        raise row_error(file, line_number, "text", data[error.start : error.start + 10], "UTF-8") from error
    records = _records(file, text)
    line_number, names = next(records, (1, []))
    names = [name.strip().lower() for name in names]
    if not set(_REQUIRED) <= set(names) <= {*_REQUIRED, *_OPTIONAL} or len(set(names)) < len(names):
        raise row_error(file, line_number, "header", ",".join(names), f"{','.join(_REQUIRED)}[,split]; {LAYOUT}")
    # Links in the CSV's own path are the user's; those in a row's path must stay below its folder.
    folder = Path(os.path.realpath(file.parent))
    for position, (line_number, cells) in enumerate(records):
        wrong = partial(row_error, file, line_number)
        if len(cells) != len(names):
            expected = f"{len(names)} columns, {','.join(names)}; a value with a comma is written in double quotes"
            raise wrong("row", ",".join(cells), expected)
        cell = dict(zip(names, cells, strict=True))
        path = _path(wrong, file.parent, folder, cell["path"])
        label, span = _event(wrong, *(cell[name].strip() for name in ("label", "start", "end")))
        split = _split(wrong, cell["split"].strip()) if "split" in cell else _split_by_path(path)
        yield _Row(position, line_number, path, label, span, split)


def _records(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty, each with the number of its first line, from 1."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line_number = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line_number, cells
            line_number = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"{file}, line {line_number}: {error}; {LAYOUT}") from error


def _path(wrong: _RowError, parent: Path, folder: Path, value: str) -> str:
    """The path as written, normalised; `folder` is the CSV's, `parent`, without links."""
    path = Path(value)
    if not path.name or any(
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _BIDIRECTIONAL_CONTROLS
        for letter in value
    ):
        raise wrong("path", value, "the name of a file, without control characters")
    if path.is_absolute() or path.drive or ".." in path.parts:
        expected = f"a path relative to {parent} without '..'; put the CSV above its videos"
        raise wrong("path", value, expected)
    if not Path(os.path.realpath(folder / path)).is_relative_to(folder):
        expected = f"a path whose links stay below {parent}; put the video itself there"
        raise wrong("path", value, expected)
    return path.as_posix()


def _event(wrong: _RowError, label: str, start: str, end: str) -> tuple[str | None, _Span | None]:
    if not label and not start and not end:
        return None, None
    if not label or not label.isprintable():
        raise wrong("label", label, "a printable name, or a row without start and end, too")
    if label.lower() == "background":
        raise wrong("label", label, "a class; a clip without event has no label, start and end")
    start_seconds = _seconds(wrong, "start", start)
    end_seconds = _seconds(wrong, "end", end)
    if not 0 <= start_seconds < end_seconds:
        raise wrong("start", start, f"at least 0 and before the end, {end}")
    expected = f"within the first {CLIP_SECONDS} seconds, which are the clip; cut the video into clips first"
    if start_seconds >= CLIP_SECONDS:
        raise wrong("start", start, expected)
    if end_seconds > CLIP_SECONDS:
        raise wrong("end", end, expected)
    return label, (start_seconds, end_seconds)


def _seconds(wrong: _RowError, name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise wrong(name, value, "seconds, such as 2.5, or a row without label, start and end")
    return seconds


def _split(wrong: _RowError, value: str) -> Split:
    if (split := _SPLIT_NAMES.get(value.lower())) is None:
        raise wrong("split", value, f"one of {', '.join(_SPLIT_NAMES)}")
    return split


def _split_by_path(path: str) -> Split:
    share = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8]) / 2**64
    if share < _TRAIN_SHARE:
        return "train"
    return "validation" if share < _TRAIN_SHARE + _VALIDATION_SHARE else "test"
