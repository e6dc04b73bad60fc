"""From the files of annotation tools to a data set's CSV file."""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ccln.pipeline.data import find_videos
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.data.csv_file import read_csv_rows, split_by_path, write_csv
from ccln.pipeline.data.imports.annotations import AnnotatedVideo
from ccln.pipeline.data.imports.elan import read_elan
from ccln.pipeline.data.imports.json_files import read_json
from ccln.pipeline.data.imports.published import read_published
from ccln.pipeline.data.imports.text import read_subtitles, read_text
from ccln.pipeline.data.media import MediaFolder, durations_seconds
from ccln.pipeline.data.windows import SLIVER_SECONDS, LabelledSpan
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
    published, others, remarks = read_published(list(files))
    videos, found = _Videos(media_root), dict[str, AnnotatedVideo]()
    absent: list[str] = []
    for annotated in itertools.chain(published, *map(read_annotations, others)):
        path = videos.find(annotated)
        if path is None and annotated.split is None:
            raise DatasetError(
                f"{annotated.file}: its video {annotated.names[0]!r} is not in {media_root}. Name the folder "
                "that holds it: --media-root"
            )
        if path is None:
            absent.append(annotated.names[0])
        elif sorted(found.setdefault(path, annotated).events) != sorted(annotated.events):
            raise DatasetError(
                f"{annotated.file}: its video {path} has other events in {found[path].file}. Give one of them"
            )
    if absent:
        log.warning("%d videos are not there and are left out (%s, ...)", len(absent), ", ".join(absent[:3]))
    for remark in remarks:
        log.warning("%s", remark)
    if not found:
        raise DatasetError(f"no video of these annotations is in {media_root}. Name the folder that holds them")
    folder = Path(os.path.realpath(out.parent))
    beside = all(Path(os.path.realpath(media_root / path)).is_relative_to(folder) for path in found)
    durations = durations_seconds(media_root / path for path in found)
    splits = any(annotated.split for annotated in found.values())
    rows: list[tuple[object, ...]] = [("path", "start", "end", "label", *(["split"] if splits else []))]
    for path, annotated in sorted(found.items()):
        written = Path(os.path.realpath(media_root), path).relative_to(folder).as_posix() if beside else path
        split = [annotated.split or split_by_path(written)] if splits else []
        duration = durations.get(media_root / path)
        if duration is not None and duration > annotated.most_seconds + 1:
            log.warning("%s: is not the clip that was annotated but longer, and is left out", path)
            continue
        for event in annotated.events:
            end = event.end_seconds
            if annotated.split is not None and duration is not None:  # people cannot correct a published file
                end = min(end, duration)
            if event.start_seconds < end:
                rows.append((written, float(event.start_seconds), float(end), event.label, *split))
        if not annotated.events:
            rows.append((written, "", "", "", *split))
        elif duration is not None and duration > CLIP_SECONDS + SLIVER_SECONDS:
            rows.append((written, 0, duration, "", *split))  # the tool has shown all of it
    write_csv(out, rows)
    return ImportedAnnotations(
        out, len(found), sum(len(annotated.events) for annotated in found.values()), None if beside else media_root
    )


def read_annotations(file: Path) -> list[AnnotatedVideo]:
    """Read a file of an annotation tool, or a CSV data set, by its ending and content.

    Raises:
        DatasetError: The file cannot be read, or is none that is known.
    """
    ending = file.suffix.lower()
    if ending == ".csv":
        return _of_csv(file)
    if ending == ".npy":
        raise DatasetError(
            f"{file}: holds features, as UnAV-100 publishes them. Import their folder with its annotations: "
            "ccln-cache import-unav unav100_annotations.json FOLDER"
        )
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

    def find(self, annotated: AnnotatedVideo) -> str | None:
        """The path of the annotations' video relative to the folder; None if it is not there.

        Raises:
            DatasetError: Its name fits several.
        """
        for name in annotated.names:
            try:
                path = self._media.find(name)
            except ValueError:
                continue
            if path in self._by_stem.get(PurePosixPath(path).stem, []):
                return path
        for name in annotated.names:
            same = self._by_stem.get(PureWindowsPath(name).stem, []) or self._by_stem.get(name, [])
            if len(same) > 1:
                raise DatasetError(
                    f"{annotated.file}: which of these videos is {name!r}: {', '.join(sorted(same)[:5])}? Rename one, "
                    "or name a folder with one of them: --media-root"
                )
            if same:
                return same[0]
        return None
