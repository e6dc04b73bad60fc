"""The timeline below the picture: events, tracks and a scale of time."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.clock import clock
from ccln.pipeline.report.video.colours import EVENT, INK, PAPER, SHADE, TRACKS, WHITE
from ccln.pipeline.report.video.text import fitting, font, write
from ccln.pipeline.segments import SEGMENT_SECONDS

_WHOLE_SECONDS = 40.0  # clips up to this long are shown as a whole
_PAGE_SECONDS = 30.0
_TURN_SECONDS = 20.0  # pages overlap: at least five seconds are seen before and behind now
_MOST_LANES = 4
_STEPS_SECONDS = (1, 2, 5, 10, 15, 30, 60)


@dataclass(frozen=True, eq=False)
class Page:
    """A stretch of the clip, drawn."""

    image: Image.Image
    start_seconds: float
    end_seconds: float
    events: tuple[Event, ...]
    """The events that lie in it, wholly or in part."""


class Panel:
    """Draws the timeline of a clip page by page: as a whole if it is short, else about 30 seconds at a time."""

    def __init__(self, located: LocatedVideo, width: int, scale: float) -> None:
        """Lay out the panel.

        Args:
            located: the video and its events.
            width: pixels, even.
            scale: how much larger than on a picture of 640 pixels.
        """
        self._located = located
        self._lanes = _lanes(located.events)
        self._duration = max(located.duration_seconds, 0.001)
        self._small, self._bold = font(round(10 * scale)), font(round(11 * scale), bold=True)
        self._gap, self._lane, self._row = (round(size * scale) for size in (3, 17, 11))
        self.width = width
        self.left = 4 * self._gap + round(max(self._small.getlength(name) for name in TRACKS))
        """Where time starts, in pixels."""
        self.right = width - 3 * self._gap
        """Where time ends, in pixels."""
        self._tracks_top = 2 * self._gap + self._lane * (max(self._lanes, default=0) + 1)
        self.scale_top = self._tracks_top + self._gap + self._row * len(TRACKS)
        """Where the scale of time starts, in pixels."""
        self.height = -(-(self.scale_top + 2 * self._gap + self._row) // 2) * 2
        """Pixels, even."""
        self._page: Page | None = None

    def page(self, seconds: float) -> Page:
        """The page on which a moment is."""
        start, end = 0.0, self._duration
        if self._duration > _WHOLE_SECONDS:
            turn = max(0.0, (seconds - (_PAGE_SECONDS - _TURN_SECONDS) / 2) // _TURN_SECONDS) * _TURN_SECONDS
            start = min(turn, self._duration - _PAGE_SECONDS)
            end = start + _PAGE_SECONDS
        if self._page is None or self._page.start_seconds != start:
            self._page = self._drawn(start, end)
        return self._page

    def x(self, page: Page, seconds: float) -> int:
        """Where a moment is on a page, in pixels; what lies beyond it is at its edge."""
        share = (seconds - page.start_seconds) / (page.end_seconds - page.start_seconds)
        return round(self.left + min(max(share, 0.0), 1.0) * (self.right - self.left))

    def _drawn(self, start: float, end: float) -> Page:
        image = Image.new("RGB", (self.width, self.height), PAPER)
        there = [
            (event, lane)
            for event, lane in zip(self._located.events, self._lanes, strict=True)
            if event.start_seconds < end and event.end_seconds > start
        ]
        page = Page(image, start, end, tuple(event for event, _ in there))
        draw = ImageDraw.Draw(image)
        self._draw_scale(page, draw)
        self._draw_tracks(page, draw)
        for event, lane in there:
            self._draw_event(page, draw, event, lane)
        return page

    def _draw_scale(self, page: Page, draw: ImageDraw.ImageDraw) -> None:
        pixels_per_second = (self.right - self.left) / (page.end_seconds - page.start_seconds)
        widest = self._small.getlength(clock(page.end_seconds)) + 4 * self._gap
        step = next((step for step in _STEPS_SECONDS if step * pixels_per_second >= widest), _STEPS_SECONDS[-1])
        bottom = self.scale_top + self._gap
        for second in range(-(-int(page.start_seconds) // step) * step, int(page.end_seconds) + 1, step):
            if second < page.start_seconds:
                continue
            x, text = self.x(page, second), clock(second)
            draw.line((x, self._gap, x, bottom), SHADE)
            half = self._small.getlength(text) / 2
            at = min(max(x, half + self._gap), self.width - half - self._gap)
            draw.text((at, bottom), text, fill=INK, font=self._small, anchor="ma")

    def _draw_tracks(self, page: Page, draw: ImageDraw.ImageDraw) -> None:
        first = int(page.start_seconds // SEGMENT_SECONDS)
        behind = int(-(-page.end_seconds // SEGMENT_SECONDS))
        for row, (name, colour) in enumerate(TRACKS.items()):
            top = self._tracks_top + row * self._row
            bottom = top + self._row - self._gap
            draw.text((self.left - self._gap, (top + bottom) / 2), name, fill=INK, font=self._small, anchor="rm")
            draw.rectangle((self.left, top, self.right - 1, bottom), SHADE)
            for segment, value in enumerate(self._located.tracks[name][first:behind], start=first):
                left, right = (self.x(page, edge * SEGMENT_SECONDS) for edge in (segment, segment + 1))
                height = round(float(value) * (bottom - top + 1))
                if height and right > left:
                    draw.rectangle((left, bottom - height + 1, right - 1, bottom), colour)

    def _draw_event(self, page: Page, draw: ImageDraw.ImageDraw, event: Event, lane: int) -> None:
        left, right = self.x(page, event.start_seconds), self.x(page, event.end_seconds)
        top = self._gap + lane * self._lane
        bottom = top + self._lane - 2
        draw.rectangle((left, top, max(right, left + 3) - 1, bottom), EVENT, INK)
        inner = (left + 2 * self._gap, top + 1, right - self._gap, bottom)
        confidence = f" {event.confidence:.2f}"
        beside = self._small.getlength(confidence)
        name = fitting(event.label, self._bold, inner[2] - inner[0] - beside)
        if name == event.label:
            write(page.image, (inner[2] - round(beside), *inner[1:]), confidence, self._small, WHITE)
        else:
            name = fitting(event.label, self._bold, inner[2] - inner[0])
        write(page.image, inner, name, self._bold, WHITE)


def _lanes(found: Sequence[Event]) -> list[int]:
    """Of each event the topmost lane that is free when it begins; where all are taken, the first to be free."""
    ends: list[int] = []
    lanes = []
    for event in found:
        lane = next((lane for lane, end in enumerate(ends) if end <= event.start_milliseconds), len(ends))
        if lane == len(ends) and len(ends) < _MOST_LANES:
            ends.append(0)
        elif lane == len(ends):
            lane = ends.index(min(ends))
        ends[lane] = max(ends[lane], event.end_milliseconds)
        lanes.append(lane)
    return lanes
