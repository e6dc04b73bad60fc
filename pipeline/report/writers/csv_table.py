"""Events as CSV (RFC 4180, lines end in a line feed), for pandas, R and spreadsheets."""

import csv
import io
from collections.abc import Iterable

from ccln.pipeline.report.writers.timeline import Timeline, spans

COLUMNS = ("path", "label", "start_seconds", "end_seconds", "confidence")


def to_csv(timeline: Timeline) -> str:
    """The table of one clip."""
    return csv_table([timeline])


def csv_table(timelines: Iterable[Timeline]) -> str:
    """One line an event, of any number of clips, below the names of the columns.

    All text is quoted and none changed: a label that begins with `=` stays one. Whoever opens the file in a spreadsheet
    imports those columns as text.
    """
    text = io.StringIO(newline="")
    text.write(",".join(COLUMNS) + "\n")
    # Left to quote where it has to, csv on Python 3.11 writes a carriage return bare.
    rows = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for timeline in timelines:
        for span in spans(timeline):
            numbers = (span.start_seconds, span.end_seconds, round(span.confidence, 4))
            rows.writerow([str(timeline.path), span.label, *numbers])
    return text.getvalue()
