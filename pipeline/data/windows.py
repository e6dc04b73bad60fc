"""Videos of any length as clips of ten seconds: which of them a data set has, and what is in each.

A video is cut every ten seconds, [0, 10), [10, 20) and so on, as far as it is annotated. Validation and test have all
of these windows. Training has those with an event, and of those without, over all longer videos, as many: evenly
spread, so that an hour of background does not outweigh a minute of events. A video of one window is always there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from ccln.pipeline.data.clips import LEAST_COVERED_SECONDS, AnnotatedClip
from ccln.pipeline.segments import CLIP_SECONDS

SLIVER_SECONDS = 0.1
"""Less than this after a full window is an encoder's padding, and no window of its own; an end that is no further after
its video's is no mistake."""


class LabelledSpan(NamedTuple):
    """An event of a video."""

    label: str
    start_seconds: float
    end_seconds: float


def without_overlap(events: Iterable[LabelledSpan]) -> list[LabelledSpan]:
    """The events in order, so that none overlaps another.

    Those of one class that overlap or touch are merged. Of those of two classes that overlap, the one that begins later
    (of equals the shorter) counts for that time: a second has one class.
    """
    merged: dict[str, list[LabelledSpan]] = {}
    for event in sorted(events, key=lambda event: event.start_seconds):
        of_class = merged.setdefault(event.label, [])
        if of_class and event.start_seconds <= of_class[-1].end_seconds:
            end = max(event.end_seconds, of_class[-1].end_seconds)
            of_class[-1] = of_class[-1]._replace(end_seconds=end)
        else:
            of_class.append(event)
    if len(merged) <= 1:
        return [event for of_class in merged.values() for event in of_class]
    events = [event for of_class in merged.values() for event in of_class]
    marks = sorted({time for event in events for time in event[1:]})
    found: list[LabelledSpan] = []
    ordered = sorted(events, key=lambda event: (event.start_seconds, -event.end_seconds))
    active: list[LabelledSpan] = []
    position = 0
    for start, end in pairwise(marks):
        while position < len(ordered) and ordered[position].start_seconds <= start:
            active.append(ordered[position])
            position += 1
        active = [event for event in active if event.end_seconds > start]
        if not active:
            continue
        label = active[-1].label
        if found and found[-1].label == label and found[-1].end_seconds == start:
            found[-1] = found[-1]._replace(end_seconds=end)
        else:
            found.append(LabelledSpan(label, start, end))
    return found


def windows_of(clip: AnnotatedClip, events: Sequence[LabelledSpan], annotated_seconds: float) -> list[AnnotatedClip]:
    """The windows of a video.

    Args:
        clip: What they have in common; its label, spans and start do not matter.
        events: Of the video, without overlap.
        annotated_seconds: How far from its start it is annotated; what no event covers until then is background.
    """
    count = max(1, math.ceil((annotated_seconds - SLIVER_SECONDS) / CLIP_SECONDS))
    inside: list[list[LabelledSpan]] = [[] for _ in range(count)]
    for label, start, end in events:
        first = int(start // CLIP_SECONDS)  # of the shortest events the end rounds to the start, but they are there
        for index in range(first, min(count, max(first + 1, math.ceil(end / CLIP_SECONDS)))):
            zero = index * CLIP_SECONDS
            part = LabelledSpan(label, max(start - zero, 0), min(end - zero, CLIP_SECONDS))
            whole = part.end_seconds - part.start_seconds == end - start
            if whole or part.end_seconds - part.start_seconds >= LEAST_COVERED_SECONDS:  # else a tip, half of no second
                inside[index].append(part)
    return [_window(clip, index * CLIP_SECONDS, found) for index, found in enumerate(inside)]


def _window(clip: AnnotatedClip, start_seconds: int, events: Sequence[LabelledSpan]) -> AnnotatedClip:
    seconds: dict[str, float] = {}
    for label, start, end in events:
        seconds[label] = seconds.get(label, 0.0) + end - start
    return replace(
        clip,
        label=max(seconds, key=lambda label: seconds[label], default=None),
        spans=tuple((start, end) for _, start, end in events),
        labels=tuple(event.label for event in events) if len(seconds) > 1 else (),
        start_seconds=start_seconds,
    )


def balanced(videos: Sequence[Sequence[AnnotatedClip]]) -> list[AnnotatedClip]:
    """The windows of videos to use, in their order: see the module's docstring."""
    long = [clip for clips in videos if len(clips) > 1 and clips[0].split == "train" for clip in clips]
    background = [clip for clip in long if clip.label is None]
    count = min(len(background), len(long) - len(background))
    kept = {id(background[index * len(background) // count]) for index in range(count)}
    left_out = {id(clip) for clip in background} - kept
    return [clip for clips in videos for clip in clips if id(clip) not in left_out]
