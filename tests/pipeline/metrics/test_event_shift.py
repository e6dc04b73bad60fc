from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ccln.model import CCLN
from ccln.pipeline.data.clips import AnnotatedClip
from ccln.pipeline.data.features import LabelledClips
from ccln.pipeline.metrics.calibration import choose_event_shift


class Shifted(nn.Module):
    """A network whose event logits are the audio's first channel and the shift."""

    event_shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("event_shift", torch.tensor(7.0))  # an earlier one, which is to play no part

    def forward(self, visual: Tensor, audio: Tensor) -> SimpleNamespace:
        logits = audio[..., 0] + self.event_shift
        return SimpleNamespace(event_logits=logits, class_logits=audio[:, 0], visual_logits=audio[..., :1])


def shift_for(logits: np.ndarray, is_event: np.ndarray) -> float:
    """The shift chosen for event logits and labels (clip, segment)."""
    rows = [AnnotatedClip(index, "Bark", str(index), ((0.0, 1.0),), "validation") for index in range(len(logits))]
    clips = LabelledClips(
        clips=tuple(rows),
        visual=tuple(torch.zeros(len(logits), 10, 1, 1, 1)),
        audio=tuple(torch.from_numpy(np.stack([logits, logits], -1)).float()),
        segment_labels=np.where(is_event, 0, 1),
        class_labels=np.zeros(len(logits), np.int64),
        class_count=1,
        keys=tuple(map(str, range(len(logits)))),
        missing=(),
        durations_seconds=(10.0,) * len(logits),
    )
    network = Shifted()
    choose_event_shift(cast(CCLN, network), clips)
    return float(network.event_shift)


@pytest.mark.parametrize("offset", [-3.0, -1.0, 0.0, 1.5])
def test_the_shift_brings_one_half_between_event_and_background(offset: float):
    random = np.random.default_rng(0)
    is_event = random.random((40, 10)) < 0.8
    logits = np.where(is_event, 2.0, -2.0) + random.normal(0, 0.2, is_event.shape) + offset
    shifted = logits + shift_for(logits, is_event)
    assert ((shifted >= 0) == is_event).all()


def test_what_is_right_already_is_not_shifted():
    is_event = np.arange(40).reshape(4, 10) % 3 > 0
    assert shift_for(np.where(is_event, 5.0, -5.0), is_event) == 0


def test_where_the_two_cannot_be_told_apart_background_counts_twice():
    is_event = np.arange(400).reshape(40, 10) % 10 < 6  # 3 to 2, but 3 to 4 as they count
    assert shift_for(np.zeros((40, 10)), is_event) < 0
    is_event = np.arange(400).reshape(40, 10) % 10 < 8
    assert shift_for(np.full((40, 10), -1.0), is_event) >= 1
