"""The files that show what was found: formats, pictures, videos with their events drawn in, and one page."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.decode.damage import OnDamage
from ccln.pipeline.decode.processes import Decoders
from ccln.pipeline.extract.failures import Failure
from ccln.pipeline.localize.result import LocatedVideo, absolute
from ccln.pipeline.report.page import PageVideo, waveform_peaks, write_page
from ccln.pipeline.report.writers import (
    CONFIGURATION_NAME,
    FORMATS,
    OutputError,
    distinct_names,
    labelling_configuration,
    make_folder,
    within_media_root,
    write_beside,
    write_files,
)

# Matplotlib draws in one thread at a time.
_DRAWING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which files are to be written, and where."""

    out: Path | None = None
    """Folder of the files in `formats`."""
    formats: Sequence[str] = ()
    """Out of `FORMATS`."""
    media_root: Path | None = None
    """What Label Studio's links to videos are relative to."""
    plot: Path | None = None
    """Folder of the pictures."""
    video: Path | None = None
    """Folder of the videos with their events drawn in."""
    audio_track: str | None = None
    """Which audio track of the source these have, as for `decode_clip`."""
    on_damage: OnDamage = "error"
    """What these do where the source is damaged, likewise."""
    heat_map: bool = False
    """Whether these show the attention, too."""
    page: Path | None = None
    """The page."""
    overwrite: bool = False
    """Whether to replace files of the same names."""


class Outputs:
    """Writes what is wanted of some videos, each as soon as it is done, and the page when all are."""

    def __init__(self, wanted: Wanted, files: Sequence[Path], event_labels: Sequence[str], decoders: Decoders) -> None:
        """Make the folders, and check that all can be written, before any video is read.

        Args:
            wanted: what to write.
            files: the videos.
            event_labels: all that events may be called.
            decoders: what reads the videos once more, to draw events into them.

        Raises:
            OutputError: a file is there already and may not be replaced, a video is not within the media root, or a
                folder cannot be made.
            ValueError: a format is unknown.
        """
        if unknown := set(wanted.formats) - FORMATS.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: no such format; choose from {', '.join(FORMATS)}")
        self._wanted, self._files, self._decoders = wanted, files, decoders
        self._names = distinct_names(files)
        self._outputs: dict[Path, VideoOutputs] = {}
        self._check_places()
        for folder in (wanted.out, wanted.plot, wanted.video, wanted.page and wanted.page.parent):
            if folder is not None:
                make_folder(folder)
        if wanted.out is not None and "label-studio" in wanted.formats:
            for path in files:
                within_media_root(path, wanted.media_root)
            configuration = labelling_configuration(event_labels).encode()
            write_files({wanted.out / CONFIGURATION_NAME: [configuration]}, overwrite=wanted.overwrite)

    def watcher(self, path: Path) -> "VideoOutputs":
        """What watches a video and writes its files."""
        self._outputs[path] = VideoOutputs(self._wanted, self._names[path], self._decoders)
        return self._outputs[path]

    def finish(self, failed: Sequence[Failure]) -> tuple[tuple[Path, ...], tuple[Failure, ...]]:
        """Write the page, when all videos are done.

        Args:
            failed: files that could not be read.

        Returns:
            All files that were written, in the order of the videos, and why others were not.
        """
        outputs = [self._outputs[path] for path in self._files]
        written = [path for output in outputs for path in output.written]
        unwritten = [output.unwritten for output in outputs if output.unwritten is not None]
        page = self._wanted.page
        if page is not None:
            title = self._files[0].name if len(self._files) == 1 else "Events both seen and heard"
            videos = [output.page_video for output in outputs if output.page_video is not None]
            # Only files are localized in.
            unread = [(failure.path, failure.reason) for failure in failed if isinstance(failure.path, Path)]
            try:
                written.append(write_page(videos, page, title=title, failed=unread, overwrite=self._wanted.overwrite))
            except OutputError as error:
                unwritten.append(Failure(page, str(error)))
        return tuple(written), tuple(unwritten)

    def _check_places(self) -> None:
        paths = list(self._paths())
        read = {absolute(path) for path in self._files}
        if lost := [path for path in paths if absolute(path) in read]:
            raise OutputError(f"{lost[0]}: is one of the videos to be read, and would be replaced. Name another place.")
        if not self._wanted.overwrite and (there := [path for path in paths if path.exists()]):
            more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
            raise OutputError(f"{there[0]}{more}: is there already. Name another place, or replace it: --overwrite")

    def _paths(self) -> Iterator[Path]:
        """All files that may be written."""
        wanted = self._wanted
        for name in self._names.values():
            if wanted.out is not None:
                yield from (wanted.out / f"{name}{FORMATS[format_name]}" for format_name in wanted.formats)
            if wanted.plot is not None:
                yield wanted.plot / f"{name}.png"
            if wanted.video is not None:
                yield from (wanted.video / f"{name}.events{suffix}" for suffix in (".mp4", ".mkv"))
        if wanted.page is not None:
            yield wanted.page


class VideoOutputs:
    """Watches one video while it is decoded, then writes its files."""

    def __init__(self, wanted: Wanted, name: str, decoders: Decoders) -> None:
        """Begin.

        Args:
            wanted: which files.
            name: of each, without its suffix.
            decoders: as for `Outputs`.
        """
        self._wanted, self._name, self._decoders = wanted, name, decoders
        self._peaks: list[np.ndarray] = []
        self._picture = None
        if wanted.plot is not None:
            from ccln.pipeline.report.picture import TimelinePicture

            self._picture = TimelinePicture()
        self.written: list[Path] = []
        self.unwritten: Failure | None = None
        """The video and why not all of its files were written."""
        self.page_video: PageVideo | None = None

    def watch(self, clip: DecodedClip) -> None:
        """Take what the picture and the page need of the next ten seconds."""
        if self._wanted.page is not None:
            self._peaks.append(waveform_peaks(clip.waveform, clip.sample_rate_hz))
        if self._picture is not None:
            self._picture.add(clip)

    def finish(self, located: LocatedVideo) -> None:
        """Write the files, up to one that cannot be written."""
        if self._wanted.page is not None:
            self.page_video = PageVideo(located, np.concatenate(self._peaks))
        try:
            self.written.extend(self._write(located))
        except (DecodeError, OutputError) as error:
            self.unwritten = Failure(located.path, str(error))

    def _write(self, located: LocatedVideo) -> Iterator[Path]:
        wanted, overwrite = self._wanted, self._wanted.overwrite
        if wanted.out is not None:
            yield from write_beside(
                located,
                wanted.out,
                wanted.formats,
                name=self._name,
                media_root=wanted.media_root,
                overwrite=overwrite,
            )
        if self._picture is not None and wanted.plot is not None:
            path = wanted.plot / f"{self._name}.png"
            with _DRAWING:
                self._picture.draw(located, path, overwrite=overwrite)
            yield path
        if wanted.video is not None:
            from ccln.pipeline.report.video import write_video

            destination = wanted.video / f"{self._name}.events"
            yield write_video(
                located,
                located.path,
                destination,
                self._decoders,
                audio_track=wanted.audio_track,
                on_damage=wanted.on_damage,
                heat_map=wanted.heat_map,
                overwrite=overwrite,
            )
