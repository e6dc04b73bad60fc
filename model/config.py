"""Every number that fixes the network's shape, in one frozen dataclass."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Part = Literal["sbi", "fee", "wccl"]
PARTS: tuple[Part, ...] = get_args(Part)
MAX_BACKBONES = 32
"""Each is made one by one: more would let a forged config take all time and memory before any weight is read."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a CCLN; saved with its weights."""

    visual_height: int
    """Rows of the visual feature map."""
    visual_width: int
    """Columns of the visual feature map."""
    visual_channels: int
    """Channels of the visual feature map."""
    audio_channels: int
    """Numbers that describe one segment's sound."""
    class_count: int
    """Event classes, background not counted."""
    segment_count: int = 10
    """Segments (seconds) in a clip."""
    width: int = 128
    """Model width d; even, and divisible by the number of heads."""
    backbones: int = 2
    """Backbone networks behind the attention, whose answers are averaged."""
    heads: int = 4
    """Attention heads in interaction and integration."""
    embedding_width: int = 128
    """Length p of the vectors that WCCL compares."""
    dropout: float = 0.2
    """Probability that a hidden unit is dropped in training."""
    channel_dropout: float = 0.3
    """Probability that a visual channel is dropped from a clip in training."""
    branch_noise: float = 0.1
    """Standard deviation of the noise that the branch network adds to its (normalised) input in training."""
    foreground_gain: float = 0.3
    """FEE's alpha: how far a sure foreground second is raised over a sure background second."""
    without: tuple[Part, ...] = ()
    """Parts left out, for ablation: any of sbi, fee, wccl."""

    def __post_init__(self) -> None:
        sizes = ("visual_height", "visual_width", "visual_channels", "audio_channels", "class_count", "segment_count")
        for name in (*sizes, "width", "backbones", "heads", "embedding_width"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} = {value!r}: expected a whole number of at least 1")
        if self.backbones > MAX_BACKBONES:
            raise ValueError(f"backbones = {self.backbones}: expected at most {MAX_BACKBONES}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width = {self.width}: must be a multiple of twice the {self.heads} heads")
        for name in ("dropout", "channel_dropout", "branch_noise", "foreground_gain"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} = {value!r}: expected a finite number, at least 0")
        if max(self.dropout, self.channel_dropout) >= 1:
            raise ValueError(f"dropout {self.dropout} and channel_dropout {self.channel_dropout} must be less than 1")
        unknown = set(self.without) - set(PARTS)
        if unknown:
            raise ValueError(f"without = {sorted(unknown)}: the parts are {', '.join(PARTS)}")
        object.__setattr__(self, "without", tuple(part for part in PARTS if part in self.without))  # one order
