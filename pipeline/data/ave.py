"""Data sets in AVE's layout: Annotations.txt, a file for each split, and a folder of videos."""

import os
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ccln.pipeline.data.clips import (
    VIDEO_ENDINGS,
    AnnotatedClip,
    Dataset,
    DatasetError,
    Split,
    read_annotation_file,
    row_error,
)
from ccln.pipeline.data.manifest import MANIFEST, read_manifest
from ccln.pipeline.segments import CLIP_SECONDS

HEADER = "Category&VideoID&Quality&StartTime&EndTime"
LAYOUT = (
    "an AVE folder holds Annotations.txt, trainSet.txt, valSet.txt, testSet.txt "
    f"(one {HEADER} a line) and the videos as AVE/<VideoID>.mp4"
)
SPLIT_FILES: dict[Split, str] = {"train": "trainSet.txt", "validation": "valSet.txt", "test": "testSet.txt"}
ANNOTATIONS, BACKGROUND_SET = "Annotations.txt", "backgroundSet.txt"
LISTINGS = frozenset({ANNOTATIONS, BACKGROUND_SET, MANIFEST, *SPLIT_FILES.values()})
"""The text files of the layout, in the folder that holds Annotations.txt."""
UNSEEN = (
    *("Horse", "Baby cry, infant cry", "Helicopter", "Motorcycle", "Violin, fiddle", "Mandolin"),
    *("Church bell", "Chainsaw"),
)
"""Eight of AVE's 28 classes that open heads are not trained on: our own choice, for AVE has no published one. Of each
kind (animals, voices, vehicles, instruments, other things) some are seen and some are not."""
_SECONDS = [str(second) for second in range(CLIP_SECONDS + 1)]


def read_ave_folder(folder: str | os.PathLike[str]) -> Dataset:
    """Read the annotations and the splits of a folder in AVE's layout.

    Annotations.txt may have its header line (as in AVE's archive) or not (as in its repository). In the latter the
    splits are index files (train_order.h5, val_order.h5, test_order.h5): each is read if the text file is missing. If
    there is a manifest.jsonl, the clips have its distractors; see `read_manifest`.

    Args:
        folder: The folder that holds Annotations.txt, the split files and AVE/, which may be absent.

    Raises:
        DatasetError: A file is missing, too large or unreadable, a row of it is malformed, or AVE/ cannot be listed.
    """
    folder = Path(folder)
    annotations = folder / ANNOTATIONS
    rows = [row for _, row in _read_rows(annotations)]
    class_names = tuple(dict.fromkeys(row.label for row in rows))
    if not rows:
        raise DatasetError(f"{annotations} has no rows; {LAYOUT}")
    positions_of: defaultdict[_Row, deque[int]] = defaultdict(deque)
    for position, row in enumerate(rows):
        positions_of[row].append(position)

    videos = videos_by_id(folder)
    manifest = folder / MANIFEST
    distractors = read_manifest(manifest) if manifest.exists() else {}
    clips = []
    for split, name in SPLIT_FILES.items():
        indexed = None if (folder / name).exists() else _indexed_rows(folder, split, rows)
        listed = _listed_rows(folder / name, class_names, positions_of)
        for position, row in listed if indexed is None else indexed:
            video_id, span = row.video_id, (row.start_seconds, row.end_seconds)
            of_clip = videos.get(video_id), distractors.get(video_id)
            clips.append(AnnotatedClip(position, row.label, video_id, (span,), split, *of_clip))
    return Dataset(folder, class_names, tuple(clips))


def _indexed_rows(folder: Path, split: Split, rows: Sequence["_Row"]) -> list[tuple[int | None, "_Row"]] | None:
    """The rows of a split's index file with their positions; None if there is none."""
    from ccln.pipeline.data.published import ORDERS, read_orders  # imports torch, which the text files do not need

    name = ORDERS[split]
    order = read_orders(folder, {split: name}, len(rows)).get(name)
    return None if order is None else [(position, rows[position]) for position in order.tolist()]


def _listed_rows(
    path: Path, class_names: Collection[str], positions_of: Mapping["_Row", deque[int]]
) -> Iterator[tuple[int | None, "_Row"]]:
    """The rows of a split's text file, each with its position in Annotations.txt, None if it is not there."""
    for line_number, row in _read_rows(path):
        if row.label not in class_names:
            raise row_error(path, line_number, "category", row.label, "a category of Annotations.txt")
        positions = positions_of.get(row)
        # Equal rows are assigned in order; the last one again to a split that repeats it.
        yield None if positions is None else positions.popleft() if len(positions) > 1 else positions[0], row


def listed_background_ids(folder: Path) -> list[str] | None:
    """Video ids of backgroundSet.txt, in its order; None if the folder has no such file.

    Raises:
        DatasetError: The file cannot be read.
    """
    listing = folder / BACKGROUND_SET
    if not listing.exists():
        return None
    rows = [line.split("&") for line in read_annotation_file(listing, LAYOUT).decode(errors="replace").splitlines()]
    return [row[1] for row in rows if len(row) == 5 and row[4] != "EndTime"]


def videos_by_id(folder: Path) -> dict[str, Path]:
    """Video files of a folder in AVE's layout by id; none if AVE/ does not exist.

    Ids are written by strangers: they are looked up in a listing, never made into paths.

    Raises:
        DatasetError: AVE/ cannot be listed.
    """
    folder = folder / "AVE"
    try:
        with os.scandir(folder) as listing:
            files = [Path(entry.path) for entry in listing if entry.is_file()]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DatasetError(f"{folder} cannot be listed ({error}); {LAYOUT}") from error
    # The ending that is preferred comes last, and stays.
    return {
        file.stem: file
        for ending in reversed(VIDEO_ENDINGS)
        for file in sorted(files, reverse=True)
        if file.suffix.lower() == ending
    }


class _Row(NamedTuple):
    label: str
    video_id: str
    start_seconds: int
    end_seconds: int


def _read_rows(path: Path) -> Iterator[tuple[int, _Row]]:
    """The rows of a file with their line numbers from 1, without blank lines and the header line."""
    lines = enumerate(read_annotation_file(path, LAYOUT).split(b"\n"), start=1)
    rows = [(line_number, line.removesuffix(b"\r")) for line_number, line in lines if line.strip()]
    for line_number, line in rows[1:] if rows and rows[0][1] == HEADER.encode() else rows:
        yield line_number, _parse_row(path, line_number, line)


def _parse_row(path: Path, line_number: int, line: bytes) -> _Row:
    try:
        columns = line.decode()
    except UnicodeDecodeError as error:
        raise row_error(path, line_number, "row", line, "text in UTF-8") from error
    if columns.count("&") != HEADER.count("&"):
        raise row_error(path, line_number, "row", columns, f"five columns, {HEADER}")
    label, video_id, quality, start, end = columns.split("&")

    if not label.strip() or not label.isprintable():
        raise row_error(path, line_number, "category", label, "a printable name")
    if not quality.isprintable():
        raise row_error(path, line_number, "quality", quality, "printable text")
    if not video_id.strip() or not video_id.isprintable() or any(part in video_id for part in ("/", "\\", "..")):
        expected = "a file name without ending, control characters, path separators or '..'"
        raise row_error(path, line_number, "video id", video_id, expected)
    for name, value in (("start time", start), ("end time", end)):
        if value not in _SECONDS:
            raise row_error(path, line_number, name, value, f"a whole second from 0 to {CLIP_SECONDS}")
    if int(start) > int(end):
        raise row_error(path, line_number, "start time", start, f"at most the end time, {end}")
    return _Row(label, video_id, int(start), int(end))
