import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from support.extractor_inputs import LIGHT
from support.hub_models import (
    AST,
    CLAP,
    CLIP,
    DINO,
    DINO3,
    PE_AV,
    RATE_48_HZ,
    SIGLIP,
    save_ast,
    save_clap,
    save_clip,
    save_dino,
    save_dino3,
    save_pe_av,
    save_siglip,
)

from ccln.extractors import (
    PRESETS,
    ExtractorError,
    Extractors,
    WeightsError,
    hub_models,
    load_extractors,
    preset_from_specification,
    preset_with,
    text_vectors,
    without_arithmetic,
)
from ccln.extractors.text import TextTower
from ccln.extractors.weights import AUDIO_FLAG, VISUAL_FLAG

PROMPTS = ("a photo of a dog barking", "the sound of a violin", "chainsaw")


@pytest.fixture(autouse=True, scope="module")
def _offline() -> Iterator[None]:
    """No test here may reach for a network; huggingface_hub reads the variable when it is imported."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hub")
    return {CLIP: save_clip(folder / "clip"), CLAP: save_clap(folder / "clap")}


def loaded(folders: dict[str, Path], visual: str | None = CLIP, audio: str | None = CLAP, **more: Any) -> Extractors:
    weights: dict[str, Any] = {
        "visual_weights": folders[visual] if visual else None,
        "audio_weights": folders[audio] if audio else None,
    }
    return load_extractors(preset_with(LIGHT, visual=visual, audio=audio, **weights, **more), **weights)


def frames_of(extractors: Extractors, segments: int = 2) -> np.ndarray:
    visual = extractors.preset.visual
    size = (segments, extractors.preset.frames_per_segment, visual.frame_height, visual.frame_width, 3)
    return np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8)


def waveform_of(extractors: Extractors, segments: int = 3) -> np.ndarray:
    samples = segments * extractors.preset.audio.sample_rate_hz
    return np.random.default_rng(4).uniform(-1, 1, samples).astype(np.float32)


def test_clip_gives_its_patches_and_beside_them_the_vector_that_its_pipeline_compares(folders: dict[str, Path]) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPModel

    extractors = loaded(folders)
    frames = frames_of(extractors)
    model: Any = CLIPModel.from_pretrained(folders[CLIP]).eval()
    images = [Image.fromarray(frame) for frame in frames.reshape(-1, 32, 32, 3)]
    pixels = CLIPImageProcessor.from_pretrained(folders[CLIP])(images, return_tensors="pt")
    with torch.inference_mode():
        patches = model.vision_model(**pixels).last_hidden_state[:, 1:].reshape(2, 4, 4, 4, 16).mean(1)
        vectors = model.get_image_features(**pixels).pooler_output
    vectors = torch.nn.functional.normalize(vectors, dim=1).reshape(2, 4, 12).mean(1)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    found = extractors.visual(frames)
    assert found.shape == (2, 4, 4, 16 + 12)
    np.testing.assert_allclose(found[..., :16], patches.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[..., 16:], np.broadcast_to(vectors[:, None, None], (2, 4, 4, 12)), atol=1e-5)


def test_finer_grids_are_averaged_into_seven_by_seven_cells(tmp_path: Path, folders: dict[str, Path]) -> None:
    folders = folders | {CLIP: save_clip(tmp_path, image_size=112)}
    fine = loaded(folders)
    frames = frames_of(fine, segments=1)
    from transformers import CLIPModel

    model: Any = CLIPModel.from_pretrained(tmp_path).eval()
    choice = fine.preset.visual
    pixels = (torch.tensor(frames[0]).permute(0, 3, 1, 2) / 255 - torch.tensor(choice.mean)[:, None, None]) / (
        torch.tensor(choice.std)[:, None, None]
    )
    with torch.inference_mode():
        patches = model.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
    cells = patches.reshape(4, 7, 2, 7, 2, 16).mean((0, 2, 4))
    np.testing.assert_allclose(fine.visual(frames)[0, ..., :16], cells.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "save", "prefix"),
    [
        (SIGLIP, save_siglip, 0),
        (DINO, save_dino, 1),
        (DINO, lambda folder: save_dino(folder, registers=3), 4),
        (DINO3, save_dino3, 3),
    ],
    ids=["siglip", "dinov2", "dinov2 with registers", "dinov3"],
)
def test_other_vision_towers_give_their_patches_and_their_vector(
    name: str, save: Callable[[Path], Path], prefix: int, tmp_path: Path
) -> None:
    from transformers import AutoImageProcessor, AutoModel

    extractors = loaded({name: save(tmp_path)}, visual=name, audio=None)
    frames = frames_of(extractors)
    model: Any = AutoModel.from_pretrained(tmp_path).eval()
    # Frames come at the model's own size; all else of its preprocessor applies.
    given = AutoImageProcessor.from_pretrained(tmp_path)(
        list(frames.reshape(-1, 32, 32, 3)), do_resize=False, do_center_crop=False, return_tensors="pt"
    )
    with torch.inference_mode():
        found = getattr(model, "vision_model", model)(**given)
    patches = found.last_hidden_state[:, prefix:].reshape(2, 4, 4, 4, 16).mean(1)
    vectors = found.pooler_output
    if name == SIGLIP:  # its contract is a joint space with texts
        vectors = torch.nn.functional.normalize(vectors, dim=1).reshape(2, 4, 16).mean(1)
        vectors = torch.nn.functional.normalize(vectors, dim=1)
    else:
        vectors = vectors.reshape(2, 4, 16).mean(1)
    features = extractors.visual(frames)
    np.testing.assert_allclose(features[..., :16], patches.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(features[:, 1, 2, 16:], vectors.numpy(), rtol=1e-3, atol=1e-5)


def test_siglips_texts_are_padded_as_it_was_trained(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, SiglipModel

    folders = {SIGLIP: save_siglip(tmp_path / "siglip"), CLAP: save_clap(tmp_path / "clap")}
    extractors = loaded(folders, visual=SIGLIP)
    weights: dict[str, Any] = {"visual_weights": folders[SIGLIP], "audio_weights": folders[CLAP]}
    texts = text_vectors(extractors.preset, PROMPTS, PROMPTS, **weights)["visual"]
    model: Any = SiglipModel.from_pretrained(folders[SIGLIP]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folders[SIGLIP])
    frames = np.repeat(frames_of(extractors)[:1, :1], 4, 1)
    pixels = torch.tensor(frames[0, :1]).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        tokens = tokenizer(list(PROMPTS), padding="max_length", max_length=64, return_tensors="pt")
        expected = model(pixel_values=pixels, **tokens).logits_per_image[0]
    found = texts.logit_scale * texts.vectors @ extractors.visual(frames)[0, 0, 0, -16:] + texts.logit_bias
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-3)


def test_ast_hears_each_second_alone(tmp_path: Path) -> None:
    from transformers import ASTFeatureExtractor, ASTModel

    extractors = loaded({AST: save_ast(tmp_path)}, visual=None, audio=AST)
    waveform = waveform_of(extractors)
    model: Any = ASTModel.from_pretrained(tmp_path).eval()
    front_end = ASTFeatureExtractor.from_pretrained(tmp_path)
    for second, feature in zip(waveform.reshape(-1, 16_000), extractors.audio(waveform), strict=True):
        with torch.inference_mode():
            expected = model(**front_end(second, sampling_rate=16_000, return_tensors="pt")).pooler_output[0]
        np.testing.assert_allclose(feature, expected.numpy(), rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def pe_av(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pe_av(tmp_path_factory.mktemp("pe-av"))


def test_pe_av_sees_hears_and_reads_as_the_whole_model_does(
    pe_av: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoProcessor, PeAudioVideoModel

    model: Any = PeAudioVideoModel.from_pretrained(pe_av).eval()
    for side, name in ((model.video_model, "text_video"), (model.audio_model, "text_audio")):
        getattr(side, f"{name}_logit_scale").data.fill_(3)  # new ones have zeros
        getattr(side, f"{name}_logit_bias").data.fill_(-2)
    shutil.copytree(pe_av, tmp_path / "pe-av")
    model.save_pretrained(tmp_path / "pe-av")
    pe_av = tmp_path / "pe-av"
    capsys.readouterr()
    extractors = loaded({PE_AV: pe_av}, visual=PE_AV, audio=PE_AV)
    prompts = PROMPTS[:2]  # of which the whole model joins each with one clip
    texts = text_vectors(extractors.preset, prompts, prompts, visual_weights=pe_av, audio_weights=pe_av)
    assert capsys.readouterr().out == ""  # what transformers prints would be in the way of JSON
    frames, waveform = frames_of(extractors), waveform_of(extractors, 2)
    visual, audio = extractors(frames, waveform)
    processor: Any = AutoProcessor.from_pretrained(pe_av)
    tokens = processor.tokenizer(list(prompts), padding=True, return_tensors="pt")
    videos = processor.video_processor(
        list(frames.transpose(0, 1, 4, 2, 3)), do_sample_frames=False, do_resize=False, return_tensors="pt"
    )
    sounds = processor.feature_extractor(list(waveform.reshape(2, -1)), sampling_rate=RATE_48_HZ, return_tensors="pt")
    with torch.inference_mode():
        expected = model(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            pixel_values_videos=videos.pixel_values_videos,
            input_values=sounds["input_values"],
        )
        images = model.video_model.video_encoder.embedder.vision_model.timm_model
        patches = images.forward_features(videos.pixel_values_videos.flatten(0, 1))[:, images.num_prefix_tokens :]
    np.testing.assert_allclose(visual[:, 0, 0, 16:], expected.video_embeds.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(visual[..., :16], patches.reshape(2, 4, 4, 4, 16).mean(1).numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(audio, expected.audio_embeds.numpy(), rtol=1e-3, atol=1e-4)
    for text, feature, vectors, logits in (
        (texts["visual"], visual[:, 0, 0, 16:], expected.text_video_embeds, expected.logits_video_text),
        (texts["audio"], audio, expected.text_audio_embeds, expected.logits_audio_text),
    ):
        np.testing.assert_allclose(text.vectors, vectors.numpy(), rtol=1e-3, atol=1e-4)
        found = text.logit_scale * feature @ text.vectors.T + text.logit_bias
        np.testing.assert_allclose(found, logits.numpy(), rtol=1e-3, atol=1e-3)


def test_pe_av_in_half_precision(pe_av: Path) -> None:
    single, half = (loaded({PE_AV: pe_av}, PE_AV, PE_AV, precision=name) for name in ("float32", "bfloat16"))
    frames = frames_of(single)
    np.testing.assert_allclose(half.visual(frames), single.visual(frames), atol=0.1)


def test_clap_hears_each_second_alone_as_its_own_front_end_repeats_it(folders: dict[str, Path]) -> None:
    from transformers import ClapFeatureExtractor, ClapModel

    extractors = loaded(folders)
    waveform = waveform_of(extractors)
    model: Any = ClapModel.from_pretrained(folders[CLAP]).eval()
    front_end = ClapFeatureExtractor.from_pretrained(folders[CLAP])
    found = extractors.audio(waveform)
    for second, feature in zip(waveform.reshape(-1, RATE_48_HZ), found, strict=True):
        with torch.inference_mode():
            given = front_end(second, sampling_rate=RATE_48_HZ, return_tensors="pt")
            expected = model.get_audio_features(**given).pooler_output[0]
        np.testing.assert_allclose(feature, expected.numpy(), atol=1e-5)
        assert np.linalg.norm(feature) == pytest.approx(1, abs=1e-5)


def test_clap_with_fusion_does_not_depend_on_chance(tmp_path: Path, folders: dict[str, Path]) -> None:
    extractors = loaded(folders | {CLAP: save_clap(tmp_path, fusion=True)})
    waveform = waveform_of(extractors)
    together = extractors.audio(waveform)
    for _ in range(3):  # its front end draws which second of a batch is to pass for a longer one
        assert np.array_equal(extractors.audio(waveform), together)
    alone = [extractors.audio(second) for second in waveform.reshape(-1, RATE_48_HZ)]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)


def test_texts_agree_with_the_zero_shot_pipelines_of_transformers(folders: dict[str, Path]) -> None:
    from PIL import Image
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel, CLIPImageProcessor, CLIPModel
    from transformers.pipelines.zero_shot_audio_classification import ZeroShotAudioClassificationPipeline
    from transformers.pipelines.zero_shot_image_classification import ZeroShotImageClassificationPipeline

    extractors = loaded(folders)
    texts = text_vectors(extractors.preset, PROMPTS, PROMPTS, visual_weights=folders[CLIP], audio_weights=folders[CLAP])
    frames, waveform = np.repeat(frames_of(extractors)[:1, :1], 4, 1), waveform_of(extractors, 1)
    seen = ZeroShotImageClassificationPipeline(
        model=CLIPModel.from_pretrained(folders[CLIP]),
        image_processor=CLIPImageProcessor.from_pretrained(folders[CLIP]),
        tokenizer=AutoTokenizer.from_pretrained(folders[CLIP]),
    )(Image.fromarray(frames[0, 0]), candidate_labels=list(PROMPTS), hypothesis_template="{}")
    heard = ZeroShotAudioClassificationPipeline(
        model=ClapModel.from_pretrained(folders[CLAP]),
        feature_extractor=ClapFeatureExtractor.from_pretrained(folders[CLAP]),
        tokenizer=AutoTokenizer.from_pretrained(folders[CLAP]),
    )(waveform, candidate_labels=list(PROMPTS), hypothesis_template="{}")
    channels = extractors.preset.visual.pooled_channels
    vectors = {"visual": extractors.visual(frames)[0, 0, 0, -channels:], "audio": extractors.audio(waveform)[0]}
    for side, text, scores in (("visual", texts["visual"], seen), ("audio", texts["audio"], heard)):
        np.testing.assert_allclose(np.linalg.norm(text.vectors, axis=1), 1, atol=1e-5)
        logits = text.logit_scale * text.vectors @ vectors[side] + text.logit_bias
        ours = np.exp(logits - logits.max())
        theirs = {score["label"]: score["score"] for score in scores}
        np.testing.assert_allclose(ours / ours.sum(), [theirs[prompt] for prompt in PROMPTS], atol=1e-4)


def test_a_specification_says_all_but_where_the_folder_is(folders: dict[str, Path], tmp_path: Path) -> None:
    specification = loaded(folders).specification
    assert str(folders[CLIP].parent) not in str(specification)
    assert specification["visual"]["pooled_channels"] == 12
    assert specification["visual"]["pooled_norm"] == "l2"
    assert specification["audio"]["sample_rate_hz"] == RATE_48_HZ
    assert specification["audio"]["front_end"]["padding"] == "repeatpad"
    preset = preset_from_specification(specification)
    again = load_extractors(preset, visual_weights=folders[CLIP], audio_weights=folders[CLAP])
    assert again.specification == specification
    other = loaded(folders | {CLIP: save_clip(tmp_path, seed=1)}).specification
    assert other["weights_sha256"]["visual"] != specification["weights_sha256"]["visual"]


def test_models_in_the_hubs_cache_are_known_by_their_commit(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in (CLIP, CLAP):
        repository = tmp_path / f"models--{name.removeprefix('hf:').replace('/', '--')}"
        (repository / "snapshots").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots" / commit).symlink_to(folders[name])
    preset = preset_with(LIGHT, visual=CLIP, audio=CLAP)
    assert (preset.visual.revision, preset.audio.revision) == (commit, commit)
    cached, local = load_extractors(preset).specification, loaded(folders).specification
    assert cached != local
    assert without_arithmetic(cached) == without_arithmetic(local)
    assert text_vectors(preset, PROMPTS, PROMPTS)["visual"].vectors.shape == (3, 12)


@pytest.mark.parametrize(
    ("name", "save"), [(CLIP, save_clip), (SIGLIP, save_siglip), (DINO, save_dino), (DINO3, save_dino3)]
)
def test_half_precision_changes_little(name: str, save: Callable[[Path], Path], tmp_path: Path) -> None:
    single, half = (loaded({name: save(tmp_path)}, name, None, precision=of) for of in ("float32", "bfloat16"))
    frames = frames_of(single)
    assert half.specification["visual"]["precision"] == "bfloat16"
    np.testing.assert_allclose(half.visual(frames), single.visual(frames), atol=0.05)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        (CLIP, save_clip),
        (SIGLIP, save_siglip),
        (DINO, save_dino),
        (DINO3, save_dino3),
        (CLAP, save_clap),
        (AST, save_ast),
        (PE_AV, save_pe_av),
    ],
)
def test_towers_compute_on_the_device_they_are_on(name: str, save: Callable[[Path], Path], tmp_path: Path) -> None:
    """With torch's meta device, which like a GPU refuses tensors of the CPU, but computes no numbers."""
    weights = save(tmp_path)
    texts = []
    if name not in (CLAP, AST):
        choice = hub_models.visual_choice(name, weights)
        tower = hub_models.build_visual(choice, weights).eval().to("meta")
        frames = torch.empty(2, 4, 3, choice.frame_height, choice.frame_width, device="meta")
        assert tower(frames if choice.pooling == "joint" else frames[0]).device.type == "meta"
        texts.append(VISUAL_FLAG)
    if name in (CLAP, AST, PE_AV):
        choice = hub_models.audio_choice(name, weights)
        tower = hub_models.build_audio(choice, weights).eval().to("meta")
        assert tower(tower.front_end(torch.zeros(2, choice.sample_rate_hz)).to("meta")).device.type == "meta"
        texts.append(AUDIO_FLAG)
    if name in (CLIP, SIGLIP, PE_AV):  # CLAP reads the mask that it makes
        source = hub_models.HubModel(name, weights, VISUAL_FLAG)
        tokens = torch.empty(3, 8, dtype=torch.int64, device="meta")
        for flag in texts:
            assert TextTower(source.model(), flag).to("meta")(input_ids=tokens).device.type == "meta"


def test_front_ends_do_not_wait_for_the_turn_on_a_gpu(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    extractors = loaded(folders)
    turn, held = threading.Lock(), []
    network: Any = extractors.audio_network
    monkeypatch.setattr(extractors, "_turn", turn)  # as on a GPU
    front_end = network.front_end
    monkeypatch.setattr(network, "front_end", lambda waveform: held.append(turn.locked()) or front_end(waveform))
    for computing in (network, extractors._visual):
        computing.register_forward_pre_hook(lambda *_: held.append(turn.locked()))
    extractors(frames_of(extractors, 2), waveform_of(extractors, 2))
    assert held == [True] * (len(held) - 2) + [False, True]
    assert not turn.locked()


def test_features_that_are_not_numbers_are_refused(folders: dict[str, Path]) -> None:
    broken = loaded(folders)
    for network in (broken.audio_network, broken._visual):
        next(network.parameters()).data.fill_(float("nan"))
    with pytest.raises(ExtractorError, match=r"hf:tiny/clip gives a feature that is infinite or not a number"):
        broken.visual(frames_of(broken))
    with pytest.raises(ExtractorError, match=r"hf:tiny/clap gives a feature that is infinite or not a number"):
        broken.audio(waveform_of(broken))


def test_without_hub_and_folder_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = (
        r"hf:laion/clap-htsat-unfused cannot be had .*huggingface.co/laion/clap-htsat-unfused.*--audio-weights FOLDER"
    )
    with pytest.raises(WeightsError, match=message):
        load_extractors(PRESETS["clip-clap"])
    with pytest.raises(WeightsError, match=r"hf:some/model cannot be had .*--visual-weights FOLDER"):
        preset_with(LIGHT, visual="hf:some/model")


@pytest.mark.parametrize(
    ("visual", "audio", "message"),
    [
        ("hf:clip", None, "has to be hf:OWNER/NAME"),
        ("hf:../secret", None, "has to be hf:OWNER/NAME"),
        (CLAP, None, "of the type clap, but a visual extractor has to be one of clip, siglip"),
        (None, CLIP, "of the type clip, but an audio extractor has to be one of clap"),
    ],
)
def test_other_models_are_refused(
    visual: str | None, audio: str | None, message: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(ExtractorError, match=message):
        preset_with(
            LIGHT,
            visual=visual,
            audio=audio,
            visual_weights=folders[CLAP],
            audio_weights=folders[CLIP],
        )


def test_folders_that_hold_no_such_model_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    def refused(match: str, folder: Path) -> None:
        with pytest.raises(WeightsError, match=match):
            loaded(folders | {CLIP: folder})

    refused("is no folder", tmp_path / "none")
    refused(r"hf:tiny/clip in .* cannot be read", tmp_path)
    pickled = tmp_path / "pickled"
    save_clip(pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    refused(r"hf:tiny/clip in .* cannot be read .*safetensors", pickled)
    with_code = tmp_path / "code"
    save_clip(with_code)
    (with_code / "config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}'
    )
    (with_code / "mine.py").write_text("raise SystemExit('this ran')")
    refused("cannot be read", with_code)


def test_a_configuration_out_of_its_range_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    huge = save_clip(tmp_path)
    preprocessor = huge / "preprocessor_config.json"
    preprocessor.write_text(preprocessor.read_text().replace('"height": 32', '"height": 100000'))
    with pytest.raises(ExtractorError, match=r"configuration of hf:tiny/clip cannot be used: .*1024.*frame_height"):
        loaded(folders | {CLIP: huge})


def test_presets_without_a_text_side_say_so(folders: dict[str, Path]) -> None:
    with pytest.raises(ExtractorError, match=r"efficientnet-lite0 has no text side: take the preset clip-clap"):
        text_vectors(PRESETS["light"], PROMPTS, PROMPTS)
    preset = replace(LIGHT, visual=loaded(folders).preset.visual)
    with pytest.raises(ExtractorError, match="log-mel has no text side"):
        text_vectors(preset, PROMPTS, PROMPTS, visual_weights=folders[CLIP])


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExtractorError, match=r"pip install 'ccln\[hub\]'"):
        load_extractors(PRESETS["clip-clap"])


def test_other_presets_do_not_import_transformers() -> None:
    script = (
        "import sys, ccln.extractors as e; e.load_extractors(e.PRESETS['light-log-mel']); e.text_vectors;"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
