"""What a network makes of classes that it was not trained on, and what each part of CCLN is worth there.

For each of four folds every fourth class is held out: a network is trained on the training clips of the others, its
last epoch counts, and all clips of the validation split are shown to it. Of a data set whose splits share no source:

- known, unknown: area under the ROC curve of the event logit over the seconds of clips of known and of held-out
  classes.
- other's sound, known and unknown: of the seconds that are event, how many are still called so when the clip has the
  sound of a clip of another class, at the threshold that 96 % of these seconds reach with their own sound.
- rejection: area under the ROC curve of the visual probability of the clip's class in the event second that shows it
  best (what `EventDecoding.class_threshold` bounds), of clips of known against those of held-out classes.
- kept, rejected: at the threshold that `choose_decoding` finds on validation, how many of the clips with a known class
  and the right name keep it, and how many of held-out classes are taken for unknown.

--split test shows the networks the test split instead; nothing is to be chosen by that.

uv run python benchmarks/held_out_classes.py --data FOLDER --cache FOLDER [--seeds 0 1] [--methods ...] [--split test]
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate.utils import set_seed
from cross_validation import METHODS, Unselected, still_called, with_other_sounds
from real_clips import area_under_curve

from ccln.cache import FeatureCache
from ccln.model import Part
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import Split
from ccln.pipeline.data.features import LabelledClips
from ccln.pipeline.metrics.calibration import choose_decoding, clearest
from ccln.pipeline.metrics.evaluation import aligned, ratio
from ccln.pipeline.metrics.localization import predict
from ccln.pipeline.metrics.seeds import PLUS_MINUS
from ccln.pipeline.train.config import read_config
from ccln.pipeline.train.loop import train_network
from ccln.pipeline.train.run import FULL, Experiment, prepare
from ccln.pipeline.train.tasks import SupervisedLocalization

FOLDS = 4
COLUMNS = ("known", "unknown", "other's sound, known", "unknown", "rejection", "kept", "rejected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=[FULL])
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    options = parser.parse_args()
    keep_freed_memory()
    dataset, cache = read_dataset(options.data), FeatureCache(options.cache)
    experiment = prepare(dataset, SupervisedLocalization, cache, read_config(options.config))
    rows = [["%", *COLUMNS]]
    for method in options.methods:
        found = []
        for seed in options.seeds:
            for fold in range(FOLDS):
                found.append(scores(experiment, fold, seed, METHODS[method], options.split))
                print(
                    f"{method}, seed {seed}, fold {fold}:", *(f"{100 * score:.1f}" for score in found[-1]), flush=True
                )
        means, errors = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        pairs = zip(means, errors, strict=True)
        rows.append([method, *(f"{100 * mean:.1f} ± {100 * error:.1f}" for mean, error in pairs)])
    print(f"\n{aligned(rows)}\n{PLUS_MINUS} (folds count as seeds)")


def scores(experiment: Experiment, fold: int, seed: int, without: Sequence[Part], split: Split) -> list[float]:
    """Of a network that has not met the classes of a fold, in the order of `COLUMNS`."""
    splits = experiment.features.splits
    known = [label for label in range(splits["train"].class_count) if label % FOLDS != fold]
    features = replace(experiment.features, splits={**splits, "train": of_classes(splits["train"], known)})
    training = replace(experiment.config.training, seed=seed)
    task = SupervisedLocalization(features, replace(experiment.config, training=training))
    set_seed(seed)
    network = replace(experiment, features=features).new_network(without)
    with tempfile.TemporaryDirectory() as folder:
        network = train_network(network, Unselected(task), training, Path(folder)).model
    # On validation the threshold is chosen by the known classes alone; of the others labels are beyond theirs.
    validation = of_classes(splits["validation"], known)
    threshold = choose_decoding(predict(network, validation), validation.segment_labels).class_threshold
    clips = splits[split]
    labels = clips.labels.numpy()
    is_event, is_known = clips.event.numpy() > 0, np.isin(labels, known)
    own, other = predict(network, clips), predict(network, with_other_sounds(clips, labels))
    groups = is_known, (labels >= 0) & ~is_known
    curves = [area_under_curve(own.event_logits[group].ravel(), is_event[group].ravel()) for group in groups]
    called = [still_called(own, other, is_event & group[:, np.newaxis]) for group in groups]
    seen = clearest(own, is_event)
    right = is_known & (np.array(known)[own.clip_labels()] == labels)
    return [
        *curves,
        *called,
        area_under_curve(seen[labels >= 0], is_known[labels >= 0]),
        ratio(float((seen[right] >= threshold).sum()), int(right.sum())),
        ratio(float((seen[groups[1]] < threshold).sum()), int(groups[1].sum())),
    ]


def of_classes(clips: LabelledClips, classes: Sequence[int]) -> LabelledClips:
    """The clips of some classes, which are numbered anew, and those without any event."""
    number = np.full(clips.class_count + 1, -1)
    number[[*classes, clips.class_count]] = range(len(classes) + 1)
    kept = np.flatnonzero((number[clips.segment_labels] >= 0).all(axis=1) & (number[clips.class_labels] >= 0)).tolist()
    some = clips.subset(kept)
    return replace(
        some,
        segment_labels=number[some.segment_labels],
        class_labels=number[some.class_labels],
        class_count=len(classes),
    )


if __name__ == "__main__":
    main()
