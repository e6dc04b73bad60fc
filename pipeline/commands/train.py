"""The ccln-train command: one run, or several with their spread."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import ProgressBar, run_single


def train_command() -> None:
    """Entry point of ccln-train."""
    about = "Train CCLN on the cached features of a data set, for any of its three tasks."
    kept = "Finished epochs are kept: the same command with --out FOLDER, naming the run's, goes on from there."
    run_single("ccln-train", about, _train, kept)


def _train(
    *,
    data: Path | None = None,
    cache: Path = defaults.CACHE,
    out: Path | None = None,
    config: Path | None = None,
    task: Literal["supervised", "weak", "cml"] = "supervised",
    seed: Annotated[int | None, Parameter(show_default="0")] = None,
    seeds: int | None = None,
    ablate: Annotated[bool, Parameter(negative=())] = False,
    epochs: Annotated[int | None, Parameter(show_default="30")] = None,
    without: Annotated[tuple[Literal["sbi", "fee", "wccl"], ...], Parameter(negative=(), show_default=False)] = (),
    drop_leaks: Annotated[bool, Parameter(negative=())] = False,
    watch_test: Annotated[bool, Parameter(negative=())] = False,
    specification: str | None = None,
) -> int:
    """Run ccln-train.

    Parameters
    ----------
    data
        AVE folder (Annotations.txt, trainSet.txt, valSet.txt, testSet.txt, and the videos in AVE/), or a CSV file with
        the columns path,start,end,label and perhaps split. If not given, the AVE folder here.
    cache
        Folder of the features that ccln-extract made.
    out
        Folder for this run; a run that was stopped there goes on. If not given, a new one in runs/.
    config
        TOML file with any of the tables [model], [training], [loss]; every run writes its own whole one as config.toml.
    task
        supervised learns from the label of every segment; weak from the class of the clip alone, and from
        background-only clips where there are any. cml is cross-modality localization: an event's sound is to be found
        in the picture (A2V), its picture in the sound (V2A); on the splits of AVE's *_order_match.h5 where the data set
        has them, else on its own, of validation and test only the clips with an event shorter than the clip.
    seed
        Of weights, order, dropout and noise; overrides the config's.
    seeds
        Train with the seeds 0, 1, ... up to this many, each in its own folder, and show mean and spread.
    ablate
        Train the full network, the network less each of its parts, and less all of them, with the same seeds (5 if
        --seeds is not given), and show what each part is worth. The network of cml has one part, wccl.
    epochs
        Passes over the training split; overrides the config's.
    without
        Leave a part out: sbi, fee or wccl, with cml only wccl. May be repeated.
    drop_leaks
        Leave out training clips whose video validation or test has too, and validation clips whose video test has.
    watch_test
        Report beside the result what selecting on the test split would give, as some papers do.
    specification
        First digits of the extractor specification to train on, where the cache holds several.
    """
    from ccln.pipeline.commands.formats import runs_table, score_table
    from ccln.pipeline.report.run import PAGE_NAME
    from ccln.pipeline.train.run import prepare, train
    from ccln.pipeline.train.run_folder import TrainingError

    if seed is not None and (seeds is not None or ablate):
        raise TrainingError("--seed names one seed, --seeds and --ablate take the first several. Give one of them.")
    if without and ablate:
        raise TrainingError("--ablate leaves out every part in turn. Give it without --without.")
    told = {
        "task": task,
        "cache": cache,
        "config": config,
        "epochs": epochs,
        "specification": specification,
        "drop_leaks": drop_leaks,
        "watch_test": watch_test,
    }
    with ProgressBar("train", "epoch") as bar:
        if seeds is None and not ablate:
            result = train(data, out=out, seed=seed, without=without, progress=bar, **told)
            print(score_table(result))
            print(
                f"selected epoch {result.best_epoch} on validation; checkpoint, metrics.json and curves.png in "
                f"{result.folder}\npage: {result.folder / PAGE_NAME}"
            )
            return 0
        from ccln.pipeline.train import repetition
        from ccln.pipeline.train.sharing import new_run

        experiment, out = prepare(data, **told), out or new_run()
        if ablate:
            runs = repetition.ablate(experiment, out, seeds=5 if seeds is None else seeds, progress=bar)
        else:
            runs = {"CCLN": repetition.train_seeds(experiment, out, seeds=seeds or 0, without=without, progress=bar)}
    print(runs_table(runs, repetition.FULL if ablate else None))
    print(f"each epoch selected on validation, tested once; runs in {out}\npage: {out / PAGE_NAME}")
    return 0
