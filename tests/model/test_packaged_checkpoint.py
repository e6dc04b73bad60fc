"""The checkpoint that comes with the package gives the same outputs as when it was made."""

import numpy as np
import pytest
import torch
from support.paths import ROOT
from torch import Tensor

from ccln.model import CCLN, load_checkpoint

pytestmark = pytest.mark.usefixtures("one_core")

# Of the clip that `features` makes, computed in float32 on an x86 processor before any weight had been renamed.
EVENT_LOGITS = [-0.3776, 2.7686, 4.8016, -1.7154, -1.2568, -2.1492, -2.479, -2.9543, -0.8524, 0.1027]
CLASS_LOG_PROBABILITIES = [
    *(-25.0311, -12.5889, -14.7516, -22.8462, -16.1679, -7.2715, -0.0073, -12.3071),
    *(-18.355, -9.1053, -13.8472, -13.4814, -11.29, -12.2917, -5.0426, -11.602),
]
AUDIO_LOGITS_IN_SEGMENT_4 = [
    *(-3.7831, -0.8278, -0.2072, -3.4009, 1.5986, -2.4668, 0.1927, -1.6401),
    *(-1.1864, -2.5878, -1.1319, -0.9679, -1.5255, -1.0563, -1.6167, -3.2596),
]
VISUAL_LOGITS_IN_SEGMENT_4 = [
    *(-7.4018, -5.3295, -4.3023, -6.6913, -6.7526, -2.6762, -2.9943, -5.1568),
    *(-6.7034, -4.0978, -5.8675, -6.0869, -5.4341, -4.5298, -2.6282, -3.6256),
]
HIGHEST_ATTENTION = 0.8686


def features() -> tuple[Tensor, Tensor]:
    """Visual and audio features of two clips, the same on every machine: no random numbers."""
    i, j = (torch.arange(2 * 10 * count, dtype=torch.float64) for count in (7 * 7 * 320, 128))
    visual = torch.sin(0.37 * i) + torch.sin(1e-7 * i**2)
    audio = 2 * torch.sin(0.73 * j) - 3 + torch.cos(1e-4 * j**2)
    return visual.view(2, 10, 7, 7, 320).float(), audio.view(2, 10, 128).float()


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
