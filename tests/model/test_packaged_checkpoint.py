"""The checkpoint that comes with the package gives the same outputs as when it was made."""

import numpy as np
import pytest
import torch
from support.paths import ROOT
from torch import Tensor

from ccln.model import CCLN, load_checkpoint

pytestmark = pytest.mark.usefixtures("one_core")

# Of the clip that `features` makes, computed in float32 on an x86 processor when the checkpoint was made.
EVENT_LOGITS = [3.1309, 2.632, 1.8349, 3.0842, 3.0694, 2.429, 3.4179, 3.7751, 4.7258, 4.912]
CLASS_LOG_PROBABILITIES = [
    *(-0.0058, -14.1648, -13.5354, -14.5093, -7.2764, -13.0318, -6.1932, -18.4935),
    *(-9.5439, -6.1144, -18.3254, -13.6905, -8.604, -7.7045, -11.8495, -9.3962),
]
AUDIO_LOGITS_IN_SEGMENT_4 = [
    *(5.3136, -2.9736, -1.1586, -2.8012, -0.3016, -0.7275, -0.6059, -0.5433),
    *(-0.1308, -1.0115, -2.2867, -1.7987, -0.9984, -0.788, -0.478, 0.2999),
]
VISUAL_LOGITS_IN_SEGMENT_4 = [
    *(-5.6066, -5.1074, -6.51, -8.2646, -3.5534, -6.9621, -4.897, -8.9397),
    *(-5.4221, -5.4521, -7.846, -8.1884, -5.2678, -8.6688, -8.3181, -7.2064),
]
HIGHEST_ATTENTION = 0.882


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
