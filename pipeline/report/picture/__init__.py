"""Pictures of what was found in videos of any length."""

from ccln.pipeline.report.picture.picture import TimelinePicture

__all__ = ["TimelinePicture"]
