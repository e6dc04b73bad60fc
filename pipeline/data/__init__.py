"""Annotated data sets: which clip has which event, from when to when, and in which split; and the videos of paths."""

import logging
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import VIDEO_ENDINGS, Dataset, DatasetError
from ccln.pipeline.data.csv_file import read_csv_dataset
from ccln.pipeline.data.folders import nearly_the_same, videos_in
from ccln.pipeline.data.remote import Video, videos_at
from ccln.pipeline.data.shards import Shard
from ccln.storage import is_url

log = logging.getLogger(__name__)

_FIRST = frozenset({0})
"""Where the only clip of a file starts: one object, for there may be a million files."""


def read_dataset(path: str | os.PathLike[str], media_root: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a data set: a folder in AVE's layout, or a CSV file `path,start,end,label[,split]`.

    Args:
        path: The folder or the file.
        media_root: The folder that holds the videos of a CSV, if they are not beside it.

    Raises:
        DatasetError: There is neither, or it is malformed; see `read_ave_folder` and `read_csv_dataset`.
    """
    path = Path(path)
    if path.is_dir():
        if media_root is not None:
            raise DatasetError(f"{path}: holds its videos itself, as AVE/. Leave --media-root out, or name a CSV file")
        return read_ave_folder(path)
    if not path.exists():
        raise DatasetError(
            f"{path}: no such file or folder. A data set is a folder that holds Annotations.txt, as AVE's, "
            "or a CSV file path,start,end,label[,split]"
        )
    return read_csv_dataset(path, media_root)


def find_videos(
    paths: Path | str | Iterable[Path | str], media_root: str | os.PathLike[str] | None = None
) -> list[Path]:
    """The files named, and the videos of the folders and CSV data sets named, each once; see `find_clips`.

    Raises:
        FileNotFoundError, DatasetError: as there, and of URLs.
    """
    return list(all_here(find_clips(paths, media_root)))


def all_here(found: Mapping[Video, Collection[int]]) -> dict[Path, Collection[int]]:
    """The videos that `find_clips` found, for what takes files of this machine alone.

    Raises:
        FileNotFoundError: One is of a URL.
    """
    for video in found:
        if not isinstance(video, str):
            raise FileNotFoundError(f"{video}: videos of URLs can only be extracted. Copy it here.")
    return {Path(video): starts for video, starts in found.items() if isinstance(video, str)}


def find_clips(
    paths: Path | str | Iterable[Path | str],
    media_root: str | os.PathLike[str] | None = None,
    shard: Shard | None = None,
) -> dict[Video, Collection[int]]:
    """The files named, and the videos of the folders, URLs and CSV data sets named, each with where its clips start.

    That is second 0 for files and those of folders and URLs; a CSV data set may have any of a video's windows. Folders
    are searched recursively, in sorted order. A CSV's videos come in the order of its rows; one that is not there is
    left out, with a warning.

    A file of this machine is a text, as the path that leads to it; see `videos_in`.

    Args:
        paths: One or several.
        media_root: The folder that holds the videos of the CSV files, if they are not beside them.
        shard: Which of them to return; all if None.

    Raises:
        FileNotFoundError: a path does not exist, or not one video is there.
        DatasetError: a CSV file is no data set.
        StorageError: a URL's storage cannot be reached.
    """
    given = [paths] if isinstance(paths, Path | str) else list(paths)
    found: dict[Video, Collection[int]] = {}
    for url in (str(place) for place in given if is_url(place)):
        inside, left_out = videos_at(url)
        if left_out:
            log.info("%s", left_out)
        found.update(dict.fromkeys(inside, _FIRST))
    paths = [Path(path) for path in given if not is_url(path)]
    for path in paths:
        if path.is_dir():
            inside, left_out = videos_in(path)
            if left_out:
                log.info("%s", left_out)
            _add(found, dict.fromkeys(inside, _FIRST))
        elif not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder. Check the path.")
        elif path.suffix.lower() == ".csv":
            _add(found, _listed(path, media_root))
        else:
            _add(found, {str(path): _FIRST})
    if not found:
        names = ", ".join(map(str, given))
        raise FileNotFoundError(f"{names}: no video in it (no file that ends in {', '.join(VIDEO_ENDINGS[:8])}, ...).")
    if shard is None:
        return found
    beside = [path.parent for path in paths if path.suffix.lower() == ".csv"]
    chosen = shard.of(found, [*paths, *beside, *([Path(media_root)] if media_root else [])])
    log.info("shard %d/%d: %d of %d files", shard.number, shard.count, len(chosen), len(found))
    return chosen


def _add(found: dict[Video, Collection[int]], more: Mapping[str, Collection[int]]) -> None:
    for file, starts in more.items():
        if found.setdefault(file, starts) != starts:
            found[file] = {*found[file], *starts}


def _listed(file: Path, media_root: str | os.PathLike[str] | None) -> dict[str, set[int]]:
    dataset = read_dataset(file, media_root)
    found: dict[str, set[int]] = {}
    absent: dict[str, None] = {}
    for clip in dataset.clips:
        if (video := dataset.video_of(clip)) is None:
            absent[clip.video_id] = None
        else:
            found.setdefault(str(video), set()).add(clip.start_seconds)
    if absent:
        log.warning("%s: %d of its videos are not there (%s, ...)", file, len(absent), ", ".join(list(absent)[:3]))
        folder = file.parent if media_root is None else Path(media_root)
        inside = [Path(video).relative_to(folder).as_posix() for video in videos_in(folder)[0]]
        paths = {clip.path for clip in dataset.clips if clip.path is not None and dataset.video_of(clip) is None}
        for name in sorted(path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder)):
            if (near := nearly_the_same(name, inside)) is not None:
                log.warning("%s: %s is not there, but %s is: write that", file, name, near)
    return found
