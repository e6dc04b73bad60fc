"""Classes by the vectors of their names, of encoders that have texts in the space of their pictures and sounds.

Axes in the order (batch, segment, height, width, channel). In the comments B is the batch, T the segments, n the
classes, P the channels of a space.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.model.config import ModelConfig


class Space(NamedTuple):
    """Segments and texts in one space."""

    vectors: Tensor
    """(batch, segment, channel), or of whole clips (batch, channel)."""
    texts: Tensor
    """(text, channel)."""

    def products(self) -> Tensor:
        """Dot products (batch, segment, text), in single precision under autocast, too: a scale of 100 follows."""
        with torch.autocast(self.vectors.device.type, enabled=False):
            return self.vectors.float() @ self.texts.float().mT

    def unit(self) -> "Space":
        """The space with all vectors of length 1, so that dot products are cosines."""
        return Space(*(F.normalize(tensor, dim=-1) for tensor in self))

    def usual_length(self) -> Tensor:
        """What cosines are multiplied with to be as large as dot products, on average."""
        return self.vectors.norm(dim=-1).mean() * self.texts.norm(dim=-1).mean()

    def pooled(self, share: Tensor) -> "Space":
        """The space with the clips' unit vectors (batch, channel), along means with weights (batch, segment)."""
        return Space(F.normalize(torch.einsum("bt,btp->bp", share, self.vectors), dim=-1), self.texts)


class Spaces(NamedTuple):
    """The spaces of a batch; all None where classes are learnt and have no texts."""

    audio: Space | None = None
    visual: Space | None = None
    joint: Space | None = None
    """Both at once: its cosines are the means of the two."""

    def pooled(self, share: Tensor) -> "Spaces":
        """The spaces with the clips' vectors, see `Space.pooled`."""
        return Spaces(*(None if space is None else space.pooled(share) for space in self))


CLOSED = Spaces()
"""Of a network whose classes are learnt."""


class Texts(nn.Module):
    """The vectors of some texts in the audio and in the visual space of the encoders."""

    audio: Tensor
    visual: Tensor

    def __init__(self, config: ModelConfig, count: int) -> None:
        """Make room for them.

        Raises:
            ValueError: the config has no text space.
        """
        super().__init__()
        if config.text_channels is None:
            raise ValueError("text_channels = None: expected a number, that of the channels of the texts' vectors")
        self._visual_channels = config.text_channels
        self.register_buffer("audio", torch.zeros(count, config.audio_channels))
        self.register_buffer("visual", torch.zeros(count, config.text_channels))

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Space, Space]:
        """The audio and the visual space, with the vectors as the encoders give them.

        Args:
            visual: (batch, segment, height, width, channel), of which the last channels are the picture's vector, the
                same at every position.
            audio: (batch, segment, channel), not standardized.
        """
        seen = visual[..., -self._visual_channels :].mean((2, 3))  # (B, T, P)
        return Space(audio, self.audio), Space(seen, self.visual)


def joint_space(audio: Space, visual: Space) -> Space:
    """The space in which the unit vectors of both modalities are one."""
    return Space(*(torch.cat(both, -1) for both in zip(audio, visual, strict=True))).unit()


class ClassHead(nn.Linear):
    """Logits of classes: of a closed set by learnt weights, or of any classes by the vectors of their names.

    The open head's logit of a class is s (<z, t> - m), t the vector of its name and s and m learnt. z is the direction
    of u + r, u the encoders' own vector of what is judged, and r = W x / (1 + |W x|) what the network adds to it. W
    starts at zero, so that an untrained head is zero-shot classification, and r is never longer than u: what was learnt
    on some classes is a correction for all. m is a cosine because it is learnt as fast as one, not as a logit. Our
    reading, after CLIP-Adapter (Gao et al. 2021), which mixes the two in a fixed share.
    """

    def __init__(self, width: int, class_count: int, space_channels: int | None = None) -> None:
        """Make a head.

        Args:
            width: of what it reads.
            class_count: of a closed set.
            space_channels: of the space that an open head compares in; None for a closed one.
        """
        super().__init__(width, class_count if space_channels is None else space_channels)
        if space_channels is not None:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)
            self.log_scale = nn.Parameter(torch.tensor(3.0))
            self.usual_cosine = nn.Parameter(torch.tensor(0.0))

    @torch.no_grad()
    def start(self, space: Space, scale: float) -> None:
        """Begin with a scale, if it is one, and with zero where vectors and texts are as near as on average."""
        if scale > 0:  # untrained encoders may have any
            self.log_scale.fill_(math.log(scale))
        vectors, texts = space.vectors.flatten(0, -2).mean(0), space.texts.mean(0)
        self.usual_cosine.copy_(vectors @ texts)

    def forward(self, input: Tensor, space: Space | None = None) -> Tensor:
        """(..., width), and of an open head the space with vectors (..., channel) -> logits (..., class)."""
        output = super().forward(input)
        if space is None:
            return output
        correction = output / (1 + output.norm(dim=-1, keepdim=True))
        corrected = Space(F.normalize(space.vectors + correction, dim=-1), space.texts)
        return self.log_scale.exp() * (corrected.products() - self.usual_cosine)
