"""The ccln-train command: one run, or several with their spread."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

from cyclopts import Parameter, validators

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import OnePath, ProgressBar, run_function

if TYPE_CHECKING:
    from ccln.pipeline.data.features import DatasetFeatures
    from ccln.pipeline.texts import TextSide
    from ccln.pipeline.train.results import SeveralRuns, TrainingResult
    from ccln.pipeline.train.tasks import DatasetTask

TaskName = Literal["supervised", "weak", "cml"]


def task_types() -> "dict[TaskName, type[DatasetTask]]":
    """What can be trained and evaluated for."""
    from ccln.pipeline.cml.task import CrossModalityLocalization
    from ccln.pipeline.train.tasks import SupervisedLocalization, WeakLocalization

    return {"supervised": SupervisedLocalization, "weak": WeakLocalization, "cml": CrossModalityLocalization}


@overload
def train(*args: Any, seeds: None = None, ablate: Literal[False] = False, **options: Any) -> "TrainingResult": ...
@overload
def train(*args: Any, seeds: int, **options: Any) -> "SeveralRuns": ...
@overload
def train(*args: Any, ablate: Literal[True], **options: Any) -> "SeveralRuns": ...
def train(
    data: OnePath | None = None,
    *,
    media_root: OnePath | None = None,
    cache: OnePath = defaults.CACHE,
    out: OnePath | None = None,
    init: OnePath | None = None,
    open_head: Annotated[bool, Parameter(name="--open")] = False,
    unseen: str | None = None,
    config: OnePath | None = None,
    task: TaskName = "supervised",
    seed: Annotated[int | None, Parameter(show_default="0", validator=validators.Number(gte=0))] = None,
    seeds: int | None = None,
    ablate: bool = False,
    epochs: Annotated[int | None, Parameter(show_default="30", validator=validators.Number(gte=1))] = None,
    without: Annotated[tuple[Literal["sbi", "fee", "wccl"], ...], Parameter(show_default=False)] = (),
    drop_leaks: bool = False,
    watch_test: bool = False,
    specification: str | None = None,
    device: str = "auto",
    visual_weights: OnePath | None = None,
    audio_weights: OnePath | None = None,
    progress: Annotated[Callable[[int, int, str], None] | None, Parameter(parse=False)] = None,
) -> "TrainingResult | SeveralRuns":
    """Train CCLN on the cached features of a data set, for any of its three tasks.

    The run folder gets the checkpoint (model.safetensors, config.json), metrics.json, the resolved config.toml,
    curves.png, the page report.html, and TensorBoard's event file. A run that was stopped goes on after its last whole
    epoch when it is started again with the same settings, and ends with the same weights as one that was not.

    Args:
        data: AVE folder (Annotations.txt, trainSet.txt, valSet.txt, testSet.txt, and the videos in AVE/), or a CSV file
            with the columns path,start,end,label and perhaps split. If not given, the AVE folder here.
        media_root: Folder that holds the videos of a CSV data set, if they are not beside it.
        cache: Folder or URL of the features that ccln-extract made.
        out: Folder for this run; a run that was stopped there goes on. If not given, a new one in runs/.
        init: Run folder of a network to start from, or "packaged" for the one that comes with ccln: its weights, new
            heads for classes that it does not know, and its standardization and shape. The features must be those of
            its extractors.
        open_head: Give the classes by the vectors of their names in place of learnt weights, on features of extractors
            that know texts, such as those of the preset clip-clap: ccln-localize --classes NAMES then asks the network
            for any classes. Those without a training clip are left out.
        unseen: Classes whose rows are left out, so that ccln-evaluate can tell what is worth on classes that were not
            trained: names separated by commas, a file with one a line, or ave for our own eight of AVE's 28.
        config: TOML file with any of the tables [model], [training], [loss]; every run writes its own whole one as
            config.toml.
        task: supervised learns from the label of every segment; weak from the class of the clip alone, and from
            background-only clips where there are any. cml is cross-modality localization: an event's audio is to be
            found in the frames (A2V), its frames in the audio (V2A); on the splits of AVE's *_order_match.h5 where the
            data set has them, else on its own, of validation and test only the clips with an event shorter than the
            clip.
        seed: Of weights, order, dropout and noise; overrides the config's.
        seeds: Train with the seeds 0, 1, ... up to this many, each in its own folder, and show mean and spread.
        ablate: Train the full network, the network less each of its parts, and less all of them, with the same seeds (5
            if --seeds is not given), and show what each part is worth. The network of cml has one part, wccl.
        epochs: Passes over the training split; overrides the config's.
        without: Leave a part out: sbi, fee or wccl, with cml only wccl. May be repeated.
        drop_leaks: Leave out training clips whose video validation or test has too, and validation clips whose video
            test has.
        watch_test: Report beside the result what selecting on the test split would give, as some papers do.
        specification: First digits of the extractor specification to train on, where the cache holds several.
        device: auto, cpu, cuda, cuda:1, ...
        visual_weights: With an open head, local folder of the visual model, for the names of classes.
        audio_weights: With an open head, local folder of the audio model, for the names of classes.
        progress: Called before the first epoch and after each, with epochs done, epochs in all, and a line on the last.

    Returns:
        The result of the run, or with ``seeds`` or ``ablate`` those of all runs.

    Raises:
        TrainingError: ``out`` holds a finished run, or an unfinished one with other settings, the task's network has no
            such part to leave out or no classes, or training diverged.
        NothingFoundError: ``data`` is not given and it is not clear which data set is meant.
        CheckpointError: ``init`` holds no usable checkpoint.
        DatasetError, CacheError, ConfigError: the inputs are not what they must be.
        NamesError: ``unseen`` names a class that the data set has not.
        ExtractorError, WeightsError: there is no such device; or the head is to be open, and the extractors have no
            text side, or it cannot be had.
        StorageError: the cache is at a URL that cannot be reached.
    """
    from ccln.pipeline.data import read_dataset

    dataset = read_dataset(defaults.find_data() if data is None else data, media_root)  # before seconds of imports

    from ccln.cache import open_cache
    from ccln.extractors import pick_device
    from ccln.model import load_checkpoint
    from ccln.pipeline.report.run.pages import write_run_page, write_runs_page
    from ccln.pipeline.texts import text_side, unseen_names, untrained_names, without_classes
    from ccln.pipeline.train.config import read_config
    from ccln.pipeline.train.loop import by_main, process_accelerator
    from ccln.pipeline.train.results import SeveralRuns, is_finished
    from ccln.pipeline.train.run import FULL, prepare, require_parts
    from ccln.pipeline.train.state import TrainingError

    if seed is not None and (seeds is not None or ablate):
        raise TrainingError("--seed names one seed, --seeds and --ablate take the first several. Give one of them.")
    if without and ablate:
        raise TrainingError("--ablate leaves out every part in turn. Give it without --without.")
    task_type, several = task_types()[task], ablate or seeds is not None
    require_parts(task_type, without)
    folder = by_main(defaults.new_run) if out is None else Path(out)
    if os.fsencode(folder).decode("utf-8", "replace") != str(folder):  # TensorBoard opens no other
        raise TrainingError(f"{folder}: the path of a run must be text in UTF-8. Choose another: --out")
    if not several and by_main(partial(is_finished, folder)):
        raise TrainingError(f"{folder}: holds a finished run already. Choose another --out, or remove that folder.")
    if open_head and task == "cml":
        raise TrainingError("--open: the network of --task cml knows no classes. Leave the option out.")
    if unseen is not None:
        dataset = without_classes(dataset, unseen_names(unseen, dataset))
    if open_head:
        dataset = without_classes(dataset, untrained_names(dataset))

    def texts_of(features: "DatasetFeatures") -> "TextSide":
        where = {"device": pick_device(device), "visual_weights": visual_weights, "audio_weights": audio_weights}
        return text_side(features.specification, features.class_names, **where)

    experiment = prepare(
        dataset,
        task_type,
        open_cache(cache),
        read_config(config).with_training(seed=seed, epochs=epochs),
        specification=specification,
        drop_leaks=drop_leaks,
        watch_test=watch_test,
        device=device,
        init=None if init is None else load_checkpoint(defaults.run_named(init)),
        texts_of=texts_of if open_head else None,
        report=write_run_page,
    )
    if not several:
        return experiment.run(folder, without=without, progress=progress)
    count = 5 if seeds is None else seeds
    if ablate:
        runs = SeveralRuns(folder, experiment.ablate(folder, count, progress=progress), FULL)
    else:
        runs = SeveralRuns(folder, {"CCLN": experiment.run_seeds(folder, count, without=without, progress=progress)})
    if process_accelerator().is_main_process:  # of several that train together one writes
        write_runs_page(runs)
    return runs


def train_command() -> None:
    """Entry point of ccln-train."""
    stopped = "Finished epochs are kept: the same command with --out FOLDER, naming the run's, goes on from there."
    run_function("ccln-train", train, _run, stopped=stopped)


def _run(call: "partial[TrainingResult | SeveralRuns]") -> int:
    with ProgressBar("train", "epoch") as bar:
        result = call(progress=bar)

    from ccln.pipeline.commands.formats import runs_table, score_table
    from ccln.pipeline.report.run.pages import PAGE_NAME
    from ccln.pipeline.train.results import TrainingResult

    page = f"page: {result.folder / PAGE_NAME}"
    if isinstance(result, TrainingResult):
        print(score_table(result))
        print(
            f"selected epoch {result.best_epoch} on validation; checkpoint, metrics.json and curves.png in "
            f"{result.folder}\n{page}"
        )
    else:
        print(runs_table(result.methods, result.reference))
        print(f"each epoch selected on validation, tested once; runs in {result.folder}\n{page}")
    return 0
