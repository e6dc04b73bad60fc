"""Located videos as one HTML page that needs no network: player, waveform, tracks, events and attention."""

from ccln.pipeline.report.page.page import EMBED_LIMIT_BYTES, write_page
from ccln.pipeline.report.page.video import PageVideo, waveform_peaks

__all__ = ["EMBED_LIMIT_BYTES", "PageVideo", "waveform_peaks", "write_page"]
