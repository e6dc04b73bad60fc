import json
import os
import pickle
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from support.cache_clips import (
    KEYS,
    SPECIFICATION,
    entries,
    flip_last_bit,
    make_features,
    raw,
    same,
    sha,
    shards,
    write,
)

from ccln.cache import CacheError, FeatureCache, Features, feature_key, pack, specification_digest, verify

# ------------------------------------------------------------------------------------------------------------- packing


def test_packed_clips_are_read_and_found_as_before(packed: FeatureCache) -> None:
    digest = specification_digest(SPECIFICATION)
    assert list((packed.root / "entries").iterdir()) == []
    for cache in (packed, FeatureCache(packed.root)):
        for number in range(6):
            assert cache.contains(KEYS[number])
            for verify_ in (True, False):
                assert same(cache.read(KEYS[number], verify=verify_), make_features(number))
            assert cache.find(digest, f"clip {number}") == [KEYS[number]]
        assert not cache.contains(KEYS[6])
        assert cache.find(digest, "clip 6") == []
        assert cache.specifications() == {digest: SPECIFICATION}
        with pytest.raises(CacheError, match="no such entry; run ccln-extract"):
            cache.read(KEYS[6])


clips = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 3), st.sampled_from([(), ("audio",), ("video",)]), st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=10)
@given(clips, st.integers(1, 5))
def test_any_mixture_is_packed_by_specification_and_shape(
    clips: list[tuple[int, int, tuple[str, ...], bool]], clips_per_shard: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        cache = FeatureCache(Path(folder) / "cache")
        written: dict[str, Features] = {}
        groups: Counter[tuple[int, int]] = Counter()
        for number, (half, segments, missing, early) in enumerate(clips):
            features = replace(make_features(number, segments=segments, duration_seconds=0.5), missing=missing)
            specification = {**SPECIFICATION, "half": half}
            key = cache.write(features, source_sha256=sha(number), source_path="x.mp4", specification=specification)
            written[key] = features
            groups[half, segments] += 1
            if early and number == 5:
                pack(cache, clips_per_shard=clips_per_shard)
        before = (cache.specifications(), {d: cache.find(d, "x") for d in cache.specifications()})
        calls: list[tuple[int, int]] = []
        packed = pack(cache, clips_per_shard=clips_per_shard, progress=lambda *call: calls.append(call))
        assert packed.left == []
        assert entries(cache) == []
        assert calls == sorted(calls)
        assert calls[0][0] == 0
        assert calls[-1] == (packed.clips, packed.clips)
        if len(clips) < 6:
            assert packed == (len(clips), sum(-(-count // clips_per_shard) for count in groups.values()), [])
        for reader in (cache, FeatureCache(cache.root)):
            assert all(same(reader.read(key), features) for key, features in written.items())
            assert (reader.specifications(), {d: reader.find(d, "x") for d in reader.specifications()}) == before
        assert verify(cache) == (len(clips), [])
        sizes = [len(load_file(path)["visual"]) for path in shards(cache)]
        assert sum(sizes) == len(clips)
        assert max(sizes) <= clips_per_shard
        assert pack(cache) == (0, 0, [])


def test_a_shard_is_a_plain_safetensors_file_with_sources_in_its_header(packed: FeatureCache) -> None:
    (path,) = shards(packed)
    numbers = sorted(range(6), key=lambda number: KEYS[number])
    tensors = load_file(path)
    assert raw(tensors["visual"]) == b"".join(raw(make_features(number).visual) for number in numbers)
    assert raw(tensors["audio"]) == b"".join(raw(make_features(number).audio) for number in numbers)
    assert (tensors["visual"].dtype, tensors["audio"].dtype) == (torch.float16, torch.float32)
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["ccln"])
    assert document["specification"] == SPECIFICATION
    digest = specification_digest(document["specification"])
    assert [feature_key(clip["source_sha256"], digest) for clip in document["clips"]] == [KEYS[n] for n in numbers]
    assert [clip["source_path"] for clip in document["clips"]] == [f"/videos/clip {number}.mp4" for number in numbers]
    assert path.stem == sha("".join(sorted(KEYS[:6])))


def test_one_specification_can_be_packed_on_its_own(cache: FeatureCache) -> None:
    digests = [specification_digest({**SPECIFICATION, "half": half}) for half in (0, 1)]
    for number in range(4):
        write(cache, number, {**SPECIFICATION, "half": number % 2})
    assert pack(cache, digests[1][:12]) == (2, 1, [])
    assert {path.stem for path in entries(cache)} == {feature_key(sha(number), digests[0]) for number in (0, 2)}
    with pytest.raises(CacheError, match=r"no specification begins with f00; these are there: [0-9a-f]{12}, "):
        pack(cache, "f00")
    for clips_per_shard in (0, -1):
        with pytest.raises(CacheError, match="clips_per_shard is"):
            pack(cache, clips_per_shard=clips_per_shard)


def test_packing_a_folder_without_a_cache_is_refused(cache: FeatureCache) -> None:
    with pytest.raises(CacheError, match="is no feature cache"):
        pack(cache)
    assert not cache.root.exists()


def test_headers_too_large_for_one_shard_fill_several(cache: FeatureCache) -> None:
    name = "é" * 100_000  # 700 kB in a header
    features = make_features()
    for number in range(13):
        cache.write(features, source_sha256=sha(number), source_path=f"/{number}/{name}", specification={})
    packed = pack(cache)
    assert packed.clips == 13
    assert packed.shards == 2
    assert len(FeatureCache(cache.root).find(specification_digest({}), name)) == 13
    assert verify(cache) == (13, [])


def test_clips_are_found_without_reading_the_shards(packed: FeatureCache) -> None:
    (path,) = shards(packed)
    content = path.read_bytes()
    path.write_bytes(content[:8] + bytes(len(content) - 8))
    cache = FeatureCache(packed.root)
    assert cache.contains(KEYS[0])
    assert cache.find(specification_digest(SPECIFICATION), "clip 0") == [KEYS[0]]
    (cache.root / "index.sqlite").unlink()
    assert not FeatureCache(packed.root).contains(KEYS[0])  # shows that the measurement detects a change


# --------------------------------------------------------------------------------------------------- files over shards


def test_a_file_wins_over_a_shard(packed: FeatureCache) -> None:
    packed.read(KEYS[0])
    packed.write(make_features(9), source_sha256=sha(0), source_path="new name.mp4", specification=SPECIFICATION)
    digest = specification_digest(SPECIFICATION)
    for cache in (packed, FeatureCache(packed.root)):
        assert same(cache.read(KEYS[0]), make_features(9))
        assert cache.find(digest, "new name") == [KEYS[0]]
        assert cache.find(digest, "clip 0") == []
    assert pack(packed) == (0, 0, [packed.path_of(KEYS[0])])  # the shard has other content: the file stays
    assert same(packed.read(KEYS[0]), make_features(9))
    packed.path_of(KEYS[0]).unlink()
    assert same(packed.read(KEYS[0]), make_features(0))


def test_a_damaged_file_stays_where_it_is(cache: FeatureCache) -> None:
    for number in range(3):
        write(cache, number)
    path = cache.path_of(KEYS[1])
    for content in (path.read_bytes()[:-1] + b"\x7f", b"not an entry"):
        path.write_bytes(content)
        assert pack(cache).left == [path]
        assert path.read_bytes() == content
        with pytest.raises(CacheError, match="run ccln-extract again"):
            cache.read(KEYS[1])
    assert same(cache.read(KEYS[0]), make_features(0))


def test_a_file_is_removed_only_if_its_shard_is_intact(packed: FeatureCache, tmp_path: Path) -> None:
    other = FeatureCache(tmp_path / "other")
    for number in range(2):
        write(other, number)
    shutil.copytree(other.root / "entries", packed.root / "entries", dirs_exist_ok=True)
    (path,) = shards(packed)
    flip_last_bit(path)  # tensors lie in the order of keys
    last = max(KEYS[:6])
    write(packed, KEYS.index(last))
    expected = {packed.path_of(last)}
    packed = FeatureCache(packed.root)
    assert set(pack(packed).left) == expected
    assert set(entries(packed)) == expected
    for number in range(6):
        assert same(packed.read(KEYS[number]), make_features(number))


# ------------------------------------------------------------------------------------------------------ views of a map


def test_changing_a_view_in_place_does_not_change_the_file(packed: FeatureCache) -> None:
    (path,) = shards(packed)
    before = path.read_bytes()
    features = packed.read(KEYS[0])
    features.visual.zero_()
    features.audio.zero_()
    assert same(packed.read(KEYS[0]), make_features(0))
    assert same(packed.read(KEYS[0], verify=False), make_features(0))
    assert path.read_bytes() == before


def test_views_outlive_shard_and_cache(packed: FeatureCache) -> None:
    features = [packed.read(key) for key in KEYS[:6]]
    shutil.rmtree(packed.root)
    assert not packed.contains(KEYS[0])
    del packed
    assert all(same(read, make_features(number)) for number, read in enumerate(features))


def test_a_pickled_cache_holds_no_open_shard(packed: FeatureCache) -> None:
    for key in KEYS[:6]:
        packed.read(key)
    data = pickle.dumps(packed)
    assert len(data) < 500
    assert same(pickle.loads(data).read(KEYS[3]), make_features(3))
