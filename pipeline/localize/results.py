"""The files that show what was found in one video: formats, picture, video, and its part of the page."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.report.page import PageClip, waveform_peaks
from ccln.pipeline.report.writers import make_folder, write_beside

# Matplotlib draws in one thread at a time.
_DRAWING = threading.Lock()


@dataclass(frozen=True)
class Wanted:
    """What is to be made of each video, and where."""

    out: Path | None = None
    """Folder of the files in `formats`."""
    formats: Sequence[str] = ()
    plot: Path | None = None
    """Folder of the pictures."""
    video: Path | None = None
    """Folder of the videos with their events drawn in."""
    heat_map: bool = False
    """Whether these show the attention, too."""
    page: bool = False
    """Whether there is to be a page."""

    def make_folders(self) -> None:
        """Make them where they do not exist.

        Raises:
            OutputError: one cannot be made.
        """
        for folder in (self.out, self.plot, self.video):
            if folder is not None:
                make_folder(folder)


class Showing:
    """Watches one video while it is read, then writes what is wanted of it."""

    def __init__(self, wanted: Wanted, name: str) -> None:
        """Begin.

        Args:
            wanted: which files.
            name: of each, without its suffix.
        """
        self._wanted, self._name = wanted, name
        self._peaks: list[np.ndarray] = []
        self._picture = None
        if wanted.plot is not None:
            from ccln.pipeline.report.picture.picture import TimelinePicture

            self._picture = TimelinePicture()

    def watchers(self) -> list[Callable[[DecodedClip], None]]:
        """What has to see each ten seconds."""
        watchers: list[Callable[[DecodedClip], None]] = []
        if self._wanted.page:
            watchers.append(lambda clip: self._peaks.append(waveform_peaks(clip.waveform, SAMPLE_RATE_HZ)))
        if self._picture is not None:
            watchers.append(self._picture.add)
        return watchers

    def page_clip(self, located: LocatedVideo) -> PageClip | None:
        """Its part of the page, where there is to be one."""
        return PageClip(located, np.concatenate(self._peaks)) if self._wanted.page else None

    def write(self, located: LocatedVideo) -> Iterator[Path]:
        """Write the files, each when it is asked for.

        Raises:
            OutputError: one is there already with other content, or cannot be written.
            DecodeError: the video could not be read a second time.
        """
        wanted = self._wanted
        if wanted.out is not None:
            yield from write_beside(located, wanted.out, wanted.formats, name=self._name)
        if self._picture is not None and wanted.plot is not None:
            path = wanted.plot / f"{self._name}.png"
            with _DRAWING:
                self._picture.draw(located, path)
            yield path
        if wanted.video is not None:
            from ccln.pipeline.report.video import write_video

            destination = wanted.video / f"{self._name}.events"
            yield write_video(located, located.path, destination, heat_map=wanted.heat_map)
