"""FEE, the foreground event enhancement: raise event seconds, and pull event and background apart in training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ForegroundEventEnhancement(nn.Module):
    """Adaptive weight w = sigmoid(MLP(g)) a second; g' = g (1 + alpha w) (our reading of the abstract)."""

    def __init__(self, width: int, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.weigh = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 1))

    def forward(self, integrated: Tensor) -> tuple[Tensor, Tensor]:
        """Return g' (batch, segment, width) and the logits of w (batch, segment)."""
        logits = self.weigh(integrated)  # (B, T, 1)
        return integrated * (1 + self.gain * torch.sigmoid(logits)), logits.squeeze(-1)


def scene_distance_loss(enhanced: Tensor, weights: Tensor, event: Tensor, margin: float = 1.0) -> Tensor:
    """FEE's training-time distance between the event and the background of the same scene.

    Event and background prototypes are weighted means of g', each second weighted by how sure the model is of it (w
    for event seconds, 1 - w for background) and twice as much when it lies at a boundary, where confusion costs most.
    The loss is the hinge max(0, margin - (1 - cos(event prototype, background prototype))), averaged over the clips
    that hold both kinds; zero if none does. Our reading; no cost at inference.

    Args:
        enhanced: g' (batch, segment, width).
        weights: w (batch, segment) in 0..1.
        event: 1 where the segment is event, 0 where it is background (batch, segment): the labels.
        margin: wanted cosine distance.

    Returns:
        A scalar.
    """
    changes = (event[:, 1:] != event[:, :-1]).to(event.dtype)  # (B, T-1)
    nearness = 1 + torch.maximum(F.pad(changes, (1, 0)), F.pad(changes, (0, 1)))  # (B, T): 2 beside a boundary
    floor = 0.1  # so that a second the model is wrong about still counts
    for_event = event * nearness * weights.clamp_min(floor)
    for_background = (1 - event) * nearness * (1 - weights).clamp_min(floor)
    event_prototype = torch.einsum("bt,btd->bd", for_event, enhanced)
    background_prototype = torch.einsum("bt,btd->bd", for_background, enhanced)
    distance = 1 - F.cosine_similarity(event_prototype, background_prototype, dim=-1)  # scale does not matter
    both = ((event.sum(1) > 0) & ((1 - event).sum(1) > 0)).to(enhanced.dtype)
    return (both * F.relu(margin - distance)).sum() / both.sum().clamp_min(1)
