"""What each part of CCLN is worth on new sources, by cross-validation between the training and the validation split.

For data sets whose splits share no source, as those of ave-composed: no image, recording, speaker or place of the one
is in the other. A network is trained on the training split and scored on the validation split, and the other way round,
with as many steps; no epoch is selected, the last one counts, and the test split is not used. The second direction has
few clips to train on and many to score: it measures less how good a network is than which is better. The event shift is
chosen on the clips that are scored, of every network alike: there are no others, and without it the accuracy would say
how far training clips are harder than they look, not how well events are told from background.

uv run python benchmarks/cross_validation.py --data FOLDER --cache FOLDER [--seeds 0 1 2] [--config FILE]
"""

import argparse
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from ccln.cache import FeatureCache
from ccln.model import CCLN, PARTS, Part
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import Split
from ccln.pipeline.metrics.calibration import choose_event_shift
from ccln.pipeline.metrics.localization import evaluate
from ccln.pipeline.metrics.seeds import PLUS_MINUS, seeds_table
from ccln.pipeline.metrics.segments import Scores
from ccln.pipeline.train.config import read_config
from ccln.pipeline.train.loop import train_network
from ccln.pipeline.train.run import FULL, Experiment, ablations, prepare
from ccln.pipeline.train.tasks import SupervisedLocalization

METHODS = ablations(PARTS)
DIRECTIONS: tuple[tuple[Split, Split], ...] = (("train", "validation"), ("validation", "train"))


class Unselected:
    """A task whose every epoch looks better than the one before, so that the last is kept."""

    def __init__(self, task: SupervisedLocalization) -> None:
        self.name, self.clips, self._task, self.selection = task.name, task.clips, task, 0.0

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        return self._task.augmented(batch, random)

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        return self._task.losses(model, batch, warmth)

    def scores(self, network: nn.Module, split: Split) -> "Unselected":
        self.selection += 1
        return self

    def as_dict(self) -> dict[str, float]:
        return {}


def last_epoch(experiment: Experiment, trained: Split, scored: Split, seed: int, without: tuple[Part, ...]) -> Scores:
    """Scores on one split of a network trained on another, with as many steps as the training split takes."""
    splits, training = experiment.features.splits, experiment.config.training
    steps, steps_here = (-(-len(splits[split]) // training.batch_size) for split in ("train", trained))
    training = replace(training, seed=seed, epochs=round(training.epochs * steps / steps_here))
    features = replace(experiment.features, splits={**splits, "train": splits[trained]})
    task = SupervisedLocalization(features, replace(experiment.config, training=training))
    set_seed(seed)
    network = replace(experiment, features=features).new_network(without)
    with tempfile.TemporaryDirectory() as folder:
        trained_network = train_network(network, Unselected(task), training, Path(folder))
    assert isinstance(trained_network.model, CCLN)
    choose_event_shift(trained_network.model, splits[scored])
    return evaluate(trained_network.model, splits[scored])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS)[:-1])
    arguments = parser.parse_args()
    keep_freed_memory()
    experiment = prepare(
        read_dataset(arguments.data),
        SupervisedLocalization,
        FeatureCache(arguments.cache),
        read_config(arguments.config),
    )
    methods = [FULL, *(name for name in arguments.methods if name != FULL)]
    scores: dict[tuple[Split, Split], dict[str, list[Scores]]] = {way: defaultdict(list) for way in DIRECTIONS}
    for seed in arguments.seeds:
        for method in methods:
            for trained, scored in DIRECTIONS:
                found = last_epoch(experiment, trained, scored, seed, METHODS[method])
                scores[trained, scored][method].append(found)
                print(f"{method}, seed {seed}, on {scored}: {100 * found.segment_accuracy:.1f} %", flush=True)
    for (trained, scored), of_method in scores.items():
        print(f"\ntrained on {trained}, scored on {scored}\n{seeds_table(of_method, FULL)}")
    both = {method: [found for of_method in scores.values() for found in of_method[method]] for method in methods}
    print(f"\nboth, paired by seed and direction\n{seeds_table(both, FULL)}\n{PLUS_MINUS}")


if __name__ == "__main__":
    main()
