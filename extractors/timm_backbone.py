"""Any timm model by name, as `timm:NAME`: its last feature map before pooling, whatever its layout."""

import math
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import PretrainedCfg
from torch import Tensor, nn

from ccln.extractors.contract import TIMM_PREFIX, ExtractorError, VisualChoice, WeightsError, unknown_name
from ccln.extractors.weights import VISUAL_FLAG, fetch_hub, fetch_url, misfit, read_weights

LAYER = "forward_features"


def timm_choice(name: str) -> VisualChoice:
    """Return the choice for "timm:NAME": size, interpolation, mean and std as in the model's own data configuration.

    The name is completed with the tag of its weights, such as `.a1_in1k`, which timm would otherwise pick by itself.

    Raises:
        ExtractorError: Timm has no such model or no such weights, or the model does not take RGB.
    """
    config = _pretrained_config(name)
    data: dict[str, Any] = resolve_data_config(pretrained_cfg=config.to_dict())
    channels, height, width = data["input_size"]
    if channels != 3:
        raise ExtractorError(f"{name} takes {channels} channels: choose a model that takes RGB")
    return VisualChoice(
        name=TIMM_PREFIX + ".".join(filter(None, (config.architecture, config.tag))),
        layer=LAYER,
        frame_height=height,
        frame_width=width,
        resize="stretch",
        interpolation=data["interpolation"],
        mean=data["mean"],
        std=data["std"],
        channel_order="rgb",
        pooling="mean",
        precision="float32",
    )


def build(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return the timm model with weights from the local file, or else from the cache or the net.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
        ExtractorError: There is no such model, or it has no feature map at the choice's frame size.
    """
    if choice.layer != LAYER:
        raise ExtractorError(f"{choice.name} has no layer {choice.layer!r} to take: its layer is {LAYER}")
    config = _pretrained_config(choice.name)
    file = weights or _fetch(config, choice.name)
    backbone = TimmBackbone(_model_with(read_weights(file), choice.name, file), choice)
    try:  # a model that does not fit is refused now, not after the first clip is decoded
        with torch.inference_mode():
            backbone(torch.zeros(1, 3, choice.frame_height, choice.frame_width))
    except (AssertionError, RuntimeError) as error:
        size = f"{choice.frame_height} x {choice.frame_width}"
        raise ExtractorError(f"{choice.name} does not take frames of {size} pixels: {error}") from error
    return backbone


class TimmBackbone(nn.Module):
    """A timm model whose last features come out as maps (frame, channel, height, width)."""

    def __init__(self, model: nn.Module, choice: VisualChoice) -> None:
        super().__init__()
        self.model = model.eval()
        self.name = choice.name
        self.frame_size = (choice.frame_height, choice.frame_width)

    def forward(self, frames: Tensor) -> Tensor:
        """Return maps (frame, channel, height, width) of normalised frames (frame, 3, height, width).

        Raises:
            ExtractorError: what the model makes of them is no map.
        """
        model: Any = self.model
        features = model.forward_features(frames)
        if isinstance(features, Tensor) and features.ndim == 4:
            return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else features
        if isinstance(features, Tensor) and features.ndim == 3:
            tokens = features[:, getattr(model, "num_prefix_tokens", 0) :]
            grid = self._grid(tokens.shape[1])
            if grid:
                return tokens.transpose(1, 2).unflatten(2, grid)
        raise ExtractorError(f"{self.name} has no feature map to take: choose another timm model")

    def _grid(self, token_count: int) -> tuple[int, int] | None:
        """Return the (height, width) that the tokens fill row by row: the one with the frame's aspect."""
        frame_height, frame_width = self.frame_size
        height = round(math.sqrt(token_count * frame_height / frame_width))
        width = round(math.sqrt(token_count * frame_width / frame_height))
        return (height, width) if height * width == token_count > 1 else None


def _pretrained_config(name: str) -> PretrainedCfg:
    known = name.removeprefix(TIMM_PREFIX)
    architecture = known.partition(".")[0]
    # Models only, no locations: timm itself would also take "hf-hub:..." and folders.
    if not timm.is_model(architecture):
        listing = f'timm.list_models("*{architecture[:6]}*") lists those of a kind'
        raise unknown_name("timm model", known, timm.list_models(), listing)
    try:
        config = timm.get_pretrained_cfg(known)
    except RuntimeError as error:  # the model has no such tag
        tagged = timm.list_pretrained(f"{architecture}.*")
        raise unknown_name("timm model with weights", known, tagged or [architecture]) from error
    if config is None:
        raise ExtractorError(f"timm has no input configuration of {known!r}: choose another timm model")
    return config


def _fetch(config: PretrainedCfg, name: str) -> Path:
    if config.hf_hub_id:
        filenames = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        return fetch_hub(config.hf_hub_id, filenames, name, VISUAL_FLAG)
    if isinstance(config.url, str) and config.url:
        return fetch_url(config.url, name, VISUAL_FLAG)
    raise WeightsError(f"{name} has no published weights: give a file with {VISUAL_FLAG} FILE, or choose another model")


def _model_with(state: dict[str, Tensor], name: str, source: object) -> nn.Module:
    """Build the model and let timm load the state, so that its own conversions of foreign checkpoints are at work."""
    name = name.removeprefix(TIMM_PREFIX)
    try:
        model: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)})
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise misfit(name, timm.create_model(name), state, source) from error
    model.reset_classifier(0)
    return model
