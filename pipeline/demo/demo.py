"""The whole pipeline on a small data set that is made on the spot."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ccln.pipeline import defaults
from ccln.pipeline.commands.extract import extract
from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import AnnotatedClip
from ccln.pipeline.demo.dataset import make_demo_dataset
from ccln.pipeline.localize.localize import localize
from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.train.results import TrainingResult
from ccln.pipeline.train.run import train

Progress = Callable[[str, int, int, str], None]
EPOCHS = 40


class DemoError(Exception):
    """The demo cannot be shown; the message says why and what to do."""


@dataclass(frozen=True)
class Shown:
    """What the demo made."""

    training: TrainingResult
    located: LocatedVideo
    """One test clip."""
    truth: Event
    """What is really in it."""
    timeline: Path
    """Its picture."""
    commands: tuple[str, ...]
    """The three commands that give the same."""


def demo(out: Path | str = defaults.DEMO, *, seed: int = 0, progress: Progress | None = None) -> Shown:
    """Make a data set of raw videos in AVE's layout, then extract, train and localize on it.

    Args:
        out: folder for everything (videos/, features/, run/, timeline.png); must be empty or not exist yet.
        seed: of the data set and of the training.
        progress: called with a stage's name, items done, items in all, and a note.

    Raises:
        DemoError: ``out`` holds something.
    """

    def tell(stage: str) -> Callable[..., None] | None:
        return None if progress is None else partial(progress, stage)

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DemoError(f"{out}: is not an empty folder. Remove it, or choose another: --out")
    videos, cache, run, timelines = out / "videos", out / "features", out / "run", out / "timelines"
    make_demo_dataset(videos, seed=seed, progress=tell("make videos"))
    extract([videos], cache=cache, preset="light", progress=tell("extract"))
    training = train(videos, cache=cache, out=run, seed=seed, epochs=EPOCHS, progress=tell("train"))
    clip = _example(videos)
    assert clip.label is not None  # each of the demo's clips has an event
    video = videos / "AVE" / f"{clip.video_id}.mp4"
    located = localize(video, checkpoint=run, plot=timelines).clips[0]
    commands = (
        _command("ccln-extract", videos, "--cache", cache, "--preset", "light"),
        _command("ccln-train", "--data", videos, "--cache", cache, "--out", run, "--seed", seed, "--epochs", EPOCHS),
        _command("ccln-localize", video, "--checkpoint", run, "--plot", timelines),
    )
    return Shown(
        training=training,
        located=located,
        truth=Event(clip.label, *clip.spans[0], 1.0),
        timeline=timelines / f"{video.stem}.png",
        commands=commands,
    )


def _command(*words: object) -> str:
    return shlex.join(map(str, words))


def _example(videos: Path) -> AnnotatedClip:
    """A test clip whose event is neither very short nor touches the clip's ends: it shows two boundaries."""
    clips = read_ave_folder(videos).clips_of("test")
    telling = [clip for clip in clips for start, end in clip.spans if start > 0 and end < 10 and end - start > 2]
    return (telling or clips)[0]
