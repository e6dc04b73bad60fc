"""Which video files are meant by the paths that a user gives."""

import logging
from collections.abc import Iterable
from pathlib import Path

from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import VIDEO_ENDINGS, videos_of

log = logging.getLogger(__name__)


def as_paths(paths: Path | str | Iterable[Path | str]) -> list[Path]:
    """The paths where one or several are given."""
    return [Path(path) for path in ([paths] if isinstance(paths, Path | str) else paths)]


def find_videos(paths: Path | str | Iterable[Path | str]) -> list[Path]:
    """The files named, and the videos of the folders and CSV data sets named, each once.

    Folders are searched recursively, in sorted order. A CSV's videos come in the order of its rows; one that is not
    there is left out, with a warning.

    Args:
        paths: One or several.

    Raises:
        FileNotFoundError: a path does not exist, or not one video is there.
        DatasetError: a CSV file is no data set.
    """
    paths = as_paths(paths)
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (file for file in sorted(path.rglob("*")) if file.suffix.lower() in VIDEO_ENDINGS)
            found.update((file, None) for file in inside if file.is_file())
        elif not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder. Check the path.")
        elif path.suffix.lower() == ".csv":
            found.update((file, None) for file in _listed(path))
        else:
            found[path] = None
    if not found:
        names = ", ".join(map(str, paths))
        raise FileNotFoundError(f"{names}: no video in it (no file that ends in {', '.join(VIDEO_ENDINGS)}).")
    return list(found)


def _listed(file: Path) -> list[Path]:
    dataset = read_dataset(file)
    videos = videos_of(dataset)
    absent = [clip.video_id for clip in dataset.clips if dataset.video_of(clip) is None]
    if absent:
        log.warning("%s: %d of its videos are not there (%s, ...)", file, len(absent), ", ".join(absent[:3]))
    return videos
