"""The ccln-localize command: events of videos, for people or for programs."""

from pathlib import Path
from typing import Literal

from ccln.pipeline.commands.console import ProgressBar, Videos, report, run_single


def localize_command() -> None:
    """Entry point of ccln-localize."""
    about = "Find when events are both seen and heard, in the first ten seconds of videos."
    run_single("ccln-localize", about, _localize)


def _localize(
    clips: Videos,
    /,
    *,
    checkpoint: Path | None = None,
    format: Literal["table", "json", "csv"] = "table",
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
        table for people; json with events and tracks, or csv with one line an event, for programs.
    plots
        Folder for one picture a clip: frames with attention, spectrogram, seen, heard, both, events.
    device
        auto, cpu, cuda, cuda:1, ...
    visual_weights
        Local file with the visual network's weights.
    audio_weights
        Local file with the audio network's weights.
    """
    from ccln.pipeline.commands.formats import LOCALIZATION_FORMATS
    from ccln.pipeline.localization import localize

    with ProgressBar("localize", "clip") as bar:
        found = localize(
            clips,
            checkpoint=checkpoint,
            device=device,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
            plots=plots,
            progress=bar,
        )
    print(LOCALIZATION_FORMATS[format](found))
    return report(found.failed)
