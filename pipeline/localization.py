"""From a video file and a checkpoint to events with times."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccln.extractors import ExtractorError, Extractors, load_extractors, pick_device, preset_from_specification
from ccln.model import CCLN, Checkpoint, load_checkpoint
from ccln.pipeline import defaults
from ccln.pipeline.datasets.videos import find_videos
from ccln.pipeline.decoding.clip import DecodedClip, decode_clip
from ccln.pipeline.decoding.sound import SAMPLE_RATE_HZ
from ccln.pipeline.decoding.video_file import DecodeError
from ccln.pipeline.events import Event, events_from_segments
from ccln.pipeline.features.extraction import Failure, clip_features, frame_request
from ccln.pipeline.page import PageClip, waveform_peaks, write_page
from ccln.pipeline.scoring.prediction import EVENT_THRESHOLD
from ccln.pipeline.segments import SEGMENT_SECONDS
from ccln.pipeline.writers import WRITERS, OutputError, distinct_names, make_folder, write_beside

Progress = Callable[[int, int], None]


# Recordings of six seconds last 6.01; a hundredth of a segment is not another segment.
_SLIVER = 0.1


class SpecificationError(Exception):
    """The extractors at hand are not those that the checkpoint was trained on; the message names both."""


class OtherTaskError(Exception):
    """The checkpoint's network does not locate events; the message says what it is for and what to do."""


@dataclass(frozen=True, eq=False)
class LocatedClip:
    """A clip and what was found in it. Tracks have one number a segment that the clip covers, each from 0 to 1."""

    path: Path
    duration_seconds: float
    """How much of the clip's ten seconds the file covers."""
    events: tuple[Event, ...]
    label: str
    """The clip's most probable class, whether or not there is an event."""
    label_probability: float
    seen: np.ndarray
    """float32 (segment,): evidence for the label in the picture, looked at where the sound points."""
    heard: np.ndarray
    """float32 (segment,): evidence for the label in the sound alone."""
    both: np.ndarray
    """float32 (segment,): probability that the segment is event; what the events are made of."""
    attention: np.ndarray
    """float32 (segment, height, width): where the sound made the network look; a segment's numbers add up to one."""


@dataclass(frozen=True)
class Localization:
    """What one call found."""

    clips: tuple[LocatedClip, ...]
    failed: tuple[Failure, ...]
    """Files that could not be read."""
    written: tuple[Path, ...] = ()
    """All files, in the order in which they were written."""
    unwritten: tuple[Failure, ...] = ()
    """Clips that were located but whose files could not be written; the page, if it could not."""


class Localizer:
    """A checkpoint and the extractors it was trained with, ready for any number of clips."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        visual_weights: Path | str | None = None,
        audio_weights: Path | str | None = None,
    ) -> None:
        """Load the extractors that the checkpoint names.

        Raises:
            OtherTaskError: the checkpoint's network does not locate events.
            ExtractorError, WeightsError: they cannot be had.
            SpecificationError: those that can be had are not the checkpoint's.
        """
        if not isinstance(checkpoint.model, CCLN):
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
        self._checkpoint = checkpoint
        self._device = pick_device(device)
        self._extractors: Extractors = load_extractors(
            preset_from_specification(checkpoint.specification),
            device=self._device,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
        )
        require_same_specification(checkpoint.specification, self._extractors.specification)
        self._model: CCLN = checkpoint.model.to(self._device)

    def decode(self, path: Path) -> DecodedClip:
        """Frames and sound as the extractors read them."""
        return decode_clip(path, frame_request(self._extractors))

    @torch.inference_mode()
    def locate(self, path: Path, clip: DecodedClip) -> LocatedClip:
        """Find the events of a decoded clip.

        Raises:
            SpecificationError: the features have another shape than the network reads.
        """
        features = clip_features(self._extractors, clip)
        config = self._model.config
        given = (*features.visual.shape[1:], features.audio.shape[1])
        read = (config.visual_height, config.visual_width, config.visual_channels, config.audio_channels)
        if given != read:
            raise SpecificationError(
                f"the checkpoint's specification gives visual {given[:3]} and audio ({given[3]},), but its network "
                f"reads visual {read[:3]} and audio ({read[3]},). Its config.json is not its own: train again."
            )
        visual = features.visual[None].to(self._device).float()  # (1, T, H, W, C)
        output = self._model(visual, features.audio[None].to(self._device))
        class_probability = output.class_logits.softmax(-1)[0]  # (n,)
        index = int(class_probability.argmax())
        label, label_probability = self._checkpoint.class_names[index], float(class_probability[index])
        covered = slice(max(1, ceil(clip.duration_seconds / SEGMENT_SECONDS - _SLIVER)))
        both = output.event_logits.sigmoid()[0, covered].cpu().numpy()
        return LocatedClip(
            path=path,
            duration_seconds=clip.duration_seconds,
            events=events_from_segments(both, label, label_probability, EVENT_THRESHOLD, clip.duration_seconds),
            label=label,
            label_probability=label_probability,
            seen=output.seen_logits.sigmoid()[0, covered, index].cpu().numpy(),
            heard=output.heard_logits.sigmoid()[0, covered, index].cpu().numpy(),
            both=both,
            attention=output.attention[0, covered].cpu().numpy(),
        )


def localize(
    clips: Iterable[Path | str],
    *,
    checkpoint: Path | str | None = None,
    device: str = "auto",
    visual_weights: Path | str | None = None,
    audio_weights: Path | str | None = None,
    out: Path | str | None = None,
    formats: Sequence[str] = ("json",),
    html: Path | str | None = None,
    plots: Path | str | None = None,
    progress: Progress | None = None,
) -> Localization:
    """Find when and where events are both seen and heard in video files.

    Each clip's files are written as soon as it is done, and never over another: one that is there already stays if it
    is the same to the byte, and else that clip is among `Localization.unwritten`.

    Args:
        clips: video files, and folders that are searched through and through. The first ten seconds are read.
        checkpoint: run folder of `train`; if None, the newest in runs/ whose network locates events.
        device: "auto", "cpu", "cuda", ...
        visual_weights: local file with the visual network's weights.
        audio_weights: local file with the audio network's weights.
        out: folder for files with each clip's events (NAME.json and the like), made if it does not exist.
        formats: of those files, out of `ccln.pipeline.writers.WRITERS`.
        html: file for one page that shows all clips and needs nothing but itself; written when all are done.
        plots: folder for one picture a clip (NAME.png), made if it does not exist.
        progress: called before the first clip, and after each.

    Raises:
        CheckpointError, OtherTaskError, SpecificationError, ExtractorError, WeightsError: no clip can be read at all.
        NothingFoundError: ``checkpoint`` is None and there is no such run.
        FileNotFoundError: a path does not exist.
        OutputError: a folder for the results cannot be made.
        ValueError: a format is unknown.
    """
    if unknown := set(formats) - WRITERS.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: no such format; choose from {', '.join(WRITERS)}")
    files = find_videos(map(Path, clips))
    run = defaults.latest_localizing_run() if checkpoint is None else Path(checkpoint)
    localizer = Localizer(
        load_checkpoint(run), device=device, visual_weights=visual_weights, audio_weights=audio_weights
    )
    if out is not None:
        make_folder(Path(out))
    if html is not None:
        make_folder(Path(html).parent)
    names = distinct_names(files)
    located: list[LocatedClip] = []
    shown: list[PageClip] = []
    written: list[Path] = []
    failed: list[Failure] = []
    unwritten: list[Failure] = []
    if progress is not None:
        progress(0, len(files))
    for number, path in enumerate(files, start=1):
        try:
            decoded = localizer.decode(path)
            clip = localizer.locate(path, decoded)
            located.append(clip)
            if html is not None:
                shown.append(PageClip(clip, clip.attention, waveform_peaks(decoded.waveform, SAMPLE_RATE_HZ)))
            if plots is not None:
                from ccln.pipeline.plots import plot_timeline

                picture = _free_name(Path(plots), path)
                plot_timeline(clip, decoded, picture)
                written.append(picture)
            if out is not None:
                written += write_beside(clip, Path(out), formats, name=names[path])
        except (DecodeError, ExtractorError) as error:
            failed.append(Failure(path, str(error)))
        except OutputError as error:
            unwritten.append(Failure(path, str(error)))
        if progress is not None:
            progress(number, len(files))
    if html is not None:
        title = files[0].name if len(files) == 1 else "Events both seen and heard"
        try:
            unread = [(failure.path, failure.reason) for failure in failed]
            written.append(write_page(shown, Path(html), title=title, failed=unread))
        except OutputError as error:
            unwritten.append(Failure(Path(html), str(error)))
    return Localization(tuple(located), tuple(failed), tuple(written), tuple(unwritten))


def require_same_specification(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse extractors that are not the ones wanted.

    Raises:
        SpecificationError: with every field in which they differ, both values named.
    """
    wanted_fields, found_fields = dict(_flat(wanted)), dict(_flat(found))
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


def _free_name(folder: Path, clip: Path) -> Path:
    """NAME.png, or NAME-2.png where another clip of this name came first; nothing is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    candidate, number = folder / f"{clip.stem}.png", 2
    while candidate.exists():
        candidate, number = folder / f"{clip.stem}-{number}.png", number + 1
    return candidate
