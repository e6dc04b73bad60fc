"""Tiny CLIP and CLAP whose texts are planted: each lies where one known picture, and one known sound, lies."""

from collections.abc import Sequence
from dataclasses import dataclass
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
from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.extract import clip_features, frame_request
from ccln.pipeline.texts import OTHERS, PROMPTS, spoken
from support.hub_models import save_clap, save_clip, save_tokenizer
from support.training_clips import ave_folder

NAMES = ("dog barking", "violin", "chainsaw")
OTHER = len(NAMES)
"""What is seen or heard where it is none of them."""
SPAN = 256  # of the texts' hidden vectors: more numbers than prompts, so that all can be planted
RATE_HZ = 48_000
SIZE = 64
_LIKELY = 12.0
"""Logits between a text's own picture and the next likely."""


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
    """Make the models."""
    clip, clap = save_clip(folder / "clip"), save_clap(folder / "clap")
    _widen(clip, clap)
    extractors = load_extractors(preset_named("clip-clap"), visual_weights=clip, audio_weights=clap)
    kinds = list(range(OTHER + 1))
    video = make_planted(folder / "all.mkv", kinds, kinds)
    found = clip_features(extractors, decode_clip(video, frame_request(extractors)))
    seen, heard = found.visual.float().numpy()[: len(kinds)], found.audio.numpy()[: len(kinds)]
    channels = extractors.preset.visual.pooled_channels
    _plant_texts(clip, "visual", torch.from_numpy(seen[:, 0, 0, -channels:]))
    _plant_texts(clap, "audio", torch.from_numpy(heard))
    return Planted(clip, clap, extractors, seen, heard)


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


def _widen(clip: Path, clap: Path) -> None:
    """Save the models again with wider texts, and with words of their own for all names."""
    from transformers import ClapConfig, ClapModel, CLIPConfig, CLIPModel

    torch.manual_seed(1)
    words = sorted({word for name in NAMES for word in name.split()} | {"a", "photo", "of", "video", "sound", "is"})
    for folder, config_type, model_type in ((clip, CLIPConfig, CLIPModel), (clap, ClapConfig, ClapModel)):
        config: Any = config_type.from_pretrained(folder)
        config.text_config.hidden_size = SPAN
        if folder == clap:  # whose texts pass through a layer of the width of the joint space
            config.projection_dim = config.text_config.projection_dim = config.audio_config.projection_dim = SPAN
        model_type(config).save_pretrained(folder)
        save_tokenizer(folder, words).save_pretrained(folder)


def _plant_texts(folder: Path, modality: str, targets: torch.Tensor) -> None:
    """Solve the last layer of the text side for every prompt's text to lie at its target (kind, channel)."""
    from transformers import AutoModel, AutoTokenizer

    model: Any = AutoModel.from_pretrained(folder).eval()
    texts = [*((spoken(name), kind) for kind, name in enumerate(NAMES)), *((text, OTHER) for text in OTHERS[modality])]
    prompts = [(prompt.format(text), kind) for text, kind in texts for prompt in PROMPTS[modality]]
    tokens = AutoTokenizer.from_pretrained(folder)([text for text, _ in prompts], padding=True, return_tensors="pt")
    inputs: list[torch.Tensor] = []
    last = model.text_projection if modality == "visual" else model.text_projection.linear2
    last.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    wanted = targets[[kind for _, kind in prompts]]
    with torch.inference_mode():
        model.get_text_features(**tokens)
    solved = torch.linalg.lstsq(inputs[0].double(), wanted.double(), driver="gelsd").solution.T
    likeness = targets @ targets.T - 2 * torch.eye(len(targets))
    scale = _LIKELY / (1 - likeness.max())
    with torch.no_grad():
        last.weight.copy_(solved)
        if last.bias is not None:
            last.bias.zero_()
        (model.logit_scale if modality == "visual" else model.logit_scale_a).fill_(scale.log())
        found = torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    model.save_pretrained(folder)
