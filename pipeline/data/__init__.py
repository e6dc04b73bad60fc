"""Annotated data sets: which clip has which event, from when to when, and in which split; and the videos of paths."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import VIDEO_ENDINGS, Dataset, DatasetError
from ccln.pipeline.data.csv_file import read_csv_dataset
from ccln.pipeline.data.folders import nearly_the_same, videos_in
from ccln.pipeline.data.remote import RemoteVideo, videos_at
from ccln.pipeline.data.shards import Shard
from ccln.storage import is_url

log = logging.getLogger(__name__)


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


def all_here(found: Mapping[Path | RemoteVideo, set[int]]) -> dict[Path, set[int]]:
    """The videos that `find_clips` found, for what takes files of this machine alone.

    Raises:
        FileNotFoundError: One is of a URL.
    """
    for video in found:
        if not isinstance(video, Path):
            raise FileNotFoundError(f"{video}: videos of URLs can only be extracted. Copy it here.")
    return {video: starts for video, starts in found.items() if isinstance(video, Path)}


def find_clips(
    paths: Path | str | Iterable[Path | str],
    media_root: str | os.PathLike[str] | None = None,
    shard: Shard | None = None,
) -> dict[Path | RemoteVideo, set[int]]:
    """The files named, and the videos of the folders, URLs and CSV data sets named, each with where its clips start.

    That is second 0 for files and those of folders and URLs; a CSV data set may have any of a video's windows. Folders
    are searched recursively, in sorted order. A CSV's videos come in the order of its rows; one that is not there is
    left out, with a warning.

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
    found: dict[Path | RemoteVideo, set[int]] = {}
    for url in (str(place) for place in given if is_url(place)):
        inside, left_out = videos_at(url)
        if left_out:
            log.info("%s", left_out)
        found.update((video, {0}) for video in inside)
    paths = [Path(path) for path in given if not is_url(path)]
    for path in paths:
        if path.is_dir():
            inside, left_out = videos_in(path)
            if left_out:
                log.info("%s", left_out)
            for file in inside:
                found.setdefault(file, set()).add(0)
        elif not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder. Check the path.")
        elif path.suffix.lower() == ".csv":
            for file, starts in _listed(path, media_root).items():
                found.setdefault(file, set()).update(starts)
        else:
            found.setdefault(path, set()).add(0)
    if not found:
        names = ", ".join(map(str, given))
        raise FileNotFoundError(f"{names}: no video in it (no file that ends in {', '.join(VIDEO_ENDINGS[:8])}, ...).")
    if shard is None:
        return found
    beside = [path.parent for path in paths if path.suffix.lower() == ".csv"]
    chosen = shard.of(found, [*paths, *beside, *([Path(media_root)] if media_root else [])])
    log.info("shard %d/%d: %d of %d files", shard.number, shard.count, len(chosen), len(found))
    return chosen


def _listed(file: Path, media_root: str | os.PathLike[str] | None) -> dict[Path, set[int]]:
    dataset = read_dataset(file, media_root)
    found: dict[Path, set[int]] = {}
    absent: dict[str, None] = {}
    for clip in dataset.clips:
        if (video := dataset.video_of(clip)) is None:
            absent[clip.video_id] = None
        else:
            found.setdefault(video, set()).add(clip.start_seconds)
    if absent:
        log.warning("%s: %d of its videos are not there (%s, ...)", file, len(absent), ", ".join(list(absent)[:3]))
        folder = file.parent if media_root is None else Path(media_root)
        inside = [video.relative_to(folder).as_posix() for video in videos_in(folder)[0]]
        paths = {clip.path for clip in dataset.clips if clip.path is not None and dataset.video_of(clip) is None}
        for name in sorted(path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder)):
            if (near := nearly_the_same(name, inside)) is not None:
                log.warning("%s: %s is not there, but %s is: write that", file, name, near)
    return found
