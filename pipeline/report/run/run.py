"""The page of one run: what was trained on what, how well it does, and where it fails."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccln.pipeline.cml.metrics import CmlDetails
from ccln.pipeline.cml.report import cml_context
from ccln.pipeline.metrics.evaluation import NO_VALUE, Evaluation, TaskScores, interval_text, wilson_interval
from ccln.pipeline.metrics.localization import SegmentDetails
from ccln.pipeline.metrics.segments import ORACLE_CLASS
from ccln.pipeline.report.run.charts import save_curves
from ccln.pipeline.report.run.localization import localization_context
from ccln.pipeline.report.run.page import write_page
from ccln.pipeline.train.results import TrainingResult


def write_run_page(result: TrainingResult) -> Path:
    """Write a run's page and its curves.png into its folder; the same run gives the same page to the byte.

    Returns:
        The path of the page.
    """
    facts, losses, shares = result.facts, _losses(result), _shares(result)
    save_curves(losses, shares, result.best_epoch, result.folder / "curves.png")
    data = Path(facts.data).name or facts.data
    trivial = {name: of for name, of in result.baselines.items() if name != ORACLE_CLASS}
    details = result.on_test.details
    if isinstance(details, CmlDetails):
        template, context = "cml.html", cml_context(details, facts.segments)
    else:
        assert isinstance(details, SegmentDetails)
        template, context = "localization.html", localization_context(details)
    return write_page(
        result.folder,
        template,
        title=f"Training on {data}: {facts.task}, seed {facts.seed}",
        data=data,
        result=result,
        facts=facts,
        headline=_headline,
        interval=interval_text,
        trivial=max(trivial, key=lambda name: _selection(trivial[name]), default=None),
        oracle=ORACLE_CLASS,
        missing=_counts(result.missing),
        dropped=_counts(result.dropped),
        scores={split: _score_rows(of) for split, of in _evaluations(result).items()},
        headline_charts=_headline_charts(result),
        losses=losses,
        shares=shares,
        epochs=_epoch_rows(result, losses, shares),
        specification=json.dumps(facts.specification, indent=2, ensure_ascii=False, sort_keys=True),
        **context,
    )


def _evaluations(result: TrainingResult) -> dict[str, Evaluation]:
    return {"test": result.on_test, "validation": result.on_validation}


def _headline(scores: TaskScores) -> str:
    return " and ".join(f"{column.heading} {column.shown(scores)}" for column in scores.columns if column.headline)


def _selection(scores: TaskScores) -> float:
    return -1.0 if math.isnan(scores.selection) else scores.selection


def _counts(by_split: Mapping[Any, int]) -> str:
    return ", ".join(f"{split} {count}" for split, count in by_split.items() if count)


def _named_scores(evaluation: Evaluation) -> dict[str, TaskScores]:
    """The network's scores, what they are without something, and the baselines, as they are called on the page."""
    return {
        "this network": evaluation.scores,
        **{f"this network, {what}": of for what, of in evaluation.ablated.items()},
        **{
            name if name == ORACLE_CLASS else f"trivial baseline: {name}": of
            for name, of in evaluation.baselines.items()
        },
    }


def _score_rows(evaluation: Evaluation) -> list[list[str]]:
    columns = evaluation.scores.columns
    head = ["", *(column.heading for column in columns), "clips"]
    named = _named_scores(evaluation)
    return [head, *([name, *(column.shown(of) for column in columns), str(of.clips)] for name, of in named.items())]


def _headline_charts(result: TrainingResult) -> dict[str, dict[str, Any]]:
    """Arguments of a dot plot for each headline score, by its heading."""
    named, charts = _named_scores(result.on_test), {}
    for column in (column for column in result.test.columns if column.headline):
        share = getattr(result.test, column.name)
        low, high = wilson_interval(share, result.test.clips)
        charts[column.heading] = {
            "groups": {name: [100 * getattr(of, column.name)] for name, of in named.items()},
            "intervals": {} if math.isnan(low) else {"this network": (100 * low, 100 * high)},
        }
    return charts


def _losses(result: TrainingResult) -> dict[str, list[float]]:
    """By name, a value an epoch; the total first, which the others are parts of."""
    names = sorted(result.history[-1].losses if result.history else (), key=lambda name: name != "total")
    return {name: [epoch.losses.get(name, math.nan) for epoch in result.history] for name in names}


def _shares(result: TrainingResult) -> dict[str, list[float]]:
    """Validation scores in per cent by heading, a value an epoch."""
    columns = [column for column in result.test.columns if column.over_seeds and column.unit == "%"]
    found = {column.heading: [epoch.validation.get(column.name) for epoch in result.history] for column in columns}
    return {name: [math.nan if value is None else 100 * value for value in values] for name, values in found.items()}


def _epoch_rows(
    result: TrainingResult, losses: Mapping[str, list[float]], shares: Mapping[str, list[float]]
) -> list[list[str]]:
    rows = [["epoch", *losses, *(f"{name} %" for name in shares), "learning rate"]]
    for index, epoch in enumerate(result.history):
        rows.append([
            f"{index + 1} (chosen)" if index + 1 == result.best_epoch else str(index + 1),
            *(f"{values[index]:.4g}" for values in losses.values()),
            *(NO_VALUE if math.isnan(values[index]) else f"{values[index]:.1f}" for values in shares.values()),
            f"{epoch.learning_rate:.3g}",
        ])  # fmt: skip
    return rows
