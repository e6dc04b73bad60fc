"""Runs that differ only in their seed: mean and spread of their scores, and differences between methods by seed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ccln.pipeline.metrics.evaluation import NO_VALUE, Column, TaskScores, aligned


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard deviation with n - 1 in its denominator, of the values of at least one run.

    The mean is NaN where one of the values is, the standard deviation also for a single run.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("there is no run to take the mean of")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def spread_text(shares: Sequence[float]) -> str:
    """Mean ± standard deviation of shares of one, in per cent and without the sign; see `spread`."""
    return _spread_text(shares, Column("", ""))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Mean of a - b, value by value, with its standard error. Pairs share a seed, so what seeds do cancels out.

    The standard error is the differences' standard deviation (n - 1) over the root of n; NaN for n = 1.

    Raises:
        ValueError: There are not equally many values, or none.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} runs against {len(b)}: differences are taken between runs of the same seeds")
    mean, deviation = spread([x - y for x, y in zip(a, b, strict=True)])
    return mean, deviation / math.sqrt(len(a))


def seeds_table(runs: Mapping[str, Sequence[TaskScores]], reference: str | None = None) -> str:
    """`spread_rows` and, for each headline score, `run_rows` as text; arguments and errors as there."""
    tables = [spread_rows(runs), *(run_rows(runs, column, reference) for column in headlines(runs))]
    return "\n\n".join(map(aligned, tables))


def spread_rows(runs: Mapping[str, Sequence[TaskScores]]) -> list[list[str]]:
    """A row a method: mean ± standard deviation of its scores over its runs.

    Args:
        runs: By name of the method, the scores of its runs, all of one task.

    Returns:
        The rows, that of the headings first.

    Raises:
        ValueError: A method has no run.
    """
    columns = _columns(runs)
    rows = [["", *(f"{column.heading} {column.unit}" for column in columns)]]
    for name, scores in runs.items():
        rows.append([name, *(_spread_text(_values(scores, column), column) for column in columns)])
    return rows


def run_rows(runs: Mapping[str, Sequence[TaskScores]], column: Column, reference: str | None = None) -> list[list[str]]:
    """A row a method: a score of its single runs, and how much of it the method loses against the reference.

    Args:
        runs: By name of the method, the scores of its runs, every method's in the same order of the same seeds.
        column: The score.
        reference: Name of the method that the others are compared with; if None, they are not.

    Returns:
        The rows, that of the headings first. Differences, reference minus method, are paired by seed, ± their standard
        error.

    Raises:
        ValueError: Methods have not equally many runs, or none.
        KeyError: No method is called `reference`.
    """
    rows = [["", f"{column.heading} of the runs {column.unit}"]]
    if reference is not None:
        rows[0].append(f"{column.heading}: {reference} minus this")
    for name, scores in runs.items():
        row = [name, _single(_values(scores, column), column)]
        if reference is not None:
            lost = paired_difference(_values(runs[reference], column), _values(scores, column))
            row.append(NO_VALUE if name == reference else _plus_minus(*lost, column, sign="+"))
        rows.append(row)
    return rows


def headlines(runs: Mapping[str, Sequence[TaskScores]]) -> list[Column]:
    """The headline scores of the task that the runs are of.

    Raises:
        ValueError: There is no run.
    """
    return [column for column in _columns(runs) if column.headline]


def selected_on_test_table(runs: Mapping[str, Sequence[tuple[TaskScores, float]]]) -> str:
    """A line a method: what selecting the epoch on test gives, mean ± standard deviation, then the single runs.

    Args:
        runs: By name of the method, the scores of its runs, and what its best epoch on test is selected on.

    Raises:
        ValueError: A method has no run.
    """
    (scores, _), *_ = next(iter(runs.values()))
    column = Column("", scores.selected_on)
    rows = [[f"selected on test: {scores.selected_on}", "%", "of the runs %"]]
    for name, results in runs.items():
        values = [value for _, value in results]
        rows.append([name, _spread_text(values, column), _single(values, column)])
    return aligned(rows) + "\nThe epoch was selected on test, as some papers do: optimistic."


PLUS_MINUS = "± is the standard deviation over the seeds; after a difference, its standard error."


def _columns(runs: Mapping[str, Sequence[TaskScores]]) -> list[Column]:
    """What is shown of the task that the runs are of."""
    first = next((scores for of_method in runs.values() for scores in of_method), None)
    if first is None:
        raise ValueError("there is no run to show")
    return [column for column in first.columns if column.over_seeds]


def _values(scores: Sequence[TaskScores], column: Column) -> list[float]:
    return [getattr(run, column.name) for run in scores]


def _single(values: Sequence[float], column: Column) -> str:
    return " ".join(_plus_minus(value, math.nan, column) for value in values)


def _spread_text(values: Sequence[float], column: Column) -> str:
    return _plus_minus(*spread(values), column)


def _plus_minus(mean: float, error: float, column: Column, sign: str = "") -> str:
    if math.isnan(mean):
        return NO_VALUE
    text = column.text(mean, sign)
    return text if math.isnan(error) else f"{text} ± {column.text(error)}"
