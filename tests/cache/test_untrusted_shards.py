import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.cache_clips import KEYS, files_below, flip_last_bit, make_features, same, sha, shards, write

from ccln.cache import CacheError, FeatureCache, pack, repair, verify


def test_every_flipped_bit_of_a_shard_is_noticed(packed: FeatureCache) -> None:
    (path,) = shards(packed)
    whole = path.read_bytes()
    messages = []
    positions = random.Random(0).sample(range(len(whole)), 400)
    for position in positions:
        broken = bytearray(whole)
        broken[position] ^= 1 << position % 8
        path.write_bytes(broken)
        cache = FeatureCache(packed.root)
        for number in range(6):
            try:
                read = cache.read(KEYS[number])
            except CacheError as error:
                messages.append(str(error))
            else:
                assert same(read, make_features(number)), f"byte {position}"
    # a flipped bit in the header's frame damages all six clips, one in the part of a clip only that clip
    assert 0.9 * len(positions) < len(messages) < 5 * len(positions)
    assert all(path.name in message and "run ccln-extract again" in message for message in messages)


def test_a_damaged_clip_does_not_affect_its_neighbours(packed: FeatureCache) -> None:
    (path,) = shards(packed)
    flip_last_bit(path)  # tensors lie in the order of keys
    last = max(KEYS[:6])
    with pytest.raises(CacheError, match=rf"clip {KEYS.index(last)}\.mp4 in it is not what was written"):
        packed.read(last)
    assert all(same(packed.read(key), make_features(KEYS.index(key))) for key in set(KEYS[:6]) - {last})


def forge(path: Path, change: Callable[[dict, dict[str, torch.Tensor]], object]) -> None:
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["ccln"])
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(document, tensors)
    save_file(tensors, path, metadata={"ccln": json.dumps(document)})


FORGED: dict[str, Callable[[dict, dict[str, torch.Tensor]], object]] = {
    "fewer clips than rows": lambda document, tensors: tensors.update(visual=tensors["visual"][:5].clone()),
    "other tensors": lambda document, tensors: tensors.update(sound=tensors.pop("audio")),
    "other type": lambda document, tensors: tensors.update(audio=tensors["audio"].double()),
    "no axis": lambda document, tensors: tensors.update(audio=torch.tensor(1.0)),
    "another specification": lambda document, tensors: document.update(specification={}),
    "no specification": lambda document, tensors: document.pop("specification"),
    "specification is no object": lambda document, tensors: document.update(specification=[1]),
    "no clips": lambda document, tensors: document.update(clips=[]),
    "clips are no list": lambda document, tensors: document.update(clips={"0": 1}),
    "a clip is no object": lambda document, tensors: document["clips"].__setitem__(0, 1),
    "a clip with a field more": lambda document, tensors: document["clips"][0].update(specification={}),
    "a clip with a field less": lambda document, tensors: document["clips"][0].pop("missing"),
    "clips out of order": lambda document, tensors: document["clips"].reverse(),
    "a clip twice": lambda document, tensors: document["clips"].__setitem__(1, document["clips"][0]),
    "a source that is no digest": lambda document, tensors: document["clips"][0].update(source_sha256="../../x"),
    "a longer duration than segments": lambda document, tensors: document["clips"][0].update(duration_seconds=9.0),
    "an earlier version": lambda document, tensors: document.update(format_version=1),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED.keys())
@pytest.mark.parametrize("indexed", [True, False])
def test_a_forged_shard_is_refused_and_reported(
    packed: FeatureCache, change: Callable[[dict, dict[str, torch.Tensor]], object], indexed: bool
) -> None:
    (path,) = shards(packed)
    forge(path, change)
    if not indexed:
        (packed.root / "index.sqlite").unlink()
    first = min(KEYS[:6])
    for verify_ in (True, False):
        with pytest.raises(CacheError, match="run ccln-extract again" if indexed else "no such entry"):
            packed.read(first, verify=verify_)
    assert [damage.path for damage in verify(packed).damaged] == [path]
    repaired = repair(packed)
    assert [damage.path for damage in repaired.damaged] == [path]
    left = [number for number, key in enumerate(KEYS[:6]) if packed.contains(key)]
    assert (len(left), []) == verify(packed) == (repaired.indexed, [])
    assert all(same(packed.read(KEYS[number]), make_features(number)) for number in left)


def test_a_shard_under_another_name_is_refused(packed: FeatureCache) -> None:
    (path,) = shards(packed)
    path.rename(path.with_stem("0" * 64))
    assert not packed.contains(KEYS[0])
    assert "its name is not the digest of the keys" in verify(packed).damaged[0].reason


def test_links_to_shards_are_not_followed(packed: FeatureCache, tmp_path: Path) -> None:
    (path,) = shards(packed)
    outside = tmp_path / "outside"
    outside.mkdir()
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)
    (path.parent / f"{sha('x')}.safetensors").mkdir()
    os.mkfifo(path.parent / f"{sha('y')}.safetensors")
    (path.parent / "notes.safetensors").write_bytes(b"mine")
    assert not packed.contains(KEYS[0])
    assert repair(packed) == (0, 0, [])
    shutil.rmtree(path.parent)
    path.parent.symlink_to(outside)
    write(packed, 7)
    before = files_below(outside)
    for question in (lambda: packed.contains(KEYS[0]), lambda: packed.read(KEYS[0]), lambda: pack(packed)):
        with pytest.raises(CacheError, match="symbolic link"):
            question()
    assert files_below(outside) == before
