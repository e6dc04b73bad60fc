"""A folder that holds all that using a network needs: weights, config, class names, specification, decoding.

`model.safetensors` and `config.json`, the layout of model hubs. Nothing in it is ever executed. The config holds the
weights' sha256, so that files of two checkpoints are never taken for one.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ccln.files import write_whole
from ccln.model.config import EventDecoding, ModelConfig
from ccln.strict_json import strict_json

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
MAX_CONFIG_BYTES = 16 * 2**20
"""An account of the training may name a million clips."""
_FORMAT = 7
_LATER_FIELDS: dict[str, Any] = {"text_channels": None, "other_texts": 0}
"""Of the network's config, with what they are where they are not written: earlier releases know only such networks."""
_MAX_HEADER_BYTES = 2**20  # what a safetensors file holds beside the numbers themselves


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, or does not fit; the message names the file, the cause and the remedy."""


class Network(nn.Module):
    """A network that checkpoints may hold: made from a config, with a name for its kind in `config.json`."""

    kinds: ClassVar[dict[str, type["Network"]]] = {}
    """By those names. The classes enter themselves, so that they may import this module."""
    kind: ClassVar[str]
    localizes: ClassVar[bool] = False
    """Whether it finds events; else it serves cross-modality localization."""

    def __init_subclass__(cls, kind: str | None = None) -> None:
        super().__init_subclass__()
        if kind is not None:
            cls.kind = kind
            Network.kinds[kind] = cls

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._loaded: Mapping[str, Any] | None = None

    @property
    def checkpoint(self) -> "Checkpoint":
        """The network with all that is known of it: what it was last loaded from or saved as.

        Training it further changes its weights and nothing else of this; a new account of the training becomes known by
        `save_checkpoint`.

        Raises:
            CheckpointError: the network was never loaded nor saved.
        """
        if self._loaded is None:
            raise CheckpointError(
                "this network was never loaded nor saved, so its classes and extractors are not known: load one "
                "(from_pretrained), or save this one first: save_checkpoint(folder, Checkpoint(network, ...))"
            )
        return Checkpoint(self, **self._loaded)

    @checkpoint.setter
    def checkpoint(self, checkpoint: "Checkpoint") -> None:
        """Set by loading and saving."""
        # Less the network: one that holds itself keeps its memory until the garbage collector finds it.
        self._loaded = {name: value for name, value in vars(checkpoint).items() if name != "model"}


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
    """How it was trained: task, seed, data, rows, scores, versions; like all of this, anyone may have written it."""
    decoding: EventDecoding = field(default_factory=EventDecoding)
    """How its output is decoded into events."""
    weights_sha256: str = field(default="", compare=False)
    """Of the weights file that it was loaded from or saved to."""


class _Config(msgspec.Struct, forbid_unknown_fields=True):
    """`config.json`."""

    format: Literal[2, 3, 6, 7]
    network: str
    model: dict[str, Any]
    class_names: tuple[str, ...]
    specification: dict[str, Any]
    training: dict[str, Any]
    decoding: dict[str, Any]
    weights_sha256: str
    config_sha256: str = ""
    """Of the other fields; releases that did not write it left it out."""

    @classmethod
    def sealed(cls, **fields: Any) -> "_Config":
        """A config with its digest.

        Raises:
            ValueError: a field holds NaN or infinity.
        """
        return cls(**fields, config_sha256=_config_digest(fields))


def save_checkpoint(folder: Path | str, checkpoint: Checkpoint) -> None:
    """Write both files, each atomically, the config last: a writer stopped midway leaves nothing that loads wrongly.

    From then on it is the network's `checkpoint`.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the specification or the account of the training holds NaN or infinity.
    """
    files = checkpoint_files(checkpoint)
    for name, data in files.items():
        write_whole(Path(folder, name), data)
    checkpoint.model.checkpoint = replace(checkpoint, weights_sha256=_sha256(files[WEIGHTS_NAME]))


def checkpoint_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Contents of the files of a checkpoint by name, in the order in which they are to be written.

    Raises:
        ValueError: the specification or the account of the training holds NaN or infinity.
    """
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.model.state_dict().items()})
    config = _Config.sealed(
        format=_FORMAT,
        network=checkpoint.model.kind,
        model={
            name: value
            for name, value in asdict(checkpoint.model.config).items()
            if name not in _LATER_FIELDS or value != _LATER_FIELDS[name]
        },
        class_names=checkpoint.class_names,
        specification=checkpoint.specification,
        training=checkpoint.training,
        decoding=asdict(checkpoint.decoding),
        weights_sha256=_sha256(weights),
    )
    text = json.dumps(msgspec.structs.asdict(config), indent=2, allow_nan=False) + "\n"
    return {WEIGHTS_NAME: weights, CONFIG_NAME: text.encode()}


def load_checkpoint(folder: Path | str) -> Checkpoint:
    """Read a checkpoint written by `save_checkpoint`; it is then the network's `checkpoint`.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are not those that the config describes.
    """
    folder = Path(folder)
    if os.path.isfile(folder):  # Path.is_file raises where the name is too long
        raise CheckpointError(
            f"{folder}: is a file, and a checkpoint is a run folder, which holds {CONFIG_NAME} and {WEIGHTS_NAME}. "
            "Name the folder that ccln-train made."
        )
    config, model, decoding = _read_config(folder)
    with _named_in_errors(folder / WEIGHTS_NAME) as path:
        data = _read(path, _weights_limit_bytes(model))
        if _sha256(data) != config.weights_sha256:
            raise ValueError(f"its sha256 is not the one in {CONFIG_NAME}")
        weights = load(data)
        if config.format == 2:
            weights = {".".join(map(_new_name, name.split("."))): tensor for name, tensor in weights.items()}
        if config.format < _FORMAT:
            weights = _added_later(model.state_dict()) | weights
        _check_weights(model.state_dict(), weights)
        model.load_state_dict(weights, assign=True)
    checkpoint = Checkpoint(
        model.eval(), config.class_names, config.specification, config.training, decoding, config.weights_sha256
    )
    model.checkpoint = checkpoint
    return checkpoint


def weights_limit_bytes(folder: Path) -> int:
    """The largest file that can hold the weights of the network that the config in ``folder`` describes.

    Raises:
        CheckpointError: the config is missing or damaged.
    """
    return _weights_limit_bytes(_read_config(folder)[1])


def _read_config(folder: Path) -> tuple[_Config, Network, EventDecoding]:
    """The config, and by it the network, without any numbers, and the decoding."""
    with _named_in_errors(folder / CONFIG_NAME) as path:
        config = _parse_config(_read(path, MAX_CONFIG_BYTES))
        kind = Network.kinds.get(config.network)
        if kind is None:
            raise ValueError(f"network = {config.network!r:.30}: this version has {', '.join(Network.kinds)}")
        shape = _LATER_FIELDS | config.model
        _check_names("model", ModelConfig.__dataclass_fields__, shape)
        _check_names("decoding", EventDecoding.__dataclass_fields__, config.decoding)
        with torch.device("meta"):  # so that a forged config allocates nothing
            model = kind(ModelConfig(**shape))
        if len(config.class_names) != model.config.class_count:
            raise ValueError(f"{len(config.class_names)} class names for {model.config.class_count} classes")
        decoding = EventDecoding(**config.decoding)
        if config.config_sha256 and config.config_sha256 != _config_digest(msgspec.structs.asdict(config)):
            raise ValueError("its content is not what was written (config_sha256 differs)")
        return config, model, decoding


def _parse_config(data: bytes) -> _Config:
    # Not by msgspec: its parser names no field where a number is out of range.
    config = strict_json(data.decode())
    found = config.get("format") if isinstance(config, dict) else None
    if found in (1, 4, 5):  # the networks of 4 and 5 compared what is seen and heard by another formula
        raise ValueError(
            f"it is of format {found}, and this version reads format {_FORMAT}: train again with this version"
        )
    if found not in (2, 3, 6, _FORMAT):
        raise ValueError(f"it is no config of format {_FORMAT}, the one that this version reads")
    if found == 2:
        config = _renamed(config)
    if found < 6 and isinstance(config.get("decoding"), dict):
        config["decoding"].setdefault("class_threshold", 0.0)  # which knows every class, as networks did
    return msgspec.convert(config, _Config)


_RENAMED = {
    "reading": "decoding",
    "shortest_event_seconds": "minimum_duration_seconds",
    "backbones": "members",
    "picture_norm": "visual_norm",
    "heard_head": "audio_head",
    "seen_head": "visual_head",
    "anchors": "prototypes",
}
"""Names of format 2, in the config and in the dotted names of weights, and what they are called in format 3."""


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    """A config of format 2 under the names of format 3; nothing else is different."""
    config = {_new_name(name): value for name, value in config.items()}
    for table in ("model", "decoding"):
        if isinstance(config.get(table), dict):
            config[table] = {_new_name(name): value for name, value in config[table].items()}
    return config


def _added_later(wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What networks have beyond those of earlier formats; zeros change nothing of what a network computes."""
    added = ("gate_agreement", "event_agreement", "event_shift", "event_smoothing")
    return {name: torch.zeros(value.shape) for name, value in wanted.items() if name.split(".")[-1] in added}


def _config_digest(fields: Mapping[str, Any]) -> str:
    others = {name: value for name, value in fields.items() if name != "config_sha256"}
    return _sha256(json.dumps(others, sort_keys=True, allow_nan=False).encode())


def _new_name(name: str) -> str:
    return _RENAMED.get(name, name)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _weights_limit_bytes(model: Network) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values()) + _MAX_HEADER_BYTES


@contextmanager
def _named_in_errors(path: Path) -> Iterator[Path]:
    """Whatever is wrong with a file that comes from outside becomes one CheckpointError that names it."""
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


def _check_names(what: str, wanted: Collection[str], found: Collection[str]) -> None:
    different = sorted(set(wanted) ^ set(found))
    if different:
        raise ValueError(f"{what} lacks, or should not have: {', '.join(different[:3])}")


def _check_weights(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    _check_names("it", wanted, found)
    for name, tensor in found.items():
        shape = wanted[name].shape
        if tensor.shape != shape or tensor.dtype != wanted[name].dtype:
            raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, expected {tuple(shape)}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or infinity")
