"""Many video files to their events, in the order of the files, each as soon as it is done."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.decode.container import DecodeError, stated_seconds
from ccln.pipeline.decode.processes import Decoders
from ccln.pipeline.extract.failures import Failure
from ccln.pipeline.localize.localizer import Localizer
from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.workers import processors, worked_on

Progress = Callable[[int, int, str], None]
"""Called with what is done and what there is in all, and how far a long video is. Of several videos their number
counts, of a single one its seconds."""


class Watcher(Protocol):
    """Sees one video while it is decoded, and then what was found in it; all in one thread."""

    def watch(self, clip: DecodedClip) -> None:
        """Called with every ten seconds of the video, in order."""
        ...

    def finish(self, located: LocatedVideo) -> None:
        """Called when the video is done; not if it cannot be read."""
        ...


def locate_videos(
    localizer: Localizer,
    files: Sequence[Path],
    decoders: Decoders,
    *,
    watcher_of: Callable[[Path], Watcher],
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[LocatedVideo | Failure]:
    """Find the events of video files of any length; memory does not grow with it, but for the tracks.

    Args:
        localizer: the network and its extractors.
        files: video files.
        decoders: what decodes them.
        watcher_of: makes the watcher of a file.
        jobs: videos in work at the same time; as many as there are processors if None.
        progress: see `Progress`; called before the first video, after each, and every ten seconds of a longer one.

    Yields:
        What was found in each file, or why it could not be read, in the order of the files. Its watcher is through.

    Raises:
        ValueError: `jobs` is less than 1.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}, but has to be 1 or more")
    report = _Report(progress, files, decoders)
    work = _Work(localizer, decoders, watcher_of, report)
    alone = min(len(files), processors() if jobs is None else jobs) == 1  # then the networks take all processors
    for result in map(work, files) if alone else worked_on(files, work, jobs):
        report.done()
        yield result


class _Report:
    """Turns what happens into calls of the progress callback."""

    def __init__(self, progress: Progress | None, files: Sequence[Path], decoders: Decoders) -> None:
        self._progress, self._alone = progress, len(files) == 1
        self.error: Exception | None = None
        """What the callback raised, who wants to end the whole."""
        self._done, self._total = 0, _stated_seconds(files[0], decoders) if self._alone else len(files)
        self._tell()

    def watched(self, path: Path, clip: DecodedClip) -> None:
        """Ten seconds of a video have been decoded."""
        if self._alone:
            self._done = int(clip.start_seconds)
            self._total = max(self._total, int(clip.start_seconds + clip.duration_seconds))
        if clip.start_seconds:
            try:
                self._tell("" if self._alone else f"{path.name} {clip.start_seconds / 60:.1f} min")
            except Exception as error:
                self.error = error
                raise

    def done(self) -> None:
        """A video is done."""
        self._done = self._total if self._alone else self._done + 1
        self._tell()

    def _tell(self, note: str = "") -> None:
        if self._progress is not None:
            self._progress(self._done, self._total, note)


def _stated_seconds(path: Path, decoders: Decoders) -> int:
    """Length of a video as its header states it; 0 where it does not, or is none."""
    try:
        return int(decoders.once(stated_seconds, path) or 0)
    except DecodeError:  # reported when it is decoded
        return 0


class _Work:
    """Takes one file after another to its result; any number of threads may call it."""

    def __init__(
        self, localizer: Localizer, decoders: Decoders, watcher_of: Callable[[Path], Watcher], report: _Report
    ) -> None:
        self._localizer, self._decoders, self._watcher_of, self._report = localizer, decoders, watcher_of, report

    def __call__(self, path: Path) -> LocatedVideo | Failure:
        watcher = self._watcher_of(path)
        try:
            located = self._localizer.locate(
                path, self._decoders, lambda clip: self._report.watched(path, clip), watcher.watch
            )
            watcher.finish(located)
        except Exception as error:
            if error is self._report.error:
                raise
            return Failure.of(path, error)
        return located
