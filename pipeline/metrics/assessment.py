"""What the scores of all tasks have in common: tables, curves and files need not know which task they are of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from ccln.pipeline.metrics.tables import percent, seconds


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
        return percent(value) if self.unit == "%" else seconds(value)


class TaskScores(Protocol):
    """Scores of a split, of any task."""

    columns: ClassVar[tuple[Column, ...]]
    """In the order in which they are shown."""
    selected_on: ClassVar[str]
    """What `selection` is, in words."""

    @property
    def clips(self) -> int:
        """How many were scored."""
        ...

    @property
    def selection(self) -> float:
        """The figure that an epoch is selected on, 0..1; the higher the better."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """The scores by name, fit for JSON."""
        ...


class Details(Protocol):
    """More than the scores: where a network fails."""

    format: ClassVar[tuple[str, int]]
    """Name and version of the report that has it."""

    def as_dict(self) -> dict[str, Any]:
        """Entries of the report, fit for JSON."""
        ...

    def tables(self) -> list[str]:
        """As text."""
        ...


@dataclass(frozen=True, eq=False)
class Assessment:
    """How a network does on a split, and what that has to be read against."""

    scores: TaskScores
    ablated: Mapping[str, TaskScores]
    """What the same network scores when something is taken from the clips, by what is; mostly empty."""
    baselines: Mapping[str, TaskScores]
    """What answers score that look at no clip, by name."""
    details: Details
