"""Fusion, SBI and integration: the information flow of the backbone network."""

import torch
from torch import Tensor, nn

from ccln.model.dropout import ClipDropout


class Fusion(nn.Module):
    """The first, noisy joint view: f = LN(W[a; v] + U a * U' v) (our reading)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sum = nn.Linear(2 * width, width)
        self.audio_factor = nn.Linear(width, width)
        self.visual_factor = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """Fuse two (batch, segment, width) views into one (batch, segment, width)."""
        product = self.audio_factor(audio) * self.visual_factor(visual)
        return self.norm(self.sum(torch.cat([audio, visual], -1)) + product)


class SelfConstrainedBimodalInteraction(nn.Module):
    """SBI: each modality takes from the other only what the fused view lets pass (our reading of the abstract).

    Correlation C = (v Wq)(a Wk)^T / sqrt(d). Gate G = sigmoid((f W1)(f W2)^T / sqrt(d) + b): the fused view constrains
    its own parts. Gamma = softmax(C) * G, row by row; the other direction does the same with the transposed C and G.
    v' = LN(v + Gamma a Wa), a' = LN(a + Gamma' v Wv).

    Rows of Gamma add up to one at most, not to one: a second in which nothing fits takes nothing, and how much it takes
    tells what follows whether something fitted. A row that is normalised again says only what fits best.

    ``constrained=False`` is the ablation: G = 1 and plain softmax attention.
    """

    def __init__(self, width: int, heads: int, dropout: float, constrained: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.constrained = constrained
        self.visual_query = nn.Linear(width, width)
        self.audio_key = nn.Linear(width, width)
        self.gate_row = nn.Linear(width, width)
        self.gate_column = nn.Linear(width, width)
        self.gate_bias = nn.Parameter(torch.zeros(heads, 1, 1))
        if not constrained:  # made all the same, so that all else starts from the same weights
            del self.gate_row, self.gate_column, self.gate_bias
        self.audio_value = nn.Linear(width, width)
        self.visual_value = nn.Linear(width, width)
        self.audio_norm = nn.LayerNorm(width)
        self.visual_norm = nn.LayerNorm(width)
        self.dropout = ClipDropout(dropout)

    def forward(self, audio: Tensor, visual: Tensor, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Interact.

        Args:
            audio: (batch, segment, width).
            visual: (batch, segment, width).
            fused: (batch, segment, width), the joint view that makes the gate.

        Returns:
            a' and v', both (batch, segment, width), and the gate (batch, head, visual segment, audio segment).
        """
        correlation = self._pairs(self.visual_query(visual), self.audio_key(audio))  # (B, h, T, T)
        if self.constrained:
            gate = torch.sigmoid(self._pairs(self.gate_row(fused), self.gate_column(fused)) + self.gate_bias)
        else:
            gate = torch.ones_like(correlation)
        to_visual = correlation.softmax(-1) * gate
        to_audio = (correlation.softmax(-2) * gate).transpose(-1, -2)
        taken_by_visual = self._merge(to_visual @ self._split(self.audio_value(audio)))  # (B, T, d)
        taken_by_audio = self._merge(to_audio @ self._split(self.visual_value(visual)))  # (B, T, d)
        return (
            self.audio_norm(audio + self.dropout(taken_by_audio)),
            self.visual_norm(visual + self.dropout(taken_by_visual)),
            gate,
        )

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, d) -> (B, h, T, d/h)

    def _merge(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)  # (B, h, T, d/h) -> (B, T, d)

    def _pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        rows, columns = self._split(rows), self._split(columns)
        return rows @ columns.transpose(-1, -2) / rows.shape[-1] ** 0.5  # (B, h, T, T)


class Integration(nn.Module):
    """The joint view asks both modalities and its own past and future (attention, residual, feed-forward)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), ClipDropout(dropout), nn.Linear(2 * width, width)
        )
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = ClipDropout(dropout)

    def forward(self, fused: Tensor, audio: Tensor, visual: Tensor) -> Tensor:
        """Integrate three (batch, segment, width) views into one (batch, segment, width)."""
        told = torch.cat([audio, visual, fused], 1)  # (B, 3T, d)
        answer, _ = self.attention(fused, told, told, need_weights=False)  # (B, T, d)
        view = self.attention_norm(fused + self.dropout(answer))
        return self.feed_forward_norm(view + self.dropout(self.feed_forward(view)))
