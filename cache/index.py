"""The index: what queries need of the headers, in SQLite. Never the truth: whatever ails it, it is made anew."""

import os
import sqlite3
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from ccln.cache.entry import Header
from ccln.cache.keys import is_digest, specification_digest
from ccln.cache.shard import MAX_SHARD_HEADER_BYTES, Shard, shard_name

_Result = TypeVar("_Result")

_TIMEOUT_SECONDS = 60  # many writers take turns, each for milliseconds
_MAX_VALUE_BYTES = 2 * MAX_SHARD_HEADER_BYTES
_TABLES = (
    "entries (key TEXT PRIMARY KEY, source_name TEXT NOT NULL, specification_sha256 TEXT NOT NULL) WITHOUT ROWID",
    # A row a shard, and not one a clip: a shard is in the index as a whole or not at all.
    "shards (name TEXT PRIMARY KEY, keys TEXT NOT NULL, source_names TEXT NOT NULL, specification_sha256 TEXT NOT NULL)"
    " WITHOUT ROWID",
)
# These say that the file is broken or not ours; all others (busy, full, read-only) that the moment is bad.
_BROKEN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG}
_KEY_DIGITS = 64
_BETWEEN_NAMES = "/"  # no file's name has one


class Row(NamedTuple):
    """What is asked of an entry without opening it."""

    source_name: str
    specification_sha256: str

    @classmethod
    def of(cls, header: Header) -> "Row":
        """The row of the entry with this header."""
        return cls(_name_of(header), specification_digest(header.specification))


class ShardRow(NamedTuple):
    """What is asked of a shard without opening it."""

    keys: tuple[str, ...]
    source_names: tuple[str, ...]
    specification_sha256: str

    @classmethod
    def of(cls, shard: Shard) -> "ShardRow":
        """The row of an open shard."""
        return cls(tuple(shard.keys), tuple(map(_name_of, shard.headers)), shard.specification_sha256)


def storable(name: str) -> str:
    """A file name as SQLite can hold it: file names may hold bytes that are not UTF-8, its texts may not."""
    return name.encode("utf-8", "backslashreplace").decode()


def load_entries(path: Path) -> dict[str, Row]:
    """All rows of entries by key; a broken index is replaced by an empty one.

    Raises:
        sqlite3.Error, OSError: where the index cannot be read now.
    """

    def select(connection: sqlite3.Connection) -> dict[str, Row]:
        rows = {}
        for key, name, digest in connection.execute("SELECT key, source_name, specification_sha256 FROM entries"):
            _require_texts(key, name, digest)
            rows[key] = Row(name, sys.intern(digest))
        return rows

    return _run(path, select)


def load_shards(path: Path, names: Collection[str]) -> dict[str, ShardRow]:
    """The rows of those of the shards that the index has; a broken index is replaced by an empty one.

    Raises:
        sqlite3.Error, OSError: where the index cannot be read now.
    """

    def select(connection: sqlite3.Connection) -> dict[str, ShardRow]:
        rows = {}
        for name in names:
            found = connection.execute(
                "SELECT keys, source_names, specification_sha256 FROM shards WHERE name = ?", (name,)
            )
            for keys, source_names, digest in found:
                _require_texts(keys, source_names, digest)
                row = ShardRow(
                    tuple(keys[at : at + _KEY_DIGITS] for at in range(0, len(keys), _KEY_DIGITS)),
                    tuple(source_names.split(_BETWEEN_NAMES)),
                    sys.intern(digest),
                )
                if shard_name(row.keys) != name or len(row.keys) != len(row.source_names):
                    raise sqlite3.DatabaseError("a row is malformed")
                rows[name] = row
        return rows

    return _run(path, select)


def shard_names(path: Path) -> set[str]:
    """The names of all shards that the index has; a broken index is replaced by an empty one.

    Raises:
        sqlite3.Error, OSError: where the index cannot be read now.
    """
    return _run(path, lambda connection: {name for (name,) in connection.execute("SELECT name FROM shards")})


def save(
    path: Path,
    entries: Mapping[str, Row] | None = None,
    shards: Mapping[str, ShardRow] | None = None,
    *,
    gone_entries: Collection[str] = (),
    gone_shards: Collection[str] = (),
) -> None:
    """Inserts or replaces rows and deletes those of the keys and shards that are gone, in one transaction.

    Raises:
        sqlite3.Error, OSError: where the index cannot be written now.
    """

    def transact(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in gone_entries))
        connection.executemany("DELETE FROM shards WHERE name = ?", ((name,) for name in gone_shards))
        connection.executemany(
            "REPLACE INTO entries VALUES (?, ?, ?)", ((key, *row) for key, row in (entries or {}).items())
        )
        connection.executemany(
            "REPLACE INTO shards VALUES (?, ?, ?, ?)",
            (
                (name, "".join(row.keys), _BETWEEN_NAMES.join(row.source_names), row.specification_sha256)
                for name, row in (shards or {}).items()
            ),
        )
        connection.execute("COMMIT")

    _run(path, transact)


def clear(path: Path) -> None:
    """Deletes all rows.

    Raises:
        sqlite3.Error, OSError: where the index cannot be written now.
    """
    _run(
        path,
        lambda connection: connection.executescript("BEGIN IMMEDIATE; DELETE FROM entries; DELETE FROM shards; COMMIT"),
    )


def _name_of(header: Header) -> str:
    return storable(PurePath(header.source_path).stem)


def _require_texts(*values: object) -> None:
    if not all(isinstance(value, str) for value in values) or not is_digest(values[-1]):  # lost bytes read as NULL
        raise sqlite3.DatabaseError("a row is malformed")


def _run(path: Path, action: Callable[[sqlite3.Connection], _Result]) -> _Result:
    try:
        return _attempt(path, action)
    except sqlite3.DatabaseError as error:
        # Errors raised by the Python layer, such as a text that is not UTF-8, carry no code: broken, too.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _BROKEN:
            raise
        for suffix in ("-journal", "-wal", "-shm", ""):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        return _attempt(path, action)


def _attempt(path: Path, action: Callable[[sqlite3.Connection], _Result]) -> _Result:
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise sqlite3.DatabaseError("the index is not a regular file")
    # A connection lives for one action only, so that a cache object can be pickled and cross a fork.
    with closing(sqlite3.connect(path, timeout=_TIMEOUT_SECONDS, isolation_level=None)) as connection:
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
