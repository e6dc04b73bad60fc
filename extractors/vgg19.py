"""VGG-19 up to pool5, the network of the AVE field, with torchvision's weights or with Keras's.

The field's published features were made with Keras's.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

Keras's file holds each layer in a group of its name, a kernel (height, width, input, output) and a bias in each. The
file is not to be trusted: only plain numbers of the layer's own shape, stored in the file itself, are read from it.
"""

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights
from torchvision.models import vgg19 as torchvision_vgg19

from ccln.extractors.contract import ExtractorError, VisualChoice, WeightsError
from ccln.extractors.weights import (
    VISUAL_FLAG,
    check_digest,
    fetch_url,
    is_hdf5,
    load_into,
    read_weights,
    unreadable,
)

RELEASE = "https://github.com/fchollet/deep-learning-models/releases/download/v0.1"
FILENAME = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
MD5 = "253f8cb515780f3b799900260a226db6"  # as keras.applications has it; no sha256 is published

_CONVOLUTIONS_OF_BLOCK = (2, 2, 4, 4, 4)
_MEMBERS_AT_MOST = 8


def build(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return VGG-19's convolutional part with weights from the local file, or else from the cache or the net.

    Args:
        choice: "vgg19" has torchvision's weights, "vgg19-keras" Keras's.
        weights: The local file.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
        ExtractorError: The choice asks for another layer.
    """
    keras = choice.name == "vgg19-keras"
    layer = "block5_pool" if keras else "pool5"
    if choice.layer != layer:
        raise ExtractorError(f"{choice.name} has no layer {choice.layer!r} to take: its layer is {layer}")
    model = bare_vgg19()
    if keras:
        file = weights or fetch_url(f"{RELEASE}/{FILENAME}", choice.name, VISUAL_FLAG, md5=MD5)
        state = read_keras_vgg19(file, model)
    else:
        file = weights or fetch_url(VGG19_Weights.IMAGENET1K_V1.url, choice.name, VISUAL_FLAG)
        state = read_weights(file)
    load_into(model, state, choice.name, file, ignored_prefixes=("classifier.",))
    return model.get_submodule("features")


def bare_vgg19() -> nn.Module:
    """Return VGG-19 with `features` alone, its memory not filled."""
    with torch.device("meta"):  # no time spent on random numbers, no memory on the classifier
        model = torchvision_vgg19()
    del model.avgpool, model.classifier
    return model.to_empty(device="cpu")


def read_keras_vgg19(file: Path, model: nn.Module) -> dict[str, Tensor]:
    """Return a Keras file's convolutions as the state dict of `model`, float32; layers above them are passed over.

    Args:
        file: The published file, or one that Keras's `save_weights` wrote.
        model: Torchvision's VGG-19; its names and shapes are wanted.

    Raises:
        WeightsError: The file cannot be read, or lacks a layer, or has one of another shape or kind.
    """
    check_digest(file, md5=MD5 if file.name == FILENAME else None)
    if not is_hdf5(file):
        raise WeightsError(
            f"{file} is no HDF5 file: vgg19-keras takes Keras's {FILENAME}; "
            "torchvision's weights belong to vgg19 (preset ave)"
        )
    layers = [f"block{b}_conv{c}" for b, count in enumerate(_CONVOLUTIONS_OF_BLOCK, 1) for c in range(1, count + 1)]
    convolutions = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
    state = {}
    try:
        with h5py.File(file, "r") as root:
            for layer, (name, convolution) in zip(layers, convolutions, strict=True):
                outputs, inputs, height, width = convolution.weight.shape
                kernel = _numbers(root, layer, (height, width, inputs, outputs), file)
                state[f"{name}.weight"] = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
                state[f"{name}.bias"] = torch.from_numpy(_numbers(root, layer, (outputs,), file))
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise unreadable(file, error) from error
    return state


def _numbers(root: h5py.Group, layer: str, shape: tuple[int, ...], file: Path) -> np.ndarray:
    """Return the only array of that many dimensions in the layer's group, float32."""
    found = [part for part in _arrays(root, layer) if len(part.shape) == len(shape)]
    got = ", ".join(f"{part.dtype} {part.shape}" for part in found) or "none"
    if len(found) != 1 or found[0].shape != shape or found[0].dtype.kind != "f":
        raise WeightsError(
            f"{file} does not hold the weights of VGG-19: layer {layer} should have one float array {shape} "
            f"in the file itself, but has {got}; give Keras's {FILENAME}"
        )
    return found[0][()].astype(np.float32)


def _arrays(root: h5py.Group, layer: str) -> list[h5py.Dataset]:
    """Return the datasets of a layer, from `layer/` or, as newer files have it, from `layer/layer/`.

    Hard links alone are followed: soft and external ones lead anywhere. So do external and virtual datasets; and chunks
    may unpack to any size. Keras writes none of these.
    """
    outer = _member(root, layer)
    inner = _member(outer, layer) if isinstance(outer, h5py.Group) else None
    group = inner if isinstance(inner, h5py.Group) else outer
    if not isinstance(group, h5py.Group) or len(group) > _MEMBERS_AT_MOST:
        return []
    members = [_member(group, str(name)) for name in group]
    return [
        part
        for part in members
        if isinstance(part, h5py.Dataset) and not part.external and not part.is_virtual and part.chunks is None
    ]


def _member(group: h5py.Group, name: str) -> object:
    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
