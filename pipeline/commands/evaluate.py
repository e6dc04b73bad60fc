"""The ccln-evaluate command: evaluate a finished run again."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ccln.files import write_whole
from ccln.pipeline import defaults
from ccln.pipeline.commands.console import OnePath, run_function
from ccln.pipeline.commands.train import TaskName, task_types

if TYPE_CHECKING:
    from ccln.pipeline.evaluate import EvaluationReport


def evaluate(
    run: Path | str,
    /,
    *,
    split: Literal["test", "validation", "train"] = "test",
    task: TaskName | None = None,
    data: OnePath | None = None,
    media_root: OnePath | None = None,
    cache: OnePath = defaults.CACHE,
    device: str = "auto",
) -> "EvaluationReport":
    """Evaluate a trained checkpoint on cached features, class by class, baselines beside it.

    Where the run was trained without the rows that leak into later splits, they are left out here, too.

    Args:
        run: Run folder of ccln-train, or "packaged" for the network that comes with ccln.
        split: The part of the data set to evaluate on, in the splits of the task.
        task: What to evaluate it for. If not given, what it was trained for. cml refuses rows that the run was trained
            on: AVE has other splits for it, and most of its test rows are training rows of supervised and weak.
        data: Data set with the checkpoint's classes or some of them, an AVE folder or a CSV file; it needs clips in the
            split to evaluate on alone. If not given, the one that the run
            was trained on, or else the AVE folder here.
        media_root: Folder that holds the videos of a CSV data set, if they are not beside it.
        cache: Folder or URL of the features that ccln-extract made.
        device: auto, cpu, cuda, cuda:1, ...

    Raises:
        CheckpointError: ``run`` holds no usable checkpoint.
        EvaluationError: the data set has classes that the checkpoint has not, or its network is for another task.
        SeenRowsError: for cml, rows were trained on, or it is not known whether they were.
        NothingFoundError: ``data`` is not given and it is not clear which data set is meant.
        DatasetError, CacheError: the data set is malformed, or the cache lacks its features.
        ExtractorError: there is no such device.
        StorageError: the cache is at a URL that cannot be reached.
    """
    from ccln.cache import open_cache
    from ccln.model import load_checkpoint
    from ccln.pipeline.data import read_dataset
    from ccln.pipeline.evaluate import evaluate_checkpoint

    run, tasks = defaults.run_named(run), task_types()
    checkpoint = load_checkpoint(run)
    if task is None:  # the first that has such a network; those that share one are evaluated alike
        task = next(name for name, of in tasks.items() if isinstance(checkpoint.model, of.network_type))
    if data is None:
        named = checkpoint.training.get("data")
        data = named if isinstance(named, str) and Path(named).exists() else defaults.find_data()
    return evaluate_checkpoint(
        run, checkpoint, read_dataset(data, media_root), tasks[task], open_cache(cache), split=split, device=device
    )


def evaluate_command() -> None:
    """Entry point of ccln-evaluate."""
    run_function("ccln-evaluate", evaluate, _run)


def _run(
    call: "partial[EvaluationReport]",
    *,
    json: Annotated[
        Path | None,
        Parameter(help="File for the whole report: scores, baselines, every class, and localization's confusions."),
    ] = None,
) -> int:
    from ccln.pipeline.commands.formats import evaluation_json, evaluation_table

    report = call()
    print(evaluation_table(report))
    if json is not None:
        write_whole(json, f"{evaluation_json(report)}\n".encode())
        print(f"\nthe whole report is in {json}")
    return 0
