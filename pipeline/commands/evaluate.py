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
    run: Path | str | None = None,
    /,
    *,
    zero_shot: bool = False,
    classes: str | None = None,
    unseen: str | None = None,
    split: Literal["test", "validation", "train"] = "test",
    task: TaskName | None = None,
    data: OnePath | None = None,
    media_root: OnePath | None = None,
    cache: OnePath = defaults.CACHE,
    specification: str | None = None,
    out: OnePath | None = None,
    device: str = "auto",
    visual_weights: OnePath | None = None,
    audio_weights: OnePath | None = None,
) -> "EvaluationReport":
    """Evaluate a trained checkpoint on cached features, class by class, baselines beside it.

    Where the run was trained without the rows that leak into later splits, they are left out here, too. Where classes
    are unseen, OV-AVEL's scores of the seen and of the unseen ones are given, too.

    Args:
        run: Run folder of ccln-train, or "packaged" for the network that comes with ccln.
        zero_shot: In place of a run, evaluate zero-shot localization on the features of extractors that know texts:
            temperatures and threshold are chosen on the validation split, and the checkpoint is kept in `out`.
        classes: Names to choose among with zero_shot, separated by commas, or a file with one a line. If not given,
            those of the data set.
        unseen: Classes to be scored apart, as these names or this file; ave is our own eight of AVE's 28. If not given,
            those of the data set that a run with an open head was not trained on.
        split: The part of the data set to evaluate on, in the splits of the task.
        task: What to evaluate it for. If not given, what it was trained for. cml refuses rows that the run was trained
            on: AVE has other splits for it, and most of its test rows are training rows of supervised and weak.
        data: Data set with the checkpoint's classes or some of them, an AVE folder or a CSV file; it needs clips in the
            split to evaluate on alone. Where the run has an open head it may have any classes. If not given, the one
            that the run was trained on, or else the AVE folder here.
        media_root: Folder that holds the videos of a CSV data set, if they are not beside it.
        cache: Folder or URL of the features that ccln-extract made.
        specification: First digits of the extractor specification for zero_shot, where the cache holds several.
        out: Folder for the checkpoint of zero_shot. If not given, a new one in runs/.
        device: auto, cpu, cuda, cuda:1, ...
        visual_weights: Local folder of the visual model, for the names of classes.
        audio_weights: Local folder of the audio model, for the names of classes.

    Raises:
        CheckpointError: ``run`` holds no usable checkpoint.
        EvaluationError: the data set has classes that the checkpoint has not, or its network is for another task; or
            there is no run, or one and zero_shot, too.
        SeenRowsError: for cml, rows were trained on, or it is not known whether they were.
        NothingFoundError: ``data`` is not given and it is not clear which data set is meant.
        NamesError: names cannot be used.
        DatasetError, CacheError: the data set is malformed, or the cache lacks its features.
        ExtractorError, WeightsError: there is no such device; or names are asked for, and the extractors have no text
            side, or it cannot be had.
        StorageError: the cache is at a URL that cannot be reached.
    """
    from ccln.cache import open_cache
    from ccln.extractors import pick_device
    from ccln.model import load_checkpoint
    from ccln.pipeline.data import read_dataset
    from ccln.pipeline.evaluate import EvaluationError, evaluate_checkpoint
    from ccln.pipeline.texts import read_names, unseen_names
    from ccln.pipeline.zero_shot import asked_for_all, choose_zero_shot

    if (run is None) != zero_shot:
        raise EvaluationError("name the folder of a run, or give --zero-shot and none")
    if not zero_shot and not (classes is out is specification is None):
        raise EvaluationError("--classes, --out and --specification are of --zero-shot: a run knows its own")
    tasks, store = task_types(), open_cache(cache)
    where = {"device": pick_device(device), "visual_weights": visual_weights, "audio_weights": audio_weights}
    if run is None:
        run = defaults.new_run() if out is None else Path(out)
        dataset = read_dataset(defaults.find_data() if data is None else data, media_root)
        names = None if classes is None else read_names(classes)
        checkpoint = choose_zero_shot(run, dataset, store, names, specification=specification, **where)
        apart = ()
    else:
        run = defaults.run_named(run)
        checkpoint = load_checkpoint(run)
        if data is None:
            named = checkpoint.training.get("data")
            data = named if isinstance(named, str) and Path(named).exists() else defaults.find_data()
        dataset = read_dataset(data, media_root)
        checkpoint, apart = asked_for_all(checkpoint, dataset.class_names, **where)
    if task is None:  # the first that has such a network; those that share one are evaluated alike
        task = next(name for name, of in tasks.items() if isinstance(checkpoint.model, of.evaluated_type))
    apart = apart if unseen is None else unseen_names(unseen, dataset)
    return evaluate_checkpoint(run, checkpoint, dataset, tasks[task], store, split=split, unseen=apart, device=device)


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
