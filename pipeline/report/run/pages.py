"""The pages of training: of one run, of several, and how both are made from templates."""

import json
import math
import os
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ccln.files import write_whole
from ccln.pipeline.cml.metrics import CmlDetails
from ccln.pipeline.cml.report import cml_context
from ccln.pipeline.data.clips import Split
from ccln.pipeline.metrics.evaluation import (
    NO_VALUE,
    ORACLE_CLASS,
    Evaluation,
    TaskScores,
    interval_text,
    percent,
    wilson_interval,
)
from ccln.pipeline.metrics.kinds import kind_spread_rows
from ccln.pipeline.metrics.localization import SegmentDetails
from ccln.pipeline.metrics.seeds import PLUS_MINUS, headlines, run_rows, spread_rows
from ccln.pipeline.report.run.charts import dot_plot, histogram, line_chart, save_curves
from ccln.pipeline.report.run.localization import localization_context
from ccln.pipeline.train.results import SeveralRuns, TrainingResult
from ccln.pipeline.visible import shown

PAGE_NAME = "report.html"


def write_run_page(result: TrainingResult) -> Path:
    """Write a run's page and its curves.png into its folder; the same run gives the same page to the byte.

    Returns:
        The path of the page.
    """
    facts, losses, shares = result.facts, _losses(result), _shares(result)
    save_curves(losses, shares, result.best_epoch, result.folder / "curves.png")
    data = Path(facts.data).name or facts.data
    details = result.on_test.details
    if isinstance(details, CmlDetails):
        template, context = "cml.html", cml_context(details, facts.segments)
    else:
        assert isinstance(details, SegmentDetails)
        template, context = "localization.html", localization_context(details)
    return _write_page(
        result.folder,
        template,
        title=f"Training on {data}: {facts.task}, seed {facts.seed}",
        data=data,
        result=result,
        facts=facts,
        headline=_headline,
        interval=interval_text,
        trivial=result.on_test.best_trivial(),
        oracle=ORACLE_CLASS,
        missing=_counts(result.missing),
        dropped=_counts(result.dropped),
        scores={"test": _score_rows(result.on_test), "validation": _score_rows(result.on_validation)},
        headline_charts=_headline_charts(result),
        losses=losses,
        shares=shares,
        epochs=_epoch_rows(result, losses, shares),
        specification=json.dumps(facts.specification, indent=2, ensure_ascii=False, sort_keys=True),
        **context,
    )


def _headline(scores: TaskScores) -> str:
    return " and ".join(f"{column.heading} {column.shown(scores)}" for column in scores.columns if column.headline)


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


def write_runs_page(runs: SeveralRuns) -> Path:
    """Write the page of several runs, all of one task, into the folder that they lie in; returns its path."""
    first = next(iter(runs.methods.values()))[0]
    data = Path(first.facts.data).name or first.facts.data
    columns = [column for column in first.test.columns if column.over_seeds]
    tables = {}
    splits: tuple[Split, ...] = ("test", "validation")
    for split in splits:
        of_split = {name: [getattr(run, split) for run in of_method] for name, of_method in runs.methods.items()}
        tables[split] = [
            spread_rows(of_split),
            *(run_rows(of_split, one, runs.reference) for one in headlines(of_split)),
        ]
        kinds = {name: [run.kinds.get(split, {}) for run in of_method] for name, of_method in runs.methods.items()}
        if rows := kind_spread_rows(kinds):
            tables[split].append(rows)
    return _write_page(
        runs.folder,
        "runs.html",
        title=f"Training on {data}: {first.facts.task}, several runs",
        first=first,
        columns=columns,
        seeds=max(map(len, runs.methods.values())),
        reference=runs.reference,
        tables=tables,
        plus_minus=PLUS_MINUS,
        plots={
            column: {
                name: [(100 if column.unit == "%" else 1) * getattr(run.test, column.name) for run in of_method]
                for name, of_method in runs.methods.items()
            }
            for column in columns
        },
        runs=[(run, *_link(runs.folder, run.folder)) for of_method in runs.methods.values() for run in of_method],
    )


def _link(folder: Path, run: Path) -> tuple[str, str | None]:
    """Name of a run as its path from here, and the way to its page where it has one."""
    name = Path(os.path.relpath(run, folder)).as_posix()
    return name, quote(os.fsencode(f"{name}/{PAGE_NAME}")) if (run / PAGE_NAME).exists() else None


def _write_page(folder: Path, template: str, **context: Any) -> Path:
    """Write `PAGE_NAME` into a folder, so that a reader sees the old one or the whole new one.

    Args:
        folder: of a run or of several.
        template: name of the template.
        context: what the template shows.

    Returns:
        The path of the page.
    """
    environment = Environment(
        loader=PackageLoader("ccln.pipeline.report.run"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        finalize=shown,
    )
    environment.globals |= {"dot_plot": dot_plot, "histogram": histogram, "line_chart": line_chart}
    environment.filters |= {"percent": percent, "digest": _digest, "nobreak": _unbroken}
    style, script = (_source(environment, name) for name in ("report.css", "report.js"))
    page = environment.get_template(template).render(context, style=style, script=script)
    path = folder / PAGE_NAME
    write_whole(path, page.encode())
    return path


def _source(environment: Environment, name: str) -> Markup:
    """A file of the package that goes into the page as it is."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _digest(text: str) -> Markup:
    """The text's hash as a content security policy (https://www.w3.org/TR/CSP3/) names it."""
    return Markup(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")


def _unbroken(text: Markup) -> Markup:
    """The text, no line of it beginning with a per cent sign."""
    return text.replace(" %", "\u00a0%")
