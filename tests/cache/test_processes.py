import errno
import os
import signal
from pathlib import Path

import pytest
from support.cache_clips import (
    DIGEST,
    KEYS,
    SPECIFICATION,
    entries,
    files_below,
    index_rows,
    make_features,
    same,
    sha,
    wait_for,
    write,
)
from support.cache_processes import die_writing, write_many
from support.processes import PROCESSES

from ccln.cache import CacheError, FeatureCache, feature_key, repair
from ccln.files import owner


@pytest.mark.parametrize("after", [False, True])
def test_a_writer_killed_while_renaming_leaves_a_whole_entry_or_none(cache: FeatureCache, after: bool) -> None:
    process = PROCESSES.Process(target=die_writing, args=(cache.root, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    key = KEYS[0]
    assert not (cache.root / "index.sqlite").exists()
    assert len(list((cache.root / "partial").iterdir())) == (not after)
    assert cache.contains(key) == after
    assert cache.find(DIGEST, "clip 0") == [key] * after
    assert write(cache) == key  # the next run puts it right
    assert cache.find(DIGEST, "clip 0") == [key]


def test_writers_killed_at_any_moment_leave_whole_entries_only(cache: FeatureCache) -> None:
    for round_ in range(2):
        before = len(entries(cache))
        numbers = list(range(1000 * round_, 1000 * (round_ + 1)))
        process = PROCESSES.Process(target=write_many, args=(cache.root, numbers))
        process.start()
        wait_for(lambda: len(entries(cache)) >= before + 5)  # noqa: B023
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    paths = entries(cache)
    assert 10 <= len(paths) < 2000
    for path in paths:
        cache.read(path.stem)
    found = {key for number in range(2000) if cache.contains(key := feature_key(sha(number), DIGEST))}
    assert found == {path.stem for path in paths}
    assert cache.specifications() == {DIGEST: SPECIFICATION}
    assert {row[0] for row in index_rows(cache.root)} == found
    repaired = repair(cache)
    assert (repaired.indexed, repaired.damaged) == (len(paths), [])
    assert repaired.swept <= 2  # what a killed writer was just writing


def test_two_processes_write_one_cache(cache: FeatureCache) -> None:
    shares = [list(range(0, 20)), list(range(10, 30))[::-1]]  # the middle third is written by both
    processes = [PROCESSES.Process(target=write_many, args=(cache.root, share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    rows = index_rows(cache.root)  # complete before any look-up, which would repair it
    assert {row[0] for row in rows} == {feature_key(sha(number), DIGEST) for number in range(30)}
    for number in range(30):
        (key,) = cache.find(DIGEST, f"clip {number}")
        assert same(cache.read(key), make_features(number))
    assert not list((cache.root / "partial").iterdir())
    assert repair(cache) == (30, 0, [])
    assert index_rows(cache.root) == rows


def test_a_full_disk_leaves_nothing_behind(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheError, match=r"cannot be written .*No space left.*free some space"):
        write(cache)
    assert files_below(cache.root) == set()


def test_partial_files_of_dead_processes_alone_are_swept(cache: FeatureCache, tmp_path: Path) -> None:
    process = PROCESSES.Process(target=die_writing, args=(cache.root, False))
    process.start()
    process.join()
    partial = cache.root / "partial"
    (dead,) = partial.iterdir()
    living, foreign = partial / f".{sha(1)[:40]}.{owner()}-12345678.partial", partial / "thesis.tex"
    for path in (living, foreign):
        path.write_bytes(b"half an ent")
        os.utime(path, (0, 0))
    assert repair(cache).swept == 1
    assert not dead.exists()
    assert set(partial.iterdir()) == {living, foreign}
    partial.rename(tmp_path / "elsewhere")
    partial.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match="symbolic link"):
        repair(cache)
