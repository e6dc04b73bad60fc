"""AVE's annotation files: which clip shows which event, from when to when, in which split."""

import codecs
import os
import stat
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from ccln.pipeline.segments import CLIP_SECONDS, SEGMENT_COUNT

Split = Literal["train", "validation", "test"]

HEADER = "Category&VideoID&Quality&StartTime&EndTime"
LAYOUT = (
    "an AVE folder holds Annotations.txt, trainSet.txt, valSet.txt, testSet.txt "
    f"(one {HEADER} a line) and the videos as AVE/<VideoID>.mp4"
)
# Where a video is there in several containers the earlier ending is taken.
VIDEO_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".ts", ".flv", ".ogv", ".wmv", ".3gp"),
)

SPLIT_FILES: dict[Split, str] = {"train": "trainSet.txt", "validation": "valSet.txt", "test": "testSet.txt"}
_SIZE_LIMIT_BYTES = 8 * 2**20  # the real file has 144 KiB
_SECONDS = {str(second): second for second in range(CLIP_SECONDS + 1)}


class DatasetError(Exception):
    """A data set's folder or files are not what they should be."""


@dataclass(frozen=True, slots=True)
class AnnotatedClip:
    """One row of a split file: a clip and the one event in it.

    Attributes:
        row: Position among the rows of Annotations.txt from 0, which is also the clip's place in the published feature
            files; None where Annotations.txt has no such row.
        label: Category of the event.
        video_id: Name of the video without its ending. Not unique: one video may have several rows.
        quality: The annotators' remark, "good" throughout AVE.
        start_second: First second of the event.
        end_second: The second before which it ends; equal to `start_second` where the clip has no event at all.
        split: The split whose file has the row.
    """

    row: int | None
    label: str
    video_id: str
    quality: str
    start_second: int
    end_second: int
    split: Split


@dataclass(frozen=True)
class AVEFolder:
    """A data set in AVE's layout.

    Attributes:
        folder: Where it lies.
        class_names: Categories in the order in which Annotations.txt first has them: position is class index.
        clips: Every row of the three split files, in their order: train, validation, test.
    """

    folder: Path
    class_names: tuple[str, ...]
    clips: tuple[AnnotatedClip, ...]

    def clips_of(self, split: Split) -> tuple[AnnotatedClip, ...]:
        """The clips of one split, in the order of its file.

        Raises:
            ValueError: No split is called so.
        """
        if split not in get_args(Split):
            raise ValueError(f"no split is called {split!r}; there are {', '.join(get_args(Split))}")
        return tuple(clip for clip in self.clips if clip.split == split)

    def video_of(self, clip: AnnotatedClip) -> Path | None:
        """The clip's video file, None where the folder has none.

        Raises:
            DatasetError: The folder AVE/ is there but cannot be listed.
        """
        return self._videos.get(clip.video_id)

    @cached_property
    def _videos(self) -> dict[str, Path]:
        """Video files by id. Ids are written by others: they are looked up in a listing, never made into paths."""
        folder = self.folder / "AVE"
        try:
            with os.scandir(folder) as listing:
                files = [Path(entry.path) for entry in listing if entry.is_file()]
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DatasetError(f"{folder} cannot be listed ({error}); {LAYOUT}") from error
        videos = [file for file in files if file.suffix.lower() in VIDEO_ENDINGS]
        videos.sort(key=lambda file: (VIDEO_ENDINGS.index(file.suffix.lower()), file.name), reverse=True)
        return {file.stem: file for file in videos}


def read_ave_folder(folder: str | os.PathLike[str]) -> AVEFolder:
    """Reads the annotations and the splits of a folder in AVE's layout.

    Annotations.txt may have its header line (the copy in AVE's archive) or not (the copy in its repository).

    Args:
        folder: The folder that holds Annotations.txt, the three split files and AVE/.

    Raises:
        DatasetError: A file is missing, too large or unreadable, or a row of it is malformed.
    """
    folder = Path(folder)
    annotations = folder / "Annotations.txt"
    rows_of: defaultdict[tuple[str, str, int, int], deque[int]] = defaultdict(deque)
    class_names: dict[str, None] = {}
    for position, (_, row) in enumerate(_read_rows(annotations)):
        rows_of[row.key].append(position)
        class_names.setdefault(row.label)
    if not class_names:
        raise DatasetError(f"{annotations} has no rows; {LAYOUT}")

    clips = []
    for split, name in SPLIT_FILES.items():
        for line_number, row in _read_rows(folder / name):
            if row.label not in class_names:
                raise _row_error(folder / name, line_number, "category", row.label, "a category of Annotations.txt")
            rows = rows_of.get(row.key)
            # Equal rows are given out in order; the last one again to a split that repeats it.
            position = None if rows is None else rows.popleft() if len(rows) > 1 else rows[0]
            clips.append(AnnotatedClip(position, *row, split=split))
    return AVEFolder(folder, tuple(class_names), tuple(clips))


def segment_labels(
    clips: Sequence[AnnotatedClip], class_names: Sequence[str], segments: int = SEGMENT_COUNT
) -> np.ndarray:
    """Class index of every second of every clip.

    A segment has its clip's class where start_second <= segment < end_second, else the background, `len(class_names)`.

    Args:
        clips: The clips.
        class_names: Names whose position is the class index.
        segments: Segments of one second in a clip.

    Returns:
        int64 labels (clip, segment).

    Raises:
        DatasetError: A clip's label is not among `class_names`.
    """
    index_of = {name: index for index, name in enumerate(class_names)}
    unknown = next((clip for clip in clips if clip.label not in index_of), None)
    if unknown is not None:
        raise DatasetError(
            f"clip {unknown.video_id!r} has the label {unknown.label!r}, which is no name of a class here"
        )
    columns = [(index_of[clip.label], clip.start_second, clip.end_second) for clip in clips]
    label, start, end = np.array(columns, dtype=np.int64).reshape(-1, 3, 1).swapaxes(0, 1)
    segment = np.arange(segments)
    return np.where((start <= segment) & (segment < end), label, len(class_names))


class _Row(NamedTuple):
    label: str
    video_id: str
    quality: str
    start_second: int
    end_second: int

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.label, self.video_id, self.start_second, self.end_second


def _read_rows(path: Path) -> Iterator[tuple[int, _Row]]:
    """The rows of a file with their line numbers from 1; blank lines and a header line are passed over."""
    try:
        status = path.stat()
        # A pipe or a device has no size to refuse it by, and may never end.
        if not stat.S_ISREG(status.st_mode):
            raise DatasetError(f"{path} is not a regular file; {LAYOUT}")
        if status.st_size > _SIZE_LIMIT_BYTES:
            limit = f"{_SIZE_LIMIT_BYTES} bytes at most"
            raise DatasetError(f"{path} has {status.st_size} bytes, an annotation file has {limit}; {LAYOUT}")
        with path.open("rb") as file:
            seen_a_row = False
            for line_number, line in enumerate(file, start=1):
                if line_number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if not line.strip():
                    continue
                if seen_a_row or line != HEADER.encode():
                    yield line_number, _parse_row(path, line_number, line)
                seen_a_row = True
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; {LAYOUT}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}); {LAYOUT}") from error


def _parse_row(path: Path, line_number: int, line: bytes) -> _Row:
    try:
        columns = line.decode()
    except UnicodeDecodeError as error:
        raise _row_error(path, line_number, "row", line, "text in UTF-8") from error
    if columns.count("&") != HEADER.count("&"):
        raise _row_error(path, line_number, "row", columns, f"five columns, {HEADER}")
    label, video_id, quality, start, end = columns.split("&")

    if not label.strip() or not label.isprintable():
        raise _row_error(path, line_number, "category", label, "a printable name")
    if not quality.isprintable():
        raise _row_error(path, line_number, "quality", quality, "printable text")
    if (
        not video_id.strip()
        or not video_id.isprintable()  # NUL is among what is not
        or any(part in video_id for part in ("/", "\\", ".."))
    ):
        expected = "a file name without ending, control characters, path separators or '..'"
        raise _row_error(path, line_number, "video id", video_id, expected)
    for name, value in (("start time", start), ("end time", end)):
        if value not in _SECONDS:
            raise _row_error(path, line_number, name, value, f"a whole second from 0 to {CLIP_SECONDS}")
    if _SECONDS[start] > _SECONDS[end]:
        raise _row_error(path, line_number, "start time", start, f"at most the end time, {end}")
    return _Row(label, video_id, quality, _SECONDS[start], _SECONDS[end])


def _row_error(path: Path, line_number: int, name: str, value: str | bytes, expected: str) -> DatasetError:
    # A row may be as long as its file; a message may not.
    shown = repr(value) if len(value) <= 100 else f"{value[:100]!r}..."
    return DatasetError(f"{path}, line {line_number}: {name} {shown}; expected {expected}")
