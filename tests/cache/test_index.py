import os
import random
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.cache_clips import SPECIFICATION, index_rows, make_features, same, sha, shards, write

from ccln.cache import CacheError, FeatureCache, feature_key, pack, repair, specification_digest, verify


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips under two specifications, the first of each packed."""
    cache = FeatureCache(tmp_path_factory.mktemp("template") / "cache")
    for number in range(4):
        write(cache, number, {**SPECIFICATION, "half": number % 2})
        if number == 1:
            assert pack(cache).shards == 2
    return cache.root


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> FeatureCache:
    return FeatureCache(shutil.copytree(template, tmp_path / "filled"))


def look_up_all(root: Path) -> tuple[object, ...]:
    """Everything that a fresh cache object finds of the four clips."""
    cache = FeatureCache(root)
    known = cache.specifications()
    return known, {(digest, n): cache.find(digest, f"clip {n}") for digest in known for n in range(4)}


def test_specifications_and_find(filled: FeatureCache) -> None:
    halves = [{**SPECIFICATION, "half": half} for half in (0, 1)]
    assert filled.specifications() == {specification_digest(half): half for half in halves}
    for number in range(4):
        digest = specification_digest(halves[number % 2])
        assert filled.find(digest, f"clip {number}") == [feature_key(sha(number), digest)]
        assert filled.find(specification_digest(halves[1 - number % 2]), f"clip {number}") == []
    # another recording under a file name that is there already
    digest = specification_digest(halves[0])
    first = filled.find(digest, "clip 0")
    late = filled.write(make_features(6), source_sha256=sha(6), source_path="clip 0.mkv", specification=halves[0])
    assert filled.find(digest, "clip 0") == sorted([*first, late])


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


def garble_pages(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def garble_schema(path: Path) -> None:
    """Let the error that SQLite raises about the schema not be UTF-8."""
    content = path.read_bytes()
    assert b"tableentriesentries" in content
    content = content.replace(b"tableentriesentries", b"table\xb6ntriesentries")
    path.write_bytes(content.replace(b"CREATE TABLE entries", b"CREATE TABEL entries"))


def execute(*statements: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return apply


def checksum(*texts: str) -> int:
    """Of an index's row."""
    return zlib.crc32("\0".join(texts).encode())


DAMAGE: dict[str, Callable[[Path], None]] = {
    "deleted": delete,
    "emptied": empty,
    "garbled": garble,
    "pages garbled": garble_pages,
    "truncated": truncate,
    "schema garbled": garble_schema,
    "rows missing": execute("DELETE FROM entries WHERE source_name < 'clip 3'"),
    "rows of nothing": execute(
        f"INSERT INTO entries VALUES ('{'0' * 64}', 'ghost', '{'1' * 64}', {checksum('0' * 64, 'ghost', '1' * 64)})"
    ),
    "a wrong name": execute("UPDATE entries SET source_name = 'clip 3' WHERE source_name = 'clip 2'"),
    "a wrong specification": execute(f"UPDATE entries SET specification_sha256 = '{'1' * 64}'"),
    "a wrong key": execute(f"UPDATE entries SET key = '{'1' * 64}' WHERE source_name = 'clip 2'"),
    "swapped names": execute("UPDATE entries SET source_name = 'clip ' || (5 - substr(source_name, 6))"),
    "a wrong name of a packed clip": execute("UPDATE shards SET source_names = 'clip 3'"),
    "a wrong specification of packed clips": execute(f"UPDATE shards SET specification_sha256 = '{'1' * 64}'"),
    "rows of bytes": execute("UPDATE entries SET source_name = x'ff'"),
    "a trigger": execute(
        "DELETE FROM entries",
        "CREATE TRIGGER t AFTER INSERT ON entries BEGIN UPDATE entries SET source_name = 'wrong'; END",
    ),
    "another layout": execute("DROP TABLE entries", "CREATE TABLE entries (key)"),
    "a view": execute("DROP TABLE entries", "CREATE VIEW entries AS SELECT 1 AS key"),
    "shards missing": execute("DELETE FROM shards WHERE source_names = 'clip 0'"),
    "shards of nothing": execute(
        f"INSERT INTO shards VALUES ('{sha('1' * 64)}', '{'1' * 64}', 'ghost', '{'1' * 64}', "
        f"{checksum(sha('1' * 64), '1' * 64, 'ghost', '1' * 64)})"
    ),
    "shards of bytes": execute("UPDATE shards SET source_names = x'ff'"),
    "shards of other keys": execute("UPDATE shards SET keys = replace(keys, '0', '1')"),
    "shards of more names": execute("UPDATE shards SET source_names = source_names || '/clip 9'"),
    "not text": execute("DELETE FROM entries", "INSERT INTO entries VALUES (CAST(x'ff' AS TEXT), '', '', 0)"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_index_is_repaired_by_the_next_look_up(filled: FeatureCache, damage: Callable[[Path], None]) -> None:
    truth, rows = look_up_all(filled.root), index_rows(filled.root)
    assert len(rows) == 4
    damage(filled.root / "index.sqlite")
    assert look_up_all(filled.root) == truth
    assert index_rows(filled.root) == rows


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_rebuilding_makes_the_same_index(filled: FeatureCache, damage: Callable[[Path], None]) -> None:
    rows = index_rows(filled.root)
    damage(filled.root / "index.sqlite")
    assert repair(filled) == (4, 0, [])
    assert index_rows(filled.root) == rows


def test_rebuilding_corrects_wrong_rows(filled: FeatureCache) -> None:
    rows = index_rows(filled.root)
    execute("UPDATE entries SET source_name = 'wrong'")(filled.root / "index.sqlite")
    repair(filled)
    assert index_rows(filled.root) == rows


def forge_names(path: Path) -> None:
    """Give the clips that have files each other's name, and the rows the checksums that belong to these."""
    connection = sqlite3.connect(path)
    for key, name, digest, _ in connection.execute("SELECT * FROM entries").fetchall():
        other = {"clip 2": "clip 3", "clip 3": "clip 2"}[name]
        row = (key, other, digest, checksum(key, other, digest))
        connection.execute("REPLACE INTO entries VALUES (?, ?, ?, ?)", row)
    connection.commit()
    connection.close()


def test_what_an_index_says_is_confirmed_by_the_entries(filled: FeatureCache) -> None:
    truth = look_up_all(filled.root)
    forge_names(filled.root / "index.sqlite")
    known, found = look_up_all(filled.root)
    assert known == truth[0]
    assert all(keys in ([], truth[1][clip]) for clip, keys in found.items())  # type: ignore[index]


WRONG = {name: damage for name, damage in DAMAGE.items() if "wrong" in name or "swapped" in name}


@pytest.mark.parametrize("damage", [*WRONG.values(), forge_names, garble], ids=[*WRONG, "forged", "garbled"])
def test_verifying_covers_the_index_and_mends_nothing(filled: FeatureCache, damage: Callable[[Path], None]) -> None:
    index = filled.root / "index.sqlite"
    assert verify(filled) == (4, [])
    damage(index)
    before = index.read_bytes()
    found = verify(filled)
    assert found.intact == 4
    assert [error.path for error in found.damaged] == [index]
    assert index.read_bytes() == before
    repair(filled)
    assert verify(filled) == (4, [])


@pytest.mark.parametrize("damage", [DAMAGE["deleted"], DAMAGE["rows missing"], DAMAGE["rows of nothing"]])
def test_an_index_that_lags_behind_is_no_damage(filled: FeatureCache, damage: Callable[[Path], None]) -> None:
    damage(filled.root / "index.sqlite")
    assert verify(filled) == (4, [])


def test_deleted_and_copied_entries_are_noticed(filled: FeatureCache, tmp_path: Path) -> None:
    digest = specification_digest({**SPECIFICATION, "half": 0})
    (key,) = filled.find(digest, "clip 2")
    filled.path_of(key).unlink()
    assert filled.find(digest, "clip 2") == []
    other = FeatureCache(tmp_path / "other")
    copied = write(other, 8, {**SPECIFICATION, "half": 0})
    shutil.copytree(other.root / "entries", filled.root / "entries", dirs_exist_ok=True)
    assert filled.find(digest, "clip 8") == []
    filled.specifications()  # lists the folder again
    assert filled.find(digest, "clip 8") == [copied]


def test_unknown_names_are_looked_up_without_listing_the_folder(
    filled: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (digest, _) = filled.specifications()
    scandir = os.scandir
    listed: list[object] = []
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    for number in range(1000):
        assert filled.find(digest, f"unknown {number}") == []
    assert listed == []
    filled.specifications()
    assert listed  # shows that the measurement detects a change


def test_deleted_and_copied_shards_are_noticed(filled: FeatureCache, tmp_path: Path) -> None:
    half = {**SPECIFICATION, "half": 0}
    digest = specification_digest(half)
    (key,) = filled.find(digest, "clip 0")
    other = FeatureCache(tmp_path / "other")
    copied = write(other, 8, half)
    pack(other)
    assert not filled.contains(copied)
    shutil.copytree(other.root / "shards", filled.root / "shards", dirs_exist_ok=True)
    assert filled.contains(copied)
    assert same(filled.read(copied), make_features(8))
    filled.specifications()
    assert filled.find(digest, "clip 8") == [copied]
    shutil.rmtree(filled.root / "shards")
    assert not filled.contains(key)
    assert not filled.contains(copied)
    assert filled.find(digest, "clip 0") == filled.find(digest, "clip 8") == []
    with pytest.raises(CacheError, match="no such entry"):
        filled.read(key)


def test_an_index_that_cannot_be_written_loses_nothing(cache: FeatureCache) -> None:
    cache.root.mkdir()
    (cache.root / "index.sqlite").mkdir()
    key = write(cache)
    assert same(cache.read(key), make_features())
    assert cache.find(specification_digest(SPECIFICATION), "clip 0") == [key]
    assert list(cache.specifications().values()) == [SPECIFICATION]
    with pytest.raises(CacheError, match=r"index\.sqlite cannot be written"):
        repair(cache)


def test_a_locked_index_is_waited_for_once_and_said_once(
    filled: FeatureCache, caplog: pytest.LogCaptureFixture
) -> None:
    truth = look_up_all(filled.root)
    index = filled.root / "index.sqlite"
    with closing(sqlite3.connect(index, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        keys = [write(filled, number, {**SPECIFICATION, "half": 0}) for number in range(20, 40)]
        assert look_up_all(filled.root)[0] == truth[0]
        assert pack(filled).clips == 22
        assert time.monotonic() - started < 20  # once 5 s
        other.execute("ROLLBACK")
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [str(index)]
    assert "locked" in caplog.text
    assert all(filled.contains(key) for key in keys)
    assert verify(filled) == (24, [])
    look_up_all(filled.root)  # which brings the rows in
    assert len(index_rows(filled.root)) == len(shards(filled))
    with closing(sqlite3.connect(index, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        write(filled, 50)
    assert len(caplog.records) == 2  # it was free in between


def test_an_index_that_is_a_link_is_replaced_not_followed(filled: FeatureCache, tmp_path: Path) -> None:
    rows = index_rows(filled.root)
    precious = tmp_path / "precious.sqlite"
    execute("CREATE TABLE mine (x)")(precious)
    before = precious.read_bytes()
    (filled.root / "index.sqlite").unlink()
    (filled.root / "index.sqlite").symlink_to(precious)
    filled.specifications()
    assert index_rows(filled.root) == rows
    assert precious.read_bytes() == before


def test_file_names_that_are_not_text_can_be_found(cache: FeatureCache) -> None:
    name = os.fsdecode(b"caf\xe9")
    key = cache.write(make_features(), source_sha256=sha(0), source_path=f"/v/{name}.mp4", specification={})
    assert cache.find(specification_digest({}), name) == [key]
    assert repair(cache) == (1, 0, [])
    assert cache.find(specification_digest({}), name) == [key]
