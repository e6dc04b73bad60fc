"""The page of several runs: their spread, what the parts of the network are worth, and the way to each run's page."""

import os
from pathlib import Path
from urllib.parse import quote

from ccln.pipeline.metrics.seeds import PLUS_MINUS, headlines, run_rows, spread_rows
from ccln.pipeline.report.run import PAGE_NAME
from ccln.pipeline.report.run.page import write_page
from ccln.pipeline.train.results import SeveralRuns

_FACTOR = {"%": 100, "s": 1}


def write_runs_page(runs: SeveralRuns) -> Path:
    """Write the page of several runs, all of one task, into the folder that they lie in; returns its path."""
    first = next(iter(runs.methods.values()))[0]
    data = Path(first.facts.data).name or first.facts.data
    columns = [column for column in first.test.columns if column.over_seeds]
    tables = {}
    for split in ("test", "validation"):
        of_split = {name: [getattr(run, split) for run in of_method] for name, of_method in runs.methods.items()}
        tables[split] = [
            spread_rows(of_split),
            *(run_rows(of_split, one, runs.reference) for one in headlines(of_split)),
        ]
    return write_page(
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
                name: [_FACTOR[column.unit] * getattr(run.test, column.name) for run in of_method]
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
