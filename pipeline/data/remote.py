"""Videos in storage that is reached by URLs."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ccln.pipeline.data.folders import is_videos_name, left_out_line
from ccln.storage import errors_naming, storage_at


class RemoteVideo(NamedTuple):
    """A video below a URL, or at it."""

    folder: str
    """The URL that it was found below."""
    name: str
    """Its path below that; it may be anybody's, and is never a path on this machine."""
    bytes: int
    """Its size as listed."""
    state: str
    """A text that is another when its content is replaced, as far as storage says."""

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"


Video: TypeAlias = str | RemoteVideo
"""A file of this machine by its path, or one of a URL."""


def videos_at(url: str) -> tuple[list[RemoteVideo], str]:
    """The videos below a URL, in sorted order, or the one at it, and a line on what was left out, "" if nothing was.

    Raises:
        StorageError: The storage cannot be reached.
    """
    storage, root = storage_at(url)
    url = url.rstrip("/")
    with errors_naming(url):
        storage.invalidate_cache()
        listed: Any = storage.find(root, detail=True)
        if list(listed) == [root]:  # a file, which may have any name
            folder, _, name = url.rpartition("/")
            return [_video(folder, name, storage.info(root))], ""
    found, left_out = [], Counter[str]()
    for place, about in sorted(listed.items()):
        name = place[len(root) + 1 :]
        if about.get("type") != "file":
            left_out["no files"] += 1
        elif is_videos_name(name.rpartition("/")[2], left_out):
            found.append(_video(url, name, about))
    return found, left_out_line(url, left_out)


def _video(folder: str, name: str, about: Mapping[str, Any]) -> RemoteVideo:
    digest = hashlib.sha256(repr(sorted(about.items())).encode(errors="replace")).hexdigest()
    return RemoteVideo(folder, name, int(about.get("size") or 0), f"remote:{digest}")
