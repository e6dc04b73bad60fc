"""Located events as the files that annotators, players and programs read."""

from ccln.pipeline.report.writers.files import OutputError, distinct_names, make_folder, write_files
from ccln.pipeline.report.writers.formats import FORMATS, to_text, write_beside
from ccln.pipeline.report.writers.label_studio import CONFIGURATION_NAME, labelling_configuration, within_media_root
from ccln.pipeline.report.writers.text import to_csv, to_json

__all__ = [
    "CONFIGURATION_NAME",
    "FORMATS",
    "OutputError",
    "distinct_names",
    "labelling_configuration",
    "make_folder",
    "to_csv",
    "to_json",
    "to_text",
    "within_media_root",
    "write_beside",
    "write_files",
]
