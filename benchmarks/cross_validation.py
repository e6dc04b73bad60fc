"""What each part of CCLN is worth on new sources, by cross-validation between the training and the validation split.

For data sets whose splits share no source, as those of ave-composed: no image, recording, speaker or place of the one
is in the other. A network is trained on the training split and scored on the validation split, and the other way round,
with as many steps; no epoch is selected, the last one counts, and the test split is not used. The second direction has
few clips to train on and many to score: it measures less how good a network is than which is better. The event shift is
chosen on the clips that are scored, of every network alike: there are no others, and without it the accuracy would say
how far training clips are harder than they look, not how well events are told from background.

Few seconds of a data set show one thing and let another be heard, so that accuracy hardly says whether a network
compares them. Beside it stand the area under the ROC curve of the event logit over all seconds, and, of the seconds
that are event, how many are still called so when the clip has the sound of a clip of another class, at the threshold
that 96 % of these seconds reach with their own sound.

uv run python benchmarks/cross_validation.py --data FOLDER --cache FOLDER [--task weak] [--seeds 0 1 2] [--config FILE]
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from real_clips import area_under_curve
from torch import Tensor, nn

from ccln.cache import FeatureCache
from ccln.model import CCLN, PARTS, Part
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import Split
from ccln.pipeline.data.features import LabelledClips
from ccln.pipeline.metrics.calibration import choose_event_shift
from ccln.pipeline.metrics.evaluation import aligned
from ccln.pipeline.metrics.localization import Predictions, evaluate, predict
from ccln.pipeline.metrics.seeds import PLUS_MINUS, seeds_table
from ccln.pipeline.metrics.segments import Scores
from ccln.pipeline.train.config import read_config
from ccln.pipeline.train.loop import train_network
from ccln.pipeline.train.run import FULL, Experiment, ablations, prepare
from ccln.pipeline.train.tasks import DatasetTask, SupervisedLocalization, WeakLocalization

METHODS = ablations(PARTS)
TASKS: dict[str, type[DatasetTask]] = {task.name: task for task in (SupervisedLocalization, WeakLocalization)}
RECALL = 0.96
DIRECTIONS: tuple[tuple[Split, Split], ...] = (("train", "validation"), ("validation", "train"))


class Unselected:
    """A task whose every epoch looks better than the one before, so that the last is kept."""

    def __init__(self, task: DatasetTask) -> None:
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


@dataclass(frozen=True)
class Found:
    """What a network makes of clips that it was not trained on."""

    scores: Scores
    area: float
    """Under the ROC curve of the event logit over all seconds."""
    with_other_sounds: float
    """Share of the event seconds that are still called so."""

    def __str__(self) -> str:
        numbers = self.scores.segment_accuracy, self.area, self.with_other_sounds
        return "accuracy {:.1f} %, area {:.1f} %, another's sound {:.1f} %".format(*(100 * x for x in numbers))


def last_epoch(experiment: Experiment, trained: Split, scored: Split, seed: int, without: tuple[Part, ...]) -> Found:
    """Scores on one split of a network trained on another, with as many steps as the training split takes."""
    splits, training = experiment.features.splits, experiment.config.training
    steps, steps_here = (-(-len(splits[split]) // training.batch_size) for split in ("train", trained))
    training = replace(training, seed=seed, epochs=round(training.epochs * steps / steps_here))
    features = replace(experiment.features, splits={**splits, "train": splits[trained]})
    task = type(experiment.task)(features, replace(experiment.config, training=training))
    set_seed(seed)
    network = replace(experiment, features=features).new_network(without)
    with tempfile.TemporaryDirectory() as folder:
        trained_network = train_network(network, Unselected(task), training, Path(folder))
    model, clips = trained_network.model, splits[scored]
    assert isinstance(model, CCLN)
    choose_event_shift(model, clips)
    is_event = clips.event.numpy() > 0
    own, other = predict(model, clips), predict(model, with_other_sounds(clips, clips.labels.numpy()))
    return Found(
        evaluate(model, clips),
        area_under_curve(own.event_logits.ravel(), is_event.ravel()),
        still_called(own, other, is_event),
    )


def with_other_sounds(clips: LabelledClips, labels: np.ndarray) -> LabelledClips:
    """Each clip with the sound of a random clip of another class that is event wherever it is; nothing else changes."""
    random, is_event = np.random.default_rng(0), clips.event.numpy() > 0
    lenders = []
    for label, event in zip(labels, is_event, strict=True):
        fitting = np.flatnonzero((labels != label) & (is_event >= event).all(axis=1))
        lenders.append(int(random.choice(fitting)))
    return replace(clips, audio=tuple(clips.audio[lender] for lender in lenders))


def still_called(own: Predictions, other: Predictions, places: np.ndarray) -> float:
    """Share of the places (clip, segment) called event with other sounds, where `RECALL` of them are with their own."""
    threshold = np.quantile(own.event_logits[places], 1 - RECALL)
    return float(np.mean(other.event_logits[places] >= threshold))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--task", choices=list(TASKS), default="supervised")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS)[:-1])
    arguments = parser.parse_args()
    keep_freed_memory()
    experiment = prepare(
        read_dataset(arguments.data),
        TASKS[arguments.task],
        FeatureCache(arguments.cache),
        read_config(arguments.config),
    )
    methods = [FULL, *(name for name in arguments.methods if name != FULL)]
    results: dict[tuple[Split, Split], dict[str, list[Found]]] = {way: defaultdict(list) for way in DIRECTIONS}
    for seed in arguments.seeds:
        for method in methods:
            for trained, scored in DIRECTIONS:
                found = last_epoch(experiment, trained, scored, seed, METHODS[method])
                results[trained, scored][method].append(found)
                print(f"{method}, seed {seed}, on {scored}: {found}", flush=True)
    for (trained, scored), of_method in results.items():
        print(f"\ntrained on {trained}, scored on {scored}\n{table(of_method)}")
    both = {method: [found for of_method in results.values() for found in of_method[method]] for method in methods}
    print(f"\nboth, paired by seed and direction\n{table(both)}\n{PLUS_MINUS}")


def table(found: Mapping[str, Sequence[Found]]) -> str:
    """The scores of each method, and its area and another's sound, with its differences to the full network."""
    rows = [["%", "area", "difference", "another's sound", "difference"]]
    for method, of_method in found.items():
        cells = []
        for name in ("area", "with_other_sounds"):
            own, full = (100 * np.array([getattr(one, name) for one in each]) for each in (of_method, found[FULL]))
            cells += [mean_and_deviation(own), "" if method == FULL else mean_and_deviation(own - full)]
        rows.append([method, *cells])
    scores = {method: [one.scores for one in of_method] for method, of_method in found.items()}
    return f"{seeds_table(scores, FULL)}\n{aligned(rows)}"


def mean_and_deviation(values: np.ndarray) -> str:
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" if len(values) > 1 else f"{values.mean():.1f}"


if __name__ == "__main__":
    main()
