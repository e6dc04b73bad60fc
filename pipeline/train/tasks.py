"""Localization as a task of the training loop: with a label for every segment, and with one for the clip."""

import logging
from collections.abc import Collection, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ccln.cache import FeatureCache, Features
from ccln.model import CCLN, PARTS, EventDecoding, LossConfig, NetworkType, Output, Part, supervised_loss, weak_loss
from ccln.pipeline.data.ave import BACKGROUND_SET
from ccln.pipeline.data.clips import Dataset, Split
from ccln.pipeline.data.features import DatasetFeatures, LabelledClips, background_features
from ccln.pipeline.metrics.calibration import DecodingScores, choose_decoding, score_decoding
from ccln.pipeline.metrics.evaluation import Evaluation
from ccln.pipeline.metrics.localization import PredictedClips, SegmentDetails, evaluate, evaluate_localization
from ccln.pipeline.metrics.segments import Scores
from ccln.pipeline.train.augmentation import exchange_sounds, surrounded
from ccln.pipeline.train.batches import ClipBatches
from ccln.pipeline.train.config import Settings, TrainingConfig
from ccln.pipeline.train.trained_rows import seen_rows

log = logging.getLogger(__name__)


class _Localization:
    """What both tasks have in common: the network, the splits, and that it is tested segment by segment."""

    network_type: ClassVar[NetworkType] = CCLN
    parts: ClassVar[tuple[Part, ...]] = PARTS
    _features: DatasetFeatures

    @staticmethod
    def arranged(dataset: Dataset) -> Dataset:
        """The data set as it is."""
        return dataset

    def evaluate(self, network: nn.Module, split: Split) -> Scores:
        """Score segment by segment."""
        return evaluate(network, self._features.splits[split])

    @staticmethod
    def seen(trained: Collection[str] | None, clips: LabelledClips) -> int | None:
        """How many of the clips were trained on; none is refused, for a score on training rows has its uses."""
        return None if trained is None else len(seen_rows(trained, clips.clips, clips.keys))

    @staticmethod
    def evaluation(network: nn.Module, features: DatasetFeatures, split: Split) -> Evaluation:
        """`evaluate_localization`."""
        return evaluate_localization(network, features, split)

    @staticmethod
    def chosen_decoding(validation: Evaluation) -> EventDecoding:
        """`choose_decoding`."""
        predicted = _predicted(validation)
        return choose_decoding(predicted.predictions, predicted.truth)

    @staticmethod
    def score_decoding(evaluation: Evaluation, decoding: EventDecoding) -> DecodingScores:
        """`score_decoding`."""
        predicted = _predicted(evaluation)
        return score_decoding(predicted.predictions, predicted.truth, decoding)


class SupervisedLocalization(_Localization):
    """Every segment of the training clips has a label."""

    name = "supervised"

    def __init__(self, features: DatasetFeatures, loss: LossConfig, training: TrainingConfig) -> None:
        clips = features.splits["train"]
        self.clips = ClipBatches(clips.visual, clips.audio, event=clips.event, label=clips.labels)
        self._features, self._loss, self._training = features, loss, training

    @classmethod
    def prepared(cls, dataset: Dataset, cache: FeatureCache, features: DatasetFeatures, settings: Settings) -> Self:
        """The task on these features."""
        del dataset, cache
        return cls(features, settings.loss, settings.training)

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """The batch with sounds exchanged between full events of one class, and some of these surrounded."""
        share = self._training.sound_exchange
        audio = exchange_sounds(batch["audio"], batch["event"], batch["label"], share, random)
        return surrounded({**batch, "audio": audio}, self._training.surrounding, random)

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """`supervised_loss`, and what the gates let through."""
        output = model(batch["visual"].float(), batch["audio"])
        return supervised_loss(output, batch["event"], batch["label"], self._loss, warmth) | _gates(output)


class WeakLocalization(_Localization):
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

    @classmethod
    def prepared(cls, dataset: Dataset, cache: FeatureCache, features: DatasetFeatures, settings: Settings) -> Self:
        """The task on these features and on those of the background-only clips; what lacks goes to the log."""
        present, lacking = background_features(dataset, cache, features.alike)
        if lacking:
            log.warning(
                "%d of %d background-only clips of %s have no features and are left out (%s, ...)",
                *(len(lacking), len(lacking) + len(present), dataset.source / BACKGROUND_SET, lacking[0]),
            )
        elif present:
            log.info("%s: %d background-only clips", dataset.source, len(present))
        return cls(features, settings.loss, present)

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """The batch as it is."""
        del random
        return batch

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """`weak_loss`, and what the gates let through."""
        output = model(batch["visual"].float(), batch["audio"])
        return weak_loss(output, batch["label"], self._loss, warmth) | _gates(output)


def _predicted(evaluation: Evaluation) -> PredictedClips:
    assert isinstance(evaluation.details, SegmentDetails)
    assert evaluation.details.predicted is not None
    return evaluation.details.predicted


def _gates(output: Output) -> dict[str, Tensor]:
    gates = {"gate/sbi": torch.stack([one.gate.mean() for one in output.members]).mean()}
    foreground = [one.foreground_logits for one in output.members if one.foreground_logits is not None]
    if foreground:  # there is an FEE
        gates["gate/fee"] = torch.stack(foreground).sigmoid().mean()
    return gates
