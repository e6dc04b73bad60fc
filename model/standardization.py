"""Features as deviations from what is usual in the training clips."""

import torch
from torch import Tensor, nn

_SMALLEST_SHARE = 0.1
"""Of the mean deviation of all channels: a channel that hardly ever changed in training must not drown the others."""


class Standardization(nn.Module):
    """(x - mean) / deviation, channel by channel, both of the training clips and kept with the weights.

    Unlike a norm over the channels of each second it keeps how loud the second is, and that tells where a sound begins
    and ends (docs/experiments.md). Changes nothing until it has learnt.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    @torch.no_grad()
    def learn(self, features: Tensor) -> None:
        """Take mean and deviation from the features of the training clips (..., channel)."""
        deviation, mean = torch.std_mean(features.float().flatten(0, -2), 0, correction=0)
        self.mean.copy_(mean)
        smallest = _SMALLEST_SHARE * deviation.mean()
        self.deviation.copy_(deviation.clamp_min(smallest) if smallest > 0 else torch.ones_like(deviation))

    def forward(self, features: Tensor) -> Tensor:
        """(..., channel) of any shape before the channels."""
        return (features - self.mean) / self.deviation
