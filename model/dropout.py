"""Dropout that is the same in all seconds of a clip."""

from torch import Tensor, nn
from torch.nn import functional as F


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
        return x * self.kept(x) if self.training else x

    def kept(self, like: Tensor) -> Tensor:
        """What each channel is multiplied with (batch, 1, channel)."""
        return F.dropout(like.new_ones(len(like), 1, like.shape[-1]), self.probability, self.training)
