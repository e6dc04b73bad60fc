"""The checkpoint that comes with the package gives the same outputs as when it was made."""

import numpy as np
import pytest
import torch
from support.paths import ROOT
from torch import Tensor

from ccln.model import CCLN, load_checkpoint

pytestmark = pytest.mark.usefixtures("one_core")

# Of the clip that `features` makes, computed in float32 on an x86 processor when the checkpoint was made.
EVENT_LOGITS = [2.5733, 2.1798, 2.2636, 1.4854, 1.5165, 3.2777, 1.8639, 2.1037, 4.7876, 4.8886]
CLASS_LOG_PROBABILITIES = [
    *(-6.6767, -9.9287, -8.388, -10.4618, -3.6134, -16.6147, -3.8512, -11.3242),
    *(-3.7163, -7.6011, -12.5392, -10.9881, -5.2313, -11.0553, -13.229, -0.0834),
]
AUDIO_LOGITS_IN_SEGMENT_4 = [
    *(3.8509, -0.705, -0.9865, -0.6382, -0.0371, -1.8176, 0.4473, 0.4322),
    *(0.8644, -0.6506, -0.6742, -1.0583, 0.095, 0.8418, 0.9029, 0.9083),
]
VISUAL_LOGITS_IN_SEGMENT_4 = [
    *(-4.6339, -6.2649, -5.6547, -5.6164, -5.4592, -7.0927, -4.2223, -6.9371),
    *(-5.6391, -5.5749, -4.4689, -6.2322, -5.1955, -4.9676, -6.3568, -2.841),
]
HIGHEST_ATTENTION = 0.9993


def features() -> tuple[Tensor, Tensor]:
    """Visual and audio features of two clips, the same on every machine: no random numbers."""
    i, j = (torch.arange(2 * 10 * count, dtype=torch.float64) for count in (7 * 7 * 320, 1024))
    visual = torch.sin(0.37 * i) + torch.sin(1e-7 * i**2)
    audio = (torch.sin(0.73 * j) + torch.cos(1e-4 * j**2)).clamp_min(0)
    return visual.view(2, 10, 7, 7, 320).float(), audio.view(2, 10, 1024).float()


def test_the_packaged_checkpoint_gives_the_same_outputs_as_before():
    model = load_checkpoint(ROOT / "pipeline" / "pretrained").model
    assert isinstance(model, CCLN)
    with torch.inference_mode():
        output = model(*features())

    def close(found: Tensor, expected: list[float] | float) -> None:
        np.testing.assert_allclose(found, expected, atol=2e-3)

    close(output.event_logits[0], EVENT_LOGITS)
    close(output.class_logits[1].log_softmax(-1), CLASS_LOG_PROBABILITIES)
    close(output.audio_logits[1, 4], AUDIO_LOGITS_IN_SEGMENT_4)
    close(output.visual_logits[1, 4], VISUAL_LOGITS_IN_SEGMENT_4)
    close(output.attention.amax(), HIGHEST_ATTENTION)
