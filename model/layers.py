"""Layers that both networks have. Axes in the order (batch, segment, channel)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.model.config import ModelConfig


class Standardization(nn.Module):
    """(x - mean) / deviation, channel by channel, both of the training clips and kept with the weights.

    Unlike a norm over the channels of each second it keeps how loud the second is, and that tells where a sound begins
    and ends (docs/experiments.md). Changes nothing until it has learnt.
    """

    mean: Tensor
    deviation: Tensor
    smallest_share = 0.1
    """Of the channels' mean deviation: a channel that hardly ever changed in training must not drown the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    @torch.no_grad()
    def learn(self, features: Tensor) -> None:
        """Take mean and deviation from the features of the training clips (..., channel)."""
        deviation, mean = torch.std_mean(features.float().flatten(0, -2), 0, correction=0)
        self.mean.copy_(mean)
        smallest = self.smallest_share * deviation.mean()
        self.deviation.copy_(deviation.clamp_min(smallest) if smallest > 0 else torch.ones_like(deviation))

    def forward(self, features: Tensor) -> Tensor:
        """(..., channel) of any shape before the channels."""
        return (features - self.mean) / self.deviation


class ClipDropout(nn.Module):
    """In training, drops channels from a clip: the same ones in all its seconds (Gal & Ghahramani 2016).

    To drop them second by second would itself look like something happening; and the random numbers would take a tenth
    of the time of a training step.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(batch, segment, channel) -> the same; what is kept is raised so that the mean stays."""
        return x * self.mask(x) if self.training else x

    def mask(self, like: Tensor) -> Tensor:
        """The factor of each channel (batch, 1, channel)."""
        return F.dropout(like.new_ones(len(like), 1, like.shape[-1]), self.probability, self.training)


def pooled_unit(projection: nn.Linear, view: Tensor, weights: Tensor) -> Tensor:
    """A view (batch, segment, width), pooled with weights (batch, segment), as unit vectors (batch, embedding)."""
    share = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)  # (B, T)
    return F.normalize(projection(torch.einsum("bt,btd->bd", share, view)), dim=-1)


class Branch(nn.Module):
    """A second, lighter view of each modality in the space where WCCL compares views.

    The branch sees each modality on its own, with noise and dropout on its input in training. Its views are pooled over
    time with the weights it is given, so that it is the event that is compared.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        visual_channels, audio_channels = config.visual_channels, config.audio_channels
        self.noise = config.branch_noise
        self.dropout = ClipDropout(config.dropout)
        self.audio_norm, self.visual_norm = nn.LayerNorm(audio_channels), nn.LayerNorm(visual_channels)
        self.audio_view = nn.Sequential(nn.Linear(audio_channels, width), nn.ReLU())
        self.visual_view = nn.Sequential(nn.Linear(visual_channels, width), nn.ReLU())
        self.audio_projection = nn.Linear(width, config.embedding_width)
        self.visual_projection = nn.Linear(width, config.embedding_width)

    def forward(self, visual: Tensor, audio: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """View a batch of clips.

        Args:
            visual: (batch, segment, visual channel).
            audio: (batch, segment, audio channel), standardized.
            weights: (batch, segment) in 0..1, of the pooling.

        Returns:
            Unit vectors (batch, embedding) of audio and visual.
        """
        a = self.audio_view(self._disturbed(self.audio_norm(audio)))  # (B, T, d)
        v = self.visual_view(self._disturbed(self.visual_norm(visual)))  # (B, T, d)
        return pooled_unit(self.audio_projection, a, weights), pooled_unit(self.visual_projection, v, weights)

    def _disturbed(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.noise * torch.randn_like(x)) if self.training else x
