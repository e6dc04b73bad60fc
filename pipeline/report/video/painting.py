"""All that is drawn into the frames of a video: names of events, attention, and a timeline below."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.clock import clock, round_step
from ccln.pipeline.report.names import short_names, shortened
from ccln.pipeline.report.style import INK, TRACK_COLORS, class_color, class_numbers, pack_lanes
from ccln.pipeline.report.video.planes import (
    BLACKEST,
    COLORLESS,
    WHITEST,
    AttentionGlow,
    Planes,
    paste,
    planes_of_image,
)
from ccln.pipeline.segments import SEGMENT_SECONDS

_PAPER, _SHADE, _WHITE = "#f6f6f4", "#dededa", "#ffffff"

_WHOLE_SECONDS = 40.0  # videos up to this long are shown as a whole
_PAGE_SECONDS = 30.0
_TURN_SECONDS = 20.0  # pages overlap: at least five seconds are shown before and after the playhead
_MOST_LANES = 4
_MOST_LETTERS = 200  # more would fit on no frame; measuring a text takes time in proportion to its length


class Painter:
    """Draws a video's timeline below its frames, and the names of events over them while they last.

    What does not move is drawn once a page of the timeline, once an event and once a segment; to a single frame only
    copies of that are added, and the playhead.
    """

    def __init__(self, located: LocatedVideo, height: int, width: int, matrix: int, *, attention: bool) -> None:
        """Lay out what is drawn.

        Args:
            located: the video and its events.
            height: of the frames, in pixels.
            width: of the frames, in pixels.
            matrix: of the frames' colors.
            attention: whether it is drawn.
        """
        self._matrix = matrix
        self._frame_height, self._frame_width = height, width
        self.width = width + width % 2
        """Of the frames with all that is drawn: pixels, even."""
        # Larger frames are looked at from farther away, but not by as much as they are larger.
        self._scale = max(1.0, (self.width / 640) ** 0.75)
        self._timeline = _Timeline(located, self.width, self._scale)
        self._top = height + height % 2
        self.height = self._top + self._timeline.height
        """Of the frames with all that is drawn: pixels, even."""
        self._glow = AttentionGlow(located.attention, height, width, matrix) if attention else None
        self._page: _Page | None = None
        self._page_planes: Planes = []
        self._classes = _classes(located.events)
        self._label = lru_cache(maxsize=8)(self._draw_label)

    def paint(self, canvas: Planes, frame: Planes, seconds: float) -> None:
        """Fill a canvas of the painter's size with a frame and all that belongs to a moment."""
        for plane, source in zip(canvas, frame, strict=True):
            height, width = source.shape
            plane[:height, :width] = source
        copied = [plane[: source.shape[0], : source.shape[1]] for plane, source in zip(canvas, frame, strict=True)]
        if self._glow is not None:
            self._glow.draw(copied, seconds)
        brightness = canvas[0]  # to even sides
        brightness[: self._frame_height, self._frame_width :] = copied[0][:, -1:]
        brightness[self._frame_height : self._top] = brightness[self._frame_height - 1]
        page = self._timeline.page(seconds)
        if page is not self._page:
            self._page, self._page_planes = page, planes_of_image(page.image, self._matrix)
        paste(canvas, self._page_planes, self._top, 0)
        self._draw_playhead(canvas, self._timeline.x(page, seconds))
        if lasting := tuple(event for event in page.events if event.start_seconds <= seconds < event.end_seconds):
            margin = 2 * round(4 * self._scale)
            above = [plane[: self._top // step] for plane, step in zip(canvas, (1, 2, 2), strict=True)]
            paste(above, self._label(lasting), margin, margin)

    def _draw_playhead(self, canvas: Planes, x: int) -> None:
        """A dark line with light edges, visible on any color."""
        half = 2 * round(self._scale)  # of its width, edges included
        edge = half // 2
        middle = min(max(x // 2 * 2, half), self.width - half)
        rows = slice(self._top, self._top + self._timeline.scale_top)
        canvas[0][rows, middle - half : middle + half] = WHITEST
        canvas[0][rows, middle - half + edge : middle + half - edge] = BLACKEST
        halved = slice(rows.start // 2, rows.stop // 2)
        for plane in canvas[1:]:
            plane[halved, (middle - half) // 2 : (middle + half) // 2] = COLORLESS

    def _draw_label(self, events: Sequence[Event]) -> Planes:
        """The events one below the other, each with its confidence."""
        line, pad = 2 * round(12 * self._scale), round(8 * self._scale)
        most = max(1, self._frame_height // 3 // line)
        shown = events if len(events) <= most else events[: most - 1]
        bold, regular = (_font(round(15 * self._scale), bold=bold) for bold in (True, False))
        room = self.width - 4 * round(4 * self._scale) - 4 * pad
        rows = []
        for event in shown:
            confidence = f"{event.confidence:.2f}"
            name, color = self._classes[event.label]
            rows.append((_fitting(name, bold, room - regular.getlength(confidence)), confidence, color))
        if more := len(events) - len(shown):
            rows.append((f"{more} more" if shown else f"{more} events", "", INK))
        widths = [bold.getlength(name) + regular.getlength(confidence) for name, confidence, _ in rows]
        image = Image.new("RGB", (-(-(round(max(widths)) + 4 * pad) // 2) * 2, line * len(rows)), INK)
        for row, (name, confidence, color) in enumerate(rows):
            top, left = row * line, 2 * pad
            middle = left + round(bold.getlength(name))
            image.paste(color, (0, top, pad, top + line))
            _write(image, (left, top, middle, top + line), name, bold)
            _write(image, (middle + pad, top, image.width, top + line), confidence, regular)
        return planes_of_image(image, self._matrix)


@dataclass(frozen=True, eq=False)
class _Page:
    """A part of the video's timeline, drawn."""

    image: Image.Image
    start_seconds: float
    end_seconds: float
    events: tuple[Event, ...]
    """The events that lie in it, wholly or in part."""


class _Timeline:
    """Draws events, tracks and a scale of time page by page: all if the video is short, else 30 seconds at a time."""

    def __init__(self, located: LocatedVideo, width: int, scale: float) -> None:
        """Lay it out.

        Args:
            located: the video and its events.
            width: pixels, even.
            scale: how much larger than on a frame of 640 pixels.
        """
        self._located = located
        self._lanes = pack_lanes(located.events, _MOST_LANES)
        self._classes = _classes(located.events)
        self._duration = max(located.duration_seconds, 0.001)
        self._small, self._bold = _font(round(10 * scale)), _font(round(11 * scale), bold=True)
        self._gap, self._lane, self._row = (round(size * scale) for size in (3, 17, 11))
        self._width = width
        self._left = 4 * self._gap + round(max(self._small.getlength(name) for name in TRACK_COLORS))
        self._right = width - 3 * self._gap
        self._tracks_top = 2 * self._gap + self._lane * (max(self._lanes, default=0) + 1)
        self.scale_top = self._tracks_top + self._gap + self._row * len(TRACK_COLORS)
        """Where the scale of time starts, in pixels."""
        self.height = -(-(self.scale_top + 2 * self._gap + self._row) // 2) * 2
        """Pixels, even."""
        self._page: _Page | None = None

    def page(self, seconds: float) -> _Page:
        """The page on which a moment is."""
        start, end = 0.0, self._duration
        if self._duration > _WHOLE_SECONDS:
            turn = max(0.0, (seconds - (_PAGE_SECONDS - _TURN_SECONDS) / 2) // _TURN_SECONDS) * _TURN_SECONDS
            start = min(turn, self._duration - _PAGE_SECONDS)
            end = start + _PAGE_SECONDS
        if self._page is None or self._page.start_seconds != start:
            self._page = self._drawn(start, end)
        return self._page

    def x(self, page: _Page, seconds: float) -> int:
        """Where a moment is on a page, in pixels; what lies beyond it is at its edge."""
        share = (seconds - page.start_seconds) / (page.end_seconds - page.start_seconds)
        return round(self._left + min(max(share, 0.0), 1.0) * (self._right - self._left))

    def _drawn(self, start: float, end: float) -> _Page:
        image = Image.new("RGB", (self._width, self.height), _PAPER)
        shown = [
            (event, lane)
            for event, lane in zip(self._located.events, self._lanes, strict=True)
            if event.start_seconds < end and event.end_seconds > start
        ]
        page = _Page(image, start, end, tuple(event for event, _ in shown))
        draw = ImageDraw.Draw(image)
        self._draw_scale(page, draw)
        self._draw_tracks(page, draw)
        for event, lane in shown:
            self._draw_event(page, draw, event, lane)
        return page

    def _draw_scale(self, page: _Page, draw: ImageDraw.ImageDraw) -> None:
        widest = self._small.getlength(clock(page.end_seconds)) + 4 * self._gap
        length = page.end_seconds - page.start_seconds
        step = max(1, int(round_step(length, max(1, int((self._right - self._left) / widest)))))
        bottom = self.scale_top + self._gap
        for second in range(-(-int(page.start_seconds) // step) * step, int(page.end_seconds) + 1, step):
            if second < page.start_seconds:
                continue
            x, text = self.x(page, second), clock(second)
            draw.line((x, self._gap, x, bottom), _SHADE)
            half = self._small.getlength(text) / 2
            at = min(max(x, half + self._gap), self._width - half - self._gap)
            draw.text((at, bottom), text, fill=INK, font=self._small, anchor="ma")

    def _draw_tracks(self, page: _Page, draw: ImageDraw.ImageDraw) -> None:
        first = int(page.start_seconds // SEGMENT_SECONDS)
        last = int(-(-page.end_seconds // SEGMENT_SECONDS))
        for row, (name, track) in enumerate(self._located.known_tracks.items()):
            top = self._tracks_top + row * self._row
            bottom = top + self._row - self._gap
            draw.text((self._left - self._gap, (top + bottom) / 2), name, fill=INK, font=self._small, anchor="rm")
            draw.rectangle((self._left, top, self._right - 1, bottom), _SHADE)
            for segment, value in enumerate(track[first:last], start=first):
                left, right = (self.x(page, edge * SEGMENT_SECONDS) for edge in (segment, segment + 1))
                if value is None:
                    draw.text(((left + right) / 2, (top + bottom) / 2), "–", fill=INK, font=self._small, anchor="mm")
                    continue
                height = round(value * (bottom - top + 1))
                if height and right > left:
                    draw.rectangle((left, bottom - height + 1, right - 1, bottom), TRACK_COLORS[name])

    def _draw_event(self, page: _Page, draw: ImageDraw.ImageDraw, event: Event, lane: int) -> None:
        left, right = self.x(page, event.start_seconds), self.x(page, event.end_seconds)
        top = self._gap + lane * self._lane
        bottom = top + self._lane - 2
        name, color = self._classes[event.label]
        draw.rectangle((left, top, max(right, left + 3) - 1, bottom), color, INK)
        inner = (left + 2 * self._gap, top + 1, right - self._gap, bottom)
        room = inner[2] - inner[0]
        confidence = f"{event.confidence:.2f}"
        if self._bold.getlength(f"{name}  {confidence}") <= room:
            name = f"{name}  {confidence}"
        elif self._bold.getlength(name[:3] + "…") > room:
            name = confidence if self._bold.getlength(confidence) <= room else ""
        _write(page.image, inner, _fitting(name, self._bold, room), self._bold)


def _classes(events: Sequence[Event]) -> dict[str, tuple[str, str]]:
    """Of each class the name that is drawn, and the color."""
    numbers = class_numbers(events)
    names = short_names(numbers)
    return {label: (names[label][:_MOST_LETTERS], class_color(number)) for label, number in numbers.items()}


@cache
def _font(height: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, as matplotlib brings it, ``height`` pixels high."""
    file = files("matplotlib") / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(BytesIO(file.read_bytes()), height)


def _fitting(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, shortened to at most ``width`` pixels; empty where not even a letter fits."""
    short = shortened(text, lambda line: face.getlength(line) <= width)
    return short if face.getlength(short) <= width else ""


def _write(image: Image.Image, box: tuple[int, int, int, int], text: str, face: ImageFont.FreeTypeFont) -> None:
    """Write white from the left, halfway up a box (left, top, right, bottom); piled-up accents stay in the box."""
    left, top, right, bottom = box
    if text and right > left and bottom > top:
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).text((0, mask.height / 2), text, fill=255, font=face, anchor="lm")
        image.paste(_WHITE, box, mask)
