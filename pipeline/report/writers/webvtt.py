"""Subtitles for the web: WebVTT, https://www.w3.org/TR/webvtt1/ ."""

from ccln.pipeline.report.writers.timeline import Timeline, caption, spans, timestamp

# All that has a meaning within a cue; without `>` there is no `-->` either.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def to_webvtt(timeline: Timeline) -> str:
    """One cue an event: its label and, in brackets, its confidence.

    Line ends and other controls in a label become spaces: an empty line would end the cue.
    """
    cues = (
        f"\n{timestamp(span.start_milliseconds, '.')} --> {timestamp(span.end_milliseconds, '.')}\n"
        f"{caption(span).translate(_ESCAPES)}\n"
        for span in spans(timeline)
    )
    return "WEBVTT\n" + "".join(cues)
