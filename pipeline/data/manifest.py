"""What is in the background seconds of a data set's clips: manifest.jsonl, beside Annotations.txt, and its kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from ccln.pipeline.data.clips import (
    LEAST_COVERED_SECONDS,
    AnnotatedClip,
    DatasetError,
    Distractor,
    covered_seconds,
    read_annotation_file,
)
from ccln.strict_json import strict_json

MANIFEST = "manifest.jsonl"
LAYOUT = (
    f"{MANIFEST} beside Annotations.txt says what is in the background, an object a line: "
    '{"id": VIDEO_ID, "distractors": [{"type": KIND, "t0": SECONDS, "t1": SECONDS}, ...]}; '
    "take it away if it is of something else"
)
EVENT, PLAIN = "event", "none"
"""Kinds of seconds that no manifest names: those of an event, and background without any distractor."""

_Seconds = Annotated[float, Meta(ge=0, le=1e6)]


class _Distractor(msgspec.Struct):
    type: Annotated[str, Meta(min_length=1, max_length=40)]
    t0: _Seconds
    t1: _Seconds


class _Line(msgspec.Struct):
    id: str
    distractors: list[_Distractor]


def read_manifest(file: Path) -> dict[str, tuple[Distractor, ...]]:
    """Read what is in the background of a data set's clips, by video id; other keys of the lines are ignored.

    Raises:
        DatasetError: The file is too large or unreadable, or a line of it is not as above.
    """
    decoder, found = msgspec.json.Decoder(_Line), {}
    for number, text in enumerate(read_annotation_file(file, LAYOUT).split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            strict_json(text)
            line = decoder.decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise DatasetError(f"{file}, line {number}: {error}; {LAYOUT}") from error
        if line.id in found:
            raise DatasetError(f"{file}, line {number}: a second line for {line.id[:100]!r}; expected one a video")
        found[line.id] = tuple(_distractor(file, number, given) for given in line.distractors)
    return found


def _distractor(file: Path, number: int, given: _Distractor) -> Distractor:
    if not given.type.isprintable() or given.type in (EVENT, PLAIN):
        expected = f"a printable name that is neither {EVENT!r} nor {PLAIN!r}"
        raise DatasetError(f"{file}, line {number}: type {given.type!r}; expected {expected}")
    if not given.t0 < given.t1:
        raise DatasetError(f"{file}, line {number}: t0 {given.t0:g}; expected less than t1, {given.t1:g}")
    return Distractor(given.type, given.t0, given.t1)


def segment_kinds(clips: Sequence[AnnotatedClip], is_event: np.ndarray) -> np.ndarray | None:
    """The kind of every second of every clip.

    A background second is of the kind of the distractor that covers most of it, and at least half, of equals the first.

    Args:
        clips: The clips.
        is_event: bool (clip, segment): whether the label is a class.

    Returns:
        str (clip, segment): `EVENT` where there is one, else the type of the distractor or `PLAIN`; "" in clips of
        which no manifest says anything. None where that is so of all.
    """
    if all(clip.distractors is None for clip in clips):
        return None
    kinds = np.full(is_event.shape, PLAIN, object)
    for row, clip in zip(kinds, clips, strict=True):
        if clip.distractors is None:
            row[:] = ""
            continue
        most = np.full(len(row), LEAST_COVERED_SECONDS)
        for kind, *span in reversed(clip.distractors):
            covered = covered_seconds([span], len(row))
            row[covered >= most] = kind
            most = np.maximum(most, covered)
    kinds[is_event & (kinds != "")] = EVENT
    return kinds.astype(str)
