import errno
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ccln.cache import (
    CacheError,
    FeatureCache,
    Features,
    feature_key,
    source_digest,
    specification_digest,
)

SPECIFICATION = {"visual": {"backbone": "vgg19", "frames": 16}, "audio": "vggish", "mean": [0.485, 0.456, 0.406]}
# A server with ccln already imported forks the writers: seconds saved, and no fork of pytest's own threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["ccln.cache"])


def make_features(seed: int = 0, *, segments: int = 3, duration_seconds: float = 2.5) -> Features:
    generator = torch.Generator().manual_seed(seed)
    visual = torch.randn(segments, 2, 2, 4, generator=generator).half()
    return Features(visual, torch.randn(segments, 5, generator=generator), duration_seconds)


def sha(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def write(cache: FeatureCache, number: int = 0, specification: dict[str, Any] = SPECIFICATION) -> str:
    return cache.write(
        make_features(number),
        source_sha256=sha(number),
        source_path=f"/videos/clip {number}.mp4",
        specification=specification,
    )


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def same(one: Features, other: Features) -> bool:
    return (
        one.visual.shape == other.visual.shape
        and one.audio.shape == other.audio.shape
        and raw(one.visual) == raw(other.visual)
        and raw(one.audio) == raw(other.audio)
        and one.duration_seconds == other.duration_seconds
    )


def index_rows(root: Path) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(root / "index.sqlite")
    try:
        return sorted(connection.execute("SELECT * FROM entries"))
    finally:
        connection.close()


def files_below(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


# ---------------------------------------------------------------------------------------------------------------- keys

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3))
specifications = st.dictionaries(st.text(), values, max_size=4)


def reordered(value: Any, shuffle: Callable[[list[Any]], None]) -> Any:
    if isinstance(value, list):
        return [reordered(item, shuffle) for item in value]
    if not isinstance(value, dict):
        return value
    names = list(value)
    shuffle(names)
    return {name: reordered(value[name], shuffle) for name in names}


@settings(deadline=None)
@given(specifications, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_change_a_digest(specification: dict[str, Any], randomness: random.Random) -> None:
    assert specification_digest(reordered(specification, randomness.shuffle)) == specification_digest(specification)


@settings(deadline=None)
@given(specifications, st.text(), scalars, scalars)
def test_any_change_of_a_value_changes_the_digest(
    specification: dict[str, Any], name: str, one: Any, other: Any
) -> None:
    nested = [{"at": {**specification, name: value}} for value in (one, other)]
    digests = [specification_digest({"deep": [item]}) for item in nested]
    # repr tells 1, 1.0, True and "1" apart, as a specification must
    assert (digests[0] == digests[1]) == (repr(one) == repr(other))


@settings(deadline=None)
@given(specifications, st.text(), values)
def test_an_added_key_changes_the_digest(specification: dict[str, Any], name: str, value: Any) -> None:
    without = {key: item for key, item in specification.items() if key != name}
    assert specification_digest(without) != specification_digest({**without, name: value})


def test_digests_are_what_they_say(tmp_path: Path) -> None:
    # written out by hand, so that keys of old caches stay valid
    assert specification_digest({"b": [1, 2.5, None], "a": "é"}) == sha('{"a":"\\u00e9","b":[1,2.5,null]}')
    assert feature_key("a" * 64, "b" * 64) == sha("a" * 64 + "b" * 64)
    content = random.Random(0).randbytes(3_000_001)
    (tmp_path / "video").write_bytes(content)
    assert source_digest(tmp_path / "video") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), {1, 2}, b"bytes", Path("x")])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(CacheError, match="JSON"):
        specification_digest({"deep": [{"value": value}]})


def test_an_unreadable_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"gone\.mp4: cannot be read"):
        source_digest(tmp_path / "gone.mp4")


BAD_KEYS = [
    "",
    "../" * 20 + "etc/passwd",
    "/etc/passwd",
    "a" * 63,
    "A" * 64,
    "a" * 64 + "\n",
    "a" * 60 + "/../",
    "g" * 64,
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_malformed_key_never_becomes_a_path(cache: FeatureCache, key: str) -> None:
    for method in (cache.path_of, cache.contains, cache.read):
        with pytest.raises(CacheError, match="not a feature key"):
            method(key)
    with pytest.raises(CacheError, match="source_sha256"):
        feature_key(key, "a" * 64)
    with pytest.raises(CacheError, match="source_sha256"):
        cache.write(make_features(), source_sha256=key, source_path="clip.mp4", specification={})
    assert not cache.root.exists()


# ------------------------------------------------------------------------------------------------------------ features


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["visual", "audio"])
def test_features_that_are_not_finite_are_not_written(cache: FeatureCache, name: str, bad: float) -> None:
    features = make_features()
    getattr(features, name).view(-1)[-1] = bad
    with pytest.raises(CacheError, match=rf"clip\.mp4: {name} features hold NaN or infinity"):
        cache.write(features, source_sha256=sha(0), source_path="clip.mp4", specification={})
    assert not cache.root.exists()


# ---------------------------------------------------------------------------------------------------- write, read, map


@pytest.mark.parametrize("verify", [True, False])
def test_what_was_written_is_read(cache: FeatureCache, verify: bool) -> None:
    key = write(cache)
    assert key == feature_key(sha(0), specification_digest(SPECIFICATION))
    assert cache.path_of(key) == cache.root / "entries" / key[:2] / key[2:4] / f"{key}.safetensors"
    assert cache.contains(key)
    assert same(cache.read(key, verify=verify), make_features())
    assert not list((cache.root / "partial").iterdir())


def test_an_entry_is_a_plain_safetensors_file(cache: FeatureCache) -> None:
    tensors = load_file(cache.path_of(write(cache)))
    assert tensors.keys() == {"visual", "audio"}
    assert torch.equal(tensors["visual"], make_features().visual)


def test_strided_tensors_are_written_by_value(cache: FeatureCache) -> None:
    plain = make_features()
    strided = Features(plain.visual.transpose(1, 2), plain.audio.flip(1)[:, ::2], plain.duration_seconds)
    key = cache.write(strided, source_sha256=sha(0), source_path="clip.mp4", specification={})
    assert same(cache.read(key), strided)


def test_asking_and_reading_make_nothing(cache: FeatureCache) -> None:
    assert not cache.contains(sha("absent"))
    assert cache.sweep_partial() == 0
    assert not cache.root.exists()
    key = write(cache)
    (cache.root / "index.sqlite").unlink()
    before = files_below(cache.root)
    cache.contains(key)
    cache.read(key)
    assert files_below(cache.root) == before


def test_a_folder_that_is_no_cache_is_said_to_be_none(cache: FeatureCache) -> None:
    for question in (
        lambda: cache.read(sha("absent")),
        cache.specifications,
        lambda: cache.find(sha(0), "clip"),
        cache.rebuild_index,
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


def test_changing_a_tensor_in_place_leaves_the_file_alone(cache: FeatureCache) -> None:
    key = write(cache)
    features = cache.read(key)
    features.visual.zero_()
    features.audio.zero_()
    assert same(cache.read(key), make_features())


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's account of mapped memory")
def test_reading_maps_the_file_without_loading_it(cache: FeatureCache) -> None:
    features = Features(torch.ones(10, 28, 28, 1024).half(), torch.ones(10, 128), 10.0)  # 16 MB
    key = cache.write(features, source_sha256=sha(0), source_path="clip.mp4", specification={})

    def mapped_kilobytes(quantity: str) -> int:
        total, within = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if not line.split()[0].endswith(":"):
                within = line.endswith(f"{key}.safetensors")
            elif within and line.startswith(f"{quantity}:"):
                total += int(line.split()[1])
        return total

    read = cache.read(key, verify=False)
    assert mapped_kilobytes("Size") > 15_000
    assert mapped_kilobytes("Rss") < 5_000  # the kernel maps a few pages around the one that is touched
    assert float(read.visual.float().mean()) == 1.0  # the gauge does move
    assert mapped_kilobytes("Rss") > 15_000
    assert mapped_kilobytes("Anonymous") == 0  # nothing copied: readers share the pages


# ------------------------------------------------------------------------------------------------------ untrusted files


def test_no_flipped_bit_goes_unseen(cache: FeatureCache) -> None:
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
    assert len(messages) > 0.95 * len(whole)  # what passes are spaces in the header and the like
    assert all(path.name in message and "delete the file and run ccln-extract again" in message for message in messages)


def test_a_truncated_file_is_caught_at_every_length(cache: FeatureCache) -> None:
    key = write(cache)
    path = cache.path_of(key)
    whole = path.read_bytes()
    for verify in (True, False):
        for length in range(0, len(whole), 9):
            path.write_bytes(whole[:length])
            with pytest.raises(CacheError, match="delete the file"):
                cache.read(key, verify=verify)


def packed(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


ALIEN = {  # content, reason
    "empty": (b"", "header too small"),
    "text": (b"not a safetensors file at all", "its header claims"),
    "endless header": ((2**63).to_bytes(8, "little") + b"{}", "its header claims 9223372036854775808 bytes"),
    "large header": (packed(b"{" + b" " * (2 << 20) + b"}"), "its header claims"),
    "no metadata": (packed({}), "not a feature cache entry"),
    "metadata is no JSON": (packed({"__metadata__": {"ccln": "{"}}), "Expecting property name"),
    "metadata too deep": (packed({"__metadata__": {"ccln": "[" * 100_000}}), ""),  # each Python says it in other words
    "metadata of another kind": (packed({"__metadata__": {"ccln": "[1]"}}), "not a feature cache entry"),
    "another version": (packed({"__metadata__": {"ccln": '{"format_version":2}'}}), "format version 2"),
    "fields missing": (packed({"__metadata__": {"ccln": '{"format_version":1}'}}), "its header is malformed"),
    "shape overflows": (
        packed({"audio": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}, b"1234"),
        "overflow",
    ),
    "shape beyond file": (
        packed({"audio": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, b"1234"),
        "deserializing header",
    ),
}


@pytest.mark.parametrize(("content", "reason"), ALIEN.values(), ids=ALIEN.keys())
def test_an_alien_file_is_an_error_and_is_counted(cache: FeatureCache, content: bytes, reason: str) -> None:
    good, bad = write(cache, 0), write(cache, 1)
    cache.path_of(bad).write_bytes(content)
    for verify in (True, False):
        with pytest.raises(CacheError, match=f"{bad}.safetensors cannot be used: .*{reason}.*delete the file"):
            cache.read(bad, verify=verify)
    assert cache.rebuild_index() == (1, [cache.path_of(bad)])
    assert same(cache.read(good), make_features())


@pytest.mark.parametrize("change", ["dtype", "names", "duration", "segments"])
def test_a_file_with_our_header_but_other_tensors_is_an_error(cache: FeatureCache, change: str) -> None:
    path = cache.path_of(key := write(cache))
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    said = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["ccln"])
    features = make_features()
    tensors = {"visual": features.visual, "audio": features.audio}
    if change == "dtype":
        tensors["audio"] = tensors["audio"].double()
    elif change == "names":
        tensors["sound"] = tensors.pop("audio")
    elif change == "segments":
        tensors = {name: tensor[:2].clone() for name, tensor in tensors.items()}
    else:
        said["duration_seconds"] = 1e999
    save_file(tensors, path, metadata={"ccln": json.dumps(said)})
    for verify in (True, False):
        with pytest.raises(CacheError, match="delete the file"):
            cache.read(key, verify=verify)


def test_an_entry_under_another_key_is_refused(cache: FeatureCache) -> None:
    one, other = write(cache, 0), write(cache, 1)
    shutil.copy(cache.path_of(one), cache.path_of(other))
    with pytest.raises(CacheError, match="its name is not the key of what it holds"):
        cache.read(other, verify=False)
    assert cache.rebuild_index().unreadable == [cache.path_of(other)]


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
    assert cache.rebuild_index() == (0, [])
    before = files_below(outside)
    with pytest.raises(CacheError, match="symbolic link"):
        write(cache, 2)
    assert files_below(outside) == before


def test_files_of_other_names_are_passed_over(cache: FeatureCache) -> None:
    key = write(cache)
    path = cache.path_of(key)
    for stray in (
        path.with_suffix(".txt"),
        path.parent / "notes.safetensors",
        path.parent.parent / path.name,
        path.parent / f"{sha('elsewhere')}.safetensors",
    ):
        shutil.copy(path, stray)
    assert cache.rebuild_index() == (1, [])


# ---------------------------------------------------------------------------------------------------------------- index


@pytest.fixture
def filled(cache: FeatureCache) -> FeatureCache:
    for number in range(4):
        write(cache, number, {**SPECIFICATION, "half": number % 2})
    return cache


def answers(root: Path) -> tuple[object, ...]:
    """Everything a fresh cache object says of the four clips."""
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


def execute(*statements: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return apply


HARM: dict[str, Callable[[Path], None]] = {
    "deleted": delete,
    "emptied": empty,
    "garbled": garble,
    "pages garbled": garble_pages,
    "truncated": truncate,
    "rows missing": execute("DELETE FROM entries WHERE source_name < 'clip 2'"),
    "rows of nothing": execute(f"INSERT INTO entries VALUES ('{'0' * 64}', 'ghost', '{'1' * 64}')"),
    "rows of bytes": execute("UPDATE entries SET source_name = x'ff'"),
    "a trigger": execute(
        "DELETE FROM entries",
        "CREATE TRIGGER t AFTER INSERT ON entries BEGIN UPDATE entries SET source_name = 'wrong'; END",
    ),
    "another layout": execute("DROP TABLE entries", "CREATE TABLE entries (key)"),
    "a view": execute("DROP TABLE entries", "CREATE VIEW entries AS SELECT 1 AS key"),
    "not text": execute("DELETE FROM entries", "INSERT INTO entries VALUES (CAST(x'ff' AS TEXT), '', '')"),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_a_harmed_index_is_healed_by_the_next_question(filled: FeatureCache, harm: Callable[[Path], None]) -> None:
    truth, rows = answers(filled.root), index_rows(filled.root)
    assert len(rows) == 4
    harm(filled.root / "index.sqlite")
    assert answers(filled.root) == truth
    assert index_rows(filled.root) == rows


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_rebuilding_makes_the_same_index(filled: FeatureCache, harm: Callable[[Path], None]) -> None:
    rows = index_rows(filled.root)
    harm(filled.root / "index.sqlite")
    assert filled.rebuild_index() == (4, [])
    assert index_rows(filled.root) == rows


def test_rebuilding_corrects_rows_that_say_something_else(filled: FeatureCache) -> None:
    rows = index_rows(filled.root)
    execute("UPDATE entries SET source_name = 'wrong'")(filled.root / "index.sqlite")
    filled.rebuild_index()
    assert index_rows(filled.root) == rows


def test_deleted_and_copied_entries_are_noticed(filled: FeatureCache, tmp_path: Path) -> None:
    digest = specification_digest({**SPECIFICATION, "half": 0})
    (key,) = filled.find(digest, "clip 0")
    filled.path_of(key).unlink()
    assert filled.find(digest, "clip 0") == []
    other = FeatureCache(tmp_path / "other")
    copied = write(other, 8, {**SPECIFICATION, "half": 0})
    shutil.copytree(other.root / "entries", filled.root / "entries", dirs_exist_ok=True)
    assert filled.find(digest, "clip 8") == [copied]


def test_an_index_that_cannot_be_written_loses_nothing(cache: FeatureCache) -> None:
    cache.root.mkdir()
    (cache.root / "index.sqlite").mkdir()
    key = write(cache)
    assert same(cache.read(key), make_features())
    assert cache.find(specification_digest(SPECIFICATION), "clip 0") == [key]
    assert list(cache.specifications().values()) == [SPECIFICATION]
    with pytest.raises(CacheError, match=r"index\.sqlite cannot be written"):
        cache.rebuild_index()


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
    assert cache.rebuild_index() == (1, [])
    assert cache.find(specification_digest({}), name) == [key]


# ------------------------------------------------------------------------------------------------------ many processes


def write_many(root: Path, numbers: list[int]) -> None:
    cache = FeatureCache(root)
    for number in numbers:
        write(cache, number)


def die_at(root: Path, after: bool) -> None:
    """Is killed just before, or just after, the partial file gets its name."""
    replace = os.replace

    def fatal(source: Path, target: Path) -> None:
        if after:
            replace(source, target)
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = fatal  # type: ignore[assignment]
    write(FeatureCache(root))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def entries(cache: FeatureCache) -> list[Path]:
    return list(cache.root.glob("entries/??/??/*"))


@pytest.mark.parametrize("after", [False, True])
def test_a_writer_killed_at_the_worst_moment(cache: FeatureCache, after: bool) -> None:
    process = PROCESSES.Process(target=die_at, args=(cache.root, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    key = feature_key(sha(0), digest := specification_digest(SPECIFICATION))
    assert not (cache.root / "index.sqlite").exists()
    assert len(list((cache.root / "partial").iterdir())) == (not after)
    assert cache.contains(key) == after
    assert cache.find(digest, "clip 0") == [key] * after
    assert write(cache) == key  # the next run puts it right
    assert cache.find(digest, "clip 0") == [key]


def test_writers_killed_at_any_moment_leave_whole_entries_only(cache: FeatureCache) -> None:
    for round_ in range(2):
        before = len(entries(cache))
        numbers = list(range(1000 * round_, 1000 * (round_ + 1)))
        process = PROCESSES.Process(target=write_many, args=(cache.root, numbers))
        process.start()
        wait_for(lambda: len(entries(cache)) >= before + 10)  # noqa: B023
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    paths = entries(cache)
    assert 20 <= len(paths) < 2000
    for path in paths:
        cache.read(path.stem)
    digest = specification_digest(SPECIFICATION)
    found = {key for number in range(2000) if cache.contains(key := feature_key(sha(number), digest))}
    assert found == {path.stem for path in paths}
    assert cache.specifications() == {digest: SPECIFICATION}
    assert {row[0] for row in index_rows(cache.root)} == found
    assert cache.rebuild_index() == (len(paths), [])


def test_two_processes_write_one_cache(cache: FeatureCache) -> None:
    shares = [list(range(0, 30)), list(range(15, 45))[::-1]]  # the middle third is written by both
    processes = [PROCESSES.Process(target=write_many, args=(cache.root, share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    rows = index_rows(cache.root)  # complete before anyone has asked, hence healed, anything
    digest = specification_digest(SPECIFICATION)
    assert {row[0] for row in rows} == {feature_key(sha(number), digest) for number in range(45)}
    for number in range(45):
        (key,) = cache.find(digest, f"clip {number}")
        assert same(cache.read(key), make_features(number))
    assert not list((cache.root / "partial").iterdir())
    assert cache.rebuild_index() == (45, [])
    assert index_rows(cache.root) == rows


def test_a_full_disk_leaves_nothing_behind(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheError, match=r"cannot be written .*No space left.*free some space"):
        write(cache)
    assert files_below(cache.root) == set()


def test_only_old_partial_files_are_swept(cache: FeatureCache, tmp_path: Path) -> None:
    write(cache)
    partial = cache.root / "partial"
    young, old, foreign = (partial / name for name in (f"{sha(1)}.aa", f"{sha(2)}.bb", "thesis.tex"))
    for path in (young, old, foreign):
        path.write_bytes(b"half an ent")
    for path in (old, foreign):
        os.utime(path, (time.time() - 3700, time.time() - 3700))
    os.utime(young, (time.time() - 3500, time.time() - 3500))
    assert cache.sweep_partial() == 1
    assert set(partial.iterdir()) == {young, foreign}
    partial.rename(tmp_path / "elsewhere")
    partial.symlink_to(tmp_path / "elsewhere")
    os.utime(young, (0, 0))
    with pytest.raises(CacheError, match="symbolic link"):
        cache.sweep_partial()
