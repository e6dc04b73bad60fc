"""CNN14 against a plain numpy forward pass, with random weights."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from support.extractor_inputs import build_audio

from ccln.extractors import ExtractorError, WeightsError
from ccln.extractors.cnn14 import Cnn14, Cnn14Extractor
from ccln.extractors.presets import AUDIO_CHOICES

CHOICE = AUDIO_CHOICES["cnn14"]
RATE_HZ = 32_000


def waveforms() -> np.ndarray:
    """(segment, sample): noise, a chirp, a quiet tone and silence."""
    seconds = np.arange(RATE_HZ) / RATE_HZ
    chirp = np.sin(2 * np.pi * (50 + 7000 * seconds) * seconds)
    tone = 1e-3 * np.sin(2 * np.pi * 1234.5 * seconds)
    noise = np.random.default_rng(0).uniform(-1, 1, RATE_HZ)
    return np.stack([noise, chirp, tone, np.zeros(RATE_HZ)]).astype(np.float32)


def reference_log_mel(samples: np.ndarray) -> np.ndarray:
    """As torchlibrosa makes it, in float64, step by step: (frame, band)."""
    padded = np.pad(samples.astype(np.float64), 512, "reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    power = np.array(
        [np.abs(np.fft.rfft(padded[start : start + 1024] * window)) ** 2 for start in range(0, 32_001, 320)]
    )

    def mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1000 else 15 + np.log(hertz / 1000) * 27 / np.log(6.4)

    def hertz(mels: float) -> float:
        return mels * 200 / 3 if mels < 15 else 1000 * np.exp((mels - 15) * np.log(6.4) / 27)

    edges = [hertz(place) for place in np.linspace(mel(50), mel(14_000), 66)]
    bands = np.zeros((513, 64))
    for band, index in itertools.product(range(64), range(513)):
        low, centre, high = edges[band : band + 3]
        here = index * RATE_HZ / 1024
        slope = min((here - low) / (centre - low), (high - here) / (high - centre))
        bands[index, band] = max(0.0, slope) * 2 / (high - low)
    return 10 * np.log10(np.maximum(power @ bands, 1e-10))


def reference_cnn14(log_mel: np.ndarray, state: dict[str, torch.Tensor]) -> np.ndarray:
    weights = {name: value.double().numpy() for name, value in state.items()}

    def normalised(maps: np.ndarray, norm: str) -> np.ndarray:
        """The first axis is the one that the norm's numbers are of."""
        mean, var, scale, shift = (
            weights[f"{norm}.{part}"].reshape(-1, *[1] * (maps.ndim - 1))
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / np.sqrt(var + 1e-5) * scale + shift

    def convolved(maps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        _, height, width = maps.shape
        padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
        places = itertools.product(range(3), range(3))
        return sum(  # pyright: ignore[reportReturnType]
            np.tensordot(kernel[:, :, row, column], padded[:, row : row + height, column : column + width], 1)
            for row, column in places
        )

    maps = normalised(log_mel.T, "bn0").T[None]  # (channel, frame, band)
    for block in range(1, 7):
        for step in (1, 2):
            name = f"conv_block{block}"
            maps = convolved(maps, weights[f"{name}.conv{step}.weight"])
            maps = np.maximum(normalised(maps, f"{name}.bn{step}"), 0)
        if block < 6:
            height, width = maps.shape[1] // 2 * 2, maps.shape[2] // 2 * 2
            maps = maps[:, :height, :width]  # an odd last frame is left out
            maps = (maps[:, ::2, ::2] + maps[:, 1::2, ::2] + maps[:, ::2, 1::2] + maps[:, 1::2, 1::2]) / 4
    assert maps.shape[1:] == (3, 2)
    over_time = maps.mean(2)
    numbers = over_time.max(1) + over_time.mean(1)
    return np.maximum(weights["fc1.weight"] @ numbers + weights["fc1.bias"], 0)


def random_network(width: int) -> Cnn14:
    torch.manual_seed(1)
    network = Cnn14(width).eval()
    for module in network.modules():
        if (
            isinstance(module, torch.nn.BatchNorm2d)
            and module.running_mean is not None
            and module.running_var is not None
        ):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return network


def test_front_end_agrees_with_the_published_definition() -> None:
    segments = waveforms()
    ours = Cnn14Extractor(random_network(1)).log_mel(torch.tensor(segments)).numpy()
    expected = np.stack([reference_log_mel(segment) for segment in segments])
    assert ours.shape == (4, 101, 64)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-3)  # decibels


def test_network_agrees_with_plain_numpy() -> None:
    network = random_network(4)
    segments = waveforms()[:3]
    with torch.inference_mode():
        ours = Cnn14Extractor(network)(torch.tensor(segments)).numpy()
    expected = np.stack([reference_cnn14(reference_log_mel(segment), network.state_dict()) for segment in segments])
    assert ours.shape == (3, 128)
    assert 0 < (expected > 0).mean() < 1
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * expected.max())


def published(network: Cnn14) -> dict[str, object]:
    """A file as the training's code keeps it."""
    more = {
        "spectrogram_extractor.stft.conv_real.weight": torch.zeros(3),
        "logmel_extractor.melW": torch.zeros(3),
        "fc_audioset.weight": torch.zeros(3),
    }
    return {"iteration": 600_000, "model": network.state_dict() | more}


def test_a_file_of_the_published_form_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccln.extractors.cnn14.Cnn14", lambda: Cnn14(2))  # the published one has 327 MB
    network = random_network(2)
    torch.save(published(network), tmp_path / "Cnn14_mAP=0.431.pth")
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    for file in ("Cnn14_mAP=0.431.pth", "plain.pth"):
        found = build_audio(CHOICE, tmp_path / file).state_dict()
        assert found.keys() == {f"network.{name}" for name in network.state_dict()}
        assert all(torch.equal(found[f"network.{name}"], value) for name, value in network.state_dict().items())


class Runs:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this ran",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": Runs()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil.pth cannot be read as weights"):
        build_audio(CHOICE, tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = Cnn14()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["conv_block1.conv1.weight"] == (64, 1, 3, 3)
    assert shapes["conv_block6.conv2.weight"] == (2048, 2048, 3, 3)
    assert shapes["bn0.running_var"] == (64,)
    assert shapes["fc1.weight"] == (2048, 2048)
    parameters = sum(np.prod(shape) for name, shape in shapes.items() if not name.endswith(("mean", "var", "tracked")))
    # The paper's 80.8 million less the 527 x 2049 of AudioSet's classes.
    assert parameters == pytest.approx(80.75e6 - 527 * 2049, rel=1e-3)


@pytest.mark.parametrize("changed", [{"sample_rate_hz": 16_000}, {"mel": AUDIO_CHOICES["yamnet"].mel}])
def test_another_front_end_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ExtractorError, match="32000 Hz"):
        build_audio(replace(CHOICE, **changed), None)
