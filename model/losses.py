"""What CCLN is trained on when every segment has a label."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ccln.model.backbone import BackboneOutput
from ccln.model.contrast import wccl_loss
from ccln.model.enhancement import scene_distance_loss
from ccln.model.network import Output


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses beside the event and the class loss, whose weight is one."""

    fee_weight: float = 0.2
    """Weight of FEE: its distance between event and background, and the cross-entropy of its adaptive weight."""
    wccl_weight: float = 0.3
    """Weight of WCCL once it is warm; above 0, for without it the branch network would vote untaught."""
    modality_weight: float = 0.3
    """Weight of the loss that makes "seen" and "heard" both true exactly where the event is."""
    temperature: float = 0.1
    """WCCL's temperature."""
    margin: float = 1.0
    """Wanted cosine distance between a scene's event and its background."""

    def __post_init__(self) -> None:
        for name in ("fee_weight", "modality_weight", "margin"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} = {getattr(self, name)}: expected a finite number, at least 0")
        if not 0 < self.wccl_weight < math.inf:
            raise ValueError(
                f"wccl_weight = {self.wccl_weight}: expected a finite number above 0; to do without, leave the part out"
            )
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature = {self.temperature}: expected a finite number above 0")


def log_both_and_not(audio_logits: Tensor, visual_logits: Tensor) -> tuple[Tensor, Tensor]:
    """log(P(heard) P(seen)) and log(1 - P(heard) P(seen)), each of the logits' shape."""
    log_both = F.logsigmoid(audio_logits) + F.logsigmoid(visual_logits)
    # Not both = not heard, or heard and not seen: keeps its digits and its gradient where both are sure.
    log_not_both = torch.logaddexp(
        F.logsigmoid(-audio_logits), F.logsigmoid(audio_logits) + F.logsigmoid(-visual_logits)
    )
    return log_both, log_not_both


def seen_and_heard_loss(audio_logits: Tensor, visual_logits: Tensor, event: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of P(heard) P(seen) per class against "this class's event is here" (our reading).

    An event is both seen and heard, so the product is what the segment labels speak of; each factor alone is free to be
    high where its modality shows the class and the other does not.

    Args:
        audio_logits: (batch, segment, class), from the sound alone.
        visual_logits: (batch, segment, class), from the picture.
        event: (batch, segment), 1 in event segments.
        labels: (batch,), -1 for a clip without any event.

    Returns:
        A scalar: summed over classes, averaged over segments.
    """
    classes = torch.arange(audio_logits.shape[-1], device=labels.device)
    target = (labels[:, None] == classes).to(event.dtype)[:, None, :] * event[..., None]  # (B, T, n)
    log_both, log_not_both = log_both_and_not(audio_logits, visual_logits)
    return -(target * log_both + (1 - target) * log_not_both).sum(-1).mean()


def each_modality_loss(audio_logits: Tensor, visual_logits: Tensor, event: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of P(heard) and of P(seen) against the event's class, in event segments only (our reading).

    In an event its class is seen, and it is heard; another class beside it is rare enough to be called absent. Without
    this, the product of `seen_and_heard_loss` leaves all the work to the modality that learns faster, the picture
    (measured: the sound alone then named 37 % of validation clips, with it 44 %). Background segments say
    nothing here: which modality lacks the event is not labelled.

    Args:
        audio_logits: (batch, segment, class), from the sound alone.
        visual_logits: (batch, segment, class), from the picture.
        event: (batch, segment), 1 in event segments.
        labels: (batch,), -1 for a clip without any event.

    Returns:
        A scalar: summed over classes and modalities, averaged over event segments; zero if there is none.
    """
    target = F.one_hot(labels.clamp_min(0), audio_logits.shape[-1]).to(event.dtype)[:, None, :].expand_as(audio_logits)
    per_segment = sum(
        F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
        for logits in (audio_logits, visual_logits)
    )  # (B, T)
    return (per_segment * event).sum() / event.sum().clamp_min(1)


def supervised_loss(
    output: Output, event: Tensor, labels: Tensor, config: LossConfig, wccl_warmth: float = 1.0
) -> dict[str, Tensor]:
    """All losses of full supervision, and their weighted sum under "total".

    Args:
        output: of a CCLN in training mode.
        event: (batch, segment), 1 in event segments.
        labels: class of each clip's event (batch,); -1 for a clip without any event.
        config: the weights.
        wccl_warmth: 0..1, multiplies WCCL's weight.

    Returns:
        Scalars: event, class, modality, and fee and wccl where the network has these parts, the mean over the
        backbones; total.
    """
    said = one_after_the_other(output.backbones)
    every_event, every_label = event.repeat(len(output.backbones), 1), labels.repeat(len(output.backbones))
    losses = {
        "event": F.binary_cross_entropy_with_logits(said.event_logits, every_event),
        "class": class_loss(said.class_logits, every_label),
        "modality": seen_and_heard_loss(said.audio_logits, said.visual_logits, every_event, every_label)
        + each_modality_loss(said.audio_logits, said.visual_logits, every_event, every_label),
    }
    if said.foreground_logits is not None:
        weights = torch.sigmoid(said.foreground_logits)
        distance = scene_distance_loss(said.enhanced, weights, every_event, config.margin)
        losses["fee"] = distance + F.binary_cross_entropy_with_logits(said.foreground_logits, every_event)
    return summed(losses, output, labels, config, wccl_warmth)


def one_after_the_other(backbones: Sequence[BackboneOutput]) -> BackboneOutput:
    """What the backbones say, as if one had said it of as many more clips: (backbone * batch, ...), without views.

    A loss that averages over clips or segments is then the mean of the backbones', at the price of one; over the clips
    or segments that a backbone chose itself, it is the mean over the choices of all.
    """
    joined = {
        name: torch.cat([getattr(one, name) for one in backbones])
        for name, value in backbones[0]._asdict().items()
        if isinstance(value, Tensor)
    }
    return backbones[0]._replace(**joined, views=None)


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the clips that have an event.

    Args:
        logits: (batch, class).
        labels: (batch,), -1 for a clip without any event.

    Returns:
        A scalar; zero if no clip has an event.
    """
    has_event = labels >= 0
    per_clip = F.cross_entropy(logits, labels.clamp_min(0), reduction="none")
    return (per_clip * has_event).sum() / has_event.sum().clamp_min(1)


def summed(
    of_backbones: dict[str, Tensor], output: Output, labels: Tensor, config: LossConfig, wccl_warmth: float
) -> dict[str, Tensor]:
    """The backbones' losses, WCCL where the network has it, and under "total" the weighted sum of all.

    Args:
        of_backbones: their mean losses; "modality" and "fee" have a weight in the config, all others weigh one.
        output: of the network.
        labels: (batch,), -1 for clips without any event.
        config: the weights.
        wccl_warmth: 0..1, multiplies WCCL's weight.
    """
    losses = dict(of_backbones)
    if output.branch is not None:
        views = [backbone.views for backbone in output.backbones if backbone.views is not None]
        contrast = [wccl_loss(of_backbone, output.branch.views, labels, config.temperature) for of_backbone in views]
        naming = [class_loss(votes, labels) for votes in output.branch.votes]
        losses["wccl"] = (torch.stack(contrast).mean() + torch.stack(naming).mean()) / 2
    weights = {"modality": config.modality_weight, "fee": config.fee_weight, "wccl": config.wccl_weight * wccl_warmth}
    total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
    return losses | {"total": total}
