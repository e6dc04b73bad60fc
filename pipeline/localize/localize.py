"""Many video files to events and to the files that show them, each as soon as it is done."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ccln.extractors import ExtractorError
from ccln.model import Checkpoint, EventDecoding, load_checkpoint
from ccln.pipeline import defaults
from ccln.pipeline.data.videos import find_videos
from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.extract import Failure
from ccln.pipeline.localize.localizer import Localizer
from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.localize.results import Showing, Wanted
from ccln.pipeline.localize.windows import HOP_SEGMENTS
from ccln.pipeline.report.page import PageClip, write_page
from ccln.pipeline.report.writers import FORMATS, OutputError, distinct_names, make_folder
from ccln.pipeline.segments import SEGMENT_SECONDS
from ccln.pipeline.workers import device_lock, processors, worked_on

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with videos done, videos in all, and how far a long one is."""


@dataclass(frozen=True)
class Localization:
    """What one call found."""

    clips: tuple[LocatedVideo, ...]
    failed: tuple[Failure, ...]
    """Files that could not be read."""
    written: tuple[Path, ...] = ()
    """All files, in the order of the videos."""
    unwritten: tuple[Failure, ...] = ()
    """Videos that were located but whose files could not be written; the page, if it could not."""


def localize(
    clips: Path | str | Iterable[Path | str],
    *,
    checkpoint: Path | str | None = None,
    hop_seconds: int = HOP_SEGMENTS * SEGMENT_SECONDS,
    threshold: float | None = None,
    shortest_seconds: int | None = None,
    jobs: int | None = None,
    device: str = "auto",
    visual_weights: Path | str | None = None,
    audio_weights: Path | str | None = None,
    out: Path | str | None = None,
    formats: Sequence[str] = ("json",),
    plot: Path | str | None = None,
    video: Path | str | None = None,
    heat_map: bool = False,
    html: Path | str | None = None,
    found: Callable[[LocatedVideo], None] | None = None,
    progress: Progress | None = None,
) -> Localization:
    """Find when and where events are both seen and heard in video files of any length.

    Each video's files are written as soon as it is done, and never over another: one that is there already stays if it
    is the same to the byte, and else that video is among `Localization.unwritten`.

    Args:
        clips: a video file or several, and folders that are searched through and through.
        checkpoint: run folder of `train`; if None, the newest in runs/ whose network locates events, and if there is
            none, the one that comes with the package, which knows 16 classes.
        hop_seconds: the network reads ten seconds; from the start of one such window to that of the next, 1 to 10.
        threshold: least probability of a second of an event; if None, the checkpoint's, chosen on validation.
        shortest_seconds: of an event; if None, the checkpoint's, chosen on validation.
        jobs: videos in work at the same time; if None, as many as there are processors.
        device: "auto", "cpu", "cuda", ...
        visual_weights: local file with the visual network's weights.
        audio_weights: local file with the audio network's weights.
        out: folder for files with each video's events (NAME.json and the like), made if it does not exist.
        formats: of those files, out of `ccln.pipeline.report.writers.FORMATS`.
        plot: folder for one picture a video (NAME.png), made if it does not exist.
        video: folder for the videos with their events drawn in, their sound untouched (NAME.events.mp4, or
            .mkv where the sound does not fit into MP4), made if it does not exist.
        heat_map: let those videos show the network's attention, too.
        html: file for one page that shows all videos and needs nothing but itself; written when all are done.
        found: called with each video's events as soon as they are there, in the order of the videos.
        progress: called before the first video, after each, and every ten seconds of a longer one.

    Raises:
        CheckpointError, OtherTaskError, SpecificationError, ExtractorError, WeightsError: no video can be read at all.
        FileNotFoundError: a path does not exist.
        OutputError: a folder for the results cannot be made.
        ValueError: a format is unknown, or a number is out of its range.
    """
    if unknown := set(formats) - FORMATS.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: no such format; choose from {', '.join(FORMATS)}")
    files = find_videos(clips)
    loaded = load_checkpoint(_default_checkpoint() if checkpoint is None else Path(checkpoint))
    localizer = Localizer(
        loaded,
        decoding=_decoding(loaded, threshold, shortest_seconds),
        hop_seconds=hop_seconds,
        device=device,
        visual_weights=visual_weights,
        audio_weights=audio_weights,
    )
    wanted = Wanted(
        out=None if out is None else Path(out),
        formats=formats,
        plot=None if plot is None else Path(plot),
        video=None if video is None else Path(video),
        heat_map=heat_map,
        page=html is not None,
    )
    wanted.make_folders()
    if html is not None:
        make_folder(Path(html).parent)
    done = 0

    def tell(note: str = "") -> None:
        if progress is not None:
            progress(done, len(files), note)

    work = _Work(localizer, wanted, distinct_names(files), tell)
    located: list[LocatedVideo] = []
    shown: list[PageClip] = []
    written: list[Path] = []
    failed: list[Failure] = []
    unwritten: list[Failure] = []
    tell()
    for outcome in work.outcomes(files, jobs):
        if outcome.located is not None:
            located.append(outcome.located)
            if found is not None:
                found(outcome.located)
        shown += [] if outcome.shown is None else [outcome.shown]
        written += outcome.written
        failed += [] if outcome.failed is None else [outcome.failed]
        unwritten += [] if outcome.unwritten is None else [outcome.unwritten]
        done += 1
        tell()
    if html is not None:
        title = files[0].name if len(files) == 1 else "Events both seen and heard"
        try:
            unread = [(failure.path, failure.reason) for failure in failed]
            written.append(write_page(shown, Path(html), title=title, failed=unread))
        except OutputError as error:
            unwritten.append(Failure(Path(html), str(error)))
    return Localization(tuple(located), tuple(failed), tuple(written), tuple(unwritten))


def _default_checkpoint() -> Path:
    """What is taken where none is named; the log says which."""
    run = defaults.latest_localizing_run()
    if run is not None:
        log.info("with the newest run, %s", run)
        return run
    log.info("with the small network that comes with ccln, which knows 16 classes; --checkpoint names another")
    return defaults.PRETRAINED


def _decoding(checkpoint: Checkpoint, threshold: float | None, shortest_seconds: int | None) -> EventDecoding:
    """The checkpoint's, but for what was asked for."""
    asked = {
        "event_threshold": threshold,
        "minimum_duration_seconds": None if shortest_seconds is None else shortest_seconds // SEGMENT_SECONDS,
    }
    return replace(checkpoint.decoding, **{name: value for name, value in asked.items() if value is not None})


@dataclass(frozen=True, eq=False)
class _Outcome:
    located: LocatedVideo | None = None
    shown: PageClip | None = None
    written: Sequence[Path] = ()
    failed: Failure | None = None
    unwritten: Failure | None = None


class _Work:
    """Takes one file after another to its results; any number of threads may call it."""

    def __init__(
        self, localizer: Localizer, wanted: Wanted, names: dict[Path, str], tell: Callable[[str], None]
    ) -> None:
        self._localizer, self._wanted, self._names, self._tell = localizer, wanted, names, tell
        self._device = device_lock(localizer.device)

    def outcomes(self, files: Sequence[Path], jobs: int | None) -> Iterator[_Outcome]:
        """Of each file, in their order."""
        alone = min(len(files), processors() if jobs is None else jobs) == 1  # then the networks take all processors
        yield from map(self, files) if alone else worked_on(files, self, jobs)

    def __call__(self, path: Path) -> _Outcome:
        showing = Showing(self._wanted, self._names[path])

        def told(clip: DecodedClip) -> None:
            if clip.start_seconds:
                self._tell(f"{path.name} {clip.start_seconds / 60:.1f} min")

        try:
            with self._device:
                located = self._localizer.locate(path, told, *showing.watchers())
        except (DecodeError, ExtractorError) as error:
            return _Outcome(failed=Failure(path, str(error)))
        shown = showing.page_clip(located)
        written: list[Path] = []
        try:
            for file in showing.write(located):
                written.append(file)
        except (DecodeError, OutputError) as error:
            return _Outcome(located, shown, written, unwritten=Failure(path, str(error)))
        return _Outcome(located, shown, written)
