"""Labels of Audacity, selection tables of Raven, and subtitles, WebVTT or SubRip."""

import csv
import html
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ccln.pipeline.data.clips import DatasetError, read_annotation_text, row_error
from ccln.pipeline.data.imports.annotations import AnnotatedVideo, event_of, without_confidence
from ccln.pipeline.data.times import parse_seconds
from ccln.pipeline.data.windows import LabelledSpan

AUDACITY = "Audacity's labels are lines of start, end and label, with tabs between"
RAVEN = 'a selection table of Raven has the columns "Begin Time (s)", "End Time (s)" and one with the labels'
SUBTITLES = "subtitles are times, START --> END, and lines of text below them"
_RAVEN_BEGIN, _RAVEN_END = "Begin Time (s)", "End Time (s)"
_RAVEN_LABELS = ("annotation", "annotations", "species", "label", "tag", "call type", "class")
_ARROW = re.compile(r"^\s*(\S+)[ \t]+-->[ \t]+(\S+)")
_TAG = re.compile(r"<[^<>]*>")
_NO_VIDEOS_NAME = re.compile(r"(\.audacity|\.labels|\.selections|\.Table\.\d+|\.Table)$", re.IGNORECASE)


def read_text(file: Path) -> list[AnnotatedVideo]:
    """Read labels of Audacity or a selection table of Raven, by the first line.

    Raises:
        DatasetError: The file cannot be read, or a line is none of either.
    """
    text = read_annotation_text(file, f"{AUDACITY}; {RAVEN}")
    first = text.lstrip().split("\n", 1)[0]
    return _raven(file, text) if _RAVEN_BEGIN in first else [_audacity(file, text)]


def read_subtitles(file: Path) -> list[AnnotatedVideo]:
    """Read WebVTT or SubRip: a cue is an event, its text, without markup and on one line, the label.

    Raises:
        DatasetError: The file cannot be read, or a cue has no times or no text.
    """
    text = read_annotation_text(file, SUBTITLES)
    of_web = file.suffix.lower() == ".vtt"
    return [AnnotatedVideo(file, (file.stem,), tuple(_cues(file, text, of_web=of_web)))]


def _stem(file: Path) -> str:
    """The name without its ending, and without what tools put before that."""
    name = file.stem
    while (shorter := _NO_VIDEOS_NAME.sub("", name)) != name:
        name = shorter
    return name


def _audacity(file: Path, text: str) -> AnnotatedVideo:
    events = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("\\"):  # the latter has the frequencies of the label before it
            continue
        cells = line.split("\t", 2)
        if len(cells) < 3:
            raise row_error(file, number, "line", line, AUDACITY)
        start, end = (_time(file, number, name, cell) for name, cell in zip(("start", "end"), cells, strict=False))
        if start == end:
            raise row_error(file, number, "end", cells[1], "after the start: a point in time is no event")
        events.append(event_of(file, f"line {number}", without_confidence(cells[2].rstrip()), start, end))
    return AnnotatedVideo(file, (_stem(file),), _present(events))


def _raven(file: Path, text: str) -> list[AnnotatedVideo]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        header, *lines = [(rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DatasetError(f"{file}, line {rows.line_num}: {error}; {RAVEN}") from error
    names = [name.strip() for name in header[1]]
    labels = [name for name in names if name.lower() in _RAVEN_LABELS]
    if _RAVEN_BEGIN not in names or _RAVEN_END not in names or len(labels) != 1:
        raise row_error(file, header[0], "header", "\t".join(names), f"{RAVEN}, called {' or '.join(_RAVEN_LABELS)}")
    found: dict[tuple[str, ...], list[LabelledSpan | None]] = {}
    seen: set[str] = set()
    for number, cells in lines:
        if len(cells) != len(names):
            raise row_error(file, number, "row", "\t".join(cells), f"{len(names)} columns")
        cell = dict(zip(names, (cell.strip() for cell in cells), strict=True))
        # Raven writes a selection once for each view of the sound, spectrogram and waveform.
        if (selection := cell.get("Selection", "")) and selection in seen:
            continue
        seen.add(selection)
        start, end = (_time(file, number, name, cell[name]) for name in (_RAVEN_BEGIN, _RAVEN_END))
        media = tuple(cell[name] for name in ("Begin Path", "Begin File") if cell.get(name))
        if media and cell.get("File Offset (s)"):  # of several files shown as one, the start within its own
            offset = _time(file, number, "File Offset (s)", cell["File Offset (s)"])
            start, end = offset, round(offset + end - start, 6)
        if cell.get("End File", cell.get("Begin File")) != cell.get("Begin File"):
            raise row_error(file, number, "End File", cell["End File"], "the file in which the selection begins")
        event = event_of(file, f"line {number}", cell[labels[0]], start, end)
        found.setdefault(media or (_stem(file),), []).append(event)
    return [AnnotatedVideo(file, media, _present(events)) for media, events in found.items()]


def _cues(file: Path, text: str, *, of_web: bool) -> Iterator[LabelledSpan]:
    number = 0
    for block in re.split(r"\n[ \t]*\n", re.sub(r"\r\n?", "\n", text)):
        lines = block.split("\n")
        number += len(lines) + 1
        place = next((at for at, line in enumerate(lines) if _ARROW.match(line)), None)
        if place is None:
            if any(line.strip() for line in lines) and not of_web:
                raise row_error(file, number - len(lines), "subtitle", block.strip(), SUBTITLES)
            continue  # WEBVTT, NOTE, STYLE and REGION
        line_number = number - len(lines) + place
        times = _ARROW.match(lines[place])
        assert times is not None
        start, end = (_time(file, line_number, "time", mark) for mark in times.groups())
        caption = " ".join(line.strip() for line in lines[place + 1 :] if line.strip())
        if not caption and not of_web and end - start < 0.0015:  # what we write where there is no event
            continue
        if of_web:
            caption = html.unescape(_TAG.sub("", caption))
        event = event_of(file, f"line {line_number}", without_confidence(caption), start, end)
        if event is not None:
            yield event


def _time(file: Path, line_number: int, name: str, text: str) -> float:
    try:
        return parse_seconds(text.strip())
    except ValueError as error:
        raise row_error(file, line_number, name, text, str(error)) from error


def _present(events: Iterable[LabelledSpan | None]) -> tuple[LabelledSpan, ...]:
    return tuple(event for event in events if event is not None)
