"""CCLN against attention + LSTM without SBI, FEE and WCCL, on the same features; the epoch is selected on validation.

The baseline is the field's first network (audio-guided attention, an LSTM a modality, each segment classified on its
own over classes and background; Tian et al. 2018) with its own schedule: Adam, 1e-3, a tenth of it for the second half.

uv run python benchmarks/lstm_baseline.py --data FOLDER --cache FOLDER [--seeds 0 1 2]
"""

import torch
from accelerate.utils import set_seed
from baselines import SegmentClassifier, baseline_run, ccln_run, parser, print_table
from torch import Tensor
from torch.nn import functional as F

from ccln.cache import FeatureCache
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.data import read_dataset
from ccln.pipeline.metrics.segments import Scores
from ccln.pipeline.train.run import Experiment, prepare
from ccln.pipeline.train.tasks import SupervisedLocalization


def lstm_baseline(experiment: Experiment, seed: int) -> tuple[Scores, Scores]:
    """Validation and test scores of one run."""
    set_seed(seed)
    return baseline_run(SegmentClassifier(experiment), experiment, segment_loss)


def segment_loss(network: SegmentClassifier, batch: dict[str, Tensor]) -> Tensor:
    logits = network(batch["visual"], batch["audio"])  # (B, T, n + 1)
    labels = torch.where(batch["event"] > 0, batch["label"][:, None], logits.shape[-1] - 1)  # (B, T)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def main() -> None:
    arguments = parser(__doc__).parse_args()
    keep_freed_memory()
    experiment = prepare(read_dataset(arguments.data), SupervisedLocalization, FeatureCache(arguments.cache))
    runs = {
        "CCLN": lambda seed: ccln_run(experiment, seed),
        "attention + LSTM": lambda seed: lstm_baseline(experiment, seed),
    }
    print_table(runs, arguments.seeds)


if __name__ == "__main__":
    main()
