"""How often seconds of each kind are called event: events, plain background, and what else is in the background."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ccln.pipeline.data.manifest import EVENT, PLAIN
from ccln.pipeline.metrics.evaluation import percent
from ccln.pipeline.metrics.seeds import spread_text


@dataclass(frozen=True)
class KindScores:
    """The seconds of one kind."""

    seconds: int
    """How many there are, at least one."""
    called_event: float
    """Share of them that was predicted as event."""


def score_kinds(predicted: np.ndarray, kinds: np.ndarray) -> dict[str, KindScores]:
    """Count the seconds of each kind, and which of them are called event.

    Args:
        predicted: bool (clip, segment): whether the second is predicted as event, of whichever class.
        kinds: str (clip, segment): the kind of each second, as `segment_kinds` gives it; "" is not counted.

    Returns:
        By kind: `EVENT` and `PLAIN` first where there are any, then the others in the order of their names.

    Raises:
        ValueError: Shapes differ, or `predicted` is not bool.
    """
    if predicted.shape != kinds.shape or predicted.dtype != bool:
        raise ValueError(
            f"predicted is {predicted.dtype} {predicted.shape} and kinds {kinds.shape}; expected bool of the same shape"
        )
    names = sorted(set(np.unique(kinds).tolist()) - {""}, key=lambda name: (name != EVENT, name != PLAIN, name))
    of_kinds = {name: predicted[kinds == name] for name in names}
    return {name: KindScores(of_kind.size, float(of_kind.mean())) for name, of_kind in of_kinds.items()}


def kinds_by_name(kinds: Mapping[str, KindScores]) -> dict[str, dict[str, Any]]:
    """The scores by kind, fit for JSON."""
    return {name: asdict(of) for name, of in kinds.items()}


def kind_rows(kinds: Mapping[str, KindScores]) -> list[list[str]]:
    """A row a kind, that of the headings first."""
    rows = [[name, str(of.seconds), percent(of.called_event)] for name, of in kinds.items()]
    return [["kind of second", "seconds", "called event"], *rows]


def kind_spread_rows(runs: Mapping[str, Sequence[Mapping[str, KindScores]]]) -> list[list[str]]:
    """A row a kind, with mean ± standard deviation of what each method calls event of it.

    Args:
        runs: By name of the method, the kinds of each of its runs, all on the same clips.

    Returns:
        The rows, that of the headings first; none where there are no kinds.

    Raises:
        ValueError: A method has no run.
    """
    rows = [["kind of second, called event", "seconds", *(f"{name} %" for name in runs)]]
    for kind, of in next(iter(runs.values()))[0].items():
        shares = [[run[kind].called_event for run in of_method] for of_method in runs.values()]
        rows.append([kind, str(of.seconds), *map(spread_text, shares)])
    return rows if len(rows) > 1 else []
