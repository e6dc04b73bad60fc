from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from msgspec.structs import replace
from safetensors.torch import save_file
from support.extractor_inputs import LIGHT, build_audio, random_waveform
from torchaudio.pipelines import HUBERT_BASE, Wav2Vec2ASRBundle, Wav2Vec2Bundle

from ccln.extractors import ExtractorError, Preset, load_extractors, preset_from_specification, preset_with

LAYERS = [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2]
PARAMETERS: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": LAYERS,
    "extractor_conv_bias": False,
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 32,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.5,
    "aux_num_out": None,
}
PRE_NORM = {"extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True}
FILE = "tiny.pth"
BUNDLES = {
    "TINY": Wav2Vec2Bundle(FILE, PARAMETERS, 16_000, False, "Wav2Vec2"),
    "TINY_NORMALISED": Wav2Vec2Bundle(FILE, PARAMETERS | PRE_NORM, 16_000, True, "Wav2Vec2"),
    "TINY_ASR": Wav2Vec2ASRBundle(FILE, PARAMETERS | {"aux_num_out": 5}, 16_000, False, "Wav2Vec2", tuple("abcd")),
    "TINY_WAVLM": Wav2Vec2Bundle(
        FILE, PARAMETERS | {"encoder_num_buckets": 32, "encoder_max_distance": 80}, 16_000, True, "WavLM"
    ),
}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], tuple[Preset, Path]]:
    """Puts a small bundle among torchaudio's, and random weights where its own loader finds them."""

    def publish(name: str) -> tuple[Preset, Path]:
        bundle = BUNDLES[name]
        monkeypatch.setattr(torchaudio.pipelines, name, bundle, raising=False)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        torch.manual_seed(1)
        factory = torchaudio.models.wavlm_model if bundle._model_type == "WavLM" else torchaudio.models.wav2vec2_model
        state = factory(**bundle._params).state_dict()
        for key, value in state.items():
            torch.nn.init.normal_(value, std=0.2)
            if "norm" in key and key.endswith("weight"):
                value += 1
        if isinstance(bundle, Wav2Vec2ASRBundle):  # published ones have three letters too many
            state["aux.weight"], state["aux.bias"] = torch.randn(8, 24), torch.randn(8)
        file = tmp_path / "checkpoints" / FILE
        file.parent.mkdir()
        torch.save(state, file)
        return preset_with(LIGHT, audio=f"torchaudio:{name}"), file

    return publish


@pytest.mark.parametrize("name", BUNDLES)
def test_features_are_the_mean_of_the_last_layer_over_each_segment(
    name: str, published: Callable[[str], tuple[Preset, Path]]
) -> None:
    preset, file = published(name)
    model = BUNDLES[name].get_model()
    waveform = random_waveform(3, seed=5) * np.repeat(np.array([0.1, 0.5, 1], np.float32), 16_000) + np.float32(0.05)
    with torch.inference_mode():
        segments = torch.tensor(waveform).split(16_000)
        expected = [model.extract_features(segment[None])[0][-1][0].mean(0).numpy() for segment in segments]
    given = load_extractors(preset, audio_weights=file)
    features = given.audio(waveform)
    assert features.shape == (3, 24)
    assert features.dtype == np.float32
    assert np.std(np.stack(expected), axis=0).min() > 0  # the segments differ
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    found = load_extractors(preset)  # in torch hub's cache
    assert found.specification == given.specification
    assert preset_from_specification(given.specification) == preset


def test_weights_under_the_old_names_of_torch_are_the_same(
    published: Callable[[str], tuple[Preset, Path]], tmp_path: Path
) -> None:
    preset, file = published("TINY")
    state = torch.load(file, weights_only=True)
    prefix = "encoder.transformer.pos_conv_embed.conv."
    for old, new in (
        ("weight_g", "parametrizations.weight.original0"),
        ("weight_v", "parametrizations.weight.original1"),
    ):
        state[prefix + old] = state.pop(prefix + new)
    save_file(state, tmp_path / "old.safetensors")
    old = load_extractors(preset, audio_weights=tmp_path / "old.safetensors")
    assert old.specification == load_extractors(preset, audio_weights=file).specification


def test_a_published_bundle_is_loaded_by_name(tmp_path: Path) -> None:
    preset = preset_with(LIGHT, audio="torchaudio:HUBERT_BASE")
    assert (preset.audio.sample_rate_hz, preset.audio.mel) == (16_000, None)
    with torch.device("meta"):
        shapes = torchaudio.models.wav2vec2_model(**HUBERT_BASE._params).state_dict()
    state = {name: torch.full(value.shape, 0.01) for name, value in shapes.items()}
    file = tmp_path / "hubert.safetensors"
    save_file(state, file)
    network = build_audio(preset.audio, file)
    file.unlink()  # 378 MB
    with torch.inference_mode():
        assert network.eval()(torch.tensor(random_waveform(1, seed=0))[None]).shape == (1, 768)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("HUBERT_BSE", "'HUBERT_BSE': did you mean HUBERT_BASE .*WAV2VEC2_XLSR53"),
        ("HDEMUCS_HIGH_MUSDB", "speech representation model .*'HDEMUCS_HIGH_MUSDB'.*choose one of HUBERT_ASR_LARGE"),
        ("TACOTRON2_WAVERNN_CHAR_LJSPEECH", "TACOTRON2"),
        ("Wav2Vec2Bundle", "'Wav2Vec2Bundle'"),
        ("", "speech representation model"),
    ],
)
def test_a_wrong_name_gets_the_nearest_suggested(name: str, message: str) -> None:
    with pytest.raises(ExtractorError, match=message):
        preset_with(LIGHT, audio=f"torchaudio:{name}")


def test_bundles_at_other_rates_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Wav2Vec2Bundle(FILE, PARAMETERS, 44_100, False, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "TINY", other, raising=False)
    with pytest.raises(ExtractorError, match="torchaudio:TINY wants audio at 44100 Hz"):
        preset_with(LIGHT, audio="torchaudio:TINY")


@pytest.mark.parametrize("changed", [{"output": "first-layer"}, {"mel": LIGHT.audio.mel}, {"sample_rate_hz": 48_000}])
def test_choices_of_no_bundle_are_refused(changed: dict[str, Any]) -> None:
    choice = preset_with(LIGHT, audio="torchaudio:HUBERT_BASE").audio
    with pytest.raises(ExtractorError, match="without a mel front end, and its output is last-layer-mean"):
        build_audio(replace(choice, **changed), None)
