"""The confusion matrix as a picture that needs no colour."""

from collections.abc import Sequence

import numpy as np

from ccln.pipeline.report.run.markup import Markup, drawing, element

_CELL, _LEFT, _TOP = 26, 200, 175
_LETTERS = 27  # of a name that fit beside the matrix


def confusion_matrix(labels: Sequence[str], confusion: np.ndarray) -> Markup:
    """A row a true label, a column an answer; the darker, the larger its share of the row; every number as a title.

    Args:
        labels: Names, the background last.
        confusion: Number of segments, int64 (true label, predicted label).
    """
    count = len(labels)
    parts = [
        element("text", "truth ↓   answer →", x=_LEFT - 6, y=_TOP - 8, class_="end bold"),
    ]
    for row, name in enumerate(labels):
        y, total = _TOP + _CELL * row, int(confusion[row].sum())
        parts.append(element("text", element("title", name), shortened(name, _LETTERS), x=_LEFT - 6, y=y + 17,
                             class_="end"))  # fmt: skip
        x = _LEFT + _CELL * row
        turned = f"translate({x + 17} {_TOP - 6}) rotate(-60)"
        parts.append(element("text", element("title", name), shortened(name, _LETTERS), transform=turned))
        for column, answer in enumerate(labels):
            segments = int(confusion[row, column])
            share = segments / total if total else 0.0
            x = _LEFT + _CELL * column
            title = f"truth {name}, answer {answer}: {segments} of {total} seconds"
            title += f" ({100 * share:.1f} %)" if total else ""
            parts.append(element("rect", element("title", title), x=x, y=y, width=_CELL, height=_CELL, class_="cell",
                                 fill_opacity=0.85 * share**0.6))  # fmt: skip
            if segments:
                dark = " on" if share > 0.3 else ""
                parts.append(element("text", element("title", title), str(segments), x=x + _CELL / 2, y=y + 17,
                                     class_=f"middle{dark}"))  # fmt: skip
    end = _CELL * count
    for line in range(count + 1):
        across, down = _TOP + _CELL * line, _LEFT + _CELL * line
        parts.append(element("line", x1=_LEFT, x2=_LEFT + end, y1=across, y2=across, class_="grid"))
        parts.append(element("line", x1=down, x2=down, y1=_TOP, y2=_TOP + end, class_="grid"))
    label = "Confusion matrix: seconds by true label (rows) and answered label (columns)"
    picture = drawing(_LEFT + end + 110, _TOP + end + 4, *parts, label=label, class_="matrix")
    return element("div", picture, class_="wide", tabindex="0", role="group", aria_label=label)


def shortened(name: str, letters: float) -> str:
    """The name, or as much of it as fits."""
    return name if len(name) <= letters else name[: max(int(letters) - 1, 0)] + "…"
