"""The cache as a folder: ``entries/ab/cd/<key>.safetensors`` (the truth), ``partial/`` and ``index.sqlite``."""

import os
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ccln.cache import index
from ccln.cache.entry import SUFFIX, encode, read_features, read_header, refuse_links
from ccln.cache.errors import CacheError
from ccln.cache.features import Features
from ccln.cache.index import Row
from ccln.cache.keys import JSON, is_digest, specification_digest

_STALE_SECONDS = 3600


class Rebuilt(NamedTuple):
    """What ``rebuild_index`` found: entries indexed, and files that are no readable entry."""

    indexed: int
    unreadable: list[Path]


class FeatureCache:
    """Features on disk, one file a clip, safe for many processes that read and write at once.

    Making the object touches nothing on disk: ``write`` makes the folders. The files are the truth. Questions that no
    single file answers (``specifications``, ``find``) go to an index, which is first made to agree with the files.

    Args:
        root: the cache's folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()
        self._keys_by_source: dict[tuple[str, str], list[str]] = {}

    def path_of(self, key: str) -> Path:
        """Where the entry of a key lies, whether or not it exists.

        Raises:
            CacheError: where the key is not 64 lower-case hex digits, and so might lead out of the folder.
        """
        if not is_digest(key):
            raise CacheError(f"{key!r} is not a feature key; pass the 64 hex digits that feature_key or find gives")
        return self._entries / key[:2] / key[2:4] / f"{key}{SUFFIX}"

    def contains(self, key: str) -> bool:
        """Whether the entry's file exists.

        Raises:
            CacheError: where the key is malformed.
        """
        path = self.path_of(key)
        return path.is_file() and not path.is_symlink()

    def read(self, key: str, verify: bool = True) -> Features:
        """The features under a key, memory-mapped; changing the tensors in place never changes the file.

        Args:
            key: from ``feature_key``, ``write`` or ``find``.
            verify: read all bytes and compare their sha256; without it only the header is read and checked.

        Raises:
            CacheError: where there is no such entry, or it is damaged.
        """
        path = self.path_of(key)
        if not self.contains(key):
            self._require_folder()
            raise CacheError(f"{path}: no such entry; run ccln-extract on the clip with --cache {self.root}")
        return read_features(path, verify=verify)

    def write(
        self,
        features: Features,
        *,
        source_sha256: str,
        source_path: str | os.PathLike[str],
        specification: Mapping[str, JSON],
    ) -> str:
        """Keeps features; a reader sees the whole entry or none, even if this process dies at any moment.

        Args:
            features: what the extractors gave.
            source_sha256: ``source_digest`` of the source file.
            source_path: the source file, kept for people and for ``find``.
            specification: all that decides the features' values.

        Returns:
            The entry's key. What was under it before is replaced.

        Raises:
            CacheError: where features or specification cannot be kept, or the disk refuses.
        """
        header, data = encode(
            features, source_path=os.fspath(source_path), source_sha256=source_sha256, specification=specification
        )
        path = self.path_of(header.key)
        partial = self._partial / f"{header.key}.{uuid.uuid4().hex}"
        try:
            for folder in (path.parent, self._partial):
                refuse_links(folder)
                folder.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise CacheError(
                f"{path} cannot be written ({error}); free some space there or choose another --cache folder"
            ) from error
        for folder in (path.parent, path.parent.parent, self._entries):
            _fsync_folder(folder)
        with suppress(sqlite3.Error, OSError):  # the entry is safe, and the next question puts in a missing row
            index.save(self._index, {header.key: Row.of(header)})
        self._keys_by_source.clear()
        return header.key

    def specifications(self) -> dict[str, Mapping[str, JSON]]:
        """The specifications that entries were made with, by their digest.

        Raises:
            CacheError: where the folder is no feature cache.
        """
        found: dict[str, Mapping[str, JSON]] = {}
        for key, row in self._refresh().items():
            if row.specification_sha256 not in found:
                with suppress(CacheError):  # damaged or deleted since; another entry of the same digest will do
                    specification = read_header(self.path_of(key)).specification
                    found[specification_digest(specification)] = specification
        return found

    def find(self, specification_sha256: str, source_name: str) -> list[str]:
        """Keys of entries made with a specification from a source file of this stem (its name without extension).

        For machines where the sources are absent. Cheap to ask clip by clip: the folder is listed at the first call,
        after a write of this object's, and where nothing is found; what other processes add may be seen only then.

        Raises:
            CacheError: where the folder is no feature cache.
        """
        wanted = (specification_sha256, index.storable(source_name))
        found = [key for key in self._keys_by_source.get(wanted, []) if self.contains(key)]
        if not found:
            self._refresh()
            found = self._keys_by_source.get(wanted, [])
        return sorted(found)

    def rebuild_index(self) -> Rebuilt:
        """Makes the index anew from the entries' headers, leaving out what is not an entry.

        Raises:
            CacheError: where the folder is no feature cache, or the index cannot be written.
        """
        rows, unreadable = self._rows({})
        try:
            index.save(self._index, rows, gone=index.load(self._index).keys() - rows.keys())
        except (sqlite3.Error, OSError) as error:
            raise CacheError(f"{self._index} cannot be written ({error}); check permissions and free space") from error
        return Rebuilt(len(rows), unreadable)

    def sweep_partial(self) -> int:
        """Deletes partial files older than an hour, left by runs that were killed; returns how many."""
        refuse_links(self._partial)
        swept = 0
        for path in self._partial.glob("*"):
            with suppress(OSError):  # another process may sweep at the same time
                if is_digest(path.name.partition(".")[0]) and time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                    path.unlink()
                    swept += 1
        return swept

    @property
    def _entries(self) -> Path:
        return self.root / "entries"

    @property
    def _partial(self) -> Path:
        return self.root / "partial"

    @property
    def _index(self) -> Path:
        return self.root / "index.sqlite"

    def _require_folder(self) -> None:
        if not self._entries.is_dir():
            raise CacheError(f"{self.root} is no feature cache; make one: ccln-extract VIDEOS --cache {self.root}")

    def _refresh(self) -> dict[str, Row]:
        """The rows of all entries; where index and files differ, the index is mended on the way."""
        self._require_folder()
        known: dict[str, Row] = {}
        with suppress(sqlite3.Error, OSError):  # without an index the headers answer, only slower
            known = index.load(self._index)
        rows, _ = self._rows(known)
        new, gone = {key: row for key, row in rows.items() if key not in known}, known.keys() - rows.keys()
        if new or gone:
            with suppress(sqlite3.Error, OSError):
                index.save(self._index, new, gone)
        self._keys_by_source = {}
        for key, row in rows.items():
            self._keys_by_source.setdefault((row.specification_sha256, row.source_name), []).append(key)
        return rows

    def _rows(self, known: Mapping[str, Row]) -> tuple[dict[str, Row], list[Path]]:
        """The rows of all entries, taken from ``known`` or else from the header; and the files that have none."""
        rows, unreadable = {}, []
        for key in self._keys():
            try:
                rows[key] = known[key] if key in known else Row.of(read_header(self.path_of(key)))
            except CacheError:
                unreadable.append(self.path_of(key))
        return rows, unreadable

    def _keys(self) -> list[str]:
        """Keys of all files that lie where an entry would, in order; links and other names are passed over."""
        self._require_folder()
        try:
            return sorted(_keys_below(self._entries))
        except OSError as error:  # a folder left out would silently train on a part of the data
            raise CacheError(f"{error.filename} cannot be listed ({error.strerror}); check its permissions") from error


def _keys_below(folder: str | os.PathLike[str], prefix: str = "") -> Iterator[str]:
    with os.scandir(folder) as items:
        for item in items:
            if len(prefix) < 4 and len(item.name) == 2 and item.is_dir(follow_symlinks=False):
                yield from _keys_below(item.path, prefix + item.name)
            elif len(prefix) == 4 and item.is_file(follow_symlinks=False) and item.name.endswith(SUFFIX):
                key = item.name.removesuffix(SUFFIX)
                if is_digest(key) and key.startswith(prefix):
                    yield key


def _fsync_folder(folder: Path) -> None:
    with suppress(OSError):  # some network file systems cannot; the entry is whole with or without
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
