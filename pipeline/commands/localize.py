"""The ccln-localize command: events of videos, for people or for programs."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

from cyclopts import Parameter, validators

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import OnePath, Paths, ProgressBar, counted, imported_for_good, report, run_function
from ccln.pipeline.visible import visible

if TYPE_CHECKING:
    from ccln.extractors import Extractors
    from ccln.model import Checkpoint, EventDecoding
    from ccln.pipeline.extract.failures import Failure
    from ccln.pipeline.localize.localize import Progress
    from ccln.pipeline.localize.result import LocatedVideo

log = logging.getLogger(__name__)

FileFormat = Literal["json", "csv", "webvtt", "srt", "audacity", "elan", "label-studio"]
PrintedFormat = Literal["table", "json", "csv", "webvtt", "srt", "audacity", "elan", "label-studio"]

NamedBy = Literal["trained", "open", "both"]

_OF_SEVERAL_VIDEOS = ("table", "json", "csv")
_NAMED = 3  # written files at most; of more than these their number says more


class FormatError(Exception):
    """Options that do not go together; the message says how they do."""


@dataclass(frozen=True)
class Localization:
    """What one call found."""

    videos: tuple["LocatedVideo", ...]
    """In the order in which they were given."""
    failed: tuple["Failure", ...]
    """Files that could not be read."""
    written: tuple[Path, ...]
    """All files that were written, in the order of the videos."""
    unwritten: tuple["Failure", ...]
    """Videos that were located but whose files could not be written; the page, if it could not."""


def localize(
    videos: Paths,
    *,
    checkpoint: OnePath | None = None,
    out: OnePath | None = None,
    formats: Annotated[Sequence[FileFormat], Parameter(parse=False)] = ("json",),
    media_root: OnePath | None = None,
    plot: OnePath | None = None,
    video: OnePath | None = None,
    heat_map: bool = False,
    html: OnePath | None = None,
    overwrite: bool = False,
    classes: Annotated[str | None, Parameter(metavar="trained|open|both|NAMES|FILE")] = None,
    preset: str | None = None,
    any_event: Annotated[bool, Parameter(name="--any", negative=())] = False,
    threshold: Annotated[float | None, Parameter(validator=validators.Number(gt=0, lt=1))] = None,
    minimum_duration: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    on_damage: Literal["error", "conceal"] = "error",
    hop: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=10))] = 2,
    jobs: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    timeout: Annotated[float, Parameter(validator=validators.Number(gt=0))] = defaults.TIMEOUT_SECONDS,
    device: str = "auto",
    visual_weights: OnePath | None = None,
    audio_weights: OnePath | None = None,
    found: Annotated[Callable[["LocatedVideo"], None] | None, Parameter(parse=False)] = None,
    progress: Annotated["Progress | None", Parameter(parse=False)] = None,
) -> Localization:
    """Find when and where events are both seen and heard, in videos of any length.

    Args:
        videos: Video files, and folders that are searched recursively.
        checkpoint: Run folder of ccln-train. If not given, the newest run in runs/ whose network locates events; if
            there is none, the small network that comes with ccln, which knows 16 classes; that one is "packaged".
        out: Folder for each video's files, NAME.json and the like; written as each video is done.
        formats: Of the files in `out`.
        media_root: Folder that is the document root of Label Studio's local storage; its files name each video relative
            to it. If not given, the root of the file system.
        plot: Folder for one picture of each video, NAME.png: frames with attention, spectrogram, seen, heard, event,
            events.
        video: Folder for the videos again with their events drawn in, NAME.events.mp4 (or .mkv where the audio does not
            fit into MP4); their audio is untouched.
        heat_map: Let these videos show where the network looked, too.
        html: File for one page with all videos, NAME.html: player, waveform, tracks, events and attention; needs no
            network.
        overwrite: Replace files that are there already. Without it nothing is done if there is one.
        classes: What events are named by: trained, the checkpoint's classes alone; open, the 521 sounds that YAMNet
            knows; both, the checkpoint's where it is sure that they are seen and heard, else the open ones. If not
            given, both where the features are of the preset light, else trained. What has no name in them that
            picture and sound support is called unknown. Anything else is the names of the classes to find, separated
            by commas, or a file with one a line: by zero-shot localization without any training, or with --checkpoint
            by a network of ccln-train --open or ccln-evaluate --zero-shot.
        preset: Extractors of zero-shot localization, which have to know texts. If not given, clip-clap.
        any_event: Give events of whatever kind, without names.
        threshold: Least probability of the seconds of an event. If not given, the checkpoint's.
        minimum_duration: Seconds that an event must last. If not given, the checkpoint's.
        hop: The network takes ten seconds; seconds from the start of one such window to that of the next, 1 to 10.
        on_damage: A file of which a decoder refuses parts: error makes it a failure, conceal keeps the frame before and
            is silent in their place, up to 2 seconds of a stream in ten; table and JSON say how much is lost.
        jobs: Videos in work at the same time. If not given, as many as there are processors.
        timeout: Seconds that ten seconds of video may take to decode, and to be written again; a file that takes longer
            fails, after a second try.
        device: auto, cpu, cuda, cuda:1, ...
        visual_weights: Local file with the visual network's weights; of hf:OWNER/NAME, the model's folder.
        audio_weights: Local file with the audio network's weights; of hf:OWNER/NAME, the model's folder.
        found: Called with each video's events as soon as they are there, in the order of the videos.
        progress: Called with what is done, what there is in all, and a note, before the first video, after each, and
            every ten seconds of a longer one. Of several videos their number counts, of a single one its seconds.

    Raises:
        CheckpointError, OtherTaskError, SpecificationError, ExtractorError, WeightsError: No video can be read at all.
        NamesError: ``classes`` holds no names, or the checkpoint cannot be asked for them.
        FileNotFoundError: A path does not exist, or no video is there.
        OutputError: A file is there already, or a folder for the files cannot be made.
        ValueError: A format is unknown, or a number is out of its range.
    """
    from ccln.pipeline.decode.processes import Decoders

    with Decoders(timeout) as decoders:  # one gets ready while torch is imported
        with imported_for_good():
            from ccln.pipeline.data import find_videos
            from ccln.pipeline.extract.failures import Failure
            from ccln.pipeline.localize.localize import locate_videos
            from ccln.pipeline.localize.localizer import Localizer
            from ccln.pipeline.report.outputs import Outputs, Wanted

        files = find_videos(videos)
        named_by = cast(NamedBy, classes) if classes in get_args(NamedBy) else None
        where = {"device": device, "visual_weights": visual_weights, "audio_weights": audio_weights}
        loaded, extractors = _network(checkpoint, None if named_by else classes, preset, where)
        _pass_on_warnings(loaded)
        localizer = Localizer(
            loaded,
            decoding=_decoding(loaded, threshold, minimum_duration),
            classes=named_by,
            named=not any_event,
            hop_seconds=hop,
            on_damage=on_damage,
            device=device,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
            extractors=extractors,
        )
        out, media_root, plot, video, page = (
            None if p is None else Path(p) for p in (out, media_root, plot, video, html)
        )
        wanted = Wanted(
            out=out,
            formats=formats,
            media_root=media_root,
            plot=plot,
            video=video,
            audio_track=localizer.audio_track,
            on_damage=on_damage,
            heat_map=heat_map,
            page=page,
            overwrite=overwrite,
        )
        outputs = Outputs(wanted, files, localizer.event_labels, decoders)
        located: list[LocatedVideo] = []
        failed: list[Failure] = []
        for result in locate_videos(
            localizer, files, decoders, watcher_of=outputs.watcher, jobs=jobs, progress=progress
        ):
            if isinstance(result, Failure):
                failed.append(result)
                continue
            located.append(result)
            if found is not None:
                found(result)
        return Localization(tuple(located), tuple(failed), *outputs.finish(failed))


def _network(
    checkpoint: Path | str | None, names: str | None, preset: str | None, where: dict[str, Any]
) -> "tuple[Checkpoint, Extractors | None]":
    """What locates events, and its extractors where they are loaded already.

    Args:
        checkpoint: as it was given.
        names: of the classes to ask for, as they were given; None where these are not asked for.
        preset: as it was given.
        where: the device and the weights of the extractors.
    """
    from ccln.model import load_checkpoint

    if preset is not None and (names is None or checkpoint is not None):
        raise FormatError(
            "--preset is of zero-shot localization: name classes with --classes, and leave --checkpoint out, whose "
            "extractors are its own"
        )
    if names is None:
        return load_checkpoint(_default_checkpoint() if checkpoint is None else defaults.run_named(checkpoint)), None
    from ccln.extractors import pick_device, pick_precision, preset_named, preset_with
    from ccln.pipeline.texts import read_names
    from ccln.pipeline.zero_shot import asked_for, zero_shot_on

    asked, where = read_names(names), {**where, "device": pick_device(where["device"])}
    log.info("the classes are %s", "; ".join(asked))
    if checkpoint is not None:
        return asked_for(load_checkpoint(defaults.run_named(checkpoint)), asked, **where), None
    precision = pick_precision("auto", where["device"])
    return zero_shot_on(preset_with(preset_named(preset or "clip-clap"), precision=precision), asked, **where)


def _default_checkpoint() -> Path:
    """What is taken where none is named; the log says which."""
    run = defaults.latest_localizing_run()
    if run is not None:
        log.info("with the newest run, %s; --checkpoint names another", run)
        return run
    log.info("with the small network that comes with ccln, which knows 16 classes; --checkpoint names another")
    return defaults.PRETRAINED


def _pass_on_warnings(checkpoint: "Checkpoint") -> None:
    """Say what its training warned of: anyone may have written the account, so it may hold anything."""
    warnings = checkpoint.training.get("warnings", [])
    for warning in warnings if isinstance(warnings, list) else []:
        log.warning("the checkpoint's training warned: %s", str(warning))


def _decoding(checkpoint: "Checkpoint", threshold: float | None, minimum_duration: int | None) -> "EventDecoding":
    """The checkpoint's, but for what was asked for."""
    asked = {"event_threshold": threshold, "minimum_duration_seconds": minimum_duration}
    return replace(checkpoint.decoding, **{name: value for name, value in asked.items() if value is not None})


def localize_command() -> None:
    """Entry point of ccln-localize."""
    run_function("ccln-localize", localize, _localize, stopped="What was printed and written holds.")


def _localize(
    call: "partial[Localization]",
    *,
    format: Annotated[
        Sequence[PrintedFormat],
        Parameter(
            help="What is printed, each video as soon as it is done: table for people (if not given), json with events "
            "and tracks, csv with one line for each event, and for a single video webvtt, srt, audacity, elan or "
            "label-studio. With --out what is written instead, each format a file (json if not given); may then be "
            "repeated."
        ),
    ] = (),
) -> int:
    from ccln.pipeline.commands.located import localization_heading, localization_json, localization_text
    from ccln.pipeline.data import find_videos

    files = find_videos(call.keywords["videos"])
    _check(format, call, len(files))
    media_root = call.keywords["media_root"]
    format_name: str = next(iter(format), "table")
    printed = call.keywords["out"] is None
    at_once = printed and format_name != "json"  # a JSON document is one of all videos
    with ProgressBar("localize", "video" if len(files) > 1 else "s") as bar:
        if at_once:
            bar.print(localization_heading(format_name))
        found = call(
            videos=files,
            formats=format or ("json",),
            found=(lambda located: bar.print(localization_text(located, format_name, media_root))) if at_once else None,
            progress=bar,
        )
    if printed and not at_once:
        sys.stdout.write(localization_json(found.videos, found.failed))
    if found.written:
        print(visible(f"written: {_listed(found.written)}"), file=sys.stderr)
    return report((*found.failed, *found.unwritten))


def _check(formats: Sequence[PrintedFormat], call: "partial[Localization]", video_count: int) -> None:
    """Refuse options that do not go together.

    Raises:
        FormatError: with what to do.
    """
    if call.keywords["heat_map"] and call.keywords["video"] is None:
        raise FormatError("--heat-map is of the videos that --video FOLDER writes. Name the folder, or leave it out.")
    if call.keywords["out"] is not None:
        if "table" in formats:
            raise FormatError("a table is printed and not written. Give another --format with --out, or no --out.")
    elif len(formats) > 1:
        raise FormatError(f"{', '.join(formats)}: only one format can be printed. Name a folder for files: --out")
    elif formats and video_count > 1 and formats[0] not in _OF_SEVERAL_VIDEOS:
        raise FormatError(f"{formats[0]} is of one video, and these are {video_count}. Name a folder for files: --out")


def _listed(written: Sequence[Path]) -> str:
    if len(written) <= _NAMED:
        return ", ".join(map(str, written))
    folders = dict.fromkeys(str(path.parent) for path in written)
    return f"{counted(len(written), 'file')} in {', '.join(folders)}"
