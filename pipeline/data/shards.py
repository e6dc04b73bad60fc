"""Files dealt out to processes that know nothing of each other."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ccln.pipeline.data.remote import RemoteVideo, Video

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Shard:
    """One of equal shares of all files."""

    number: int
    """From 1 on."""
    count: int
    """Of all shares."""

    @classmethod
    def named(cls, text: str) -> "Shard":
        """The shard that is written as I/N, as Jest, Playwright and nextest do: I is from 1 to N.

        Raises:
            ValueError: It is none.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard.number <= shard.count:
            raise ValueError(f"{text!r} is no shard: I/N, such as 1/16, where I is from 1 to N")
        return shard

    def of(self, files: Mapping[Video, _Value], roots: Iterable[Path]) -> dict[Video, _Value]:
        """The files of this shard, by the hash of each one's path relative to the root or URL that it was found in.

        No file is opened, as hashes of contents would need of every process for all of them, and none decides on
        another: the shards are the same for processes that see the folder at other places, or while it still grows.

        Args:
            files: All files.
            roots: Folders that were searched; where several hold a file, the innermost counts. Where none does, the
                file's name is hashed alone.
        """
        folders = sorted({root for root in roots if root.is_dir()}, key=lambda root: len(root.parts), reverse=True)

        def name(file: Video) -> str:
            if isinstance(file, RemoteVideo):
                return file.name
            path = Path(file)
            root = next((root for root in folders if path.is_relative_to(root)), path.parent)
            return path.relative_to(root).as_posix()

        return {file: value for file, value in files.items() if self._has(name(file))}

    def _has(self, name: str) -> bool:
        digest = hashlib.sha256(os.fsencode(name)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1
