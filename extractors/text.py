"""The text side of a preset whose towers have one: prompts in, vectors out that its features are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ccln.extractors.contract import HUB_PREFIX, ExtractorError, Preset
from ccln.extractors.hub_models import HubModel
from ccln.extractors.weights import AUDIO_FLAG, VISUAL_FLAG

_VISUAL_TYPES = ("clip", "siglip", "pe_video", "pe_audio_video")
_AUDIO_TYPES = ("clap", "pe_audio", "pe_audio_video")
_PROMPTS_AT_ONCE = 64


@dataclass(frozen=True)
class TextVectors:
    """What a tower's text side makes of prompts."""

    vectors: np.ndarray
    """float32 (prompt, channel), each of length 1; as many channels as the tower's vectors have."""
    logit_scale: float
    """What the model multiplies the dot product of a feature and a text with: of vectors of length 1 for CLIP, SigLIP
    and CLAP; PE-AV's own vectors are of any length, and there it says less."""
    logit_bias: float
    """What the model adds to that product; 0 where it takes a softmax over texts."""


def text_vectors(
    preset: Preset,
    prompts: Sequence[str],
    *,
    device: str = "cpu",
    visual_weights: Path | str | None = None,
    audio_weights: Path | str | None = None,
) -> "dict[Literal['visual', 'audio'], TextVectors]":
    """Return the vectors of prompts for the visual and for the audio tower of a preset.

    A segment's vector of the picture is the last `preset.visual.pooled_channels` channels at any position of its visual
    feature, that of the sound its audio feature.

    Args:
        preset: Of the extractors, such as `Extractors.preset`, which names the commits.
        prompts: Such as "a photo of a violin"; both towers get the same.
        device: A torch device such as "cpu" or "cuda:0".
        visual_weights: As for `load_extractors`.
        audio_weights: As for `load_extractors`.

    Raises:
        ExtractorError: A tower has no text side, or there are no prompts.
        WeightsError: A model cannot be had.
    """
    if not prompts:
        raise ExtractorError("there are no prompts: give at least one")
    return {
        "visual": _of_tower(preset.visual, visual_weights, VISUAL_FLAG, _VISUAL_TYPES, prompts, device),
        "audio": _of_tower(preset.audio, audio_weights, AUDIO_FLAG, _AUDIO_TYPES, prompts, device),
    }


def _of_tower(
    choice: Any, weights: Path | str | None, flag: str, kinds: Sequence[str], prompts: Sequence[str], device: str
) -> TextVectors:
    lacking = ExtractorError(
        f"{choice.name} has no text side: take the preset clip-clap or pe-av, or a model of the type "
        f"{' or '.join(kinds)} as {HUB_PREFIX}OWNER/NAME"
    )
    if not choice.name.startswith(HUB_PREFIX):
        raise lacking
    source = HubModel(choice.name, Path(weights) if weights else None, flag, choice.revision)
    if source.kind not in kinds:
        raise lacking
    model, tokenizer = source.model().to(device), source.part("AutoTokenizer")
    # SigLIP was trained on texts padded to one length, and has no mask for the padding.
    padding: dict[str, Any] = (
        {"padding": "max_length", "max_length": 64} if source.kind == "siglip" else {"padding": True}
    )
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
            part = list(prompts[start : start + _PROMPTS_AT_ONCE])
            tokens = tokenizer(part, truncation=True, return_tensors="pt", **padding).to(device)
            vectors.append(F.normalize(_text_features(model, tokens, flag), dim=-1))
    found = torch.cat(vectors).float().cpu().numpy()
    if not np.isfinite(found).all():
        raise ExtractorError(f"{choice.name} gives a text vector that is infinite or not a number. Check its weights.")
    return TextVectors(found, *_scale_and_bias(model, flag))


def _text_features(model: Any, tokens: Any, flag: str) -> Tensor:
    if not model.config.model_type.startswith("pe_"):
        return model.get_text_features(**tokens).pooler_output
    # transformers 5.24's own get_text_audio_embeds asks for hidden states that it does not compute.
    hidden = model.text_model(**tokens, output_hidden_states=True).hidden_states[-1][:, 0]
    return _text_head(model, flag)(hidden)


def _text_head(model: Any, flag: str) -> Any:
    if flag == VISUAL_FLAG:
        return getattr(model, "video_model", model).text_video_head
    return getattr(model, "audio_model", model).text_audio_head


def _scale_and_bias(model: Any, flag: str) -> tuple[float, float]:
    kind = model.config.model_type
    if not kind.startswith("pe_"):
        scale = model.logit_scale_a if kind == "clap" else model.logit_scale
        return scale.exp().item(), model.logit_bias.item() if kind == "siglip" else 0.0
    tower, name = (
        (getattr(model, "video_model", model), "text_video")
        if flag == VISUAL_FLAG
        else (getattr(model, "audio_model", model), "text_audio")
    )
    return getattr(tower, f"{name}_logit_scale").item(), getattr(tower, f"{name}_logit_bias").item()
