"""Events of things that no network was trained on: whether what is heard can be what is seen, and what it is called.

A trained network compares the modalities for the classes that it knows, and takes others for these. The two feature
extractors name far more by themselves, see `ccln.extractors.classes`. Both uses of that here are our additions.

Open agreement: A = log(sum_c P(heard c) P(seen c) + 0.001), c the specific sounds of the vocabulary, P(seen c) the
highest probability, over the regions of the frames, of anything that makes this sound. It is added to the trained
network's event logit, as independent evidence would be, and so are two things of which composed clips show little:
log P(not silent), and how far the second is below the loudest one around. What happens is louder than what goes on
all the time, music or speech over everything too. Neither the network nor a want of agreement counts for more than it
is worth on what it does not know; weights and bounds were chosen on real clips, see docs/experiments.md.

Names: an event bears the trained class only if both modalities support it, and the open vocabulary is not sure that it
is another thing; else what `open_name` finds; else it is unknown. So it is, too, where there is no open vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ccln.extractors.classes import HeardAndSeen
from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.localize.events import Tracks, around, segments_of
from ccln.pipeline.localize.naming import open_name, top_heard, top_seen
from ccln.pipeline.localize.result import Event, Named
from ccln.pipeline.localize.vocabulary import load_vocabulary
from ccln.pipeline.segments import SEGMENT_SECONDS

LEAST_SUPPORT = 0.3
"""Least probability of the trained class that an event is named by, in each modality on its own in the second of the
event that shows it best. Known events that do not reach it, and real ones of other kinds that do: docs/experiments.md.
"""
LEAST_USUAL_SUPPORT = 0.1
"""The same as a mean over the event's seconds: one second that is heard does not name ten that are not."""
SURE = 0.5
"""Probability from which on the open vocabulary is sure that a thing is heard, and that it is seen."""
_USUAL_LOG_AGREEMENT = -3.7
"""An event with this agreement, as loud as any second around, gains nothing."""
UNKNOWN = "unknown"
UNNAMED = "event"
_SMALLEST = 1e-3
_LEAST_AGREEMENT = -1.5
"""Logits: the vocabulary has no words for much that can be seen, so its silence says little."""
_LOGITS_A_DECIBEL = 0.1
_LEAST_LEVEL_DB = -20.0
"""Below the loudest second around: what is quieter still is as little an event, and silence has its own evidence."""
_SMALLEST_LEVEL = 1e-6  # of full scale, -120 dB


@dataclass(frozen=True, eq=False)
class OpenEvidence:
    """What the extractors name in each segment of a video."""

    heard: np.ndarray
    """float32 (segment, 521): probabilities of AudioSet's classes."""
    seen: np.ndarray
    """float32 (segment, 1000): probabilities of ImageNet's classes, mean of the regions."""
    seen_as: np.ndarray
    """float32 (segment, 521): the highest probability, in any region, of anything that makes the sound."""
    level_db: np.ndarray
    """float32 (segment,): root mean square of the waveform, in dB of full scale."""

    def means(self, place: slice) -> tuple[np.ndarray, np.ndarray]:
        """`heard` and `seen_as`, averaged over some segments."""
        return self.heard[place].mean(axis=0), self.seen_as[place].mean(axis=0)

    @property
    def event_logits(self) -> np.ndarray:
        """(segment,): what the open agreement, silence and loudness add to the event logits."""
        vocabulary = load_vocabulary()
        agreement = np.log((self.heard * self.seen_as)[:, vocabulary.specific].sum(axis=1) + _SMALLEST)
        silence = self.heard[:, vocabulary.heard_names.index("Silence")]
        quieter = self.level_db - around(self.level_db)
        return (
            np.maximum(agreement - _USUAL_LOG_AGREEMENT, _LEAST_AGREEMENT)
            + np.log(1 - silence + _SMALLEST)
            + _LOGITS_A_DECIBEL * np.maximum(quieter, _LEAST_LEVEL_DB)
        )


class OpenVocabulary:
    """Looks at features; any number of threads may use it."""

    def __init__(self, classifiers: HeardAndSeen) -> None:
        self._classifiers = classifiers
        self._visible = torch.from_numpy(load_vocabulary().visible.astype(np.float32))  # (heard class, ImageNet class)

    def evidence(self, visual: Tensor, audio: Tensor, waveform: np.ndarray) -> OpenEvidence:
        """Return what is in features, and how loud it is.

        Args:
            visual: (segment, height, width, 320), of EfficientNet-Lite0.
            audio: (segment, 1024), of YAMNet.
            waveform: (sample,), 16 kHz, of these segments; the last may be shorter.
        """
        regions = self._classifiers.seen(visual)  # (T, R, ImageNet class)
        highest = regions.amax(1)
        seen_as = torch.stack([(self._visible * of_second).amax(1) for of_second in highest])
        heard = self._classifiers.heard(audio)
        return OpenEvidence(heard.numpy(), regions.mean(1).numpy(), seen_as.numpy(), _levels_db(waveform, len(audio)))


def joined(parts: Sequence[OpenEvidence]) -> OpenEvidence:
    """Return the evidence of parts of a video that follow one another."""
    return OpenEvidence(
        *(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(OpenEvidence))
    )


def _levels_db(waveform: np.ndarray, segments: int) -> np.ndarray:
    """float32 (segment,); of a segment that the waveform covers in part, of that part."""
    length = SEGMENT_SECONDS * SAMPLE_RATE_HZ
    parts = (waveform[start * length : (start + 1) * length] for start in range(segments))
    powers = np.array([np.square(part, dtype=np.float64).mean() if part.size else 0.0 for part in parts])
    return (20 * np.log10(np.sqrt(powers) + _SMALLEST_LEVEL)).astype(np.float32)


def trained_name_stands(event: Event, tracks: Tracks, class_threshold: float) -> bool:
    """Whether an event keeps the name of its trained class: the network knows it, and each modality supports it."""
    both = np.stack([tracks.seen, tracks.heard])[:, segments_of(event)]  # (seen and heard, segment)
    best, usual = both.max(axis=1), both.mean(axis=1)
    return bool(best[0] >= class_threshold and (best >= LEAST_SUPPORT).all() and (usual >= LEAST_USUAL_SUPPORT).all())


def named_events(
    events: Sequence[Event],
    tracks: Tracks,
    evidence: OpenEvidence | None = None,
    *,
    trained: bool = True,
    class_threshold: float,
) -> tuple[Event, ...]:
    """Give events the names that are supported, and join those that touch and have one name that is not trained.

    Args:
        events: of trained classes, in order of time.
        tracks: that they were decoded from.
        evidence: of the same segments; None where there is no open vocabulary.
        trained: Whether the trained class stays where it is supported.
        class_threshold: of the checkpoint's decoding.
    """
    named = []
    for event in events:
        means = None if evidence is None else evidence.means(segments_of(event))
        name = None if means is None else open_name(*means)
        stands = trained and trained_name_stands(event, tracks, class_threshold)
        if not stands or (means is not None and name is not None and _is_surely_another(event.label, name, *means)):
            event = replace(event, label=name or UNKNOWN, named_by="open" if name else "none")
        named.append(event)
    return _described(_with_touching_joined(named), tracks, evidence)


def unnamed_events(events: Sequence[Event], tracks: Tracks, evidence: OpenEvidence | None = None) -> tuple[Event, ...]:
    """Return when there is an event of whatever kind: as `named_events`, but none has a name."""
    unnamed = [replace(event, label=UNNAMED, named_by="none") for event in events]
    return _described(_with_touching_joined(unnamed), tracks, evidence)


def _is_surely_another(label: str, name: str, heard: np.ndarray, seen_as: np.ndarray) -> bool:
    """Whether an open name is of a thing that is surely heard and seen, and is none that the trained class can be.

    Sounds unlike all that a network was trained on are sometimes very like a class to it: a lion's roar was a bark.
    """
    vocabulary = load_vocabulary()
    known, found = vocabulary.index_of(label), vocabulary.heard_names.index(name)
    is_sure = min(heard[found], seen_as[found]) >= SURE
    return bool(is_sure and known is not None and not vocabulary.is_akin(known, found))


@dataclass(frozen=True, eq=False)
class ShownTracks:
    """What is shown of each segment; in an event it is of the event's name."""

    labels: tuple[str, ...]
    """The trained class outside events."""
    seen: np.ndarray
    """float32 (segment,): evidence for the label, in events without a name for the trained class."""
    heard: np.ndarray
    """float32 (segment,), likewise."""
    seeable: np.ndarray
    """bool (segment,): False in events whose name is of a thing that ImageNet has no name for; `seen` is 0 there."""


def shown_tracks(
    events: Sequence[Event], class_names: Sequence[str], tracks: Tracks, evidence: OpenEvidence | None = None
) -> ShownTracks:
    """Return the tracks to show.

    Args:
        events: of `named_events` or `unnamed_events`, however short.
        class_names: in label order.
        tracks: that they were decoded from.
        evidence: of the same segments; None where no event has an open name.
    """
    labels = np.array(class_names, object)[tracks.classes]
    seen, heard, seeable = tracks.seen.copy(), tracks.heard.copy(), np.ones(len(labels), bool)
    for event in events:
        place = segments_of(event)
        labels[place] = event.label
        if event.named_by == "open":
            vocabulary = load_vocabulary()
            assert evidence is not None
            index = vocabulary.heard_names.index(event.label)
            seeable[place] = vocabulary.seeable[index]
            seen[place] = evidence.seen_as[place, index] if vocabulary.seeable[index] else 0
            heard[place] = evidence.heard[place, index]
    return ShownTracks(tuple(labels), seen, heard, seeable)


def _with_touching_joined(events: Sequence[Event]) -> list[Event]:
    found = list(events[:1])
    for event in events[1:]:
        last = found[-1]
        alike = (last.label, last.named_by) == (event.label, event.named_by) and event.named_by != "trained"
        if alike and last.end_seconds == event.start_seconds:
            found[-1] = replace(last, end_seconds=event.end_seconds)
        else:
            found.append(event)
    return found


def _described(events: Sequence[Event], tracks: Tracks, evidence: OpenEvidence | None) -> tuple[Event, ...]:
    """Add what is heard and seen, and the confidence of those without a trained name: that there is an event."""
    described = []
    for event in events:
        place = segments_of(event)
        if event.named_by != "trained":
            event = replace(event, confidence=float(tracks.event_probability[place].mean()))
        if evidence is not None:
            heard, seen = top_heard(evidence.heard[place].mean(axis=0)), top_seen(evidence.seen[place].mean(axis=0))
            event = replace(event, heard=_named(heard), seen=_named(seen))
        described.append(event)
    return tuple(described)


def _named(top: Sequence[tuple[str, float]]) -> tuple[Named, ...]:
    return tuple(Named(name, round(probability, 4)) for name, probability in top)
