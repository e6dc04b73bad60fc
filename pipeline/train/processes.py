"""Several processes, started by a launcher, that train one network as one process would."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather, recursively_apply
from torch import Tensor, nn

from ccln.extractors import pick_device
from ccln.pipeline import defaults
from ccln.pipeline.train.state import TrainingError


def process_accelerator() -> Accelerator:
    """This process's place among those that train together; it leaves moving tensors to devices to us.

    Without `cpu=True`, processes that a launcher started on a machine without GPU would each take themselves for the
    only one.
    """
    return Accelerator(cpu=not torch.accelerator.is_available(), device_placement=False)


def training_device(device: str = "auto") -> torch.device:
    """The device that this process trains on.

    Args:
        device: "auto", or where there is one process also "cpu", "cuda", "cuda:1", ...

    Raises:
        TrainingError: a device is named for several processes.
        ExtractorError: there is no such device.
    """
    accelerator = process_accelerator()
    if device == "auto":
        return accelerator.device
    if accelerator.num_processes > 1:
        raise TrainingError(f"--device {device}: of several processes each has its own device. Leave the option out.")
    return torch.device(pick_device(device))


def new_run() -> Path:
    """`defaults.new_run` of the first process, for all of them: their clocks may differ."""
    process_accelerator()
    return Path(broadcast_object_list([str(defaults.new_run())])[0])


def shared(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The prepared model itself where there is one process, else one whose batches all processes share.

    What it returns is the same in every process: the outputs of the whole batch. Any loss of them, one that compares or
    averages over all clips too, is then one process's, and so are its gradients once DDP has taken their mean.

    Args:
        model: as `Accelerator.prepare` gave it.
        accelerator: that did.
    """
    return model if accelerator.num_processes == 1 else _SharedModel(model, accelerator)


class _SharedModel(nn.Module):
    """Runs the model on this process's share of a batch; takes the other shares' outputs from the other processes.

    Every process must call it with the same batch: tensors (clip, ...) or None. So must be the model's outputs, in any
    nesting of tuples and dictionaries.
    """

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        super().__init__()
        self.model = model
        self._rank, self._processes = accelerator.process_index, accelerator.num_processes

    def forward(self, *batch: Tensor | None) -> Any:
        """Outputs of the whole batch, in its order."""
        clips = next(len(tensor) for tensor in batch if tensor is not None)
        size = -(-clips // self._processes)
        # Shares are equally long, for gathering; the last take clips from the batch's start again, which are cut off.
        mine = torch.arange(self._rank * size, (self._rank + 1) * size) % clips
        output = self.model(*(None if tensor is None else tensor[mine.to(tensor.device)] for tensor in batch))
        # An output under two names stays one tensor: losses can tell by that which part the network has not.
        whole: dict[int, Tensor] = {}

        def gathered(tensor: Tensor) -> Tensor:
            if id(tensor) not in whole:
                whole[id(tensor)] = self._gathered(tensor)[:clips]
            return whole[id(tensor)]

        return recursively_apply(gathered, output)

    def _gathered(self, share: Tensor) -> Tensor:
        others: Any = gather(share.detach())
        if not share.requires_grad:
            return others
        parts = list(others.chunk(self._processes))
        parts[self._rank] = share
        whole = torch.cat(parts)
        # All processes compute the same loss, each with the gradient of its own share alone. The sum of these is
        # wanted, and DDP takes their mean.
        whole.register_hook(lambda gradient: gradient * self._processes)
        return whole
