"""What a network answered clip by clip: kept beside the scores, so that nobody has to ask it twice."""

from dataclasses import dataclass

import numpy as np

from ccln.pipeline.data.clips import AnnotatedClip
from ccln.pipeline.metrics.prediction import Predictions


@dataclass(frozen=True, eq=False)
class SegmentAnswers:
    """Localization: a label a segment."""

    clips: tuple[AnnotatedClip, ...]
    """The clips that were scored."""
    truth: np.ndarray
    """int64 (clip, segment); background is the number of classes."""
    predictions: Predictions
    """Of the same clips."""


@dataclass(frozen=True, eq=False)
class MatchingAnswers:
    """Cross-modality localization: a start a query. Segments last one second, so positions are seconds."""

    clips: tuple[AnnotatedClip, ...]
    """Those with something to find."""
    starts: np.ndarray
    """int64 (clip,): where the event starts."""
    lengths: np.ndarray
    """int64 (clip,): of the event, in seconds."""
    a2v: np.ndarray
    """int64 (clip,): where the event's sound was found in the picture."""
    v2a: np.ndarray
    """int64 (clip,): where the event's picture was found in the sound."""
