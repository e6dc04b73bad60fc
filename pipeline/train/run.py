"""Train on cached features, for any task: select on validation, test once, save all that using the network needs."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from ccln.cache import FeatureCache, specification_digest
from ccln.model import ModelConfig, Network, Part
from ccln.pipeline import defaults
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.features import DatasetFeatures, load_features
from ccln.pipeline.train.config import Settings, read_settings
from ccln.pipeline.train.loop import Progress, fit
from ccln.pipeline.train.results import TrainingResult, read_finished, result_of, write_result
from ccln.pipeline.train.run_folder import TrainingError, refuse_other_run, remove_state
from ccln.pipeline.train.sharing import new_run, process_accelerator
from ccln.pipeline.train.trainable import TASKS, TaskName, TrainableTask


def train(
    data: Path | str | None = None,
    *,
    task: TaskName = "supervised",
    cache: Path | str = defaults.CACHE,
    out: Path | str | None = None,
    config: Path | str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    without: Sequence[Part] = (),
    specification: str | None = None,
    drop_leaks: bool = False,
    watch_test: bool = False,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a network and write a run folder.

    The folder gets the checkpoint (`model.safetensors`, `config.json`), `metrics.json`, the resolved `config.toml`,
    `curves.png`, the page `report.html` and TensorBoard's event file. A run that was stopped goes on after its last
    whole epoch when it is started again with the same settings, and ends with the same weights as if it had not been
    stopped.

    Args:
        data: data set: a folder in AVE's layout or a CSV file; if None, the AVE folder in the working folder.
        task: "supervised" trains with the label of every segment; "weak" with the class of the clip alone, and with
            the background-only clips that the data set or the cache has; "cml" for cross-modality localization, on the
            splits of `ccln.pipeline.cml.rows.matching_dataset`.
        cache: feature cache that holds the clips' features.
        out: run folder; made here, must not hold a finished run; if None, a new one in runs/.
        config: TOML file with any of the tables [model], [training], [loss].
        seed: overrides the config's.
        epochs: overrides the config's.
        without: parts to leave out: sbi, fee, wccl; for cross-modality localization there is only wccl.
        specification: first digits of the extractor specification, where the cache holds several for this data.
        drop_leaks: leave out training rows whose video validation or test has, and validation rows whose video test
            has.
        watch_test: also report the score of the epoch that is best on test, for comparison with papers that select
            on test. Nothing else changes: the checkpoint is selected on validation.
        progress: called before the first epoch, and after each.

    Raises:
        TrainingError: ``out`` holds a finished run, or an unfinished one with other settings, the task's network has no
            such part to leave out, or training diverged.
        NothingFoundError: ``data`` is None and there is no telling which data set is meant.
        DatasetError, CacheError, SettingsError: the inputs are not what they must be.
    """
    out = new_run() if out is None else Path(out)
    if _is_finished(out):
        raise TrainingError(f"{out}: holds a finished run already. Choose another --out, or remove that folder.")
    _require_parts(TASKS[task], without)  # before anything is read
    experiment = prepare(
        data,
        task=task,
        cache=cache,
        config=config,
        epochs=epochs,
        specification=specification,
        drop_leaks=drop_leaks,
        watch_test=watch_test,
    )
    return experiment.run(out, seed=seed, without=without, progress=progress)


@dataclass(frozen=True, eq=False)
class Experiment:
    """A data set, a task and settings, ready for runs that differ in their seed and in the parts left out."""

    data: Path
    features: DatasetFeatures
    task: TrainableTask
    settings: Settings
    drop_leaks: bool
    watch_test: bool

    def run(
        self, out: Path, *, seed: int | None = None, without: Sequence[Part] = (), progress: Progress | None = None
    ) -> TrainingResult:
        """Train one network and write its run folder, or read it where it is there already.

        Args:
            out: run folder; an unfinished run in it is gone on with.
            seed: overrides the settings'.
            without: parts to leave out.
            progress: called before the first epoch, and after each.

        Raises:
            TrainingError: ``out`` holds a run with other settings, the task's network has no such part to leave out, or
                training diverged.
        """
        training = self.settings.training if seed is None else replace(self.settings.training, seed=seed)
        settings = replace(self.settings, training=training)
        model_config = self.model_config(without)
        identity = self._identity(settings, model_config)
        if _is_finished(out):
            fitted, found = read_finished(out)
            refuse_other_run(out, found, identity)
            remove_state(out)  # a run that was stopped in the moment between the checkpoint and this
            return result_of(out, fitted, self.features, self.task)
        out.mkdir(parents=True, exist_ok=True)
        set_seed(training.seed)
        fitted = fit(
            self.new_network(without),
            self.task,
            training,
            out,
            identity=identity,
            watch_test=self.watch_test,
            progress=progress,
        )
        result = result_of(out, fitted, self.features, self.task)
        about = {
            "task": self.task.name,
            "data": str(self.data.resolve()),
            "drop_leaks": self.drop_leaks,
            "seed": training.seed,
        }
        if process_accelerator().is_main_process:  # of several that train together one writes
            write_result(result, fitted, self.features, identity, about, settings.as_toml(model_config))
            remove_state(out)
        return result

    def new_network(self, without: Sequence[Part] = ()) -> Network:
        """An untrained network for these features, less the parts left out; it has learnt what is usual in training.

        Raises:
            TrainingError: the task's network has no such part.
        """
        network = self.task.network_type(self.model_config())
        if without:
            # What is left starts from the full network's weights: runs of one seed then differ in the parts alone.
            full = network.state_dict()
            with torch.device("meta"):
                network = self.task.network_type(self.model_config(without))
            network.load_state_dict(full, strict=False, assign=True)
        network.standardization.learn(torch.stack(self.features.splits["train"].audio))
        return network

    def model_config(self, without: Sequence[Part] = ()) -> ModelConfig:
        """Shape of the network for these features, less the parts left out.

        Raises:
            TrainingError: the task's network has no such part.
        """
        _require_parts(self.task, without)
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
            **self.settings.model,
        )

    def _identity(self, settings: Settings, model_config: ModelConfig) -> dict[str, Any]:
        rows = [
            [split, clip.video_id, clip.label, clip.spans]
            for split, clips in self.features.splits.items()
            for clip in clips.clips
        ]
        tables = {"training": settings.training, "loss": settings.loss, "model": model_config}
        return {
            "task": self.task.name,
            "data": hashlib.sha256(json.dumps([rows, len(self.task.clips)]).encode()).hexdigest()[:12],
            "specification": specification_digest(self.features.specification)[:12],
            **{
                f"{name}.{key}": value for name, table in tables.items() for key, value in _plain(asdict(table)).items()
            },
            "watch_test": self.watch_test,
        }


def prepare(
    data: Path | str | None = None,
    *,
    task: TaskName = "supervised",
    cache: Path | str = defaults.CACHE,
    config: Path | str | None = None,
    epochs: int | None = None,
    specification: str | None = None,
    drop_leaks: bool = False,
    watch_test: bool = False,
) -> Experiment:
    """Read the data set and its features once, for one run or many; arguments and errors as of `train`."""
    data = defaults.find_data() if data is None else Path(data)
    settings = read_settings(None if config is None else Path(config))
    if epochs is not None:
        settings = replace(settings, training=replace(settings.training, epochs=epochs))
    dataset, store = TASKS[task].arranged(read_dataset(data)), FeatureCache(cache)
    features = load_features(dataset, store, specification, drop_leaks=drop_leaks)
    made = TASKS[task].prepared(dataset, store, features, settings)
    return Experiment(data, features, made, settings, drop_leaks, watch_test)


def _require_parts(task: TrainableTask | type[TrainableTask], without: Sequence[Part]) -> None:
    lacking = [part for part in without if part not in task.parts]
    if lacking:
        raise TrainingError(
            f"--without {' --without '.join(lacking)}: the network of --task {task.name} has no such part. What can be "
            f"left out of it: {', '.join(task.parts)}."
        )


def _is_finished(out: Path) -> bool:
    return (out / "config.json").exists()


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    """The table as JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(table))
