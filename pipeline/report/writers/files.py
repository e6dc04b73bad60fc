"""Files of the formats in a folder: whole or not at all, and never over another."""

import filecmp
import os
import unicodedata
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from ccln.pipeline.report.writers.names import distinct
from ccln.pipeline.report.writers.registry import WRITERS
from ccln.pipeline.report.writers.timeline import Timeline


class OutputError(Exception):
    """A result that cannot be written; the message names the file, why, and what to do."""


def write_beside(
    timeline: Timeline, folder: Path, formats: Iterable[str], *, name: str | None = None
) -> tuple[Path, ...]:
    """Write a clip's events as NAME.vtt and the like; what is there already, the same to the byte, stays as it is.

    Args:
        timeline: the clip and its events.
        folder: made if it does not exist.
        formats: of `WRITERS`.
        name: without folder and suffix; of several clips, each one's of `distinct_names`. If None, the media file's.

    Returns:
        The files, in the order of `formats`.

    Raises:
        OutputError: a file is there with other content, and then none is written; or one cannot be written.
        ValueError: a format is unknown, or an event is not within its clip.
    """
    texts: dict[Path, list[bytes]] = {}
    for format_name in formats:
        if format_name not in WRITERS:
            raise ValueError(f"{format_name!r} is no format; choose from {', '.join(WRITERS)}")
        writer = WRITERS[format_name]
        path = folder / f"{timeline.path.stem if name is None else name}{writer.suffix}"
        # File names may hold bytes that are no text; UTF-8 has no place for them.
        texts[path] = [writer.to_text(timeline).encode("utf-8", errors="replace")]
    write_files(texts)
    return tuple(texts)


def distinct_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Names for the files about media files: clip, then clip-2 for another of the same name.

    The same paths in the same order get the same names. Names that differ only in case, or in how accents are
    composed, are the same: on some file systems they are one file.
    """
    paths = list(dict.fromkeys(paths))
    names = distinct((path.stem for path in paths), lambda name: unicodedata.normalize("NFC", name).casefold())
    return dict(zip(paths, names, strict=True))


def write_files(contents: Mapping[Path, Iterable[bytes]]) -> None:
    """Write files, each whole or not at all; one that is there already, the same to the byte, stays as it is.

    Args:
        contents: of each file, in pieces.

    Raises:
        OutputError: a file is there with other content, and then none is written; or one cannot be written.
    """
    partials: dict[Path, Path] = {}
    try:
        for path, pieces in contents.items():
            make_folder(path.parent)
            partials[path] = path.with_name(f".{uuid.uuid4().hex}.partial")
            with partials[path].open("xb") as file:
                file.writelines(pieces)
        for path in [path for path, partial in partials.items() if not is_there(path, partial)]:
            os.replace(partials[path], path)
    except OSError as error:
        names = ", ".join(map(str, contents))
        raise OutputError(f"{names}: cannot be written ({error}). Make room there, or choose another place.") from error
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in, if it does not exist.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: this folder cannot be made ({error}). Choose another place.") from error


def is_there(path: Path, partial: Path) -> bool:
    """Whether the file is there with the content of the other.

    Raises:
        OutputError: it has other content.
    """
    if not path.exists():
        return False
    if path.is_file() and filecmp.cmp(path, partial, shallow=False):
        return True
    raise OutputError(f"{path}: is there already with other content. Remove it, or choose another place.")
