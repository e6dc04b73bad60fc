"""Runs that differ only in their seed: mean and spread of their scores, and differences between methods by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ccln.pipeline.metrics import Scores
from ccln.pipeline.tables import NOTHING, aligned


@dataclass(frozen=True)
class Spread:
    """One number over several runs.

    Attributes:
        mean: Their mean; NaN where one of them is.
        standard_deviation: With n - 1 in its denominator; NaN for a single run.
        values: The single runs, in their order.
    """

    mean: float
    standard_deviation: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class PairedDifference:
    """How much higher one method is than another, seed by seed.

    Attributes:
        mean: Mean of the differences.
        standard_error: Of that mean: the differences' standard deviation (n - 1) over the root of n; NaN for n = 1.
    """

    mean: float
    standard_error: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of the values of at least one run.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("there is no run to take the mean of")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Spread(float(np.mean(values)), deviation, tuple(map(float, values)))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> PairedDifference:
    """Mean of a - b, value by value, with its standard error. Pairs share a seed, so what seeds do cancels out.

    Raises:
        ValueError: There are not equally many values, or none.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} runs against {len(b)}: differences are taken between runs of the same seeds")
    differences = spread([x - y for x, y in zip(a, b, strict=True)])
    return PairedDifference(differences.mean, differences.standard_deviation / math.sqrt(len(a)))


def seeds_table(runs: Mapping[str, Sequence[Scores]]) -> str:
    """A line a method: mean ± standard deviation over its runs, then the accuracies of the single runs.

    Args:
        runs: By name of the method, the scores of its runs.

    Raises:
        ValueError: A method has no run.
    """
    return aligned([_HEAD, *([name, *_cells(scores)] for name, scores in runs.items())])


def ablation_table(runs: Mapping[str, Sequence[Scores]], reference: str) -> str:
    """`seeds_table` with how much accuracy each method loses against the reference, paired by seed.

    Args:
        runs: By name of the method, the scores of its runs, every method's in the same order of the same seeds.
        reference: Name of the method that the others are compared with.

    Returns:
        The table. Differences are in percentage points of accuracy, reference minus method, ± their standard error.

    Raises:
        ValueError: Methods have not equally many runs, or none.
        KeyError: No method is called `reference`.
    """
    whole = _accuracies(runs[reference])
    rows = [[*_HEAD, f"{reference} minus this"]]
    for name, scores in runs.items():
        lost = paired_difference(whole, _accuracies(scores))
        difference = (
            NOTHING if name == reference else _plus_minus(lost.mean, lost.standard_error, 100, ".1f", signed="+")
        )
        rows.append([name, *_cells(scores), difference])
    return aligned(rows) + "\n± is the standard deviation over the seeds; after a difference, its standard error."


_HEAD = ["", "accuracy %", "bg recall %", "event F1 %", "boundary error s", "accuracy of the runs %"]


def _cells(scores: Sequence[Scores]) -> list[str]:
    accuracy = spread(_accuracies(scores))
    return [
        _spread_text(accuracy, 100, ".1f"),
        _spread_text(spread([run.background_recall for run in scores]), 100, ".1f"),
        _spread_text(spread([run.event_f1 for run in scores]), 100, ".1f"),
        _spread_text(spread([run.boundary_error_seconds for run in scores]), 1, ".2f"),
        " ".join(f"{100 * value:.1f}" for value in accuracy.values),
    ]


def _accuracies(scores: Sequence[Scores]) -> list[float]:
    return [run.segment_accuracy for run in scores]


def _spread_text(numbers: Spread, factor: float, precision: str) -> str:
    return _plus_minus(numbers.mean, numbers.standard_deviation, factor, precision)


def _plus_minus(mean: float, error: float, factor: float, precision: str, signed: str = "") -> str:
    if math.isnan(mean):
        return NOTHING
    text = f"{factor * mean:{signed}{precision}}"
    return text if math.isnan(error) else f"{text} ± {factor * error:{precision}}"
