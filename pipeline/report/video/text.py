"""Text of a given width: class names come from anywhere, and may hold anything."""

from functools import cache
from importlib.resources import files
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from ccln.pipeline.report.writers.text import one_line

_MOST_LETTERS = 200  # more would not fit on any picture; measuring a text takes time in proportion to its length


@cache
def font(height: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, as matplotlib brings it, ``height`` pixels high."""
    file = files("matplotlib") / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(BytesIO(file.read_bytes()), height)


def fitting(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text on one line, shortened with an ellipsis to at most ``width`` pixels; empty where nothing fits."""
    # What is no text, half of a surrogate pair, has no glyph.
    text = one_line(text[: _MOST_LETTERS + 1]).encode("utf-8", "replace").decode()
    if len(text) <= _MOST_LETTERS and face.getlength(text) <= width:
        return text
    fits, too_long = 0, min(len(text), _MOST_LETTERS) + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if face.getlength(text[:middle] + "…") <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits] + "…" if fits else ""


def write(
    image: Image.Image, box: tuple[int, int, int, int], text: str, face: ImageFont.FreeTypeFont, colour: str
) -> None:
    """Write from the left, halfway up a box (left, top, right, bottom); accents piled up do not leave the box."""
    left, top, right, bottom = box
    if text and right > left and bottom > top:
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).text((0, mask.height / 2), text, fill=255, font=face, anchor="lm")
        image.paste(colour, box, mask)
