"""Whether extractors are those that a checkpoint was trained with, but for their arithmetic."""

from collections.abc import Mapping
from typing import Any

from ccln.extractors import without_arithmetic


class SpecificationError(Exception):
    """The extractors at hand are not those that the checkpoint was trained on; the message names both."""


def require_same_specification(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse extractors that are not the ones wanted; their arithmetic may be another.

    Raises:
        SpecificationError: with every field in which they differ, both values named.
    """
    wanted_fields, found_fields = dict(_flat(without_arithmetic(wanted))), dict(_flat(without_arithmetic(found)))
    differences = [
        f"{name}: checkpoint {wanted_fields.get(name)!r}, at hand {found_fields.get(name)!r}"
        for name in sorted(wanted_fields.keys() | found_fields.keys())
        if wanted_fields.get(name) != found_fields.get(name)
    ]
    if differences:
        raise SpecificationError(
            "the extractors at hand are not those the checkpoint was trained with. " + "; ".join(differences) + ". "
            "Give the right weights (--visual-weights, --audio-weights), or train on features of these extractors."
        )


def _flat(specification: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat = []
    for name, value in specification.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return flat
