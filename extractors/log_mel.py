"""Audio extractor with no weights: how loud each mel band is over a segment, and how much it varies."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ccln.extractors.choices import AudioChoice
from ccln.extractors.contract import ExtractorError, WeightsError
from ccln.extractors.vggish_front_end import LogMelFrontEnd


class LogMelStatistics(nn.Module):
    """Mean and standard deviation over time of each log-mel band."""

    def __init__(self, choice: AudioChoice) -> None:
        super().__init__()
        self.front_end = LogMelFrontEnd(choice)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return (segment, 2 x band), means first, of waveform (segment, sample)."""
        log_mel = self.front_end(waveform)
        return torch.cat([log_mel.mean(1), log_mel.std(1, correction=0)], dim=1)


def build(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return the extractor that `choice` asks for.

    Raises:
        WeightsError: `weights` is given; there are none to load.
        ExtractorError: the choice asks for another output.
    """
    if weights is not None:
        raise WeightsError(f"log-mel has no weights to load from {weights}: leave --audio-weights out")
    if choice.output != "mean-and-std":
        raise ExtractorError(f"log-mel has no output {choice.output!r}: its output is mean-and-std")
    return LogMelStatistics(choice)
