"""All that is drawn into a clip's pictures."""

from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw

from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.video.colours import EVENT, INK, WHITE
from ccln.pipeline.report.video.heat_map import HeatMap
from ccln.pipeline.report.video.panel import Page, Panel
from ccln.pipeline.report.video.planes import Planes, paste, planes_of_image
from ccln.pipeline.report.video.text import fitting, font, write
from ccln.pipeline.segments import SEGMENT_SECONDS

_BLACKEST, _WHITEST, _COLOURLESS = 16, 235, 128  # of yuv420p


class Painter:
    """Draws a clip's timeline below its pictures, and the events that are on over them.

    What does not move is drawn once a page of the timeline, once an event and once a segment; to a single picture only
    copies of that are added, and the playhead.
    """

    def __init__(self, located: LocatedVideo, height: int, width: int, matrix: int, *, heat_map: bool) -> None:
        """Lay out what is drawn.

        Args:
            located: the video and its events.
            height: of the pictures, in pixels.
            width: of the pictures, in pixels.
            matrix: of the pictures' colours.
            heat_map: whether the attention is drawn.

        Raises:
            ValueError: an event is not within the clip.
        """
        self._matrix = matrix
        self._picture_height, self._picture_width = height, width
        self.width = width + width % 2
        """Of the pictures with all that is drawn: pixels, even."""
        # Larger pictures are looked at from farther away, but not by as much as they are larger.
        self._scale = max(1.0, (self.width / 640) ** 0.75)
        self._panel = Panel(located, self.width, self._scale)
        self._top = height + height % 2
        self.height = self._top + self._panel.height
        """Of the pictures with all that is drawn: pixels, even."""
        self._heat_map = HeatMap(located.attention, SEGMENT_SECONDS, height, width, matrix) if heat_map else None
        self._page: Page | None = None
        self._page_drawn: Planes = []
        self._label = lru_cache(maxsize=8)(self._draw_label)

    def paint(self, canvas: Planes, picture: Planes, seconds: float) -> None:
        """Fill a canvas of the painter's size with a picture and all that belongs to a moment."""
        for plane, source in zip(canvas, picture, strict=True):
            height, width = source.shape
            plane[:height, :width] = source
        seen = [plane[: source.shape[0], : source.shape[1]] for plane, source in zip(canvas, picture, strict=True)]
        if self._heat_map is not None:
            self._heat_map.draw(seen, seconds)
        brightness = canvas[0]  # to even sides
        brightness[: self._picture_height, self._picture_width :] = seen[0][:, -1:]
        brightness[self._picture_height : self._top] = brightness[self._picture_height - 1]
        page = self._panel.page(seconds)
        if page is not self._page:
            self._page, self._page_drawn = page, planes_of_image(page.image, self._matrix)
        paste(canvas, self._page_drawn, self._top, 0)
        self._draw_playhead(canvas, self._panel.x(page, seconds))
        on = tuple(event for event in page.events if event.start_seconds <= seconds < event.end_seconds)
        if on:
            margin = 2 * round(4 * self._scale)
            above = [plane[: self._top // step] for plane, step in zip(canvas, (1, 2, 2), strict=True)]
            paste(above, self._label(on), margin, margin)

    def _draw_playhead(self, canvas: Planes, x: int) -> None:
        """A dark line with light edges, seen on any colour."""
        half = 2 * round(self._scale)  # of its width, edges included
        edge = half // 2
        middle = min(max(x // 2 * 2, half), self.width - half)
        rows = slice(self._top, self._top + self._panel.scale_top)
        canvas[0][rows, middle - half : middle + half] = _WHITEST
        canvas[0][rows, middle - half + edge : middle + half - edge] = _BLACKEST
        halved = slice(rows.start // 2, rows.stop // 2)
        for plane in canvas[1:]:
            plane[halved, (middle - half) // 2 : (middle + half) // 2] = _COLOURLESS

    def _draw_label(self, on: Sequence[Event]) -> Planes:
        """The events that are on, one below the other, each with its confidence."""
        line = 2 * round(12 * self._scale)
        most = max(1, self._picture_height // 3 // line)
        shown = on if len(on) <= most else on[: most - 1]
        bold, regular = (font(round(15 * self._scale), bold=bold) for bold in (True, False))
        pad = round(8 * self._scale)
        room = self.width - 4 * round(4 * self._scale) - 4 * pad
        texts = []
        for event in shown:
            confidence = f"{event.confidence:.2f}"
            texts.append((fitting(event.label, bold, room - regular.getlength(confidence)), confidence))
        if len(shown) < len(on):
            texts.append((f"{len(on) - len(shown)} more" if shown else f"{len(on)} events", ""))
        named = [round(bold.getlength(name)) for name, _ in texts]
        widths = [
            begin + round(regular.getlength(confidence)) for begin, (_, confidence) in zip(named, texts, strict=True)
        ]
        image = Image.new("RGB", (-(-(max(widths) + 4 * pad) // 2) * 2, line * len(texts)), INK)
        ImageDraw.Draw(image).rectangle((0, 0, pad // 2, image.height), EVENT)
        for row, ((name, confidence), begin) in enumerate(zip(texts, named, strict=True)):
            top, left = row * line, 2 * pad
            write(image, (left, top, left + begin, top + line), name, bold, WHITE)
            write(image, (left + begin + pad, top, image.width, top + line), confidence, regular, WHITE)
        return planes_of_image(image, self._matrix)
