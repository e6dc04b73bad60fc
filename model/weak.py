"""What CCLN is trained on when all that is known of a clip is its class, or that it is background throughout."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ccln.model.enhancement import scene_distance_loss
from ccln.model.losses import LossConfig, class_loss, log_both_and_not, one_after_the_other, summed
from ccln.model.network import Output

EVENT_SHARE = 0.1
"""A segment is taken for event where the evidence for the clip's class is at least this share of the clip's highest."""


def multiple_instance_loss(log_yes: Tensor, log_no: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of "is this class in the clip?", for every class, from answers segment by segment.

    For the clip's class the probability is the mean over its segments, which a part of them may carry. A class that the
    clip does not have is absent from each of its segments, so each answers for itself: that is where the labels of
    clips say as much as labels of segments.

    Args:
        log_yes: log-probability of each class in each segment (batch, segment, class).
        log_no: of its absence, the same shape.
        labels: class of each clip (batch,); -1 for background throughout, where all classes are absent.

    Returns:
        A scalar: summed over classes, averaged over clips.
    """
    present = labels[:, None] == torch.arange(log_yes.shape[-1], device=labels.device)  # (B, n)
    log_mean = log_yes.logsumexp(1) - math.log(log_yes.shape[1])  # (B, n)
    return -torch.where(present, log_mean, log_no.mean(1)).sum(-1).mean()


def own_segment_labels(log_both: Tensor, labels: Tensor) -> Tensor:
    """Where the model itself, told the clip's class, takes the event to be; the event gate is trained on that.

    Somewhere in the clip the event must be, and how sure the model is there is the measure for the other segments:
    event is where "heard and seen" reaches `EVENT_SHARE` of its maximum in the clip. At first, when nothing is known
    yet, that is everywhere. Told so, the order of segments within a clip is far better than across clips (area under
    the curve 0.98 against 0.92 on validation clips), and a gate trained on the probability itself stays below any
    threshold.

    Args:
        log_both: log-probability that a class is both heard and seen (batch, segment, class).
        labels: class of each clip (batch,); -1 for background throughout.

    Returns:
        1 where event, else 0 (batch, segment); without gradient.
    """
    segments = log_both.shape[1]
    chosen = labels.clamp_min(0)[:, None, None].expand(-1, segments, 1)
    evidence = log_both.detach().gather(-1, chosen).squeeze(-1)  # (B, T)
    event = evidence >= evidence.amax(1, keepdim=True) + math.log(EVENT_SHARE)
    return (event & (labels >= 0)[:, None]).to(log_both.dtype)


def weak_loss(output: Output, labels: Tensor, config: LossConfig, wccl_warmth: float = 1.0) -> dict[str, Tensor]:
    """All losses of weak supervision, and their weighted sum under "total"; our reading of the abstract.

    Class evidence in each modality and in both together is learnt as multiple instances; the event gate and FEE's
    weight then learn where that evidence for the clip's class lies; the class is that of the segments pooled with the
    weight. In background clips the gate is closed. FEE's distance in a scene is between the seconds that the
    model's own weight calls event (above one half) and the others. WCCL is what it is under full supervision.

    Args:
        output: of a CCLN in training mode.
        labels: class of each clip (batch,); -1 for a clip that is background throughout.
        config: the weights.
        wccl_warmth: 0..1, multiplies WCCL's weight.

    Returns:
        Scalars: event, class, modality, and fee and wccl where the network has these parts; total.
    """
    said, every_label = one_after_the_other(output.backbones), labels.repeat(len(output.backbones))
    heard, seen = said.audio_logits, said.visual_logits
    log_both, log_not_both = log_both_and_not(heard, seen)
    event = own_segment_labels(log_both, every_label)  # (K * B, T): each backbone learns from its own answers
    losses = {
        "event": F.binary_cross_entropy_with_logits(said.event_logits, event),
        "class": class_loss(said.class_logits, every_label),
        "modality": multiple_instance_loss(F.logsigmoid(heard), F.logsigmoid(-heard), every_label)
        + multiple_instance_loss(F.logsigmoid(seen), F.logsigmoid(-seen), every_label)
        + multiple_instance_loss(log_both, log_not_both, every_label),
    }
    if said.foreground_logits is not None:
        weights = torch.sigmoid(said.foreground_logits)
        own = ((weights.detach() > 0.5) & (every_label >= 0)[:, None]).to(weights.dtype)
        distance = scene_distance_loss(said.enhanced, weights, own, config.margin)
        losses["fee"] = distance + F.binary_cross_entropy_with_logits(said.foreground_logits, event)
    return summed(losses, output, labels, config, wccl_warmth)
