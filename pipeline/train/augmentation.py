"""More training scenes from those of a batch, none of them with a wrong label."""

import torch
from torch import Tensor

from ccln.model.matching import is_findable


def exchange_audio(audio: Tensor, event: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Let clips that are event from start to end exchange their whole audio with others of their class in the batch.

    Where every second of two clips is an event of the same class, the frames of one with the audio of the other are
    again that class seen and heard in every second. So the labels stay true, and no frames can be recognised by the one
    audio that they came with. Our own addition; the paper's abstract does not mention augmentation.

    Args:
        audio: (batch, segment, channel).
        event: (batch, segment), 1 in event segments.
        labels: class of each clip (batch,); -1 for a clip without any event.
        share: probability that such a clip takes the audio of a random one of its kind (perhaps its own), 0..1.
        generator: of the random choices, on the CPU as all tensors here.

    Returns:
        New audio of the same shape.
    """
    batch = len(labels)
    full = event.bool().all(1)  # (B,)
    alike = full[:, None] & full & (labels[:, None] == labels) | torch.eye(batch, dtype=torch.bool)  # (B, B)
    partner = torch.multinomial(alike.float(), 1, generator=generator).squeeze(1)  # (B,)
    takes = torch.rand(batch, generator=generator) < share
    return audio[torch.where(takes, partner, torch.arange(batch))]


def surround(batch: dict[str, Tensor], share: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Put background around events that fill their clip, so that these too begin and end within it.

    Such a clip takes the background seconds, audio and visual, of a random clip of the batch that `is_findable`, and
    so the place and the length of its event. Most of AVE's training clips are one full event (2,547 of 3,339), which
    show nothing of where events begin and end. Our own addition.

    Args:
        batch: visual, audio and event, each (batch, segment, ...), which are written to; other entries are kept.
        share: probability that a full event is surrounded, 0..1.
        generator: of the random choices, on the CPU as all tensors here.

    Returns:
        The batch.
    """
    event = batch["event"]
    lenders = is_findable(event).nonzero().squeeze(1)
    if not len(lenders):
        return batch
    lender = lenders[torch.randint(len(lenders), (len(event),), generator=generator)]  # (B,)
    chosen = event.bool().all(1) & (torch.rand(len(event), generator=generator) < share)  # (B,)
    clips, seconds = (chosen[:, None] & (event[lender] == 0)).nonzero(as_tuple=True)
    for name in ("visual", "audio", "event"):  # the chosen are full events and lenders never are: none is both
        batch[name][clips, seconds] = batch[name][lender[clips], seconds]
    return batch
