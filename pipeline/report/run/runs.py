"""The page of several runs: their spread, what the parts of the network are worth, and the way to each run's page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ccln.pipeline.metrics.evaluation import Column
from ccln.pipeline.metrics.seeds import PLUS_MINUS, ablation_rows, seeds_rows
from ccln.pipeline.report.run.charts import dot_plot
from ccln.pipeline.report.run.document import PAGE_NAME, section, write_document
from ccln.pipeline.report.run.markup import Markup, element, table

if TYPE_CHECKING:
    from ccln.pipeline.train.results import TrainingResult

_FACTOR = {"%": 100, "s": 1}


def write_runs_page(
    folder: Path, title: str, runs: Mapping[str, Sequence["TrainingResult"]], reference: str | None = None
) -> Path:
    """Write the page of several runs into the folder that they lie in.

    Args:
        folder: of all runs.
        title: any text.
        runs: of each method, by its name, the runs in the order of their seeds; all of one task.
        reference: the method that the others are compared with, seed by seed; if None, they are not.
    """
    first = next(iter(runs.values()))[0]
    columns = [column for column in first.test.columns if column.over_seeds]
    splits = {
        split: {name: [getattr(run, split) for run in of_method] for name, of_method in runs.items()}
        for split in ("test", "validation")
    }
    tables = [
        table(seeds_rows(of_split) if reference is None else ablation_rows(of_split, reference), split.capitalize())
        for split, of_split in splits.items()
    ]
    compared = (
        f" Each method is the network less what its name says; “{reference} minus this” is what the lack costs, taken "
        "seed by seed: it is worth notice where it is well beyond twice its standard error."
        if reference is not None
        else ""
    )
    seeds = max(map(len, runs.values()))
    lead = (
        f"The same training was done with {seeds} seed{'s' * (seeds != 1)}, which decide first weights, order and "
        f"noise; each run was selected on validation and scored once on the {first.test.clips} test clips. What "
        f"differs between the seeds is luck.{compared}"
    )
    plots = [_card(column, splits["test"]) for column in columns]
    return write_document(
        folder,
        title,
        element("section", element("p", lead, class_="lead")),
        section("On test, run by run", element("div", *plots, class_="cards"),
                note="Each dot is a run, the upright bar their mean, written beside it."),
        section("In numbers", *tables, element("p", PLUS_MINUS, class_="small")),
        _single_runs(folder, runs, columns),
        *([_baselines(first, columns)] if first.baselines else []),
    )  # fmt: skip


def _card(column: Column, scores: Mapping[str, Sequence[object]]) -> Markup:
    factor = _FACTOR[column.unit]
    values = {name: [factor * getattr(of, column.name) for of in runs] for name, runs in scores.items()}
    better = "lower is better" if column.unit == "s" else "higher is better"
    heading = f"{column.heading}, {column.unit} ({better})"
    return element("div", element("h3", heading), dot_plot(values, label=heading, unit=column.unit), class_="card")


def _single_runs(folder: Path, runs: Mapping[str, Sequence["TrainingResult"]], columns: Sequence[Column]) -> Markup:
    head = ["run", *(f"{column.heading} test" for column in columns), "validation", "epoch chosen"]
    rows = [
        [
            _link(folder, run.folder),
            *(column.shown(run.test) for column in columns),
            f"{100 * run.validation.selection:.1f} %",
            str(run.best_epoch),
        ]
        for of_method in runs.values()
        for run in of_method
    ]
    note = "Each run has a page of its own, with its curves, confusions, and best and worst clips."
    return section("The single runs", table([head, *rows], class_="sortable"), note=note)


def _link(folder: Path, run: Path) -> str:
    """The way to a run's page by a path from here, where it has one."""
    name = Path(os.path.relpath(run, folder)).as_posix()
    if not (run / PAGE_NAME).exists():
        return name
    return element("a", name, href=quote(os.fsencode(f"{name}/{PAGE_NAME}")))


def _baselines(first: "TrainingResult", columns: Sequence[Column]) -> Markup:
    rows = [[name, *(column.shown(scores) for column in columns)] for name, scores in first.baselines.items()]
    note = "What answers score on the same test clips that look at no clip; one that is told the class uses the truth."
    return section("To be read against", table([["", *(column.heading for column in columns)], *rows]), note=note)
