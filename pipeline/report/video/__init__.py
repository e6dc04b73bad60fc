"""Located clips as videos again, with the events drawn in."""

from ccln.pipeline.report.video.painting import AttendedTimeline
from ccln.pipeline.report.video.video import write_video

__all__ = ["AttendedTimeline", "write_video"]
