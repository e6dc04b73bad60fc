"""All formats by name."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ccln.pipeline.report.writers.audacity import to_audacity
from ccln.pipeline.report.writers.csv_table import to_csv
from ccln.pipeline.report.writers.elan import to_elan
from ccln.pipeline.report.writers.json_document import to_json
from ccln.pipeline.report.writers.label_studio import to_label_studio
from ccln.pipeline.report.writers.subrip import to_srt
from ccln.pipeline.report.writers.timeline import Timeline
from ccln.pipeline.report.writers.webvtt import to_webvtt


class Writer(NamedTuple):
    """A format: how its files' names end, and the function that makes their text."""

    suffix: str
    to_text: Callable[[Timeline], str]


WRITERS: Mapping[str, Writer] = {
    "json": Writer(".json", to_json),
    "csv": Writer(".csv", to_csv),
    "webvtt": Writer(".vtt", to_webvtt),
    "srt": Writer(".srt", to_srt),
    "audacity": Writer(".audacity.txt", to_audacity),
    "elan": Writer(".eaf", to_elan),
    "label-studio": Writer(".label-studio.json", to_label_studio),
}
