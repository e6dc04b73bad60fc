"""Cross-modality localization as a task: what it trains, on which rows, and which it refuses to evaluate on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ccln.cache import FeatureCache
from ccln.model import MatchingNetwork, Network, NetworkType, Part
from ccln.model.matching import is_findable, matching_loss
from ccln.pipeline.cml.metrics import CmlScores, embed_clips, evaluate_cml, score_queries
from ccln.pipeline.data.clips import SPLITS, AnnotatedClip, Dataset, DatasetError, Split, segment_labels
from ccln.pipeline.data.features import DatasetFeatures, LabelledClips, load_features
from ccln.pipeline.data.published import MATCH_ORDERS, match_order_arrays, read_orders
from ccln.pipeline.train.config import RunConfig
from ccln.pipeline.train.tasks import ClipBatches, surround
from ccln.pipeline.train.trained_rows import refuse_seen_rows


class CrossModalityLocalization:
    """A query in one modality is to be found in the other; every segment of the training clips has a label.

    Its features are those of a data set in the splits of `cml_dataset`, its model a `MatchingNetwork`.
    """

    name = "cml"
    network_type: ClassVar[NetworkType] = MatchingNetwork
    evaluated_type: ClassVar[type[Network]] = MatchingNetwork
    parts: ClassVar[tuple[Part, ...]] = ("wccl",)
    evaluate = staticmethod(evaluate_cml)

    def __init__(self, features: DatasetFeatures, config: RunConfig) -> None:
        self._splits = {split: _averaged(clips) for split, clips in features.splits.items()}
        clips = self._splits["train"]
        self.clips = ClipBatches(clips.visual, clips.audio, event=clips.event, label=clips.labels)
        self._loss = config.loss

    @staticmethod
    def load_features(
        dataset: Dataset,
        cache: FeatureCache,
        specification: str | Mapping[str, Any] | None = None,
        *,
        drop_leaks: bool = False,
        needed: Collection[Split] = SPLITS,
    ) -> DatasetFeatures:
        """Features of the data set in the splits of `cml_dataset`, with whose errors."""
        return load_features(cml_dataset(dataset, needed), cache, specification, drop_leaks=drop_leaks, needed=needed)

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """The batch with all full events surrounded."""
        return surround(batch, 1.0, random)

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """`matching_loss`."""
        output = model(batch["visual"], batch["audio"], batch["event"])
        return matching_loss(output, batch["event"], batch["label"], self._loss, warmth)

    def scores(self, network: nn.Module, split: Split) -> CmlScores:
        """Scores in both directions on the clips of a split that have something to find."""
        return score_queries(embed_clips(network, self._splits[split]))

    @staticmethod
    def count_trained(trained: Collection[str] | None, clips: LabelledClips) -> int:
        """Zero: of the clips that have something to find, one that was trained on is refused (`refuse_seen_rows`)."""
        rows = is_findable(clips.event).nonzero().flatten().tolist()
        refuse_seen_rows(trained, [clips.clips[row] for row in rows], [clips.keys[row] for row in rows])
        return 0


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


def cml_dataset(dataset: Dataset, needed: Collection[Split] = SPLITS) -> Dataset:
    """The data set in the splits of cross-modality localization.

    An AVE folder that has train_order_match.h5, val_order_match.h5 and test_order_match.h5 has exactly the splits that
    they name, which are not those of localization. Any other data set keeps its splits; of validation and test only the
    clips stay whose event is shorter than the clip, for in the others there is nothing to find.

    Args:
        dataset: As it was read.
        needed: The splits that must have clips; of these validation and test must have something to find.

    Raises:
        DatasetError: Only some of the files are there, one is of another data set, or validation or test is needed and
            has no clip with something to find.
        CacheError: One of the files is malformed.
    """
    placed = _published(dataset)
    if placed is None:
        placed = _restricted(dataset)
    for split in ("validation", "test"):
        if split in needed and not is_findable(torch.from_numpy(_event(dataset, placed[split]))).any():
            raise DatasetError(
                f"{dataset.source}: no clip of the {split} split has one event shorter than the clip, so there is "
                "nothing to find in the other modality. Put some into it"
            )
    clips = tuple(replace(clip, split=split) for split in SPLITS for clip in placed[split])
    return replace(dataset, clips=clips)


def _published(dataset: Dataset) -> dict[Split, list[AnnotatedClip]] | None:
    """The clips that the order files name; None where there are no such files."""
    folder = dataset.source
    if not any((folder / name).exists() for name in MATCH_ORDERS.values()):
        return None
    clip_at = {clip.row: clip for clip in dataset.clips if clip.row is not None}
    orders = read_orders(folder, MATCH_ORDERS, max(clip_at, default=-1) + 1)
    placed: dict[Split, list[AnnotatedClip]] = {}
    for split, name in MATCH_ORDERS.items():
        if name not in orders:
            raise DatasetError(
                f"{folder / name} is missing, {', '.join(orders)} is there. Take all three from one publication, or "
                "remove them"
            )
        rows = orders[name].tolist()
        lacking = next((row for row in rows if row not in clip_at), None)
        if lacking is not None:
            raise DatasetError(
                f"{folder / name} names row {lacking}, which is in no split of the text files. Take all files from "
                "one publication"
            )
        placed[split] = [clip_at[row] for row in rows]
    return placed


def _restricted(dataset: Dataset) -> dict[Split, list[AnnotatedClip]]:
    rows: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for row, clip in enumerate(dataset.clips):
        rows[clip.split].append(row)
    orders = match_order_arrays(rows, _event(dataset, dataset.clips))
    return {split: [dataset.clips[row] for row in orders[name].tolist()] for split, name in MATCH_ORDERS.items()}


def _event(dataset: Dataset, clips: Sequence[AnnotatedClip]) -> np.ndarray:
    """float32 (clip, segment): 1 in event segments."""
    return (segment_labels(clips, dataset.class_names) != len(dataset.class_names)).astype(np.float32)
