"""What a network is trained for: the batches, losses and scores of a task, and localization as a task.

Localization is trained with a label for every segment (supervised) or with one for the clip (weak), and evaluated
segment by segment either way.
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import data

from ccln.cache import FeatureCache
from ccln.model import CCLN, PARTS, LocalizationNetwork, Network, NetworkType, Output, Part, supervised_loss, weak_loss
from ccln.model.matching import is_findable
from ccln.pipeline.data.ave import BACKGROUND_SET
from ccln.pipeline.data.clips import SPLITS, Dataset, Split
from ccln.pipeline.data.features import DatasetFeatures, LabelledClips, background_features, load_features
from ccln.pipeline.metrics.calibration import choose_event_shift
from ccln.pipeline.metrics.evaluation import Evaluation, Selectable
from ccln.pipeline.metrics.localization import evaluate, evaluate_localization
from ccln.pipeline.metrics.segments import Scores
from ccln.pipeline.train.config import RunConfig
from ccln.pipeline.train.trained_rows import seen_rows

log = logging.getLogger(__name__)

_MEMORY_SHARE = 0.5  # of what is free; the rest is for the network, its activations, and others


class ClipBatches(data.Dataset):
    """Training clips as a loader takes them, whole batches; what is not in here of the clips cannot leak.

    Features stay in half precision. If they fit into memory they are read once, else each batch is read from the
    memory-mapped files.

    Args:
        visual: of each clip float16 (segment, height, width, channel).
        audio: of each clip float32 (segment, channel).
        labels: by name, what is known of the clips, each (clip, ...).
    """

    def __init__(self, visual: Sequence[Tensor], audio: Sequence[Tensor], **labels: Tensor) -> None:
        self.labels: Mapping[str, Tensor] = labels
        """What is known of the clips, by name."""
        size = sum(tensor.nbytes for tensor in (*visual, *audio))
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # each of those on this machine holds all clips
        fits = processes * size <= _MEMORY_SHARE * psutil.virtual_memory().available
        self._features: dict[str, Tensor | Sequence[Tensor]] = {
            name: torch.stack(tuple(tensors)) if fits else tensors
            for name, tensors in (("visual", visual), ("audio", audio))
        }

    def __len__(self) -> int:
        return len(self._features["audio"])

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """A batch: visual float16 (batch, segment, height, width, channel), audio (batch, segment, channel), labels."""
        chosen = torch.tensor(indices)
        features = {
            name: tensors.index_select(0, chosen)
            if isinstance(tensors, Tensor)
            else torch.stack([tensors[index] for index in indices])
            for name, tensors in self._features.items()
        }
        return features | {name: values[chosen] for name, values in self.labels.items()}


class Task(Protocol):
    """What the training loop needs to know."""

    name: str
    """As in `--task`."""
    clips: ClipBatches
    """To train on."""

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """A batch of `clips` with such changes as keep its labels true; still on the CPU."""
        ...

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """Scalars of a batch on the model's device.

        "total" is what is minimised. A name with a slash ("gate/fee") is no loss, only to be watched.

        Args:
            model: in training mode.
            batch: from `augmented`.
            warmth: from 0, at the first step, to 1, at the end of the warm-up.
        """
        ...

    def scores(self, network: nn.Module, split: Split) -> Selectable:
        """Scores of a network on a split."""
        ...


class DatasetTask(Task, Protocol):
    """A task on the features of a data set, and all that training and evaluating a network for it takes."""

    network_type: ClassVar[NetworkType]
    """Of what it trains."""
    evaluated_type: ClassVar[type[Network]]
    """Of what it evaluates, that among others."""
    parts: ClassVar[tuple[Part, ...]]
    """Of that network, those which can be left out."""

    def __init__(self, features: DatasetFeatures, config: RunConfig) -> None: ...

    @staticmethod
    def load_features(
        dataset: Dataset,
        cache: FeatureCache,
        specification: str | Mapping[str, Any] | None = None,
        *,
        drop_leaks: bool = False,
        needed: Collection[Split] = SPLITS,
    ) -> DatasetFeatures:
        """Features of a data set in the splits of this task; arguments and errors as of `load_features`."""
        ...

    @staticmethod
    def evaluate(network: nn.Module, features: DatasetFeatures, split: Split) -> Evaluation:
        """Scores of a network on a split, and what they have to be compared with."""
        ...

    @staticmethod
    def count_trained(trained: Collection[str] | None, clips: LabelledClips) -> int | None:
        """How many of the clips to evaluate on a network has been trained on; None where that is not known.

        Args:
            trained: fingerprints of the rows that it was trained on; None if it is not known which they are.
            clips: of the split.

        Raises:
            SeenRowsError: this task may not be evaluated on them.
        """
        ...


class _Localization:
    """What both ways of training for localization have in common."""

    network_type: ClassVar[NetworkType] = CCLN
    evaluated_type: ClassVar[type[Network]] = LocalizationNetwork
    parts: ClassVar[tuple[Part, ...]] = PARTS
    load_features = staticmethod(load_features)
    evaluate = staticmethod(evaluate_localization)

    def __init__(self, features: DatasetFeatures, config: RunConfig) -> None:
        self._splits, self._config = features.splits, config

    def scores(self, network: nn.Module, split: Split) -> Scores:
        """Scores segment by segment; those on validation choose the network's event shift first."""
        clips = self._splits[split]
        if split == "validation" and isinstance(network, LocalizationNetwork):
            choose_event_shift(network, clips)
        return evaluate(network, clips)

    @staticmethod
    def count_trained(trained: Collection[str] | None, clips: LabelledClips) -> int | None:
        """How many of the clips were trained on; none is refused, for scores on training rows have their uses."""
        return None if trained is None else len(seen_rows(trained, clips.clips, clips.keys))


class SupervisedLocalization(_Localization):
    """Every segment of the training clips has a label."""

    name = "supervised"

    def __init__(self, features: DatasetFeatures, config: RunConfig) -> None:
        super().__init__(features, config)
        clips = features.splits["train"]
        self.clips = ClipBatches(
            clips.visual, clips.audio, event=clips.event, label=clips.labels, classes=clips.classes
        )

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """The batch with audio exchanged between full events of a class, some surrounded, and foreign audio laid in."""
        training = self._config.training
        of_label = batch["event"] * (batch["classes"] == batch["label"][:, None])
        audio = exchange_audio(batch["audio"], of_label, batch["label"], training.audio_exchange, random)
        batch = surround({**batch, "audio": audio}, training.surrounding, random)
        batch = mismatch(batch, training.mismatch, random)
        return {**batch, "label": main_classes(batch["event"], batch["classes"])}

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """`supervised_loss`, and how open the gates are."""
        output = model(batch["visual"].float(), batch["audio"])
        losses = supervised_loss(
            output, batch["event"], batch["label"], self._config.loss, warmth, classes=batch["classes"]
        )
        return losses | _gates(output)


class WeakLocalization(_Localization):
    """Training clips have a class, or are known to be background throughout; nothing is known of their segments.

    The validation split's segment labels choose the epoch, as the field does in this task; no gradient sees them.
    """

    name = "weak"

    def __init__(self, features: DatasetFeatures, config: RunConfig) -> None:
        super().__init__(features, config)
        clips, background = features.splits["train"], features.background
        named = torch.from_numpy(clips.class_labels)  # what the row names, whatever its times are
        labels = torch.where(named < clips.class_count, named, -1)
        self.clips = ClipBatches(
            [*clips.visual, *(entry.visual for entry in background)],
            [*clips.audio, *(entry.audio for entry in background)],
            label=torch.cat([labels, torch.full((len(background),), -1)]),
        )

    @staticmethod
    def load_features(
        dataset: Dataset,
        cache: FeatureCache,
        specification: str | Mapping[str, Any] | None = None,
        *,
        drop_leaks: bool = False,
        needed: Collection[Split] = SPLITS,
    ) -> DatasetFeatures:
        """Those of the rows and of the background-only clips; what is missing goes to the log."""
        features = load_features(dataset, cache, specification, drop_leaks=drop_leaks, needed=needed)
        present, missing = background_features(dataset, cache, features.alike)
        if missing:
            log.warning(
                "%d of %d background-only clips of %s have no features and are left out (%s, ...)",
                *(len(missing), len(missing) + len(present), dataset.source / BACKGROUND_SET, missing[0]),
            )
        elif present:
            log.info("%s: %d background-only clips", dataset.source, len(present))
        return replace(features, background=tuple(present))

    def augmented(self, batch: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """The batch as it is."""
        del random
        return batch

    def losses(self, model: nn.Module, batch: dict[str, Tensor], warmth: float) -> dict[str, Tensor]:
        """`weak_loss`, and how open the gates are."""
        output = model(batch["visual"].float(), batch["audio"])
        return weak_loss(output, batch["label"], self._config.loss, warmth) | _gates(output)


def _gates(output: Output) -> dict[str, Tensor]:
    """What SBI's and FEE's gates let through on average, for the log."""
    gates = {"gate/sbi": torch.stack([one.gate.mean() for one in output.members]).mean()}
    foreground = [one.foreground_logits for one in output.members if one.foreground_logits is not None]
    if foreground:  # there is an FEE
        gates["gate/fee"] = torch.stack(foreground).sigmoid().mean()
    return gates


def main_classes(event: Tensor, classes: Tensor) -> Tensor:
    """The class of most event segments of each clip, of equals the first, int64 (batch,); -1 where there is no event.

    Args:
        event: (batch, segment), 1 in event segments.
        classes: int64 (batch, segment), the class of each event segment.
    """
    counts = (functional.one_hot(classes) * event[..., None]).sum(1)  # (B, n)
    return torch.where(event.any(1), counts.argmax(1), -1)


def exchange_audio(audio: Tensor, event: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Let clips that are event from start to end exchange their whole audio with others of their class in the batch.

    Where every second of two clips is an event of the same class, the frames of one with the audio of the other are
    again that class seen and heard in every second. So the labels stay true, and no frames can be recognised by the one
    audio that they came with. Our own addition; the paper's abstract does not mention augmentation.

    Args:
        audio: (batch, segment, channel).
        event: (batch, segment), 1 in event segments.
        labels: class of each clip (batch,); -1 for a clip without any event.
        share: probability that such a clip takes the audio of a random one of its kind (perhaps its own), 0..1.
        generator: of the random choices, on the CPU as all tensors here.

    Returns:
        New audio of the same shape.
    """
    batch = len(labels)
    full = event.bool().all(1)  # (B,)
    alike = full[:, None] & full & (labels[:, None] == labels) | torch.eye(batch, dtype=torch.bool)  # (B, B)
    partner = torch.multinomial(alike.float(), 1, generator=generator).squeeze(1)  # (B,)
    takes = torch.rand(batch, generator=generator) < share
    return audio[torch.where(takes, partner, torch.arange(batch))]


def surround(batch: dict[str, Tensor], share: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Put background around events that fill their clip, so that these too begin and end within it.

    Such a clip takes the background seconds, audio and visual, of a random clip of the batch that `is_findable`, and
    so the place and the length of its event. Most of AVE's training clips are one full event (2,547 of 3,339), which
    show nothing of where events begin and end. Our own addition.

    Args:
        batch: visual, audio and event, each (batch, segment, ...), which are written to; other entries are kept.
        share: probability that a full event is surrounded, 0..1.
        generator: of the random choices, on the CPU as all tensors here.

    Returns:
        The batch.
    """
    event = batch["event"]
    lenders = is_findable(event).nonzero().squeeze(1)
    if not len(lenders):
        return batch
    lender = lenders[torch.randint(len(lenders), (len(event),), generator=generator)]  # (B,)
    chosen = event.bool().all(1) & (torch.rand(len(event), generator=generator) < share)  # (B,)
    clips, seconds = (chosen[:, None] & (event[lender] == 0)).nonzero(as_tuple=True)
    for name in ("visual", "audio", "event"):  # the chosen are full events and lenders never are: none is both
        batch[name][clips, seconds] = batch[name][lender[clips], seconds]
    return batch


_LONGEST_MISMATCH = 5
"""Segments: half a clip, so that there is enough left of its own audio."""


def mismatch(batch: dict[str, Tensor], share: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Lay the audio of another class over some seconds of clips: what is seen is not what is heard, so no event.

    In few training clips is an object seen with another's sound, and a network that has not met it takes two good
    halves for a whole. Our own addition.

    Args:
        batch: visual, audio and event, each (batch, segment, ...), and label (batch,), -1 for no event.
        share: probability that a clip gets a span of the same seconds of a clip of another class, 0..1.
        generator: of the random choices, on the CPU as all tensors here.

    Returns:
        The batch with new audio, event and label: -1 where no event is left.
    """
    labels, (clips, segments) = batch["label"], batch["event"].shape
    other = ((labels[:, None] != labels) & (labels >= 0)).float()  # (B, B)
    takes = (torch.rand(clips, generator=generator) < share) & other.any(1)  # (B,)
    lender = torch.multinomial(other + 1e-9, 1, generator=generator).squeeze(1)  # (B,)
    start = torch.randint(segments, (clips,), generator=generator)
    length = torch.randint(1, min(_LONGEST_MISMATCH, segments) + 1, (clips,), generator=generator)
    place = torch.arange(segments)
    laid = takes[:, None] & (place >= start[:, None]) & (place < (start + length)[:, None])  # (B, T)
    event = batch["event"] * ~laid
    return {
        **batch,
        "audio": torch.where(laid[..., None], batch["audio"][lender], batch["audio"]),
        "event": event,
        "label": torch.where(event.any(1), labels, -1),
    }
