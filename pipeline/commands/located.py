"""Located events as text, for people and for programs."""

import json
from typing import TYPE_CHECKING

from ccln.pipeline.report.writers import WRITERS, csv_table, json_document

if TYPE_CHECKING:
    from ccln.pipeline.localize.localize import Localization
    from ccln.pipeline.localize.localizer import LocatedVideo

_SECONDS_SHOWN = 20  # as many as fit into a line of a wide terminal


def clip_table(clip: "LocatedVideo") -> str:
    """For people: the events, and of a short clip second by second in per cent what was seen, heard, and both."""
    lines = [f"{clip.path}  ({moment(clip.duration_seconds)})"]
    for event in clip.events:
        times = f"{moment(event.start_seconds):>7} – {moment(event.end_seconds):>7}"
        lines.append(f"  event  {times}  {event.label}  (confidence {event.confidence:.2f})")
    if not clip.events:
        nearest = int(clip.both.argmax())
        evidence = f"most like one in second {nearest}: {clip.labels[nearest]}, {clip.both[nearest]:.2f}"
        lines.append(f"  no event is both seen and heard ({evidence})")
    if len(clip.both) <= _SECONDS_SHOWN:
        lines.append("  second" + "".join(f"{second:>5}" for second in range(len(clip.both))))
        for name in ("seen", "heard", "both"):
            lines.append(f"  {name:6}" + "".join(f"{round(100 * p):>4}%" for p in getattr(clip, name)))
    return "\n".join(lines)


def moment(seconds: float) -> str:
    """A time as `4.0 s`, from a minute on as `1:04.0`, from an hour on as `1:01:04.0`."""
    tenths = round(10 * seconds)
    minutes, tenths = divmod(tenths, 600)
    if not minutes:
        return f"{tenths / 10:.1f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths / 10:04.1f}" if hours else f"{minutes}:{tenths / 10:04.1f}"


def localization_heading(format_name: str) -> str:
    """What is printed before the first clip."""
    return csv_table([]) if format_name == "csv" else ""


def localization_text(clip: "LocatedVideo", format_name: str) -> str:
    """A clip as it is printed, in all formats but JSON, whose document is one of all clips."""
    if format_name == "table":
        return clip_table(clip) + "\n\n"
    if format_name == "csv":
        return csv_table([clip]).removeprefix(localization_heading(format_name))
    return WRITERS[format_name].to_text(clip)


def localization_json(found: "Localization") -> str:
    """For programs: docs/localization-json.md describes every field."""
    failed = [(failure.path, failure.reason) for failure in found.failed]
    return json.dumps(json_document(found.clips, failed), indent=2, allow_nan=False)
