"""Log-mel features: the front end of VGGish, and an extractor without weights, each band's mean and spread.

The front end follows the definition in TensorFlow's AudioSet models (`mel_features.py`). Widely used mel filters have
slopes that are linear in hertz; those of VGGish are linear in mel, and the DC row is zero. All of it is float64 up to
the result, as in the original: beside a loud tone, the rounding noise of a float32 transform fills the empty bands, and
the logarithm shows it (up to 8e-4).
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ccln.extractors.contract import SEGMENT_SECONDS, AudioChoice, ExtractorError, MelChoice, WeightsError


def build(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return the extractor that `choice` asks for.

    Raises:
        WeightsError: `weights` is given; there are none to load.
        ExtractorError: The choice asks for another output.
    """
    if weights is not None:
        raise WeightsError(f"log-mel has no weights to load from {weights}: leave --audio-weights out")
    if choice.output != "mean-and-std":
        raise ExtractorError(f"log-mel has no output {choice.output!r}: its output is mean-and-std")
    return LogMelStatistics(choice)


class LogMelStatistics(nn.Module):
    """Mean and standard deviation over time of each log-mel band."""

    def __init__(self, choice: AudioChoice) -> None:
        super().__init__()
        self.front_end = LogMelFrontEnd(choice)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return (segment, 2 x band), means first, of waveform (segment, sample)."""
        log_mel = self.front_end(waveform)
        return torch.cat([log_mel.mean(1), log_mel.std(1, correction=0)], dim=1)


class LogMelFrontEnd(nn.Module):
    """Waveforms of segments to log-mel frames, each segment cut on its own.

    Raises:
        ExtractorError: The choice has no mel front end.
    """

    def __init__(self, choice: AudioChoice) -> None:
        super().__init__()
        if choice.mel is None:
            raise ExtractorError(f"{choice.name} needs a mel front end, but the choice has none: give it one")
        mel, rate_hz = choice.mel, choice.sample_rate_hz
        self.window_samples = round(mel.window_seconds * rate_hz)
        self.hop_samples = round(mel.hop_seconds * rate_hz)
        self.fft_samples = 2 ** math.ceil(math.log2(self.window_samples))
        # A windowed frame starts at sample 0 of the transform. torch.stft would centre a shorter window in it.
        self.tail_samples = self.fft_samples - self.window_samples
        self.log_offset = mel.log_offset
        held_frames = 1 + (rate_hz * SEGMENT_SECONDS - self.window_samples) // self.hop_samples
        self.bands = mel.bands
        self.frame_count = min(round(mel.seconds_used / mel.hop_seconds), held_frames)
        window = torch.hann_window(self.window_samples, periodic=True, dtype=torch.float64)
        # Not persistent: they follow from the choice, they are no weights.
        self.register_buffer("window", nn.functional.pad(window, (0, self.tail_samples)), persistent=False)
        self.register_buffer("mel_matrix", _mel_matrix(mel, rate_hz, self.fft_samples), persistent=False)
        self.window: Tensor
        self.mel_matrix: Tensor

    def forward(self, waveform: Tensor) -> Tensor:
        """Return log-mel float32 (segment, frame, band) of waveform float32 (segment, sample)."""
        # The last frame's window ends inside the segment, its transform may not: the zeros meet the window's zeros.
        padded = nn.functional.pad(waveform.double(), (0, self.tail_samples))
        spectrum = torch.stft(
            padded, self.fft_samples, self.hop_samples, window=self.window, center=False, return_complex=True
        )
        magnitude = spectrum.abs().transpose(1, 2)[:, : self.frame_count]
        return torch.log(magnitude @ self.mel_matrix + self.log_offset).float()


class PatchExtractor(nn.Module):
    """A front end and a network of one patch from each segment's start; the state dict is the network's alone."""

    def __init__(self, choice: AudioChoice, network: nn.Module, patch: tuple[int, int]) -> None:
        """Join both.

        Args:
            choice: Its front end.
            network: Takes log-mel patches (patch, frame, band) to embeddings (patch, channel).
            patch: The frames and bands that the network takes.

        Raises:
            ExtractorError: The front end makes other patches.
        """
        super().__init__()
        self.front_end = LogMelFrontEnd(choice)
        self.network = network
        found = (self.front_end.frame_count, self.front_end.bands)
        if found != patch:
            raise ExtractorError(f"the patch is {found}, but {choice.name} takes {patch} (frame, band)")

    def forward(self, waveform: Tensor) -> Tensor:
        """Return embeddings (segment, channel) of waveform (segment, sample)."""
        return self.network(self.front_end(waveform))


def _mel_matrix(mel: MelChoice, sample_rate_hz: int, fft_samples: int) -> Tensor:
    """Return the triangular filters, float64 (bin, band): bins to mel bands, slopes linear in mel."""
    bins_hz = torch.linspace(0, sample_rate_hz / 2, fft_samples // 2 + 1, dtype=torch.float64)
    bins = _mel(bins_hz)[:, None]
    low, high = _mel(torch.tensor([mel.low_hz, mel.high_hz], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, mel.bands + 2, dtype=torch.float64)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    matrix = torch.minimum(rising, falling).clamp(min=0)
    matrix[0] = 0  # the constant component is not audible
    return matrix


def _mel(hertz: Tensor) -> Tensor:
    """HTK's mel scale."""
    return 1127 * torch.log1p(hertz / 700)
