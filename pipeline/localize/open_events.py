"""Events of things that no network was trained on: whether what is heard can be what is seen, and what it is called.

A trained network compares the modalities for the classes that it knows, and takes others for these. The two feature
extractors name far more by themselves, see `ccln.extractors.classes`. Both uses of that here are our additions.

Open agreement: A = log(sum_c P(heard c) P(seen c) + 0.001), c the specific sounds of the vocabulary, P(seen c) the
highest probability, over the regions of the frames, of anything that makes this sound. It is added to the trained
network's event logit, as independent evidence would be, and so is log P(not silent): of silence, which composed clips
hardly have, a network may make anything.

Names: an event bears the trained class only if both modalities support it; else what `open_name` finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ccln.extractors.classes import HeardAndSeen
from ccln.pipeline.localize.events import Tracks
from ccln.pipeline.localize.naming import open_name, top_heard, top_seen
from ccln.pipeline.localize.result import Event, Named
from ccln.pipeline.localize.vocabulary import load_vocabulary
from ccln.pipeline.segments import SEGMENT_SECONDS

LEAST_SUPPORT = 0.3
"""Least mean probability, in each modality on its own, of the class that an event is named by; set, not measured."""
USUAL_LOG_AGREEMENT = -3.7
"""Median over the event seconds of ave-composed's validation clips: an event as good as those gains nothing."""
UNKNOWN = "unknown"
UNNAMED = "event"
_SMALLEST = 1e-3


@dataclass(frozen=True, eq=False)
class OpenEvidence:
    """What the extractors name in each segment of a video."""

    heard: np.ndarray
    """float32 (segment, 521): probabilities of AudioSet's classes."""
    seen: np.ndarray
    """float32 (segment, 1000): probabilities of ImageNet's classes, mean of the regions."""
    seen_as: np.ndarray
    """float32 (segment, 521): the highest probability, in any region, of anything that makes the sound."""

    @property
    def event_logits(self) -> np.ndarray:
        """(segment,): what the open agreement and the silence add to the event logits."""
        vocabulary = load_vocabulary()
        agreement = np.log((self.heard * self.seen_as)[:, vocabulary.specific].sum(axis=1) + _SMALLEST)
        silence = self.heard[:, vocabulary.heard_names.index("Silence")]
        return agreement - USUAL_LOG_AGREEMENT + np.log(1 - silence + _SMALLEST)


class OpenVocabulary:
    """Looks at features; any number of threads may use it."""

    def __init__(self, classifiers: HeardAndSeen) -> None:
        self._classifiers = classifiers
        self._visible = torch.from_numpy(load_vocabulary().visible.astype(np.float32))  # (heard class, ImageNet class)

    def evidence(self, visual: Tensor, audio: Tensor) -> OpenEvidence:
        """Return what is in features.

        Args:
            visual: (segment, height, width, 320), of EfficientNet-Lite0.
            audio: (segment, 1024), of YAMNet.
        """
        regions = self._classifiers.seen(visual)  # (T, R, ImageNet class)
        highest = regions.amax(1)
        seen_as = torch.stack([(self._visible * of_second).amax(1) for of_second in highest])
        heard = self._classifiers.heard(audio)
        return OpenEvidence(heard.numpy(), regions.mean(1).numpy(), seen_as.numpy())


def joined(parts: Sequence[OpenEvidence]) -> OpenEvidence:
    """Return the evidence of parts of a video that follow one another."""
    return OpenEvidence(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("heard", "seen", "seen_as"))
    )


def named_events(
    events: Sequence[Event], tracks: Tracks, evidence: OpenEvidence, *, trained: bool
) -> tuple[Event, ...]:
    """Name events anew, and join those that touch and have one open name.

    Args:
        events: of trained classes, in order of time.
        tracks: that they were decoded from.
        evidence: of the same segments.
        trained: Whether the trained class stays where both modalities support it.
    """
    found: list[Event] = []
    for event in events:
        place = _segments(event)
        heard, seen = evidence.heard[place].mean(axis=0), evidence.seen[place].mean(axis=0)
        event = replace(
            event,
            heard=tuple(Named(name, round(value, 4)) for name, value in top_heard(heard)),
            seen=tuple(Named(name, round(value, 4)) for name, value in top_seen(seen)),
        )
        if not (trained and min(tracks.seen[place].mean(), tracks.heard[place].mean()) >= LEAST_SUPPORT):
            name = open_name(heard, seen)
            probability = float(tracks.event_probability[place].mean())
            event = replace(event, label=name or UNKNOWN, named_by="open" if name else "none", confidence=probability)
        found.append(event)
    return _with_touching_joined(found)


def unnamed_events(events: Sequence[Event], tracks: Tracks) -> tuple[Event, ...]:
    """Return when there is an event of whatever kind: without names, those that touch joined."""
    return _with_touching_joined(
        [
            replace(
                event,
                label=UNNAMED,
                named_by="none",
                confidence=float(tracks.event_probability[_segments(event)].mean()),
            )
            for event in events
        ]
    )


def shown_tracks(
    events: Sequence[Event], labels: np.ndarray, tracks: Tracks, evidence: OpenEvidence
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tracks seen and heard, which in events with an open name are of that name; so become the labels."""
    seen, heard = tracks.seen.copy(), tracks.heard.copy()
    for event in events:
        index = load_vocabulary().index_of(event.label) if event.named_by == "open" else None
        if index is not None:
            place = _segments(event)
            labels[place] = event.label
            seen[place], heard[place] = evidence.seen_as[place, index], evidence.heard[place, index]
    return seen, heard


def _segments(event: Event) -> slice:
    start = int(event.start_seconds // SEGMENT_SECONDS)
    return slice(start, max(start + 1, int(np.ceil(event.end_seconds / SEGMENT_SECONDS))))


def _with_touching_joined(events: Sequence[Event]) -> tuple[Event, ...]:
    found = list(events[:1])
    for before, event in pairwise(events):
        last = found[-1]
        alike = (last.label, last.named_by) == (event.label, event.named_by) and event.named_by != "trained"
        if alike and before.end_seconds == event.start_seconds:
            lengths = (last.end_seconds - last.start_seconds, event.end_seconds - event.start_seconds)
            confidence = float(np.average([last.confidence, event.confidence], weights=lengths))
            longer = last if lengths[0] >= lengths[1] else event
            found[-1] = replace(
                longer, start_seconds=last.start_seconds, end_seconds=event.end_seconds, confidence=confidence
            )
        else:
            found.append(event)
    return tuple(found)
