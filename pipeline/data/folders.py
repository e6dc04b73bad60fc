"""The videos in a folder, and what in it is left out and why; names that differ only in how they are written."""

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath

from ccln.pipeline.data.ave import ANNOTATIONS, LISTINGS
from ccln.pipeline.data.clips import VIDEO_ENDINGS

# What systems put beside files. Files that begin with "._" hold what macOS knows of the file of the same name.
_OF_SYSTEMS = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_ENDINGS_NAMED = 5


def videos_in(folder: Path) -> tuple[list[Path], str]:
    """The videos in a folder and those below it, in sorted order, and a line on what was left out, "" if nothing was.

    Links are followed; a folder that several lead to, or one to itself, is searched once. The line is silent on what a
    data set has beside its videos: CSV files, and the listings and .h5 files of AVE's layout.
    """
    found: list[Path] = []
    left_out: Counter[str] = Counter()
    for file in _files(folder, left_out):
        if not is_videos_name(file, left_out):
            continue
        if file.is_file():
            found.append(file)
        elif file.is_symlink():
            left_out["links that lead nowhere"] += 1
        else:
            left_out["no files"] += 1
    return sorted(found), left_out_line(folder, left_out)


def is_videos_name(file: PurePath, left_out: Counter[str]) -> bool:
    """Whether a file's name is a video's; if not, and it is no system's, it is counted."""
    name, ending = file.name.lower(), file.suffix.lower()
    if name in _OF_SYSTEMS or name.startswith("._"):
        return False
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


def _files(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    searched = {os.path.realpath(folder)}

    def refuse(_: OSError) -> None:
        left_out["folders that cannot be read"] += 1

    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = {name: os.path.realpath(os.path.join(place, name)) for name in folders}
        folders[:] = []
        for name in sorted(real):
            if real[name] not in searched:
                searched.add(real[name])
                folders.append(name)
        yield from (Path(place, name) for name in names if not _is_of_data_set(name, names))


def _is_of_data_set(name: str, beside: Collection[str]) -> bool:
    """Whether a file, among those beside it, says what is in videos."""
    suffix = Path(name).suffix.lower()
    return suffix == ".csv" or (ANNOTATIONS in beside and (name in LISTINGS or suffix == ".h5"))


def nearly_the_same(written: str, names: Iterable[str]) -> str | None:
    """The name that a written one equals but for the form of Unicode, upper and lower case, or slashes."""
    wanted = _plain(written)
    return next((name for name in names if _plain(name) == wanted), None)


def _plain(name: str) -> str:
    path = PurePosixPath(unicodedata.normalize("NFC", name).casefold().replace("\\", "/"))
    return str(path)
