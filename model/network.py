"""CCLN: one guided attention, and behind it backbone networks and a branch network.

An independent reading of the abstract of "Listen With Seeing: Cross-Modal Contrastive Learning for Audio-Visual Event
Localization"; its equations are not public. Axes in the order (batch, segment, height, width, channel).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ccln.model.attention import GuidedAttention
from ccln.model.backbone import Backbone, BackboneOutput
from ccln.model.config import ModelConfig
from ccln.model.contrast import NamingBranch
from ccln.model.pretrained import Pretrained
from ccln.model.standardization import Standardization


class BranchOutput(NamedTuple):
    """What the branch network says of a batch of clips."""

    views: tuple[Tensor, Tensor]
    """Of the sound and of the picture, pooled over time: unit vectors (batch, embedding)."""
    votes: tuple[Tensor, Tensor]
    """Class logits of the sound and of the picture (batch, class)."""


class Output(NamedTuple):
    """All that CCLN says of a batch of clips."""

    event_logits: Tensor
    """Is this second event? (batch, segment); the backbones' mean."""
    class_logits: Tensor
    """Which class is the clip's event? (batch, class); the backbones' mean log-probabilities and the branch's votes."""
    segment_class_logits: Tensor | None
    """Which class is this second's event, should it be one? (batch, segment, class); the backbones' mean
    log-probabilities; None in training. The branch has no say: it compares whole clips."""
    audio_logits: Tensor
    """Evidence for each class in the second's sound alone (batch, segment, class); the backbones' mean."""
    visual_logits: Tensor
    """Evidence for each class in the picture where the second's sound made the network look (batch, segment, class);
    the backbones' mean."""
    attention: Tensor
    """Where the sound made the network look (batch, segment, height, width)."""
    backbones: tuple[BackboneOutput, ...]
    """What each backbone says; each learns on its own."""
    branch: BranchOutput | None
    """What the branch network says; None where there is none."""


class CCLN(Pretrained, nn.Module):
    """The whole network; ``config.without`` leaves parts out for ablation.

    Two additions of our own, of which the paper's abstract does not speak. What a network learns from a few thousand
    clips is also a matter of chance: runs that differ in nothing but their first weights differ by points. So there
    are ``config.backbones`` backbones, which differ in nothing else and share the attention (by far the largest
    computation), and what they say is averaged. And the branch network votes when the clip is named. It learns from
    WCCL alone, and what it learns does not change where the network looks: so its errors are its own.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.standardization = Standardization(config.audio_channels)
        self.attention = GuidedAttention(
            config.visual_channels, config.audio_channels, config.width, config.channel_dropout
        )
        self.backbones = nn.ModuleList(Backbone(config) for _ in range(config.backbones))
        self.branch = (
            None
            if "wccl" in config.without
            else NamingBranch(
                config.visual_channels,
                config.audio_channels,
                config.width,
                config.embedding_width,
                config.branch_noise,
                config.dropout,
                config.class_count,
            )
        )

    def forward(self, visual: Tensor, audio: Tensor) -> Output:
        """Read a batch of clips.

        Args:
            visual: (batch, segment, height, width, channel), floating point.
            audio: (batch, segment, channel), floating point.

        Raises:
            ValueError: shapes that the config does not allow.
        """
        config, clips = self.config, visual.shape[:1]
        seen = (config.segment_count, config.visual_height, config.visual_width, config.visual_channels)
        heard = (config.segment_count, config.audio_channels)
        if visual.shape != (*clips, *seen) or audio.shape != (*clips, *heard):
            raise ValueError(
                f"visual {tuple(visual.shape)} and audio {tuple(audio.shape)}: this network reads "
                f"(batch, {', '.join(map(str, seen))}) and (batch, {', '.join(map(str, heard))})"
            )
        audio = self.standardization(audio)  # (B, T, D)
        picture, attention = self.attention(visual, audio)  # (B, T, C), (B, T, H, W)
        said: tuple[BackboneOutput, ...] = tuple(backbone(picture, audio) for backbone in self.backbones)
        event_logits = _mean([one.event_logits for one in said])
        class_logits = _mean([one.class_logits.log_softmax(-1) for one in said])
        by_segment = [one.segment_class_logits for one in said if one.segment_class_logits is not None]
        branch = None
        if self.branch is not None:
            views = self.branch(audio, picture.detach(), torch.sigmoid(event_logits.detach()))
            branch = BranchOutput(views, self.branch.votes(views))
            class_logits = class_logits + sum(branch.votes)
        return Output(
            event_logits=event_logits,
            class_logits=class_logits,
            segment_class_logits=_mean([one.log_softmax(-1) for one in by_segment]) if by_segment else None,
            audio_logits=_mean([one.audio_logits for one in said]),
            visual_logits=_mean([one.visual_logits for one in said]),
            attention=attention,
            backbones=said,
            branch=branch,
        )


def _mean(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).mean(0)
