import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.extractor_inputs import AVE, LEGACY, LIGHT, build_audio, build_visual

from ccln.cache import specification_digest
from ccln.extractors import (
    PRESETS,
    ExtractorError,
    Preset,
    arithmetic_of,
    load_extractors,
    preset_from_specification,
    preset_with,
    registry,
    without_arithmetic,
)
from ccln.extractors.presets import AUDIO_CHOICES, VISUAL_CHOICES


def test_presets_import_no_torch_and_the_registry_no_other_libraries() -> None:
    script = (
        "import sys, ccln.extractors as e; e.PRESETS; assert 'torch' not in sys.modules;"
        "e.load_extractors; assert not {'timm', 'torchvision', 'torchaudio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_every_choice_has_a_factory() -> None:
    assert set(VISUAL_CHOICES) == set(registry.VISUAL)
    assert set(AUDIO_CHOICES) == set(registry.AUDIO)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_json(name: str) -> None:
    assert Preset.from_json(json.loads(json.dumps(PRESETS[name].to_json()))) == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_written_the_same_in_another_process(name: str) -> None:
    """msgspec leaves a default out where it is the very object, which a string of another process is not."""
    assert pickle.loads(pickle.dumps(PRESETS[name])).to_json() == PRESETS[name].to_json()


@pytest.mark.parametrize(
    ("name", "precision", "digest"),
    [
        ("light-log-mel", "float32", "289e4685aa1c019b06f35f2d13a5a797769d41afcf65f0dffeed4b27bdc262d8"),
        ("light-log-mel", "bfloat16", "59edbdc9e6ce465c23747d5c0de77284ea93c14a0d04d6b069f60fddfdc018d3"),
        ("ave", "float32", "3ee421cda2e2678e9e07dbba809c44b43d53aa9bfd35ae31d9a30ea3157d6370"),
        ("ave-legacy", "float32", "bbf5e70f5ba218fe43ab9b42c4a59966a9b83f7021743b86b243c159c0be73f5"),
    ],
)
def test_choices_keep_the_digest_that_caches_hold(name: str, precision: str, digest: str) -> None:
    assert specification_digest(preset_with(PRESETS[name], precision=precision).to_json()) == digest


@pytest.mark.parametrize(("name", "digest"), [("light", "7ae22a2a6d1e"), ("light-log-mel", "7ca1fab40f8b")])
def test_light_keeps_the_specification_that_caches_hold(name: str, digest: str) -> None:
    specification = load_extractors(preset_with(PRESETS[name], precision="bfloat16")).specification
    assert specification_digest(specification).startswith(digest)


@given(
    frames=st.integers(1, 60),
    frame_at=st.floats(0, 1, exclude_max=True),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    bands=st.integers(1, 512),
    offset=st.floats(1e-9, 1),
)
def test_any_preset_survives_json(
    frames: int, frame_at: float, mean: tuple[float, float, float], bands: int, offset: float
) -> None:
    assert AVE.audio.mel
    preset = replace(
        AVE,
        frames_per_segment=frames,
        frame_at=frame_at,
        visual=replace(AVE.visual, mean=mean),
        audio=replace(AVE.audio, mel=replace(AVE.audio.mel, bands=bands, log_offset=offset)),
    )
    assert Preset.from_json(json.loads(json.dumps(preset.to_json()))) == preset


@pytest.mark.parametrize(
    ("path", "value", "message"),
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
        (["visual", "revision"], "../../main", "revision"),
        (["visual", "pooled_channels"], -1, "pooled_channels"),
        (["audio", "front_end"], {"padding": ["repeat"]}, "front_end"),
        (["visual", "precision"], "int4", "int4"),
        (["visual", "interpolation"], "nearest", "nearest"),
        (["visual", "channel_order"], "gbr", "gbr"),
        (["frame_at"], 1.0, "frame_at"),
        (["frame_at"], -0.1, "frame_at"),
        (["frame_at"], float("nan"), "frame_at"),
        (["decoder"], "opencv", "opencv"),
        (["decoding_revision"], 0, "decoding revision 0.*extract them again"),
        (["visual", "surprise"], 1, "surprise"),
        (["visual"], "vgg19", "visual"),
        (["audio", "name"], 3, "audio.name"),
        (["audio", "mel", "hop_seconds"], 0.0, "hop_seconds"),
        (["audio", "mel", "high_hz"], 9000.0, "high_hz"),
        (["audio", "mel", "seconds_used"], 1.5, "seconds_used"),
        (["audio", "mel"], {"bands": 64}, "audio.mel"),
        (["audio", "mel"], False, "audio.mel"),
        (["audio", "hop_seconds"], 0.01, "unknown field hop_seconds"),
    ],
)
def test_a_forged_preset_is_refused(path: list[str], value: Any, message: str) -> None:
    forged = AVE.to_json()
    inner = forged
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(ExtractorError, match=message):
        Preset.from_json(forged)


@pytest.mark.parametrize("value", [None, [], {}, {"weights_sha256": {}}, AVE.to_json()])
def test_an_invalid_specification_is_refused(value: Any) -> None:
    with pytest.raises(ExtractorError):
        preset_from_specification(value)


def test_one_side_can_be_replaced() -> None:
    mixed = preset_with(LIGHT, visual="vgg19")
    assert (mixed.visual, mixed.audio) == (AVE.visual, LIGHT.audio)
    assert mixed.frames_per_segment == LIGHT.frames_per_segment
    assert preset_with(LIGHT, audio="vggish").audio == AVE.audio
    assert preset_with(LIGHT) == LIGHT


def test_precision_and_decoder_can_be_replaced() -> None:
    assert preset_with(AVE, precision="bfloat16") == replace(AVE, visual=replace(AVE.visual, precision="bfloat16"))
    assert preset_with(AVE, decoder="decord") == replace(AVE, decoder="decord")
    both = preset_with(AVE, visual="efficientnet-lite0", precision="bfloat16", decoder="decord")
    assert (both.visual.name, both.visual.precision, both.decoder) == ("efficientnet-lite0", "bfloat16", "decord")
    with pytest.raises(ExtractorError, match="precision is 'half', but has to be float32 or bfloat16"):
        preset_with(AVE, precision="half")
    with pytest.raises(ExtractorError, match="decoder is 'opencv', but has to be pyav or decord"):
        preset_with(AVE, decoder="opencv")


def test_ave_legacy_differs_from_ave_only_in_how_frames_are_taken() -> None:
    assert LEGACY.audio == AVE.audio
    assert LEGACY.frames_per_segment == AVE.frames_per_segment
    assert (LEGACY.frame_at, AVE.frame_at) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("visual", "audio", "message"),
    [
        ("vgg91", None, "'vgg91'.*mean vgg19.*efficientnet-lite0, timm:NAME, vgg19, vgg19-keras"),
        (None, "vgish", "'vgish'.*mean vggish.*cnn14, log-mel, torchaudio:NAME, vggish, yamnet"),
        ("timm:resnet-18", None, "'resnet-18'.*mean .*resnet18"),
        ("timm:resnet18.a1_in2k", None, "'resnet18.a1_in2k'.*resnet18.a1_in1k"),
        ("timm:hf-hub:someone/something", None, "hf-hub"),
        ("timm:", None, "timm model"),
    ],
)
def test_an_unknown_name_gets_the_nearest_suggested(visual: str | None, audio: str | None, message: str) -> None:
    with pytest.raises(ExtractorError, match=message):
        preset_with(LIGHT, visual=visual, audio=audio)


def test_unknown_names_in_a_preset_are_refused() -> None:
    with pytest.raises(ExtractorError, match="vgg19"):
        build_visual(replace(AVE.visual, name="vgg20"), None)
    with pytest.raises(ExtractorError, match="vggish"):
        build_audio(replace(AVE.audio, name="vggishy"), None)


@pytest.mark.parametrize("name", VISUAL_CHOICES)
def test_other_layers_are_refused(name: str) -> None:
    with pytest.raises(ExtractorError, match="layer 'fc7'"):
        build_visual(replace(VISUAL_CHOICES[name], layer="fc7"), None)


@pytest.mark.parametrize("name", AUDIO_CHOICES)
def test_other_outputs_are_refused(name: str) -> None:
    with pytest.raises(ExtractorError, match="output 'pca'"):
        build_audio(replace(AUDIO_CHOICES[name], output="pca"), None)


@pytest.mark.parametrize("name", [name for name, choice in AUDIO_CHOICES.items() if choice.mel])
def test_a_mel_front_end_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(ExtractorError, match=f"{name} needs a mel front end"):
        build_audio(replace(AUDIO_CHOICES[name], mel=None), None)


def test_specifications_without_arithmetic_are_equal_if_nothing_else_differs() -> None:
    single, half = (preset_with(AVE, precision=name).to_json() | {"name": ""} for name in ("float32", "bfloat16"))
    assert (arithmetic_of(single), arithmetic_of(half)) == ("float32", "bfloat16")
    assert single != half
    assert without_arithmetic(single) == without_arithmetic(half)
    assert without_arithmetic(single) != without_arithmetic(half | {"frames_per_segment": 5})
    for other in ({"imported": "features"}, {"visual": "a network"}):
        assert arithmetic_of(other) is None
        assert without_arithmetic(other) == other
