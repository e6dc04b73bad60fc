"""Which extractors there are, by name: each is a module with a `build`, a choice in `presets` and a line here."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace
from torch import nn

from ccln.extractors import efficientnet_lite0, log_mel, vggish, yamnet
from ccln.extractors.contract import (
    HUB_PREFIX,
    TIMM_PREFIX,
    TORCHAUDIO_PREFIX,
    AudioChoice,
    AudioExtractor,
    ExtractorError,
    Preset,
    VisualChoice,
    VisualExtractor,
    unknown_name,
)
from ccln.extractors.presets import AUDIO_CHOICES, VISUAL_CHOICES

GROUP = "ccln.extractors"
"""Of the entry points by which packages offer extractors; see docs/guides/backbone.md."""

_Extractor = TypeVar("_Extractor", VisualExtractor, AudioExtractor)


def _build_cnn14(choice: AudioChoice, weights: Path | None) -> nn.Module:
    from ccln.extractors import cnn14  # it imports librosa

    return cnn14.build(choice, weights)


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
    for name, build in {
        "log-mel": log_mel.build,
        "vggish": vggish.build,
        "yamnet": yamnet.build,
        "cnn14": _build_cnn14,
    }.items()
}


def visual_extractor(name: str, weights: Path | None = None, revision: str | None = None) -> VisualExtractor:
    """Return the visual extractor of a name.

    Args:
        name: One of ours, "timm:NAME", "hf:OWNER/NAME", or an installed package's "PACKAGE:NAME".
        weights: What --visual-weights names: the folder of a model of the hub decides its choice.
        revision: Of a model of the hub, its commit; the newest if None.

    Raises:
        ExtractorError: There is none.
    """
    if name.startswith(HUB_PREFIX):
        from ccln.extractors import hub_models

        return VisualExtractor(hub_models.visual_choice(name, weights, revision), hub_models.build_visual)
    if name.startswith(TIMM_PREFIX):
        from ccln.extractors import timm_backbone  # timm takes seconds to import

        return VisualExtractor(timm_backbone.timm_choice(name), timm_backbone.build)
    return _ours_or_installed(name, VISUAL, VisualExtractor, "visual extractor", TIMM_PREFIX)


def audio_extractor(name: str, weights: Path | None = None, revision: str | None = None) -> AudioExtractor:
    """Return the audio extractor of a name.

    Args:
        name: One of ours, "torchaudio:NAME", "hf:OWNER/NAME", or an installed package's "PACKAGE:NAME".
        weights: What --audio-weights names: the folder of a model of the hub decides its choice.
        revision: Of a model of the hub, its commit; the newest if None.

    Raises:
        ExtractorError: There is none.
    """
    if name.startswith(HUB_PREFIX):
        from ccln.extractors import hub_models

        return AudioExtractor(hub_models.audio_choice(name, weights, revision), hub_models.build_audio)
    if name.startswith(TORCHAUDIO_PREFIX):
        from ccln.extractors import torchaudio_bundle  # torchaudio takes a second to import

        return AudioExtractor(torchaudio_bundle.torchaudio_choice(name), torchaudio_bundle.build)
    return _ours_or_installed(name, AUDIO, AudioExtractor, "audio extractor", TORCHAUDIO_PREFIX)


def _ours_or_installed(
    name: str, ours: Mapping[str, _Extractor], kind: type[_Extractor], what: str, prefix: str
) -> _Extractor:
    if name in ours:
        return ours[name]
    if ":" in name:
        return installed_extractor(name, kind)
    raise unknown_name(what, name, [*ours, f"{prefix}NAME", "PACKAGE:NAME"])


def installed_extractor(name: str, kind: type[_Extractor]) -> _Extractor:
    """Return the extractor that an installed package offers.

    Args:
        name: "PACKAGE:NAME": the package as it is installed, and the name of its entry point.
        kind: What it has to be.

    Raises:
        ExtractorError: The package is not installed, offers no extractor of that name, or offers something else.
    """
    package, _, wanted = name.partition(":")
    try:
        entries = distribution(package).entry_points.select(group=GROUP)
    except (PackageNotFoundError, ValueError) as error:
        raise ExtractorError(f"{name} is an extractor of the package {package!r}, which is not installed") from error
    if wanted not in entries.names:
        raise unknown_name(f"extractor of the package {package}", wanted, entries.names)
    try:
        found = entries[wanted].load()
    except (ImportError, AttributeError) as error:
        raise ExtractorError(f"the package {package} is installed, but {name} cannot be imported: {error}") from error
    if not isinstance(found, kind):
        raise ExtractorError(f"{name} is of the type {type(found).__name__}, but has to be of the type {kind.__name__}")
    try:
        msgspec.convert(msgspec.to_builtins(found.choice), type(found.choice))
    except msgspec.ValidationError as error:
        raise ExtractorError(f"the choice of {name} cannot be used: {error}") from error
    if found.choice.name != name:
        raise ExtractorError(f"the choice of {name} is called {found.choice.name!r}, but has to be called {name!r}")
    return found


def preset_with(
    preset: Preset,
    visual: str | None = None,
    audio: str | None = None,
    precision: str | None = None,
    decoder: str | None = None,
    audio_track: str | int | None = None,
    visual_weights: Path | str | None = None,
    audio_weights: Path | str | None = None,
) -> Preset:
    """Return `preset` with some of its choices replaced by name.

    Args:
        preset: What to start from; its frames per segment and their times stay.
        visual: A name in the registry, "timm:NAME" for any timm model that has weights, "hf:OWNER/NAME" for a vision
            tower of the Hugging Face Hub, or "PACKAGE:NAME".
        audio: A name in the registry, "torchaudio:NAME" for a speech representation model of torchaudio.pipelines,
            "hf:OWNER/NAME" for an audio tower of the Hugging Face Hub, or "PACKAGE:NAME".
        precision: The arithmetic of the visual network, "float32" or "bfloat16"; audio is always float32.
        decoder: "pyav" or "decord".
        audio_track: Number, from 1 on, or language of a file's audio track, or "mix".
        visual_weights: The folder of a visual model of the hub, if it is not to be the hub's.
        audio_weights: Likewise.

    Raises:
        WeightsError: A model of the hub cannot be had.
        ExtractorError: No extractor, precision or decoder has that name, or no audio track can have it.
    """
    if visual is not None:
        preset = replace(preset, visual=visual_extractor(visual, _path(visual_weights)).choice)
    if audio is not None:
        preset = replace(preset, audio=audio_extractor(audio, _path(audio_weights)).choice)
    if precision is not None:
        preset = replace(preset, visual=replace(preset.visual, precision=precision))
    if decoder is not None:
        preset = replace(preset, decoder=decoder)
    if audio_track is not None:
        preset = replace(preset, audio_track=str(audio_track).lower())
    return preset


def _path(given: Path | str | None) -> Path | None:
    return Path(given) if given else None
