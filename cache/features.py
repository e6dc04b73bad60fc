import math
from dataclasses import dataclass

import torch

from ccln.cache.errors import CacheError

MISSING = ((), ("audio",), ("video",))  # with neither there would be nothing to extract


@dataclass(frozen=True, eq=False)  # == on tensors has no single truth value
class Features:
    """What the extractors saw and heard in one clip.

    That the values are finite is checked when features are written, not here: here it would touch every
    memory-mapped page of an entry that is only being opened.

    Attributes:
        visual: float16 (segment, height, width, channel).
        audio: float32 (segment, channel).
        duration_seconds: how much of the clip the source covers, above 0 and at most one second a segment; the
            rest is padding.
        missing: which stream the source lacked, its part being black pictures or silence instead: (), ("audio",) or
            ("video",).

    Raises:
        CacheError: where a type, a shape, the duration or ``missing`` is not as above.
    """

    visual: torch.Tensor
    audio: torch.Tensor
    duration_seconds: float
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, tensor, dtype, axes in (
            ("visual", self.visual, torch.float16, "(segment, height, width, channel)"),
            ("audio", self.audio, torch.float32, "(segment, channel)"),
        ):
            if tensor.dtype != dtype or tensor.ndim != axes.count(",") + 1 or tensor.numel() == 0:
                found = f"{tensor.dtype} {tuple(tensor.shape)}"
                raise CacheError(f"{name} features are {found}; they must be {dtype} {axes}, no axis empty")
        segments = len(self.visual)
        if len(self.audio) != segments:
            raise CacheError(f"visual features have {segments} segments, audio {len(self.audio)}; they must agree")
        if not (math.isfinite(self.duration_seconds) and 0 < self.duration_seconds <= segments):
            raise CacheError(f"duration_seconds is {self.duration_seconds}; it must be above 0 and at most {segments}")
        if self.missing not in MISSING:
            raise CacheError(f"missing is {self.missing!r}; it must be one of {', '.join(map(str, MISSING))}")
