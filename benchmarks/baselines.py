"""What the baselines have in common: the field's first encoders, how they are scored, and how a table is printed."""

import argparse
import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import TypeVar

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.pipeline.data.features import LabelledClips
from ccln.pipeline.metrics.segments import Scores, score
from ccln.pipeline.train.loop import train_network
from ccln.pipeline.train.run import Experiment

EPOCHS, BATCH, WIDTH = 60, 64, 128
Run = Callable[[int], tuple[Scores, Scores]]
"""Validation and test scores of one run, from its seed."""


class Encoders(nn.Module):
    """Audio-guided attention and an LSTM a modality (Tian et al. 2018)."""

    channels = 4 * WIDTH

    def __init__(self, height: int, width: int, channels: int, audio_channels: int) -> None:
        super().__init__()
        regions = height * width
        self.visual_key, self.audio_key = nn.Linear(channels, channels), nn.Linear(audio_channels, channels)
        self.visual_score = nn.Linear(channels, regions, bias=False)
        self.audio_score = nn.Linear(channels, regions, bias=False)
        self.score = nn.Linear(regions, 1, bias=False)
        self.audio = nn.LSTM(audio_channels, WIDTH, batch_first=True, bidirectional=True)
        self.visual = nn.LSTM(channels, WIDTH, batch_first=True, bidirectional=True)

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """(B, T, H, W, C), (B, T, D) -> both views side by side (B, T, channels)."""
        regions = visual.flatten(2, 3)  # (B, T, H*W, C)
        visual_scores = self.visual_score(F.relu(self.visual_key(regions)))  # (B, T, H*W, k)
        audio_scores = self.audio_score(F.relu(self.audio_key(audio)))[:, :, None]  # (B, T, 1, k)
        weights = self.score(torch.tanh(visual_scores + audio_scores)).softmax(2)  # (B, T, H*W, 1)
        attended = (weights * regions).sum(2)  # (B, T, C)
        return torch.cat([self.audio(audio)[0], self.visual(attended)[0]], -1)


class SegmentClassifier(nn.Module):
    """Each segment classified on its own over the classes and, last of them, background."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        config = experiment.model_config()
        shape = config.visual_height, config.visual_width, config.visual_channels, config.audio_channels
        self.encoders = Encoders(*shape)
        self.head = nn.Sequential(
            nn.Linear(self.encoders.channels, 64), nn.ReLU(), nn.Linear(64, config.class_count + 1)
        )

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """(B, T, H, W, C), (B, T, D) -> logits (B, T, n + 1)."""
        return self.head(self.encoders(visual, audio))


Network = TypeVar("Network", bound=SegmentClassifier)


def baseline_run(
    network: Network, experiment: Experiment, loss: Callable[[Network, dict[str, Tensor]], Tensor]
) -> tuple[Scores, Scores]:
    """Train with the baseline's own schedule: Adam, 1e-3, a tenth of it for the second half.

    Args:
        network: to train.
        experiment: data and task; what the task does to its batches is CCLN's own, and not done here.
        loss: of a batch of the task's clips, visual already float32.

    Returns:
        Validation and test scores of the epoch that is best on validation, the earliest of equals.
    """
    clips, splits = experiment.task.clips, experiment.features.splits
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, EPOCHS // 2, 0.1)
    best, best_weights = None, network.state_dict()
    for _ in range(EPOCHS):
        network.train()
        for chosen in torch.randperm(len(clips)).split(BATCH):
            batch = clips.__getitems__(chosen.tolist())
            optimizer.zero_grad()
            loss(network, batch | {"visual": batch["visual"].float()}).backward()
            optimizer.step()
        schedule.step()
        validation = scores_of(network, splits["validation"])
        if best is None or validation.segment_accuracy > best.segment_accuracy:
            best, best_weights = validation, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_weights)
    assert best is not None
    return best, scores_of(network, splits["test"])


@torch.inference_mode()
def scores_of(network: SegmentClassifier, clips: LabelledClips) -> Scores:
    network.eval()
    predicted = network(torch.stack(clips.visual).float(), torch.stack(clips.audio)).argmax(-1)
    return score(predicted.numpy(), clips.segment_labels, clips.class_count)


def ccln_run(experiment: Experiment, seed: int) -> tuple[Scores, Scores]:
    """Validation and test scores of CCLN, on what `prepare` gave."""
    task, training = experiment.task, replace(experiment.config.training, seed=seed)
    set_seed(seed)
    network = experiment.new_network()
    with tempfile.TemporaryDirectory() as folder:
        trained = train_network(network, task, training, Path(folder))
    validation, test = (task.scores(trained.model, split) for split in ("validation", "test"))
    assert isinstance(validation, Scores)
    assert isinstance(test, Scores)
    return validation, test


def parser(docstring: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--cache", type=Path, required=True)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return made


def print_table(runs: Mapping[str, Run], seeds: list[int]) -> None:
    """Run every network with every seed; a line each, and at last its mean."""
    width = max(map(len, runs))
    print(f"{'network':{width}}  seed  validation  test accuracy  background recall  event F1  boundary error")
    for name, run in runs.items():
        accuracies = []
        for seed in seeds:
            validation, test = run(seed)
            accuracies.append((100 * validation.segment_accuracy, 100 * test.segment_accuracy))
            print(
                f"{name:{width}}  {seed:4}  {accuracies[-1][0]:8.1f} %  {accuracies[-1][1]:11.1f} %  "
                f"{100 * test.background_recall:15.1f} %  {100 * test.event_f1:6.1f} %  "
                f"{test.boundary_error_seconds:12.2f} s",
                flush=True,
            )
        means = [
            f"{split} accuracy {mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
            for split, values in zip(("validation", "test"), zip(*accuracies, strict=True), strict=True)
        ]
        print(f"{name}: {', '.join(means)} over {len(seeds)} seeds", flush=True)
