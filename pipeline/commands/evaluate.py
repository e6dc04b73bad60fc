"""The ccln-evaluate command: score a finished run again."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import run_single


def evaluate_command() -> None:
    """Entry point of ccln-evaluate."""
    about = "Score a trained checkpoint on cached features, class by class, baselines beside it."
    run_single("ccln-evaluate", about, _evaluate)


def _evaluate(
    checkpoint: Annotated[Path, Parameter(name="RUN")],
    /,
    *,
    split: Literal["test", "validation", "train"] = "test",
    task: Literal["supervised", "weak", "cml"] | None = None,
    data: Path | None = None,
    cache: Path = defaults.CACHE,
    device: str = "auto",
    json: Path | None = None,
) -> int:
    """Run ccln-evaluate.

    Parameters
    ----------
    checkpoint
        Run folder of ccln-train.
    split
        The part of the data set to score, in the splits of the task.
    task
        What to score it for. If not given, what it was trained for. cml refuses rows that the run was trained on: AVE
        has other splits for it, and most of its test rows are training rows of supervised and weak.
    data
        Data set with the checkpoint's classes, an AVE folder or a CSV file. If not given, the one that the run was
        trained on, or else the AVE folder here.
    cache
        Folder of the features that ccln-extract made.
    device
        auto, cpu, cuda, cuda:1, ...
    json
        File for the whole report: scores, baselines, every class, and the confusion matrix of localization.
    """
    from ccln.pipeline.commands.formats import evaluation_json, evaluation_table
    from ccln.pipeline.evaluate import evaluate

    report = evaluate(checkpoint, data=data, cache=cache, split=split, task=task, device=device)
    print(evaluation_table(report))
    if json is not None:
        json.write_text(evaluation_json(report) + "\n", encoding="utf-8")
        print(f"\nthe whole report is in {json}")
    return 0
