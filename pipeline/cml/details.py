"""Cross-modality localization, assessed: scores, what position alone gives, baselines, and the classes one by one."""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import nn

from ccln.model.matching import is_findable
from ccln.pipeline.cml.metrics import embed_clips, found_starts, matching_baselines, score_matching, score_shuffled
from ccln.pipeline.data.clips import Split
from ccln.pipeline.data.features import DatasetFeatures
from ccln.pipeline.metrics.answers import MatchingAnswers
from ccln.pipeline.metrics.assessment import Assessment
from ccln.pipeline.metrics.tables import aligned

SHUFFLED = "searched seconds shuffled"


@dataclass(frozen=True)
class ClassHits:
    """How many of one class's queries were found.

    Attributes:
        rows: Clips of this class that have something to find.
        a2v: How many of their sounds were found in the picture.
        v2a: How many of their pictures were found in the sound.
    """

    rows: int
    a2v: int
    v2a: int


@dataclass(frozen=True)
class MatchingDetails:
    """The classes one by one."""

    class_names: tuple[str, ...]
    """In label order."""
    classes: tuple[ClassHits, ...]
    """Of each."""
    answers: MatchingAnswers = field(compare=False)  # arrays are neither equal nor not
    """Clip by clip."""

    format: ClassVar[tuple[str, int]] = ("ccln-matching-evaluation", 1)

    def as_dict(self) -> dict[str, Any]:
        """Entries of the report: `classes`, a list in label order with `name` and the fields of `ClassHits`."""
        return {
            "classes": [
                {"name": name, **asdict(hits)} for name, hits in zip(self.class_names, self.classes, strict=True)
            ]
        }

    def tables(self) -> list[str]:
        """The classes from the worst found on, those that have nothing to find left out."""
        named = [pair for pair in zip(self.class_names, self.classes, strict=True) if pair[1].rows]
        named.sort(key=lambda pair: (pair[1].a2v + pair[1].v2a) / pair[1].rows)
        totals = [sum(column) for column in zip(*(asdict(hits).values() for _, hits in named), strict=True)]
        rows = [[name, *map(str, asdict(hits).values())] for name, hits in named]
        return [aligned([["class", "rows", "A2V found", "V2A found"], *rows, ["all", *map(str, totals)]])]


def assess_matching(network: nn.Module, features: DatasetFeatures, split: Split) -> Assessment:
    """Score a matching network on the clips of a split that have something to find.

    Args:
        network: a `MatchingNetwork`.
        features: of a data set in the splits of `matching_dataset`.
        split: to score; the training split is what the baselines know.
    """
    clips = features.splits[split]
    embedded = embed_clips(network, clips)
    rows = is_findable(clips.event).numpy().nonzero()[0]
    labels, event = clips.class_labels[rows], embedded.event
    answers = MatchingAnswers(
        clips=tuple(clips.clips[row] for row in rows),
        starts=event.argmax(1).numpy(),
        lengths=event.sum(1).long().numpy(),
        a2v=found_starts(embedded.heard, embedded.seen, event),
        v2a=found_starts(embedded.seen, embedded.heard, event),
    )
    hits = (np.ones(len(labels)), answers.a2v == answers.starts, answers.v2a == answers.starts)
    counts = [np.bincount(labels, hit, clips.class_count).astype(int).tolist() for hit in hits]  # each (class,)
    return Assessment(
        scores=score_matching(embedded),
        ablated={SHUFFLED: score_shuffled(embedded)},
        baselines=matching_baselines(features.splits["train"].event, clips.event),
        details=MatchingDetails(features.class_names, tuple(map(ClassHits, *counts)), answers),
    )
