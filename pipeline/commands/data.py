"""The ccln-data command: annotations from other tools, and a report on a data set before it is used."""

import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import OnePath, Paths, ProgressBar, command_of, counted, new_app, run
from ccln.pipeline.visible import visible

if TYPE_CHECKING:
    from ccln.pipeline.data.imports import ImportedAnnotations
    from ccln.pipeline.data.report import DatasetReport


def data_command() -> None:
    """Entry point of ccln-data."""
    app = new_app("ccln-data", "Bring annotations in from other tools, and look at a data set before it is used.")
    app.command(command_of(import_annotations, _import), name="import")
    app.command(command_of(check_data, _check), name="check")
    run(app)


def import_annotations(
    files: Paths,
    *,
    media_root: OnePath = Path(),
    out: OnePath | None = None,
    overwrite: bool = False,
) -> "ImportedAnnotations":
    """Write the annotations of other tools, corrected events too, as a data set: one CSV file.

    Videos are found in the media root by the path or the name that the annotations have for them, or by the name of the
    annotations' file. Labels called background are left out, and so is a confidence after a label, `Bark (0.87)`.

    Args:
        files: ELAN's .eaf, Audacity's labels and Raven's selection tables (.txt), JSON of Label Studio (JSON or
            JSON-MIN), of VIA 3 and of ccln-localize, WebVTT, SubRip, and CSV; or the files of UnAV-100, OV-AVEBench or
            LLP, whose splits are kept, and whose videos that are absent are left out.
        media_root: Folder that holds the videos; this one if it is not given.
        out: The CSV file; set.csv in the media root if it is not given. Its paths are relative to its folder if that
            holds all videos, else to the media root.
        overwrite: Replace the file if it is there.

    Raises:
        DatasetError: A file cannot be read or is none of these, an event has no label or no length, a video is not
            there, or its name fits several; or two files have other events of one video.
        FileNotFoundError: There is no video in the media root.
    """
    from ccln.pipeline.data.imports import import_files

    paths = [files] if isinstance(files, Path | str) else files
    media_root = Path(media_root)
    out = media_root / "set.csv" if out is None else Path(out)
    return import_files([Path(file) for file in paths], media_root, out, overwrite=overwrite)


def check_data(
    data: OnePath | None = None,
    *,
    media_root: OnePath | None = None,
    timeout: Annotated[float, Parameter(validator=validators.Number(gt=0))] = defaults.TIMEOUT_SECONDS,
    progress: Annotated[Callable[[int, int], None] | None, Parameter(parse=False)] = None,
) -> "DatasetReport":
    """Report on a data set before it is used: what it holds, and what may make a result wrong.

    That are classes without training clips, a set to train on without validation or test clips, videos that are absent,
    silent, twice there or in two splits, or crash what decodes them, and events that fill no second.

    Args:
        data: AVE folder or CSV file. If not given, the AVE folder here.
        media_root: Folder that holds the videos of a CSV data set, if they are not beside it.
        timeout: Seconds that listening to ten seconds of a video may take; one that takes longer is reported, after a
            second try.
        progress: Called with videos looked at and videos in all, before the first and after each.

    Raises:
        NothingFoundError: ``data`` is not given and it is not clear which data set is meant.
        DatasetError: The data set is malformed.
    """
    from ccln.pipeline.data import read_dataset
    from ccln.pipeline.data.clips import videos_of
    from ccln.pipeline.data.media import silences
    from ccln.pipeline.data.report import report_on
    from ccln.pipeline.decode.container import DecodeError
    from ccln.pipeline.decode.processes import Decoders
    from ccln.pipeline.workers import worked_on

    def looked_at(file: Path) -> tuple[str | None, bool, str]:
        try:
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            return None, False, f"{file}: cannot be read ({error.strerror}). Check the path and its permissions."
        try:
            return digest, all([*decoders.each(silences, file)]), ""
        except DecodeError as error:
            return digest, False, str(error)

    dataset = read_dataset(defaults.find_data() if data is None else data, media_root)
    videos = videos_of(dataset)
    digests, silent, unheard = {}, [], []
    if progress is not None:
        progress(0, len(videos))
    with Decoders(timeout) as decoders:
        looked = zip(videos, worked_on(videos, looked_at), strict=True)
        for done, (video, (digest, nothing_heard, reason)) in enumerate(looked, 1):
            if digest is not None:
                digests[video] = digest
            silent += [video] * nothing_heard
            unheard += [reason] * bool(reason)
            if progress is not None:
                progress(done, len(videos))
    return report_on(dataset, digests, silent, unheard)


def _import(call: "partial[ImportedAnnotations]") -> int:
    done = call()
    print(f"{counted(done.events, 'event')} in {counted(done.videos, 'video')}: {done.out}")
    if done.media_root is not None:
        print(f"its paths are relative to the media root: give --media-root {done.media_root} wherever it is used")
    return 0


def _check(call: "partial[DatasetReport]") -> int:
    with ProgressBar("check", "video") as bar:
        report = call(progress=bar)
    print(report.summary())
    warnings = report.warnings()
    for warning in warnings:
        print(visible(f"warning: {warning}"), file=sys.stderr)
    return 1 if warnings else 0
