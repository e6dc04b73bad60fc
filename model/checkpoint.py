"""A folder that holds all that using a network needs: weights, config, class names, specification, decoding.

`model.safetensors` and `config.json`, the layout of model hubs. Nothing in it is ever executed. The config holds the
weights' sha256, so that files of two checkpoints are never taken for one.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ccln.model.config import ModelConfig
from ccln.model.event_decoding import EventDecoding
from ccln.model.matching import MatchingNetwork
from ccln.model.network import CCLN

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
MAX_CONFIG_BYTES = 16 * 2**20
"""An account of the training may name a million clips."""
_FORMAT = 2
_MAX_HEADER_BYTES = 2**20  # what a safetensors file holds beside the numbers themselves

Network = CCLN | MatchingNetwork
"""What a checkpoint may hold."""

NetworkType = type[CCLN] | type[MatchingNetwork]

_NETWORKS: Mapping[str, NetworkType] = {"ccln": CCLN, "matching": MatchingNetwork}


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, or does not fit; the message says which file, why, and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what it was trained on."""

    model: Network
    """In evaluation mode, on the CPU."""
    class_names: tuple[str, ...]
    """In label order, background not among them."""
    specification: dict[str, Any]
    """Of the extractors whose features it reads."""
    training: dict[str, Any]
    """How it came about: task, seed, data, rows, scores, versions; anyone may have written it, as all of this."""
    decoding: EventDecoding = field(default_factory=EventDecoding)
    """How its predictions become events."""
    weights_sha256: str = ""
    """Of the weights file that it was loaded from."""


def save_checkpoint(folder: Path | str, checkpoint: Checkpoint) -> None:
    """Write both files, each atomically, the config last: a writer stopped midway leaves nothing that loads wrongly.

    From then on the network knows this checkpoint (`model.checkpoint`).

    Raises:
        OSError: the folder cannot be written.
        ValueError: the specification or the account of the training holds NaN or infinity.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = checkpoint_files(checkpoint)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        for name, data in files.items():
            Path(partial, name).write_bytes(data)
            os.replace(Path(partial, name), folder / name)
    checkpoint.model.checkpoint = checkpoint


def checkpoint_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """What the files of a checkpoint hold, by name, in the order in which they are to be written.

    Raises:
        ValueError: the specification or the account of the training holds NaN or infinity.
    """
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.model.state_dict().items()})
    config = {
        "format": _FORMAT,
        "network": next(name for name, kind in _NETWORKS.items() if isinstance(checkpoint.model, kind)),
        "model": asdict(checkpoint.model.config),
        "class_names": list(checkpoint.class_names),
        "specification": checkpoint.specification,
        "training": checkpoint.training,
        "decoding": asdict(checkpoint.decoding),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    return {WEIGHTS_NAME: weights, CONFIG_NAME: text.encode()}


def load_checkpoint(folder: Path | str) -> Checkpoint:
    """Read a checkpoint written by `save_checkpoint`; its network knows it (`model.checkpoint`).

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are not those that the config describes.
    """
    folder = Path(folder)
    config, model, decoding = _read_config(folder)
    with _blaming(folder / WEIGHTS_NAME) as path:
        data = _read(path, _weights_limit_bytes(model))
        if hashlib.sha256(data).hexdigest() != config["weights_sha256"]:
            raise ValueError(f"its sha256 is not the one in {CONFIG_NAME}")
        weights = load(data)
        _check_weights(model.state_dict(), weights)
        model.load_state_dict(weights, assign=True)
    class_names = tuple(config["class_names"])
    checkpoint = Checkpoint(
        model.eval(), class_names, config["specification"], config["training"], decoding, config["weights_sha256"]
    )
    model.checkpoint = checkpoint
    return checkpoint


def weights_limit_bytes(folder: Path) -> int:
    """The largest file that can hold the weights of the network that the config in ``folder`` describes.

    Raises:
        CheckpointError: the config is missing or damaged.
    """
    return _weights_limit_bytes(_read_config(folder)[1])


def _read_config(folder: Path) -> tuple[dict[str, Any], Network, EventDecoding]:
    """The config, and by it the network, without any numbers, and the decoding."""
    with _blaming(folder / CONFIG_NAME) as path:
        config = _parse_config(_read(path, MAX_CONFIG_BYTES))
        with torch.device("meta"):  # so that a forged config allocates nothing
            model = _NETWORKS[config["network"]](ModelConfig(**config["model"]))
        if len(config["class_names"]) != model.config.class_count:
            raise ValueError(f"{len(config['class_names'])} class names for {model.config.class_count} classes")
        return config, model, EventDecoding(**config["decoding"])


def _weights_limit_bytes(model: Network) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values()) + _MAX_HEADER_BYTES


@contextmanager
def _blaming(path: Path) -> Iterator[Path]:
    """Whatever is wrong with a file that nobody vouches for becomes one CheckpointError that names it."""
    try:
        yield path
    except (ValueError, TypeError, OverflowError, MemoryError, RuntimeError, SafetensorError, OSError) as error:
        reason = str(error)[:300] or type(error).__name__
        remedy = "Train a model (ccln-train) or name the folder of another run."
        raise CheckpointError(f"{path}: no usable part of a checkpoint: {reason}. {remedy}") from error


def _read(path: Path, limit_bytes: int) -> bytes:
    if not path.is_file():  # opening a pipe would wait for ever
        raise ValueError("there is no such file")
    if path.stat().st_size > limit_bytes:
        raise ValueError(f"it is larger than the {limit_bytes} bytes that are possible here")
    return path.read_bytes()


def _parse_config(data: bytes) -> dict[str, Any]:
    config = json.loads(data.decode(), parse_constant=_refuse_constant)
    found = config.get("format") if isinstance(config, dict) else None
    if found == 1:
        raise ValueError(f"it is of format 1, and this version reads format {_FORMAT}: train again with this version")
    if found != _FORMAT:
        raise ValueError(f"it is no config of format {_FORMAT}, the one that this version reads")
    known = {
        "format": int,
        "network": str,
        "model": dict,
        "class_names": list,
        "specification": dict,
        "training": dict,
        "decoding": dict,
        "weights_sha256": str,
    }
    _check_names("it", known, config)
    for name, kind in known.items():
        if not isinstance(config[name], kind):
            raise ValueError(f"{name} must be of type {kind.__name__}")
    if config["network"] not in _NETWORKS:
        raise ValueError(f"network = {config['network']!r:.30}: this version has {', '.join(_NETWORKS)}")
    for name, kind in (("model", ModelConfig), ("decoding", EventDecoding)):
        _check_names(name, {field.name for field in fields(kind)}, config[name])
    if not all(isinstance(name, str) for name in config["class_names"]):
        raise ValueError("class_names must be strings")
    return config


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_names(what: str, wanted: Collection[str], found: Collection[str]) -> None:
    different = sorted(set(wanted) ^ set(found))
    if different:
        raise ValueError(f"{what} lacks, or should not have: {', '.join(different[:3])}")


def _check_weights(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    _check_names("it", wanted, found)
    for name, tensor in found.items():
        shape = wanted[name].shape
        if tensor.shape != shape or tensor.dtype != wanted[name].dtype:
            raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, expected {tuple(shape)}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or infinity")
