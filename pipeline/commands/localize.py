"""The ccln-localize command: events of videos, for people or for programs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ccln.pipeline.commands.console import ProgressBar, Videos, report, run_single

Format = Literal["table", "json", "csv", "webvtt", "srt", "audacity", "elan", "label-studio"]

_OF_SEVERAL_CLIPS = ("table", "json", "csv")
_NAMED = 3  # written files at most; of more than these their number says more


class FormatError(Exception):
    """The formats asked for cannot be given this way; the message says how they can."""


def localize_command() -> None:
    """Entry point of ccln-localize."""
    about = "Find when events are both seen and heard, in the first ten seconds of videos."
    run_single("ccln-localize", about, _localize, "Files in --out and --plots are kept.")


def _localize(
    clips: Videos,
    /,
    *,
    checkpoint: Path | None = None,
    format: Annotated[list[Format] | None, Parameter(negative=())] = None,
    out: Path | None = None,
    html: Path | None = None,
    plots: Path | None = None,
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
        Run folder of ccln-train. If not given, the newest run in runs/ whose network locates events.
    format
        What is printed: table for people (if not given), json with events and tracks, csv with one line an event, and
        for a single clip webvtt, srt, audacity, elan or label-studio. With --out, what is written, each format a file
        (json if not given); may then be repeated.
    out
        Folder for each clip's files, NAME.json and the like; written as each clip is done, never over another file.
        Nothing is printed then.
    html
        File for one page with all clips, NAME.html: player, waveform, tracks, events and attention; needs no network.
    plots
        Folder for one picture a clip: frames with attention, spectrogram, seen, heard, both, events.
    device
        auto, cpu, cuda, cuda:1, ...
    visual_weights
        Local file with the visual network's weights.
    audio_weights
        Local file with the audio network's weights.
    """
    from ccln.pipeline.datasets.videos import find_videos

    files = find_videos(clips)
    formats: Sequence[Format] = format or ("table" if out is None else "json",)
    if out is not None:
        _check_written(formats)
    else:
        _check_printed(formats, len(files))

    from ccln.pipeline.commands.formats import localization_text
    from ccln.pipeline.localization import localize

    with ProgressBar("localize", "clip") as bar:
        found = localize(
            files,
            checkpoint=checkpoint,
            device=device,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
            out=out,
            formats=() if out is None else formats,
            html=html,
            plots=plots,
            progress=bar,
        )
    if out is None:
        print(localization_text(found, formats[0]), end="")
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
