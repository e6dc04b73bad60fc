"""What happens when in each clip of the demo data set: the ground truth that frames and audio are made from."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ccln.pipeline.data.clips import SPLITS, Split
from ccln.pipeline.segments import CLIP_SECONDS

# Beats per second at the usual pace. A beat is a strike, a chirp, a change of the siren's tone or a chuff of steam;
# frames and audio follow the same beats. Never slower than one a second, so that no second of an event is silent.
CLASS_BEAT_HZ = MappingProxyType({"Bell": 1.4, "Bird": 4.0, "Drum": 2.4, "Police car": 1.8, "Steam train": 3.2})
CLASS_NAMES = tuple(CLASS_BEAT_HZ)

_ID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ALPHANUMERIC = 62  # so many of them may begin an id
_FULL_SHARE, _LONG_SHARE = 0.3, 0.2
_DISTRACTOR_SHARE = 0.7


class Span(NamedTuple):
    """One class present in one modality during `[start_seconds, end_seconds)`, in whole seconds."""

    class_name: str
    start_seconds: int
    end_seconds: int


@dataclass(frozen=True)
class ClipPlan:
    """All that determines one demo clip."""

    video_id: str
    """Eleven characters like YouTube's, safe as a file name."""
    split: Split
    event: Span
    """The clip's one event: the only seconds in which a class is both seen and heard."""
    seen: tuple[Span, ...]
    """When objects are visible: the event and the silent objects around it."""
    heard: tuple[Span, ...]
    """When classes are audible: the event and the sounds without an object around it."""
    pace: float
    """Factor on the class's beats per second."""
    entropy: tuple[int, int, int]
    """(seed, split, index), from which every random choice in the clip derives."""


def clip_generator(entropy: tuple[int, int, int], *stream: int) -> np.random.Generator:
    """A random generator of its own for each clip and purpose, so that clips can be made in any order."""
    seed, split, index = entropy
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(split, index, *stream)))


def plan_demo_dataset(seed: int = 0, *, train: int = 80, validation: int = 20, test: int = 20) -> tuple[ClipPlan, ...]:
    """Plan the clips of a demo data set; the classes take turns, so that five clips hold all five.

    About 35 % of the seconds are background, and in most of them something is seen but not heard or heard but not
    seen: the event's own class or another one. So neither frames nor audio alone show where the event is.

    Args:
        seed: Not negative. The same seed gives the same plan.
        train: Number of clips to train on; at least one, as of the others.
        validation: Number of clips to validate on.
        test: Number of clips to test on.

    Returns:
        The clips in the order train, validation, test.

    Raises:
        ValueError: A number of clips is below one, or the seed is negative.
    """
    counts: dict[Split, int] = dict(zip(SPLITS, (train, validation, test), strict=True))
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f"the demo's {split} split has {count} clips: ask for at least one")
    if seed < 0:
        raise ValueError(f"the demo's seed is {seed}: give a whole number that is not negative")
    return tuple(_plan_clip(seed, split, index) for split, count in counts.items() for index in range(count))


def _plan_clip(seed: int, split: Split, index: int) -> ClipPlan:
    entropy = (seed, SPLITS.index(split), index)
    rng = clip_generator(entropy, 0)
    positions = [rng.integers(_ALPHANUMERIC), *rng.integers(len(_ID_CHARACTERS), size=10)]
    own = CLASS_NAMES[index % len(CLASS_NAMES)]
    length = _event_length(rng)
    start = int(rng.integers(CLIP_SECONDS - length + 1))
    event = Span(own, start, start + length)
    seen, heard = [event], [event]
    for begin, end in ((0, event.start_seconds), (event.end_seconds, CLIP_SECONDS)):
        for from_seconds, to_seconds in _blocks(begin, end, rng):
            if rng.random() < _DISTRACTOR_SHARE:
                name = own if rng.random() < 0.5 else str(rng.choice([name for name in CLASS_NAMES if name != own]))
                modality = seen if rng.random() < 0.5 else heard
                modality.append(Span(name, from_seconds, to_seconds))
    return ClipPlan(
        video_id="".join(_ID_CHARACTERS[position] for position in positions),
        split=split,
        event=event,
        seen=tuple(sorted(seen, key=lambda span: span.start_seconds)),
        heard=tuple(sorted(heard, key=lambda span: span.start_seconds)),
        pace=float(rng.uniform(0.8, 1.25)),
        entropy=entropy,
    )


def _event_length(rng: np.random.Generator) -> int:
    """As in AVE, half of the events fill the clip or most of it; the others are short."""
    draw = rng.random()
    if draw < _FULL_SHARE:
        return CLIP_SECONDS
    return int(rng.integers(7, 10)) if draw < _FULL_SHARE + _LONG_SHARE else int(rng.integers(2, 7))


def _blocks(begin: int, end: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Cut `[begin, end)` into blocks of one to three seconds, each with room for one distractor."""
    blocks = []
    while begin < end:
        stop = min(end, begin + int(rng.integers(1, 4)))
        blocks.append((begin, stop))
        begin = stop
    return blocks
