"""Backbones of other packages, by their entry points in the group "ccln.extractors"; see docs/guides/backbone.md."""

from importlib.metadata import PackageNotFoundError, distribution
from typing import TypeVar

import msgspec

from ccln.extractors.contract import AudioExtractor, ExtractorError, VisualExtractor, unknown_name

GROUP = "ccln.extractors"

_Extractor = TypeVar("_Extractor", VisualExtractor, AudioExtractor)


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
