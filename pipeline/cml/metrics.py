"""Scores of cross-modality localization, its baselines, and its evaluation on a split.

A query is a clip's event in one modality, cut out: its audio is looked for in the visual stream (A2V), its visual
stream in the audio (V2A). Its length is known, its place is not; a query is found if its start is right to the second.
"""

from dataclasses import asdict, astuple, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ccln.model.matching import is_findable, window_distances
from ccln.pipeline.data.clips import AnnotatedClip, Split
from ccln.pipeline.data.features import DatasetFeatures, LabelledClips
from ccln.pipeline.metrics.evaluation import Column, Evaluation, aligned, ratio, without_nan

_TIE_DECIMALS = 5  # sums of distances that only rounding tells apart are equal
_SHUFFLES = 100
SHUFFLED = "searched seconds shuffled"


@dataclass(frozen=True)
class CmlScores:
    """Shares of queries found to the second; NaN where there is none to find."""

    a2v: float
    """Of audio queries, found in the visual stream."""
    v2a: float
    """Of visual queries, found in the audio."""
    clips: int
    """Number of clips that count: those with one unbroken event, shorter than the clip."""

    columns: ClassVar[tuple[Column, ...]] = (
        Column("a2v", "A2V", over_seeds=True, headline=True),
        Column("v2a", "V2A", over_seeds=True, headline=True),
    )
    selected_on: ClassVar[str] = "mean of A2V and V2A"

    @property
    def selection(self) -> float:
        """The mean of both directions."""
        return (self.a2v + self.v2a) / 2

    def as_dict(self) -> dict[str, float | int | None]:
        """The scores by name, fit for JSON: None instead of NaN."""
        return without_nan(self)


@dataclass(frozen=True, eq=False)
class EmbeddedClips:
    """The clips of a split that have something to find, each second of either modality embedded on its own."""

    audio: Tensor
    """Unit vectors (clip, segment, embedding)."""
    visual: Tensor
    """Unit vectors (clip, segment, embedding)."""
    event: Tensor
    """float32 (clip, segment): 1 in event segments."""

    def __len__(self) -> int:
        return len(self.event)


@torch.inference_mode()
def embed_clips(network: nn.Module, clips: LabelledClips, batch_size: int = 64) -> EmbeddedClips:
    """Run a network of the task over the clips that `is_findable` names, in evaluation mode, on the device it is on.

    No query has to be cut out first: the network embeds each second without regard to any other.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    event = clips.event
    rows = is_findable(event).nonzero().squeeze(1)
    audios, visuals = [], []
    for some in rows.split(batch_size) if len(rows) else ():
        visual = torch.stack([clips.visual[row] for row in some.tolist()]).to(device).float()  # (B, T, H, W, C)
        audio = torch.stack([clips.audio[row] for row in some.tolist()]).to(device)  # (B, T, D)
        output = network(visual, audio)
        audios.append(output.audio.float().cpu())
        visuals.append(output.visual.float().cpu())
    network.train(was_training)
    nothing = torch.empty(0, event.shape[1], 1)
    return EmbeddedClips(torch.cat(audios or [nothing]), torch.cat(visuals or [nothing]), event[rows])


def score_queries(clips: EmbeddedClips, searched: EmbeddedClips | None = None) -> CmlScores:
    """Compare each query with every window of its length.

    The predicted start is that of the window with the smallest sum of distances. Of windows with sums equal to five
    decimals the earliest is taken.

    Args:
        clips: that the queries are cut out of.
        searched: the same clips, in which they are looked for; if None, as they are in `clips`.
    """
    searched = clips if searched is None else searched
    starts = clips.event.argmax(1).numpy()
    a2v = found_starts(clips.audio, searched.visual, clips.event) == starts
    v2a = found_starts(clips.visual, searched.audio, clips.event) == starts
    return CmlScores(ratio(a2v.sum(), len(clips)), ratio(v2a.sum(), len(clips)), len(clips))


def score_shuffled(clips: EmbeddedClips) -> CmlScores:
    """Score with the seconds of the searched modality in random order: what is still found is found by position alone.

    The mean over a hundred orders of every clip, always the same. As each second is embedded on its own, to shuffle the
    embeddings is to shuffle the clip.
    """
    random = torch.Generator().manual_seed(0)
    scores = []
    for _ in range(_SHUFFLES):
        order = torch.rand(clips.event.shape, generator=random).argsort(1)[..., None]  # (clip, segment, 1)
        audio, visual = (torch.take_along_dim(x, order, 1) for x in (clips.audio, clips.visual))
        scores.append(score_queries(clips, EmbeddedClips(audio, visual, clips.event)))
    return CmlScores(
        float(np.mean([score.a2v for score in scores])), float(np.mean([score.v2a for score in scores])), len(clips)
    )


def predicted_starts(distances: np.ndarray) -> np.ndarray:
    """Where a query starts, by the smallest of the sums (clip, start); the earliest of equals. int64 (clip,)."""
    return distances.round(_TIE_DECIMALS).argmin(axis=1)


def found_starts(queries: Tensor, searched: Tensor, event: Tensor) -> np.ndarray:
    """The predicted starts of the queries, int64 (clip,).

    Args:
        queries: Unit vectors (clip, segment, embedding) of the query's modality.
        searched: The same of the other modality.
        event: 1 in event segments (clip, segment).
    """
    return predicted_starts(window_distances(queries.double(), searched.double(), event).numpy())


def cml_baselines(train_event: Tensor, event: Tensor) -> dict[str, CmlScores]:
    """Scores of trivial baselines, which look at no clip; the same in both directions.

    Args:
        train_event: 1 in event segments of the training clips (clip, segment).
        event: The same of the clips evaluated.

    Returns:
        By name: "random start", what is to be expected of it; "always start 0"; and "most frequent start for the
        length", among the training clips with something to find whose event is as long (the earliest of equals; 0 for
        a length that training has not).
    """
    trained, scored = (of[is_findable(of)] for of in (train_event, event))
    segments = event.shape[1]
    starts, lengths = scored.argmax(1), scored.sum(1).long()
    counts = torch.zeros(segments + 1, segments, dtype=torch.long)  # (length, start)
    counts.index_put_(
        (trained.sum(1).long(), trained.argmax(1)), torch.ones(len(trained), dtype=torch.long), accumulate=True
    )
    hits = {
        "random start": 1 / (segments + 1 - lengths).double(),
        "always start 0": (starts == 0).double(),
        "most frequent start for the length": (counts.argmax(1)[lengths] == starts).double(),
    }
    shares = {name: float(hit.mean()) for name, hit in hits.items()}  # of none: NaN
    return {name: CmlScores(share, share, len(scored)) for name, share in shares.items()}


@dataclass(frozen=True, eq=False)
class FoundStarts:
    """Where the queries of a split were found, beside the truth. Segments last one second: positions are seconds."""

    clips: tuple[AnnotatedClip, ...]
    """Those with something to find."""
    starts: np.ndarray
    """int64 (clip,): where the event starts."""
    lengths: np.ndarray
    """int64 (clip,): of the event, in seconds."""
    a2v: np.ndarray
    """int64 (clip,): where the event's audio was found in the visual stream."""
    v2a: np.ndarray
    """int64 (clip,): where the event's visual stream was found in the audio."""


@dataclass(frozen=True)
class ClassHits:
    """How many of one class's queries were found."""

    rows: int
    """Clips of this class that have something to find."""
    a2v: int
    """How many of their audio queries were found in the visual stream."""
    v2a: int
    """How many of their visual queries were found in the audio."""


@dataclass(frozen=True)
class CmlDetails:
    """The classes one by one."""

    class_names: tuple[str, ...]
    """In label order."""
    classes: tuple[ClassHits, ...]
    """Of each."""
    found: FoundStarts = field(compare=False)  # arrays are neither equal nor not
    """Clip by clip."""

    format: ClassVar[tuple[str, int]] = ("ccln-cml-evaluation", 2)

    def as_dict(self) -> dict[str, Any]:
        """Entries of the report: `classes`, a list in label order with `name` and the fields of `ClassHits`."""
        return {
            "classes": [
                {"name": name, **asdict(hits)} for name, hits in zip(self.class_names, self.classes, strict=True)
            ]
        }

    def tables(self) -> list[str]:
        """The classes from the worst found on."""
        totals = [str(sum(column)) for column in zip(*map(astuple, self.classes), strict=True)]
        return [aligned([["class", "rows", "A2V found", "V2A found"], *self.worst_first(), ["all", *totals]])]

    def worst_first(self) -> list[list[str]]:
        """Name and hits of each class that has something to find, from the worst found on, as rows of a table."""
        named = [pair for pair in zip(self.class_names, self.classes, strict=True) if pair[1].rows]
        named.sort(key=lambda pair: (pair[1].a2v + pair[1].v2a) / pair[1].rows)
        return [[name, *map(str, astuple(hits))] for name, hits in named]


def evaluate_cml(network: nn.Module, features: DatasetFeatures, split: Split) -> Evaluation:
    """Evaluate a network of the task on the clips of a split that have something to find.

    Args:
        network: a `MatchingNetwork`.
        features: of a data set in the splits of `cml_dataset`.
        split: to evaluate; the training split is what the baselines know.
    """
    clips = features.splits[split]
    embedded = embed_clips(network, clips)
    rows = is_findable(clips.event).numpy().nonzero()[0]
    labels, event = clips.class_labels[rows], embedded.event
    predicted = FoundStarts(
        clips=tuple(clips.clips[row] for row in rows),
        starts=event.argmax(1).numpy(),
        lengths=event.sum(1).long().numpy(),
        a2v=found_starts(embedded.audio, embedded.visual, event),
        v2a=found_starts(embedded.visual, embedded.audio, event),
    )
    hits = (np.ones(len(labels)), predicted.a2v == predicted.starts, predicted.v2a == predicted.starts)
    counts = [np.bincount(labels, hit, clips.class_count).astype(int).tolist() for hit in hits]  # each (class,)
    return Evaluation(
        scores=score_queries(embedded),
        ablated={SHUFFLED: score_shuffled(embedded)},
        baselines=cml_baselines(features.splits["train"].event, clips.event),
        details=CmlDetails(features.class_names, tuple(map(ClassHits, *counts)), predicted),
    )
