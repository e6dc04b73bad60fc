"""More training scenes from the ones there are, none with a wrong label."""

import torch
from torch import Tensor


def exchange_sounds(audio: Tensor, event: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Let clips that are event from start to end exchange their whole sound with others of their class in the batch.

    Where every second of two clips is the same class's event, each picture with the other's sound is again that class
    seen and heard in every second, so the labels stay true while no picture can be told by the one sound it came with.
    Our own addition to the training; the paper's abstract does not speak of augmentation.

    Args:
        audio: (batch, segment, channel).
        event: (batch, segment), 1 in event segments.
        labels: class of each clip (batch,); -1 for a clip without any event.
        share: probability that such a clip takes the sound of a random one of its kind (perhaps its own), 0..1.
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
