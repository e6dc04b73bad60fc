"""Events and tracks as JSON, for programs: docs/localization-json.md, and localization.schema.json in this folder."""

import json
from collections.abc import Iterable
from pathlib import Path

from ccln.pipeline.localize.result import LocatedVideo, absolute

FORMAT = "ccln-localization"
VERSION = 3


def to_json(videos: Iterable[LocatedVideo], failed: Iterable[tuple[Path, str]] = ()) -> str:
    """The document of any number of videos, as text.

    Args:
        videos: what was found.
        failed: files that could not be read, each with the reason.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "videos": [located.to_dict() for located in videos],
        "failed": [{"path": str(absolute(path)), "reason": reason} for path, reason in failed],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
