"""The index: what queries need of the headers, in SQLite. Never the truth: whatever ails it, it is made anew."""

import os
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from ccln.cache.entry import Header
from ccln.cache.keys import specification_digest

_Result = TypeVar("_Result")

_TIMEOUT_SECONDS = 60  # many writers take turns, each for milliseconds
_MAX_VALUE_BYTES = 1 << 20
_TABLE = "entries (key TEXT PRIMARY KEY, source_name TEXT NOT NULL, specification_sha256 TEXT NOT NULL) WITHOUT ROWID"
# These say that the file is broken or not ours; all others (busy, full, read-only) that the moment is bad.
_BROKEN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG}


class Row(NamedTuple):
    """What is asked of an entry without opening it."""

    source_name: str
    specification_sha256: str

    @classmethod
    def of(cls, header: Header) -> "Row":
        """The row of the entry with this header."""
        return cls(storable(PurePath(header.source_path).stem), specification_digest(header.specification))


def storable(name: str) -> str:
    """A file name as SQLite can hold it: file names may hold bytes that are not UTF-8, its texts may not."""
    return name.encode("utf-8", "backslashreplace").decode()


def load(path: Path) -> dict[str, Row]:
    """All rows by key; a broken index is replaced by an empty one.

    Raises:
        sqlite3.Error, OSError: where the index cannot be read now.
    """

    def select(connection: sqlite3.Connection) -> dict[str, Row]:
        rows = {}
        for key, *values in connection.execute("SELECT key, source_name, specification_sha256 FROM entries"):
            if not all(isinstance(value, str) for value in (key, *values)):  # SQLite reads lost bytes as NULL
                raise sqlite3.DatabaseError("a row is malformed")
            rows[key] = Row(*values)
        return rows

    return _run(path, select)


def save(path: Path, rows: Mapping[str, Row], gone: Collection[str] = ()) -> None:
    """Inserts or replaces ``rows`` and deletes the keys ``gone``, in one transaction.

    Raises:
        sqlite3.Error, OSError: where the index cannot be written now.
    """

    def transact(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in gone))
        connection.executemany("REPLACE INTO entries VALUES (?, ?, ?)", ((key, *row) for key, row in rows.items()))
        connection.execute("COMMIT")

    _run(path, transact)


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
        schema = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master")]
        if not schema:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE}")
        elif schema != [f"CREATE TABLE {_TABLE}"]:  # an older layout, or views and triggers of another's making
            raise sqlite3.DatabaseError("the index has another layout")
        return action(connection)
