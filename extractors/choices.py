"""What a preset is made of: every choice that decides a feature's value, as pure data that goes to JSON and back."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from ccln.extractors.contract import SEGMENT_SECONDS, ExtractorError

_Choice = TypeVar("_Choice", bound="VisualChoice | MelChoice | AudioChoice | Preset")
Triple = tuple[float, float, float]


DECODING_REVISION = 1
"""Raised whenever the same file comes to give other pixels or samples, so that old features are not taken for new."""


@dataclass(frozen=True)
class VisualChoice:
    """Everything that decides a visual feature's value, but for the frames and the weights."""

    name: str
    """The network's name in the registry."""
    layer: str
    """Where in the network the map is taken."""
    frame_height: int
    """Pixels."""
    frame_width: int
    """Pixels."""
    resize: str
    """How a picture comes to that size; "stretch" does not keep its aspect (the AVE field's recipe)."""
    interpolation: str
    """The filter of that resizing: "bilinear" or "bicubic", which widen with the scale and so do not alias, or
    "opencv-linear", which mixes the nearest 2 x 2 pixels at any scale, as OpenCV's INTER_LINEAR does."""
    mean: Triple
    """Subtracted from RGB on the scale 0..1. Always in the order red, green, blue, whatever the channel order."""
    std: Triple
    """Divides RGB on the scale 0..1, after the mean; red, green, blue likewise."""
    channel_order: str
    """The order in which the network gets the normalised channels: "rgb" or "bgr"."""
    pooling: str
    """How the maps of a segment's frames become one."""
    precision: str
    """The arithmetic of the network: "float32" or "bfloat16". The features are float32 either way."""

    def __post_init__(self) -> None:
        _require("frame_height", self.frame_height, 1, 1024)
        _require("frame_width", self.frame_width, 1, 1024)
        for mean, std in zip(self.mean, self.std, strict=True):
            _require("mean", mean, 0, 1)
            _require("std", std, 1e-3, 1)
        _require_one_of("resize", self.resize, "stretch")
        _require_one_of("interpolation", self.interpolation, "bilinear", "bicubic", "opencv-linear")
        _require_one_of("channel_order", self.channel_order, "rgb", "bgr")
        _require_one_of("pooling", self.pooling, "mean")
        _require_one_of("precision", self.precision, "float32", "bfloat16")


@dataclass(frozen=True)
class MelChoice:
    """A log-mel front end: magnitudes of windowed frames, summed in mel bands, then the natural logarithm."""

    seconds_used: float
    """How much of each segment is used, from its start: this many seconds of hops, or as many as the segment holds."""
    window_seconds: float
    """Length of the periodic Hann window."""
    hop_seconds: float
    """From the start of one window to the next."""
    bands: int
    low_hz: float
    """Where the lowest band begins."""
    high_hz: float
    """Where the highest band ends."""
    log_offset: float
    """Added to a band's magnitude before the logarithm."""

    def __post_init__(self) -> None:
        _require("seconds_used", self.seconds_used, self.hop_seconds, SEGMENT_SECONDS)
        _require("window_seconds", self.window_seconds, 0.001, SEGMENT_SECONDS)
        _require("hop_seconds", self.hop_seconds, 0.001, self.window_seconds)
        _require("bands", self.bands, 1, 512)
        _require("low_hz", self.low_hz, 0, self.high_hz)
        _require("high_hz", self.high_hz, 1, 192_000 / 2)
        _require("log_offset", self.log_offset, 1e-9, 1)


@dataclass(frozen=True)
class AudioChoice:
    """Everything that decides an audio feature's value, but for the waveform and the weights. Always float32."""

    name: str
    """The extractor's name in the registry."""
    sample_rate_hz: int
    mel: MelChoice | None
    """The front end, or None where the network takes the waveform itself."""
    output: str
    """Which numbers become the feature."""

    def __post_init__(self) -> None:
        _require("sample_rate_hz", self.sample_rate_hz, 1000, 192_000)
        if self.mel:
            _require("high_hz", self.mel.high_hz, 1, self.sample_rate_hz / 2)


@dataclass(frozen=True)
class Preset:
    """A pair of extractors with every choice written out. Two presets are equal if their choices are."""

    name: str = field(compare=False)
    frames_per_segment: int
    frame_at: float
    """When a frame is taken: frame i of n is the one on display (i + frame_at) / n seconds into its segment, so that
    0 takes each n-th of a second at its start and 0.5 at its middle. Below 1."""
    decoder: str
    """Which library decodes the video: "pyav" or "decord"."""
    decoding_revision: int
    """The `DECODING_REVISION` that the features were made with."""
    visual: VisualChoice
    audio: AudioChoice

    def __post_init__(self) -> None:
        _require("frames_per_segment", self.frames_per_segment, 1, 60)
        _require("frame_at", self.frame_at, 0, math.nextafter(1, 0))
        _require_one_of("decoder", self.decoder, "pyav", "decord")
        if self.decoding_revision != DECODING_REVISION:
            raise ExtractorError(
                f"the features were made with decoding revision {self.decoding_revision}, this version decodes as "
                f"revision {DECODING_REVISION}: extract them again, and train again"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the preset as plain JSON values; `from_json` is the way back."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, value: Any) -> "Preset":
        """Read what `to_json` wrote.

        Raises:
            ExtractorError: a field is missing, unknown, of the wrong type or out of range.
        """
        return _read(cls, value, "preset")


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ExtractorError(f"{name} is {value}, but has to lie in {low:g}..{high:g}")


def _require_one_of(name: str, value: str, *known: str) -> None:
    if value not in known:
        raise ExtractorError(f"{name} is {value!r}, but has to be {' or '.join(known)}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _read(kind: type[_Choice], value: Any, where: str) -> _Choice:
    """Build a choice from JSON values, each field checked against its annotation: a checkpoint is not to be trusted."""
    names = [part.name for part in fields(kind)]
    if not isinstance(value, dict) or set(value) != set(names):
        got = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise ExtractorError(f"{where} has to have exactly the fields {', '.join(names)}, but is {got}")
    hints = get_type_hints(kind)
    return kind(**{name: _read_field(hints[name], value[name], f"{where}.{name}") for name in names})


def _read_field(hint: Any, value: Any, where: str) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (VisualChoice, AudioChoice):
        return _read(hint, value, where)
    if hint == MelChoice | None:
        return None if value is None else _read(MelChoice, value, where)
    if hint is str and isinstance(value, str):
        return value
    if hint is int and is_number and isinstance(value, int):
        return value
    if hint is float and is_number:
        return float(value)
    if hint == Triple and isinstance(value, list | tuple) and len(value) == 3:
        return tuple(_read_field(float, part, where) for part in value)
    raise ExtractorError(f"{where} is {value!r}, which is not of the type wanted")
