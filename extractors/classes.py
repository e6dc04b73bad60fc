"""What YAMNet and EfficientNet-Lite0 were themselves trained to name, from their features: no further network runs.

YAMNet names 521 classes of AudioSet, EfficientNet-Lite0 the 1,000 of ImageNet.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.extractors.contract import ExtractorError, Preset
from ccln.extractors.efficientnet_lite0 import packaged_file
from ccln.extractors.log_mel import PatchExtractor
from ccln.extractors.weights import read_weights
from ccln.extractors.yamnet import Yamnet

_NORM_EPSILON = 1e-3
_HEAD_NAMES = (
    {"conv": "_conv_head", "norm": "_bn1", "linear": "_fc"},  # the package's
    {"conv": "conv_head", "norm": "bn2", "linear": "classifier"},  # timm's
)
_HEAD_SHAPES = {
    "conv.weight": (1280, 320, 1, 1),
    **dict.fromkeys(("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"), (1280,)),
    "linear.weight": (1000, 1280),
    "linear.bias": (1000,),
}


def has_classes(preset: Preset) -> bool:
    """Return whether features of this preset can be named: they are YAMNet's and EfficientNet-Lite0's."""
    return (preset.audio.name, preset.visual.name) == ("yamnet", "efficientnet-lite0")


class HeardAndSeen:
    """The two classifiers, on the CPU; any number of threads may use them.

    The visual one is EfficientNet-Lite0's own head: a convolution to 1,280 channels, batch norm, ReLU6, mean, a linear
    layer. Here it is applied to each region of the map on its own, so that something small counts where it is.
    """

    def __init__(self, audio: nn.Module, visual_weights: Path | str | None = None) -> None:
        """Take the audio classifier from its extractor, and load the visual one.

        Args:
            audio: The extractor that makes the features, YAMNet's.
            visual_weights: EfficientNet-Lite0's file that the visual features are made with; if None, the package's.

        Raises:
            WeightsError: The weights cannot be had.
            ExtractorError: The extractor is another, or EfficientNet-Lite0's file has no head of ImageNet's classes.
        """
        if not (isinstance(audio, PatchExtractor) and isinstance(audio.network, Yamnet)):
            raise ExtractorError("the audio extractor has no classes: take yamnet")
        self._audio = copy.deepcopy(audio.network.classifier).cpu()  # features come to the CPU, wherever they are made
        file = Path(visual_weights) if visual_weights else packaged_file()
        head = _head(read_weights(file), file)
        scale = head["norm.weight"] / torch.sqrt(head["norm.running_var"] + _NORM_EPSILON)
        self._shift = head["norm.bias"] - head["norm.running_mean"] * scale
        self._convolution = scale[:, None] * head["conv.weight"][:, :, 0, 0]
        self._weight, self._bias = head["linear.weight"], head["linear.bias"]

    @torch.inference_mode()
    def heard(self, audio: Tensor) -> Tensor:
        """Return probabilities of AudioSet's classes (segment, 521) of YAMNet's features (segment, 1024)."""
        return torch.sigmoid(self._audio(audio.float()))

    @torch.inference_mode()
    def seen(self, visual: Tensor) -> Tensor:
        """Return probabilities of ImageNet's classes (segment, region, 1000) of maps (segment, height, width, 320)."""
        regions = F.relu6(F.linear(visual.float().flatten(1, 2), self._convolution, self._shift))
        return F.linear(regions, self._weight, self._bias).softmax(-1)


def _head(state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The parameters of the classifier, by the names in `_HEAD_SHAPES`.

    Raises:
        ExtractorError: they are not there, or those of other classes.
    """
    for names in _HEAD_NAMES:
        head = {}
        for name, shape in _HEAD_SHAPES.items():
            part, _, field = name.partition(".")
            tensor = state.get(f"{names[part]}.{field}")
            if tensor is not None and tensor.shape == shape:
                head[name] = tensor.float()
        if head.keys() == _HEAD_SHAPES.keys():
            return head
    raise ExtractorError(
        f"{file} has no classifier of ImageNet's 1,000 classes, so nothing seen can be named: take weights with the "
        "head they were trained with, or leave the open vocabulary out with --classes trained"
    )
