"""Functions that tests of the cache run in other processes, which can import this folder."""

import os
import signal
from pathlib import Path

from ccln.cache import FeatureCache, RemoteCache, open_cache, pack
from support.cache_clips import DIGEST, KEYS, make_features, same, write


def write_many(root: Path, numbers: list[int]) -> None:
    cache = FeatureCache(root)
    for number in numbers:
        write(cache, number)


def _die_renaming(after: bool) -> None:
    """Have this process killed just before, or just after, it renames a partial file."""
    replace = os.replace

    def fatal(source: Path, target: Path) -> None:
        if after:
            replace(source, target)
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = fatal  # type: ignore[assignment]


def die_writing(root: Path, after: bool) -> None:
    _die_renaming(after)
    write(FeatureCache(root))


def die_packing(root: Path, after: bool) -> None:
    _die_renaming(after)
    pack(FeatureCache(root))


def die_uploading(copies: Path, url: str, renames: int, after: bool) -> None:
    """Write three clips to a cache at a URL, and be killed at the rename after so many that uploading makes."""
    os.environ["XDG_CACHE_HOME"] = str(copies)
    cache = open_cache(url)
    assert isinstance(cache, RemoteCache)
    for number in range(3):
        write(cache, number)
    replace = os.replace

    def counted(source: Path, target: Path) -> None:
        nonlocal renames
        if renames == 0:
            os.replace = replace
            _die_renaming(after)
            os.replace(source, target)
        renames -= 1
        replace(source, target)

    os.replace = counted  # type: ignore[assignment]
    cache.flush()


def read_until(root: Path, done: Path) -> None:
    """Read every clip again and again; raise as soon as one is missing or differs from what was written."""
    cache = FeatureCache(root)
    while not done.exists():
        for number in range(25):
            assert cache.contains(KEYS[number])
            assert same(cache.read(KEYS[number]), make_features(number))
        assert all(cache.find(DIGEST, f"clip {number}") for number in range(25))


def pack_until(root: Path, done: Path) -> None:
    while not done.exists():
        pack(FeatureCache(root), clips_per_shard=5)


def fork_and_read(root: Path) -> None:
    """Reads before a fork and in both processes after it."""
    cache = FeatureCache(root)
    assert same(cache.read(KEYS[0]), make_features(0))
    child = os.fork()
    intact = all(same(cache.read(key), make_features(number)) for number, key in enumerate(KEYS[:4]))
    intact = intact and cache.find(DIGEST, "clip 1") == [KEYS[1]]
    if child == 0:
        os._exit(0 if intact else 1)
    _, status = os.waitpid(child, 0)
    assert intact
    assert status == 0
