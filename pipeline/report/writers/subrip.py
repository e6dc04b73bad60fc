"""Subtitles for players: SubRip, which has no standard but what all players read."""

from ccln.pipeline.report.writers.timeline import Timeline, caption, spans, timestamp


def to_srt(timeline: Timeline) -> str:
    """One numbered subtitle an event: its label and, in brackets, its confidence.

    The format has no escapes, so text stands as it is, but for line ends and other controls, which become spaces, and
    `-->`, which becomes `->`: some readers take a line that has it for one of times.
    """
    subtitles = (
        f"{number}\n{timestamp(span.start_milliseconds, ',')} --> {timestamp(span.end_milliseconds, ',')}\n"
        f"{caption(span).replace('-->', '->')}\n"
        for number, span in enumerate(spans(timeline), start=1)
    )
    return "\n".join(subtitles)
