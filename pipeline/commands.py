"""The commands: parse, call one public function, print; heavy libraries are imported once the arguments are right."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ccln.pipeline import defaults
from ccln.pipeline.console import ProgressBar, new_app, report, run

_Videos = Annotated[list[Path], Parameter(negative=())]


def extract_command() -> None:
    """Entry point of ccln-extract."""
    kept = "Finished clips are kept: the same command goes on from there."
    _run("ccln-extract", "Turn videos into cached features; what is cached already is not done again.", _extract, kept)


def train_command() -> None:
    """Entry point of ccln-train."""
    kept = "Finished epochs are kept: the same command with --out FOLDER, naming the run's, goes on from there."
    _run("ccln-train", "Train CCLN on the cached features of a data set, for any of its three tasks.", _train, kept)


def localize_command() -> None:
    """Entry point of ccln-localize."""
    _run("ccln-localize", "Find when events are both seen and heard, in the first ten seconds of videos.", _localize)


def demo_command() -> None:
    """Entry point of ccln-demo."""
    _run("ccln-demo", "Make a small data set of raw videos, and run extract, train and localize on it.", _demo)


def _extract(
    videos: _Videos,
    /,
    *,
    cache: Path = defaults.CACHE,
    preset: str = "light",
    visual: str | None = None,
    audio: str | None = None,
    visual_weights: Path | None = None,
    audio_weights: Path | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    decoder: Literal["pyav", "decord"] = "pyav",
    on_missing: Literal["error", "zeros", "skip"] = "error",
    check: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    workers: int | None = None,
) -> int:
    """Run ccln-extract.

    Parameters
    ----------
    videos
        Video files, folders that are searched through and through (an AVE folder is one), and data sets as CSV files.
    cache
        Folder where the features go.
    preset
        Pair of extractors: light (EfficientNet-Lite0 at 4 frames a second, log-mel; needs no download), ave (VGG-19
        at 16 frames a second, VGGish) or ave-legacy (the recipe of AVE's published features: Keras's VGG-19).
    visual
        Another visual extractor than the preset's: efficientnet-lite0, vgg19, vgg19-keras, or timm:NAME for any timm
        model.
    audio
        Another audio extractor than the preset's: log-mel, vggish, or torchaudio:NAME for any speech representation
        model of torchaudio.pipelines.
    visual_weights
        Local file with the visual network's weights.
    audio_weights
        Local file with the audio network's weights.
    precision
        Arithmetic of the visual network. auto is bfloat16 where the processor or GPU has it (up to twice as fast), else
        float32. Features of the two are kept apart: name one where machines of both kinds share a cache.
    decoder
        What decodes the frames; decord is an extra, for comparison with features that it made.
    on_missing
        A file without picture, or without sound: error makes it a failure, zeros puts black frames or silence in its
        place (which the cache remembers), skip leaves it out.
    check
        Only look: one line a file on its streams, rates, rotation, silence, and what would fail. No network runs.
    device
        auto, cpu, cuda, cuda:1, ...
    workers
        Clips in work at the same time. As many as there are processors if not given.
    """
    if check:
        return _check(videos, on_missing)
    from ccln.pipeline.extraction import extract

    with ProgressBar("extract", "clip") as bar:
        summary = extract(
            videos,
            cache=cache,
            preset=preset,
            visual=visual,
            audio=audio,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
            precision=precision,
            decoder=decoder,
            on_missing=on_missing,
            device=device,
            workers=workers,
            progress=bar,
        )
    rate = f", {summary.done / summary.seconds:.2g} clips/s" if summary.done else ""
    skipped = f"{len(summary.skipped)} skipped, " if summary.skipped else ""
    counts = f"{summary.done} done, {summary.cached} cached, {skipped}{len(summary.failed)} failed"
    print(f"{counts} in {summary.seconds:.1f} s{rate}")
    if summary.done:
        decoding = summary.decode_seconds / (summary.decode_seconds + summary.network_seconds)
        print(f"a clip's time: {100 * decoding:.0f} % decoding and scaling, {100 * (1 - decoding):.0f} % networks")
    print(f"features in {cache}, specification {summary.specification[:12]} ({summary.precision})")
    for left_out in summary.skipped:
        print(f"skipped: {left_out.reason}", file=sys.stderr)
    return report(summary.failed)


def _check(videos: list[Path], on_missing: str) -> int:
    from ccln.pipeline.inspection import inspect_clip, report_table
    from ccln.pipeline.videos import find_videos

    files = find_videos(videos)
    reports = []
    with ProgressBar("check", "clip") as bar:
        for file in files:
            reports.append(inspect_clip(file, missing_fails=on_missing == "error"))
            bar(len(reports), len(files))
    print(report_table(reports))
    return 1 if any(report.problems for report in reports) else 0


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
    from ccln.pipeline.formats import runs_table, score_table
    from ccln.pipeline.training import TrainingError, prepare, train

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
                f"{result.folder}"
            )
            return 0
        from ccln.pipeline import repetition
        from ccln.pipeline.sharing import new_run

        experiment, out = prepare(data, **told), out or new_run()
        if ablate:
            runs = repetition.ablate(experiment, out, seeds=5 if seeds is None else seeds, progress=bar)
        else:
            runs = {"CCLN": repetition.train_seeds(experiment, out, seeds=seeds or 0, without=without, progress=bar)}
    print(runs_table(runs, repetition.FULL if ablate else None))
    print(f"each epoch selected on validation, tested once; runs in {out}")
    return 0


def _localize(
    clips: _Videos,
    /,
    *,
    checkpoint: Path | None = None,
    format: Literal["table", "json", "csv"] = "table",
    plots: Path | None = None,
    device: str = "auto",
    visual_weights: Path | None = None,
    audio_weights: Path | None = None,
) -> int:
    """Run ccln-localize.

    Parameters
    ----------
    clips
        Video files, and folders that are searched through and through.
    checkpoint
        Run folder of ccln-train. If not given, the newest run in runs/.
    format
        table for people; json with events and tracks, or csv with one line an event, for programs.
    plots
        Folder for one picture a clip: frames with attention, spectrogram, seen, heard, both, events.
    device
        auto, cpu, cuda, cuda:1, ...
    visual_weights
        Local file with the visual network's weights.
    audio_weights
        Local file with the audio network's weights.
    """
    from ccln.pipeline.formats import LOCALIZATION_FORMATS
    from ccln.pipeline.localization import localize

    with ProgressBar("localize", "clip") as bar:
        found = localize(
            clips,
            checkpoint=checkpoint,
            device=device,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
            plots=plots,
            progress=bar,
        )
    print(LOCALIZATION_FORMATS[format](found))
    return report(found.failed)


def _demo(*, out: Path = defaults.DEMO, seed: int = 0) -> int:
    """Run ccln-demo.

    Parameters
    ----------
    out
        Folder for everything; must be empty or not exist yet.
    seed
        Of the data set and of the training.
    """
    from ccln.pipeline.demonstration.demo import demo
    from ccln.pipeline.formats import clip_table, score_table

    bars: dict[str, ProgressBar] = {}
    units = {"make videos": "clip", "extract": "clip", "train": "epoch"}

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        bars.setdefault(stage, ProgressBar(stage, units[stage]))(done, total, note)
        if done == total:
            bars[stage].close()

    shown = demo(out, seed=seed, progress=progress)
    print(score_table(shown.training))
    print()
    print(clip_table(shown.located))
    truth = shown.truth
    print(f"  truth  {truth.label}  {truth.start_seconds:g} – {truth.end_seconds:g} s")
    print(f"\nIts timeline, drawn: {shown.timeline}\n\nThree commands did it, after the videos were made:")
    for command in shown.commands:
        print(f"  {command}")
    return 0


def _run(name: str, about: str, command: Callable[..., int], kept: str = "") -> None:
    app = new_app(name, about)
    app.default(command)
    run(app, kept)
