"""Which class each second of a video is of: the likeliest path, on which a change of class has its price."""

import numpy as np

SWITCH_COST = 12.0
"""In log-probability, so that a second or two alone do not change the class; how it was chosen, docs/experiments.md."""


def class_path(class_logits: np.ndarray, weights: np.ndarray, switch_cost: float = SWITCH_COST) -> np.ndarray:
    """The path c that maximises sum_t w_t log p(c_t | t) - cost * (number of t with c_t != c_(t-1)).

    Found by dynamic programming (Viterbi 1967); where classes tie, the earlier one and the one without a change.

    Args:
        class_logits: (segment, class), of each second on its own.
        weights: (segment,), none negative: how much each second has to say; the probability that it is event, say.
        switch_cost: of a change, at least 0.

    Returns:
        int64 (segment,).
    """
    shifted = class_logits - class_logits.max(axis=1, keepdims=True)
    log_share = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gains = weights.astype(np.float64)[:, np.newaxis] * log_share  # (S, n)
    segments, classes = gains.shape
    came_from = np.empty((segments, classes), np.int64)
    best = np.zeros(classes)
    for segment in range(segments):
        leader = best.argmax()
        switches = best[leader] - switch_cost > best
        came_from[segment] = np.where(switches, leader, np.arange(classes))
        best = np.where(switches, best[leader] - switch_cost, best) + gains[segment]
    path = np.empty(segments, np.int64)
    label = int(best.argmax()) if segments else 0
    for segment in reversed(range(segments)):
        path[segment] = label
        label = came_from[segment, label]
    return path
