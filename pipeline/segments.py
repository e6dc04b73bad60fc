"""The grid of time that everything shares: segment s covers the seconds [s, s + 1). Runs and probabilities on it."""

import numpy as np

SEGMENT_COUNT = 10
SEGMENT_SECONDS = 1
CLIP_SECONDS = SEGMENT_COUNT * SEGMENT_SECONDS


def equal_runs(values: np.ndarray) -> list[tuple[int, int]]:
    """The maximal runs of equal neighbours of `values` (segment,) as half-open positions (start, end), in order."""
    edges = (np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(values)], strict=True)) if len(values) else []


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without an overflow, in the type of x."""
    return np.exp(-np.logaddexp(0, -logits))
