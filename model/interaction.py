"""Fusion, SBI and integration: the information flow of the backbone network."""

import torch
from torch import Tensor, nn


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
    its own parts. Gamma = rows of ReLU(C) * G normalised to sum one, entries under 1 / (2 T) cut and the rows
    normalised again; the other direction does the same with the transposed C and G.
    v' = LN(v + Gamma a Wa), a' = LN(a + Gamma' v Wv).

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
        self.dropout = nn.Dropout(dropout)

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
            passed = correlation.relu() * gate
            to_visual, to_audio = _keep_strong(passed), _keep_strong(passed.transpose(-1, -2))
        else:
            gate = torch.ones_like(correlation)
            to_visual, to_audio = correlation.softmax(-1), correlation.transpose(-1, -2).softmax(-1)
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


def _keep_strong(passed: Tensor) -> Tensor:
    """Normalise rows of non-negative weights, cut those under half the uniform weight, normalise again."""
    floor = 1e-6  # of a row's sum: far smaller ones let the gradient overflow where nothing passes
    weights = passed / passed.sum(-1, keepdim=True).clamp_min(floor)
    strong = weights * (weights > 0.5 / weights.shape[-1])
    return strong / strong.sum(-1, keepdim=True).clamp_min(floor)


class Integration(nn.Module):
    """The joint view asks both modalities and its own past and future (attention, residual, feed-forward)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, fused: Tensor, audio: Tensor, visual: Tensor) -> Tensor:
        """Integrate three (batch, segment, width) views into one (batch, segment, width)."""
        told = torch.cat([audio, visual, fused], 1)  # (B, 3T, d)
        answer, _ = self.attention(fused, told, told, need_weights=False)  # (B, T, d)
        view = self.attention_norm(fused + self.dropout(answer))
        return self.feed_forward_norm(view + self.dropout(self.feed_forward(view)))
