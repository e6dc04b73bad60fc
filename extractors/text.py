"""The text side of a preset whose towers have one: prompts in, vectors out that its features are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.extractors.contract import HUB_PREFIX, ExtractorError, Preset
from ccln.extractors.hub_models import UNITS, HubModel, loaded_once
from ccln.extractors.weights import AUDIO_FLAG, VISUAL_FLAG

_VISUAL_TYPES = ("clip", "siglip", "pe_video", "pe_audio_video")
_AUDIO_TYPES = ("clap", "pe_audio", "pe_audio_video")
_PROMPTS_AT_ONCE = 64


@dataclass(frozen=True)
class TextVectors:
    """What a tower's text side makes of prompts."""

    vectors: np.ndarray
    """float32 (prompt, channel), as many channels as the tower's vectors have; like these of length 1 where the model's
    contract says so, which CLIP's, SigLIP's and CLAP's does, and else as they come."""
    logit_scale: float
    """What the model multiplies the dot product of a feature and a text with."""
    logit_bias: float
    """What the model adds to that product; 0 where it takes a softmax over texts."""


def text_vectors(
    preset: Preset,
    visual: Sequence[str],
    audio: Sequence[str],
    *,
    device: str = "cpu",
    visual_weights: Path | str | None = None,
    audio_weights: Path | str | None = None,
) -> "dict[Literal['visual', 'audio'], TextVectors]":
    """Return the vectors of prompts, those for the visual and those for the audio tower of a preset.

    A segment's vector of the picture is the last `preset.visual.pooled_channels` channels at any position of its visual
    feature, that of the sound its audio feature.

    Args:
        preset: Of the extractors, such as `Extractors.preset`, which names the commits.
        visual: Prompts such as "a photo of a violin".
        audio: Prompts such as "the sound of a violin".
        device: A torch device such as "cpu" or "cuda:0".
        visual_weights: As for `load_extractors`.
        audio_weights: As for `load_extractors`.

    Raises:
        ExtractorError: A tower has no text side, or there are no prompts.
        WeightsError: A model cannot be had.
    """
    if not (visual and audio):
        raise ExtractorError("there are no prompts: give at least one for each tower")
    seen = _source(preset.visual, visual_weights, VISUAL_FLAG, _VISUAL_TYPES)
    heard = _source(preset.audio, audio_weights, AUDIO_FLAG, _AUDIO_TYPES)
    with loaded_once():
        return {
            "visual": _encoded(seen, VISUAL_FLAG, visual, device),
            "audio": _encoded(heard, AUDIO_FLAG, audio, device),
        }


class TextTower(nn.Module):
    """The text side of the vision or of the audio tower of CLIP, SigLIP, CLAP or PE-AV.

    Attributes:
        logit_scale: As of `TextVectors`.
        logit_bias: Likewise.
    """

    def __init__(self, model: Any, flag: str) -> None:
        super().__init__()
        kind = model.config.model_type
        self._unit, self._pe = kind in UNITS, kind.startswith("pe_")
        self.tower = model.text_model
        if self._pe:
            name = "video" if flag == VISUAL_FLAG else "audio"
            side = getattr(model, f"{name}_model", model)
            self.projection = getattr(side, f"text_{name}_head")
            scale, bias = (getattr(side, f"text_{name}_logit_{part}") for part in ("scale", "bias"))
        else:
            self.projection = getattr(model, "text_projection", nn.Identity())
            scale = (model.logit_scale_a if kind == "clap" else model.logit_scale).exp()
            bias = model.logit_bias if kind == "siglip" else torch.zeros(())
        self.logit_scale, self.logit_bias = scale.item(), bias.item()

    def forward(self, **tokens: Tensor) -> Tensor:
        """Return vectors (prompt, channel) of tokens, as the model's tokenizer gives them."""
        if self._pe:
            # transformers 5.24's own get_text_audio_embeds asks for hidden states that it does not compute.
            pooled = self.tower(**tokens, output_hidden_states=True).hidden_states[-1][:, 0]
        else:
            pooled = self.tower(**tokens).pooler_output
        found = self.projection(pooled)
        return F.normalize(found, dim=-1) if self._unit else found


def _source(choice: Any, weights: Path | str | None, flag: str, kinds: Sequence[str]) -> HubModel:
    """The model of a tower, if it has a text side."""
    if choice.name.startswith(HUB_PREFIX):
        source = HubModel(choice.name, Path(weights) if weights else None, flag, choice.revision)
        if source.kind in kinds:
            return source
    raise ExtractorError(
        f"{choice.name} has no text side: take the preset clip-clap or pe-av, or a model of the type "
        f"{' or '.join(kinds)} as {HUB_PREFIX}OWNER/NAME"
    )


def _encoded(source: HubModel, flag: str, prompts: Sequence[str], device: str) -> TextVectors:
    tower, tokenizer = TextTower(source.model(), flag).to(device), source.part("AutoTokenizer")
    # SigLIP was trained on texts padded to one length, and has no mask for the padding.
    padding: dict[str, Any] = (
        {"padding": "max_length", "max_length": 64} if source.kind == "siglip" else {"padding": True}
    )
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
            part = list(prompts[start : start + _PROMPTS_AT_ONCE])
            tokens = tokenizer(part, truncation=True, return_tensors="pt", **padding).to(device)
            vectors.append(tower(**tokens).cpu())
    found = torch.cat(vectors).numpy()
    if not np.isfinite(found).all():
        raise ExtractorError(f"{source.name} gives a text vector that is infinite or not a number. Check its weights.")
    return TextVectors(found, tower.logit_scale, tower.logit_bias)
