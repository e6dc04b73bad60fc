"""Which extractors there are, by name: a new one is a module with a `build`, a choice in `presets` and a line here."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from ccln.extractors import efficientnet_lite0, log_mel, vgg19, vggish
from ccln.extractors.choices import AudioChoice, VisualChoice
from ccln.extractors.presets import TIMM_PREFIX, TORCHAUDIO_PREFIX, unknown_name

VisualFactory = Callable[[VisualChoice, Path | None], nn.Module]
"""Returns a network from normalised frames (frame, 3, height, width) to maps (frame, channel, height, width)."""
AudioFactory = Callable[[AudioChoice, Path | None], nn.Module]
"""Returns a network from waveform (segment, sample) to features (segment, channel)."""


def _build_vgg19_keras(choice: VisualChoice, weights: Path | None) -> nn.Module:
    from ccln.extractors import vgg19_keras  # it needs h5py, which all others do without

    return vgg19_keras.build(choice, weights)


VISUAL: dict[str, VisualFactory] = {
    "efficientnet-lite0": efficientnet_lite0.build,
    "vgg19": vgg19.build,
    "vgg19-keras": _build_vgg19_keras,
}
AUDIO: dict[str, AudioFactory] = {
    "log-mel": log_mel.build,
    "vggish": vggish.build,
}


def build_visual(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return the network of a visual choice, with its weights loaded.

    Raises:
        ExtractorError: there is none of that name, or it cannot be what the choice asks for.
        WeightsError: its weights cannot be had or do not fit.
    """
    if choice.name.startswith(TIMM_PREFIX):
        from ccln.extractors import timm_backbone  # timm takes seconds to import

        return timm_backbone.build(choice, weights)
    if choice.name not in VISUAL:
        raise unknown_name("visual extractor", choice.name, [*VISUAL, f"{TIMM_PREFIX}NAME"])
    return VISUAL[choice.name](choice, weights)


def build_audio(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return the network of an audio choice, with its weights loaded.

    Raises:
        ExtractorError: there is none of that name, or it cannot be what the choice asks for.
        WeightsError: its weights cannot be had or do not fit.
    """
    if choice.name.startswith(TORCHAUDIO_PREFIX):
        from ccln.extractors import torchaudio_bundle  # torchaudio takes a second to import

        return torchaudio_bundle.build(choice, weights)
    if choice.name not in AUDIO:
        raise unknown_name("audio extractor", choice.name, [*AUDIO, f"{TORCHAUDIO_PREFIX}NAME"])
    return AUDIO[choice.name](choice, weights)
