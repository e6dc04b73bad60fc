"""All formats by name."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ccln.pipeline.writers.audacity import to_audacity
from ccln.pipeline.writers.csv_table import to_csv
from ccln.pipeline.writers.elan import to_elan
from ccln.pipeline.writers.json_document import to_json
from ccln.pipeline.writers.label_studio import to_label_studio
from ccln.pipeline.writers.subrip import to_srt
from ccln.pipeline.writers.timeline import Timeline
from ccln.pipeline.writers.webvtt import to_webvtt


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
