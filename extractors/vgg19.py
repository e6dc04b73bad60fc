"""VGG-19 up to pool5, the network of the AVE field, with torchvision's weights: not those of its published features.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
"""

from pathlib import Path

import torch
from torch import nn

from ccln.extractors.choices import VisualChoice
from ccln.extractors.contract import ExtractorError
from ccln.extractors.weights import VISUAL_FLAG, fetch_url, load_into, read_weights


def build(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return VGG-19's convolutional part with weights from the local file, or else from the cache or the net.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
        ExtractorError: the choice asks for another layer.
    """
    if choice.layer != "pool5":
        raise ExtractorError(f"vgg19 has no layer {choice.layer!r} to take: its layer is pool5")
    from torchvision.models import VGG19_Weights

    file = weights or fetch_url(VGG19_Weights.IMAGENET1K_V1.url, "vgg19", VISUAL_FLAG)
    model = bare_vgg19()
    load_into(model, read_weights(file), "vgg19", file, ignored_prefixes=("classifier.",))
    return model.get_submodule("features")


def bare_vgg19() -> nn.Module:
    """Return VGG-19 with `features` alone, its memory not filled."""
    from torchvision.models import vgg19

    with torch.device("meta"):  # no time spent on random numbers, no memory on the classifier
        model = vgg19()
    del model.avgpool, model.classifier
    return model.to_empty(device="cpu")
