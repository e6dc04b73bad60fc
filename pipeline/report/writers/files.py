"""Files in a folder: whole or not at all, and never over another unless that is asked for."""

import filecmp
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from ccln import files
from ccln.files import whole


class OutputError(Exception):
    """A result that cannot be written; the message names the file, why, and what to do."""


def write_files(contents: Mapping[Path, Iterable[bytes]], *, overwrite: bool = False) -> None:
    """Write files, each whole or not at all; one that is there already, the same to the byte, stays as it is.

    Args:
        contents: of each file, in pieces.
        overwrite: whether to replace files that are there with other content.

    Raises:
        OutputError: a file is there with other content, and then none is written; or one cannot be written.
    """
    try:
        with ExitStack() as stack:
            partials: dict[Path, Path] = {}
            for path, pieces in contents.items():
                make_folder(path.parent)
                partials[path] = stack.enter_context(whole(path))
                with partials[path].open("xb") as file:
                    file.writelines(pieces)
            for path, partial in partials.items():
                if is_there(path, partial, overwrite=overwrite):
                    partial.unlink()
    except OSError as error:
        names = ", ".join(map(str, contents))
        raise OutputError(f"{names}: cannot be written ({error}). Make room there, or choose another place.") from error


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in, if it does not exist.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        files.make_folder(folder)
    except OSError as error:
        raise OutputError(f"{folder}: this folder cannot be made ({error}). Choose another place.") from error


def is_there(path: Path, partial: Path, *, overwrite: bool = False) -> bool:
    """Whether the file is there with the content of the other.

    Raises:
        OutputError: it has other content and is not to be overwritten, or it is a folder.
    """
    if not path.exists():
        return False
    if path.is_file() and filecmp.cmp(path, partial, shallow=False):
        return True
    if path.is_file() and overwrite:
        return False
    raise OutputError(f"{path}: is there already with other content. Remove it, or choose another place.")


def distinct_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Names for the files about videos: dog, then dog-2 for another video of the same name.

    The same paths in the same order get the same names. Names that differ only in case, or in how accents are
    composed, are the same: on some file systems they are one file.
    """
    paths = list(dict.fromkeys(paths))
    names = distinct((path.stem for path in paths), lambda name: unicodedata.normalize("NFC", name).casefold())
    return dict(zip(paths, names, strict=True))


def distinct(wanted: Iterable[str], identity: Callable[[str], Hashable] = str) -> list[str]:
    """The names as wanted, but a name that was there before gets the first free number: dog, dog-2, dog-3.

    A number never takes the name of another: dog, dog, dog-2 become dog, dog-3, dog-2.

    Args:
        wanted: names, in the order in which they get them.
        identity: what must differ between two names.
    """
    wanted = list(wanted)
    taken = {identity(name) for name in wanted}
    given: set[Hashable] = set()
    numbers: dict[Hashable, int] = {}
    names = []
    for name in wanted:
        key, candidate = identity(name), name
        if key in given:
            while identity(candidate) in taken:
                numbers[key] = numbers.get(key, 1) + 1
                candidate = f"{name}-{numbers[key]}"
            taken.add(identity(candidate))
        given.add(key)
        names.append(candidate)
    return names
