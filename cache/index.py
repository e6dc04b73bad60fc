"""The index of a cache: names and specifications of its clips, in SQLite."""

import logging
import os
import sqlite3
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from ccln.cache.entry import Header
from ccln.cache.keys import CacheError, is_digest, shard_name, specification_digest

_Result = TypeVar("_Result")

_PATIENCE_SECONDS = 5.0  # many writers take turns, each for milliseconds
_MAX_VALUE_BYTES = 1 << 24  # keys and names of a shard are smaller than its header, and that has 8 MiB at most
_TABLES = (
    "entries (key TEXT PRIMARY KEY, source_name TEXT NOT NULL, specification_sha256 TEXT NOT NULL, checksum INTEGER"
    " NOT NULL) WITHOUT ROWID",
    # A row a shard, and not one a clip: a shard is in the index as a whole or not at all.
    "shards (name TEXT PRIMARY KEY, keys TEXT NOT NULL, source_names TEXT NOT NULL, specification_sha256 TEXT NOT NULL,"
    " checksum INTEGER NOT NULL) WITHOUT ROWID",
    "notes (about TEXT PRIMARY KEY, note TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
)
# Codes of a file that is broken or not ours; after all others (busy, full, read-only) a later attempt may succeed.
_BROKEN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG}
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_MOST_PLACES = 500  # in a statement; old SQLite takes 999
_KEY_DIGITS = 64
_BETWEEN_NAMES = "/"  # no file's name has one


log = logging.getLogger(__name__)
_found_locked: set[Path] = set()
"""Indexes that were locked for all that time when last asked: they are asked again, but not waited for."""


class EntryRow(NamedTuple):
    """What is known of an entry without opening it."""

    source_name: str
    specification_sha256: str

    @classmethod
    def of(cls, header: Header) -> "EntryRow":
        """The row of the entry with this header."""
        return cls(source_name(header), specification_digest(header.specification))


class ShardRow(NamedTuple):
    """What is known of a shard without opening it."""

    keys: tuple[str, ...]
    joined_names: str
    """Of the sources, with a slash between any two; as a text each they would take five times the memory."""
    specification_sha256: str

    @classmethod
    def of(cls, keys: Sequence[str], headers: Iterable[Header], specification_sha256: str) -> "ShardRow":
        """The row of a shard with these clips."""
        return cls(tuple(keys), _BETWEEN_NAMES.join(map(source_name, headers)), specification_sha256)

    @property
    def source_names(self) -> list[str]:
        """Of the sources, in the order of the keys."""
        return self.joined_names.split(_BETWEEN_NAMES)


def source_name(header: Header) -> str:
    """The name under which an entry is found: that of its source file, without extension."""
    return storable(PurePath(header.source_path).stem)


def storable(name: str) -> str:
    """A file name as SQLite can hold it: file names may hold bytes that are not UTF-8, its texts may not."""
    return name.encode("utf-8", "backslashreplace").decode()


class Index:
    """The index is never the truth: a broken one is replaced by an empty one, and is filled again from the files.

    For the same reason reading an index that cannot be read now gives nothing, and saving to one that cannot be
    written now does nothing. Each call has a connection of its own, so that a cache object can be pickled and cross a
    fork.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> dict[str, EntryRow]:
        """All rows of entries by key."""
        return self._attempt(_all_entries, {})

    def shards(self, names: Collection[str]) -> dict[str, ShardRow]:
        """The rows of those of the shards that the index has, by name."""
        return self._attempt(partial(_some_shards, names=names), {})

    def shard_names(self) -> set[str]:
        """The names of all shards that the index has."""
        return self._attempt(
            lambda connection: {name for (name,) in connection.execute("SELECT name FROM shards")}, set()
        )

    def notes(self, about: Iterable[str]) -> dict[str, str]:
        """What was noted about some files, by what the notes are under; of some there is none."""
        return self._attempt(partial(_some_notes, about=list(about)), {})

    def save(
        self,
        entries: Mapping[str, EntryRow] | None = None,
        shards: Mapping[str, ShardRow] | None = None,
        notes: Mapping[str, str] | None = None,
        *,
        gone_entries: Collection[str] = (),
        gone_shards: Collection[str] = (),
        gone_notes: Collection[str] = (),
    ) -> None:
        """Insert or replace rows, and delete those of the keys and shards that are gone, in one transaction.

        Their notes go, too.
        """
        entry_rows = [(key, *row) for key, row in (entries or {}).items()]
        shard_rows = [
            (name, "".join(row.keys), row.joined_names, row.specification_sha256)
            for name, row in (shards or {}).items()
        ]

        def transact(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in gone_entries))
            connection.executemany("DELETE FROM shards WHERE name = ?", ((name,) for name in gone_shards))
            gone = ((name,) for names in (gone_entries, gone_shards, gone_notes) for name in names)
            connection.executemany("DELETE FROM notes WHERE about = ?", gone)
            for table, rows in (("entries", entry_rows), ("shards", shard_rows), ("notes", (notes or {}).items())):
                for row in rows:
                    places = ", ".join("?" * (len(row) + 1))
                    connection.execute(f"REPLACE INTO {table} VALUES ({places})", (*row, _checksum(row)))
            connection.execute("COMMIT")

        self._attempt(transact, None)

    def disagreement(self, entries: Mapping[str, EntryRow], shards: Mapping[str, ShardRow]) -> str:
        """What is wrong with the index, given some of the rows that the files make; nothing is mended. "" if nothing.

        Rows that it lacks, and those of files that are gone, are no fault: looking things up mends them.
        """
        if not self._path.exists():
            return ""
        try:
            own = self._connected(_all_entries), self._connected(partial(_some_shards, names=shards))
        except (sqlite3.Error, OSError) as error:
            return str(error)
        wrong = [
            row
            for found, true in zip(own, (entries, shards), strict=True)
            for row in true
            if row in found and found[row] != true[row]
        ]
        return f"{len(wrong)} of its rows disagree with the files: {', '.join(wrong)}" if wrong else ""

    def clear(self) -> None:
        """Delete all rows.

        Raises:
            CacheError: If the index cannot be written.
        """
        statements = "BEGIN IMMEDIATE; DELETE FROM entries; DELETE FROM shards; DELETE FROM notes; COMMIT"
        try:
            self._run(lambda connection: connection.executescript(statements))
        except (sqlite3.Error, OSError) as error:
            raise CacheError(f"{self._path} cannot be written ({error}); check permissions and free space") from error

    def _attempt(self, action: Callable[[sqlite3.Connection], _Result], otherwise: _Result) -> _Result:
        """What an action returns, or ``otherwise`` if the index cannot be used now."""
        try:
            found = self._run(action)
        except (sqlite3.Error, OSError) as error:
            if (
                getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF in _LOCKED
                and self._path not in _found_locked
            ):
                _found_locked.add(self._path)
                log.warning("%s: another program has locked it; going on without. Nothing is lost by that", self._path)
            return otherwise
        _found_locked.discard(self._path)
        return found

    def _run(self, action: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            return self._connected(action)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            # Errors raised by the Python layer, such as a text that is not UTF-8, carry no code: broken, too. So is an
            # index whose error cannot even be read, as it quotes the damaged schema.
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _BROKEN:
                raise
            for suffix in ("-journal", "-wal", "-shm", ""):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            return self._connected(action)

    def _connected(self, action: Callable[[sqlite3.Connection], _Result]) -> _Result:
        if os.path.lexists(self._path) and (self._path.is_symlink() or not self._path.is_file()):
            raise sqlite3.DatabaseError("the index is not a regular file")
        patience_seconds = 0.0 if self._path in _found_locked else _PATIENCE_SECONDS
        with closing(sqlite3.connect(self._path, timeout=patience_seconds, isolation_level=None)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            schema = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master")}
            if not schema:
                connection.execute("BEGIN IMMEDIATE")
                for table in _TABLES:
                    connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")
                connection.execute("COMMIT")
            elif schema != {f"CREATE TABLE {table}" for table in _TABLES}:  # older, or another's views and triggers
                raise sqlite3.DatabaseError("the index has another layout")
            return action(connection)


def _checksum(texts: Iterable[str]) -> int:
    """Of a row; bits flip, on disks and in memory."""
    return zlib.crc32("\0".join(texts).encode())


def _require_whole(checksum: object, *texts: object) -> None:
    strings = [text for text in texts if isinstance(text, str)]  # lost bytes read as NULL
    if len(strings) < len(texts) or not is_digest(texts[-1]) or checksum != _checksum(strings):
        raise sqlite3.DatabaseError("a row is malformed")


def _all_entries(connection: sqlite3.Connection) -> dict[str, EntryRow]:
    rows = {}
    digests: dict[str, str] = {}  # each is kept and looked at once
    for key, name, digest, checksum in connection.execute("SELECT * FROM entries"):
        # What `_require_whole` asks, in half the time.
        text = f"{key}\0{name}\0{digest}".encode()
        if digest not in digests or type(name) is not str or checksum != zlib.crc32(text):
            _require_whole(checksum, key, name, digest)
        rows[key] = EntryRow(name, digests.setdefault(digest, digest))
    return rows


def _some_notes(connection: sqlite3.Connection, about: Sequence[str]) -> dict[str, str]:
    found = {}
    about = sorted(about)  # as they lie in the table
    for begin in range(0, len(about), _MOST_PLACES):
        asked = about[begin : begin + _MOST_PLACES]
        places = ", ".join("?" * len(asked))
        for subject, note, checksum in connection.execute(f"SELECT * FROM notes WHERE about IN ({places})", asked):
            if not isinstance(note, str) or checksum != zlib.crc32(f"{subject}\0{note}".encode()):
                raise sqlite3.DatabaseError("a row is malformed")
            found[subject] = note
    return found


def _some_shards(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, ShardRow]:
    rows = {}
    for name in names:
        for _, keys, names_in, digest, checksum in connection.execute("SELECT * FROM shards WHERE name = ?", (name,)):
            _require_whole(checksum, name, keys, names_in, digest)
            row = ShardRow(
                tuple(
                    [keys[at : at + _KEY_DIGITS] for at in range(0, len(keys), _KEY_DIGITS)]
                ),  # a generator is slower
                names_in,
                sys.intern(digest),
            )
            if shard_name([keys]) != name or len(row.keys) != names_in.count(_BETWEEN_NAMES) + 1:
                raise sqlite3.DatabaseError("a row is malformed")
            rows[name] = row
    return rows
