"""The config of a training run, and the TOML file that it is read from and written to."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ccln.model.config import LossConfig, ModelConfig

# The features and the data set decide these, and the command decides `without`: no file does.
_FROM_DATA: Mapping[str, Any] = dict.fromkeys(
    (
        *("visual_height", "visual_width", "visual_channels", "audio_channels", "class_count", "segment_count"),
        *("text_channels", "other_texts"),
    ),
    1,
)


def _names(kind: type) -> list[str]:
    return [key.name for key in fields(kind)]


MODEL_KEYS = [name for name in _names(ModelConfig) if name not in {*_FROM_DATA, "without"}]
"""What the table [model] may hold."""


class ConfigError(Exception):
    """A config file that cannot be used; the message names the file, the key, and the nearest valid one."""


@dataclass(frozen=True)
class TrainingConfig:
    """How the network is trained."""

    seed: int = 0
    """Of weights, order of clips, dropout and noise."""
    epochs: int = 30
    """Passes over the training split."""
    batch_size: int = 64
    """Clips in a step."""
    learning_rate: float = 1.5e-3
    """AdamW's highest; reached after the warm-up, then lowered along a cosine."""
    weight_decay: float = 0.05
    """AdamW's."""
    gradient_clip: float = 0.5
    """Largest norm of a step's gradient."""
    audio_exchange: float = 0.5
    """Probability that a clip which is event throughout takes the audio of such a clip of its class."""
    surrounding: float = 0.3
    """Probability that such a clip takes the background of another around a shorter event."""
    mismatch: float = 0.3
    """Probability that a clip has the audio of another class laid over some of its seconds, which are then background.
    """
    warmup_share: float = 0.125
    """Share of the training in which the learning rate and WCCL's weight rise from zero."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected at least 1")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be above zero")
        for name in ("warmup_share", "audio_exchange", "surrounding", "mismatch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must lie between 0 and 1")
        if self.seed < 0 or not self.weight_decay >= 0:
            raise ValueError("seed and weight_decay must not be negative")


@dataclass(frozen=True)
class RunConfig:
    """All that a config file decides."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    model: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ModelConfig that differ from its defaults."""

    def with_training(self, **values: int | float | None) -> "RunConfig":
        """The config with other values in [training], where these are not None."""
        given = {name: value for name, value in values.items() if value is not None}
        return replace(self, training=replace(self.training, **given))

    def as_toml(self, model: ModelConfig) -> str:
        """The whole config, defaults written out; what the features, the data and the command decided as comments."""
        lines: list[str] = []
        tables = {"model": asdict(model), "training": asdict(self.training), "loss": asdict(self.loss)}
        for name, values in tables.items():
            lines.append(f"[{name}]")
            for key, value in values.items():
                from_data = name == "model" and key not in MODEL_KEYS
                written = list(value) if isinstance(value, tuple) else value
                lines.append(f"{'# ' if from_data else ''}{key} = {written!r}")
            lines.append("")
        return "\n".join(lines)


def read_config(path: Path | str | None) -> RunConfig:
    """Read a TOML file with any of the tables [model], [training], [loss]; None gives the defaults.

    Raises:
        ConfigError: the file cannot be read, or a table, key or value in it is not valid.
    """
    if path is None:
        return RunConfig()
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML ({error}).") from error
    _refuse_unknown(path, "table", tables, ("model", "training", "loss"))
    training = _convert(path, "training", tables, TrainingConfig, _names(TrainingConfig), {})
    loss = _convert(path, "loss", tables, LossConfig, _names(LossConfig), {})
    _convert(path, "model", tables, ModelConfig, MODEL_KEYS, _FROM_DATA)  # to validate it
    return RunConfig(training, loss, tables.get("model", {}))


_Table = TypeVar("_Table")


def _convert(
    path: Path,
    name: str,
    tables: Mapping[str, Any],
    kind: type[_Table],
    keys: Iterable[str],
    given: Mapping[str, Any],
) -> _Table:
    """One table as a dataclass, of which the file may have the keys; the given fields are added."""
    values = tables.get(name, {})
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: {name} must be a table, written [{name}].")
    _refuse_unknown(path, f"key of [{name}]", values, keys)
    try:
        return msgspec.convert({**given, **values}, kind, strict=True)
    except msgspec.ValidationError as error:
        problem, _, key = str(error).rstrip("`").partition(" - at `$.")
        value = f"{key} = {values[key]!r}: " if key in values else ""
        raise ConfigError(f"{path}: [{name}] {value}{problem}.") from error


def _refuse_unknown(path: Path, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            raise ConfigError(f"{path}: {name!r} is no {what}; {meant}")
