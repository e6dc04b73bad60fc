"""Which extractors there are, by name: each is a module with a `build`, a choice in `presets` and a line here."""

from pathlib import Path

from msgspec.structs import replace
from torch import nn

from ccln.extractors import efficientnet_lite0, log_mel, vggish
from ccln.extractors.contract import (
    TIMM_PREFIX,
    TORCHAUDIO_PREFIX,
    AudioChoice,
    AudioExtractor,
    Preset,
    VisualChoice,
    VisualExtractor,
    unknown_name,
)
from ccln.extractors.installed import installed_extractor
from ccln.extractors.presets import AUDIO_CHOICES, VISUAL_CHOICES


def _build_vgg19(choice: VisualChoice, weights: Path | None) -> nn.Module:
    from ccln.extractors import vgg19  # it imports torchvision and h5py, which the others do without

    return vgg19.build(choice, weights)


VISUAL = {
    name: VisualExtractor(VISUAL_CHOICES[name], build)
    for name, build in {
        "efficientnet-lite0": efficientnet_lite0.build,
        "vgg19": _build_vgg19,
        "vgg19-keras": _build_vgg19,
    }.items()
}
AUDIO = {
    name: AudioExtractor(AUDIO_CHOICES[name], build)
    for name, build in {"log-mel": log_mel.build, "vggish": vggish.build}.items()
}


def visual_extractor(name: str) -> VisualExtractor:
    """Return the visual extractor of a name: one of ours, "timm:NAME", or an installed package's "PACKAGE:NAME".

    Raises:
        ExtractorError: There is none.
    """
    if name in VISUAL:
        return VISUAL[name]
    if name.startswith(TIMM_PREFIX):
        from ccln.extractors import timm_backbone  # timm takes seconds to import

        return VisualExtractor(timm_backbone.timm_choice(name), timm_backbone.build)
    if ":" in name:
        return installed_extractor(name, VisualExtractor)
    raise unknown_name("visual extractor", name, [*VISUAL, f"{TIMM_PREFIX}NAME", "PACKAGE:NAME"])


def audio_extractor(name: str) -> AudioExtractor:
    """Return the audio extractor of a name: one of ours, "torchaudio:NAME", or an installed package's "PACKAGE:NAME".

    Raises:
        ExtractorError: There is none.
    """
    if name in AUDIO:
        return AUDIO[name]
    if name.startswith(TORCHAUDIO_PREFIX):
        from ccln.extractors import torchaudio_bundle  # torchaudio takes a second to import

        return AudioExtractor(torchaudio_bundle.torchaudio_choice(name), torchaudio_bundle.build)
    if ":" in name:
        return installed_extractor(name, AudioExtractor)
    raise unknown_name("audio extractor", name, [*AUDIO, f"{TORCHAUDIO_PREFIX}NAME", "PACKAGE:NAME"])


def build_visual(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return the network of a visual choice, with its weights loaded.

    Raises:
        ExtractorError: There is none of that name, or it cannot be what the choice asks for.
        WeightsError: Its weights cannot be had or do not fit.
    """
    return visual_extractor(choice.name).build(choice, weights)


def build_audio(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return the network of an audio choice, with its weights loaded.

    Raises:
        ExtractorError: There is none of that name, or it cannot be what the choice asks for.
        WeightsError: Its weights cannot be had or do not fit.
    """
    return audio_extractor(choice.name).build(choice, weights)


def preset_with(
    preset: Preset,
    visual: str | None = None,
    audio: str | None = None,
    precision: str | None = None,
    decoder: str | None = None,
) -> Preset:
    """Return `preset` with some of its choices replaced by name.

    Args:
        preset: What to start from; its frames per segment and their times stay.
        visual: A name in the registry, "timm:NAME" for any timm model that has weights, or "PACKAGE:NAME".
        audio: A name in the registry, "torchaudio:NAME" for a speech representation model of torchaudio.pipelines, or
            "PACKAGE:NAME".
        precision: The arithmetic of the visual network, "float32" or "bfloat16"; audio is always float32.
        decoder: "pyav" or "decord".

    Raises:
        ExtractorError: No extractor, precision or decoder has that name.
    """
    if visual is not None:
        preset = replace(preset, visual=visual_extractor(visual).choice)
    if audio is not None:
        preset = replace(preset, audio=audio_extractor(audio).choice)
    if precision is not None:
        preset = replace(preset, visual=replace(preset.visual, precision=precision))
    if decoder is not None:
        preset = replace(preset, decoder=decoder)
    return preset
