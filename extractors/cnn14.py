"""CNN14 of PANNs: an audio tagger trained on AudioSet, one vector of 2048 numbers a second.

Kong et al., "PANNs: Large-scale pretrained audio neural networks for audio pattern recognition", TASLP 2020. The front
end is that of its published code, torchlibrosa's: power spectra of centred windows, bands on Slaney's scale and of his
norm, decibels. The five poolings leave 3 x 2 places of a second's 101 x 64.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.extractors.contract import AudioChoice, ExtractorError
from ccln.extractors.presets import AUDIO_CHOICES
from ccln.extractors.weights import AUDIO_FLAG, fetch_url, load_into, read_weights

WEIGHTS_URL = "https://zenodo.org/records/3987831/files/Cnn14_mAP=0.431.pth"
WEIGHTS_MD5 = "541141fa2ee191a88f24a3219fff024e"
WINDOW_SAMPLES, HOP_SAMPLES, BANDS = 1024, 320, 64
LOW_HZ, HIGH_HZ, RATE_HZ = 50, 14_000, 32_000
SMALLEST_POWER = 1e-10
# What the front end follows from, and AudioSet's classes.
_NOT_TAKEN = ("spectrogram_extractor.", "logmel_extractor.", "fc_audioset.")


def build(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return CNN14 with weights from the local file, or else from the cache or the net.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
        ExtractorError: The choice asks for another output or front end than CNN14 has.
    """
    known = AUDIO_CHOICES["cnn14"]
    if choice.output != known.output:
        raise ExtractorError(f"cnn14 has no output {choice.output!r}: its output is {known.output}")
    if (choice.sample_rate_hz, choice.mel, choice.front_end) != (RATE_HZ, None, None):
        raise ExtractorError(f"cnn14 takes a waveform at {RATE_HZ} Hz and has a front end of its own")
    with torch.device("meta"):  # no time spent on random numbers that the weights replace
        network = Cnn14()
    extractor = Cnn14Extractor(network.to_empty(device="cpu"))
    file = weights or fetch_url(WEIGHTS_URL, "cnn14", AUDIO_FLAG, WEIGHTS_MD5)
    load_into(network, read_weights(file, entry="model"), "cnn14", file, ignored_prefixes=_NOT_TAKEN)
    return extractor


class Cnn14(nn.Module):
    """Log-mel frames to embeddings; parameters are named as in the published file."""

    def __init__(self, width: int = 64) -> None:
        """Make the layers.

        Args:
            width: Channels of the first block; each further one has twice as many.
        """
        super().__init__()
        self.bn0 = nn.BatchNorm2d(BANDS)
        self.conv_block1 = _Block(1, width)
        self.conv_block2 = _Block(width, 2 * width)
        self.conv_block3 = _Block(2 * width, 4 * width)
        self.conv_block4 = _Block(4 * width, 8 * width)
        self.conv_block5 = _Block(8 * width, 16 * width)
        self.conv_block6 = _Block(16 * width, 32 * width)
        self.fc1 = nn.Linear(32 * width, 32 * width)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return embeddings (segment, channel) of decibels (segment, frame, band)."""
        maps = self.bn0(log_mel.transpose(1, 2)[..., None]).permute(0, 3, 2, 1)  # each band has a norm of its own
        blocks = (self.conv_block1, self.conv_block2, self.conv_block3, self.conv_block4, self.conv_block5)
        for block in blocks:
            maps = F.avg_pool2d(block(maps), 2)
        over_time = self.conv_block6(maps).mean(3)
        return F.relu(self.fc1(over_time.amax(2) + over_time.mean(2)))


class Cnn14Extractor(nn.Module):
    """The front end and CNN14; the state dict is the network's alone."""

    def __init__(self, network: Cnn14) -> None:
        import librosa

        super().__init__()
        self.network = network
        bank = librosa.filters.mel(
            sr=RATE_HZ, n_fft=WINDOW_SAMPLES, n_mels=BANDS, fmin=LOW_HZ, fmax=HIGH_HZ, dtype="float64"
        )
        self.register_buffer("mel_matrix", torch.from_numpy(bank.T.copy()), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES, dtype=torch.float64), persistent=False)
        self.mel_matrix: Tensor
        self.window: Tensor

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Return decibels (segment, frame, band) of waveform (segment, sample)."""
        spectrum = torch.stft(
            waveform.double(), WINDOW_SAMPLES, HOP_SAMPLES, window=self.window, pad_mode="reflect", return_complex=True
        )
        power = spectrum.abs().square().transpose(1, 2) @ self.mel_matrix
        return (10 * power.clamp(min=SMALLEST_POWER).log10()).float()

    def forward(self, waveform: Tensor) -> Tensor:
        """Return embeddings (segment, channel) of waveform (segment, sample)."""
        return self.network(self.log_mel(waveform))


class _Block(nn.Module):
    """Two convolutions, each with its norm and a ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same height and width."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps))))))
