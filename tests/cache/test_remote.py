import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from support.cache_clips import DIGEST, KEYS, make_features, same, sha, write
from support.cache_processes import die_uploading
from support.processes import PROCESSES

from ccln.cache import CacheError, DamagedFileError, FeatureCache, Features, RemoteCache, describe, open_cache, remote
from ccln.cache.shards import Shard

STORAGE = fsspec.filesystem("memory")
URL = "memory://bucket/features"
SHARDS = "/bucket/features/shards"


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    STORAGE.store.clear()
    yield
    STORAGE.store.clear()


class Machine:
    """A place where remote caches have their copies."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch

    def open(self, url: str = URL) -> RemoteCache:
        self._patch.setenv("XDG_CACHE_HOME", str(self.folder))
        cache = open_cache(url)
        assert isinstance(cache, RemoteCache)
        return cache


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "here", monkeypatch)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "there", monkeypatch)


def objects() -> list[str]:
    return sorted(path for path in STORAGE.store if not path.endswith("/"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of bytes that are read."""
    found: list[tuple[int, int]] = []

    def noted(storage: MemoryFileSystem, path: str, start: int, end: int, **options: Any) -> Any:
        found.append((start, end))
        return plain(storage, path, start, end, **options)

    plain = MemoryFileSystem.cat_file
    monkeypatch.setattr(MemoryFileSystem, "cat_file", noted)
    return found


def test_what_one_machine_writes_another_reads_by_the_bytes_of_its_clips(
    here: Machine, there: Machine, asked: list[tuple[int, int]]
) -> None:
    writer = here.open()
    keys = [write(writer, number) for number in range(7)]
    assert objects() == []
    assert same(writer.read(keys[2]), make_features(2))
    writer.flush()
    assert len(objects()) == 1
    assert all(same(writer.read(key), make_features(number)) for number, key in enumerate(keys))

    reader = there.open()
    asked.clear()
    assert list(reader.specifications()) == [DIGEST]
    assert reader.find(DIGEST, "clip 3") == [keys[3]]
    assert reader.contains(keys[3])
    assert asked == []
    wanted = sorted(keys)[2:4]  # side by side in the pack
    reader.fetch(wanted)
    features = [reader.read(key) for key in wanted]
    for key, found in zip(wanted, features, strict=True):
        assert same(found, make_features(keys.index(key)))
    (shard,) = (reader.root / "shards").iterdir()
    ranges = [part for key in wanted for part in Shard(shard, shard.stem).ranges(key)]
    assert sum(end - start for start, end in asked) == sum(end - start for start, end in ranges)
    assert len(asked) == 2, "neighbours are read at once"
    asked.clear()
    reader.fetch(wanted)
    assert asked == []
    assert same(reader.read(keys[0], verify=False), make_features(0))
    assert describe(reader)[0].clips == 7


def test_the_remote_form_is_the_folder_of_shards_of_a_packed_cache(here: Machine, tmp_path: Path) -> None:
    writer = here.open()
    keys = [write(writer, number) for number in range(3)]
    writer.flush()
    folder = tmp_path / "copied"
    (folder / "shards").mkdir(parents=True)
    for path in objects():
        (folder / "shards" / path.rpartition("/")[2]).write_bytes(STORAGE.cat_file(path))
    copied = FeatureCache(folder)
    assert all(same(copied.read(key), make_features(number)) for number, key in enumerate(keys))


def test_packs_are_written_when_they_are_full(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CLIPS_PER_PACK", 4)
    writer = here.open()
    for number in range(11):
        write(writer, number)
    assert len(objects()) == 2
    assert len(list((writer.root / "entries").rglob("*.safetensors"))) == 3
    writer.flush()
    assert len(objects()) == 3


def test_what_a_killed_writer_left_is_uploaded_by_the_next_and_written_packs_are_never_touched(
    here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any, **options: Any) -> None:
        assert options["mode"] == "create"
        raise OSError("gone")

    first = here.open()
    write(first, 0)
    first.flush()
    before = {path: STORAGE.cat_file(path) for path in objects()}
    write(first, 1)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", dying)
        with pytest.raises(Exception, match=r"memory://bucket/features/shards/\w+.safetensors: cannot be reached"):
            first.flush()
    assert {path: STORAGE.cat_file(path) for path in objects()} == before

    other = there.open()
    assert [other.contains(key) for key in KEYS[:2]] == [True, False]
    write(other, 1)
    other.flush()
    assert len(objects()) == 2
    again = here.open()
    again.flush()
    assert len(objects()) == 2, "another writer's clip counts"
    assert list((again.root / "entries").rglob("*.safetensors")) == []
    assert all(same(again.read(KEYS[number]), make_features(number)) for number in range(2))
    assert all(STORAGE.cat_file(path) == content for path, content in before.items())


def test_of_two_writers_of_the_same_pack_the_first_counts(here: Machine, there: Machine) -> None:
    one, other = here.open(), there.open()
    for cache, folder in ((one, "/a"), (other, "/longer/path")):
        cache.write(
            make_features(0), source_sha256="0" * 64, source_path=f"{folder}/clip.mp4", specification={"same": True}
        )
    one.flush()
    (before,) = (STORAGE.cat_file(path) for path in objects())
    other.flush()
    assert [STORAGE.cat_file(path) for path in objects()] == [before]
    (digest,) = other.specifications()
    (key,) = other.find(digest, "clip")
    assert same(other.read(key), make_features(0))


def test_writers_work_beside_each_other(here: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remote, "CLIPS_PER_PACK", 5)
    caches = [Machine(tmp_path / name, monkeypatch).open() for name in "ab"]

    def work(cache: RemoteCache, numbers: range) -> None:
        for number in numbers:
            write(cache, number)
        cache.flush()

    threads = [threading.Thread(target=work, args=(caches[n % 2], range(n * 10, n * 10 + 12))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = here.open()
    for number in range(42):
        assert same(reader.read(KEYS[number]), make_features(number))


def test_processes_of_a_machine_pack_no_clip_twice(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*args: Any, **options: Any) -> None:
        began.set()
        assert goes_on.wait(30)
        plain(*args, **options)

    plain, began, goes_on = MemoryFileSystem.put_file, threading.Event(), threading.Event()
    one, other = here.open(), here.open()
    write(one, 0)
    monkeypatch.setattr(MemoryFileSystem, "put_file", slow)
    threads = [threading.Thread(target=cache.flush) for cache in (one, other)]
    threads[0].start()
    assert began.wait(30)
    write(other, 1)
    threads[1].start()
    threads[1].join(0.5)
    goes_on.set()
    for thread in threads:
        thread.join()
    heads = [Shard(one.root / "shards" / path.rpartition("/")[2], Path(path).stem) for path in objects()]
    assert sorted(key for head in heads for key in head.keys) == sorted(KEYS[:2])


def test_a_pack_that_another_process_adds_while_packs_are_listed_is_kept(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(*args: Any, **options: Any) -> Any:
        found = plain(*args, **options)
        monkeypatch.undo()
        here.open()
        write(other, 1)
        other.flush()
        return found

    plain, other = MemoryFileSystem.ls, here.open()
    write(other, 0)
    other.flush()
    monkeypatch.setattr(MemoryFileSystem, "ls", listed)
    reader = here.open()
    assert all(reader.contains(key) for key in KEYS[:2])


def shard_object() -> str:
    (path,) = objects()
    return path


def flip(path: str, at: int) -> None:
    content = bytearray(STORAGE.cat_file(path))
    content[at] ^= 1
    STORAGE.pipe_file(path, bytes(content))


def test_a_damaged_clip_is_never_read_and_repair_saves_the_others(here: Machine, there: Machine) -> None:
    writer = here.open()
    keys = sorted(write(writer, number) for number in range(5))
    writer.flush()
    path = shard_object()
    flip(path, -1)  # of the last clip
    reader = there.open()
    reader.fetch(keys)
    with pytest.raises(DamagedFileError, match=r"memory://bucket/features/shards/.*sha256 differs.*repair"):
        reader.read(keys[-1])
    assert reader.read(keys[0]).visual.any()
    found = reader.verify()
    assert (found.intact, [error.path for error in found.damaged]) == (4, [f"memory:/{path}"])
    name = f"/videos/clip {KEYS.index(keys[-1])}.mp4"
    assert found.damaged[0].reason == f"{name} in it is not what was written (sha256 differs)"
    repaired = reader.repair()
    assert (repaired.indexed, len(repaired.damaged)) == (4, 1)
    assert len(objects()) == 2
    assert path.replace("/shards/", "/quarantine/") in objects()
    assert there.open().verify() == (4, [])
    assert not there.open().contains(keys[-1])


def test_all_damaged_clips_of_a_pack_are_named_and_the_pack_is_moved_once(here: Machine, there: Machine) -> None:
    writer = here.open()
    keys = sorted(write(writer, number) for number in range(5))
    writer.flush()
    for at in (-1, -1 - make_features(0).visual.nbytes):  # of the last clip, and of the one before
        flip(shard_object(), at)
    names = {f"/videos/clip {KEYS.index(key)}.mp4" for key in keys[-2:]}
    for found in (there.open().verify(), there.open().repair()):
        assert {error.reason.partition(" in it")[0] for error in found.damaged} == names
    assert there.open().verify() == (3, [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "claims"),
        (b"\xff" * 100, "claims"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "claims 1099511627784 of its header"),
        ((2).to_bytes(8, "little") + b"{}", ""),
        ((60).to_bytes(8, "little") + b'{"audio":{"dtype":"F32","shape":[99999999999,9],' + b" " * 200, ""),
    ],
)
def test_what_is_no_pack_costs_a_line_and_nothing_else(
    content: bytes, reason: str, here: Machine, there: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    writer = here.open()
    key = write(writer, 0)
    writer.flush()
    name = "0" * 64
    STORAGE.pipe_file(f"{SHARDS}/{name}.safetensors", content)
    for odd in ("../../outside.safetensors", "short.safetensors", f"{name}.safetensors/inside", "\x1b[31m.safetensors"):
        STORAGE.store[f"{SHARDS}/{odd}"] = STORAGE.store[f"{SHARDS}/{name}.safetensors"]
    reader = there.open()
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"memory://bucket/features/shards/{name}.safetensors cannot be used: ")
    assert reason in line
    assert "\n" not in line
    assert same(reader.read(key), make_features(0))
    assert len(reader.verify().damaged) == 1
    assert {path.name for path in there.folder.parent.iterdir()} == {"here", "there"}


@pytest.mark.parametrize("forge", ["name", "size", "other keys"])
def test_a_forged_head_is_refused(forge: str, here: Machine, there: Machine, caplog: pytest.LogCaptureFixture) -> None:
    writer = here.open()
    write(writer, 0)
    writer.flush()
    path = shard_object()
    content = STORAGE.cat_file(path)
    if forge == "name":
        STORAGE.rm_file(path)
        STORAGE.pipe_file(f"{SHARDS}/{'a' * 64}.safetensors", content)
    elif forge == "size":
        STORAGE.pipe_file(path, content + b"more")
    else:
        STORAGE.pipe_file(path, content.replace(b"clip 0.mp4", b"clip 1.mp4"))
    reader = there.open()
    if forge == "other keys":  # the name of a source, which the clip's digest covers
        with pytest.raises(DamagedFileError):
            reader.read(KEYS[0])
    else:
        assert not reader.contains(KEYS[0])
        assert len(caplog.records) == 1


def test_the_copy_is_bounded(here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def used() -> int:
        return sum(path.stat().st_blocks * 512 for path in (reader.root / "shards").iterdir())

    def usage(_: Path) -> SimpleNamespace:
        return SimpleNamespace(free=2 * limit - used())

    clips = [Features(torch.randn(1, 64, 64, 16).half(), torch.randn(1, 5), 1.0) for _ in range(3)]
    writer, keys = here.open(), []
    for number, clip in enumerate(clips):
        known = {"source_sha256": sha(number), "source_path": f"{number}.mp4", "specification": {}}
        keys.append(writer.write(clip, **known))
        writer.flush()
    reader, limit = there.open(), 300_000
    monkeypatch.setattr("shutil.disk_usage", usage)
    for number in (0, 1, 2, 0, 1):
        assert same(reader.read(keys[number]), clips[number])
        assert 131_072 < used() <= limit
    limit = 100_000
    with pytest.raises(CacheError, match=r"bytes of features are wanted here.*XDG_CACHE_HOME"):
        list(map(reader.read, keys))  # of three, two at most are here; which, decides a clock of few ticks


def test_a_pack_that_is_gone_or_replaced_is_noticed(here: Machine, there: Machine) -> None:
    writer = here.open()
    keys = [write(writer, number) for number in range(2)]
    writer.flush()
    assert there.open().contains(keys[0])
    STORAGE.rm_file(shard_object())
    assert not there.open().contains(keys[0])
    assert not here.open().contains(keys[0])


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("renames", [0, 1])
def test_what_a_killed_writer_has_not_uploaded_the_next_one_uploads(
    here: Machine, there: Machine, tmp_path: Path, renames: int, after: bool
) -> None:
    url = f"file://{tmp_path}/bucket"
    process = PROCESSES.Process(target=die_uploading, args=(here.folder, url, renames, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    here.open(url).flush()
    reader = there.open(url)
    assert all(same(reader.read(key), make_features(number)) for number, key in enumerate(KEYS[:3]))
    assert len(list((tmp_path / "bucket" / "shards").iterdir())) == 1
    assert here.open(url).verify().damaged == []
