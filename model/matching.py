"""Cross-modality localization: embeddings of single seconds, each modality on its own, and what they are trained on.

A query of l seconds in one modality is laid upon every l seconds of the other; where the sum of distances is smallest,
there the event is predicted to start. Axes in the order (batch, segment, height, width, channel).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.model.config import LossConfig, ModelConfig
from ccln.model.hub import Pretrained
from ccln.model.layers import Branch, ClipDropout, Standardization
from ccln.model.losses import wccl_loss


class MatchingOutput(NamedTuple):
    """Output of a matching network: unit vectors, near to each other where they belong together."""

    audio: Tensor
    """Of each second's audio (batch, segment, embedding)."""
    visual: Tensor
    """Of each second's frames (batch, segment, embedding)."""
    branch: tuple[Tensor, Tensor] | None
    """The branch network's audio and visual view of the event, each (batch, embedding); None without a branch network,
    and outside training."""


class SecondEncoder(nn.Module):
    """One modality, each second on its own, to unit vectors (our reading).

    CCLN's temporal encoder less its recurrence: an embedding that depends neither on the seconds around nor on the time
    can give away neither where in its clip a query was cut out nor where events usually start. With the recurrence,
    each query cut out before it, as many were found in four times the time (docs/experiments.md).
    """

    def __init__(self, channels: int, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(channels, width), nn.ReLU(), ClipDropout(dropout), nn.LayerNorm(width)
        )
        self.head = nn.Sequential(ClipDropout(dropout), nn.Linear(width, embedding))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, segment, channel) -> (batch, segment, embedding)."""
        return F.normalize(self.head(self.projection(features)), dim=-1)


class MatchingNetwork(Pretrained, kind="matching"):
    """Embeds the seconds of each modality so that those of one event lie close together.

    No part of it lets one modality see the other, and none lets a second see another second.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Make it from the config of a CCLN, of which the parts sbi and fee have no counterpart here.

        Raises:
            ValueError: the config leaves out sbi or fee.
        """
        super().__init__(config)
        absent = [part for part in config.without if part != "wccl"]
        if absent:
            raise ValueError(f"without = {absent}: a matching network has no such part, only wccl can be left out")
        width = 2 * config.width  # without recurrence and interaction that is cheap, and finds more
        self.standardization = Standardization(config.audio_channels)
        self.channel_dropout = ClipDropout(config.channel_dropout)
        self.audio_encoder = SecondEncoder(config.audio_channels, width, config.embedding_width, config.dropout)
        self.visual_norm = nn.LayerNorm(config.visual_channels)
        self.visual_encoder = SecondEncoder(config.visual_channels, width, config.embedding_width, config.dropout)
        self.branch = None if "wccl" in config.without else Branch(config, width)

    def forward(self, visual: Tensor, audio: Tensor, event: Tensor | None = None) -> MatchingOutput:
        """Embed a batch of clips.

        Args:
            visual: (batch, segment, height, width, channel), floating point; of any height and width, for only the mean
                over the regions is used.
            audio: (batch, segment, channel), floating point.
            event: (batch, segment), 1 in event segments; what the branch network pools over, so needed in training.

        Raises:
            ValueError: channels that the config does not have.
        """
        config = self.config
        if visual.shape[-1] != config.visual_channels or audio.shape[-1] != config.audio_channels:
            raise ValueError(
                f"visual {tuple(visual.shape)} and audio {tuple(audio.shape)}: this network reads "
                f"{config.visual_channels} and {config.audio_channels} channels"
            )
        audio = self.standardization(audio)  # (B, T, D)
        mean = self.channel_dropout(visual.mean((2, 3)))  # (B, T, C)
        branch = None
        if self.training and self.branch is not None and event is not None:
            branch = self.branch(mean, audio, _pooling_weights(event))
        return MatchingOutput(self.audio_encoder(audio), self.visual_encoder(self.visual_norm(mean)), branch)


def is_findable(event: Tensor) -> Tensor:
    """Which clips have something to find: one unbroken event, shorter than the clip.

    Args:
        event: (clip, segment), 1 in event segments.

    Returns:
        bool (clip,).
    """
    begins = F.pad(event, (1, 0))[:, :-1] < event  # (clip, segment)
    return (begins.sum(1) == 1) & (event.sum(1) < event.shape[1])


def window_distances(queries: Tensor, searched: Tensor, event: Tensor) -> Tensor:
    """How far a query lies from every window of its length in the other modality.

    Args:
        queries: unit vectors (batch, segment, embedding) of the query's modality; its event segments are the query, the
            others do not count.
        searched: unit vectors (batch, segment, embedding) of the other modality.
        event: (batch, segment), 1 in the query's segments, which are neighbours.

    Returns:
        (batch, segment): the sum of the cosine distances (half the squared Euclidean ones) of the query's segments from
        those of the window that starts here; infinite where no window of that length starts.
    """
    segments = event.shape[1]
    place = torch.arange(segments, device=event.device)
    start, length = event.argmax(1), event.sum(1)
    distance = 1 - queries @ searched.transpose(1, 2)  # (B, T of the query, T)
    # Laid at s, the query's second i comes to lie upon second s + i - start.
    upon = place[:, None] - start[:, None, None] + place  # (B, T of the query, s)
    laid = distance.gather(2, upon.clamp(0, segments - 1)) * event[..., None]
    return laid.sum(1).masked_fill(place + length[:, None] > segments, torch.inf)


def window_contrast(queries: Tensor, searched: Tensor, event: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the true start under a softmax over all windows of the clip (our reading).

    The decision that is scored: the event's seconds are positives, those around it in the same clip negatives.

    Args:
        queries: unit vectors (batch, segment, embedding) of the query's modality.
        searched: unit vectors (batch, segment, embedding) of the other modality.
        event: (batch, segment), 1 in event segments.
        temperature: divides a window's mean distance.

    Returns:
        A scalar: the mean over the clips that `is_findable` names; zero if there is none.
    """
    mean = window_distances(queries, searched, event) / event.sum(1, keepdim=True).clamp_min(1)  # (B, T)
    per_clip = F.cross_entropy(-mean / temperature, event.argmax(1), reduction="none")
    findable = is_findable(event)
    return (per_clip * findable).sum() / findable.sum().clamp_min(1)


def matching_loss(
    output: MatchingOutput, event: Tensor, labels: Tensor, config: LossConfig, wccl_warmth: float = 1.0
) -> dict[str, Tensor]:
    """All losses of cross-modality localization, and their weighted sum under "total".

    Args:
        output: of a matching network in training mode.
        event: (batch, segment), 1 in event segments.
        labels: class of each clip's event (batch,); -1 for a clip without any event.
        config: weight of WCCL, and the temperature of all contrasts.
        wccl_warmth: 0..1, multiplies WCCL's weight.

    Returns:
        Scalars: a2v, v2a, and wccl where the network has it; total.
    """
    losses = {
        "a2v": window_contrast(output.audio, output.visual, event, config.temperature),
        "v2a": window_contrast(output.visual, output.audio, event, config.temperature),
    }
    total = (losses["a2v"] + losses["v2a"]) / 2
    if output.branch is not None:
        weights = _pooling_weights(event)
        audio, visual = (F.normalize((weights[..., None] * z).sum(1), dim=-1) for z in (output.audio, output.visual))
        losses["wccl"] = wccl_loss((audio, visual), output.branch, labels, config.temperature)
        total = total + config.wccl_weight * wccl_warmth * losses["wccl"]
    return losses | {"total": total}


def _pooling_weights(event: Tensor) -> Tensor:
    """The event's segments, or all of them where there is none: such a clip is a negative as a whole."""
    return torch.where(event.any(1, keepdim=True), event, 1.0)
