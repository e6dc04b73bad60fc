"""What an event is, runs of equal segments, and probabilities from logits."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Event:
    """Something both seen and heard, from `start_seconds` up to but not including `end_seconds` of its clip.

    Attributes:
        label: Name of the class.
        start_seconds: Where it begins.
        end_seconds: Where it has ended.
        confidence: From 0 to 1.
    """

    label: str
    start_seconds: float
    end_seconds: float
    confidence: float


def equal_runs(values: np.ndarray) -> list[tuple[int, int]]:
    """The maximal runs of equal neighbours of `values` (segment,) as half-open positions (start, end), in order."""
    edges = (np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(values)], strict=True)) if len(values) else []


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without an overflow, in the type of x."""
    return np.exp(-np.logaddexp(0, -logits))
