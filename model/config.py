"""Numbers that fix a network's shape, its losses, and how its output is decoded into events."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

Part = Literal["sbi", "fee", "wccl"]
PARTS: tuple[Part, ...] = get_args(Part)

Count = Annotated[int, Meta(ge=1, le=65_536)]
"""More than any network has; without a limit a forged config would fail where memory is asked for, and not by name."""
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Probability = Annotated[float, Meta(ge=0, lt=1)]
Temperature = Annotated[float, Meta(ge=0.001, le=1000)]
"""Beyond, logits that are divided by it can leave the range of float32."""


def check_fields(config: object) -> None:
    """Check every field of a dataclass against its annotation.

    Raises:
        ValueError: a value has another type or lies outside its range, or is NaN or infinity; the message names it.
    """
    for name, kind in get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            reason = str(error).replace("Expected", "expected").replace("`", "")
            raise ValueError(f"{name} = {value!r:.30}: {reason}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} = {value!r:.30}: expected a finite number")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a network; saved with its weights."""

    visual_height: Count
    """Rows of the visual feature map."""
    visual_width: Count
    """Columns of the visual feature map."""
    visual_channels: Count
    """Channels of the visual feature map."""
    audio_channels: Count
    """Channels of a segment's audio feature."""
    class_count: Count
    """Event classes, background not counted."""
    segment_count: Annotated[int, Meta(ge=1, le=3600)] = 10
    """Segments (seconds) in a clip."""
    width: Count = 128
    """Model width d; even, and divisible by the number of heads."""
    members: Annotated[int, Meta(ge=1, le=32)] = 2
    """Ensemble members after the attention, whose outputs are averaged. More than the limit would let a forged config
    take all time and memory before any weight is read: the members are made one by one."""
    heads: Count = 4
    """Attention heads in interaction and integration."""
    embedding_width: Count = 128
    """Length p of the vectors that WCCL compares."""
    dropout: Probability = 0.2
    """Probability that a hidden channel is dropped in training."""
    channel_dropout: Probability = 0.3
    """Probability that a visual channel is dropped from a clip in training."""
    branch_noise: NotNegative = 0.1
    """Standard deviation of the noise that the branch network adds to its (normalised) input in training."""
    foreground_gain: NotNegative = 0.3
    """FEE's alpha: how far a sure foreground second is raised over a sure background second."""
    without: tuple[Part, ...] = ()
    """Parts left out, for ablation: any of sbi, fee, wccl."""
    text_channels: Count | None = None
    """Where classes are given by the vectors of their names: the channels, the last ones of the visual map, that are
    the picture's vector in the space of these texts. The audio feature is a vector of such a space as a whole. None for
    classes that are learnt."""
    other_texts: Annotated[int, Meta(ge=0, le=65_536)] = 0
    """Texts of no class, which zero-shot localization compares with beside those of the classes."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.text_channels is not None and self.text_channels > self.visual_channels:
            raise ValueError(f"text_channels = {self.text_channels}: of {self.visual_channels} visual channels")
        if self.width % (2 * self.heads):
            raise ValueError(f"width = {self.width}: must be a multiple of twice the {self.heads} heads")
        object.__setattr__(self, "without", tuple(part for part in PARTS if part in self.without))  # one order


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses beside the event and the class loss, whose weight is one."""

    fee_weight: NotNegative = 0.2
    """Weight of FEE: its distance between event and background, and the cross-entropy of its adaptive weight."""
    wccl_weight: Positive = 0.3
    """Weight of WCCL once it is warm; above 0, for the branch network, whose class logits count, learns from it alone.
    """
    modality_weight: NotNegative = 0.3
    """Weight of the loss that makes "seen" and "heard" both true exactly where the event is."""
    temperature: Positive = 0.1
    """WCCL's temperature."""
    margin: NotNegative = 1.0
    """Wanted cosine distance between a scene's event and its background."""

    def __post_init__(self) -> None:
        if self.wccl_weight == 0:
            raise ValueError("wccl_weight = 0: expected a number above 0; to do without WCCL, leave the part out")
        check_fields(self)


@dataclass(frozen=True)
class EventDecoding:
    """What turns logits into events, saved with the weights that it is for.

    Temperatures and class threshold are chosen on validation.
    """

    event_threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """Least probability of an event's segments."""
    minimum_duration_seconds: Count = 1
    """Whole segments; what is shorter is no event."""
    event_temperature: Temperature = 1.0
    """The event logits are divided by it."""
    class_temperature: Temperature = 1.0
    """The class logits are divided by it."""
    class_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Least visual probability of an event's class in the second that shows it best; of what shows it less, the network
    does not know the class."""

    def __post_init__(self) -> None:
        check_fields(self)
