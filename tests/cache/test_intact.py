"""Which clips a cache takes for whole, and which it reads to know that."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.cache_clips import KEYS, SPECIFICATION, entries, flip_last_bit, make_features, sha, shards

from ccln.cache import DamagedFileError, FeatureCache, pack, repair, verify
from ccln.cache.folder import state_of
from ccln.cache.index import Index
from ccln.cache.shards import Shard
from ccln.cache.store import whole_note

RULES = 3


@pytest.fixture(params=["files", "packed"])
def cache(tmp_path: Path, request: pytest.FixtureRequest) -> FeatureCache:
    """Clips 0 to 3."""
    cache = FeatureCache(tmp_path / "cache")
    for number in range(4):
        write_by_rules(cache, number, RULES)
    if request.param == "packed":
        pack(cache, clips_per_shard=2)
    return cache


def write_by_rules(cache: FeatureCache, number: int, rules: int | None) -> None:
    features = replace(make_features(number), decoding_rules=rules)
    cache.write(features, source_sha256=sha(number), source_path=f"/{number}.mp4", specification=SPECIFICATION)


def keys_in(path: Path) -> list[str]:
    return Shard(path, path.stem).keys if path.parent.name == "shards" else [path.stem]


def a_file(cache: FeatureCache) -> Path:
    return (entries(cache) or shards(cache))[0]


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccln.cache.entry.Entry.is_as_written", lambda entry: pytest.fail("read again"))


def test_what_was_written_and_packed_here_is_not_read_again(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_reading(monkeypatch)
    assert FeatureCache(cache.root).intact([*KEYS[:6]], RULES) == set(KEYS[:4])
    assert FeatureCache(cache.root).intact([], RULES) == set()


@pytest.mark.parametrize("lose", [repair, lambda cache: (cache.root / "index.sqlite").unlink()])
def test_what_nothing_is_known_of_is_read_once(
    cache: FeatureCache, lose: Callable[[FeatureCache], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(cache)
    assert FeatureCache(cache.root).intact(KEYS[:6], RULES) == set(KEYS[:4])
    no_reading(monkeypatch)
    assert FeatureCache(cache.root).intact(KEYS[:6], RULES) == set(KEYS[:4])


def test_a_file_that_was_touched_is_read_again(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(a_file(cache), (1, 1))
    assert cache.intact(KEYS[:4], RULES) == set(KEYS[:4])
    os.utime(a_file(cache), (2, 2))
    no_reading(monkeypatch)
    with pytest.raises(pytest.fail.Exception):
        cache.intact(KEYS[:4], RULES)


def test_a_damaged_file_is_not_whole(cache: FeatureCache) -> None:
    path = a_file(cache)
    others = set(KEYS[:4]) - set(keys_in(path))
    flip_last_bit(path)
    assert cache.intact(KEYS[:4], RULES) == others
    path.unlink()
    assert cache.intact(KEYS[:4], RULES) == others


def test_other_rules_are_none_of_these(cache: FeatureCache) -> None:
    assert cache.intact(KEYS[:4], RULES + 1) == set()
    for rules in (None, 1):
        write_by_rules(cache, 0, rules)
        assert cache.intact(KEYS[:4], RULES) == set(KEYS[1:4])


@pytest.mark.parametrize("look", ["read", "verify"])
def test_damage_that_leaves_no_trace_is_known_once_it_was_met(cache: FeatureCache, look: str) -> None:
    path = a_file(cache)
    *_, key = keys_in(path)
    flip_last_bit(path)
    Index(cache.root / "index.sqlite").save(notes={path.stem: whole_note(RULES, state_of(path))})
    assert cache.intact([key], RULES) == {key}
    if look == "verify":
        assert len(verify(cache).damaged) == 1
    else:
        with pytest.raises(DamagedFileError):
            cache.read(key)
    assert cache.intact([key], RULES) == set()


def test_digests_of_sources_are_kept(cache: FeatureCache) -> None:
    kept = {f"1:{number}:3": sha(number) for number in range(1500)}
    cache.keep_source_digests(kept)
    assert FeatureCache(cache.root).source_digests([*kept, "1:2:4"]) == kept
    (cache.root / "index.sqlite").unlink()
    assert cache.source_digests(kept) == {}
