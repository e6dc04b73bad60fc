"""What it is worth to start from a trained network when a few clips of new classes come (ccln-train --init).

    python benchmarks/start.py --data AVE_FOLDER --cache FEATURES --out RUNS

A network is trained on all classes but the last four, in the order of the annotations. Then some training clips of
the last four come, drawn by the seed; a network of these four classes is trained on them, from nothing and from the
first network. Validation and test have all their clips of the four classes. Epochs are selected on validation, and each
network is tested once. Finished runs are read again.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from ccln.cache import FeatureCache
from ccln.model import Checkpoint, load_checkpoint
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import AnnotatedClip, Dataset
from ccln.pipeline.metrics.evaluation import percent
from ccln.pipeline.metrics.segments import Scores
from ccln.pipeline.train.config import RunConfig
from ccln.pipeline.train.results import TrainingResult
from ccln.pipeline.train.run import prepare
from ccln.pipeline.train.tasks import SupervisedLocalization

NEW = 4


def chosen(dataset: Dataset, names: tuple[str, ...], few: Mapping[str, int], seed: int) -> Dataset:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--clips", type=int, nargs="+", default=[5, 10, 20], help="Training clips of each new class.")
    parser.add_argument("--base-epochs", type=int, help="Of the first network; the others have as many as usual.")
    arguments = parser.parse_args()
    dataset, cache = read_dataset(arguments.data), FeatureCache(arguments.cache)
    old, new = dataset.class_names[:-NEW], dataset.class_names[-NEW:]
    print(f"new classes: {', '.join(new)}")

    def run(
        name: str, data: Dataset, seed: int, init: Checkpoint | None = None, epochs: int | None = None
    ) -> TrainingResult:
        experiment = prepare(data, SupervisedLocalization, cache, RunConfig().with_training(epochs=epochs), init=init)
        return experiment.run(arguments.out / name / f"seed-{seed}", seed=seed)

    start = load_checkpoint(run("base", chosen(dataset, old, {}, 0), 0, epochs=arguments.base_epochs).folder)
    found: dict[tuple[int, str], list[float]] = {}
    for seed in range(arguments.seeds):
        for count in arguments.clips:
            data = chosen(dataset, new, {name: count for name in new}, seed)
            for how, init in (("nothing", None), ("the network", start)):
                result = run(f"{count}-from-{how}".replace(" ", "-"), data, seed, init)
                assert isinstance(result.test, Scores)
                found.setdefault((count, how), []).append(result.test.segment_accuracy)
                print(f"seed {seed}, {count} clips a class, from {how}: {percent(found[count, how][-1])}", flush=True)
    print()
    for (count, how), values in found.items():
        spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
        print(f"{count:3} clips a class, from {how:12}{100 * mean(values):5.1f}{spread} % of seconds")


if __name__ == "__main__":
    main()
