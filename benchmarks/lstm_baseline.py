"""CCLN against attention + LSTM without SBI, FEE and WCCL, on the same features; the epoch is selected on validation.

The baseline is the field's first network (audio-guided attention, an LSTM a modality, each segment classified on its
own over classes and background; Tian et al. 2018) with its own schedule: Adam, 1e-3, a tenth of it for the second half.

uv run python benchmarks/lstm_baseline.py --data FOLDER --cache FOLDER [--seeds 0 1 2]
"""

import argparse
import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.cache import FeatureCache
from ccln.model import CCLN, ModelConfig
from ccln.pipeline.datasets import read_dataset
from ccln.pipeline.features import DatasetFeatures, LabelledClips, load_features
from ccln.pipeline.fitting import fit
from ccln.pipeline.memory import keep_freed_memory
from ccln.pipeline.metrics import Scores, score
from ccln.pipeline.settings import Settings
from ccln.pipeline.tasks import SupervisedLocalization

EPOCHS, BATCH, WIDTH = 60, 64, 128


class AttentionLSTM(nn.Module):
    def __init__(self, height: int, width: int, channels: int, audio_channels: int, class_count: int) -> None:
        super().__init__()
        regions = height * width
        self.visual_key, self.audio_key = nn.Linear(channels, channels), nn.Linear(audio_channels, channels)
        self.visual_score = nn.Linear(channels, regions, bias=False)
        self.audio_score = nn.Linear(channels, regions, bias=False)
        self.score = nn.Linear(regions, 1, bias=False)
        self.audio = nn.LSTM(audio_channels, WIDTH, batch_first=True, bidirectional=True)
        self.visual = nn.LSTM(channels, WIDTH, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Linear(4 * WIDTH, 64), nn.ReLU(), nn.Linear(64, class_count + 1))

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """(B, T, H, W, C), (B, T, D) -> logits over classes and background (B, T, n + 1)."""
        regions = visual.flatten(2, 3)  # (B, T, H*W, C)
        seen = self.visual_score(F.relu(self.visual_key(regions)))  # (B, T, H*W, k)
        heard = self.audio_score(F.relu(self.audio_key(audio)))[:, :, None]  # (B, T, 1, k)
        weights = self.score(torch.tanh(seen + heard)).softmax(2)  # (B, T, H*W, 1)
        picture = (weights * regions).sum(2)  # (B, T, C)
        return self.head(torch.cat([self.audio(audio)[0], self.visual(picture)[0]], -1))


def lstm_baseline(features: DatasetFeatures, seed: int) -> tuple[Scores, Scores]:
    """Validation and test scores of one run."""
    train = features.splits["train"]
    visual, audio = torch.stack(train.visual), torch.stack(train.audio)
    labels = torch.from_numpy(train.segment_labels)  # (N, T)
    set_seed(seed)
    network = AttentionLSTM(*visual.shape[2:], audio_channels=audio.shape[-1], class_count=train.class_count)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, EPOCHS // 2, 0.1)
    best, best_weights = None, network.state_dict()
    for _ in range(EPOCHS):
        network.train()
        for chosen in torch.randperm(len(labels)).split(BATCH):
            logits = network(visual[chosen].float(), audio[chosen])
            loss = F.cross_entropy(logits.flatten(0, 1), labels[chosen].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        validation = scores_of(network, features.splits["validation"])
        if best is None or validation.segment_accuracy > best.segment_accuracy:
            best, best_weights = validation, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_weights)
    assert best is not None
    return best, scores_of(network, features.splits["test"])


@torch.inference_mode()
def scores_of(network: nn.Module, clips: LabelledClips) -> Scores:
    network.eval()
    predicted = network(torch.stack(clips.visual).float(), torch.stack(clips.audio)).argmax(-1)
    return score(predicted.numpy(), clips.segment_labels, clips.class_count)


def ccln(features: DatasetFeatures, seed: int) -> tuple[Scores, Scores]:
    """Validation and test scores of one run with the default settings."""
    train = features.splits["train"]
    shape = train.visual[0].shape
    config = ModelConfig(
        *shape[1:], audio_channels=train.audio[0].shape[-1], class_count=train.class_count, segment_count=shape[0]
    )
    settings = Settings()
    training = replace(settings.training, seed=seed)
    task = SupervisedLocalization(features, settings.loss, training.sound_exchange)
    set_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(CCLN(config), task, training, Path(folder))
    return task.evaluate(fitted.model, "validation").scores, task.evaluate(fitted.model, "test").scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    keep_freed_memory()
    features = load_features(read_dataset(arguments.data), FeatureCache(arguments.cache))
    print("network           seed  validation  test accuracy  background recall  event F1  boundary error")
    networks: dict[str, Callable[[DatasetFeatures, int], tuple[Scores, Scores]]] = {
        "CCLN": ccln,
        "attention + LSTM": lstm_baseline,
    }
    for name, run in networks.items():
        accuracies = []
        for seed in arguments.seeds:
            validation, test = run(features, seed)
            accuracies.append(100 * test.segment_accuracy)
            print(
                f"{name:16}  {seed:4}  {100 * validation.segment_accuracy:8.1f} %  {accuracies[-1]:11.1f} %  "
                f"{100 * test.background_recall:15.1f} %  {100 * test.event_f1:6.1f} %  "
                f"{test.boundary_error_seconds:12.2f} s",
                flush=True,
            )
        spread = f" ± {stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
        print(f"{name}: test accuracy {mean(accuracies):.1f}{spread} over {len(accuracies)} seeds", flush=True)


if __name__ == "__main__":
    main()
