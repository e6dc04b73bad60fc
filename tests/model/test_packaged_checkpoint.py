"""The checkpoint that comes with the package gives the same outputs as when it was made."""

import numpy as np
import pytest
import torch
from support.paths import ROOT
from torch import Tensor

from ccln.model import CCLN, load_checkpoint

pytestmark = pytest.mark.usefixtures("one_core")

# Of the clip that `features` makes, computed in float32 on an x86 processor when the checkpoint was made.
EVENT_LOGITS = [4.1299, 2.8214, 2.8465, 1.1204, 2.1324, 1.1092, -0.0008, 2.1743, 2.6789, 2.2845]
CLASS_LOG_PROBABILITIES = [
    *(-2.5448, -18.6162, -13.5511, -14.7418, -13.9408, -15.4165, -6.0115, -16.3383),
    *(-17.505, -3.1849, -13.1252, -18.706, -10.7194, -0.1312, -10.3658, -7.4694),
]
AUDIO_LOGITS_IN_SEGMENT_4 = [
    *(4.7647, -2.3547, -1.0226, -3.2531, 0.0005, -1.8666, -1.1299, -2.3442),
    *(-1.6215, -2.0874, -2.474, -2.4473, -1.5512, -0.8888, -1.4814, -0.3012),
]
VISUAL_LOGITS_IN_SEGMENT_4 = [
    *(-4.1815, -6.924, -6.9214, -6.4117, -7.4426, -7.3028, -6.4946, -5.6396),
    *(-9.8685, -2.9837, -5.136, -6.9985, -6.5206, -3.6149, -5.9577, -4.9871),
]
HIGHEST_ATTENTION = 0.9999


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
