"""A label track for Audacity: https://manual.audacityteam.org/man/importing_and_exporting_labels.html ."""

from ccln.pipeline.report.writers.timeline import Timeline, one_line, spans


def to_audacity(timeline: Timeline) -> str:
    """One line an event: start and end in seconds and the label, with tabs between.

    The confidence is left out: Audacity, and what reads its tracks, takes the whole text for the label. There are no
    escapes; tabs, line ends and other controls in a label become spaces.
    """
    return "".join(
        f"{span.start_seconds:.6f}\t{span.end_seconds:.6f}\t{one_line(span.label)}\n" for span in spans(timeline)
    )
