"""Located events as the files that annotators, players and programs read."""

from ccln.pipeline.writers.csv_table import csv_table
from ccln.pipeline.writers.files import OutputError, distinct_names, write_beside
from ccln.pipeline.writers.json_document import json_document
from ccln.pipeline.writers.registry import WRITERS, Writer
from ccln.pipeline.writers.timeline import Timeline, TrackedTimeline

__all__ = [
    "WRITERS",
    "OutputError",
    "Timeline",
    "TrackedTimeline",
    "Writer",
    "csv_table",
    "distinct_names",
    "json_document",
    "write_beside",
]
