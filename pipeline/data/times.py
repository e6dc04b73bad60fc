"""Times as people write them: 2.5, 2,5, 1:02.5, 1:00:02.5."""

import math
import re

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_CLOCK = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d\d(?:[.,]\d+)?)", re.ASCII)
_THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}", re.ASCII)
_MOST_DIGITS = 40

FORMS = "seconds, such as 2.5, or a time, such as 1:02.5 or 1:00:02.5"


def parse_seconds(text: str, *, thousands: bool = False) -> float:
    """Seconds of a number, of m:ss or of h:mm:ss; fractions follow a point or a comma.

    Args:
        text: What is written.
        thousands: Whether a comma may separate thousands, so that one followed by three digits is ambiguous.

    Raises:
        ValueError: It is no such time; the message says what is expected.
    """
    if len(text) > _MOST_DIGITS:
        raise ValueError(FORMS)
    if thousands and _THOUSANDS.fullmatch(text):
        point, joined = text.replace(",", "."), text.replace(",", "")
        raise ValueError(f"{point} or {joined}: it may mean either")
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = clock["hours"], int(clock["minutes"]), float(clock["seconds"].replace(",", "."))
        if seconds >= 60 or (hours is not None and minutes >= 60):
            raise ValueError(f"{FORMS}; minutes and seconds end at 59")
        return round(3600 * int(hours or 0) + 60 * minutes + seconds, 6)  # the double nearest to what is written
    if not _NUMBER.fullmatch(text) or not math.isfinite(seconds := float(text.replace(",", "."))):
        raise ValueError(FORMS)
    return seconds


def decimal_mark(text: str) -> str | None:
    """What separates the fraction: a point, a comma, or None if there is none."""
    return "," if "," in text else "." if "." in text else None
