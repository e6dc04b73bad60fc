"""How the videos come into the page: within it, or beside it."""

import mimetypes
import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ccln.pipeline.report.writers import OutputError

EMBED_LIMIT_BYTES = 64 * 2**20
"""A page holds its videos if all together are no larger."""

_CHUNK_BYTES = 3 * 2**18  # a multiple of three: base64 of each piece has no padding but the last


@dataclass(frozen=True)
class Media:
    """A clip's video: its content type as the name tells it, and where it lies, or None if the page holds it."""

    path: Path
    content_type: str
    link: str | None

    def base64(self) -> Iterator[bytes]:
        """The file's content in pieces.

        Raises:
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            while piece := file.read(_CHUNK_BYTES):
                yield b64encode(piece)


def media_of(paths: Sequence[Path], folder: Path, embed_limit_bytes: int) -> tuple[Media, ...]:
    """Decide for all the clips of a page together: within if they fit, else each by its path from the page's folder.

    Raises:
        OutputError: a file is gone.
    """
    try:
        within = sum(path.stat().st_size for path in paths) <= embed_limit_bytes
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be read ({error}). Put the clip back, or leave it out.") from error
    return tuple(
        Media(path, mimetypes.guess_type(path.name)[0] or "", None if within else _link(path, folder)) for path in paths
    )


def _link(path: Path, folder: Path) -> str:
    """The address relative to the page; every character that could mean something in an address is escaped."""
    path = path.absolute()
    try:
        relative = os.path.relpath(path, folder.absolute())
    except ValueError:  # on another drive
        return path.as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))
