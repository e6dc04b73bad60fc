"""How well queries were found in the other modality, and the baselines below which a result says nothing.

A query is a clip's event in one modality, cut out: its sound is looked for in the picture (A2V), its picture in the
sound (V2A). Its length is known, its place is not; found is what is found to the very second.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ccln.model.matching import is_findable, window_distances
from ccln.pipeline.data.features import LabelledClips
from ccln.pipeline.metrics.assessment import Column
from ccln.pipeline.metrics.segments import none_for_nan, ratio

_TIE_DECIMALS = 5  # sums of distances that only rounding tells apart are equal
_SHUFFLES = 100


@dataclass(frozen=True)
class MatchingScores:
    """Shares of queries found to the very second; NaN where there is none to find.

    Attributes:
        a2v: Of sounds, found in the picture.
        v2a: Of pictures, found in the sound.
        clips: Number of clips that count: those with one unbroken event, shorter than the clip.
    """

    a2v: float
    v2a: float
    clips: int

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
        return {name: none_for_nan(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class EmbeddedClips:
    """The clips of a split that have something to find, each second of either modality embedded on its own."""

    heard: Tensor
    """Unit vectors (clip, segment, embedding)."""
    seen: Tensor
    """Unit vectors (clip, segment, embedding)."""
    event: Tensor
    """float32 (clip, segment): 1 in event segments."""

    def __len__(self) -> int:
        return len(self.event)


@torch.inference_mode()
def embed_clips(network: nn.Module, clips: LabelledClips, batch_size: int = 64) -> EmbeddedClips:
    """Run a matching network over the clips that `is_findable` names, in evaluation mode, on the device it is on.

    No query has to be cut out first: the network embeds each second without regard to any other.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    event = clips.event
    rows = is_findable(event).nonzero().squeeze(1)
    heard, seen = [], []
    for some in rows.split(batch_size):  # of no rows: one batch of none
        if not len(some):
            break
        visual = torch.stack([clips.visual[row] for row in some.tolist()]).to(device).float()  # (B, T, H, W, C)
        audio = torch.stack([clips.audio[row] for row in some.tolist()]).to(device)  # (B, T, D)
        output = network(visual, audio)
        heard.append(output.heard.float().cpu())
        seen.append(output.seen.float().cpu())
    network.train(was_training)
    nothing = torch.empty(0, event.shape[1], 1)
    return EmbeddedClips(torch.cat(heard or [nothing]), torch.cat(seen or [nothing]), event[rows])


def score_matching(clips: EmbeddedClips) -> MatchingScores:
    """Lay each query upon every window of its length and say that it starts where the sum of distances is smallest.

    Of windows with sums equal to five decimals the earliest is taken.
    """
    return _score(clips, clips.heard, clips.seen)


def score_shuffled(clips: EmbeddedClips, seed: int = 0) -> MatchingScores:
    """Score with the seconds of the searched modality in random order: what is still found is found by position alone.

    The mean over a hundred orders of every clip. As each second is embedded on its own, to shuffle the embeddings is to
    shuffle the clip.

    Args:
        clips: The clips as they are.
        seed: Of the orders.
    """
    random = torch.Generator().manual_seed(seed)
    scores = []
    for _ in range(_SHUFFLES):
        order = torch.rand(clips.event.shape, generator=random).argsort(1)[..., None]  # (clip, segment, 1)
        heard, seen = (torch.take_along_dim(x, order, 1) for x in (clips.heard, clips.seen))
        scores.append(_score(clips, heard, seen))
    return MatchingScores(
        float(np.mean([score.a2v for score in scores])),
        float(np.mean([score.v2a for score in scores])),
        scores[0].clips,
    )


def predicted_starts(distances: np.ndarray) -> np.ndarray:
    """Where a query starts, by the smallest of the sums (clip, start); the earliest of equals. int64 (clip,)."""
    return distances.round(_TIE_DECIMALS).argmin(axis=1)


def found(queries: Tensor, searched: Tensor, event: Tensor) -> np.ndarray:
    """Which queries are found to the very second, bool (clip,).

    Args:
        queries: Unit vectors (clip, segment, embedding) of the query's modality.
        searched: The same of the other modality.
        event: 1 in event segments (clip, segment).
    """
    return found_starts(queries, searched, event) == event.argmax(1).numpy()


def found_starts(queries: Tensor, searched: Tensor, event: Tensor) -> np.ndarray:
    """Where the queries are said to start, int64 (clip,); arguments as of `found`."""
    return predicted_starts(window_distances(queries.double(), searched.double(), event).numpy())


def _score(clips: EmbeddedClips, heard: Tensor, seen: Tensor) -> MatchingScores:
    """Of the clips' queries, looked for in these."""
    a2v, v2a = found(clips.heard, seen, clips.event), found(clips.seen, heard, clips.event)
    return MatchingScores(ratio(a2v.sum(), len(clips)), ratio(v2a.sum(), len(clips)), len(clips))


def matching_baselines(train_event: Tensor, event: Tensor) -> dict[str, MatchingScores]:
    """Scores of answers that look at no clip; the same in both directions.

    Args:
        train_event: 1 in event segments of the training clips (clip, segment).
        event: The same of the clips to score.

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
    return {name: MatchingScores(share, share, len(scored)) for name, share in shares.items()}
