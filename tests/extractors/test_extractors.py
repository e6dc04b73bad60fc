import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file
from support.extractor_inputs import RATE_HZ, random_frames, random_waveform, save_timm, tiny_preset

from ccln.extractors import (
    ExtractorError,
    Extractors,
    load_extractors,
    pick_device,
    preset_from_specification,
    weights,
)

TINY = tiny_preset()


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_timm("test_resnet", file)
    return file


@pytest.fixture(scope="module")
def tiny(tiny_weights: Path) -> Extractors:
    return load_extractors(TINY, visual_weights=tiny_weights)


def test_specification_names_all_and_rebuilds_the_preset(tiny: Extractors) -> None:
    specification = json.loads(json.dumps(tiny.specification))
    assert specification == tiny.specification
    assert specification["weights_sha256"]["audio"] is None
    assert preset_from_specification(specification) == TINY


def with_changes(choice: Any, changed: dict[str, Any]) -> Any:
    fields = {
        name: with_changes(getattr(choice, name), value) if isinstance(value, dict) else value
        for name, value in changed.items()
    }
    return replace(choice, **fields)


@pytest.mark.parametrize(
    "changed",
    [
        {"frames_per_segment": 5},
        {"visual": {"mean": (0.5, 0.5, 0.4)}},
        {"visual": {"std": (0.5, 0.5, 0.4)}},
        {"visual": {"interpolation": "bicubic"}},
        {"visual": {"frame_width": 64}},
        {"visual": {"channel_order": "bgr"}},
        {"visual": {"precision": "bfloat16"}},
        {"frame_at": 0.0},
        {"decoder": "decord"},
        {"audio": {"mel": {"log_offset": 0.02}}},
        {"audio": {"mel": {"seconds_used": 0.9}}},
        {"audio": {"mel": {"bands": 32}}},
    ],
)
def test_specification_changes_with_any_choice(tiny: Extractors, tiny_weights: Path, changed: dict[str, Any]) -> None:
    other = load_extractors(with_changes(TINY, changed), visual_weights=tiny_weights)
    assert other.specification != tiny.specification
    assert other.specification["weights_sha256"] == tiny.specification["weights_sha256"]


def test_specification_changes_with_one_bit_of_a_weight(tiny: Extractors, tiny_weights: Path, tmp_path: Path) -> None:
    state = weights.read_weights(tiny_weights)
    state["conv1.0.weight"].view(torch.int32).flatten()[5] ^= 1
    save_file(state, tmp_path / "flipped.safetensors")
    other = load_extractors(TINY, visual_weights=tmp_path / "flipped.safetensors")
    assert other.specification["weights_sha256"] != tiny.specification["weights_sha256"]


def test_features_have_the_contracts_shapes(tiny: Extractors) -> None:
    visual, audio = tiny(random_frames(TINY, 10, seed=1), random_waveform(10, seed=1))
    assert (visual.shape[:3], audio.shape) == ((10, 2, 3), (10, 128))
    assert visual.dtype == audio.dtype == np.float32
    assert np.isfinite(visual).all()
    assert np.isfinite(audio).all()


def test_a_clip_alone_or_after_others_is_the_same_to_the_bit(tiny: Extractors) -> None:
    clip = random_frames(TINY, 10, seed=1), random_waveform(10, seed=1)
    first = tiny(*clip)
    for segments in (1, 3, 10):
        tiny(random_frames(TINY, segments, seed=2), random_waveform(segments, seed=2))
    again = tiny(*clip)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_tensors_and_read_only_views_are_the_same_to_the_bit(tiny: Extractors) -> None:
    frames, waveform = random_frames(TINY, 3, seed=1), random_waveform(3, seed=1)
    expected = tiny(frames, waveform)
    tensors = tiny(torch.tensor(frames), torch.tensor(waveform))
    views = np.flip(np.flip(frames, 4).copy(), 4), np.repeat(waveform, 2)[::2]
    for view in views:
        view.flags.writeable = False
    for other in (tensors, tiny(*views)):
        np.testing.assert_array_equal(other[0], expected[0])
        np.testing.assert_array_equal(other[1], expected[1])


def test_inputs_are_not_modified(tiny: Extractors) -> None:
    frames, waveform = torch.tensor(random_frames(TINY, 2, seed=1)), torch.tensor(random_waveform(2, seed=1))
    before = frames.clone(), waveform.clone()
    tiny(frames, waveform)
    assert torch.equal(frames, before[0])
    assert torch.equal(waveform, before[1])


@pytest.mark.parametrize("frames_per_segment", [1, 4, 16, 40])
def test_visual_is_the_mean_over_a_segments_frames(
    tiny: Extractors, tiny_weights: Path, frames_per_segment: int
) -> None:
    preset = replace(TINY, frames_per_segment=frames_per_segment)
    frames = random_frames(preset, 3, seed=4)
    together = load_extractors(preset, visual_weights=tiny_weights).visual(frames)
    single = load_extractors(replace(preset, frames_per_segment=1), visual_weights=tiny_weights)
    for segment in range(3):
        each = single.visual(frames[segment][:, None])
        np.testing.assert_allclose(together[segment], each.mean(0), rtol=1e-4, atol=1e-5)


def test_audio_features_of_a_segment_depend_on_that_segment_alone(tiny: Extractors) -> None:
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
def test_frames_that_do_not_fit_are_refused(tiny: Extractors, spoil: Callable[..., Any]) -> None:
    with pytest.raises(ExtractorError, match=r"wants uint8 RGB \(segment, 4, 64, 96, 3\)"):
        tiny.visual(spoil(random_frames(TINY, 2, seed=0)))


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


def test_frames_and_waveform_have_to_be_of_one_length(tiny: Extractors) -> None:
    with pytest.raises(ExtractorError, match=r"2 segments.* 3"):
        tiny(random_frames(TINY, 2, seed=0), random_waveform(3, seed=0))


def test_devices_are_picked_by_name_or_refused() -> None:
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == "cpu"
    for name in ("gpu", "cuda:99"):
        with pytest.raises(ExtractorError, match=name):
            pick_device(name)
