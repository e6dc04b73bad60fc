"""What a network says of each second of a video, whichever windows it saw them in."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Answers:
    """A network's answers on one axis of segments; all float32."""

    event_logits: np.ndarray
    """(segment,): is this second event?"""
    class_logits: np.ndarray
    """(segment, class): log-probabilities of its event's class."""
    visual_logits: np.ndarray
    """(segment, class): evidence for each class in the picture, looked at where the sound points."""
    audio_logits: np.ndarray
    """(segment, class): evidence for each class in the sound alone."""
    attention: np.ndarray
    """(segment, height, width): where the sound made the network look; a segment's numbers add up to one."""
