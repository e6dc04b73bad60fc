"""What the evaluations of all tasks have in common: scores as tables show them, details, and numbers as text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

from ccln.pipeline.visible import visible

NO_VALUE = "–"
_SHOWN_CLIPS = 6
ORACLE_CLASS = "oracle class, every segment an event"  # knows each clip's true class, so it is no trivial baseline


@dataclass(frozen=True)
class Column:
    """A score as tables show it."""

    name: str
    """Of the attribute, and in JSON."""
    heading: str
    unit: Literal["%", "s"] = "%"
    over_seeds: bool = False
    """Shown as mean and spread over several runs, too; shares among these are drawn over the epochs."""
    headline: bool = False
    """Of several runs the single ones are shown, and paired differences between methods."""

    def shown(self, scores: "TaskScores") -> str:
        """This score among the others, with its unit."""
        value = getattr(scores, self.name)
        return NO_VALUE if math.isnan(value) else f"{self.text(value)} {self.unit}"

    def text(self, value: float, sign: str = "") -> str:
        """A number of this score's kind without its unit; with `sign` "+" it always has one."""
        return f"{100 * value:{sign}.1f}" if self.unit == "%" else f"{value:{sign}.2f}"


class Selectable(Protocol):
    """Scores of a split, of any kind."""

    @property
    def selection(self) -> float:
        """The figure that an epoch is selected on, 0..1; the higher the better."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """The scores by name, fit for JSON."""
        ...


class TaskScores(Selectable, Protocol):
    """Scores of a split, of any task, as tables show them."""

    columns: ClassVar[tuple[Column, ...]]
    """In the order in which they are shown."""
    selected_on: ClassVar[str]
    """What `selection` is, in words."""

    @property
    def clips(self) -> int:
        """Number of clips evaluated."""
        ...


class Details(Protocol):
    """More than the scores: where a network fails."""

    format: ClassVar[tuple[str, int]]
    """Name and version of the JSON report with these details."""

    def as_dict(self) -> dict[str, Any]:
        """Entries of the report, fit for JSON."""
        ...

    def tables(self) -> list[str]:
        """The details as text."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A network's scores on a split, with the baselines to compare them with."""

    scores: TaskScores
    ablated: Mapping[str, TaskScores]
    """Scores of the same network when something is taken from the clips, by what is; mostly empty."""
    baselines: Mapping[str, TaskScores]
    """Scores of trivial baselines, which look at no clip, and of the oracle class, by name."""
    details: Details

    def best_trivial(self) -> str | None:
        """Name of the trivial baseline with the highest `selection`; None where there is none."""
        found = {name: of.selection for name, of in self.baselines.items() if name != ORACLE_CLASS}
        return max(found, key=lambda name: -1.0 if math.isnan(found[name]) else found[name], default=None)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as lines, the first column flush left and the others flush right."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    lines = ("  ".join([row[0].ljust(widths[0]), *cells[1:]]) for row, cells in zip(rows, padded, strict=True))
    return "\n".join(line.rstrip() for line in lines)


def percent(share: float) -> str:
    """A share of one as `85.2 %`, a dash for NaN."""
    return NO_VALUE if math.isnan(share) else f"{100 * share:.1f} %"


def ratio(part: float, whole: float) -> float:
    """`part / whole`, NaN where there is nothing to divide by."""
    return float(part / whole) if whole else math.nan


def without_nan(scores: Any) -> dict[str, Any]:
    """Fields of a dataclass of numbers by name, None for NaN, which JSON does not have."""
    return {name: None if math.isnan(value) else value for name, value in asdict(scores).items()}


def scores_by_name(scores: Mapping[str, TaskScores]) -> dict[str, dict[str, Any]]:
    """Named scores, fit for JSON."""
    return {name: of.as_dict() for name, of in scores.items()}


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of few observations (Wilson 1927, "Probable inference").

    For a mean of several segments a clip `count` is that of the clips: segments of a clip are no separate observations,
    and the interval is then rather too wide than too narrow.

    Args:
        share: 0 to 1.
        count: Of independent observations.

    Returns:
        Its ends, 0 to 1; NaN where there is no observation.
    """
    if not count:
        return math.nan, math.nan
    square = 1.959964**2 / count
    centre, half = share + square / 2, math.sqrt(square * (share * (1 - share) + square / 4))
    return (centre - half) / (1 + square), (centre + half) / (1 + square)


def interval_text(share: float, count: int) -> str:
    """`wilson_interval` as `53.6 to 68.5 %`, a dash where there is none."""
    low, high = wilson_interval(share, count)
    return NO_VALUE if math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f} %"


def best_and_worst(ranked: Sequence[int]) -> tuple[list[int], list[int]]:
    """Positions of the clips to show, best first and worst first, from the best to the worst; no clip is in both."""
    worst = list(ranked[::-1])[: min(_SHOWN_CLIPS, len(ranked) // 2)]
    return list(ranked[: min(_SHOWN_CLIPS, len(ranked) - len(worst))]), worst
