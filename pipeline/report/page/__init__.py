"""Located clips as one HTML page that needs no network: player, waveform, tracks, events and attention."""

from ccln.pipeline.report.page.clip import PageClip, waveform_peaks
from ccln.pipeline.report.page.document import write_page
from ccln.pipeline.report.page.media import EMBED_LIMIT_BYTES

__all__ = ["EMBED_LIMIT_BYTES", "PageClip", "waveform_peaks", "write_page"]
