"""Tiny models whose texts are planted: each lies where one known picture, and one known sound, lies."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ccln.cache import FeatureCache, Features
from ccln.extractors import Extractors, load_extractors, preset_named
from ccln.extractors.contract import DECODING_RULES
from ccln.extractors.text import TextTower
from ccln.extractors.weights import AUDIO_FLAG, VISUAL_FLAG
from ccln.pipeline.decode.clip import DecodedClip, decode_clip
from ccln.pipeline.extract.features import clip_features, frame_request
from ccln.pipeline.texts import OTHERS, PROMPTS, spoken
from support.hub_models import save_clap, save_clip, save_pe_av, save_tokenizer
from support.training_clips import ave_folder

NAMES = ("dog barking", "violin", "chainsaw")
OTHER = len(NAMES)
"""What is seen or heard where it is none of them."""
SPAN = 256  # of the texts' hidden vectors: more numbers than prompts, so that all can be planted
RATE_HZ = 48_000
SIZE = 64
_LIKELY = 12.0
"""Logits between a text's own picture and the next likely."""
_LENGTHS = (5.0, 6.0, 7.0, 8.0)
"""Of PE-AV's vectors by kind; of its texts the other way round."""


@dataclass(frozen=True)
class Planted:
    """The models, and the features of the known pictures and sounds."""

    visual_weights: Path
    audio_weights: Path
    extractors: Extractors
    seen: np.ndarray
    """(kind, height, width, channel), of each name's picture and that of none."""
    heard: np.ndarray
    """(kind, channel)."""

    @property
    def where(self) -> dict[str, Any]:
        """The arguments that name the models."""
        return {"visual_weights": self.visual_weights, "audio_weights": self.audio_weights}

    @property
    def words(self) -> list[str]:
        """The options that do."""
        return ["--visual-weights", str(self.visual_weights), "--audio-weights", str(self.audio_weights)]


def plant(folder: Path) -> Planted:
    """Make CLIP and CLAP."""
    clip, clap = save_clip(folder / "clip"), save_clap(folder / "clap")
    _widen(clip, clap)
    planted = _planted("clip-clap", clip, clap)
    channels = planted.extractors.preset.visual.pooled_channels
    for weights, flag, found in (
        (clip, VISUAL_FLAG, planted.seen[:, 0, 0, -channels:]),
        (clap, AUDIO_FLAG, planted.heard),
    ):
        model, targets = _model(weights), torch.from_numpy(found)
        _plant_texts(model, weights, flag, targets)
        likeness = targets @ targets.T - 2 * torch.eye(len(targets))
        scale = _LIKELY / (1 - likeness.max())
        (model.logit_scale if flag == VISUAL_FLAG else model.logit_scale_a).data.fill_(scale.log())
        model.save_pretrained(weights)
    return planted


def plant_pe_av(folder: Path) -> Planted:
    """Make PE-AV, of which pictures and sounds are planted as well: their vectors, too, are of any length but one."""
    from transformers import PeAudioVideoConfig, PeAudioVideoModel

    config: Any = PeAudioVideoConfig.from_pretrained(save_pe_av(folder))
    config.text_config.hidden_size = SPAN
    torch.manual_seed(0)
    model: Any = PeAudioVideoModel(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and name.endswith("weight"):  # so large that inputs make a difference
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    save_tokenizer(folder, _words(), max_length=64).save_pretrained(folder)
    clip, extractors = _known_clip("pe-av", folder, folder)
    towers: Any = (
        (VISUAL_FLAG, extractors._visual.head, model.video_model, "video"),
        (AUDIO_FLAG, extractors.audio_network.projection, model.audio_model, "audio"),
    )
    directions = torch.linalg.qr(torch.randn(SPAN, SPAN))[0].split(len(NAMES) + 1)
    for (flag, head, side, name), of_side in zip(towers, directions, strict=False):
        solved = _solved(head.proj, lambda: clip_features(extractors, clip), of_side * torch.tensor(_LENGTHS)[:, None])
        getattr(side, f"{name}_head").proj.weight.data.copy_(solved)
        _plant_texts(model, folder, flag, of_side * torch.tensor(_LENGTHS[::-1])[:, None])
        getattr(side, f"text_{name}_logit_scale").data.fill_(_LIKELY / min(_LENGTHS) / max(_LENGTHS))
        getattr(side, f"text_{name}_logit_bias").data.fill_(-10)
    model.save_pretrained(folder)
    return _planted("pe-av", folder, folder)


def without_scales(planted: Planted, folder: Path) -> Planted:
    """The same PE-AV with the scales of an untrained one, which are zero."""
    shutil.copytree(planted.visual_weights, folder)
    model = _model(folder)
    for scale in (model.video_model.text_video_logit_scale, model.audio_model.text_audio_logit_scale):
        scale.data.zero_()
    model.save_pretrained(folder)
    return replace(planted, visual_weights=folder, audio_weights=folder)


def make_planted(path: Path, heard: Sequence[int], seen: Sequence[int]) -> Path:
    """Write a lossless video of which each second has a known picture and a known sound, by their kinds."""
    random = np.random.default_rng(5)
    pictures = random.integers(0, 256, (OTHER + 1, 8, 8, 3), np.uint8).repeat(SIZE // 8, 1).repeat(SIZE // 8, 2)
    time = np.arange(RATE_HZ) / RATE_HZ
    tones = [0.5 * np.sin(2 * np.pi * pitch * time) for pitch in (200, 1000, 5000)]
    sounds = [*tones, random.uniform(-0.5, 0.5, RATE_HZ)]
    with av.open(str(path), "w") as output:
        video, audio = output.add_stream("ffv1", rate=8), output.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        video.width = video.height = SIZE
        video.pix_fmt = "bgr0"
        for second, (sound, picture) in enumerate(zip(heard, seen, strict=True)):
            for number in range(8):
                frame = VideoFrame.from_ndarray(pictures[picture], format="rgb24").reformat(format="bgr0")
                frame.pts, frame.time_base = 8 * second + number, Fraction(1, 8)
                output.mux(video.encode(frame))
            samples = (sounds[sound] * 32767).astype(np.int16)[np.newaxis]
            wave = AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            wave.sample_rate, wave.pts, wave.time_base = RATE_HZ, second * RATE_HZ, Fraction(1, RATE_HZ)
            output.mux(audio.encode(wave))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    return path


def planted_set(planted: Planted, folder: Path, train: int = 48, others: int = 12) -> tuple[Path, Path]:
    """An AVE folder without videos, all classes in turn, and a cache of its features: events on known seconds.

    Each clip's event ends where another's sound is heard, and the picture changes to that of no class at the end.
    """
    cache, random = FeatureCache(folder / "features"), np.random.default_rng(1)
    splits: dict[str, list[tuple[str, str | None, int, int]]] = {}
    for split, count in (("train", train), ("val", others), ("test", others)):
        splits[split] = []
        for index in range(count):
            name, kind, start, end = f"{split}{index}", index % len(NAMES), index % 3, 5 + index % 3
            splits[split].append((name, NAMES[kind], start, end))
            seen = np.array([OTHER if second < start or second == 9 else kind for second in range(10)])
            heard = np.array([kind if second < end else (kind + 1) % len(NAMES) for second in range(10)])
            visual = planted.seen[seen] + random.normal(0, 1e-4, (10, *planted.seen.shape[1:]))
            audio = planted.heard[heard] + random.normal(0, 1e-6, (10, planted.heard.shape[1]))
            cache.write(
                Features(
                    torch.from_numpy(visual).half(),
                    torch.from_numpy(audio).float(),
                    10.0,
                    decoding_rules=DECODING_RULES,
                ),
                source_sha256=name.encode().hex().ljust(64, "0"),
                source_path=f"{name}.mp4",
                specification=planted.extractors.specification,
            )
    return ave_folder(folder / "set", splits), cache.root


def _known_clip(preset: str, visual_weights: Path, audio_weights: Path) -> tuple[DecodedClip, Extractors]:
    """One second of each kind, and the extractors of a preset."""
    extractors = load_extractors(preset_named(preset), visual_weights=visual_weights, audio_weights=audio_weights)
    kinds = list(range(OTHER + 1))
    return decode_clip(make_planted(audio_weights / "all.mkv", kinds, kinds), frame_request(extractors)), extractors


def _planted(preset: str, visual_weights: Path, audio_weights: Path) -> Planted:
    clip, extractors = _known_clip(preset, visual_weights, audio_weights)
    found = clip_features(extractors, clip)
    seen, heard = (of.float().numpy()[: OTHER + 1] for of in (found.visual, found.audio))
    return Planted(visual_weights, audio_weights, extractors, seen, heard)


def _words() -> list[str]:
    return sorted({word for name in NAMES for word in name.split()} | {"a", "photo", "of", "video", "sound", "is"})


def _widen(clip: Path, clap: Path) -> None:
    """Save the models again with wider texts, and with words of their own for all names."""
    from transformers import ClapConfig, ClapModel, CLIPConfig, CLIPModel

    torch.manual_seed(1)
    for folder, config_type, model_type in ((clip, CLIPConfig, CLIPModel), (clap, ClapConfig, ClapModel)):
        config: Any = config_type.from_pretrained(folder)
        config.text_config.hidden_size = SPAN
        if folder == clap:  # whose texts pass through a layer of the width of the joint space
            config.projection_dim = config.text_config.projection_dim = config.audio_config.projection_dim = SPAN
        model_type(config).save_pretrained(folder)
        save_tokenizer(folder, _words()).save_pretrained(folder)


def _model(folder: Path) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).eval()


def _plant_texts(model: Any, folder: Path, flag: str, targets: torch.Tensor) -> None:
    """Solve the last layer of a text side for every prompt's text to lie at its target (kind, channel)."""
    from transformers import AutoTokenizer

    modality = "visual" if flag == VISUAL_FLAG else "audio"
    texts = [*((spoken(name), kind) for kind, name in enumerate(NAMES)), *((text, OTHER) for text in OTHERS[modality])]
    prompts = [(prompt.format(text), kind) for text, kind in texts for prompt in PROMPTS[modality]]
    tokens = AutoTokenizer.from_pretrained(folder)([text for text, _ in prompts], padding=True, return_tensors="pt")
    tower, wanted = TextTower(model, flag), targets[[kind for _, kind in prompts]]
    last: Any = tower.projection
    last = getattr(last, "linear2", getattr(last, "proj", last))  # of CLAP and of PE-AV
    last.weight.data.copy_(_solved(last, lambda: tower(**tokens), wanted))
    if last.bias is not None:
        last.bias.data.zero_()
    with torch.inference_mode():
        torch.testing.assert_close(tower(**tokens), wanted, atol=1e-3, rtol=0)


def _solved(layer: Any, run: Callable[[], object], wanted: torch.Tensor) -> torch.Tensor:
    """The weights with which a layer makes of its first inputs in a run what is wanted (item, channel)."""
    inputs: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.inference_mode():
        run()
    handle.remove()
    given = torch.cat(inputs)[: len(wanted)]
    return torch.linalg.lstsq(given.double(), wanted.double(), driver="gelsd").solution.T
