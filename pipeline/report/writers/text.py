"""Events as text: JSON, CSV, Audacity's label track, WebVTT and SubRip.

Subtitles are written here and not by pysubs2, which reads labels as markup of its own: it drops what stands in braces,
breaks lines at a backslash with N, escapes nothing in WebVTT, and ends at 100 hours.
"""

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

from ccln.pipeline.localize.result import Event, LocatedVideo, absolute
from ccln.pipeline.report.clock import timestamp

FORMAT = "ccln-localization"
VERSION = 3  # docs/localization-json.md says when it is raised
COLUMNS = ("path", "label", "start_seconds", "end_seconds", "confidence", "named_by", "heard", "seen")

# What ends a line, moves the cursor, or turns a line round, in one reader or another.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

# All that has a meaning within a WebVTT cue; without `>` there is no `-->` either.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def to_json(videos: Iterable[LocatedVideo], failed: Iterable[tuple[Path, str]] = ()) -> str:
    """The JSON document of any number of videos, as docs/localization-json.md and localization.schema.json describe it.

    Args:
        videos: what was found.
        failed: files that could not be read, each with the reason.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "videos": [located.to_dict() for located in videos],
        "failed": [{"path": str(absolute(path)), "reason": reason} for path, reason in failed],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(videos: Iterable[LocatedVideo]) -> str:
    """One line for each event of any number of videos, below the names of the columns (RFC 4180, lines end in a LF).

    All text is quoted and none changed: a label that begins with `=` stays one. Whoever opens the file in a spreadsheet
    imports those columns as text.
    """
    text = io.StringIO(newline="")
    text.write(",".join(COLUMNS) + "\n")
    # Left to quote where it has to, csv on Python 3.11 writes a carriage return bare.
    rows = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for located in videos:
        for event in located.events:
            times = (event.start_seconds, event.end_seconds)
            most = ["".join(thing.name for thing in things[:1]) for things in (event.heard, event.seen)]
            named = [round(event.confidence, 4), event.named_by, *most]
            rows.writerow([str(located.resolved_path), event.label, *times, *named])
    return text.getvalue()


def to_audacity(located: LocatedVideo) -> str:
    """A label track: one line for each event, start and end in seconds and its caption, with tabs between.

    See https://manual.audacityteam.org/man/importing_and_exporting_labels.html . There are no escapes; tabs, line ends
    and other controls in a label become spaces.
    """
    return "".join(
        f"{event.start_seconds:.6f}\t{event.end_seconds:.6f}\t{_caption(event)}\n" for event in located.events
    )


def to_webvtt(located: LocatedVideo) -> str:
    """Subtitles for the web, one cue for each event: https://www.w3.org/TR/webvtt1/ .

    Line ends and other controls in a label become spaces: an empty line would end the cue.
    """
    cues = (f"\n{_times(event, '.')}\n{_caption(event).translate(_ESCAPES)}\n" for event in located.events)
    return "WEBVTT\n" + "".join(cues)


def to_srt(located: LocatedVideo) -> str:
    """SubRip subtitles, one for each event; the format has no standard but what all players read.

    It has no escapes, so text stands as it is, but for line ends and other controls, which become spaces, and `-->`,
    which becomes `->`: some readers take a line that has it for one of times. An empty file would be none of the
    format, so without events there is one subtitle that shows nothing.
    """
    subtitles = (
        f"{number}\n{_times(event, ',')}\n{_caption(event).replace('-->', '->')}\n"
        for number, event in enumerate(located.events, start=1)
    )
    return "\n".join(subtitles) or "1\n00:00:00,000 --> 00:00:00,001\n\n"


def one_line(text: str) -> str:
    """The text with each run of line ends, tabs and other controls as one space."""
    return _CONTROLS.sub(" ", text)


def _caption(event: Event) -> str:
    """What a viewer reads of an event, on one line: `Church bell (0.87)`."""
    return f"{one_line(event.label)} ({event.confidence:.2f})"


def _times(event: Event, decimal_mark: str) -> str:
    start, end = (timestamp(time, decimal_mark) for time in (event.start_milliseconds, event.end_milliseconds))
    return f"{start} --> {end}"
