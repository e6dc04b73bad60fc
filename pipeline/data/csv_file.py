"""Data sets of your own: a CSV file with columns path, start, end, label and optionally split, beside the videos."""

import csv
import difflib
import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ccln.pipeline.data.clips import AnnotatedClip, Dataset, DatasetError, Split, read_annotation_text, row_error
from ccln.pipeline.data.media import MediaFolder, durations_seconds
from ccln.pipeline.data.times import decimal_mark, parse_seconds
from ccln.pipeline.segments import CLIP_SECONDS

log = logging.getLogger(__name__)

LAYOUT = (
    "a data set of your own is a CSV file whose first line is path,start,end,label or path,start,end,label,split, "
    "separated by commas, semicolons or tabs"
)
_REQUIRED, _OPTIONAL = ("path", "start", "end", "label"), ("split",)
_OWN_NAMES = {"start_seconds": "start", "end_seconds": "end"}  # those of ccln-localize --format csv
_DELIMITERS = (",", ";", "\t")
_SPLIT_NAMES: dict[str, Split] = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_TRAIN_SHARE, _VALIDATION_SHARE = 0.7, 0.15
_SLIVER_SECONDS = 0.1
"""An end that is no further after its video's is no mistake: encoders round to whole frames."""
_CLIPPED_SECONDS = 1.0
"""An end that is no further after its video's is taken for the video's."""

_Span = tuple[float, float]
_RowError = Callable[[str, str, str], DatasetError]
"""`row_error` of one line: from the name of a value, the value, and what is expected."""


def read_csv_dataset(file: str | os.PathLike[str], media_root: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a data set from a CSV file.

    A row is one event: `path` relative to the CSV's folder, `start` and `end` in seconds or as m:ss or h:mm:ss
    (fractions allowed, half-open, within the first ten seconds, which are the clip), `label` the class. A clip with
    several events of its class has several rows; its spans that overlap or touch are merged. A row with a path alone is
    a clip that is background throughout. Space around labels, times and splits is ignored, and so are other columns.

    The separator is that of the header: a comma, a semicolon or a tab. Fractions follow a point or a comma, one of them
    throughout the file. The text is UTF-8, or UTF-16 with its byte order mark. An end up to a second after the end of
    its video is taken for that, with a warning.

    `split` is train, validation (or val) or test. Without that column the sha256 of the path decides, so that a clip
    keeps its split when others are added or removed: its first eight bytes, as a share of their highest value, below
    0.7 train, below 0.85 validation, else test.

    Args:
        file: The CSV file.
        media_root: The folder that the paths are relative to, where it is not the CSV's. Then they may be absolute,
            too, and those that are not in the folder, as of another machine, stand for the longest end of them that is.

    Raises:
        DatasetError: The file is missing, too large, unreadable or no such CSV; a value is not as above, or may mean
            two things; rows of one path disagree; a path leads out of the folder; or no row has a label.
    """
    file = Path(file)
    if media_root is not None and not os.path.isdir(media_root):
        raise DatasetError(f"{media_root}: no such folder. Name the one that holds the videos: --media-root")
    media = MediaFolder(file.parent if media_root is None else Path(media_root), named=media_root is not None)
    rows_of: dict[str, list[_Row]] = {}
    for row in _read_rows(file, media):
        rows_of.setdefault(row.path, []).append(row)
    rows_of = _within_videos(file, media.folder, rows_of)
    clips = tuple(_clip(file, media.folder, rows) for rows in rows_of.values())
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


def _within_videos(file: Path, folder: Path, rows_of: dict[str, list[_Row]]) -> dict[str, list[_Row]]:
    """The rows with the ends that are a little after their videos' set to these."""
    durations = durations_seconds(folder / path for path in rows_of)
    clipped: list[_Row] = []

    def within(row: _Row) -> _Row:
        duration = durations.get(folder / row.path)
        if row.span is None or duration is None or row.span[1] <= duration + _SLIVER_SECONDS:
            return row
        start, end = row.span
        if end > duration + _CLIPPED_SECONDS or start >= duration:
            expected = f"within the video, which lasts {duration:.2f} s"
            raise row_error(file, row.line_number, "end", f"{end:g}", expected)
        clipped.append(row)
        return row._replace(span=(start, duration))

    found = {path: [within(row) for row in rows] for path, rows in rows_of.items()}
    if clipped:
        lines = ", ".join(str(row.line_number) for row in clipped[:3]) + (", ..." if len(clipped) > 3 else "")
        log.warning("%s: %d events end after their video and are cut off there (line %s)", file, len(clipped), lines)
    return found


def _clip(file: Path, folder: Path, rows: list[_Row]) -> AnnotatedClip:
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
    path = folder / first.path
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


def read_csv_rows(file: Path) -> Iterator["_Row"]:
    """The rows of a CSV file without splits, with their paths as written, wherever these lead.

    Raises:
        DatasetError: The file is no such CSV; see `read_csv_dataset`.
    """
    return _read_rows(file, None)


def _read_rows(file: Path, media: MediaFolder | None) -> Iterator[_Row]:
    text = read_annotation_text(file, LAYOUT)
    delimiter, skipped = _delimiter(text)
    records = _records(file, text, delimiter, skipped)
    line_number, names = next(records, (1, []))
    names = [_OWN_NAMES.get(name.strip().lower(), name.strip().lower()) for name in names]
    known = [name for name in names if name in (*_REQUIRED, *_OPTIONAL)]
    misspelled = difflib.get_close_matches("split", set(names) - {"split"}, cutoff=0.7) if "split" not in names else []
    if not set(_REQUIRED) <= set(names) or len(set(known)) < len(known) or misspelled:
        raise row_error(file, line_number, "header", ",".join(names), f"{','.join(_REQUIRED)}[,split]; {LAYOUT}")
    if media is None and "split" in names:
        expected = "no column split; a file that has it is a data set already: give it with --media-root"
        raise row_error(file, line_number, "header", ",".join(names), expected)
    times = _Times(thousands=delimiter != ";")
    written_as: dict[str, tuple[str, int]] = {}
    for position, (line_number, cells) in enumerate(records):
        wrong = partial(row_error, file, line_number)
        if len(cells) != len(names):
            expected = f"{len(names)} columns, {','.join(names)}; a value with a comma is written in double quotes"
            raise wrong("row", delimiter.join(cells), expected)
        cell = dict(zip(names, cells, strict=True))
        try:
            path = cell["path"] if media is None else media.find(cell["path"])
        except ValueError as error:
            raise wrong("path", cell["path"], str(error)) from error
        written, first_line = written_as.setdefault(path, (cell["path"], line_number))
        if _slashed(written) != _slashed(cell["path"]):
            raise wrong("path", cell["path"], f"another video than {written!r} of line {first_line}; both are {path}")
        values = {name: cell[name].strip() for name in ("label", "start", "end")}
        label, span = _event(wrong, times, line_number, **values)
        expected = f"within the first {CLIP_SECONDS} seconds, which are the clip; cut the video into clips first"
        if media is not None and span is not None and span[1] > CLIP_SECONDS:
            raise wrong(
                "end" if span[0] < CLIP_SECONDS else "start", values["end" if span[0] < 10 else "start"], expected
            )
        split = _split(wrong, cell["split"].strip()) if "split" in cell else _split_by_path(path)
        yield _Row(position, line_number, path, label, span, split)


def _slashed(path: str) -> Path:
    return Path(path.replace("\\", "/"))


def _delimiter(text: str) -> tuple[str, int]:
    """What separates the columns of the header, and how many lines are before that."""
    lines = text.splitlines()
    skipped = 1 if lines and lines[0].lower().startswith("sep=") else 0  # a hint for spreadsheets
    header = next((line for line in lines[skipped:] if line.strip()), "")

    def fits(delimiter: str) -> int:
        names = next(csv.reader([header], delimiter=delimiter), [])
        return sum(_OWN_NAMES.get(name.strip().lower(), name.strip().lower()) in _REQUIRED for name in names)

    return max(_DELIMITERS, key=fits), skipped


def _records(file: Path, text: str, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty, each with the number of its first line, from 1."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line_number = 1
    try:
        for cells in reader:
            if line_number > skipped and any(cell.strip() for cell in cells):
                yield line_number, cells
            line_number = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"{file}, line {line_number}: {error}; {LAYOUT}") from error


class _Times:
    """Reads times, whose fractions follow one mark throughout a file."""

    def __init__(self, *, thousands: bool) -> None:
        self._thousands = thousands
        self._mark: str | None = None
        self._line_number = 0

    def read(self, wrong: _RowError, line_number: int, name: str, value: str) -> float:
        try:
            seconds = parse_seconds(value, thousands=self._thousands)
        except ValueError as error:
            expected = f"{error}; a row of background has neither label nor start nor end"
            raise wrong(name, value, expected) from error
        if (mark := decimal_mark(value)) is not None:
            if self._mark is None:
                self._mark, self._line_number = mark, line_number
            elif mark != self._mark:
                raise wrong(name, value, f"fractions after {self._mark!r}, as in line {self._line_number}")
        return seconds


def _event(
    wrong: _RowError, times: _Times, line_number: int, *, label: str, start: str, end: str
) -> tuple[str | None, _Span | None]:
    if not label and not start and not end:
        return None, None
    if not label or not label.isprintable():
        raise wrong("label", label, "a printable name, or a row without start and end, too")
    if label.lower() == "background":
        raise wrong("label", label, "a class; a clip without event has no label, start and end")
    start_seconds = times.read(wrong, line_number, "start", start)
    end_seconds = times.read(wrong, line_number, "end", end)
    if not 0 <= start_seconds < end_seconds:
        raise wrong("start", start, f"at least 0 and before the end, {end}")
    return label, (start_seconds, end_seconds)


def _split(wrong: _RowError, value: str) -> Split:
    if (split := _SPLIT_NAMES.get(value.lower())) is None:
        raise wrong("split", value, f"one of {', '.join(_SPLIT_NAMES)}")
    return split


def _split_by_path(path: str) -> Split:
    share = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8]) / 2**64
    if share < _TRAIN_SHARE:
        return "train"
    return "validation" if share < _TRAIN_SHARE + _VALIDATION_SHARE else "test"
