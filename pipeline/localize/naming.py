"""Names of events in the open vocabulary: the most specific one that the sound supports, and what is heard and seen.

The constants were chosen by eye, with the scores of 36 real clips of ten seconds in view (each averaged over the whole
clip), so names on those clips are no measure of the rule. They were not measured on any clips held back.
"""

import numpy as np

from ccln.pipeline.localize.vocabulary import HEARD_COUNT, SEEN_COUNT, load_vocabulary

MINIMUM = 0.05
"""Least score of a name."""
CHILD_SHARE = 0.5
"""Least share of its parent's score at which a child is preferred: a tagger scores parents higher than children."""
SEEN_BONUS = 4.0
"""A class whose things are all that is seen scores this many times its probability more."""


def open_name(heard: np.ndarray, seen: np.ndarray) -> str | None:
    """Name an event by the most specific AudioSet class that its sound supports.

    A class's score is its probability times (1 + `SEEN_BONUS` x the probability of all that it can be seen as). The
    best specific class is taken, then its best child as long as that has enough of its parent's score; a generic
    class is taken only if no specific one reaches `MINIMUM`.

    Args:
        heard: Probabilities of the AudioSet classes, averaged over the event, shape (521,).
        seen: Probabilities of the ImageNet classes, averaged over the event, shape (1000,).

    Returns:
        The display name, or None if no class reaches the minimum.

    Raises:
        ValueError: If a shape is wrong.
    """
    vocabulary = load_vocabulary()
    heard, seen = _checked(heard, HEARD_COUNT), _checked(seen, SEEN_COUNT)
    scores = heard * (1 + SEEN_BONUS * (vocabulary.visible @ seen))
    for allowed in (vocabulary.specific, vocabulary.generic):
        allowed_scores = np.where(allowed, scores, 0)
        best = int(allowed_scores.argmax())
        if allowed_scores[best] >= MINIMUM:
            return vocabulary.heard_names[_most_specific(best, allowed_scores, vocabulary.parents)]
    return None


def top_heard(heard: np.ndarray, count: int = 5) -> list[tuple[str, float]]:
    """The `count` most probable AudioSet classes of `heard`, shape (521,), as (name, probability), highest first."""
    return _top(_checked(heard, HEARD_COUNT), load_vocabulary().heard_names, count)


def top_seen(seen: np.ndarray, count: int = 5) -> list[tuple[str, float]]:
    """The `count` most probable ImageNet classes of `seen`, shape (1000,), as (name, probability), highest first."""
    return _top(_checked(seen, SEEN_COUNT), load_vocabulary().seen_names, count)


def _most_specific(best: int, scores: np.ndarray, parents: np.ndarray) -> int:
    while True:
        children = np.where(parents == best, scores, 0)
        child = int(children.argmax())
        if children[child] < max(MINIMUM, CHILD_SHARE * scores[best]):
            return best
        best = child


def _top(probabilities: np.ndarray, names: tuple[str, ...], count: int) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(names[index], float(probabilities[index])) for index in order]


def _checked(probabilities: np.ndarray, count: int) -> np.ndarray:
    if probabilities.shape != (count,):
        raise ValueError(f"probabilities must have the shape ({count},), not {probabilities.shape}")
    return probabilities.astype(np.float64)
