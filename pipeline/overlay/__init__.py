"""Located clips as videos again, with the events drawn in."""

from ccln.pipeline.overlay.painting import AttendedTimeline
from ccln.pipeline.overlay.video import write_video

__all__ = ["AttendedTimeline", "write_video"]
