"""What it is worth to start from a trained network when a few clips of new classes come (ccln-train --init).

    python benchmarks/start.py --data AVE_FOLDER --cache FEATURES --out RUNS

For each seed a network is trained on all classes but the last four, in the order of the annotations. Then some training
clips of the last four are added, drawn by the seed, in two ways: alone, as a set of four classes, and beside all clips
of the other classes. Each is trained from nothing and from the trained network. Epochs are selected on validation, and
every network is tested once; the accuracy is that of the seconds of test clips of the four classes. Finished runs are
read again.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from ccln.cache import FeatureCache
from ccln.model import Checkpoint, load_checkpoint
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import AnnotatedClip, Dataset
from ccln.pipeline.metrics.localization import SegmentDetails
from ccln.pipeline.train.config import RunConfig
from ccln.pipeline.train.results import TrainingResult
from ccln.pipeline.train.run import prepare
from ccln.pipeline.train.tasks import SupervisedLocalization

NEW = 4


def chosen(dataset: Dataset, names: tuple[str, ...], few: dict[str, int], seed: int) -> Dataset:
    """The clips of some classes, of those in `few` only so many in the training split, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(dataset.clips))

    def kept() -> Iterator[AnnotatedClip]:
        left = dict(few)
        for clip in (dataset.clips[position] for position in order):
            if clip.label not in names:
                continue
            if clip.split == "train" and clip.label in left:
                left[clip.label] -= 1
                if left[clip.label] < 0:
                    continue
            yield clip

    return replace(dataset, class_names=names, clips=tuple(sorted(kept(), key=lambda clip: clip.row or 0)))


def accuracy(result: TrainingResult, names: tuple[str, ...]) -> float:
    """Share of the right seconds in the test clips of these classes."""
    details = result.on_test.details
    assert isinstance(details, SegmentDetails)
    assert details.predicted is not None
    wanted = [clip.label in names for clip in details.predicted.clips]
    right = details.predicted.predictions.segment_labels() == details.predicted.truth
    return float(right[wanted].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--clips", type=int, nargs="+", default=[5, 10, 20], help="Training clips of each new class.")
    arguments = parser.parse_args()
    dataset, cache = read_dataset(arguments.data), FeatureCache(arguments.cache)
    old, new = dataset.class_names[:-NEW], dataset.class_names[-NEW:]
    print(f"new classes: {', '.join(new)}")

    def run(name: str, data: Dataset, seed: int, init: Checkpoint | None = None) -> TrainingResult:
        experiment = prepare(data, SupervisedLocalization, cache, RunConfig(), init=init)
        return experiment.run(arguments.out / name / f"seed-{seed}", seed=seed)

    found: dict[tuple[str, int, str], list[float]] = {}
    for seed in range(arguments.seeds):
        base = run("base", chosen(dataset, old, {}, seed), seed)
        start = load_checkpoint(base.folder)
        for way, names in (("alone", new), ("beside the others", dataset.class_names)):
            for count in arguments.clips:
                data = chosen(dataset, names, dict.fromkeys(new, count), seed)
                for how, init in (("from nothing", None), ("from the network", start)):
                    result = run(f"{way}-{count}-{how}".replace(" ", "-"), data, seed, init)
                    found.setdefault((way, count, how), []).append(accuracy(result, new))
                    print(f"seed {seed}, {count} clips a class, {way}, {how}: {100 * found[way, count, how][-1]:.1f} %")
    print()
    for (way, count, how), values in found.items():
        spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
        shown = ", ".join(f"{100 * value:.1f}" for value in values)
        print(f"{way:18}{count:3} clips a class  {how:17}{100 * mean(values):5.1f}{spread} %   ({shown})")


if __name__ == "__main__":
    main()
