"""A data set's clips in their splits, the labels of their seconds, and what the readers of its files share."""

import codecs
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from ccln.pipeline.segments import SEGMENT_COUNT

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# If a video exists in several containers the earlier ending is taken.
VIDEO_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".ts", ".flv", ".ogv", ".wmv", ".3gp", ".3g2", ".asf", ".mts", ".m2ts", ".m2t", ".vob", ".mxf", ".divx", ".xvid"),
    *(".qt", ".f4v", ".mod", ".tod", ".trp", ".tp", ".mpe", ".mpv", ".m1v", ".m2v", ".m2p", ".dv", ".ogm", ".ogx"),
    *(".rm", ".rmvb", ".amv", ".nut", ".nsv", ".gxf", ".wtv", ".ivf", ".mjpeg", ".mjpg", ".y4m", ".vro", ".lrv"),
)

_MAX_BYTES = 8 * 2**20  # of an annotation file; AVE's largest has 144 KiB
LEAST_COVERED_SECONDS = 0.5 - 1e-9
"""Of a second, for it to count as part of a span; half of it but for rounding."""


class DatasetError(Exception):
    """A data set's folder or files are not as they should be."""


class Distractor(NamedTuple):
    """What is seen or heard in a span of a clip's background without being an event."""

    kind: str
    """Such as "seen_not_heard"."""
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True)
class AnnotatedClip:
    """A clip, the one class of event in it, and when."""

    row: int | None
    """Position among the rows of the data set's annotations from 0 (of several rows for one clip, the first); in AVE
    also the clip's place in the published feature files. None if a split file has a row that Annotations.txt has not.
    """
    label: str | None
    """Class of the event, of several that of most of the time; None if the clip is background throughout."""
    video_id: str
    """Name of the video without its ending. Not unique."""
    spans: tuple[tuple[float, float], ...]
    """When there is an event, (start_seconds, end_seconds) each, half-open, in order, without overlap. AVE has exactly
    one in each clip, and one row in which it is empty, start and end being equal."""
    split: Split
    path: Path | None = None
    """The video, whether or not it exists; None if an AVE folder has no video of that id."""
    distractors: tuple[Distractor, ...] | None = None
    """What is in its background; None where nothing is said of that."""
    labels: tuple[str, ...] = ()
    """Class of each span; empty where all are of `label`."""
    start_seconds: int = 0
    """Where in its video the clip starts; the spans are from there."""

    @property
    def name(self) -> str:
        """The name under which its features are found where the video is absent."""
        return clip_name(self.video_id, self.start_seconds)


def clip_name(video_name: str, start_seconds: int) -> str:
    """The name of a clip of a video: the video's own for the first ten seconds."""
    return f"{video_name}@{start_seconds}s" if start_seconds else video_name


@dataclass(frozen=True)
class Dataset:
    """Annotated clips in splits."""

    source: Path
    """The AVE folder or the CSV file."""
    class_names: tuple[str, ...]
    """In the order of their first rows in the annotations; the position is the class index."""
    clips: tuple[AnnotatedClip, ...]
    """All clips. An AVE folder's are in the order of its split files: train, validation, test."""

    def clips_of(self, split: Split) -> tuple[AnnotatedClip, ...]:
        """The clips of one split, in their order.

        Raises:
            ValueError: There is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"no split is called {split!r}; there are {', '.join(SPLITS)}")
        return tuple(clip for clip in self.clips if clip.split == split)

    def video_of(self, clip: AnnotatedClip) -> Path | None:
        """The clip's video file; None if it does not exist."""
        return clip.path if clip.path is not None and os.path.isfile(clip.path) else None


def videos_of(dataset: Dataset) -> list[Path]:
    """The videos of a data set that exist, each once, in the order of its clips."""
    return list(dict.fromkeys(video for clip in dataset.clips if (video := dataset.video_of(clip)) is not None))


def segment_labels(
    clips: Sequence[AnnotatedClip], class_names: Sequence[str], segments: int = SEGMENT_COUNT
) -> np.ndarray:
    """Class index of every second of every clip.

    A segment has its clip's class if the clip's spans cover at least half of its second, else it is background,
    `len(class_names)`; of several classes it has the one that covers most, of equals the earlier. For whole seconds, as
    in AVE, that is start <= segment < end, which gives every cell of the published label files; the rule for fractions
    is our reading.

    Args:
        clips: The clips.
        class_names: Their position is the class index.
        segments: Number of segments in a clip.

    Returns:
        int64 (clip, segment).

    Raises:
        DatasetError: A clip's label is not among `class_names`.
    """
    is_event = [covered_seconds(clip.spans, segments) >= LEAST_COVERED_SECONDS for clip in clips]
    is_event = np.array(is_event, bool).reshape(len(clips), segments)
    classes = np.repeat(class_labels(clips, class_names)[:, np.newaxis], segments, axis=1)
    for row, clip in zip(classes, clips, strict=True):
        if clip.labels:
            row[:] = _main_classes(clip, class_names, segments)
    return np.where(is_event, classes, len(class_names))


def _main_classes(clip: AnnotatedClip, class_names: Sequence[str], segments: int) -> np.ndarray:
    """Of each second of a clip with several classes the one that covers most, int64 (segment,)."""
    names = list(dict.fromkeys(clip.labels))
    covered = [
        covered_seconds([span for span, label in zip(clip.spans, clip.labels, strict=True) if label == name], segments)
        for name in names
    ]
    index_of = class_labels([replace(clip, label=name) for name in names], class_names)
    return index_of[np.argmax(covered, axis=0)]


def covered_seconds(spans: Iterable[Sequence[float]], segments: int) -> np.ndarray:
    """How much of each second spans (start_seconds, end_seconds) without overlap cover, float64 (segment,), 0 to 1."""
    starts, covered = np.arange(segments), np.zeros(segments)
    for start, end in spans:
        covered += np.maximum(np.minimum(end, starts + 1) - np.maximum(start, starts), 0)
    return covered


def class_labels(clips: Sequence[AnnotatedClip], class_names: Sequence[str]) -> np.ndarray:
    """Class index of every clip, int64 (clip,); `len(class_names)`, the background, if it has no event.

    Raises:
        DatasetError: A clip's label is not among `class_names`.
    """
    index_of = {None: len(class_names)} | {name: index for index, name in enumerate(class_names)}
    unknown = next((clip for clip in clips if clip.label not in index_of), None)
    if unknown:
        raise DatasetError(
            f"clip {unknown.video_id!r} has the label {unknown.label!r}, which is no name of a class here"
        )
    return np.array([index_of[clip.label] for clip in clips], np.int64)


def read_annotation_file(path: Path, layout: str) -> bytes:
    """Read a whole annotation file, without its byte order mark; `layout` is what is expected, for the message.

    Raises:
        DatasetError: The file is missing, not a regular file, too large or unreadable.
    """
    try:
        status = path.stat()
        # A pipe or a device has no size to refuse it by, and may never end.
        if not stat.S_ISREG(status.st_mode):
            raise DatasetError(f"{path} is not a regular file; {layout}")
        if status.st_size > _MAX_BYTES:
            raise DatasetError(
                f"{path} has {status.st_size} bytes, an annotation file has {_MAX_BYTES} bytes at most; {layout}"
            )
        return path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; {layout}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}); {layout}") from error


def read_annotation_text(path: Path, layout: str) -> str:
    """Read a whole annotation file as text: UTF-8, or UTF-16 with its byte order mark; arguments and errors as above.

    Raises:
        DatasetError: As of `read_annotation_file`, or the file is no such text.
    """
    data = read_annotation_file(path, layout)
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line_number = data.count(b"\n", 0, error.start) + 1
        wrong = data[error.start : error.start + 10]
        raise row_error(path, line_number, "text", wrong, "UTF-8; save the file in that encoding") from error


def row_error(path: Path, line_number: int, name: str, value: str | bytes, expected: str) -> DatasetError:
    """The error for one value of a row: file and line, the value, and what is expected."""
    # A row may be as long as its file; a message may not.
    shown = repr(value) if len(value) <= 100 else f"{value[:100]!r}..."
    return DatasetError(f"{path}, line {line_number}: {name} {shown}; expected {expected}")
