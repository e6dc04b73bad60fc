"""Where to look: audio-guided visual attention, first over channels, then over regions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.model.dropout import ClipDropout


class GuidedAttention(nn.Module):
    """The second's sound chooses visual channels, then regions (our reading; after Tian et al. 2018, Xu et al. 2020).

    With V a second's feature map, m its spatial mean and a its sound:
    channel gate c = 2 sigmoid(MLP[m; a]), so that an undecided gate changes nothing;
    spatial weights softmax over regions of <q(a), c * LN(V)> / sqrt(C) + <s, LN(V)>, where the learnt s knows what is
    worth a look whatever is heard: from few clips the sound alone does not learn where to look.

    In training whole visual channels are dropped from a clip: a few hundred clips are soon learnt by heart from single
    channels.
    """

    def __init__(self, visual_channels: int, audio_channels: int, width: int, channel_dropout: float = 0.0) -> None:
        super().__init__()
        self.channel_dropout = ClipDropout(channel_dropout)
        self.channel_gate = nn.Sequential(
            nn.Linear(visual_channels + audio_channels, width), nn.ReLU(), nn.Linear(width, visual_channels)
        )
        self.saliency = nn.Parameter(torch.zeros(visual_channels))
        self.query = nn.Sequential(nn.Linear(audio_channels, width), nn.ReLU(), nn.Linear(width, visual_channels))

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            visual: (batch, segment, height, width, channel).
            audio: (batch, segment, audio channel), standardized.

        Returns:
            The attended picture (batch, segment, channel) and the spatial weights (batch, segment, height, width); the
            weights of a segment add up to one.
        """
        height, width = visual.shape[2:4]
        # Without a learnt scale the norm needs no backward pass over the maps, by far the largest tensors here.
        regions = F.layer_norm(visual.flatten(2, 3), visual.shape[-1:])  # (B, T, H*W, C)
        kept = self.channel_dropout.kept(regions)  # (B, 1, C)
        mean = kept * regions.mean(2)  # (B, T, C)
        gate = kept * 2 * torch.sigmoid(self.channel_gate(torch.cat([mean, audio], -1)))  # (B, T, C)
        # The gate is the same for all regions of a second, so it is applied to the query and to the result, not to V.
        query = gate * self.query(audio) / regions.shape[-1] ** 0.5 + kept * self.saliency  # (B, T, C)
        scores = torch.einsum("btrc,btc->btr", regions, query)  # (B, T, H*W)
        weights = scores.softmax(-1)  # (B, T, H*W)
        attended = gate * torch.einsum("btr,btrc->btc", weights, regions)  # (B, T, C)
        return attended, weights.unflatten(-1, (height, width))
