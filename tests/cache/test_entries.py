from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.cache_clips import SPECIFICATION, files_below, make_features, same, sha, write

from ccln.cache import CacheError, FeatureCache, Features, feature_key, pack, repair, specification_digest


@pytest.mark.parametrize(
    ("visual", "audio", "duration_seconds", "reason"),
    [
        (torch.zeros(2, 1, 1, 1), torch.zeros(2, 1), 1.0, "visual features are torch.float32"),
        (torch.zeros(2, 1, 1).half(), torch.zeros(2, 1), 1.0, r"visual features are torch.float16 \(2, 1, 1\)"),
        (torch.zeros(2, 1, 0, 1).half(), torch.zeros(2, 1), 1.0, "no axis empty"),
        (torch.zeros(2, 1, 1, 1).half(), torch.zeros(2, 1).double(), 1.0, "audio features are torch.float64"),
        (torch.zeros(2, 1, 1, 1).half(), torch.zeros(2), 1.0, r"audio features are torch.float32 \(2,\)"),
        (torch.zeros(2, 1, 1, 1).half(), torch.zeros(3, 1), 1.0, "2 segments, audio 3"),
        (torch.zeros(2, 1, 1, 1).half(), torch.zeros(2, 1), 0.0, "duration_seconds is 0.0"),
        (torch.zeros(2, 1, 1, 1).half(), torch.zeros(2, 1), 2.1, "duration_seconds is 2.1"),
        (torch.zeros(2, 1, 1, 1).half(), torch.zeros(2, 1), float("nan"), "duration_seconds is nan"),
    ],
)
def test_features_of_another_form_are_refused(
    visual: torch.Tensor, audio: torch.Tensor, duration_seconds: float, reason: str
) -> None:
    with pytest.raises(CacheError, match=reason):
        Features(visual, audio, duration_seconds)


@pytest.mark.parametrize("missing", [("video", "audio"), ("sound",), "audio", ["audio"], None])
def test_features_with_an_invalid_missing_stream_are_refused(missing: Any) -> None:
    with pytest.raises(CacheError, match=r"missing is .*; it must be one of \(\), \('audio',\), \('video',\)"):
        Features(torch.zeros(2, 1, 1, 1).half(), torch.zeros(2, 1), 1.0, missing)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["visual", "audio"])
def test_features_that_are_not_finite_are_not_written(cache: FeatureCache, name: str, bad: float) -> None:
    features = make_features()
    getattr(features, name).view(-1)[-1] = bad
    with pytest.raises(CacheError, match=rf"clip\.mp4: {name} features hold NaN or infinity"):
        cache.write(features, source_sha256=sha(0), source_path="clip.mp4", specification={})
    assert not cache.root.exists()


@pytest.mark.parametrize("verify", [True, False])
def test_written_features_are_read_unchanged(cache: FeatureCache, verify: bool) -> None:
    key = write(cache)
    assert key == feature_key(sha(0), specification_digest(SPECIFICATION))
    assert cache.path_of(key) == cache.root / "entries" / key[:2] / key[2:4] / f"{key}.safetensors"
    assert cache.contains(key)
    assert same(cache.read(key, verify=verify), make_features())
    assert not list((cache.root / "partial").iterdir())


@pytest.mark.parametrize("missing", [(), ("audio",), ("video",)])
def test_missing_streams_of_the_source_are_recorded(cache: FeatureCache, missing: tuple[str, ...]) -> None:
    features = replace(make_features(), missing=missing)
    key = cache.write(features, source_sha256=sha(0), source_path="clip.mp4", specification={})
    assert cache.read(key).missing == missing
    pack(cache)
    assert cache.read(key).missing == missing


def test_an_entry_is_a_plain_safetensors_file(cache: FeatureCache) -> None:
    tensors = load_file(cache.path_of(write(cache)))
    assert tensors.keys() == {"visual", "audio"}
    assert torch.equal(tensors["visual"], make_features().visual)


def test_strided_tensors_are_written_by_value(cache: FeatureCache) -> None:
    plain = make_features()
    strided = Features(plain.visual.transpose(1, 2), plain.audio.flip(1)[:, ::2], plain.duration_seconds)
    key = cache.write(strided, source_sha256=sha(0), source_path="clip.mp4", specification={})
    assert same(cache.read(key), strided)


def test_look_up_and_reading_write_nothing(cache: FeatureCache) -> None:
    assert not cache.contains(sha("absent"))
    assert not cache.root.exists()
    key = write(cache)
    (cache.root / "index.sqlite").unlink()
    before = files_below(cache.root)
    cache.contains(key)
    cache.read(key)
    assert files_below(cache.root) == before


def test_a_folder_without_a_cache_is_refused(cache: FeatureCache) -> None:
    for question in (
        lambda: cache.read(sha("absent")),
        cache.specifications,
        lambda: cache.find(sha(0), "clip"),
        lambda: repair(cache),
    ):
        with pytest.raises(CacheError, match="is no feature cache; make one: ccln-extract VIDEOS --cache"):
            question()
    write(cache)
    with pytest.raises(CacheError, match="no such entry; run ccln-extract"):
        cache.read(sha("absent"))


def test_a_second_write_replaces_the_first(cache: FeatureCache) -> None:
    key = write(cache)
    old = cache.read(key)
    again = cache.write(
        make_features(9), source_sha256=sha(0), source_path="/videos/clip 0.mp4", specification=SPECIFICATION
    )
    assert again == key
    assert same(cache.read(key), make_features(9))
    assert same(old, make_features(0))  # a reader keeps the file it has mapped
    assert cache.find(specification_digest(SPECIFICATION), "clip 0") == [key]


def test_changing_a_tensor_in_place_does_not_change_the_file(cache: FeatureCache) -> None:
    key = write(cache)
    features = cache.read(key)
    features.visual.zero_()
    features.audio.zero_()
    assert same(cache.read(key), make_features())


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's account of mapped memory")
@pytest.mark.parametrize("packed", [False, True])
def test_reading_maps_the_file_without_loading_it(cache: FeatureCache, packed: bool) -> None:
    features = Features(torch.ones(10, 28, 28, 1024).half(), torch.ones(10, 128), 10.0)  # 16 MB
    key = cache.write(features, source_sha256=sha(0), source_path="clip.mp4", specification={})

    if packed:
        assert pack(cache).clips == 1

    def mapped_kilobytes(quantity: str) -> int:
        total, within = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if not line.split()[0].endswith(":"):
                within = str(cache.root) in line and line.endswith(".safetensors")
            elif within and line.startswith(f"{quantity}:"):
                total += int(line.split()[1])
        return total

    read = cache.read(key, verify=False)
    assert mapped_kilobytes("Size") > 15_000
    assert mapped_kilobytes("Rss") < 5_000  # the kernel maps a few pages around the one that is touched
    assert float(read.visual.float().mean()) == 1.0  # shows that the measurement detects a change
    assert mapped_kilobytes("Rss") > 15_000
    assert mapped_kilobytes("Anonymous") == 0  # nothing copied: readers share the pages
