"""What YAMNet and EfficientNet-Lite0 were themselves trained to name, from their features: no further network runs.

YAMNet names 521 classes of AudioSet, EfficientNet-Lite0 the 1,000 of ImageNet.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.extractors.contract import ExtractorError, Preset
from ccln.extractors.efficientnet_lite0 import packaged_file
from ccln.extractors.log_mel import PatchExtractor
from ccln.extractors.weights import read_weights
from ccln.extractors.yamnet import Yamnet

_NORM_EPSILON = 1e-3


def has_classes(preset: Preset) -> bool:
    """Return whether features of this preset can be named: they are YAMNet's and EfficientNet-Lite0's."""
    return (preset.audio.name, preset.visual.name) == ("yamnet", "efficientnet-lite0")


class HeardAndSeen:
    """The two classifiers, on the CPU; any number of threads may use them.

    The visual one is EfficientNet-Lite0's own head: a convolution to 1,280 channels, batch norm, ReLU6, mean, a linear
    layer. Here it is applied to each region of the map on its own, so that something small counts where it is.
    """

    def __init__(self, audio: nn.Module) -> None:
        """Take the audio classifier from its extractor, and load the visual one.

        Args:
            audio: The extractor that makes the features, YAMNet's.

        Raises:
            WeightsError: The weights cannot be had.
            ExtractorError: The extractor is another, or EfficientNet-Lite0's file has no head.
        """
        if not (isinstance(audio, PatchExtractor) and isinstance(audio.network, Yamnet)):
            raise ExtractorError("the audio extractor has no classes: take yamnet")
        self._audio = copy.deepcopy(audio.network.classifier).cpu()  # features come to the CPU, wherever they are made
        state = read_weights(packaged_file())
        try:
            convolution = state["_conv_head.weight"][:, :, 0, 0]
            scale = state["_bn1.weight"] / torch.sqrt(state["_bn1.running_var"] + _NORM_EPSILON)
            self._shift = state["_bn1.bias"] - state["_bn1.running_mean"] * scale
            self._weight, self._bias = state["_fc.weight"], state["_fc.bias"]
        except LookupError as error:
            raise ExtractorError(f"{packaged_file()} has no classifier ({error}): install its package again") from error
        self._convolution = scale[:, None] * convolution

    @torch.inference_mode()
    def heard(self, audio: Tensor) -> Tensor:
        """Return probabilities of AudioSet's classes (segment, 521) of YAMNet's features (segment, 1024)."""
        return torch.sigmoid(self._audio(audio.float()))

    @torch.inference_mode()
    def seen(self, visual: Tensor) -> Tensor:
        """Return probabilities of ImageNet's classes (segment, region, 1000) of maps (segment, height, width, 320)."""
        regions = F.relu6(F.linear(visual.float().flatten(1, 2), self._convolution, self._shift))
        return F.linear(regions, self._weight, self._bias).softmax(-1)
