"""A folder that holds all that localizing needs: weights, config, class names, extractor specification.

`model.safetensors` and `config.json`, the layout of model hubs. Nothing in it is ever executed.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ccln.model.config import ModelConfig
from ccln.model.network import CCLN

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
_FORMAT = 1
_MAX_CONFIG_BYTES = 4 * 2**20


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, or does not fit; the message says which file, why, and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what it was trained on."""

    model: CCLN
    """In evaluation mode, on the CPU."""
    class_names: tuple[str, ...]
    """In label order, background not among them."""
    specification: dict[str, Any]
    """Of the extractors whose features it reads."""
    training: dict[str, Any]
    """How it came about: seed, data, scores, versions; for people, not read back by any code."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write both files, each atomically, the config last: a folder with a config is whole.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.model.state_dict().items()}
    config = {
        "format": _FORMAT,
        "model": asdict(checkpoint.model.config),
        "class_names": list(checkpoint.class_names),
        "specification": checkpoint.specification,
        "training": checkpoint.training,
    }
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        save_file(weights, Path(partial, WEIGHTS_NAME))
        Path(partial, CONFIG_NAME).write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        for name in (WEIGHTS_NAME, CONFIG_NAME):
            os.replace(Path(partial, name), folder / name)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint written by `save_checkpoint`.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are not those that the config describes.
    """
    config_path, weights_path = folder / CONFIG_NAME, folder / WEIGHTS_NAME
    remedy = "Train a model (ccln-train) or name the folder of another run."
    for path in (config_path, weights_path):
        if not path.is_file():
            raise CheckpointError(f"{folder}: is no checkpoint, it has no file {path.name}. {remedy}")
    if config_path.stat().st_size > _MAX_CONFIG_BYTES:
        raise CheckpointError(f"{config_path}: larger than any config ({_MAX_CONFIG_BYTES} bytes). {remedy}")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        if config["format"] != _FORMAT:
            raise CheckpointError(f"{config_path}: format {config['format']!r}, this version reads {_FORMAT}. {remedy}")
        model_config = _model_config(config["model"])
        class_names, specification = tuple(config["class_names"]), config["specification"]
        if not all(isinstance(name, str) for name in class_names) or len(class_names) != model_config.class_count:
            raise ValueError(f"class_names must be {model_config.class_count} strings")
        if not isinstance(specification, dict):
            raise ValueError("specification must be an object")
        weights = load_file(weights_path)
        with torch.device("meta"):  # so that a forged config allocates nothing
            model = CCLN(model_config)
        _check_shapes(model.state_dict(), weights)
        model.load_state_dict(weights, assign=True)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: damaged or not a CCLN checkpoint ({error!r}). {remedy}") from error
    return Checkpoint(model.eval(), class_names, specification, config.get("training", {}))


def _model_config(values: Mapping[str, Any]) -> ModelConfig:
    known = {field.name for field in fields(ModelConfig)}
    if set(values) != known:
        raise ValueError(f"model config differs in {sorted(set(values) ^ known)}")
    return ModelConfig(**values)


def _check_shapes(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    if set(wanted) != set(found):
        raise ValueError(f"weights differ in {sorted(set(wanted) ^ set(found))[:3]}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != wanted[name].dtype:
            raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, expected {tuple(wanted[name].shape)}")
