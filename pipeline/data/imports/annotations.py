"""What the files of annotation tools have in common: videos as they name them, and events in them."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ccln.pipeline.data.clips import DatasetError, Split
from ccln.pipeline.data.windows import LabelledSpan

_CONFIDENCE = re.compile(r" \((?:0\.\d\d|1\.00)\)$", re.ASCII)


@dataclass(frozen=True)
class AnnotatedVideo:
    """What one file says of one video."""

    file: Path
    """The annotations' file."""
    names: tuple[str, ...]
    """What the video may be called, paths or plain names, the most certain first."""
    events: tuple[LabelledSpan, ...]
    """In the order of the file; none if it is background throughout."""
    split: Split | None = None
    """Of a published set, which has splits; then a video that is absent is left out."""
    most_seconds: float = math.inf
    """Length of the video that the times are of, where it is another than that which they are cut out of."""


def without_confidence(caption: str) -> str:
    """A label without what our own subtitles and Audacity labels have after it: `Bark (0.87)` is Bark."""
    return _CONFIDENCE.sub("", caption)


def event_of(file: Path, place: str, label: str, start_seconds: float, end_seconds: float) -> LabelledSpan | None:
    """A checked event; None if the label is background.

    Args:
        file: For the message.
        place: Where in the file it is, such as "line 3", for the message.
        label: As written; space around it is taken off.
        start_seconds: From the start of the video.
        end_seconds: From the start of the video.

    Raises:
        DatasetError: The label is empty or unprintable, or the times are no span.
    """
    label = label.strip()
    if not label or not label.isprintable():
        raise DatasetError(f"{file}, {place}: label {label[:100]!r}; expected a printable name")
    if not 0 <= start_seconds < end_seconds < float("inf"):
        raise DatasetError(
            f"{file}, {place}: {label!r} from {start_seconds:g} to {end_seconds:g} s; expected a start of at least 0, "
            "and an end after it"
        )
    return None if label.lower() == "background" else LabelledSpan(label, start_seconds, end_seconds)
