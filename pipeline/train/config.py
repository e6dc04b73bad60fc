"""What a training run is told, as frozen dataclasses that a TOML file can fill in."""

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ccln.model.config import LossConfig, ModelConfig

# What the features and the data set decide, and `--without`, is nobody's to write into a file.
_FROM_DATA = {"visual_height", "visual_width", "visual_channels", "audio_channels", "class_count", "segment_count"}
_MODEL_KEYS = {f.name for f in fields(ModelConfig)} - _FROM_DATA - {"without"}


class SettingsError(Exception):
    """A config file that says something no run understands; the message names file, key, and the nearest valid one."""


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
    sound_exchange: float = 0.5
    """Probability that a clip which is event throughout takes the sound of such a clip of its class."""
    surrounding: float = 0.3
    """Probability that such a clip takes the background of another around a shorter event."""
    warmup_share: float = 0.125
    """Share of the training in which the learning rate and WCCL's weight rise from zero."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected at least 1")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be above zero")
        for name in ("warmup_share", "sound_exchange", "surrounding"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must lie between 0 and 1")
        if self.seed < 0 or self.weight_decay < 0:
            raise ValueError("seed and weight_decay must not be negative")


@dataclass(frozen=True)
class Settings:
    """Everything a run can be told, resolved."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of ModelConfig that differ from its defaults."""

    def as_toml(self, model: ModelConfig) -> str:
        """The whole config, defaults written out; what the features, the data and the command decided as comments."""
        lines: list[str] = []
        tables = {"model": asdict(model), "training": asdict(self.training), "loss": asdict(self.loss)}
        for name, values in tables.items():
            lines.append(f"[{name}]")
            for key, value in values.items():
                from_data = name == "model" and key not in _MODEL_KEYS
                written = list(value) if isinstance(value, tuple) else value
                lines.append(f"{'# ' if from_data else ''}{key} = {written!r}")
            lines.append("")
        return "\n".join(lines)


def read_settings(path: Path | None) -> Settings:
    """Read a TOML file with any of the tables [model], [training], [loss]; None gives the defaults.

    Raises:
        SettingsError: the file cannot be read, or a table, key or value in it is not understood.
    """
    if path is None:
        return Settings()
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML ({error}).") from error
    resolved = {}
    kinds = {"training": TrainingConfig(), "loss": LossConfig(), "model": ModelConfig(1, 1, 1, 1, 1)}
    _refuse_unknown(path, "table", tables, kinds)
    for name, defaults in kinds.items():
        values = tables.get(name, {})
        if not isinstance(values, dict):
            raise SettingsError(f"{path}: {name} must be a table, written [{name}].")
        known = {key: value for key, value in asdict(defaults).items() if name != "model" or key in _MODEL_KEYS}
        _refuse_unknown(path, f"key of [{name}]", values, known)
        for key, value in values.items():
            wanted = (int, float) if isinstance(known[key], float) else type(known[key])
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise SettingsError(f"{path}: [{name}] {key} = {value!r}, expected something like {known[key]!r}.")
        try:
            resolved[name] = replace(defaults, **values)
        except ValueError as error:
            raise SettingsError(f"{path}: [{name}] {error}.") from error
    return Settings(resolved["training"], resolved["loss"], tables.get("model", {}))


def _refuse_unknown(path: Path, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            raise SettingsError(f"{path}: {name!r} is no {what}; {meant}")
