"""All that a run can be for, and what training and evaluation ask of it."""

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, Protocol, Self

from torch import nn

from ccln.cache import FeatureCache
from ccln.model import EventDecoding, NetworkType, Part
from ccln.pipeline.cml.task import CrossModalityLocalization
from ccln.pipeline.data.clips import Dataset, Split
from ccln.pipeline.data.features import DatasetFeatures, LabelledClips
from ccln.pipeline.metrics.calibration import DecodingScores
from ccln.pipeline.metrics.evaluation import Evaluation, TaskScores
from ccln.pipeline.train.config import Settings
from ccln.pipeline.train.loop import Task
from ccln.pipeline.train.tasks import SupervisedLocalization, WeakLocalization

TaskName = Literal["supervised", "weak", "cml"]


class TrainableTask(Task, Protocol):
    """A task of the training loop with its network, its rows, and its way of telling how good it got."""

    network_type: ClassVar[NetworkType]
    """Of what it trains and scores."""
    parts: ClassVar[tuple[Part, ...]]
    """Of that network, those which can be left out."""

    @staticmethod
    def arranged(dataset: Dataset) -> Dataset:
        """The data set in the splits of this task.

        Raises:
            DatasetError: it cannot serve this task.
        """
        ...

    @classmethod
    def prepared(cls, dataset: Dataset, cache: FeatureCache, features: DatasetFeatures, settings: Settings) -> Self:
        """The task on the features of a data set.

        Args:
            dataset: in the splits of this task.
            cache: that the features are from.
            features: of its rows.
            settings: of the run.
        """
        ...

    def evaluate(self, network: nn.Module, split: Split) -> TaskScores:
        """Score a network on a split."""
        ...

    @staticmethod
    def seen(trained: Collection[str] | None, clips: LabelledClips) -> int | None:
        """How many of the clips that are scored a network has been trained on; None where that is not known.

        Args:
            trained: fingerprints of the rows that it was trained on; None if it is not known which they are.
            clips: to score.

        Raises:
            SeenRowsError: it may not be scored on them for this task.
        """
        ...

    @staticmethod
    def evaluation(network: nn.Module, features: DatasetFeatures, split: Split) -> Evaluation:
        """Score a network on a split of a data set in the splits of this task, and say what to read that against."""
        ...

    @staticmethod
    def chosen_decoding(validation: Evaluation) -> EventDecoding:
        """How the network's answers become events, chosen on validation."""
        ...

    @staticmethod
    def score_decoding(evaluation: Evaluation, decoding: EventDecoding) -> DecodingScores | None:
        """What that makes of a split; None where the task has no events to read."""
        ...


TASKS: Mapping[str, type[TrainableTask]] = {
    task.name: task for task in (SupervisedLocalization, WeakLocalization, CrossModalityLocalization)
}
"""By the names in `TaskName`."""
