import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from support.cache_clips import files_below, make_features, same, sha, write

from ccln.cache import CacheError, FeatureCache, repair


def test_every_flipped_bit_of_an_entry_is_noticed(cache: FeatureCache) -> None:
    key = write(cache)
    path = cache.path_of(key)
    whole = path.read_bytes()
    messages = []
    for position in range(len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 1 << position % 8
        path.write_bytes(broken)
        try:
            read = cache.read(key)
        except CacheError as error:
            messages.append(str(error))
        else:
            assert same(read, make_features()), f"byte {position}"
    assert len(messages) > 0.95 * len(whole)  # only bits without meaning pass, such as those of spaces in the header
    assert all(
        path.name in message and "run ccln-extract again, which makes it anew" in message for message in messages
    )


def test_a_truncated_file_is_caught_at_every_length(cache: FeatureCache) -> None:
    key = write(cache)
    path = cache.path_of(key)
    whole = path.read_bytes()
    for verify in (True, False):
        for length in range(0, len(whole), 9):
            path.write_bytes(whole[:length])
            with pytest.raises(CacheError, match="run ccln-extract again"):
                cache.read(key, verify=verify)


def packed(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


FOREIGN = {  # content, reason
    "empty": (b"", "header too small"),
    "text": (b"not a safetensors file at all", "its header claims"),
    "endless header": ((2**63).to_bytes(8, "little") + b"{}", "its header claims 9223372036854775808 bytes"),
    "large header": (packed(b"{" + b" " * (2 << 20) + b"}"), "its header claims"),
    "no metadata": (packed({}), "not a feature cache entry"),
    "metadata is no JSON": (packed({"__metadata__": {"ccln": "{"}}), "Expecting property name"),
    # Each Python version words the reason differently.
    "metadata too deep": (packed({"__metadata__": {"ccln": "[" * 100_000}}), ""),
    "metadata of another kind": (packed({"__metadata__": {"ccln": "[1]"}}), "not a feature cache entry"),
    "another version": (packed({"__metadata__": {"ccln": '{"format_version":3}'}}), "format version is 3, and"),
    "fields missing": (packed({"__metadata__": {"ccln": '{"format_version":2}'}}), "its header is malformed"),
    "shape overflows": (
        packed({"audio": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}, b"1234"),
        "overflow",
    ),
    "shape beyond file": (
        packed({"audio": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, b"1234"),
        "deserializing header",
    ),
}


@pytest.mark.parametrize(("content", "reason"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_file_is_an_error_and_is_counted(cache: FeatureCache, content: bytes, reason: str) -> None:
    good, bad = write(cache, 0), write(cache, 1)
    cache.path_of(bad).write_bytes(content)
    for verify in (True, False):
        with pytest.raises(CacheError, match=f"{bad}.safetensors cannot be used: .*{reason}.*run ccln-extract again"):
            cache.read(bad, verify=verify)
    repaired = repair(cache)
    assert (repaired.indexed, [damage.path for damage in repaired.damaged]) == (1, [cache.path_of(bad)])
    assert re.search(reason, repaired.damaged[0].reason)
    assert same(cache.read(good), make_features())


def document_in(path: Path) -> dict[str, Any]:
    """The JSON object in an entry's header."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["ccln"])


def test_an_entry_of_the_first_version_is_refused_with_a_remedy(cache: FeatureCache) -> None:
    path = cache.path_of(key := write(cache))
    document = {**document_in(path), "format_version": 1}
    del document["missing"]
    save_file(load_file(path), path, metadata={"ccln": json.dumps(document)})
    remedy = r"its format version is 1, and this version of CCLN reads 2; run ccln-extract again, which makes it anew"
    for verify in (True, False):
        with pytest.raises(CacheError, match=f"{path.name} cannot be used: {remedy}"):
            cache.read(key, verify=verify)
    (cache.root / "index.sqlite").unlink()
    # A cache of such entries alone must not look empty: extraction would take their clips for finished.
    with pytest.raises(CacheError, match=f"none of its 1 entries can be used.*{remedy}"):
        FeatureCache(cache.root).specifications()


@pytest.mark.parametrize("missing", [["video", "audio"], ["sound"], "audio", None, [["audio"]]])
def test_an_entry_with_an_invalid_missing_stream_is_refused(cache: FeatureCache, missing: Any) -> None:
    path = cache.path_of(key := write(cache))
    save_file(load_file(path), path, metadata={"ccln": json.dumps({**document_in(path), "missing": missing})})
    with pytest.raises(CacheError, match=r"missing is|malformed"):
        cache.read(key, verify=False)


@pytest.mark.parametrize("change", ["dtype", "names", "duration", "missing", "segments"])
def test_a_file_with_our_header_but_other_tensors_is_an_error(cache: FeatureCache, change: str) -> None:
    path = cache.path_of(key := write(cache))
    document = document_in(path)
    features = make_features()
    tensors = {"visual": features.visual, "audio": features.audio}
    if change == "dtype":
        tensors["audio"] = tensors["audio"].double()
    elif change == "names":
        tensors["sound"] = tensors.pop("audio")
    elif change == "segments":
        tensors = {name: tensor[:2].clone() for name, tensor in tensors.items()}
    elif change == "missing":
        document["missing"] = ["smell"]
    else:
        document["duration_seconds"] = 1e999
    save_file(tensors, path, metadata={"ccln": json.dumps(document)})
    for verify in (True, False):
        with pytest.raises(CacheError, match="run ccln-extract again"):
            cache.read(key, verify=verify)


def test_an_entry_under_another_key_is_refused(cache: FeatureCache) -> None:
    one, other = write(cache, 0), write(cache, 1)
    shutil.copy(cache.path_of(one), cache.path_of(other))
    with pytest.raises(CacheError, match="its name is not the key of what it holds"):
        cache.read(other, verify=False)
    assert [damage.path for damage in repair(cache).damaged] == [cache.path_of(other)]


def test_links_and_pipes_are_not_followed(cache: FeatureCache, tmp_path: Path) -> None:
    keys = [write(cache, number) for number in range(3)]
    outside = tmp_path / "outside"
    outside.mkdir()

    moved = cache.path_of(keys[0]).rename(outside / f"{keys[0]}.safetensors")
    cache.path_of(keys[0]).symlink_to(moved)
    assert not cache.contains(keys[0])

    cache.path_of(keys[1]).unlink()
    os.mkfifo(cache.path_of(keys[1]))
    assert not cache.contains(keys[1])

    folder = cache.path_of(keys[2]).parent.parent
    shutil.move(folder, outside / "linked")
    folder.symlink_to(outside / "linked")

    for key in keys:
        with pytest.raises(CacheError):
            cache.read(key)
    assert repair(cache) == (0, 0, [])
    before = files_below(outside)
    with pytest.raises(CacheError, match="symbolic link"):
        write(cache, 2)
    assert files_below(outside) == before


def test_files_of_other_names_are_ignored(cache: FeatureCache) -> None:
    key = write(cache)
    path = cache.path_of(key)
    for stray in (
        path.with_suffix(".txt"),
        path.parent / "notes.safetensors",
        path.parent.parent / path.name,
        path.parent / f"{sha('elsewhere')}.safetensors",
    ):
        shutil.copy(path, stray)
    assert repair(cache) == (1, 0, [])


def test_a_cache_whose_path_is_no_text_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="must be text in UTF-8"):
        FeatureCache(tmp_path / "caf\udce9")
    assert list(tmp_path.iterdir()) == []
