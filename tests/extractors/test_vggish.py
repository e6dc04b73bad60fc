import itertools
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file
from support.extractor_inputs import AVE, CORNERS, LIGHT, build_audio, random_state, random_waveform, waveforms
from support.paths import SHARED

from ccln.extractors import ExtractorError
from ccln.extractors.log_mel import LogMelFrontEnd
from ccln.extractors.presets import AUDIO_CHOICES

NOISY = SHARED / "ave" / "audio_feature_noisy.h5"


def reference_log_mel(samples: np.ndarray, offset: float = 0.01) -> np.ndarray:
    """The published front end of VGGish, and of YAMNet with offset 0.001, in float64, step by step: (frame, band)."""
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
    return np.log(magnitude @ filters + offset)


def reference_convolution(maps: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A 3 x 3 convolution with one pixel of zero padding, then a ReLU: (channel, height, width)."""
    _, height, width = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    total = np.zeros((len(bias), height, width), np.float32) + bias[:, None, None]
    for row, column in itertools.product(range(3), range(3)):
        total += np.tensordot(kernel[:, :, row, column], padded[:, row : row + height, column : column + width], 1)
    return np.maximum(total, 0)


def halved(maps: np.ndarray) -> np.ndarray:
    return np.max([maps[:, row::2, column::2] for row, column in CORNERS], axis=0)


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


@pytest.mark.parametrize("name", waveforms())
def test_front_end_agrees_with_the_published_definition(name: str) -> None:
    samples = waveforms()[name]
    ours = LogMelFrontEnd(LIGHT.audio)(torch.tensor(samples)[None])[0].numpy()
    expected = reference_log_mel(samples)
    assert ours.shape == expected.shape == (98, 64)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "offset"), [("vggish", 0.01), ("yamnet", 0.001)])
def test_patch_is_the_first_96_frames_of_each_segment(name: str, offset: float) -> None:
    segments = np.stack(list(waveforms().values()))
    patches = LogMelFrontEnd(AUDIO_CHOICES[name])(torch.tensor(segments)).numpy()
    expected = np.stack([reference_log_mel(segment, offset)[:96] for segment in segments])
    np.testing.assert_allclose(patches, expected, rtol=0, atol=1e-5)


def test_log_mel_is_mean_and_deviation_of_all_frames() -> None:
    names = ["chirp", "noise", "silence"]
    audio = build_audio(LIGHT.audio, None)(torch.tensor(np.stack([waveforms()[name] for name in names])))
    for name, feature in zip(names, audio.numpy(), strict=True):
        frames = reference_log_mel(waveforms()[name])
        expected = np.concatenate([frames.mean(0), frames.std(0)])
        np.testing.assert_allclose(feature, expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def vggish_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, torch.Tensor]]]:
    shapes: dict[str, tuple[int, ...]] = {}
    convolutions = {"0": (64, 1), "3": (128, 64), "6": (256, 128), "8": (256, 256), "11": (512, 256), "13": (512, 512)}
    for layer, (wide, narrow) in convolutions.items():
        shapes |= {f"features.{layer}.weight": (wide, narrow, 3, 3), f"features.{layer}.bias": (wide,)}
    for layer, (wide, narrow) in {"0": (4096, 12288), "2": (4096, 4096), "4": (128, 4096)}.items():
        shapes |= {f"embeddings.{layer}.weight": (wide, narrow), f"embeddings.{layer}.bias": (wide,)}
    state = random_state(shapes, seed=3)
    file = tmp_path_factory.mktemp("weights") / "vggish.safetensors"
    save_file(state, file)
    yield file, state
    file.unlink()  # 288 MB


def test_vggish_agrees_with_plain_numpy(vggish_state: tuple[Path, dict[str, torch.Tensor]]) -> None:
    file, state = vggish_state
    segments = np.stack([waveforms()["chirp"], waveforms()["noise"]])
    with torch.inference_mode():
        ours = build_audio(AVE.audio, file)(torch.tensor(segments)).numpy()
    expected = np.stack([reference_vggish(reference_log_mel(segment)[:96], state) for segment in segments])
    assert ours.shape == (2, 128)
    assert 0.2 < (expected == 0).mean() < 0.8  # after a ReLU, and not all of it dead
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_vggish_refuses_another_patch() -> None:
    assert AVE.audio.mel
    with pytest.raises(ExtractorError, match=r"\(50, 64\)"):
        build_audio(replace(AVE.audio, mel=replace(AVE.audio.mel, seconds_used=0.5)), None)


def test_a_saved_model_of_the_published_code_loads_too(vggish_state: tuple[Path, dict[str, torch.Tensor]]) -> None:
    file, state = vggish_state
    saved = file.with_name("with-pca.safetensors")
    save_file(state | {"pproc.pca_matrix": torch.zeros(128, 128), "pproc.pca_means": torch.zeros(128, 1)}, saved)
    for name, value in build_audio(AVE.audio, saved).state_dict().items():
        assert torch.equal(value, state[name.removeprefix("network.")])
    saved.unlink()


def assert_has_the_form_of_vggish_output(features: np.ndarray) -> None:
    assert features.shape[-2:] == (10, 128)
    assert features.dtype.kind == "f"
    assert np.isfinite(features).all()
    assert features.min() == 0  # a ReLU is the last step, and neither PCA nor 8-bit numbers follow it
    assert 0.05 < (features == 0).mean() < 0.95


def test_output_has_the_form_of_the_published_features(vggish_state: tuple[Path, dict[str, torch.Tensor]]) -> None:
    """With random weights only the form can agree: which units are zero, and how often, depends on the weights."""
    if not NOISY.exists():
        pytest.skip("the published AVE features are not beside the repository")
    with h5py.File(NOISY) as published:
        theirs = published["avadataset"]
        assert isinstance(theirs, h5py.Dataset)
        assert_has_the_form_of_vggish_output(theirs[:])
    ours = build_audio(AVE.audio, vggish_state[0])
    with torch.inference_mode():
        segments = torch.tensor(random_waveform(10, seed=0)).view(10, -1)
        assert_has_the_form_of_vggish_output(ours(segments).numpy())
