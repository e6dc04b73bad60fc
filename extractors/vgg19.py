"""torchvision's VGG-19 up to pool5: the network of the AVE field, though not the weights of its published features.

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
    from torchvision.models import VGG19_Weights, vgg19

    url = VGG19_Weights.IMAGENET1K_V1.url
    state = read_weights(weights) if weights else fetch_url(url, "vgg19", VISUAL_FLAG)
    with torch.device("meta"):  # no time spent on random numbers, no memory on the classifier
        model = vgg19()
    del model.avgpool, model.classifier
    model.to_empty(device="cpu")
    load_into(model, state, "vgg19", weights or url, ignored_prefixes=("classifier.",))
    return model.features
