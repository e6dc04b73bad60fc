"""Tables of numbers as plain text; a score that does not exist is a dash."""

import math
from collections.abc import Sequence

NOTHING = "–"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as lines, the first column flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(wide) for cell, wide in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def percent(share: float) -> str:
    """A share of one as `85.2 %`."""
    return NOTHING if math.isnan(share) else f"{100 * share:.1f} %"


def seconds(value: float) -> str:
    """A time as `0.52 s`."""
    return NOTHING if math.isnan(value) else f"{value:.2f} s"
