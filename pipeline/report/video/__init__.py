"""Located videos written again, with their events drawn in."""

from ccln.pipeline.report.video.video import write_video

__all__ = ["write_video"]
