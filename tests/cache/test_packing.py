"""Packing that is killed at each of its steps, and packing while others read and write."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

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
from support.cache_processes import die_packing, fork_and_read, pack_until, read_until, write_many
from support.processes import PROCESSES

from ccln.cache import CacheError, FeatureCache, pack, repair, verify


class Killed(BaseException):
    """Stands for the end of the process: no code of the cache catches it."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of four clips that have a file each."""
    cache = FeatureCache(tmp_path_factory.mktemp("template") / "cache")
    for number in range(4):
        write(cache, number)
    return cache.root


@pytest.fixture
def cache(template: Path, tmp_path: Path) -> FeatureCache:
    return FeatureCache(shutil.copytree(template, tmp_path / "cache"))


def check_all(cache: FeatureCache, count: int) -> None:
    assert cache.specifications() == {DIGEST: SPECIFICATION}
    for number in range(count):
        assert cache.contains(KEYS[number])
        assert same(cache.read(KEYS[number]), make_features(number))
        assert cache.find(DIGEST, f"clip {number}") == [KEYS[number]]


def test_packing_killed_before_each_of_its_steps_loses_nothing(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    while True:
        folder = shutil.copytree(cache.root, tmp_path / f"step {steps}")
        with monkeypatch.context() as patch:
            left = [steps]

            def dying(name: str) -> Any:
                step = getattr(os, name)

                def take(*arguments: Any, **named: Any) -> Any:
                    if left[0] == 0:  # noqa: B023
                        raise Killed
                    left[0] -= 1  # noqa: B023
                    return step(*arguments, **named)

                return take

            for name in ("mkdir", "fsync", "replace", "unlink", "rmdir"):
                patch.setattr(os, name, dying(name))
            try:
                pack(FeatureCache(folder), clips_per_shard=3)
            except Killed:
                steps += 1
            else:
                break
        survivor = FeatureCache(folder)
        check_all(survivor, 4)
        pack(survivor, clips_per_shard=3)
        check_all(survivor, 4)
        assert entries(survivor) == []
        repair(survivor)
        left_there = {path for path in files_below(folder) if path.parent.name != "partial"}  # this process is alive
        assert len(left_there) == 3  # two shards and the index: no third was needed
        assert verify(survivor) == (4, [])
    assert steps > 20


@pytest.mark.parametrize("after", [False, True])
def test_a_packing_process_killed_while_renaming_loses_nothing(cache: FeatureCache, after: bool) -> None:
    process = PROCESSES.Process(target=die_packing, args=(cache.root, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(entries(cache)) == 4
    assert len(list(cache.root.glob("partial/*"))) == (not after)
    assert len(list(cache.root.glob("shards/*"))) == after
    check_all(cache, 4)
    assert pack(cache) == (4, not after, [])
    check_all(cache, 4)


def test_a_full_disk_while_packing_changes_nothing(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_below(cache.root)

    def full(_descriptor: int) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CacheError, match=r"shards/.* cannot be written .*No space left.*free some space"):
            pack(cache)
    assert files_below(cache.root) == before
    check_all(cache, 4)


def test_an_entry_rewritten_while_it_is_packed_is_not_deleted(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def and_write(source: Path, target: Path) -> None:
        replace(source, target)
        monkeypatch.undo()
        FeatureCache(cache.root).write(
            make_features(9), source_sha256=sha(0), source_path="late.mp4", specification=SPECIFICATION
        )

    monkeypatch.setattr(os, "replace", and_write)
    assert pack(cache) == (3, 1, [])
    assert entries(cache) == [cache.path_of(KEYS[0])]
    assert same(cache.read(KEYS[0]), make_features(9))


# ------------------------------------------------------------------------------------------------------ many processes


def test_clips_are_read_written_and_packed_at_once(cache: FeatureCache, tmp_path: Path) -> None:
    for number in range(4, 25):
        write(cache, number)
    done = tmp_path / "done"
    targets: list[tuple[Any, tuple[Any, ...]]] = [
        (read_until, (cache.root, done)),
        (pack_until, (cache.root, done)),
        (pack_until, (cache.root, done)),
        (write_many, (cache.root, list(range(25, 45)))),
    ]
    processes = [PROCESSES.Process(target=target, args=args) for target, args in targets]
    for process in processes:
        process.start()
    try:
        processes[-1].join()
        # What one packing process has put into a shard the other may have put into another, but none is lost.
        wait_for(lambda: not entries(cache) or not all(process.is_alive() for process in processes[:-1]))
    finally:
        done.touch()  # otherwise they never end
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert not entries(cache)
    check_all(cache, 45)
    assert not verify(cache).damaged
    rows = index_rows(cache.root)
    assert repair(cache) == (45, 0, [])
    assert index_rows(cache.root) == rows


def test_an_open_shard_can_be_read_after_a_fork(cache: FeatureCache) -> None:
    pack(cache)
    process = PROCESSES.Process(target=fork_and_read, args=(cache.root,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_an_entry_packed_while_it_is_read_is_read_from_the_shard(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    realpath = os.path.realpath

    def late(path: Any, **named: Any) -> str:
        """The first look into the file: everything is packed just before it."""
        monkeypatch.undo()
        pack(FeatureCache(cache.root))
        return realpath(path, **named)

    monkeypatch.setattr(os.path, "realpath", late)
    assert same(cache.read(KEYS[0]), make_features(0))
    assert entries(cache) == []


def test_a_shard_written_at_the_same_time_as_another_is_found(cache: FeatureCache) -> None:
    folder = cache.root / "shards"
    pack(cache)
    assert not cache.contains(KEYS[7])
    moment = folder.stat().st_mtime_ns
    other = FeatureCache(cache.root)
    write(other, 7)
    pack(other)
    os.utime(folder, ns=(moment, moment))
    assert cache.contains(KEYS[7])
    # Long after the last change the same time does mean that nothing is new.
    os.utime(folder, (time.time() - 60, time.time() - 60))
    assert cache.contains(KEYS[7])
    assert same(cache.read(KEYS[7]), make_features(7))
