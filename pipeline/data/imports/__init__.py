"""From the files of annotation tools to a data set's CSV file."""

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ccln.pipeline.data import find_videos
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.data.csv_file import read_csv_rows
from ccln.pipeline.data.imports.annotations import AnnotatedVideo
from ccln.pipeline.data.imports.elan import read_elan
from ccln.pipeline.data.imports.json_files import read_json
from ccln.pipeline.data.imports.text import read_subtitles, read_text
from ccln.pipeline.data.media import MediaFolder, durations_seconds
from ccln.pipeline.data.windows import LabelledSpan
from ccln.pipeline.segments import CLIP_SECONDS

log = logging.getLogger(__name__)

_READERS: Mapping[str, Callable[[Path], list[AnnotatedVideo]]] = {
    ".eaf": read_elan,
    ".json": read_json,
    ".txt": read_text,
    ".tsv": read_text,
    ".vtt": read_subtitles,
    ".srt": read_subtitles,
}


@dataclass(frozen=True)
class ImportedAnnotations:
    """What was written."""

    out: Path
    """The CSV file."""
    videos: int
    """Number of videos, those without events among them."""
    events: int
    media_root: Path | None
    """The folder that the paths are relative to; None if it is the file's own."""


def import_files(files: Iterable[Path], media_root: Path, out: Path, *, overwrite: bool = False) -> ImportedAnnotations:
    """Write the annotations of tools' files as a data set; `ccln.import_annotations` describes arguments and errors."""
    if out.exists() and not overwrite:
        raise DatasetError(f"{out}: is there already. Name another place, or replace it: --overwrite")
    if not media_root.is_dir():
        raise DatasetError(f"{media_root}: no such folder. Name the one that holds the videos: --media-root")
    videos = _Videos(media_root)
    found: dict[str, tuple[Path, tuple[LabelledSpan, ...]]] = {}
    for annotated in (one for file in files for one in read_annotations(file)):
        path = videos.path_of(annotated)
        file, events = found.setdefault(path, (annotated.file, annotated.events))
        if sorted(events) != sorted(annotated.events):
            raise DatasetError(
                f"{annotated.file}: its video {path} has other events in {file}. Give the file that is right"
            )
    if not found:
        raise DatasetError("there is no annotated video in these files. Name files of annotations")
    folder = Path(os.path.realpath(out.parent))
    beside = all(Path(os.path.realpath(media_root / path)).is_relative_to(folder) for path in found)
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "start", "end", "label"))
    durations = durations_seconds(media_root / path for path in found)
    for path, (_, events) in sorted(found.items()):
        written = Path(os.path.realpath(media_root), path).relative_to(folder).as_posix() if beside else path
        for event in events:
            rows.writerow((written, _decimal(event.start_seconds), _decimal(event.end_seconds), event.label))
        if not events:
            rows.writerow((written, "", "", ""))
        elif (duration := durations.get(media_root / path, 0.0)) > CLIP_SECONDS:
            rows.writerow((written, 0, _decimal(duration), ""))  # the tool has shown all of it
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(text.getvalue(), encoding="utf-8")
    os.replace(partial, out)
    return ImportedAnnotations(
        out, len(found), sum(len(events) for _, events in found.values()), None if beside else media_root
    )


def read_annotations(file: Path) -> list[AnnotatedVideo]:
    """Read a file of an annotation tool, or a CSV data set, by its ending and content.

    Raises:
        DatasetError: The file cannot be read, or is none that is known.
    """
    ending = file.suffix.lower()
    if ending == ".csv":
        return _of_csv(file)
    if ending not in _READERS:
        raise DatasetError(
            f"{file}: no file of annotations ends so. Known are .eaf (ELAN), .json (Label Studio, VIA, ccln-localize), "
            ".txt and .tsv (Audacity, Raven), .vtt, .srt and .csv"
        )
    return _READERS[ending](file)


def _of_csv(file: Path) -> list[AnnotatedVideo]:
    found: dict[str, list[LabelledSpan]] = {}
    for row in read_csv_rows(file):
        events = found.setdefault(row.path, [])
        if row.label is not None and row.span is not None:
            events.append(LabelledSpan(row.label, *row.span))
    return [AnnotatedVideo(file, (path,), tuple(events)) for path, events in found.items()]


class _Videos:
    """The videos of a folder, found by whatever annotations call them."""

    def __init__(self, media_root: Path) -> None:
        self._media = MediaFolder(media_root, named=True)
        self._by_stem: dict[str, list[str]] = {}
        for video in find_videos(media_root):
            self._by_stem.setdefault(video.stem, []).append(video.relative_to(media_root).as_posix())

    def path_of(self, annotated: AnnotatedVideo) -> str:
        """The path of the annotations' video relative to the folder.

        Raises:
            DatasetError: There is no such video, or more than one.
        """
        for name in annotated.names:
            try:
                path = self._media.find(name)
            except ValueError:
                continue
            if path in self._by_stem.get(PurePosixPath(path).stem, []):
                return path
        for name in annotated.names:
            same = self._by_stem.get(PureWindowsPath(name).stem, [])
            if len(same) > 1:
                raise DatasetError(
                    f"{annotated.file}: which of these videos is {name!r}: {', '.join(sorted(same)[:5])}? Rename one, "
                    "or name a folder with one of them: --media-root"
                )
            if same:
                return same[0]
        raise DatasetError(
            f"{annotated.file}: its video {annotated.names[0]!r} is not in {self._media.folder}. Name the folder that "
            "holds it: --media-root"
        )


def _decimal(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
