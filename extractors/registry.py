"""Which extractors there are, by name: each is a module with a `build`, a choice in `presets` and a line here."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from ccln.extractors import efficientnet_lite0, log_mel, vggish
from ccln.extractors.contract import (
    TIMM_PREFIX,
    TORCHAUDIO_PREFIX,
    AudioChoice,
    AudioExtractor,
    VisualChoice,
    VisualExtractor,
    unknown_name,
)
from ccln.extractors.installed import installed_extractor


def _build_vgg19(choice: VisualChoice, weights: Path | None) -> nn.Module:
    from ccln.extractors import vgg19  # it imports torchvision and h5py, which the others do without

    return vgg19.build(choice, weights)


VISUAL: dict[str, Callable[[VisualChoice, Path | None], nn.Module]] = {
    "efficientnet-lite0": efficientnet_lite0.build,
    "vgg19": _build_vgg19,
    "vgg19-keras": _build_vgg19,
}
"""Return a network from normalised frames (frame, 3, height, width) to maps (frame, channel, height, width)."""
AUDIO: dict[str, Callable[[AudioChoice, Path | None], nn.Module]] = {
    "log-mel": log_mel.build,
    "vggish": vggish.build,
}
"""Return a network from waveforms (segment, sample) to features (segment, channel)."""


def build_visual(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return the network of a visual choice, with its weights loaded.

    Raises:
        ExtractorError: There is none of that name, or it cannot be what the choice asks for.
        WeightsError: Its weights cannot be had or do not fit.
    """
    if choice.name in VISUAL:
        return VISUAL[choice.name](choice, weights)
    if choice.name.startswith(TIMM_PREFIX):
        from ccln.extractors import timm_backbone  # timm takes seconds to import

        return timm_backbone.build(choice, weights)
    if ":" in choice.name:
        return installed_extractor(choice.name, VisualExtractor).build(choice, weights)
    raise unknown_name("visual extractor", choice.name, [*VISUAL, f"{TIMM_PREFIX}NAME", "PACKAGE:NAME"])


def build_audio(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return the network of an audio choice, with its weights loaded.

    Raises:
        ExtractorError: There is none of that name, or it cannot be what the choice asks for.
        WeightsError: Its weights cannot be had or do not fit.
    """
    if choice.name in AUDIO:
        return AUDIO[choice.name](choice, weights)
    if choice.name.startswith(TORCHAUDIO_PREFIX):
        from ccln.extractors import torchaudio_bundle  # torchaudio takes a second to import

        return torchaudio_bundle.build(choice, weights)
    if ":" in choice.name:
        return installed_extractor(choice.name, AudioExtractor).build(choice, weights)
    raise unknown_name("audio extractor", choice.name, [*AUDIO, f"{TORCHAUDIO_PREFIX}NAME", "PACKAGE:NAME"])
