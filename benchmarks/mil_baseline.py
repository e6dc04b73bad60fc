"""CCLN weakly supervised against multiple-instance learning with the field's first encoders, on the same features.

Both learn from the class of each clip alone, a background-only clip's being background, and are scored segment by
segment; the epoch is selected on validation. The baseline is that of lstm_baseline.py, each segment classified on its
own, in the same schedule; the clip's logits, which alone have a label, are those of its segments pooled

- with gated attention (Ilse et al. 2018), or
- as their mean (Tian et al. 2018).

uv run python benchmarks/mil_baseline.py --data FOLDER --cache FOLDER [--seeds 0 1 2]
"""

import torch
from accelerate.utils import set_seed
from baselines import WIDTH, SegmentClassifier, baseline_run, ccln_run, parser, print_table
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.cache import FeatureCache
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.data import read_dataset
from ccln.pipeline.metrics.segments import Scores
from ccln.pipeline.train.run import Experiment, prepare
from ccln.pipeline.train.tasks import WeakLocalization


class MeanPooling(SegmentClassifier):
    def clip_logits(self, visual: Tensor, audio: Tensor) -> Tensor:
        """(B, T, H, W, C), (B, T, D) -> logits (B, n + 1)."""
        return self(visual, audio).mean(1)


class AttentionPooling(SegmentClassifier):
    """Weights of the segments: softmax over the clip of w (tanh(V h) * sigmoid(U h))."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        channels = self.encoders.channels
        self.content, self.gate = nn.Linear(channels, WIDTH), nn.Linear(channels, WIDTH)
        self.weigh = nn.Linear(WIDTH, 1, bias=False)

    def clip_logits(self, visual: Tensor, audio: Tensor) -> Tensor:
        """(B, T, H, W, C), (B, T, D) -> logits (B, n + 1)."""
        view = self.encoders(visual, audio)  # (B, T, channels)
        weights = self.weigh(self.content(view).tanh() * self.gate(view).sigmoid()).softmax(1)  # (B, T, 1)
        return (weights * self.head(view)).sum(1)


def mil_baseline(
    pooling: type[MeanPooling | AttentionPooling], experiment: Experiment, seed: int
) -> tuple[Scores, Scores]:
    """Validation and test scores of one run."""
    set_seed(seed)
    return baseline_run(pooling(experiment), experiment, clip_loss)


def clip_loss(network: MeanPooling | AttentionPooling, batch: dict[str, Tensor]) -> Tensor:
    logits = network.clip_logits(batch["visual"], batch["audio"])  # (B, n + 1)
    labels = batch["label"]
    return F.cross_entropy(logits, torch.where(labels < 0, logits.shape[-1] - 1, labels))


def main() -> None:
    arguments = parser(__doc__).parse_args()
    keep_freed_memory()
    experiment = prepare(read_dataset(arguments.data), WeakLocalization, FeatureCache(arguments.cache))
    runs = {
        "CCLN, weak": lambda seed: ccln_run(experiment, seed),
        "attention MIL": lambda seed: mil_baseline(AttentionPooling, experiment, seed),
        "mean MIL": lambda seed: mil_baseline(MeanPooling, experiment, seed),
    }
    print_table(runs, arguments.seeds)


if __name__ == "__main__":
    main()
