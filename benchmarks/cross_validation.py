"""What each part of CCLN is worth, by cross-validation within the training clips of ave-composed, grouped by source.

The training clips fall into five folds so that no picture of an event is in two of them (of the speakers, whose faces
are few, each clip goes with the first face in it). A network is trained on four folds, its epoch is selected on the
validation split, and the fifth fold is scored once: the test split is never looked at. Recordings are shared between
folds more than pictures (an instrument's notes are few), so all figures are a little optimistic, alike for all methods.

uv run python benchmarks/cross_validation.py --data FOLDER --cache FOLDER --out FOLDER [--seeds 0 1] [--config FILE]

Finished runs in --out are read, not trained again; several processes may be given different --seeds and the same --out.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from ccln.model import PARTS
from ccln.pipeline.features import LabelledClips
from ccln.pipeline.memory import keep_freed_memory
from ccln.pipeline.repetition import ablations
from ccln.pipeline.seeds import ablation_table
from ccln.pipeline.tasks import SupervisedLocalization
from ccln.pipeline.training import Experiment, prepare

FOLDS = 5
METHODS = ablations(PARTS)


def groups_of(data: Path, clips: LabelledClips) -> list[str]:
    """Of each clip the name of its group: clips that share a picture of an event, directly or through others."""
    manifest = {row["id"]: row for row in map(json.loads, (data / "manifest.jsonl").read_text().splitlines())}
    source = {row["uid"]: row["group"] for row in map(json.loads, (data / "sources.jsonl").read_text().splitlines())}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for clip in clips.clips:
        pictures = manifest[clip.video_id]["event"]["pictures"]
        for picture in pictures[:1] if "speech" in str(clip.label) else pictures:
            parent[root(source[picture])] = root(clip.video_id)
    return [root(clip.video_id) for clip in clips.clips]


def folds_of(groups: list[str], labels: list[int]) -> list[int]:
    """Of each clip its fold: whole groups, the largest first, where the class, and then the fold, has fewest clips."""
    members = defaultdict(list)
    for clip, group in enumerate(groups):
        members[group].append(clip)
    counts, fold_of = defaultdict(int), [0] * len(groups)
    for group in sorted(members, key=lambda name: (-len(members[name]), name)):
        label, size = labels[members[group][0]], len(members[group])
        fold = min(range(FOLDS), key=lambda fold: (counts[fold, label], counts[fold, None]))
        counts[fold, label] += size
        counts[fold, None] += size
        for clip in members[group]:
            fold_of[clip] = fold
    return fold_of


def chosen(clips: LabelledClips, rows: list[int]) -> LabelledClips:
    """Some of the clips."""
    return replace(
        clips,
        clips=tuple(clips.clips[row] for row in rows),
        keys=tuple(clips.keys[row] for row in rows),
        visual=tuple(clips.visual[row] for row in rows),
        audio=tuple(clips.audio[row] for row in rows),
        segment_labels=clips.segment_labels[rows],
        class_labels=clips.class_labels[rows],
        missing=(),
    )


def without_fold(experiment: Experiment, folds: list[int], held_out: int) -> Experiment:
    """The experiment on the other folds, with this one in place of the test split."""
    train = experiment.features.splits["train"]
    splits = {
        "train": chosen(train, [row for row, fold in enumerate(folds) if fold != held_out]),
        "validation": experiment.features.splits["validation"],
        "test": chosen(train, [row for row, fold in enumerate(folds) if fold == held_out]),
    }
    features = replace(experiment.features, splits=splits)
    settings = experiment.settings
    task = SupervisedLocalization(features, settings.loss, settings.training.sound_exchange)
    return replace(experiment, features=features, task=task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS)[:-1])
    arguments = parser.parse_args()
    keep_freed_memory()
    experiment = prepare(arguments.data, cache=arguments.cache, config=arguments.config)
    train = experiment.features.splits["train"]
    folds = folds_of(groups_of(arguments.data, train), train.class_labels.tolist())
    held_out = [without_fold(experiment, folds, fold) for fold in range(FOLDS)]
    scores, validation = defaultdict(list), defaultdict(list)
    for seed in arguments.seeds:
        for method in arguments.methods:
            for fold, part_of_it in enumerate(held_out):
                folder = arguments.out / f"{method.lower().replace(' ', '-')}-seed-{seed}-fold-{fold}"
                result = part_of_it.run(folder, seed=seed, without=METHODS[method])
                scores[method].append(result.test)
                validation[method].append(result.validation)
                print(
                    f"{method}, seed {seed}, fold {fold}: {100 * result.test.selection:.1f} % on the fold, "
                    f"{100 * result.validation.selection:.1f} % on validation (selected on it)",
                    flush=True,
                )
    for what, of in (("the held-out folds", scores), ("validation, which the epoch is selected on", validation)):
        print(f"\non {what}, {len(arguments.seeds)} seeds of {FOLDS} folds, paired by seed and fold")
        print(ablation_table(of, arguments.methods[0]))


if __name__ == "__main__":
    main()
