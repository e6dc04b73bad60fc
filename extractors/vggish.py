"""VGGish: the audio network of AudioSet, one 128-number embedding a 0.96 s patch.

Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ccln.extractors.contract import AudioChoice, ExtractorError
from ccln.extractors.log_mel import PatchExtractor
from ccln.extractors.weights import AUDIO_FLAG, fetch_url, load_into, read_weights

WEIGHTS_URL = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"
PATCH_FRAMES, PATCH_BANDS = 96, 64


class Vggish(nn.Module):
    """Log-mel patch to embedding; parameters are named as in the common PyTorch checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, convolutions in ((64, 1), (128, 1), (256, 2), (512, 2)):
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        flat = channels * (PATCH_FRAMES // 16) * (PATCH_BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, 128),
            nn.ReLU(inplace=True),
        )

    def forward(self, patch: Tensor) -> Tensor:
        """Return embeddings (patch, 128) of log-mel patches (patch, frame, band)."""
        maps = self.features(patch[:, None])
        # The weights were trained in TensorFlow: the last map is flattened channels last, (time, band, channel).
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))


def build(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return VGGish with weights from the local file, or else from the cache or the net.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
        ExtractorError: The choice asks for another output or patch than VGGish has.
    """
    if choice.output != "embedding":
        raise ExtractorError(f"vggish has no output {choice.output!r}: its output is embedding")
    with torch.device("meta"):  # no time spent on random numbers that the weights replace
        network = Vggish()
    extractor = PatchExtractor(choice, network.to_empty(device="cpu"), (PATCH_FRAMES, PATCH_BANDS))
    file = weights or fetch_url(WEIGHTS_URL, "vggish", AUDIO_FLAG)
    # The published code keeps PCA's numbers beside the network, in a file of their own; a saved model has both.
    load_into(network, read_weights(file), "vggish", file, ignored_prefixes=("pproc.",))
    return extractor
