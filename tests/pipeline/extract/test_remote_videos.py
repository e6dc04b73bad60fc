import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from ccln import extract
from ccln.cache import FeatureCache, feature_key, source_digest
from ccln.pipeline.data import find_clips, find_videos
from ccln.pipeline.data.remote import RemoteVideo, videos_at
from ccln.pipeline.data.shards import Shard
from ccln.pipeline.extract import fetch
from ccln.pipeline.extract.fetch import fetching
from ccln.storage import StorageError

HOSTILE = ["../../o.mp4", "/etc/o.mp4", f"{'long' * 200}.mp4", "a.mp4/b.mp4", "null\0.mp4", "..mp4", "x.m p4"]
STORAGE = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    STORAGE.store.clear()
    STORAGE.pseudo_dirs[:] = [""]
    yield
    STORAGE.store.clear()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are fetched to."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def calls_of_open(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places in storage that are opened from here on."""
    opened: list[str] = []

    def noted(storage: MemoryFileSystem, path: str, *args: Any, **options: Any) -> Any:
        opened.append(path)
        return plain(storage, path, *args, **options)

    plain = MemoryFileSystem.open
    monkeypatch.setattr(MemoryFileSystem, "open", noted)
    return opened


def test_videos_of_a_url_give_the_features_of_a_folder_and_are_fetched_once(
    tiny_set: Path, tiny_cache: Path, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = sorted((tiny_set / "AVE").iterdir())[:3]
    for video in videos:
        STORAGE.pipe_file(f"/bucket/set/deep/{video.name}", video.read_bytes())
    STORAGE.pipe_file("/bucket/set/broken.mp4", b"no video")
    STORAGE.pipe_file("/bucket/set/notes.txt", b"")
    opened = calls_of_open(monkeypatch)
    cache = FeatureCache(tmp_path / "cache")
    summary = extract("memory://bucket/set", cache=cache.root)
    assert summary.done == 3
    assert len(opened) == 4
    (failure,) = summary.failed
    assert failure.reason.startswith("memory://bucket/set/broken.mp4: ")
    assert str(temporary) not in failure.reason
    for video in videos:
        key = feature_key(source_digest(video), summary.specification)
        expected, features = FeatureCache(tiny_cache).read(key), cache.read(key)
        assert torch.equal(features.visual, expected.visual)
        assert torch.equal(features.audio, expected.audio)
        assert cache.find(summary.specification, video.stem) == [key]
    assert list(temporary.iterdir()) == []
    opened.clear()
    assert extract("memory://bucket/set/deep", cache=cache.root).cached == 3
    assert opened == [], "what is known to be there is not fetched again"
    STORAGE.pipe_file(f"/bucket/set/deep/{videos[0].name}", videos[1].read_bytes())
    opened.clear()
    assert extract("memory://bucket/set/deep", cache=cache.root).cached == 3
    assert len(opened) == 1, "what storage has another version of is looked at"


def test_shards_of_a_url_are_those_of_a_folder(tmp_path: Path) -> None:
    for number in range(20):
        name = f"a/{number}.mp4"
        (tmp_path / "set" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
        STORAGE.pipe_file(f"/bucket/{name}", b"")
    for number in (1, 2, 3):
        here = [Path(str(file)).name for file in find_clips(tmp_path / "set", shard=Shard(number, 3))]
        there = [Path(str(file)).name for file in find_clips("memory://bucket/", shard=Shard(number, 3))]
        assert sorted(here) == sorted(there)


def test_files_and_bytes_on_the_disk_are_bounded(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_MOST_FILES", 4)
    monkeypatch.setattr(fetch, "_MOST_BYTES", 1000)
    sizes = [300] * 8 + [5000] + [1] * 12
    for number, size in enumerate(sizes):
        STORAGE.pipe_file(f"/bucket/{number:02}.mp4", bytes([number]) * size)
    videos, _ = videos_at("memory://bucket")
    most_files = most_bytes = 0
    with fetching(videos) as fetcher:
        for number, video in enumerate(videos):
            with fetcher.local(video) as path:
                time.sleep(0.01)
                there = [file.stat().st_size for file in temporary.rglob("*.mp4")]
                most_files = max(most_files, len(there))
                if sizes[number] < 1000:
                    most_bytes = max(most_bytes, sum(there))
                assert path.read_bytes() == bytes([number]) * sizes[number]
            assert not path.exists()
    assert 2 <= most_files <= 4
    assert 600 <= most_bytes <= 1000
    assert list(temporary.iterdir()) == []


def test_what_is_fetched_when_asked_for_is_bounded_too(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(video: RemoteVideo) -> int:
        with fetcher.local(video) as path:
            time.sleep(0.02)
            used = sum(file.stat().st_size for file in path.parent.iterdir() if file.exists())
            assert path.read_bytes() == b"a" * 300
        return used

    monkeypatch.setattr(fetch, "_MOST_BYTES", 1000)
    for number in range(16):
        STORAGE.pipe_file(f"/bucket/{number:02}.mp4", b"a" * 300)
    videos, _ = videos_at("memory://bucket")
    with fetching() as fetcher, ThreadPoolExecutor(8) as threads:
        assert 600 <= max(threads.map(use, videos)) <= 900
    assert list(temporary.iterdir()) == []


def test_what_fails_is_tried_twice_and_costs_one_line(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    for name, content in (("fails once", b"abc"), ("fails", b"de"), ("grows", b"f"), ("gone", b"g")):
        STORAGE.pipe_file(f"/bucket/{name}.mp4", content)
    videos, _ = videos_at("memory://bucket")
    STORAGE.pipe_file("/bucket/grows.mp4", b"f" * 100)
    STORAGE.rm_file("/bucket/gone.mp4")
    failing = {"/bucket/fails once.mp4": 1, "/bucket/fails.mp4": 2}

    def opened(storage: MemoryFileSystem, path: str, *args: Any, **options: Any) -> Any:
        if failing.get(path):
            failing[path] -= 1
            raise OSError("reset\nby peer")
        return plain(storage, path, *args, **options)

    plain = MemoryFileSystem.open
    monkeypatch.setattr(MemoryFileSystem, "open", opened)
    errors = {}
    with fetching(videos) as fetcher:
        for video in videos:
            try:
                with fetcher.local(video) as path:
                    assert path.read_bytes() == b"abc"
            except StorageError as error:
                errors[video.name] = str(error)
    assert errors == {
        "fails.mp4": "memory://bucket/fails.mp4: cannot be reached (OSError: reset by peer)",
        "gone.mp4": "memory://bucket/gone.mp4: there is no such thing. Check the URL",
        "grows.mp4": "memory://bucket/grows.mp4: has not the 1 bytes that were listed. Run the same command again",
    }
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_in_storage_leads_nowhere_on_this_machine(name: str, temporary: Path) -> None:
    STORAGE.store.clear()
    video = RemoteVideo("memory://bucket", name, 3, "0" * 64)
    with STORAGE.open(f"/bucket/{name}", "wb") as file:
        file.write(b"abc")
    with fetching([video]) as fetcher, fetcher.local(video) as path:
        assert path.read_bytes() == b"abc"
        assert path.parent.parent == temporary
        assert path.stem == "0"


def test_those_who_wait_are_released_when_fetching_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    video = RemoteVideo("memory://bucket", "a.mp4", 3, "0" * 64)
    monkeypatch.setattr(fetch.Fetcher, "fetch_ahead", lambda _: None)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            with fetcher.local(video):
                pass
        except BaseException as error:
            raised.append(error)

    with fetching([video]) as fetcher:
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
    thread.join(10)
    assert len(raised) == 1


def test_what_cannot_be_had_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="memory://bucket/none: no video in it"):
        find_clips("memory://bucket/none")
    STORAGE.pipe_file("/bucket/a.mp4", b"abc")
    assert list(map(str, find_clips("memory://bucket/a.mp4"))) == ["memory://bucket/a.mp4"]
    with pytest.raises(FileNotFoundError, match=r"memory://bucket/a.mp4: videos of URLs can only be extracted"):
        find_videos("memory://bucket")
    with pytest.raises(StorageError, match="nowhere"):
        find_clips("nowhere://bucket")
    with pytest.raises(StorageError, match="password") as refused:
        find_clips("ftp://me:secret@host/videos")
    assert "secret" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(StorageError, match=r"pip install 'ccln\[remote\]'"):
        find_clips("memory://bucket")
