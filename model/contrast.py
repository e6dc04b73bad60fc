"""The branch network and WCCL, the weakly supervised cross-modal contrastive loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.model.dropout import ClipDropout


class Branch(nn.Module):
    """A second, lighter view of each modality in the space where WCCL compares views.

    The branch sees each modality on its own, with noise and dropout on its input in training. Its views are pooled over
    time with the weights it is given, so that it is the event that is compared.
    """

    def __init__(
        self, visual_channels: int, audio_channels: int, width: int, embedding: int, noise: float, dropout: float
    ) -> None:
        super().__init__()
        self.noise = noise
        self.dropout = ClipDropout(dropout)
        self.audio_norm, self.visual_norm = nn.LayerNorm(audio_channels), nn.LayerNorm(visual_channels)
        self.audio_view = nn.Sequential(nn.Linear(audio_channels, width), nn.ReLU())
        self.visual_view = nn.Sequential(nn.Linear(visual_channels, width), nn.ReLU())
        self.audio_projection = nn.Linear(width, embedding)
        self.visual_projection = nn.Linear(width, embedding)

    def forward(self, audio: Tensor, visual: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (batch, embedding) of the branch's own view of each modality.

        Args:
            audio: (batch, segment, audio channel), standardized.
            visual: (batch, segment, visual channel), the attended picture.
            weights: w (batch, segment) in 0..1.
        """
        heard = self.audio_view(self._disturbed(self.audio_norm(audio)))  # (B, T, d)
        seen = self.visual_view(self._disturbed(self.visual_norm(visual)))  # (B, T, d)
        return pooled_unit(self.audio_projection, heard, weights), pooled_unit(self.visual_projection, seen, weights)

    def _disturbed(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.noise * torch.randn_like(x)) if self.training else x


class NamingBranch(Branch):
    """A branch network that names the clip as well: every class has an anchor among the views.

    A modality's vote for a class is s <z, k>, z its view, k the class's anchor (a unit vector) and s, both learnt. WCCL
    draws the views of a class to its anchor as it draws them to each other. Our reading: of "weak video-level labels to
    constrain the cross-modal semantic alignment" in the abstract.
    """

    def __init__(
        self,
        visual_channels: int,
        audio_channels: int,
        width: int,
        embedding: int,
        noise: float,
        dropout: float,
        class_count: int,
    ) -> None:
        super().__init__(visual_channels, audio_channels, width, embedding, noise, dropout)
        anchors = torch.empty(class_count, embedding)
        if not anchors.is_meta:  # where a checkpoint is about to be read, and where this would import a whole compiler
            anchors.normal_().mul_(0.1)
        self.anchors = nn.Parameter(anchors)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def votes(self, views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What the two (batch, embedding) views, heard and seen, say of each class: logits (batch, class) each."""
        anchors = F.normalize(self.anchors, dim=-1)  # (n, p)
        heard, seen = (self.scale * view @ anchors.T for view in views)
        return heard, seen


def pooled_unit(projection: nn.Linear, view: Tensor, weights: Tensor) -> Tensor:
    """A view (batch, segment, width), pooled with weights (batch, segment), as unit vectors (batch, embedding)."""
    share = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)  # (B, T)
    return F.normalize(projection(torch.einsum("bt,btd->bd", share, view)), dim=-1)


def contrastive_loss(anchors: Tensor, others: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss from one view to another (Khosla et al. 2020, L_out), on video-level labels.

    For anchor i with label c: minus the mean over all j with label c (i itself included) of
    log softmax_j(<anchor_i, other_j> / temperature), the softmax running over the whole batch.

    Args:
        anchors: unit vectors (..., batch, embedding) of one view.
        others: unit vectors (..., batch, embedding) of the other view of the same clips.
        labels: class of each clip (batch,); -1 for a clip without any event, which is a negative and never an anchor.
        temperature: divides the similarities.

    Returns:
        A scalar, the mean over all leading axes; zero if no clip has an event.
    """
    log_share = (anchors @ others.mT / temperature).log_softmax(-1)  # (..., B, B)
    has_event = labels >= 0
    positive = ((labels[:, None] == labels[None, :]) & has_event[:, None]).to(anchors.dtype)
    share = positive / positive.sum(-1, keepdim=True).clamp_min(1) / has_event.sum().clamp_min(1)  # (B, B)
    return -(share * log_share).sum((-2, -1)).mean()


def wccl_loss(
    backbone: tuple[Tensor, Tensor], branch: tuple[Tensor, Tensor], labels: Tensor, temperature: float = 0.1
) -> Tensor:
    """WCCL: contrast between modalities in both directions, and between the backbone's and the branch's views.

    Args:
        backbone: audio and visual unit vectors, each (batch, embedding).
        branch: the same from the branch network.
        labels: (batch,), -1 for clips without any event. No segment label is used, so the loss serves weak supervision.
        temperature: of the softmax over the batch.

    Returns:
        The mean of the six directed losses, a scalar.
    """
    (audio, visual), (branch_audio, branch_visual) = backbone, branch
    anchors = torch.stack([audio, visual, audio, visual, branch_audio, branch_visual])
    others = torch.stack([visual, audio, branch_visual, branch_audio, audio, visual])
    return contrastive_loss(anchors, others, labels, temperature)
