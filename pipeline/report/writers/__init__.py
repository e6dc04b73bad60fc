"""Located events as the files that annotators, players and programs read."""

from ccln.pipeline.report.writers.csv_table import csv_table
from ccln.pipeline.report.writers.files import OutputError, distinct_names, make_folder, write_beside, write_files
from ccln.pipeline.report.writers.json_document import json_document
from ccln.pipeline.report.writers.registry import WRITERS, Writer
from ccln.pipeline.report.writers.timeline import LabelledTimeline, Timeline, TrackedTimeline

__all__ = [
    "WRITERS",
    "LabelledTimeline",
    "OutputError",
    "Timeline",
    "TrackedTimeline",
    "Writer",
    "csv_table",
    "distinct_names",
    "json_document",
    "make_folder",
    "write_beside",
    "write_files",
]
