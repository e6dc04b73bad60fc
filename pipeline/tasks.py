"""Localization as a task of the training loop: with a label for every segment, and with one for the clip."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ccln.cache import Features
from ccln.model import LossConfig, Output, supervised_loss, weak_loss
from ccln.pipeline.augmentation import exchange_sounds
from ccln.pipeline.batches import ClipBatches
from ccln.pipeline.datasets.annotations import Split
from ccln.pipeline.evaluation import evaluate
from ccln.pipeline.features import DatasetFeatures
from ccln.pipeline.metrics import Scores


class SupervisedLocalization:
    """Every segment of the training clips has a label."""

    name = "supervised"

    def __init__(self, features: DatasetFeatures, loss: LossConfig, sound_exchange: float) -> None:
        clips = features.splits["train"]
        self.clips = ClipBatches(clips.visual, clips.audio, event=clips.event, label=clips.labels)
        self._features, self._loss, self._sound_exchange = features, loss, sound_exchange

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """The batch with sounds exchanged between full events of one class."""
        audio = exchange_sounds(batch["audio"], batch["event"], batch["label"], self._sound_exchange, random)
        return {**batch, "audio": audio}

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """`supervised_loss`, and what the gates let through."""
        output = model(batch["visual"].float(), batch["audio"])
        return supervised_loss(output, batch["event"], batch["label"], self._loss, warmth) | _gates(output)

    def evaluate(self, network: nn.Module, split: Split) -> "SegmentScores":
        """Score segment by segment."""
        return SegmentScores(evaluate(network, self._features.splits[split]))


class WeakLocalization:
    """Training clips have a class, or are known to be background throughout; nothing is known of their segments.

    The validation split's segment labels choose the epoch, as the field does in this task; no gradient sees them.
    """

    name = "weak"

    def __init__(self, features: DatasetFeatures, loss: LossConfig, background: Sequence[Features] = ()) -> None:
        clips = features.splits["train"]
        named = torch.from_numpy(clips.class_labels)  # what the row names, whatever its times say
        labels = torch.where(named < clips.class_count, named, -1)
        self.clips = ClipBatches(
            [*clips.visual, *(entry.visual for entry in background)],
            [*clips.audio, *(entry.audio for entry in background)],
            label=torch.cat([labels, torch.full((len(background),), -1)]),
        )
        self._features, self._loss = features, loss

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """The batch as it is."""
        del random
        return batch

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """`weak_loss`, and what the gates let through."""
        output = model(batch["visual"].float(), batch["audio"])
        return weak_loss(output, batch["label"], self._loss, warmth) | _gates(output)

    def evaluate(self, network: nn.Module, split: Split) -> "SegmentScores":
        """Score segment by segment."""
        return SegmentScores(evaluate(network, self._features.splits[split]))


class SegmentScores:
    """Scores of a split, selected by segment accuracy."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores

    @property
    def selection(self) -> float:
        """Segment accuracy."""
        return self.scores.segment_accuracy

    def as_dict(self) -> dict[str, Any]:
        """The scores by name, fit for JSON."""
        return self.scores.as_dict()


def _gates(output: Output) -> dict[str, Tensor]:
    gates = {"gate/sbi": output.gate.mean()}
    if output.foreground_logits is not output.event_logits:  # there is an FEE
        gates["gate/fee"] = output.foreground_logits.sigmoid().mean()
    return gates
