"""VGG-19 up to pool5, the network of the AVE field, with torchvision's weights or with Keras's.

The field's published features were made with Keras's.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

Keras's file holds of each layer a kernel (height, width, input, output) and a bias.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights
from torchvision.models import vgg19 as torchvision_vgg19

from ccln.extractors.contract import ExtractorError, VisualChoice, WeightsError
from ccln.extractors.keras import KerasFile
from ccln.extractors.weights import (
    VISUAL_FLAG,
    check_digest,
    fetch_url,
    is_hdf5,
    load_into,
    read_weights,
)

RELEASE = "https://github.com/fchollet/deep-learning-models/releases/download/v0.1"
FILENAME = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
MD5 = "253f8cb515780f3b799900260a226db6"  # as keras.applications has it; no sha256 is published

_CONVOLUTIONS_OF_BLOCK = (2, 2, 4, 4, 4)


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
    with KerasFile(file, "VGG-19") as keras:
        for layer, (name, convolution) in zip(layers, convolutions, strict=True):
            outputs, inputs, height, width = convolution.weight.shape
            kernel = keras.array(layer, (height, width, inputs, outputs))
            state[f"{name}.weight"] = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
            state[f"{name}.bias"] = torch.from_numpy(keras.array(layer, (outputs,)))
    return state
