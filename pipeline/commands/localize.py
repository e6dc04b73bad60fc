"""The ccln-localize command: events of videos, for people or for programs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from ccln.pipeline.commands.console import ProgressBar, Videos, report, run_single
from ccln.pipeline.commands.memory import imported_for_good

Format = Literal["table", "json", "csv", "webvtt", "srt", "audacity", "elan", "label-studio"]

_OF_SEVERAL_CLIPS = ("table", "json", "csv")
_NAMED = 3  # written files at most; of more than these their number says more


class FormatError(Exception):
    """The formats asked for cannot be given this way; the message says how they can."""


def localize_command() -> None:
    """Entry point of ccln-localize."""
    about = "Find when and where events are both seen and heard, in videos of any length."
    run_single("ccln-localize", about, _localize, "What was printed and written holds.")


def _localize(
    clips: Videos,
    /,
    *,
    checkpoint: Path | None = None,
    format: Annotated[list[Format] | None, Parameter(negative=())] = None,
    out: Path | None = None,
    plot: Path | None = None,
    video: Path | None = None,
    heat_map: Annotated[bool, Parameter(negative=())] = False,
    html: Path | None = None,
    threshold: Annotated[float | None, Parameter(validator=validators.Number(gt=0, lt=1))] = None,
    shortest: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    hop: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=10))] = 2,
    jobs: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    device: str = "auto",
    visual_weights: Path | None = None,
    audio_weights: Path | None = None,
) -> int:
    """Run ccln-localize.

    Parameters
    ----------
    clips
        Video files, and folders that are searched through and through.
    checkpoint
        Run folder of ccln-train. If not given, the newest run in runs/ whose network locates events; if there is none,
        the small network that comes with ccln, which knows 16 classes.
    format
        What is printed, each clip as soon as it is done: table for people (if not given), json with events and tracks,
        csv with one line an event, and for a single clip webvtt, srt, audacity, elan or label-studio. With --out, what
        is written, each format a file (json if not given); may then be repeated.
    out
        Folder for each clip's files, NAME.json and the like; written as each clip is done, never over another file.
        Nothing is printed then.
    plot
        Folder for one picture a clip, NAME.png: frames with attention, spectrogram, seen, heard, both, events.
    video
        Folder for the clips again with their events drawn in, NAME.events.mp4; their sound is untouched.
    heat_map
        Let --video show where the network looked, too.
    html
        File for one page with all clips, NAME.html: player, waveform, tracks, events and attention; needs no network.
    threshold
        Least probability of the seconds of an event. If not given, the checkpoint's, chosen on validation.
    shortest
        Seconds that an event must last. If not given, the checkpoint's, chosen on validation.
    hop
        The network reads ten seconds; seconds from the start of one such window to that of the next, 1 to 10.
    jobs
        Clips in work at the same time. If not given, as many as there are processors.
    device
        auto, cpu, cuda, cuda:1, ...
    visual_weights
        Local file with the visual network's weights.
    audio_weights
        Local file with the audio network's weights.
    """
    from ccln.pipeline.data.videos import find_videos

    files = find_videos(clips)
    formats: Sequence[Format] = format or ("table" if out is None else "json",)
    if out is not None:
        _check_written(formats)
    else:
        _check_printed(formats, len(files))
    if heat_map and video is None:
        raise FormatError("--heat-map is of the videos that --video FOLDER writes. Name the folder, or leave it out.")

    with imported_for_good():
        from ccln.pipeline.commands.located import localization_heading, localization_json, localization_text
        from ccln.pipeline.localize.localize import localize

    with ProgressBar("localize", "clip") as bar:
        printed = formats[0] if out is None and formats[0] != "json" else None
        if printed:
            bar.print(localization_heading(printed))
        found = localize(
            files,
            checkpoint=checkpoint,
            hop_seconds=hop,
            threshold=threshold,
            shortest_seconds=shortest,
            jobs=jobs,
            device=device,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
            out=out,
            formats=() if out is None else formats,
            plot=plot,
            video=video,
            heat_map=heat_map,
            html=html,
            found=(lambda clip: bar.print(localization_text(clip, printed))) if printed else None,
            progress=bar,
        )
    if out is None and not printed:
        sys.stdout.write(localization_json(found))
    if found.written:
        print(f"written: {_listed(found.written)}", file=sys.stderr)
    return report((*found.failed, *found.unwritten))


def _check_printed(formats: Sequence[str], clip_count: int) -> None:
    if len(formats) > 1:
        raise FormatError(f"{', '.join(formats)}: only one format can be printed. Name a folder for files: --out")
    if clip_count > 1 and formats[0] not in _OF_SEVERAL_CLIPS:
        raise FormatError(f"{formats[0]} is of one clip, and these are {clip_count}. Name a folder for files: --out")


def _check_written(formats: Sequence[str]) -> None:
    if "table" in formats:
        raise FormatError("a table is printed and not written. Give another --format with --out, or no --out.")


def _listed(written: Sequence[Path]) -> str:
    if len(written) <= _NAMED:
        return ", ".join(map(str, written))
    folders = dict.fromkeys(str(path.parent) for path in written)
    return f"{len(written)} files in {', '.join(folders)}"
