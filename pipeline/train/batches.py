"""Training clips as a loader takes them: whole batches, picked from tensors in memory where they fit."""

import os
from collections.abc import Mapping, Sequence

import psutil
import torch
from torch import Tensor
from torch.utils import data

_MEMORY_SHARE = 0.5  # of what is free; the rest is for the network, its activations, and others


class ClipBatches(data.Dataset):
    """Features of clips and what is known of each; nothing else of the clips is in here, so nothing else can leak.

    Features stay in half precision. If they fit into memory they are read once, else each batch is read from the
    memory-mapped files.

    Args:
        visual: of each clip float16 (segment, height, width, channel).
        audio: of each clip float32 (segment, channel).
        labels: by name, what is known of the clips, each (clip, ...).
    """

    def __init__(self, visual: Sequence[Tensor], audio: Sequence[Tensor], **labels: Tensor) -> None:
        self._labels = labels
        size = sum(tensor.nbytes for tensor in (*visual, *audio))
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # each of those on this machine holds all clips
        fits = processes * size <= _MEMORY_SHARE * psutil.virtual_memory().available
        self._features: dict[str, Tensor | Sequence[Tensor]] = {
            name: torch.stack(tuple(tensors)) if fits else tensors
            for name, tensors in (("visual", visual), ("audio", audio))
        }

    @property
    def labels(self) -> Mapping[str, Tensor]:
        """What is known of the clips, by name."""
        return self._labels

    def __len__(self) -> int:
        return len(self._features["audio"])

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """A batch: visual float16 (batch, segment, height, width, channel), audio (batch, segment, channel), labels."""
        chosen = torch.tensor(indices)
        features = {
            name: tensors.index_select(0, chosen)
            if isinstance(tensors, Tensor)
            else torch.stack([tensors[index] for index in indices])
            for name, tensors in self._features.items()
        }
        return features | {name: values[chosen] for name, values in self._labels.items()}
