"""The page of several runs: their spread, what the parts of the network are worth, and the way to each run's page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ccln.pipeline.metrics.seeds import PLUS_MINUS, headlines, run_rows, spread_rows
from ccln.pipeline.report.run import PAGE_NAME
from ccln.pipeline.report.run.page import write_page

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

    Returns:
        The path of the page.
    """
    first = next(iter(runs.values()))[0]
    columns = [column for column in first.test.columns if column.over_seeds]
    tables = {}
    for split in ("test", "validation"):
        of_split = {name: [getattr(run, split) for run in of_method] for name, of_method in runs.items()}
        tables[split] = [spread_rows(of_split), *(run_rows(of_split, one, reference) for one in headlines(of_split))]
    return write_page(
        folder,
        "runs.html",
        title=title,
        first=first,
        columns=columns,
        seeds=max(map(len, runs.values())),
        reference=reference,
        tables=tables,
        plus_minus=PLUS_MINUS,
        plots={
            column: {
                name: [_FACTOR[column.unit] * getattr(run.test, column.name) for run in of_method]
                for name, of_method in runs.items()
            }
            for column in columns
        },
        runs=[(run, *_link(folder, run.folder)) for of_method in runs.values() for run in of_method],
    )


def _link(folder: Path, run: Path) -> tuple[str, str | None]:
    """Name of a run as its path from here, and the way to its page where it has one."""
    name = Path(os.path.relpath(run, folder)).as_posix()
    return name, quote(os.fsencode(f"{name}/{PAGE_NAME}")) if (run / PAGE_NAME).exists() else None
