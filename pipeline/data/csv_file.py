"""Data sets of your own: a CSV file with columns path, start, end, label and optionally split, beside the videos."""

import csv
import difflib
import hashlib
import io
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ccln.files import write_whole
from ccln.pipeline.data.clips import AnnotatedClip, Dataset, DatasetError, Split, read_annotation_text, row_error
from ccln.pipeline.data.media import MediaFolder, durations_seconds
from ccln.pipeline.data.times import decimal_mark, parse_seconds
from ccln.pipeline.data.windows import SLIVER_SECONDS, LabelledSpan, balanced, windows_of, without_overlap
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
_CLIPPED_SECONDS = 1.0
"""An end that is no further after its video's is taken for the video's."""
_MAX_SECONDS = 3_600_000
"""Of all videos together, so that a wrong time, or a forged header, does not exhaust the memory with windows."""

_Span = tuple[float, float]
_RowError = Callable[[str, str, str], DatasetError]
"""`row_error` of one line: from the name of a value, the value, and what is expected."""


def read_csv_dataset(file: str | os.PathLike[str], media_root: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a data set from a CSV file.

    A row is one event: `path` relative to the CSV's folder, `start` and `end` in seconds or as m:ss or h:mm:ss
    (fractions allowed, half-open), `label` the class. Videos may have any length and any number of events; they are cut
    into windows as `ccln.pipeline.data.windows` says, which also says what becomes of events that overlap. A video is
    annotated up to its last end: what no event covers until then is background, and what is after it is not used. A row
    without a label is not an event, but is annotated, too; a row with a path alone is a video that is background
    throughout. Space around labels, times and splits is ignored, and so are other columns.

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
    durations = durations_seconds(media.folder / path for path in rows_of)
    rows_of = _within_videos(file, media.folder, rows_of, durations)
    annotated = sum(_annotated_seconds(rows, durations.get(media.folder / path)) for path, rows in rows_of.items())
    if annotated > _MAX_SECONDS:
        raise DatasetError(
            f"{file}: its videos are annotated for {annotated / 3600:.0f} hours; a data set has "
            f"{_MAX_SECONDS // 3600} at most. Check the largest ends, or make several data sets"
        )
    paths = {path: media.folder / path for path in rows_of}
    videos = [_windows(file, paths[path], rows, durations.get(paths[path])) for path, rows in rows_of.items()]
    clips = tuple(_with_rows(balanced(videos), sum(map(len, rows_of.values()))))
    class_names = tuple(dict.fromkeys(row.label for rows in rows_of.values() for row in rows if row.label is not None))
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


def _with_rows(clips: Iterable[AnnotatedClip], row_count: int) -> Iterator[AnnotatedClip]:
    """The clips, each with a row of its own: those after the first of their video have one after all rows."""
    more = itertools.count(row_count)
    for clip in clips:
        yield clip if clip.start_seconds == 0 else replace(clip, row=next(more))


def _within_videos(
    file: Path, folder: Path, rows_of: dict[str, list[_Row]], durations: Mapping[Path, float]
) -> dict[str, list[_Row]]:
    """The rows with the ends that are a little after their videos' set to these."""
    clipped: list[_Row] = []

    def within(row: _Row) -> _Row:
        duration = durations.get(folder / row.path)
        if row.span is None or duration is None or row.span[1] <= duration + SLIVER_SECONDS:
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


def _windows(file: Path, path: Path, rows: list[_Row], duration: float | None) -> list[AnnotatedClip]:
    """The windows of the video that the rows of one path describe together."""
    first = rows[0]
    for row in rows[1:]:
        if row.split != first.split:
            expected = f"{first.split}, as in line {first.line_number}: a video is in one split"
            raise row_error(file, row.line_number, f"split of {row.path!r}", row.split, expected)
        if None in (row.span, first.span):
            expected = f"no row beside line {first.line_number}: a row with a path alone says that there is no event"
            raise row_error(file, row.line_number, f"row of {row.path!r}", row.label or "", expected)
    events = [LabelledSpan(row.label, *row.span) for row in rows if row.label is not None and row.span is not None]
    annotated = _annotated_seconds(rows, duration)
    clip = AnnotatedClip(first.position, None, path.stem, (), first.split, path)
    return windows_of(clip, without_overlap(events), annotated)


def _annotated_seconds(rows: list[_Row], duration: float | None) -> float:
    whole = CLIP_SECONDS if duration is None else duration
    return max((row.span[1] for row in rows if row.span is not None), default=whole)


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
        split = _split(wrong, cell["split"].strip()) if "split" in cell else split_by_path(path)
        yield _Row(position, line_number, path, label, span, split)


def write_csv(file: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all; floats are times, to the microsecond."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([_decimal(cell) if isinstance(cell, float) else cell for cell in row])
    write_whole(file, text.getvalue().encode())


def _decimal(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _slashed(path: str) -> Path:
    return Path(path.replace("\\", "/"))


def _delimiter(text: str) -> tuple[str, int]:
    """What separates the columns of the header, and how many lines are before that."""
    lines = text.splitlines()
    skipped = 1 if lines and lines[0].lower().startswith("sep=") else 0  # a hint for spreadsheets
    header = next((line for line in lines[skipped:] if line.strip()), "")

    def fits(delimiter: str) -> int:
        try:
            names = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:  # reading the records says what is wrong
            return 0
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
    if not label.isprintable():
        raise wrong("label", label, "a printable name, or none for background")
    if label.lower() == "background":
        raise wrong("label", label, "a class; background has no label")
    start_seconds = times.read(wrong, line_number, "start", start)
    end_seconds = times.read(wrong, line_number, "end", end)
    if not 0 <= start_seconds < end_seconds:
        raise wrong("start", start, f"at least 0 and before the end, {end}")
    return label or None, (start_seconds, end_seconds)


def _split(wrong: _RowError, value: str) -> Split:
    if (split := _SPLIT_NAMES.get(value.lower())) is None:
        raise wrong("split", value, f"one of {', '.join(_SPLIT_NAMES)}")
    return split


def split_by_path(path: str) -> Split:
    """The split of a video that names none; see `read_csv_dataset`."""
    share = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8]) / 2**64
    if share < _TRAIN_SHARE:
        return "train"
    return "validation" if share < _TRAIN_SHARE + _VALIDATION_SHARE else "test"
