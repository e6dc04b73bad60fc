"""The ccln-demo command: everything once, on videos that it makes."""

from pathlib import Path

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import ProgressBar, run_single


def demo_command() -> None:
    """Entry point of ccln-demo."""
    about = "Make a small data set of raw videos, and run extract, train and localize on it."
    run_single("ccln-demo", about, _demo)


def _demo(*, out: Path = defaults.DEMO, seed: int = 0) -> int:
    """Run ccln-demo.

    Parameters
    ----------
    out
        Folder for everything; must be empty or not exist yet.
    seed
        Of the data set and of the training.
    """
    from ccln.pipeline.commands.formats import score_table
    from ccln.pipeline.commands.located import clip_table
    from ccln.pipeline.demo.demo import demo

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
