"""Located events as text, for people and for programs."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ccln.pipeline.decode.damage import lost_text
from ccln.pipeline.report.clock import moment
from ccln.pipeline.report.names import heard_and_seen
from ccln.pipeline.report.writers import to_csv, to_json, to_text
from ccln.pipeline.visible import visible

if TYPE_CHECKING:
    from ccln.pipeline.extract.failures import Failure
    from ccln.pipeline.localize.result import LocatedVideo

_SHOWN_SEGMENTS, _SEGMENTS_IN_A_ROW = 20, 10
_MOST_LETTERS = 32  # of a class, so that its line has no more than 80


def video_table(located: "LocatedVideo") -> str:
    """For people: the events, and of a short video the tracks, second by second in per cent."""
    lines = [f"{visible(str(located.path))}  ({moment(located.duration_seconds)})"]
    for event in located.events:
        times = f"{moment(event.start_seconds):>7} – {moment(event.end_seconds):>7}"
        lines.append(f"  event  {times}  {_short(event.label)}  (confidence {event.confidence:.2f})")
        if beside := heard_and_seen(event):
            lines.append(f"{'':28}{beside}")
    if lost := lost_text(located.lost_seconds):
        lines.insert(1, f"  damaged: {lost}")
    if not located.events:
        nearest = int(located.event_probability.argmax())
        lines.append("  no event is both seen and heard")
        lines.append(f"  most like one is second {nearest}: {located.event_probability[nearest]:.2f}")
    if len(located.labels) <= _SHOWN_SEGMENTS:
        for first in range(0, len(located.labels), _SEGMENTS_IN_A_ROW):
            segments = range(first, min(first + _SEGMENTS_IN_A_ROW, len(located.labels)))
            lines.append("  second" + "".join(f"{segment:>5}" for segment in segments))
            for name, track in located.known_tracks.items():
                lines.append(f"  {name:6}" + "".join(_percent(track[segment]) for segment in segments))
    return "\n".join(lines)


def localization_heading(format_name: str) -> str:
    """What is printed before the first video."""
    return to_csv([]) if format_name == "csv" else ""


def localization_text(located: "LocatedVideo", format_name: str, media_root: Path | str | None = None) -> str:
    """A video as it is printed, in all formats but JSON, whose document is one of all videos."""
    if format_name == "table":
        return video_table(located) + "\n\n"
    if format_name == "csv":
        return to_csv([located]).removeprefix(localization_heading(format_name))
    return to_text(located, format_name, media_root=None if media_root is None else Path(media_root))


def localization_json(videos: "Iterable[LocatedVideo]", failed: "Iterable[Failure]") -> str:
    """For programs: docs/localization-json.md describes every field."""
    # Only files are localized in.
    unread = [(failure.path, failure.reason) for failure in failed if isinstance(failure.path, Path)]
    return to_json(videos, unread)


def _percent(value: float | None) -> str:
    return f"{'–':>5}" if value is None else f"{round(100 * value):>4}%"


def _short(label: str) -> str:
    label = visible(label)
    return label if len(label) <= _MOST_LETTERS else label[: _MOST_LETTERS - 1] + "…"
