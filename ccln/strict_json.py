"""JSON from outside: what says two things at once says nothing."""

import json
from typing import Any


def strict_json(text: bytes | str) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: It is no JSON, holds NaN or infinity, or an object has a key twice, of which readers take either.
        RecursionError: It is nested too deep.
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.60} is there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
