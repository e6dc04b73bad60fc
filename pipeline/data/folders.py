"""The videos in a folder, and what in it is left out and why; names that differ only in how they are written."""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from ccln.pipeline.data.ave import ANNOTATIONS, LISTINGS
from ccln.pipeline.data.clips import VIDEO_ENDINGS

# What systems put beside files. Files that begin with "._" hold what macOS knows of the file of the same name.
_OF_SYSTEMS = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_ENDINGS_NAMED = 5
_HERE = os.path.join(os.curdir, "")


def videos_in(folder: Path) -> tuple[list[str], str]:
    """The videos in a folder and those below it, in sorted order, and a line on what was left out, "" if nothing was.

    They are texts and no `Path`, which would take five times the memory and the time: there may be a million.

    Links are followed; a folder that several lead to, or one to itself, is searched once. The line is silent on what a
    data set has beside its videos: CSV files, and the listings and .h5 files of AVE's layout.
    """
    found: list[str] = []
    left_out: Counter[str] = Counter()
    for file in _files(folder, left_out):
        if not is_videos_name(file.name, left_out):
            continue
        is_link = file.is_symlink()
        if os.path.isfile(file.path) if is_link else file.is_file():
            found.append(file.path.removeprefix(_HERE))
        else:
            left_out["links that lead nowhere" if is_link else "no files"] += 1
    return found, left_out_line(folder, left_out)


def is_videos_name(name: str, left_out: Counter[str]) -> bool:
    """Whether a file's name is a video's; if not, and it is no system's, it is counted."""
    name = name.lower()
    if name in _OF_SYSTEMS or name.startswith("._"):
        return False
    ending = os.path.splitext(name)[1]
    if ending not in VIDEO_ENDINGS:
        left_out[f"*{ending}" if ending else "without ending"] += 1
        return False
    return True


def left_out_line(folder: object, left_out: Counter[str]) -> str:
    """A line on what was left out of a folder; "" if nothing was."""
    kinds = [f"{count} {kind}" for kind, count in left_out.most_common(_ENDINGS_NAMED)]
    if more := left_out.total() - sum(count for _, count in left_out.most_common(_ENDINGS_NAMED)):
        kinds.append(f"{more} more")
    return f"{folder}: left out, as no video's name: {', '.join(kinds)}" if kinds else ""


def _files(folder: Path, left_out: Counter[str]) -> Iterator["os.DirEntry[str]"]:
    """What is no folder, in sorted order as paths are: part by part."""
    searched = {_identity(folder)}

    def to_search(place: str) -> Iterator[tuple["os.DirEntry[str]", bool]]:
        """What a folder holds, each with whether it is a folder; without the folders that have been searched."""
        try:
            with os.scandir(place) as listed:
                items = sorted(listed, key=lambda item: item.name)
        except OSError:
            left_out["folders that cannot be read"] += 1
            return iter(())
        names = {item.name for item in items}
        found = []
        for item in items:
            identity = _identity(item) if item.is_symlink() or item.is_dir() else None
            if identity is None:
                if not _is_of_data_set(item.name, names):
                    found.append((item, False))
            elif identity not in searched:
                searched.add(identity)  # before any below them is searched
                found.append((item, True))
        return iter(found)

    ways = [to_search(os.fspath(folder))]  # no recursion: folders may be deep
    while ways:
        item, is_folder = next(ways[-1], (None, False))
        if item is None:
            ways.pop()
        elif is_folder:
            ways.append(to_search(item.path))
        else:
            yield item


def _identity(folder: "Path | os.DirEntry[str]") -> tuple[int, int] | None:
    """Of a folder, whatever names or links lead to it; None if there is none."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _is_of_data_set(name: str, beside: Collection[str]) -> bool:
    """Whether a file, among those beside it, says what is in videos."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix == ".csv" or (ANNOTATIONS in beside and (name in LISTINGS or suffix == ".h5"))


def nearly_the_same(written: str, names: Iterable[str]) -> str | None:
    """The name that a written one equals but for the form of Unicode, upper and lower case, or slashes."""
    wanted = _plain(written)
    return next((name for name in names if _plain(name) == wanted), None)


def _plain(name: str) -> str:
    path = PurePosixPath(unicodedata.normalize("NFC", name).casefold().replace("\\", "/"))
    return str(path)
