"""Frames and audio in, feature arrays out: see `contract` for the shapes and `presets` for the choices.

Names that need torch are imported when they are first asked for, so that a command can list presets at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ccln.extractors.contract import (
    AudioChoice,
    AudioExtractor,
    ExtractorError,
    MelChoice,
    Preset,
    VisualChoice,
    VisualExtractor,
    WeightsError,
)
from ccln.extractors.presets import (
    PRESETS,
    arithmetic_of,
    preset_from_specification,
    preset_named,
    without_arithmetic,
)

if TYPE_CHECKING:
    from ccln.extractors.extraction import Extractors, load_extractors, pick_device, pick_precision
    from ccln.extractors.hub_models import loaded_once
    from ccln.extractors.registry import preset_with
    from ccln.extractors.text import TextVectors, text_vectors

__all__ = [
    "PRESETS",
    "AudioChoice",
    "AudioExtractor",
    "ExtractorError",
    "Extractors",
    "MelChoice",
    "Preset",
    "TextVectors",
    "VisualChoice",
    "VisualExtractor",
    "WeightsError",
    "arithmetic_of",
    "load_extractors",
    "loaded_once",
    "pick_device",
    "pick_precision",
    "preset_from_specification",
    "preset_named",
    "preset_with",
    "text_vectors",
    "without_arithmetic",
]

_HOMES = {
    "loaded_once": "hub_models",
    "preset_with": "registry",
    "TextVectors": "text",
    "text_vectors": "text",
} | dict.fromkeys(("Extractors", "load_extractors", "pick_device", "pick_precision"), "extraction")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ccln.extractors.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
