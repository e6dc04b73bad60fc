"""Cross-modality localization as a task: what it trains, on which rows, and which it refuses to score."""

from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ccln.cache import FeatureCache
from ccln.model import EventDecoding, LossConfig, MatchingNetwork, NetworkType, Part
from ccln.model.matching import is_findable, matching_loss
from ccln.pipeline.cml.metrics import CmlScores, embed_clips, evaluate_cml, score_queries
from ccln.pipeline.cml.rows import matching_dataset
from ccln.pipeline.data.clips import Dataset, Split
from ccln.pipeline.data.features import DatasetFeatures, LabelledClips
from ccln.pipeline.metrics.evaluation import Evaluation
from ccln.pipeline.train.augmentation import surrounded
from ccln.pipeline.train.batches import ClipBatches
from ccln.pipeline.train.config import Settings
from ccln.pipeline.train.trained_rows import refuse_seen_rows


class CrossModalityLocalization:
    """A query in one modality is to be found in the other; every segment of the training clips has a label.

    Its features are those of a data set in the splits of `matching_dataset`, its model a `MatchingNetwork`.
    """

    name = "cml"
    network_type: ClassVar[NetworkType] = MatchingNetwork
    parts: ClassVar[tuple[Part, ...]] = ("wccl",)

    def __init__(self, features: DatasetFeatures, loss: LossConfig) -> None:
        self._splits = {split: _averaged(clips) for split, clips in features.splits.items()}
        clips = self._splits["train"]
        self.clips = ClipBatches(clips.visual, clips.audio, event=clips.event, label=clips.labels)
        self._loss = loss

    @staticmethod
    def arranged(dataset: Dataset) -> Dataset:
        """`matching_dataset`."""
        return matching_dataset(dataset)

    @classmethod
    def prepared(cls, dataset: Dataset, cache: FeatureCache, features: DatasetFeatures, settings: Settings) -> Self:
        """The task on these features."""
        del dataset, cache
        return cls(features, settings.loss)

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """The batch with `surrounded` events."""
        return surrounded(batch, 1.0, random)

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """`matching_loss`."""
        output = model(batch["visual"], batch["audio"], batch["event"])
        return matching_loss(output, batch["event"], batch["label"], self._loss, warmth)

    def evaluate(self, network: nn.Module, split: Split) -> CmlScores:
        """Score both directions on the clips of a split that have something to find."""
        return score_queries(embed_clips(network, self._splits[split]))

    @staticmethod
    def seen(trained: Collection[str] | None, clips: LabelledClips) -> int:
        """`refuse_seen_rows`, of the clips that have something to find: what is not refused is none."""
        rows = is_findable(clips.event).nonzero().flatten().tolist()
        refuse_seen_rows(trained, [clips.clips[row] for row in rows], [clips.keys[row] for row in rows])
        return 0

    @staticmethod
    def evaluation(network: nn.Module, features: DatasetFeatures, split: Split) -> Evaluation:
        """`evaluate_cml`."""
        return evaluate_cml(network, features, split)

    @staticmethod
    def chosen_decoding(validation: Evaluation) -> EventDecoding:
        """The default: there are no events to read."""
        del validation
        return EventDecoding()

    @staticmethod
    def score_decoding(evaluation: Evaluation, decoding: EventDecoding) -> None:
        """Nothing."""
        del evaluation, decoding


def _averaged(clips: LabelledClips) -> LabelledClips:
    """The same clips, of each map its mean, float32 (segment, 1, 1, channel).

    The network reads nothing else of a map: to take it once makes a batch fifty times smaller.
    """
    segments, _, _, channels = clips.visual[0].shape
    # In one piece: means kept one by one lie between the maps they were taken of, and the heap cannot be given back.
    averages = torch.empty(len(clips), segments, 1, 1, channels)
    for average, visual in zip(averages, clips.visual, strict=True):
        average.copy_(visual.float().mean((1, 2), keepdim=True))
    return replace(clips, visual=tuple(averages))
