"""The checkpoint that comes with the package gives the same outputs as when it was made."""

import numpy as np
import pytest
import torch
from support.paths import ROOT
from torch import Tensor

from ccln.model import CCLN, load_checkpoint

pytestmark = pytest.mark.usefixtures("one_core")

# Of the clip that `features` makes, computed in float32 on an x86 processor when the checkpoint was made.
EVENT_LOGITS = [1.2928, 1.5627, 1.3447, 2.5858, 1.2095, 0.8705, 0.7335, 1.3942, 1.9072, 1.3606]
CLASS_LOG_PROBABILITIES = [
    *(-6.3267, -9.3173, -11.8881, -11.6021, -16.1054, -12.3831, -9.3888, -7.26),
    *(-4.9969, -10.6543, -6.3277, -8.0478, -0.7879, -3.6614, -0.6775, -9.6691),
]
AUDIO_LOGITS_IN_SEGMENT_4 = [
    *(4.1554, -0.7904, 0.1262, -0.4921, 0.576, 0.6091, 0.2256, 1.5815),
    *(-0.6381, 0.3641, 0.0832, 0.8572, -0.3611, 1.849, 0.7206, 0.4157),
]
VISUAL_LOGITS_IN_SEGMENT_4 = [
    *(-3.5976, -2.9694, -7.0198, -4.3872, -6.7828, -5.2879, -3.4289, -3.4672),
    *(-3.2872, -7.072, -2.0049, -4.0409, -3.6613, -3.307, -1.3632, -4.7623),
]
HIGHEST_ATTENTION = 1.0000


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
