"""Names of events in the open vocabulary: the most specific one that sound and picture support.

The constants were set with the scores of 36 real clips of ten seconds in view, so names on those clips are no measure
of the rule.
"""

import numpy as np

from ccln.pipeline.localize.vocabulary import HEARD_COUNT, SEEN_COUNT, load_vocabulary

LEAST_EVIDENCE = 0.05
"""Least probability of a name in the sound, and in the picture where ImageNet has names for it."""
MINIMUM = 0.05
"""Least score of a name."""
GENERIC_MINIMUM = 0.2
"""Least score of a generic name: a tagger nearly always gives some music, speech or vehicle a few per cent."""
UNSEEN_SHARE = 0.2
"""Of its probability in the sound, what a class scores that could be seen and is not; all where it is sure to be."""
UNSEEABLE_SHARE = 0.3
"""The same of a class that ImageNet has no names for."""
CHILD_SHARE = 0.5
"""Least share of the best class's score at which one below it is preferred: a tagger scores parents higher."""
LEAD = 2.0
"""How many times its best sibling's score a class needs to be named and not its parent."""


def open_name(heard: np.ndarray, seen_as: np.ndarray) -> str | None:
    """Name an event by the most specific AudioSet class that its sound and its picture support.

    A class's score is its probability in the sound, times a share that grows from `UNSEEN_SHARE` or `UNSEEABLE_SHARE`
    to 1 with its probability in the picture. From the best specific class or group the name goes down to children that
    score enough of that, and to a parent where siblings score alike. A generic class is taken only if no other
    reaches the minimum. What is less probable than `LEAST_EVIDENCE` in either modality gives way to its nearest
    ancestor that is not.

    Args:
        heard: Probabilities of the AudioSet classes, averaged over the event, shape (521,).
        seen_as: The same classes' probabilities of being seen, see `OpenEvidence`, averaged, shape (521,).

    Returns:
        The display name, or None if no class is supported.

    Raises:
        ValueError: If a shape is wrong.
    """
    vocabulary = load_vocabulary()
    heard, seen_as = _checked(heard, HEARD_COUNT), _checked(seen_as, HEARD_COUNT)
    least_share = np.where(vocabulary.seeable, UNSEEN_SHARE, UNSEEABLE_SHARE)
    scores = heard * (least_share + (1 - least_share) * seen_as)
    is_supported = (heard >= LEAST_EVIDENCE) & ((seen_as >= LEAST_EVIDENCE) | ~vocabulary.seeable) & ~vocabulary.never
    for allowed, minimum in ((vocabulary.specific | vocabulary.group, MINIMUM), (vocabulary.generic, GENERIC_MINIMUM)):
        found = _most_specific(np.where(allowed & (scores >= minimum), scores, 0), vocabulary.parents)
        while found >= 0 and not is_supported[found]:
            found = int(vocabulary.parents[found])
        if found >= 0:
            return vocabulary.heard_names[found]
    return None


def top_heard(heard: np.ndarray, count: int = 5) -> list[tuple[str, float]]:
    """The `count` most probable AudioSet classes of `heard`, shape (521,), as (name, probability), highest first."""
    return _top(_checked(heard, HEARD_COUNT), load_vocabulary().heard_names, count)


def top_seen(seen: np.ndarray, count: int = 5) -> list[tuple[str, float]]:
    """The `count` most probable ImageNet classes of `seen`, shape (1000,), as (name, probability), highest first."""
    return _top(_checked(seen, SEEN_COUNT), load_vocabulary().seen_names, count)


def _most_specific(scores: np.ndarray, parents: np.ndarray) -> int:
    """Index of the class that is named; -1 if all scores are 0."""

    def leads(index: int) -> bool:
        siblings = (parents == parents[index]) & (np.arange(len(parents)) != index)
        return parents[index] < 0 or scores[index] >= LEAD * scores[siblings].max(initial=0)

    best = int(scores.argmax())
    if scores[best] == 0:
        return -1
    if not leads(best) and scores[parents[best]] > 0:
        best = int(parents[best])
    least = CHILD_SHARE * scores[best]
    while True:
        children = np.where(parents == best, scores, 0)
        child = int(children.argmax())
        if children[child] < least or children[child] == 0 or not leads(child):
            return best
        best = child


def _top(probabilities: np.ndarray, names: tuple[str, ...], count: int) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(names[index], float(probabilities[index])) for index in order]


def _checked(probabilities: np.ndarray, count: int) -> np.ndarray:
    if probabilities.shape != (count,):
        raise ValueError(f"probabilities must have the shape ({count},), not {probabilities.shape}")
    return probabilities.astype(np.float64)
