"""What the page of a run shows of cross-modality localization: queries that were found and that were not."""

from typing import Any

import numpy as np

from ccln.pipeline.cml.metrics import CmlDetails, FoundStarts
from ccln.pipeline.metrics.evaluation import best_and_worst

_DIRECTIONS = {
    "a2v": "Audio looked for in the visual stream (A2V)",
    "v2a": "Visual stream looked for in the audio (V2A)",
}


def cml_context(details: CmlDetails, segments: int) -> dict[str, Any]:
    """What the template cml.html shows of the test split, whose clips have that many segments of a second."""
    found = details.found
    best, worst = best_and_worst(ranked_queries(found).tolist())
    return {
        "errors": {words: (getattr(found, name) - found.starts).tolist() for name, words in _DIRECTIONS.items()},
        "classes": details.worst_first(),
        "segments": segments,
        "best": [_shown(found, position, segments) for position in best],
        "worst": [_shown(found, position, segments) for position in worst],
    }


def ranked_queries(found: FoundStarts) -> np.ndarray:
    """Positions of the clips by falling number of queries found, of equals by rising seconds that they are off."""
    off = [np.abs(getattr(found, name) - found.starts) for name in _DIRECTIONS]
    return np.lexsort((sum(off), -sum((one == 0).astype(int) for one in off)))


def _shown(found: FoundStarts, position: int, segments: int) -> dict[str, Any]:
    clip, true, length = found.clips[position], int(found.starts[position]), int(found.lengths[position])
    starts = {name.upper(): int(getattr(found, name)[position]) for name in _DIRECTIONS}
    hits = sum(start == true for start in starts.values())
    off = "; ".join(f"{name} {_lateness(start - true)}" for name, start in starts.items())
    return {
        "name": clip.video_id,
        "rows": {
            "truth": _bars(true, length, segments, "true"),
            **{
                name: _bars(start, length, segments, "right" if start == true else "wrong")
                for name, start in starts.items()
            },
        },
        "words": f"{hits} of 2 found. Class: {clip.label or 'none'}. {off}.",
    }


def _bars(start: int, length: int, segments: int, look: str) -> list[dict[str, Any]]:
    """The event at a start, and what is before and after it."""
    place = f"{start}–{start + length} s"
    bars = [
        {"label": "", "seconds": start, "look": "none", "title": ""},
        {"label": place, "seconds": length, "look": look, "title": place},
        {"label": "", "seconds": segments - start - length, "look": "none", "title": ""},
    ]
    return [bar for bar in bars if bar["seconds"]]


def _lateness(seconds: int) -> str:
    return f"{abs(seconds)} s too {'late' if seconds > 0 else 'early'}" if seconds else "found"
