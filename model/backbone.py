"""The backbone network: fusion, interaction, integration, enhancement, heads.

Axes in the order (batch, segment, channel).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ccln.model.config import ModelConfig
from ccln.model.contrast import pooled_unit
from ccln.model.dropout import ClipDropout
from ccln.model.enhancement import ForegroundEventEnhancement
from ccln.model.interaction import Fusion, Integration, SelfConstrainedBimodalInteraction


class BackboneOutput(NamedTuple):
    """All that one backbone says of a batch of clips."""

    event_logits: Tensor
    """Is this second event? (batch, segment)"""
    class_logits: Tensor
    """Which class is the clip's event? (batch, class); what the joint view says of it, and the two modalities' own
    evidence, pooled over time alike."""
    segment_class_logits: Tensor | None
    """The same of each second on its own, not pooled (batch, segment, class); None in training."""
    audio_logits: Tensor
    """Evidence for each class in the second's sound alone (batch, segment, class)."""
    visual_logits: Tensor
    """Evidence for each class in the picture where the second's sound made the network look (batch, segment, class)."""
    gate: Tensor
    """What SBI let pass (batch, head, visual segment, audio segment)."""
    foreground_logits: Tensor | None
    """FEE's adaptive weight before its sigmoid (batch, segment); None where there is no FEE."""
    enhanced: Tensor
    """The joint view behind the heads (batch, segment, width)."""
    views: tuple[Tensor, Tensor] | None
    """The audio and the visual view after the interaction, pooled over time, for WCCL to compare: unit vectors (batch,
    embedding); None without it, and outside training."""


class TemporalEncoder(nn.Module):
    """One modality on its own, each second in the light of the others: projection, then a bidirectional LSTM."""

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(channels, width), nn.ReLU(), ClipDropout(dropout))
        self.recurrent = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = ClipDropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, segment, channel) -> (batch, segment, width)."""
        projected = self.projection(features)
        return self.dropout(self.norm(projected + self.recurrent(projected)[0]))


class Backbone(nn.Module):
    """What lies behind the attention; ``config.without`` leaves parts out for ablation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout
        self.audio_encoder = TemporalEncoder(config.audio_channels, width, dropout)
        self.picture_norm = nn.LayerNorm(config.visual_channels)
        self.visual_encoder = TemporalEncoder(config.visual_channels, width, dropout)
        self.fusion = Fusion(width)
        self.interaction = SelfConstrainedBimodalInteraction(
            width, config.heads, dropout, constrained="sbi" not in config.without
        )
        self.integration = Integration(width, config.heads, dropout)
        # All parts are made, then some left out: the rest starts from the same weights with and without them.
        self.enhancement = ForegroundEventEnhancement(width, config.foreground_gain)
        self.audio_projection = nn.Linear(width, config.embedding_width)
        self.visual_projection = nn.Linear(width, config.embedding_width)
        if "fee" in config.without:
            self.enhancement = None
        if "wccl" in config.without:
            self.audio_projection = self.visual_projection = None
        self.event_head = nn.Linear(width, 1)
        self.class_head = nn.Linear(width, config.class_count)
        self.heard_head = nn.Linear(width, config.class_count)
        self.seen_head = nn.Linear(width, config.class_count)
        self.dropout = ClipDropout(dropout)

    def forward(self, picture: Tensor, audio: Tensor) -> BackboneOutput:
        """Read a batch of clips.

        Args:
            picture: (batch, segment, visual channel), attended.
            audio: (batch, segment, audio channel), standardized.
        """
        a = self.audio_encoder(audio)  # (B, T, d)
        v = self.visual_encoder(self.picture_norm(picture))  # (B, T, d)
        audio_logits, visual_logits = (
            self.heard_head(a),
            self.seen_head(v),
        )  # (B, T, n), before any interaction
        fused = self.fusion(a, v)  # (B, T, d)
        a, v, gate = self.interaction(a, v, fused)
        view = self.integration(fused, a, v)  # (B, T, d)
        foreground_logits = None
        if self.enhancement is not None:
            view, foreground_logits = self.enhancement(view)  # (B, T, d), (B, T)
        event_logits = self.event_head(self.dropout(view)).squeeze(-1)  # (B, T)
        # Without FEE there is no weight, and what is said of a clip is the plain mean over its seconds.
        weights = torch.ones_like(event_logits) if foreground_logits is None else torch.sigmoid(foreground_logits)
        share = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)
        pooled = torch.einsum("bt,btd->bd", share, view)  # (B, d)
        evidence = torch.einsum("bt,btn->bn", share, audio_logits + visual_logits)  # (B, n)
        views = None
        if self.audio_projection is not None and self.visual_projection is not None and self.training:
            views = pooled_unit(self.audio_projection, a, weights), pooled_unit(self.visual_projection, v, weights)
        return BackboneOutput(
            event_logits=event_logits,
            class_logits=self.class_head(self.dropout(pooled[:, None]).squeeze(1)) + evidence,
            segment_class_logits=None if self.training else self.class_head(view) + audio_logits + visual_logits,
            audio_logits=audio_logits,
            visual_logits=visual_logits,
            gate=gate,
            foreground_logits=foreground_logits,
            enhanced=view,
            views=views,
        )
