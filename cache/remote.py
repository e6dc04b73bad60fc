"""A cache below a URL: packs of clips, of which each is written once and never changed, and a copy on this machine.

What is remote is the folder ``shards/`` of a packed cache, and nothing else. The head of a pack, which names its clips
and says where their bytes are, is its part of the index: it is written with the pack, by one writer, and every reader
makes an index of its own from the heads. So no writer touches what another has written, and nothing has to be locked.
"""

import hashlib
import itertools
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ccln.cache.claims import Claims
from ccln.cache.entry import Entry, Features
from ccln.cache.folder import SUFFIX, is_plain_file
from ccln.cache.keys import CacheError, DamagedFileError, is_digest
from ccln.cache.maintenance import Repaired, Verified, pack, sample_of
from ccln.cache.shards import MAX_SHARD_HEADER_BYTES, Shard, read_head, salvage
from ccln.cache.store import FeatureCache, Progress, tracked
from ccln.files import whole
from ccln.storage import StorageError, errors_naming, is_url, storage_at

CLIPS_PER_PACK = 1000

_MOST_PACK_BYTES = 1 << 36
_HEAD_BYTES = 1 << 16
"""What is read of a pack at first; the head of a hundred clips is in it."""
_HEADS_AT_A_TIME = 16
_PIECE_BYTES = 1 << 24
_BYTES_AT_A_TIME = 1 << 26
_ATTEMPTS = 2
_NAMED = 3

log = logging.getLogger(__name__)


class DamagedPackError(DamagedFileError):
    """A pack, or a clip in it, is not what was written."""

    def __str__(self) -> str:
        return f"{self.path} cannot be used: {self.reason}; ccln-cache repair moves it out of the way"


class _Range(NamedTuple):
    """Bytes of a pack."""

    name: str
    start: int
    end: int


class RemoteCache(FeatureCache):
    """A feature cache below a URL, used like one on disk.

    In the folder on this machine, entries with a file of their own are those that are not remote yet; its shards are
    those that are, of which it has the heads, and such clips as were read. What a killed process has left there, the
    next one packs and uploads. Making the object asks what packs there are.

    Clips are uploaded a thousand at a time, and what is left by `flush`. A pack is named by its keys, and is only
    written if it does not exist: on S3 by a conditional put (``If-None-Match: *``), on Google Cloud Storage by its
    precondition, elsewhere after a look.

    Args:
        url: A URL that fsspec knows.

    Raises:
        CacheError: The storage cannot be reached, or the folder on this machine cannot be written.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._storage, place = storage_at(self.url)
        self._packs = f"{place}/shards"
        super().__init__(_copies() / hashlib.sha256(self.url.encode(errors="replace")).hexdigest()[:16])
        self._written = itertools.count(1)
        self._unreadable = self._pull()
        for error in self._unreadable[:_NAMED]:
            log.warning("%s", error)
        if more := len(self._unreadable[_NAMED:]):
            log.warning("%s: %d more packs cannot be used", self.url, more)

    def __reduce__(self) -> tuple[type["RemoteCache"], tuple[str]]:
        return RemoteCache, (self.url,)

    def __str__(self) -> str:
        return self.url

    def whole(self, key: str) -> Features | None:
        """The features under a key as their pack's head describes them; None if there are none.

        Those of a pack are not fetched: their values are those of `read` alone.

        Raises:
            CacheError: As of the cache on disk.
        """
        if not is_plain_file(self.path_of(key)) and key in self._shards.listing().shard_of:
            return super()._entry(key, verify=False).features
        return super().whole(key)

    def intact(self, keys: Collection[str], decoding_rules: int) -> set[str]:
        """As of the cache on disk; of packs, the heads are asked."""
        shard_of = self._shards.listing().shard_of
        in_packs = {key for key in keys if key in shard_of and not is_plain_file(self.path_of(key))}
        rules = {key: super(RemoteCache, self)._entry(key, False).header.decoding_rules for key in in_packs}
        of_these_rules = {key for key in in_packs if rules[key] == decoding_rules}
        return super().intact(set(keys) - in_packs, decoding_rules) | of_these_rules

    def read(self, key: str, verify: bool = True) -> Features:
        """The features under a key, fetched if need be, and always verified; else as of the cache on disk."""
        return super().read(key, verify=True)

    def fetch(self, keys: Iterable[str]) -> None:
        """Bring the features of some keys here, as far as they are not: no byte of others.

        Those that are damaged stay so: `read` says that.

        Raises:
            CacheError: The storage cannot be reached, or the disk has not room for them.
        """
        wanted: dict[str, list[str]] = defaultdict(list)
        shard_of = self._shards.listing().shard_of
        for key in set(keys):
            if (name := shard_of.get(key)) is not None and not is_plain_file(self.path_of(key)):
                wanted[name].append(key)
        lacking: Mapping[str, Collection[str]] = wanted
        for _ in range(_ATTEMPTS):  # the second for what has changed on the way
            if not (lacking := self._lacking(lacking)):
                break
            self._fetch(lacking)

    def write(self, *args: Any, **options: Any) -> str:
        """Store features on this machine; those of every thousand clips are then uploaded. See `FeatureCache.write`."""
        key = super().write(*args, **options)
        if next(self._written) % CLIPS_PER_PACK == 0:
            self._push(only_full=True)
        return key

    def flush(self) -> None:
        """Upload all that is not remote yet.

        Raises:
            CacheError: The storage cannot be reached, or refuses. What is on this machine stays there.
        """
        self._push(only_full=False)

    def unsent(self, keys: Iterable[str]) -> set[str]:
        """Of some keys those that are in no pack, those of other writers included.

        Raises:
            CacheError: The storage cannot be reached.
        """
        self._unreadable = self._pull()
        shard_of = self._shards.listing().shard_of
        return {key for key in keys if key not in shard_of}

    def verify(self, progress: Progress | None = None, *, sample: float = 1.0) -> Verified:
        """Fetch clips, pack by pack, and compare their sha256; nothing stays of them on this machine.

        Args:
            progress: Called with packs done and packs in all.
            sample: Of the clips in each pack, the part to look at.

        Raises:
            CacheError: The storage cannot be reached.
        """
        intact, damaged = 0, list(self._unreadable)
        for name, keys, lacking in self._checked(progress, sample):
            intact += len(keys) - len(lacking)
            damaged += [DamagedPackError(self._url_of(name), reason) for reason in lacking.values()]
        return Verified(intact, damaged)

    def repair(self, progress: Progress | None = None) -> Repaired:
        """Move damaged packs to ``quarantine/`` below the URL, and write what is whole in them into new ones.

        Args:
            progress: Called with packs done and packs in all.

        Raises:
            CacheError: The storage cannot be reached, or refuses.
        """
        damaged = list(self._unreadable)
        for name, _, lacking in self._checked(progress, 1.0):
            if lacking:
                damaged += [DamagedPackError(self._url_of(name), reason) for reason in lacking.values()]
                for entry in salvage(self._folder.shard_path(name)):
                    self._stage(entry)
        quarantine = f"{self._packs.removesuffix('shards')}quarantine"
        for name in {Path(error.path).stem for error in damaged}:
            with errors_naming(self._url_of(name)):
                self._storage.makedirs(quarantine, exist_ok=True)  # where folders are not just parts of names
                self._storage.mv(self._place_of(name), f"{quarantine}/{name}{SUFFIX}")
            self._folder.remove(self._folder.shard_path(name))
        self.flush()
        self._unreadable = []
        return Repaired(len(self._shards.listing().shard_of), 0, damaged)

    def _entry(self, key: str, verify: bool) -> Entry:
        try:
            return super()._entry(key, verify)
        except DamagedFileError:
            if not verify:
                raise
        self.fetch([key])
        try:
            return super()._entry(key, verify)
        except DamagedFileError as error:
            if is_plain_file(self.path_of(key)):
                raise
            raise DamagedPackError(self._url_of(Path(error.path).stem), error.reason) from error

    def _pull(self) -> list[DamagedFileError]:
        """Make the shards here those that are remote, of new ones the heads alone; what is wrong with some of them."""
        here = self._folder.shard_names()  # before: another process may be adding some, which are then remote, too
        sizes = {}
        with errors_naming(self.url):
            self._storage.invalidate_cache()
            try:
                listed = self._storage.ls(self._packs, detail=True)
            except FileNotFoundError:  # nothing has been written yet
                listed = []
        for about in listed:
            name = str(about["name"]).rpartition("/")[2]
            if name.endswith(SUFFIX) and is_digest(name := name.removesuffix(SUFFIX)) and about["type"] == "file":
                sizes[name] = int(about["size"])
        with _writing(self.root):
            self._folder.shards.mkdir(parents=True, exist_ok=True)
        for name in here:
            path = self._folder.shard_path(name)
            with suppress(FileNotFoundError):  # another process has removed it
                if sizes.get(name) == path.stat().st_size:
                    del sizes[name]
                else:
                    self._folder.remove(path)
        names, damaged = sorted(sizes), []
        for at in range(0, len(names), _HEADS_AT_A_TIME):
            damaged += self._take_heads({name: sizes[name] for name in names[at : at + _HEADS_AT_A_TIME]})
        return damaged

    def _take_heads(self, sizes: Mapping[str, int]) -> list[DamagedFileError]:
        """Write the heads of packs of these sizes into files that are empty but for them."""
        damaged, more, heads = [], [], {}
        first = self._bytes([_Range(name, 0, min(size, _HEAD_BYTES)) for name, size in sizes.items()])
        for (name, size), data in zip(sizes.items(), first, strict=True):
            end = 8 + int.from_bytes(data[:8], "little")
            if end > min(8 + MAX_SHARD_HEADER_BYTES, size) or size > _MOST_PACK_BYTES:
                reason = f"it has {size} bytes, and claims {end} of its header"
                damaged.append(DamagedPackError(self._url_of(name), reason))
                continue
            heads[name] = data[:end]
            if end > len(data):
                more.append(_Range(name, len(data), end))
        for part, data in zip(more, self._bytes(more), strict=True):
            heads[part.name] += data
        for name, head in heads.items():
            try:
                self._write_head(name, head, sizes[name])
            except DamagedFileError as error:
                damaged.append(DamagedPackError(self._url_of(name), error.reason))
        return damaged

    def _write_head(self, name: str, head: bytes, size_bytes: int) -> None:
        self._folder.write(
            self._folder.shard_path(name), partial(_fill, head=head, size_bytes=size_bytes), partial(Shard, name=name)
        )

    def _push(self, *, only_full: bool) -> None:
        # The processes of a machine share its folder; if two packed it at the same time, clips would be in two packs.
        with Claims(self.root) as claims, claims.claimed("upload", wait=not only_full) as is_mine:
            if not is_mine:  # another is at it, and takes what is here along
                return
            shard_of = self._shards.listing().shard_of
            for key in self._folder.entry_keys():
                if key in shard_of:  # another writer was faster
                    self._folder.remove(self._folder.entry_path(key))
            pack(self, clips_per_shard=CLIPS_PER_PACK, only_full=only_full, publish=self._publish)
        self._found = None

    def _publish(self, path: Path, name: str) -> None:
        """Upload a pack, and leave of it here what is left of all: its head."""
        place, head, size_bytes = self._place_of(name), read_head(path), path.stat().st_size
        with errors_naming(self._url_of(name)):
            try:
                if "file" in self._storage.protocol:  # a copy there would be seen before it is whole
                    with whole(Path(place)) as copy:
                        shutil.copyfile(path, copy)
                else:
                    self._storage.put_file(os.fspath(path), place, mode="create")
            except FileExistsError:  # of the same clips: that counts
                size_bytes = int(self._storage.size(place) or 0)
                start = self._bytes([_Range(name, 0, 8)])[0]
                end = min(8 + int.from_bytes(start, "little"), 8 + MAX_SHARD_HEADER_BYTES)
                (head,) = self._bytes([_Range(name, 0, end)])
        with path.open("wb") as file:
            _fill(file, head, size_bytes)
        Shard(path, name)

    def _stage(self, entry: Entry) -> None:
        """Write an entry as one that is not remote yet."""
        header = entry.header
        super().write(
            entry.features,
            source_sha256=header.source_sha256,
            source_path=header.source_path,
            specification=header.specification,
        )

    def _checked(self, progress: Progress | None, sample: float) -> Iterator[tuple[str, list[str], dict[str, str]]]:
        """Of each pack its name, the keys that were fetched and looked at, and what is wrong with some of them."""
        for name in tracked(self._folder.shard_names(), progress):
            self._empty(name)
            keys = sample_of(Shard(self._folder.shard_path(name), name).keys, sample)
            self.fetch(keys)
            yield name, keys, self._lacking({name: keys}).get(name, {})
            if is_plain_file(self._folder.shard_path(name)):
                self._empty(name)

    def _lacking(self, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, str]]:
        """The keys, by shard, whose bytes are not here, or not whole, with what is wrong."""
        lacking = defaultdict(dict)
        for name, keys in wanted.items():
            shard = Shard(self._folder.shard_path(name), name)
            for key in keys:
                try:
                    shard.entry(key, verify=True)
                except DamagedFileError as error:
                    lacking[name][key] = error.reason
        return lacking

    def _fetch(self, wanted: Mapping[str, Collection[str]]) -> None:
        pieces = list(_pieces(self._ranges(wanted)))
        self._make_room(sum(piece.end - piece.start for piece in pieces), wanted)
        at = 0
        while at < len(pieces):
            batch, size_bytes = [], 0
            while at < len(pieces) and size_bytes < _BYTES_AT_A_TIME:
                batch.append(pieces[at])
                size_bytes += pieces[at].end - pieces[at].start
                at += 1
            for piece, data in zip(batch, self._bytes(batch), strict=True):
                with _writing(self.root), self._folder.shard_path(piece.name).open("r+b") as file:
                    file.seek(piece.start)
                    file.write(data)
        for name in wanted:
            self._shards.forget(name)

    def _ranges(self, wanted: Mapping[str, Collection[str]]) -> Iterator[_Range]:
        """Where the bytes of keys are, by shard and in order."""
        for name, keys in wanted.items():
            shard = Shard(self._folder.shard_path(name), name)
            for start, end in sorted(itertools.chain.from_iterable(map(shard.ranges, keys))):
                yield _Range(name, start, end)

    def _bytes(self, ranges: Sequence[_Range]) -> list[bytes]:
        """What ranges of packs hold.

        Raises:
            StorageError: The storage cannot be reached, or has less.
        """
        if not ranges:
            return []
        with errors_naming(self.url):
            found = self._storage.cat_ranges(
                [self._place_of(part.name) for part in ranges],
                [part.start for part in ranges],
                [part.end for part in ranges],
                on_error="return",
            )
        for part, data in zip(ranges, found, strict=True):
            with errors_naming(self._url_of(part.name)):
                if isinstance(data, BaseException):
                    raise data
                if len(data) != part.end - part.start:
                    raise StorageError(f"{self._url_of(part.name)}: has changed meanwhile. Run the same command again")
        return found

    def _make_room(self, size_bytes: int, keep: Iterable[str]) -> None:
        """Empty shards, the oldest first, until as many bytes more leave half of what the disk could hold of them."""
        paths = {name: self._folder.shard_path(name) for name in self._folder.shard_names()}
        used = {name: _allocated(path) for name, path in paths.items()}
        limit = (sum(used.values()) + shutil.disk_usage(self.root).free) // 2
        for name in sorted(used.keys() - set(keep), key=lambda name: paths[name].stat().st_mtime):
            if sum(used.values()) + size_bytes <= limit:
                break
            self._empty(name)
            used[name] = 0
        if sum(used.values()) + size_bytes > limit:
            raise CacheError(
                f"{self.url}: {size_bytes} bytes of features are wanted here, and {self.root} may take "
                f"{limit}, half of what is free. Set XDG_CACHE_HOME to a larger disk"
            )

    def _empty(self, name: str) -> None:
        """Leave of a shard here its head alone; who has it open goes on with what was there."""
        path = self._folder.shard_path(name)
        self._write_head(name, read_head(path), path.stat().st_size)
        self._shards.forget(name)

    def _place_of(self, name: str) -> str:
        return f"{self._packs}/{name}{SUFFIX}"

    def _url_of(self, name: str) -> str:
        return f"{self.url}/shards/{name}{SUFFIX}"


def open_cache(place: str | os.PathLike[str]) -> FeatureCache:
    """The feature cache in a folder, or below a URL.

    Raises:
        CacheError: As of `FeatureCache` and `RemoteCache`.
    """
    return RemoteCache(str(place)) if is_url(place) else FeatureCache(place)


def require_folder(cache: FeatureCache) -> None:
    """Check that a cache is on this machine, for what rewrites its files.

    Raises:
        CacheError: It is below a URL.
    """
    if isinstance(cache, RemoteCache):
        raise CacheError(f"{cache}: this works on a cache in a folder, and not at a URL")


def _copies() -> Path:
    """Where this machine keeps what it has of remote caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ccln" / "remote"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(f"{folder} cannot be written ({error}); set XDG_CACHE_HOME to a disk with room") from error


def _fill(file: BinaryIO, head: bytes, size_bytes: int) -> None:
    file.write(head)
    file.truncate(size_bytes)  # takes no room on the disk


def _pieces(ranges: Iterable[_Range]) -> Iterator[_Range]:
    """The same bytes in few ranges, of which none is large."""
    last: _Range | None = None
    for part in ranges:
        if last is not None and (last.name, last.end) == (part.name, part.start):
            last = last._replace(end=part.end)
            continue
        if last is not None:
            yield from _split(last)
        last = part
    if last is not None:
        yield from _split(last)


def _split(part: _Range) -> Iterator[_Range]:
    for start in range(part.start, part.end, _PIECE_BYTES):
        yield _Range(part.name, start, min(start + _PIECE_BYTES, part.end))


def _allocated(path: Path) -> int:
    """What a file takes of the disk, in bytes."""
    status = path.stat()
    return getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
