"""Located events as text, for people and for programs."""

from typing import TYPE_CHECKING

from ccln.pipeline.report.clock import moment
from ccln.pipeline.report.writers import to_csv, to_json, to_text

if TYPE_CHECKING:
    from ccln.pipeline.localize.localize import Localization
    from ccln.pipeline.localize.result import LocatedVideo

_SECONDS_SHOWN = 20  # as many as fit into a line of a wide terminal


def clip_table(clip: "LocatedVideo") -> str:
    """For people: the events, and of a short clip second by second in per cent what was seen, heard, and event."""
    lines = [f"{clip.path}  ({moment(clip.duration_seconds)})"]
    for event in clip.events:
        times = f"{moment(event.start_seconds):>7} – {moment(event.end_seconds):>7}"
        lines.append(f"  event  {times}  {event.label}  (confidence {event.confidence:.2f})")
    if not clip.events:
        nearest = int(clip.event_probability.argmax())
        probability = clip.event_probability[nearest]
        evidence = f"most like one in second {nearest}: {clip.labels[nearest]}, {probability:.2f}"
        lines.append(f"  no event is both seen and heard ({evidence})")
    if len(clip.labels) <= _SECONDS_SHOWN:
        lines.append("  second" + "".join(f"{second:>5}" for second in range(len(clip.labels))))
        for name, track in clip.tracks.items():
            lines.append(f"  {name:6}" + "".join(f"{round(100 * p):>4}%" for p in track))
    return "\n".join(lines)


def localization_heading(format_name: str) -> str:
    """What is printed before the first clip."""
    return to_csv([]) if format_name == "csv" else ""


def localization_text(clip: "LocatedVideo", format_name: str) -> str:
    """A clip as it is printed, in all formats but JSON, whose document is one of all clips."""
    if format_name == "table":
        return clip_table(clip) + "\n\n"
    if format_name == "csv":
        return to_csv([clip]).removeprefix(localization_heading(format_name))
    return to_text(clip, format_name)


def localization_json(found: "Localization") -> str:
    """For programs: docs/localization-json.md describes every field."""
    failed = [(failure.path, failure.reason) for failure in found.failed]
    return to_json(found.clips, failed)
