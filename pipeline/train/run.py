"""Training runs on one data set: a single one, one a seed, and an ablation of the network's parts.

Select on validation, test once, save all that using the network needs.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate.utils import set_seed

from ccln.cache import FeatureCache, specification_digest
from ccln.files import make_folder
from ccln.model import CCLN, Checkpoint, ModelConfig, Network, Part
from ccln.pipeline.data.clips import Dataset
from ccln.pipeline.data.features import DatasetFeatures
from ccln.pipeline.texts import TextSide
from ccln.pipeline.train.config import RunConfig
from ccln.pipeline.train.loop import Progress, by_main, process_accelerator, train_network
from ccln.pipeline.train.results import (
    RunFacts,
    TrainingResult,
    evaluate_run,
    is_finished,
    read_finished,
    write_result,
)
from ccln.pipeline.train.start import shape_of, take_weights
from ccln.pipeline.train.state import Identity, TrainingError, remove_state, require_same_run
from ccln.pipeline.train.tasks import DatasetTask
from ccln.pipeline.train.trained_rows import seen_rows, trained_rows

log = logging.getLogger(__name__)

FULL = "full"
"""The method of an ablation that leaves nothing out."""


def prepare(
    dataset: Dataset,
    task_type: type[DatasetTask],
    cache: FeatureCache,
    config: RunConfig | None = None,
    *,
    specification: str | None = None,
    drop_leaks: bool = False,
    watch_test: bool = False,
    device: str = "auto",
    init: Checkpoint | None = None,
    texts_of: Callable[[DatasetFeatures], TextSide] | None = None,
    report: Callable[[TrainingResult], object] | None = None,
) -> "Experiment":
    """Read the features of a data set once, for one run or many.

    Args:
        dataset: as it was read.
        task_type: what to train for.
        cache: that holds the clips' features.
        config: of the runs; if None, the defaults.
        specification: first digits of the extractor specification, where the cache holds several for this data.
        drop_leaks: leave out training rows whose video validation or test has, and validation rows whose video test
            has.
        watch_test: also give the score of the epoch that is best on test; the checkpoint is selected on validation.
        device: "auto", "cpu", "cuda", ...
        init: the network to start from; if None, a new one.
        texts_of: gives the vectors of the classes' names, for networks with an open head; if None, classes are learnt.
        report: called with each result before its checkpoint is written; writes what people read into its folder.

    Raises:
        DatasetError, CacheError: the data set does not serve this task, or the cache lacks its features.
        TrainingError: a specification or a shape of the network is asked for that is not that of ``init``.
    """
    config = config or RunConfig()
    if init is not None:
        if specification is not None:
            raise TrainingError("--init: its extractors are those to train on. Leave --specification out")
        if (init.model.config.text_channels is None) != (texts_of is None):
            raise TrainingError("--init: of two networks with an open head or two without one can start from the other")
        config = replace(config, model=shape_of(init, config.model))
    wanted = specification if init is None else init.specification
    features = task_type.load_features(dataset, cache, wanted, drop_leaks=drop_leaks)
    if init is not None:
        _compare(init, features)
    task = task_type(features, config)
    texts = None if texts_of is None else texts_of(features)
    return Experiment(dataset.source, features, task, config, drop_leaks, watch_test, device, report, init, texts)


def _compare(init: Checkpoint, features: DatasetFeatures) -> None:
    """Say which classes are new or given up, and which clips to evaluate on were trained on."""
    new, gone = (
        [name for name in names if name not in others]
        for names, others in ((features.class_names, init.class_names), (init.class_names, features.class_names))
    )
    if new:
        log.info("--init: classes that are new: %s", "; ".join(new))
    if gone:
        log.warning("--init: classes that the data set has not, and that are given up: %s", "; ".join(gone))
    trained = trained_rows(init.training) or ()
    for split in ("validation", "test"):
        clips = features.splits[split]
        if seen := seen_rows(trained, clips.clips, clips.keys):
            log.warning("--init: was trained on %d of the %d %s clips", len(seen), len(clips), split)


@dataclass(frozen=True, eq=False)
class Experiment:
    """A data set, a task and a config, ready for runs that differ in their seed and in the parts left out."""

    data: Path
    """The data set."""
    features: DatasetFeatures
    task: DatasetTask
    config: RunConfig
    drop_leaks: bool
    watch_test: bool
    device: str
    report: Callable[[TrainingResult], object] | None
    init: Checkpoint | None = None
    """The network that training starts from; None for a new one."""
    texts: TextSide | None = None
    """Of the classes' names, for an open head; None where classes are learnt."""

    def run(
        self, out: Path, *, seed: int | None = None, without: Sequence[Part] = (), progress: Progress | None = None
    ) -> TrainingResult:
        """Train one network and write its run folder, or read it where it is there already.

        Args:
            out: run folder; an unfinished run in it is gone on with.
            seed: overrides the config's.
            without: parts to leave out.
            progress: called before the first epoch, and after each.

        Raises:
            TrainingError: ``out`` holds a run with other settings, the task's network has no such part to leave out, or
                training diverged.
        """
        config = self.config.with_training(seed=seed)
        facts = self._facts(config, self.model_config(without))
        if by_main(partial(is_finished, out)):
            trained, found = by_main(partial(read_finished, out))
            require_same_run(out, found, facts.identity)
            by_main(partial(remove_state, out))  # a run that was stopped between the checkpoint and this
            return evaluate_run(out, trained, self.features, self.task, facts)
        make_folder(out)
        set_seed(config.training.seed)
        trained = train_network(
            self.new_network(without),
            self.task,
            config.training,
            out,
            identity=facts.identity,
            watch_test=self.watch_test,
            device=self.device,
            progress=progress,
        )
        result = evaluate_run(out, trained, self.features, self.task, facts)
        for warning in result.warnings:
            log.warning("%s: %s", out, warning)
        if process_accelerator().is_main_process:  # of several that train together one writes
            write_result(result, trained, self.features, drop_leaks=self.drop_leaks, init=self.init, report=self.report)
            remove_state(out)
        return result

    def run_seeds(
        self, out: Path, seeds: int, *, without: Sequence[Part] = (), progress: Progress | None = None
    ) -> list[TrainingResult]:
        """Train with the seeds 0, 1, ..., each into its own folder seed-0, seed-1, ...

        Finished runs are read, one that was stopped is gone on with: the same call again does what is left.

        Args:
            out: folder of the runs.
            seeds: how many.
            without: parts to leave out.
            progress: called with epochs done and in all of all runs.

        Returns:
            The results in the order of the seeds.

        Raises:
            TrainingError: as of `run`, or ``seeds`` is not positive.
            CheckpointError: a finished run is damaged.
        """
        if seeds < 1:
            raise TrainingError(f"seeds = {seeds}: expected at least 1")
        return [
            self.run(
                out / f"seed-{seed}",
                seed=seed,
                without=without,
                progress=_part_of(progress, f"seed {seed}", seed, seeds),
            )
            for seed in range(seeds)
        ]

    def ablate(self, out: Path, seeds: int, *, progress: Progress | None = None) -> dict[str, list[TrainingResult]]:
        """Train the full network, the network less each of its parts, and less all of them, all with the same seeds.

        The runs lie in full/seed-0, ..., without-sbi/seed-0, ...; the same call again does what is left.

        Arguments and errors are those of `run_seeds`.

        Returns:
            By the names that `ablations` gives, the results in the order of the seeds.
        """
        results, methods = {}, ablations(self.task.parts)
        for index, (name, without) in enumerate(methods.items()):
            each, folder = _part_of(progress, name, index, len(methods)), out / name.lower().replace(" ", "-")
            results[name] = self.run_seeds(folder, seeds, without=without, progress=each)
        return results

    def new_network(self, without: Sequence[Part] = ()) -> Network:
        """A network to train on these features, less the parts left out.

        It is new, with the standardization of the training split, or starts from a checkpoint and has that one's.

        Raises:
            TrainingError: the task's network has no such part, or the checkpoint's network does not fit.
        """
        network = self.task.network_type(self.model_config())
        clips = self.features.splits["train"]
        if self.texts is not None and isinstance(network, CCLN):
            network = network.with_classes(*self.texts.classes)
            pictures = torch.stack([visual[:, :1, :1] for visual in clips.visual]).float()
            scales = self.texts.visual_scale, self.texts.audio_scale
            network.start_heads(pictures, torch.stack(clips.audio), *scales)
        if without:
            # What is left starts from the full network's weights: runs of one seed then differ in the parts alone.
            full = network.state_dict()
            with torch.device("meta"):
                network = self.task.network_type(self.model_config(without))
            network.load_state_dict(full, strict=False, assign=True)
        if self.init is None:
            network.standardization.learn(torch.stack(clips.audio))
        else:  # which has a standardization of its own
            take_weights(network, self.features.class_names, self.init)
        return network

    def model_config(self, without: Sequence[Part] = ()) -> ModelConfig:
        """Shape of the network for these features, less the parts left out.

        Raises:
            TrainingError: the task's network has no such part.
        """
        require_parts(self.task, without)
        clips = self.features.splits["train"]
        segments, height, width, channels = clips.visual[0].shape
        return ModelConfig(
            height,
            width,
            channels,
            audio_channels=clips.audio[0].shape[-1],
            class_count=clips.class_count,
            segment_count=segments,
            without=tuple(without),
            text_channels=None if self.texts is None else self.texts.classes.visual.shape[1],
            **self.config.model,
        )

    def _facts(self, config: RunConfig, model: ModelConfig) -> RunFacts:
        return RunFacts(
            task=self.task.name,
            data=str(self.data.resolve()),
            seed=config.training.seed,
            class_names=self.features.class_names,
            segments=model.segment_count,
            rows={split: len(clips) for split, clips in self.features.splits.items()},
            without=model.without,
            specification=self.features.specification,
            identity=self._identity(config, model),
            config=config.as_toml(model),
            versions={name: version(name) for name in ("ccln", "torch", "accelerate")},
        )

    def _identity(self, config: RunConfig, model: ModelConfig) -> Identity:
        rows = [
            [split, clip.video_id, clip.label, clip.spans]
            for split, clips in self.features.splits.items()
            for clip in clips.clips
        ]
        tables = {"training": config.training, "loss": config.loss, "model": model}
        return {
            "task": self.task.name,
            "data": hashlib.sha256(json.dumps([rows, len(self.task.clips)]).encode()).hexdigest()[:12],
            "specification": specification_digest(self.features.specification)[:12],
            **{
                f"{name}.{key}": value
                for name, table in tables.items()
                for key, value in asdict(table).items()
                if value or key not in ("text_channels", "other_texts")  # which earlier runs do not name
            },
            "watch_test": self.watch_test,
            **({} if self.init is None else {"init": self.init.weights_sha256}),
        }


def ablations(parts: Sequence[Part]) -> dict[str, tuple[Part, ...]]:
    """What to leave out of a network with these parts, by the name of the method: nothing, each, and all of several."""
    each: dict[str, tuple[Part, ...]] = {f"without {part.upper()}": (part,) for part in parts}
    return {FULL: (), **each, **({"without all": tuple(parts)} if len(parts) > 1 else {})}


def require_parts(task: DatasetTask | type[DatasetTask], without: Sequence[Part]) -> None:
    """Check that the network of a task has the parts that are to be left out.

    Raises:
        TrainingError: it has not.
    """
    lacking = [part for part in without if part not in task.parts]
    if lacking:
        raise TrainingError(
            f"--without {' --without '.join(lacking)}: the network of --task {task.name} has no such part. What can be "
            f"left out of it: {', '.join(task.parts)}."
        )


def _part_of(progress: Progress | None, name: str, index: int, count: int) -> Progress | None:
    """Progress of one of several equally long pieces of work, shown as progress of the whole."""
    if progress is None:
        return None
    # The score comes first: a narrow terminal cuts the end.
    return lambda done, total, note: progress(index * total + done, count * total, f"{note}, {name}" if note else name)
