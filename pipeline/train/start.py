"""Training that starts from a trained network: its weights, but for the heads of classes that it does not know."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ccln.model import Checkpoint, ModelConfig, Network
from ccln.pipeline.train.config import MODEL_KEYS
from ccln.pipeline.train.state import TrainingError


def shape_of(checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of [model] that a network which starts from a checkpoint has.

    Args:
        checkpoint: To start from.
        wanted: The fields that a config file asks for.

    Raises:
        TrainingError: It asks for others than the checkpoint has.
    """
    shape = {name: getattr(checkpoint.model.config, name) for name in MODEL_KEYS}
    different = [f"{name} = {value} (it has {shape[name]})" for name, value in wanted.items() if value != shape[name]]
    if different:
        raise TrainingError(
            f"--init: the config asks for another network than the one to start from: {', '.join(different)}. Take "
            "these out of [model]"
        )
    return shape


@torch.no_grad()
def take_weights(network: Network, class_names: Sequence[str], checkpoint: Checkpoint) -> None:
    """Copy the weights of a checkpoint into a new network.

    Of weights that are per class those of the classes that both know are copied; the others, and parts that the
    checkpoint's network lacks, stay as they are.

    Args:
        network: With the shape of the checkpoint's, but for the classes and the parts left out.
        class_names: Of the network, in label order.
        checkpoint: What to copy.

    Raises:
        TrainingError: The networks are of different kinds, or read features of different shapes.
    """
    if type(network) is not type(checkpoint.model):
        raise TrainingError(
            f"--init: its network is a {type(checkpoint.model).__name__}, and this task trains a "
            f"{type(network).__name__}. Start from a run of the same task"
        )
    shared = [name for name in class_names if name in checkpoint.class_names]
    to = torch.tensor([class_names.index(name) for name in shared], dtype=torch.long)
    origin = torch.tensor([checkpoint.class_names.index(name) for name in shared], dtype=torch.long)
    old, class_axes = checkpoint.model.state_dict(), _class_axes(network)
    for name, tensor in network.state_dict().items():
        if name not in old:
            continue
        if (axis := class_axes.get(name)) is not None:
            tensor.index_copy_(axis, to, old[name].index_select(axis, origin))
        elif tensor.shape == old[name].shape:
            tensor.copy_(old[name])
        else:
            raise TrainingError(
                f"--init: its weights {name} are {tuple(old[name].shape)}, here {tuple(tensor.shape)} are needed: it "
                "was trained on features of another shape. Extract the features with its extractors"
            )


def _class_axes(network: Network) -> dict[str, int]:
    """The axis of each tensor that has an entry for each class: what is longer in a network of one class more."""

    def shapes(config: ModelConfig) -> dict[str, Tensor]:
        with torch.device("meta"):
            return type(network)(config).state_dict()

    one_more = shapes(replace(network.config, class_count=network.config.class_count + 1))
    return {
        name: next(axis for axis, (a, b) in enumerate(zip(tensor.shape, one_more[name].shape, strict=True)) if a != b)
        for name, tensor in network.state_dict().items()
        if tensor.shape != one_more[name].shape
    }
