"""Guided attention, two LSTMs and heads, without SBI, FEE and WCCL, against CCLN: all else is the same.

uv run python benchmarks/lstm_baseline.py --data FOLDER --cache FOLDER [--seeds 0 1 2]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from ccln.cache import FeatureCache
from ccln.model import CCLN, ModelConfig, Output
from ccln.model.attention import GuidedAttention
from ccln.pipeline.annotations import read_ave_folder
from ccln.pipeline.evaluation import evaluate
from ccln.pipeline.features import DatasetFeatures, load_features
from ccln.pipeline.memory import keep_freed_memory
from ccln.pipeline.metrics import Scores
from ccln.pipeline.settings import Settings
from ccln.pipeline.training import fit


class LSTMBaseline(nn.Module):
    """Audio-guided visual attention, a bidirectional LSTM a modality, and heads on both (after Tian et al. 2018)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.attention = GuidedAttention(config.visual_channels, config.audio_channels, width, config.channel_dropout)
        self.audio = nn.LSTM(config.audio_channels, width // 2, batch_first=True, bidirectional=True)
        self.visual = nn.LSTM(config.visual_channels, width // 2, batch_first=True, bidirectional=True)
        self.audio_norm, self.visual_norm = nn.LayerNorm(config.audio_channels), nn.LayerNorm(config.visual_channels)
        self.joint = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Dropout(config.dropout))
        self.event_head, self.class_head = nn.Linear(width, 1), nn.Linear(width, config.class_count)
        self.heard_head, self.seen_head = nn.Linear(width, config.class_count), nn.Linear(width, config.class_count)

    def forward(self, visual: Tensor, audio: Tensor) -> Output:
        picture, attention = self.attention(visual, audio)  # (B, T, C), (B, T, H, W)
        a, v = self.audio(self.audio_norm(audio))[0], self.visual(self.visual_norm(picture))[0]  # (B, T, d)
        joint = self.joint(torch.cat([a, v], -1))  # (B, T, d)
        event_logits = self.event_head(joint).squeeze(-1)
        return Output(
            event_logits=event_logits,
            class_logits=self.class_head(joint.mean(1)),
            heard_logits=self.heard_head(a),
            seen_logits=self.seen_head(v),
            attention=attention,
            gate=torch.ones(0, device=visual.device),
            foreground_logits=event_logits,
            enhanced=joint,
            embeddings=None,
        )


def trained(network: type[nn.Module], features: DatasetFeatures, seed: int) -> tuple[Scores, Scores]:
    """Validation and test scores of one run with the default settings."""
    train = features.splits["train"]
    shape = train.visual[0].shape
    config = ModelConfig(
        *shape[1:], audio_channels=train.audio[0].shape[-1], class_count=train.class_count, segment_count=shape[0]
    )
    settings = Settings()
    set_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(network(config), features, replace(settings.training, seed=seed), settings.loss, Path(folder))
    return fitted.history[fitted.best_epoch - 1].validation, evaluate(fitted.model, features.splits["test"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    keep_freed_memory()
    features = load_features(read_ave_folder(arguments.data), FeatureCache(arguments.cache))
    print("network        seed  validation  test accuracy  background recall  event F1  boundary error")
    for name, network in (("CCLN", CCLN), ("LSTM baseline", LSTMBaseline)):
        accuracies = []
        for seed in arguments.seeds:
            validation, test = trained(network, features, seed)
            accuracies.append(100 * test.segment_accuracy)
            print(
                f"{name:13}  {seed:4}  {100 * validation.segment_accuracy:8.1f} %  {accuracies[-1]:11.1f} %  "
                f"{100 * test.background_recall:15.1f} %  {100 * test.event_f1:6.1f} %  "
                f"{test.boundary_error_seconds:12.2f} s",
                flush=True,
            )
        spread = f" ± {stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
        print(f"{name}: test accuracy {mean(accuracies):.1f}{spread} over {len(accuracies)} seeds", flush=True)


if __name__ == "__main__":
    main()
