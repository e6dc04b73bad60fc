"""The same training several times: over seeds, and over seeds with parts of the network left out."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ccln.model import Part
from ccln.pipeline.report.run.runs import write_runs_page
from ccln.pipeline.train.loop import Progress
from ccln.pipeline.train.results import TrainingResult
from ccln.pipeline.train.run import Experiment
from ccln.pipeline.train.run_folder import TrainingError
from ccln.pipeline.train.sharing import new_run, process_accelerator

FULL = "full"


def ablations(parts: Sequence[Part]) -> dict[str, tuple[Part, ...]]:
    """What to leave out of a network with these parts, by the name of the method: nothing, each, and all of several."""
    each: dict[str, tuple[Part, ...]] = {f"without {part.upper()}": (part,) for part in parts}
    return {FULL: (), **each, **({"without all": tuple(parts)} if len(parts) > 1 else {})}


def train_seeds(
    experiment: Experiment,
    out: Path | str | None = None,
    *,
    seeds: int = 5,
    without: Sequence[Part] = (),
    progress: Progress | None = None,
) -> list[TrainingResult]:
    """Train with the seeds 0, 1, ..., each into its own folder seed-0, seed-1, ..., and write a page of all.

    Runs that are finished are read, one that was stopped is gone on with: the same call again does what is left.

    Args:
        experiment: from `ccln.pipeline.train.run.prepare`.
        out: folder of the runs; if None, a new one in runs/.
        seeds: how many.
        without: parts to leave out.
        progress: called with epochs done and in all of all runs.

    Returns:
        The results in the order of the seeds.

    Raises:
        TrainingError: ``seeds`` is not positive, a folder holds a run with other settings, the task's network has no
            such part to leave out, or training diverged.
        CheckpointError: a finished run is damaged.
    """
    if seeds < 1:
        raise TrainingError(f"seeds = {seeds}: expected at least 1")
    out = new_run() if out is None else Path(out)
    results = _each_seed(experiment, out, seeds, without, progress)
    _write_page(experiment, out, {"CCLN": results})
    return results


def ablate(
    experiment: Experiment, out: Path | str | None = None, *, seeds: int = 5, progress: Progress | None = None
) -> dict[str, list[TrainingResult]]:
    """Train the full network, the network less each of its parts, and less all of them, all with the same seeds.

    The parts are those that the task's network has. The runs lie in full/seed-0, ..., without-sbi/seed-0, ..., and
    beside them a page of all; the same call again does what is left.

    Args:
        experiment: from `ccln.pipeline.train.run.prepare`.
        out: folder of the runs; if None, a new one in runs/.
        seeds: how many of each.
        progress: called with epochs done and in all of all runs.

    Returns:
        By the names that `ablations` gives, the results in the order of the seeds.

    Raises:
        TrainingError: ``seeds`` is not positive, a folder holds a run with other settings, or training diverged.
        CheckpointError: a finished run is damaged.
    """
    if seeds < 1:
        raise TrainingError(f"seeds = {seeds}: expected at least 1")
    out = new_run() if out is None else Path(out)
    results, methods = {}, ablations(experiment.task.parts)
    for index, (name, without) in enumerate(methods.items()):
        told = None if progress is None else partial(_tell_of, progress, name, index, len(methods))
        folder = out / name.lower().replace(" ", "-")
        results[name] = _each_seed(experiment, folder, seeds, without, told)
    _write_page(experiment, out, results, FULL)
    return results


def _each_seed(
    experiment: Experiment, folder: Path, seeds: int, without: Sequence[Part], progress: Progress | None
) -> list[TrainingResult]:
    """The runs of one method, in folders of their own."""
    results = []
    for seed in range(seeds):
        told = None if progress is None else partial(_tell_of, progress, f"seed {seed}", seed, seeds)
        results.append(experiment.run(folder / f"seed-{seed}", seed=seed, without=without, progress=told))
    return results


def _write_page(
    experiment: Experiment, folder: Path, runs: Mapping[str, Sequence[TrainingResult]], reference: str | None = None
) -> None:
    if process_accelerator().is_main_process:  # of several that train together one writes
        title = f"Training on {experiment.data.resolve().name}: {experiment.task.name}, several runs"
        write_runs_page(folder, title, runs, reference)


def _tell_of(progress: Progress, name: str, index: int, count: int, done: int, total: int, note: str) -> None:
    """Progress of one of several equally long pieces of work as progress of the whole."""
    progress(index * total + done, count * total, f"{name}{': ' if note else ''}{note}")
