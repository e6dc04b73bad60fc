import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cache_clips import (
    KEYS,
    SPECIFICATION,
    entries,
    files_below,
    flip_last_bit,
    index_rows,
    make_features,
    same,
    sha,
    shards,
    write,
)

from ccln.cache import (
    CacheError,
    FeatureCache,
    describe,
    feature_key,
    pack,
    prune,
    repair,
    specification_digest,
    verify,
)
from ccln.files import owner

OLD = {**SPECIFICATION, "visual": "old"}
DIGEST, OLD_DIGEST = specification_digest(SPECIFICATION), specification_digest(OLD)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips under one specification, four of them packed; three of the same under an older one, two packed."""
    cache = FeatureCache(tmp_path_factory.mktemp("template") / "cache")
    for number in (0, 1, 2, 3):
        write(cache, number)
    for number in (0, 1):
        write(cache, number, OLD)
    assert pack(cache, clips_per_shard=2) == (6, 3, [])
    short = make_features(4, segments=2, duration_seconds=2.0)  # not padded
    silent, blind = (replace(make_features(5), missing=(stream,)) for stream in ("audio", "video"))
    for number, features, specification in ((4, short, SPECIFICATION), (5, silent, SPECIFICATION), (6, blind, OLD)):
        cache.write(
            features, source_sha256=sha(number), source_path=f"/v/clip {number}.mp4", specification=specification
        )
    return cache.root


@pytest.fixture
def cache(template: Path, tmp_path: Path) -> FeatureCache:
    return FeatureCache(shutil.copytree(template, tmp_path / "cache"))


def sizes(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def files_of(cache: FeatureCache) -> list[Path]:
    return [*entries(cache), *shards(cache)]


@pytest.mark.parametrize("maintain", [describe, verify, repair, lambda cache: prune(cache, [], delete=True)])
def test_a_folder_without_a_cache_is_refused_and_not_changed(
    tmp_path: Path, maintain: Callable[[FeatureCache], Any]
) -> None:
    thesis = tmp_path / "documents" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    for folder in (thesis.parent, tmp_path / "nothing"):
        with pytest.raises(CacheError, match="is no feature cache"):
            maintain(FeatureCache(folder))
    assert files_below(tmp_path) == {thesis}


def test_describe_counts_clips_and_shards_of_each_specification(cache: FeatureCache) -> None:
    calls: list[tuple[int, int]] = []
    newer, older = describe(cache, progress=lambda *call: calls.append(call))
    assert calls == [(done, 6) for done in range(7)]
    assert (newer.digest, newer.specification) == (DIGEST, SPECIFICATION)
    assert (older.digest, older.specification) == (OLD_DIGEST, OLD)
    assert (newer.clips, newer.packed, newer.shards) == (6, 4, 2)
    assert (older.clips, older.packed, older.shards) == (3, 2, 1)
    assert (newer.padded, newer.missing_audio, newer.missing_video) == (5, 1, 0)
    assert (older.padded, older.missing_audio, older.missing_video) == (3, 0, 1)
    assert newer.shapes == {((2, 2, 2, 4), (2, 5)), ((3, 2, 2, 4), (3, 5))}
    assert older.shapes == {((3, 2, 2, 4), (3, 5))}
    assert newer.bytes + older.bytes == sizes(files_of(cache))


def test_a_clip_in_a_file_and_in_a_shard_counts_once(cache: FeatureCache) -> None:
    write(cache, 0)
    newer, _ = describe(cache)
    assert (newer.clips, newer.packed) == (6, 3)
    assert prune(cache, [OLD_DIGEST], delete=False).by_specification == {DIGEST: 6}


def test_verifying_names_each_damage(cache: FeatureCache) -> None:
    assert verify(cache) == (9, [])
    (file,) = (cache.path_of(key) for key in cache.find(DIGEST, "clip 4"))
    shard = shards(cache)[0]
    flip_last_bit(file)
    flip_last_bit(shard)
    shards(cache)[1].write_bytes(b"")
    calls: list[tuple[int, int]] = []
    found = verify(cache, progress=lambda *call: calls.append(call))
    assert calls == [(done, 6) for done in range(7)]
    assert found.intact == 9 - 1 - 1 - 2
    reasons = {damage.path: damage.reason for damage in found.damaged}
    assert reasons.keys() == {file, shard, shards(cache)[1]}
    assert reasons[file] == "its content is not what was written (sha256 differs)"
    assert "/videos/clip" in reasons[shard]
    assert "header too small" in reasons[shards(cache)[1]]


def test_repair_rebuilds_the_index_and_puts_damaged_files_away(cache: FeatureCache) -> None:
    rows = index_rows(cache.root)
    partial = cache.root / "partial"
    machine, pid, _ = owner().split("-")
    (partial / f".{sha('now')[:40]}.{machine}-{pid}-1-12345678.partial").write_bytes(b"half an ent")
    (partial / "thesis.tex").write_bytes(b"mine")
    (file,) = (cache.path_of(key) for key in cache.find(DIGEST, "clip 4"))
    content = file.read_bytes()
    flip_last_bit(file)
    calls: list[tuple[int, int]] = []
    repaired = repair(cache, progress=lambda *call: calls.append(call))
    assert calls == [(done, 6) for done in range(7)]
    assert (repaired.indexed, repaired.swept) == (8, 1)
    assert [damage.path for damage in repaired.damaged] == [file]
    assert [path.name for path in partial.iterdir()] == ["thesis.tex"]
    assert not file.exists()
    flip_last_bit(cache.root / "quarantine" / file.name)
    assert (cache.root / "quarantine" / file.name).read_bytes() == content
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    assert repair(cache) == (9, 0, [])
    assert index_rows(cache.root) == rows


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def rename_a_source(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"/videos/clip 1", b"/videos/clip 9"))


def change_a_key(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(sha(1).encode(), sha(9).encode()))


@pytest.mark.parametrize("damage", [flip_last_bit, cut_off, rename_a_source, change_a_key])
def test_a_damaged_shard_loses_its_damaged_clip_alone(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    cache = FeatureCache(tmp_path / "cache")
    keys = {write(cache, number): number for number in range(5)}
    pack(cache)
    (shard,) = shards(cache)
    damage(shard)
    broken = shard.read_bytes()
    repaired = repair(FeatureCache(cache.root))
    assert repaired.indexed == 4
    assert {error.path for error in repaired.damaged} == {shard}
    assert (cache.root / "quarantine" / shard.name).read_bytes() == broken
    assert verify(cache) == (4, [])
    assert not entries(cache)
    left = {key: number for key, number in keys.items() if cache.contains(key)}
    assert len(left) == 4
    assert all(same(cache.read(key), make_features(number)) for key, number in left.items())
    (lost,) = keys.keys() - left.keys()
    write(cache, keys[lost])
    assert verify(cache) == (5, [])


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_whatever_is_changed_in_a_shard_repair_gives_nothing_wrong(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = FeatureCache(tmp_path_factory.mktemp("any") / "cache")
    for number in range(3):
        write(cache, number)
    pack(cache)
    (shard,) = shards(cache)
    content = bytearray(shard.read_bytes())
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    shard.write_bytes(content)
    repair(cache)
    found = verify(cache)
    assert found.damaged == []
    assert all(same(cache.read(key), make_features(KEYS.index(key))) for key in KEYS[:3] if cache.contains(key))
    assert found.intact == 2 or at < header_bytes


def test_what_is_damaged_between_the_clips_of_a_shard_loses_none(cache: FeatureCache) -> None:
    shard = shards(cache)[0]
    content = shard.read_bytes()
    shard.write_bytes(content + b"more")
    assert repair(cache).indexed == 9
    assert shard.read_bytes() == content
    assert verify(cache) == (9, [])


def test_a_sample_finds_what_is_damaged_in_the_end(cache: FeatureCache) -> None:
    assert verify(cache, sample=0.01).intact == 1 + 3  # a file, and a clip of each shard
    flip_last_bit(shards(cache)[0])
    found = [verify(cache, sample=0.5) for _ in range(64)]  # misses in one of 2**64 attempts
    assert {len(each.damaged) for each in found} == {0, 1}
    for sample in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(CacheError, match="it must be above 0"):
            verify(cache, sample=sample)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", [flip_last_bit, cut_off, os.truncate], ids=["flipped", "cut", "emptied"])
def test_damaged_features_are_not_whole_and_can_be_written_again(
    tmp_path: Path, damage: Callable[..., None], packed: bool
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    keys = [write(cache, number) for number in range(2)]
    if packed:
        pack(cache)
    (path, *_) = shards(cache) if packed else [cache.path_of(keys[0])]
    damage(*((path, 0) if damage is os.truncate else (path,)))
    gone = [number for number, key in enumerate(keys) if cache.whole(key) is None]
    assert gone
    assert (cache.root / "quarantine" / path.name).exists() is not packed
    for number in gone:
        write(cache, number)
    for number, key in enumerate(keys):
        features = cache.whole(key)
        assert features is not None
        assert same(features, make_features(number))


def test_what_lies_behind_a_link_is_not_moved(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    key = write(cache)
    outside = tmp_path / "outside"
    os.rename(cache.path_of(key).parent, outside)
    cache.path_of(key).parent.symlink_to(outside)
    with pytest.raises(CacheError, match="symbolic link"):
        cache.whole(key)
    assert (outside / cache.path_of(key).name).exists()


@pytest.mark.parametrize("keep", [DIGEST, OLD_DIGEST])
def test_pruning_keeps_only_the_named_specification(cache: FeatureCache, tmp_path: Path, keep: str) -> None:
    foreign = [
        cache.root / "notes.txt",
        cache.root / "shards" / "notes.safetensors",
        cache.root / "shards" / f"{sha('alien')}.safetensors",
        cache.path_of(sha("alien")),
        cache.root / "entries" / "mine" / "thesis.tex",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (dropped,) = {DIGEST, OLD_DIGEST} - {keep}
    before, known = files_below(cache.root), {d: describe_one(cache, d) for d in (DIGEST, OLD_DIGEST)}
    counted = prune(cache, [keep], delete=False)
    assert files_below(cache.root) == before
    assert counted.by_specification == {dropped: known[dropped][0]}
    assert (counted.clips, counted.bytes) == known[dropped]
    calls: list[tuple[int, int]] = []
    reader = FeatureCache(cache.root)
    views = [(key, reader.read(key)) for key in keys_of(cache, dropped)]
    assert prune(cache, {keep}, delete=True, progress=lambda *call: calls.append(call)) == counted
    assert calls == [(done, 8) for done in range(9)]
    assert all(path.read_text() == "mine" for path in foreign)
    assert {summary.digest: (summary.clips, summary.bytes) for summary in describe(cache)} == {keep: known[keep]}
    assert set(cache.specifications()) == {keep}
    assert (
        sizes(list(before & files_below(cache.root) - set(foreign) - {cache.root / "index.sqlite"})) == known[keep][1]
    )
    for key, features in views:
        assert not reader.contains(key)
        assert features.visual.isfinite().all()  # what was read before stays readable
    assert all(cache.read(key) for key in keys_of(cache, keep))
    rows = index_rows(cache.root)
    repair(cache)
    assert index_rows(cache.root) == rows


def describe_one(cache: FeatureCache, digest: str) -> tuple[int, int]:
    (summary,) = (summary for summary in describe(cache) if summary.digest == digest)
    return summary.clips, summary.bytes


def keys_of(cache: FeatureCache, digest: str) -> list[str]:
    keys = [feature_key(sha(number), digest) for number in range(7)]
    return [key for key in keys if cache.contains(key)]


def test_pruning_removes_nothing_or_everything(cache: FeatureCache) -> None:
    assert prune(cache, [DIGEST, OLD_DIGEST], delete=True) == (0, 0, {})
    assert prune(cache, [], delete=True).clips == 9
    assert describe(cache) == []
    assert files_of(cache) == []
    assert list((cache.root / "entries").iterdir()) == []


@pytest.mark.parametrize("keep", [[DIGEST[:12]], DIGEST, [DIGEST, "x"], [DIGEST.upper()]])
def test_an_invalid_digest_to_keep_is_refused(cache: FeatureCache, keep: Any) -> None:
    before = files_below(cache.root)
    with pytest.raises(CacheError, match="is no specification's digest"):
        prune(cache, keep, delete=True)
    assert files_below(cache.root) == before


def test_pruning_follows_the_files_and_not_the_index(cache: FeatureCache) -> None:
    connection = sqlite3.connect(cache.root / "index.sqlite")
    connection.execute("UPDATE entries SET specification_sha256 = ?", (OLD_DIGEST,))
    connection.execute("UPDATE shards SET specification_sha256 = ?", (OLD_DIGEST,))
    connection.commit()
    connection.close()
    assert prune(cache, [DIGEST], delete=True).by_specification == {OLD_DIGEST: 3}
    assert verify(cache) == (6, [])


def test_links_are_not_followed(cache: FeatureCache, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for path in files_of(cache):
        path.rename(outside / path.name)
        path.symlink_to(outside / path.name)
    before = files_below(outside)
    assert describe(cache) == []
    assert verify(cache) == (0, [])
    assert prune(cache, [], delete=True) == (0, 0, {})
    assert files_below(outside) == before
