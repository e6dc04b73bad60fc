"""One video file after another, of any length, to its events."""

from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch

from ccln.extractors import (
    ExtractorError,
    Extractors,
    load_extractors,
    pick_device,
    pick_precision,
    preset_from_specification,
    preset_with,
    without_arithmetic,
)
from ccln.extractors.classes import HeardAndSeen, has_classes
from ccln.model import Checkpoint, EventDecoding, LocalizationNetwork
from ccln.pipeline.decode.clip import DecodedClip, decode_clips
from ccln.pipeline.decode.container import stated_picture
from ccln.pipeline.decode.damage import OnDamage
from ccln.pipeline.decode.processes import Decoders
from ccln.pipeline.extract.features import clip_features, frame_request
from ccln.pipeline.localize.events import decode_events, decode_tracks, long_enough
from ccln.pipeline.localize.open_events import (
    UNKNOWN,
    UNNAMED,
    OpenEvidence,
    OpenVocabulary,
    joined,
    named_events,
    shown_tracks,
    unnamed_events,
)
from ccln.pipeline.localize.result import LocatedVideo, Provenance, VideoFormat
from ccln.pipeline.localize.vocabulary import load_vocabulary
from ccln.pipeline.localize.windows import HOP_SEGMENTS, WindowedNetwork
from ccln.pipeline.segments import SEGMENT_SECONDS

Classes = Literal["trained", "open", "both"]
"""What events are named by."""

# Recordings of six seconds last 6.01; a hundredth of a segment is not another segment.
_SLIVER = 0.1


class SpecificationError(Exception):
    """The extractors at hand are not those that the checkpoint was trained on; the message names both."""


class OtherTaskError(Exception):
    """The checkpoint's network does not locate events; the message says what it is for and what to do."""


class Localizer:
    """A checkpoint and the extractors it was trained with, ready for any number of files, in any number of threads.

    The extractors compute in the arithmetic that is native on the device, whatever the checkpoint was trained on.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        decoding: EventDecoding | None = None,
        classes: Classes | None = None,
        named: bool = True,
        hop_seconds: int = HOP_SEGMENTS * SEGMENT_SECONDS,
        on_damage: OnDamage = "error",
        device: str = "auto",
        visual_weights: Path | str | None = None,
        audio_weights: Path | str | None = None,
        extractors: Extractors | None = None,
    ) -> None:
        """Load the extractors that the checkpoint names.

        Args:
            checkpoint: of a network that locates events.
            decoding: how its predictions become events; if None, the checkpoint's own.
            classes: what events are named by: the checkpoint's classes, which then alone decide where events are; the
                open vocabulary; or the one and, where it is not sure, the other. If None, both where the extractors
                have an open vocabulary, else the checkpoint's.
            named: whether events are named at all.
            hop_seconds: from one ten-second window's start to the next one's, 1 to 10.
            on_damage: as for `decode_clips`.
            device: "auto", "cpu", "cuda", ...
            visual_weights: local file with the visual network's weights.
            audio_weights: local file with the audio network's weights.
            extractors: those of the checkpoint, where they are loaded already.

        Raises:
            OtherTaskError: the checkpoint's network does not locate events.
            ExtractorError, WeightsError: the extractors cannot be had, or lack the open vocabulary that is asked for.
            SpecificationError: those that can be had are not the checkpoint's.
            ValueError: windows so far apart would leave seconds out, or would not move.
        """
        if not isinstance(checkpoint.model, LocalizationNetwork):
            raise OtherTaskError(
                "the checkpoint is one of cross-modality localization: its network finds a sound in the picture and "
                "the other way round; it knows neither classes nor events. Name a run of ccln-train --task supervised "
                "or weak: --checkpoint"
            )
        if "imported" in checkpoint.specification:
            raise SpecificationError(
                "the checkpoint was trained on imported features, which nothing here makes from a video. Train one on "
                "features of ccln-extract; the preset ave-legacy follows the recipe of AVE's published features."
            )
        self._class_names = checkpoint.class_names
        self._decoding = checkpoint.decoding if decoding is None else decoding
        self._hop_segments = hop_seconds // SEGMENT_SECONDS
        self._provenance = Provenance(
            ccln_version=version("ccln"),
            weights_sha256=checkpoint.weights_sha256,
            class_names=self._class_names,
            event_threshold=self._decoding.event_threshold,
            minimum_duration_seconds=self._decoding.minimum_duration_seconds * SEGMENT_SECONDS,
            hop_seconds=hop_seconds,
        )
        self.device = torch.device(pick_device(device))
        device = str(self.device)
        preset = preset_from_specification(checkpoint.specification)
        self._on_damage: OnDamage = on_damage
        self._extractors: Extractors = extractors or load_extractors(
            preset_with(preset, precision=pick_precision("auto", device)),
            device=device,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
        )
        require_same_specification(checkpoint.specification, self._extractors.specification)
        self._named, self._keeps_trained = named, classes != "open"
        self._open: OpenVocabulary | None = None
        if has_classes(preset):
            if classes != "trained":
                self._open = OpenVocabulary(HeardAndSeen(self._extractors.audio_network, visual_weights))
        elif classes not in (None, "trained"):
            raise ExtractorError(
                f"--classes {classes}: {preset.visual.name} and {preset.audio.name} have no open vocabulary, which "
                "efficientnet-lite0 and yamnet have. Leave the option out, or train on features of the preset light"
            )
        self.audio_track = preset.audio_track
        """Which audio track of a video the checkpoint's features are of, see `ccln.extractors.Preset`."""
        self._model: LocalizationNetwork = checkpoint.model.to(self.device)
        WindowedNetwork(self._model, self._hop_segments)  # a wrong hop is to be known before any file is read

    @property
    def event_labels(self) -> tuple[str, ...]:
        """All that events may be called, the checkpoint's classes first."""
        names = [*self._class_names]
        if self._open is not None:
            vocabulary = load_vocabulary()
            names += [name for name, never in zip(vocabulary.heard_names, vocabulary.never, strict=True) if not never]
        return tuple(dict.fromkeys([*names, UNKNOWN if self._named else UNNAMED]))

    def locate(self, path: Path, decoders: Decoders, *watchers: Callable[[DecodedClip], None]) -> LocatedVideo:
        """Find the events of a video file.

        Args:
            path: the file.
            decoders: what decodes it.
            watchers: each is shown every ten seconds as they are decoded, in order.

        Raises:
            DecodeError: the file cannot be read.
            ExtractorError: a feature is too large for half precision, or not a number.
            SpecificationError: the features have another shape than the network reads.
        """
        windows = WindowedNetwork(self._model, self._hop_segments)
        duration_seconds = 0.0
        evidence: list[OpenEvidence] = []
        preset, lost_seconds = self._extractors.preset, Counter[str]()
        for clip in decoders.each(
            decode_clips,
            path,
            frame_request(self._extractors),
            decoder=preset.decoder,
            audio_track=preset.audio_track,
            on_damage=self._on_damage,
        ):
            for watch in watchers:
                watch(clip)
            features = clip_features(self._extractors, clip)
            self._require_shape((*features.visual.shape[1:], features.audio.shape[1]))
            covered = max(1, ceil(clip.duration_seconds / SEGMENT_SECONDS - _SLIVER))
            windows.add(features.visual, features.audio, covered)
            if self._open is not None:
                waveform = clip.waveform[: round(clip.duration_seconds * clip.sample_rate_hz)]
                evidence.append(self._open.evidence(features.visual[:covered], features.audio[:covered], waveform))
            duration_seconds = clip.start_seconds + clip.duration_seconds
            lost_seconds.update(clip.lost_seconds)
        predictions = windows.predictions()
        found = joined(evidence) if evidence else None
        tracks = decode_tracks(predictions, self._decoding, None if found is None else found.event_logits)
        events = decode_events(predictions, tracks, self._decoding, self._class_names, duration_seconds)
        if self._named:
            known = self._decoding.class_threshold
            events = named_events(events, tracks, found, trained=self._keeps_trained, class_threshold=known)
        else:
            events = unnamed_events(events, tracks, found)
        shown = shown_tracks(events, self._class_names, tracks, found)
        return LocatedVideo(
            path=path,
            duration_seconds=duration_seconds,
            events=long_enough(events, self._decoding, len(tracks.classes)),
            labels=shown.labels,
            seen=shown.seen,
            heard=shown.heard,
            seeable=shown.seeable,
            event_probability=tracks.event_probability,
            attention=predictions.attention,
            video_format=VideoFormat(*decoders.once(stated_picture, path)),
            provenance=self._provenance,
            lost_seconds=lost_seconds,
        )

    def _require_shape(self, given: tuple[int, ...]) -> None:
        config = self._model.config
        read = (config.visual_height, config.visual_width, config.visual_channels, config.audio_channels)
        if given != read:
            raise SpecificationError(
                f"the checkpoint's specification gives visual {given[:3]} and audio ({given[3]},), but its network "
                f"reads visual {read[:3]} and audio ({read[3]},). Its config.json is not its own: train again."
            )


def require_same_specification(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse extractors that are not the ones wanted; their arithmetic may be another.

    Raises:
        SpecificationError: with every field in which they differ, both values named.
    """
    wanted_fields, found_fields = dict(_flat(without_arithmetic(wanted))), dict(_flat(without_arithmetic(found)))
    differences = [
        f"{name}: checkpoint {wanted_fields.get(name)!r}, at hand {found_fields.get(name)!r}"
        for name in sorted(wanted_fields.keys() | found_fields.keys())
        if wanted_fields.get(name) != found_fields.get(name)
    ]
    if differences:
        raise SpecificationError(
            "the extractors at hand are not those the checkpoint was trained with. " + "; ".join(differences) + ". "
            "Give the right weights (--visual-weights, --audio-weights), or train on features of these extractors."
        )


def _flat(specification: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat = []
    for name, value in specification.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return flat
