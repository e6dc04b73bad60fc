"""What CCLN is trained on: with a label for every segment, with one for the clip alone, and WCCL in both.

Where the paper's equations are needed the formulas are our reading of its abstract. Axes in the order (batch, segment,
class or channel). A clip's label is -1 where it has no event.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ccln.model.config import LossConfig
from ccln.model.network import MemberOutput, Output

EVENT_SHARE = 0.1
"""A segment is taken for event where the evidence for the clip's class is at least this share of the clip's highest."""


def supervised_loss(
    output: Output,
    event: Tensor,
    labels: Tensor,
    config: LossConfig,
    wccl_warmth: float = 1.0,
    classes: Tensor | None = None,
) -> dict[str, Tensor]:
    """All losses of full supervision, and their weighted sum under "total".

    Args:
        output: of a CCLN in training mode.
        event: (batch, segment), 1 in event segments.
        labels: class of each clip's event (batch,); -1 for a clip without any event.
        config: the weights.
        wccl_warmth: 0..1, multiplies WCCL's weight.
        classes: class of each event segment (batch, segment), for clips with several; if None the clip's.

    Returns:
        Scalars: event, class, modality, and fee and wccl where the network has these parts, the mean over the members;
        total.
    """
    every = joined(output.members)
    every_event, every_label = event.repeat(len(output.members), 1), labels.repeat(len(output.members))
    every_class = every_label[:, None] if classes is None else classes.repeat(len(output.members), 1)
    losses = {
        "event": F.binary_cross_entropy_with_logits(every.event_logits, every_event),
        "class": class_loss(every.class_logits, every_label),
        "modality": seen_and_heard_loss(every.audio_logits, every.visual_logits, every_event, every_class)
        + each_modality_loss(every.audio_logits, every.visual_logits, every_event, every_class),
    }
    if every.foreground_logits is not None:
        weights = torch.sigmoid(every.foreground_logits)
        distance = scene_distance_loss(every.enhanced, weights, every_event, config.margin)
        losses["fee"] = distance + F.binary_cross_entropy_with_logits(every.foreground_logits, every_event)
    return _with_wccl_and_total(losses, output, labels, config, wccl_warmth)


def weak_loss(output: Output, labels: Tensor, config: LossConfig, wccl_warmth: float = 1.0) -> dict[str, Tensor]:
    """All losses of weak supervision, and their weighted sum under "total".

    Class evidence in each modality and in both together is learnt as multiple instances; the event gate and FEE's
    weight then learn where that evidence for the clip's class lies; the class is that of the segments pooled with the
    weight. In background clips the gate is closed. FEE's distance in a scene is between the seconds whose weight is
    above one half and the others. WCCL is what it is under full supervision.

    Args:
        output: of a CCLN in training mode.
        labels: class of each clip (batch,); -1 for a clip that is background throughout.
        config: the weights.
        wccl_warmth: 0..1, multiplies WCCL's weight.

    Returns:
        Scalars: event, class, modality, and fee and wccl where the network has these parts; total.
    """
    every, every_label = joined(output.members), labels.repeat(len(output.members))
    audio, visual = every.audio_logits, every.visual_logits
    log_both, log_not_both = log_both_and_not(audio, visual)
    event = own_segment_labels(log_both, every_label)  # (K * B, T): each of K members learns from its own evidence
    losses = {
        "event": F.binary_cross_entropy_with_logits(every.event_logits, event),
        "class": class_loss(every.class_logits, every_label),
        "modality": multiple_instance_loss(F.logsigmoid(audio), F.logsigmoid(-audio), every_label)
        + multiple_instance_loss(F.logsigmoid(visual), F.logsigmoid(-visual), every_label)
        + multiple_instance_loss(log_both, log_not_both, every_label),
    }
    if every.foreground_logits is not None:
        weights = torch.sigmoid(every.foreground_logits)
        own = ((weights.detach() > 0.5) & (every_label >= 0)[:, None]).to(weights.dtype)
        distance = scene_distance_loss(every.enhanced, weights, own, config.margin)
        losses["fee"] = distance + F.binary_cross_entropy_with_logits(every.foreground_logits, event)
    return _with_wccl_and_total(losses, output, labels, config, wccl_warmth)


def joined(members: Sequence[MemberOutput]) -> MemberOutput:
    """The members' outputs as that of one member of as many more clips, (member * batch, ...), without views.

    A loss that averages over clips or segments is then the mean of the members', at the price of one; over the clips or
    segments that a member chose itself, it is the mean over the choices of all.
    """
    values = {
        name: torch.cat([getattr(one, name) for one in members])
        for name, value in members[0]._asdict().items()
        if isinstance(value, Tensor)
    }
    return members[0]._replace(**values, views=None)


def _with_wccl_and_total(
    of_members: dict[str, Tensor], output: Output, labels: Tensor, config: LossConfig, wccl_warmth: float
) -> dict[str, Tensor]:
    """The members' losses, of which "modality" and "fee" have a weight, then "wccl" and the weighted sum "total"."""
    losses = dict(of_members)
    if output.branch is not None:
        views = [member.views for member in output.members if member.views is not None]
        contrast = [wccl_loss(of_member, output.branch.views, labels, config.temperature) for of_member in views]
        classes = [class_loss(logits, labels) for logits in output.branch.class_logits]
        losses["wccl"] = (torch.stack(contrast).mean() + torch.stack(classes).mean()) / 2
    weights = {"modality": config.modality_weight, "fee": config.fee_weight, "wccl": config.wccl_weight * wccl_warmth}
    total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
    return losses | {"total": total}


# --- Class and modality -----------------------------------------------------------------------------------------------


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

    An event is both seen and heard, so the segment labels are about the product; each factor alone is free to be high
    where its modality shows the class and the other does not.

    Args:
        audio_logits: (batch, segment, class), from the audio alone.
        visual_logits: (batch, segment, class), from the frames.
        event: (batch, segment), 1 in event segments.
        labels: class of each segment (batch, segment), or of all of a clip (batch, 1); it matters in events alone.

    Returns:
        A scalar: summed over classes, averaged over segments.
    """
    classes = torch.arange(audio_logits.shape[-1], device=labels.device)
    target = (labels[..., None] == classes).to(event.dtype) * event[..., None]  # (B, T, n)
    log_both, log_not_both = log_both_and_not(audio_logits, visual_logits)
    return -(target * log_both + (1 - target) * log_not_both).sum(-1).mean()


def each_modality_loss(audio_logits: Tensor, visual_logits: Tensor, event: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of P(heard) and of P(seen) against the event's class, in event segments only (our reading).

    In an event its class is seen, and it is heard; another class beside it is rare enough to be called absent. Without
    this, the product of `seen_and_heard_loss` leaves all the work to the modality that learns faster, the visual one
    (measured: the audio alone then classified 37 % of validation clips rightly, with it 44 %). Background segments do
    not count: which modality lacks the event is not labelled.

    Args:
        audio_logits: (batch, segment, class), from the audio alone.
        visual_logits: (batch, segment, class), from the frames.
        event: (batch, segment), 1 in event segments.
        labels: class of each segment (batch, segment), or of all of a clip (batch, 1); it matters in events alone.

    Returns:
        A scalar: summed over classes and modalities, averaged over event segments; zero if there is none.
    """
    target = F.one_hot(labels.clamp_min(0), audio_logits.shape[-1]).to(event.dtype).expand_as(audio_logits)
    per_segment = sum(
        F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
        for logits in (audio_logits, visual_logits)
    )  # (B, T)
    return (per_segment * event).sum() / event.sum().clamp_min(1)


# --- FEE --------------------------------------------------------------------------------------------------------------


def scene_distance_loss(enhanced: Tensor, weights: Tensor, event: Tensor, margin: float = 1.0) -> Tensor:
    """FEE's training-time distance between the event and the background of the same scene (our reading).

    Event and background prototypes are weighted means of g', each second weighted by how sure the model is of it (w
    for event seconds, 1 - w for background) and twice as much when it lies at a boundary, where confusion costs most.
    The loss is the hinge max(0, margin - (1 - cos(event prototype, background prototype))), averaged over the clips
    that hold both kinds; zero if none does. No cost at inference.

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
    least = 0.1  # so that a second the model is wrong about still counts
    for_event = event * nearness * weights.clamp_min(least)
    for_background = (1 - event) * nearness * (1 - weights).clamp_min(least)
    event_prototype = torch.einsum("bt,btd->bd", for_event, enhanced)
    background_prototype = torch.einsum("bt,btd->bd", for_background, enhanced)
    distance = 1 - F.cosine_similarity(event_prototype, background_prototype, dim=-1)  # scale does not matter
    both = ((event.sum(1) > 0) & ((1 - event).sum(1) > 0)).to(enhanced.dtype)
    return (both * F.relu(margin - distance)).sum() / both.sum().clamp_min(1)


# --- Weak supervision -------------------------------------------------------------------------------------------------


def multiple_instance_loss(log_yes: Tensor, log_no: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of "is this class in the clip?", for every class, from the probabilities of the segments.

    For the clip's class the probability is the mean over its segments, which a part of them may carry. A class that the
    clip does not have is absent from each of its segments, so each segment has its own loss: there the labels of clips
    hold as much as labels of segments.

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
    """Where the model itself, given the clip's class, takes the event to be; the event gate is trained on that.

    Somewhere in the clip the event must be, and how sure the model is there is the measure for the other segments:
    event is where "heard and seen" reaches `EVENT_SHARE` of its maximum in the clip. At first, when nothing is known
    yet, that is everywhere. Given the class, the order of segments within a clip is far better than across clips (area
    under the curve 0.98 against 0.92 on validation clips), and a gate trained on the probability itself stays below any
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


# --- WCCL -------------------------------------------------------------------------------------------------------------


def wccl_loss(
    member: tuple[Tensor, Tensor], branch: tuple[Tensor, Tensor], labels: Tensor, temperature: float = 0.1
) -> Tensor:
    """WCCL: contrast between modalities in both directions, and between a member's and the branch's views.

    Args:
        member: audio and visual unit vectors, each (batch, embedding).
        branch: the same from the branch network.
        labels: (batch,), -1 for clips without any event. No segment label is used, so the loss serves weak supervision.
        temperature: of the softmax over the batch.

    Returns:
        The mean of the six directed losses, a scalar.
    """
    (audio, visual), (branch_audio, branch_visual) = member, branch
    anchors = torch.stack([audio, visual, audio, visual, branch_audio, branch_visual])
    others = torch.stack([visual, audio, branch_visual, branch_audio, audio, visual])
    return contrastive_loss(anchors, others, labels, temperature)


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
