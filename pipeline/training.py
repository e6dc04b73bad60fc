"""Train CCLN on cached features: select on validation, test once, save a checkpoint that is enough to localize."""

import copy
import importlib.metadata
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate
from torch.utils.tensorboard import SummaryWriter

from ccln.cache import FeatureCache
from ccln.model import CCLN, Checkpoint, LossConfig, ModelConfig, Part, save_checkpoint, supervised_loss
from ccln.pipeline import defaults
from ccln.pipeline.augmentation import exchange_sounds
from ccln.pipeline.datasets import read_dataset
from ccln.pipeline.datasets.annotations import Split
from ccln.pipeline.evaluation import evaluate
from ccln.pipeline.features import DatasetFeatures, LabelledClips, load_features
from ccln.pipeline.metrics import Scores, floors
from ccln.pipeline.settings import Settings, TrainingConfig, read_settings

Progress = Callable[[int, int, str], None]
"""Called with epochs done, epochs in all, and a line on how it goes."""


class TrainingError(Exception):
    """A training run that cannot start or cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split gave."""

    losses: dict[str, float]
    """Mean of each loss over the steps."""
    learning_rate: float
    """At the end of the pass."""
    validation: Scores


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    folder: Path
    test: Scores
    validation: Scores
    best_epoch: int
    """From 1; the one with the highest validation accuracy, the earliest of equals."""
    floors: dict[str, Scores]
    """On the test split."""
    history: tuple[Epoch, ...]
    missing: dict[str, int]
    """Rows without features, by split."""
    dropped: Mapping[Split, int]
    """Rows left out because a later split has their video, by split."""


def train(
    data: Path | str | None = None,
    *,
    cache: Path | str = defaults.CACHE,
    out: Path | str | None = None,
    config: Path | str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    without: Sequence[Part] = (),
    specification: str | None = None,
    drop_leaks: bool = False,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train CCLN with full supervision and write a run folder.

    The folder gets the checkpoint (`model.safetensors`, `config.json`), `metrics.json`, the resolved `config.toml`,
    `curves.png` and TensorBoard's event file.

    Args:
        data: data set: a folder in AVE's layout or a CSV file; if None, the AVE folder in the working folder.
        cache: feature cache that holds the clips' features.
        out: run folder; made here, must not hold a run yet; if None, a new one in runs/.
        config: TOML file with any of the tables [model], [training], [loss].
        seed: overrides the config's.
        epochs: overrides the config's.
        without: parts to leave out: sbi, fee, wccl.
        specification: first digits of the extractor specification, where the cache holds several for this data.
        drop_leaks: leave out training rows whose video validation or test has, and validation rows whose video test
            has.
        progress: called before the first epoch, and after each.

    Raises:
        TrainingError: ``out`` holds a run already, or training diverged.
        NothingFoundError: ``data`` is None and there is no telling which data set is meant.
        DatasetError, CacheError, SettingsError: the inputs are not what they must be.
    """
    data = defaults.find_data() if data is None else Path(data)
    out = defaults.new_run() if out is None else Path(out)
    settings = read_settings(None if config is None else Path(config))
    overrides = {key: value for key, value in (("seed", seed), ("epochs", epochs)) if value is not None}
    training = replace(settings.training, **overrides)
    features = load_features(read_dataset(data), FeatureCache(cache), specification, drop_leaks=drop_leaks)
    shape = features.splits["train"].visual[0].shape  # (T, H, W, C)
    model_config = ModelConfig(
        *shape[1:],
        audio_channels=features.splits["train"].audio[0].shape[-1],
        class_count=len(features.class_names),
        segment_count=shape[0],
        without=tuple(without),
        **settings.model,
    )
    if (out / "config.json").exists():
        raise TrainingError(f"{out}: holds a finished run already. Choose another --out, or remove that folder.")
    out.mkdir(parents=True, exist_ok=True)
    resolved = Settings(training, settings.loss, settings.model)
    (out / "config.toml").write_text(resolved.as_toml(model_config), encoding="utf-8")
    set_seed(training.seed)
    fitted = fit(CCLN(model_config), features, training, settings.loss, out, progress)
    return _finish(out, fitted, features, training)


@dataclass(frozen=True)
class Fitted:
    """The network of the best validation epoch, and how it got there."""

    model: nn.Module
    best_epoch: int
    history: tuple[Epoch, ...]


def fit(
    model: nn.Module,
    features: DatasetFeatures,
    training: TrainingConfig,
    loss: LossConfig,
    log_folder: Path,
    progress: Progress | None = None,
) -> Fitted:
    """Train a network on the training split and keep the epoch that does best on validation; test is never touched.

    Args:
        model: maps (visual, audio) to a `ccln.model.Output`.
        features: the data set.
        training: how.
        loss: on what.
        log_folder: where TensorBoard's event file goes.
        progress: called before the first epoch, and after each.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    accelerator = Accelerator()
    clips: LabelledClips = features.splits["train"]
    order = torch.Generator().manual_seed(training.seed)

    def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch = default_collate(items)
        audio = exchange_sounds(batch["audio"], batch["event"], batch["label"], training.sound_exchange, order)
        return {**batch, "audio": audio}

    loader = DataLoader(clips, training.batch_size, shuffle=True, generator=order, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    total_steps = training.epochs * len(loader)
    warm_steps = max(1, round(training.warmup_share * total_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, warm_steps, total_steps))
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    history: list[Epoch] = []
    best_accuracy, best_epoch, best_weights = -1.0, 0, {}
    step = 0
    if progress is not None:
        progress(0, training.epochs, "")
    with SummaryWriter(str(log_folder)) as board:
        for number in range(1, training.epochs + 1):
            model.train()
            sums: dict[str, float] = {}
            for batch in loader:
                output = model(batch["visual"].float(), batch["audio"])
                warmth = min(1.0, step / warm_steps)
                losses = supervised_loss(output, batch["event"], batch["label"], loss, warmth)
                if not torch.isfinite(losses["total"]):
                    raise TrainingError(
                        f"the loss is {losses['total'].item()} in epoch {number}. Lower learning_rate in [training]."
                    )
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(losses["total"])
                accelerator.clip_grad_norm_(model.parameters(), training.gradient_clip)
                optimizer.step()
                schedule.step()
                step += 1
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value.item() / len(loader)
            network = accelerator.unwrap_model(model)
            epoch = Epoch(sums, float(schedule.get_last_lr()[0]), evaluate(network, features.splits["validation"]))
            history.append(epoch)
            _log(board, number, epoch)
            if epoch.validation.segment_accuracy > best_accuracy:
                best_accuracy, best_epoch = epoch.validation.segment_accuracy, number
                best_weights = copy.deepcopy(network.state_dict())
            if progress is not None:
                progress(
                    number,
                    training.epochs,
                    f"loss {sums['total']:.3f}, validation {100 * epoch.validation.segment_accuracy:.1f} % "
                    f"(best {100 * best_accuracy:.1f} % in epoch {best_epoch})",
                )
    network = accelerator.unwrap_model(model)
    network.load_state_dict(best_weights)
    return Fitted(network.eval(), best_epoch, tuple(history))


def _warm_cosine(step: int, warm_steps: int, total_steps: int) -> float:
    """Learning rate as a share of its highest: up in a line, then down a half cosine to zero."""
    if step < warm_steps:
        return (step + 1) / warm_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warm_steps) / max(1, total_steps - warm_steps)))


def _log(board: SummaryWriter, number: int, epoch: Epoch) -> None:
    for name, value in epoch.losses.items():
        board.add_scalar(f"loss/{name}", value, number)
    for name, value in epoch.validation.as_dict().items():
        if value is not None and name != "clips":
            board.add_scalar(f"validation/{name}", value, number)
    board.add_scalar("learning_rate", epoch.learning_rate, number)


def _finish(out: Path, fitted: Fitted, features: DatasetFeatures, training: TrainingConfig) -> TrainingResult:
    """Test once, then write scores, curves and, last of all, the checkpoint."""
    from ccln.pipeline.plots import plot_curves

    test, train_clips = features.splits["test"], features.splits["train"]
    result = TrainingResult(
        folder=out,
        test=evaluate(fitted.model, test),
        validation=fitted.history[fitted.best_epoch - 1].validation,
        best_epoch=fitted.best_epoch,
        floors=floors(train_clips.segment_labels, test.segment_labels, test.class_count, test.class_labels),
        history=fitted.history,
        missing={split: len(clips.missing) for split, clips in features.splits.items()},
        dropped=features.dropped,
    )
    metrics: dict[str, Any] = {
        "test": result.test.as_dict(),
        "validation": result.validation.as_dict(),
        "floors": {name: scores.as_dict() for name, scores in result.floors.items()},
        "best_epoch": result.best_epoch,
        "missing": result.missing,
        "dropped": dict(result.dropped),
        "history": [
            {"losses": epoch.losses, "learning_rate": epoch.learning_rate, "validation": epoch.validation.as_dict()}
            for epoch in result.history
        ],
    }
    _write_text(out / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    plot_curves(result.history, result.best_epoch, out / "curves.png")
    about = {
        "seed": training.seed,
        "best_epoch": result.best_epoch,
        "test": metrics["test"],
        "validation": metrics["validation"],
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {name: importlib.metadata.version(name) for name in ("ccln", "torch", "accelerate")},
    }
    assert isinstance(fitted.model, CCLN)
    save_checkpoint(out, Checkpoint(fitted.model, features.class_names, features.specification, about))
    return result


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
