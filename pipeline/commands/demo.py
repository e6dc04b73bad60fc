"""The ccln-demo command: the whole pipeline on a small data set that it makes."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import OnePath, ProgressBar, run_function
from ccln.pipeline.commands.extract import extract
from ccln.pipeline.commands.localize import localize
from ccln.pipeline.commands.train import train

if TYPE_CHECKING:
    from ccln.pipeline.localize.result import Event, LocatedVideo
    from ccln.pipeline.train.results import TrainingResult

_EPOCHS = 40
_UNITS = {"make videos": "clip", "extract": "clip", "train": "epoch"}


@dataclass(frozen=True)
class DemoResult:
    """What the demo made."""

    training: "TrainingResult"
    located: "LocatedVideo"
    """One test clip."""
    truth: "Event"
    """The event that is annotated in it."""
    timeline: Path
    """Picture of the located clip."""
    commands: tuple[str, ...]
    """The three commands that do the same on the videos."""


def demo(
    out: OnePath = defaults.DEMO,
    *,
    seed: int = 0,
    progress: Annotated[Callable[[str, int, int, str], None] | None, Parameter(parse=False)] = None,
) -> DemoResult:
    """Make a small data set of raw videos, and run extract, train and localize on it.

    Args:
        out: Folder for everything (videos/, features/, run/, timelines/); must be empty or not exist yet.
        seed: Of the data set and of the training.
        progress: Called with a stage's name, items done, items in all, and a note.

    Raises:
        FileExistsError: `out` is a file, or holds something.
    """
    from ccln.pipeline.data.ave import read_ave_folder
    from ccln.pipeline.demo import make_demo_dataset
    from ccln.pipeline.localize.result import Event

    def show(stage: str, done: int, total: int, note: str = "") -> None:
        if progress is not None:
            progress(stage, done, total, note)

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: is not an empty folder. Remove it, or choose another: --out")
    videos, cache, run, timelines = out / "videos", out / "features", out / "run", out / "timelines"
    make_demo_dataset(videos, seed=seed, progress=partial(show, "make videos"))
    extract([videos], cache=cache, preset="light", progress=partial(show, "extract"))
    training = train(videos, cache=cache, out=run, seed=seed, epochs=_EPOCHS, progress=partial(show, "train"))

    # A clip whose event is neither very short nor touches the clip's ends shows two boundaries.
    clips = read_ave_folder(videos).clips_of("test")
    clear = [clip for clip in clips for start, end in clip.spans if start > 0 and end < 10 and end - start > 2]
    example = (clear or clips)[0]
    assert example.label is not None  # each of the demo's clips has an event
    video = videos / "AVE" / f"{example.video_id}.mp4"
    return DemoResult(
        training=training,
        located=localize(video, checkpoint=run, plot=timelines).videos[0],
        truth=Event(example.label, *example.spans[0], 1.0),
        timeline=timelines / f"{video.stem}.png",
        commands=(
            _command("extract", videos, "--cache", cache, "--preset", "light"),
            _command("train", "--data", videos, "--cache", cache, "--out", run, "--seed", seed, "--epochs", _EPOCHS),
            _command("localize", video, "--checkpoint", run, "--plot", timelines),
        ),
    )


def _command(name: str, *words: object) -> str:
    return shlex.join([f"ccln-{name}", *map(str, words)])


def demo_command() -> None:
    """Entry point of ccln-demo."""
    run_function("ccln-demo", demo, _demo)


def _demo(call: "partial[DemoResult]") -> int:
    from ccln.pipeline.commands.formats import score_table
    from ccln.pipeline.commands.located import video_table

    bars: dict[str, ProgressBar] = {}

    def show(stage: str, done: int, total: int, note: str) -> None:
        bars.setdefault(stage, ProgressBar(stage, _UNITS[stage]))(done, total, note)
        if done == total:
            bars[stage].close()

    result = call(progress=show)
    print(score_table(result.training))
    print()
    print(video_table(result.located))
    truth = result.truth
    print(f"  truth  {truth.label}  {truth.start_seconds:g} – {truth.end_seconds:g} s")
    print(f"\nIts timeline, drawn: {result.timeline}\n\nThree commands did it, after the videos were made:")
    for command in result.commands:
        print(f"  {command}")
    return 0
