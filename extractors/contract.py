"""What every extractor takes and gives, and the choices that decide a feature's value.

    frames    uint8 RGB   (segment, frame, height, width, 3)   ->  visual  float32  (segment, height, width, channel)
    waveform  float32     (sample,), mono, segments x rate      ->  audio   float32  (segment, channel)

A segment is one second. Each frame passes through a network on its own; the resulting maps of a segment are averaged.
Features of a clip depend on nothing but that clip and the specification: no state is kept between calls.

Choices are pure data that goes to JSON and back; `Preset.from_json` checks every type and range.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from torch import nn

SEGMENT_SECONDS = 1
DECODING_REVISION = 1
"""Raised whenever the same file comes to give other pixels or samples, so that old features are not taken for new."""
DECODING_RULES = 2
"""The edition of the rules of decoding within that revision: raised when the few files of some kind come to give other
pixels or samples, and all others the same. Entries of the cache state it; where it is older, extraction looks again."""
TIMM_PREFIX = "timm:"
TORCHAUDIO_PREFIX = "torchaudio:"
HUB_PREFIX = "hf:"

_AUDIO_TRACK = re.compile(r"[1-9][0-9]{0,3}|[a-z]{2,8}(-[a-z0-9]{1,8})*")  # "mix" is one of the words

_Pixels = Annotated[int, Meta(ge=1, le=1024)]
_Mean = Annotated[float, Meta(ge=0, le=1)]
_Std = Annotated[float, Meta(ge=1e-3, le=1)]
_Commit = Annotated[str, Meta(pattern="^[0-9a-f]{40}$")]
_RateHz = Annotated[int, Meta(ge=1000, le=192_000)]


class ExtractorError(Exception):
    """An extractor that cannot be had, or an input that does not fit it; the message says which, why, what to do."""


class WeightsError(ExtractorError):
    """Weights that cannot be had or do not fit their network; the message names the file and what to do."""


def unknown_name(what: str, name: str, names: Iterable[str], listing: str | None = None) -> ExtractorError:
    """Return the error for a name that is none of `names`, with the nearest of them and the list of all."""
    names = sorted(names)
    nearest = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    return ExtractorError(f"no {what} is called {name!r}: {hint}{listing or 'choose one of ' + ', '.join(names)}")


class VisualChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that decides a visual feature's value, but for the frames and the weights."""

    name: str
    """The network's name in the registry."""
    layer: str
    """Where in the network the map is taken."""
    frame_height: _Pixels
    """Pixels, 1 to 1024."""
    frame_width: _Pixels
    """Pixels, 1 to 1024."""
    resize: str
    """How a frame comes to that size; "stretch" does not keep its aspect (the AVE field's recipe)."""
    interpolation: str
    """The filter of that resizing: "bilinear" or "bicubic", which widen with the scale and so do not alias, or
    "opencv-linear", which mixes the nearest 2 x 2 pixels at any scale, as OpenCV's INTER_LINEAR does."""
    mean: tuple[_Mean, _Mean, _Mean]
    """Subtracted from RGB on the scale 0..1. Always in the order red, green, blue, whatever the channel order."""
    std: tuple[_Std, _Std, _Std]
    """Divides RGB on the scale 0..1, after the mean; red, green, blue likewise."""
    channel_order: str
    """The order in which the network gets the normalised channels: "rgb" or "bgr"."""
    pooling: str
    """How a segment's frames become one map: "mean" of the maps of each; or "joint", where the network takes all of a
    segment's frames together."""
    precision: str
    """The arithmetic of the network: "float32" or "bfloat16". The features are float32 either way."""
    pooled_channels: Annotated[int, Meta(ge=0, le=65_536)] = 0
    """How many of a map's channels, the last ones, are a vector of the whole picture: the same at every position."""
    pooled_norm: Literal["l2"] | None = None
    """"l2" if that vector is of length 1, after the mean over a segment's frames, too; None if it is as it comes."""
    revision: _Commit | None = None
    """The commit of the model on the Hugging Face Hub; None for a local folder, and for models that are not there."""

    def __post_init__(self) -> None:
        _require_one_of("resize", self.resize, "stretch")
        _require_one_of("interpolation", self.interpolation, "bilinear", "bicubic", "opencv-linear")
        _require_one_of("channel_order", self.channel_order, "rgb", "bgr")
        _require_one_of("pooling", self.pooling, "mean", "joint")
        _require_one_of("precision", self.precision, "float32", "bfloat16")


class MelChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A log-mel front end: magnitudes of windowed frames, summed in mel bands, then the natural logarithm."""

    seconds_used: Annotated[float, Meta(le=SEGMENT_SECONDS)]
    """How much of each segment is used, from its start: this many seconds of hops, or as many as the segment holds."""
    window_seconds: Annotated[float, Meta(ge=0.001, le=SEGMENT_SECONDS)]
    """Length of the periodic Hann window."""
    hop_seconds: Annotated[float, Meta(ge=0.001)]
    """From the start of one window to the next; at most a window."""
    bands: Annotated[int, Meta(ge=1, le=512)]
    low_hz: Annotated[float, Meta(ge=0)]
    """Where the lowest band begins."""
    high_hz: Annotated[float, Meta(ge=1)]
    """Where the highest band ends."""
    log_offset: Annotated[float, Meta(ge=1e-9, le=1)]
    """Added to a band's magnitude before the logarithm."""

    def __post_init__(self) -> None:
        _require_order("hop_seconds", self.hop_seconds, "seconds_used", self.seconds_used)
        _require_order("hop_seconds", self.hop_seconds, "window_seconds", self.window_seconds)
        _require_order("low_hz", self.low_hz, "high_hz", self.high_hz)


class AudioChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that decides an audio feature's value, but for the waveform and the weights. Always float32."""

    name: str
    """The extractor's name in the registry."""
    sample_rate_hz: _RateHz
    mel: MelChoice | None
    """The front end, or None where the network takes the waveform itself."""
    output: str
    """Which numbers become the feature."""
    front_end: dict[str, str | int | float | bool | None] | None = None
    """The settings of a model's own front end, as it states them; None where there is none."""
    revision: _Commit | None = None
    """The commit of the model on the Hugging Face Hub; None for a local folder, and for models that are not there."""

    def __post_init__(self) -> None:
        if self.mel:
            _require_order("high_hz", self.mel.high_hz, "half the sample rate", self.sample_rate_hz / 2)


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A pair of extractors with every choice written out."""

    frames_per_segment: Annotated[int, Meta(ge=1, le=60)]
    frame_at: Annotated[float, Meta(ge=0, lt=1)]
    """When a frame is taken: frame i of n is the one on display (i + frame_at) / n seconds into its segment, so that
    0 takes each n-th of a second at its start and 0.5 at its middle. Below 1."""
    decoder: str
    """Which library decodes the video: "pyav" or "decord"."""
    decoding_revision: int
    """The `DECODING_REVISION` that the features were made with."""
    visual: VisualChoice
    audio: AudioChoice
    audio_track: str | None = None
    """Which of a file's audio tracks: its number, counted from 1, its language, or "mix"; None, which specifications
    leave out, is the best one of the video's program."""

    def __post_init__(self) -> None:
        _require_one_of("decoder", self.decoder, "pyav", "decord")
        if self.audio_track is not None and not _AUDIO_TRACK.fullmatch(self.audio_track):
            raise ExtractorError(
                f"audio track {self.audio_track!r}: has to be a number from 1 on, a language such as eng or deu, or mix"
            )
        if self.decoding_revision != DECODING_REVISION:
            raise ExtractorError(
                f"the features were made with decoding revision {self.decoding_revision}, this version decodes as "
                f"revision {DECODING_REVISION}: extract them again, and train again"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the preset as plain JSON values; `from_json` is the way back."""
        return msgspec.json.decode(msgspec.json.encode(self))

    @classmethod
    def from_json(cls, value: Any) -> "Preset":
        """Read what `to_json` wrote.

        Raises:
            ExtractorError: A field is missing, unknown, of the wrong type or out of range.
        """
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            reason, _, path = str(error).replace("`", "").partition(" - at $")
            raise ExtractorError(f"the preset{path} cannot be used: {reason}") from error


@dataclass(frozen=True)
class VisualExtractor:
    """A visual backbone of another package: what its entry point in the group "ccln.extractors" leads to."""

    choice: VisualChoice
    """What it takes; its name is "PACKAGE:NAME", of the package and of the entry point."""
    build: "Callable[[VisualChoice, Path | None], nn.Module]"
    """Returns a network from normalised frames (frame, 3, height, width) to maps (frame, channel, height, width), given
    the choice and the file of --visual-weights, or None for weights of its own. Where the choice's pooling is "joint",
    the network goes from (segment, frame, 3, height, width) to (segment, channel, height, width)."""


@dataclass(frozen=True)
class AudioExtractor:
    """An audio backbone of another package: what its entry point in the group "ccln.extractors" leads to."""

    choice: AudioChoice
    """What it takes; its name is "PACKAGE:NAME", of the package and of the entry point."""
    build: "Callable[[AudioChoice, Path | None], nn.Module]"
    """Returns a network from waveforms (segment, sample) to features (segment, channel), given the choice and the file
    of --audio-weights, or None for weights of its own."""


def _require_one_of(name: str, value: str, *known: str) -> None:
    if value not in known:
        raise ExtractorError(f"{name} is {value!r}, but has to be {' or '.join(known)}")


def _require_order(name: str, value: float, limit_name: str, limit: float) -> None:
    if value > limit:
        raise ExtractorError(f"{name} is {value:g}, but has to be at most {limit_name}, {limit:g}")
