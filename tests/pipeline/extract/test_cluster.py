"""Extraction on a Ray cluster: machines of their own, as far as Ray is concerned, on this one."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.cache_clips import same

from ccln import extract
from ccln.cache import FeatureCache, feature_key, open_cache, source_digest
from ccln.cache.shards import Shard
from ccln.extractors import Extractors, load_extractors
from ccln.pipeline.extract.cluster import ClusterError, worked_on_cluster

pytestmark = pytest.mark.slow

LEAST_MEMORY = 100 << 20  # that Ray takes


class Machines:
    """A cluster of two machines of one processor each, with a folder each for what it keeps."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self._folder = folder
        # What else Ray would start on the first machine, a process each.
        without = {"no_monitor": True, "include_log_monitor": False, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=without | self._options("first"))
        self._second: Any = None
        self.require_two()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def folder_of(self, name: str) -> Path:
        """Where a machine has its copies of remote caches, and what it fetches."""
        return self._folder / name

    def require_two(self) -> None:
        if self._second is None:
            self._second = self._cluster.add_node(**self._options("second"))

    def lose_one(self) -> None:
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    def end(self) -> None:
        self._cluster.shutdown()

    def _options(self, name: str) -> dict[str, Any]:
        folder = self.folder_of(name)
        folder.mkdir(exist_ok=True)
        # At Ray's own niceness of 15, what else runs here would leave its workers nothing.
        environment = {"XDG_CACHE_HOME": str(folder), "TMPDIR": str(folder), "RAY_worker_niceness": "0"}
        return {"num_cpus": 1, "object_store_memory": LEAST_MEMORY, "env_vars": environment}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    machines = Machines(tmp_path_factory.mktemp("machines"))
    yield machines
    machines.end()


@pytest.fixture
def machines(started: Machines) -> Machines:
    started.require_two()
    return started


def test_an_item_that_ends_its_workers_costs_itself(machines: Machines) -> None:
    @contextmanager
    def make(_: int) -> Iterator[Callable[[int], int]]:
        yield lambda item: os._exit(1) if item == 2 else 10 * item

    results = worked_on_cluster(range(6), make, lambda item, reason: -item, machines.address, ahead=2)
    assert sorted(results) == [-2, 0, 10, 30, 40, 50]


def test_workers_have_items_ahead_and_what_was_lost_is_worked_on_twice(machines: Machines) -> None:
    @contextmanager
    def make(processors: int) -> Iterator[Callable[[int], tuple[int, int]]]:
        def work(item: int) -> tuple[int, int]:
            working.append(item)
            time.sleep(0.5)
            most.append(len(working))
            working.remove(item)
            return item, max(most)

        assert processors == 1
        working: list[int] = []
        most = [0]
        yield work

    lost = iter([[1, 4], [4]])
    results = list(
        worked_on_cluster(
            range(6), make, lambda item, reason: (-item, 0), machines.address, ahead=2, lost=lambda: next(lost)
        )
    )
    assert sorted(item for item, _ in results) == [-4, 0, 1, 1, 2, 3, 4, 4, 5]
    assert max(most for _, most in results) == 3


def test_an_error_of_the_work_is_the_callers_and_one_item_takes_one_worker(machines: Machines, tmp_path: Path) -> None:
    @contextmanager
    def make(_: int) -> Iterator[Callable[[int], float]]:
        (tmp_path / str(os.getpid())).touch()
        yield lambda seconds: time.sleep(seconds) or 1 / 0

    with pytest.raises(ZeroDivisionError):
        list(worked_on_cluster([2], make, lambda item, reason: item, machines.address))
    assert len(list(tmp_path.iterdir())) == 1


def entries(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (cache / "entries").rglob("*.safetensors")}


def test_a_cluster_that_loses_a_machine_makes_what_one_machine_makes(
    machines: Machines, tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    def lose_one(done: int, _: int) -> None:
        if done == 2:
            machines.lose_one()

    videos = sorted((tiny_set / "AVE").iterdir())[:4]
    summary = extract(videos, cache=tmp_path, engine="ray", address=machines.address, progress=lose_one)
    assert (summary.done + summary.cached, summary.failed) == (4, ())
    made = entries(tmp_path)
    assert len(made) == 4
    assert made.items() <= entries(tiny_cache).items()


def test_videos_and_cache_at_urls_outlast_a_machine_that_had_not_uploaded(
    machines: Machines, tiny_set: Path, tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*words: Any, **named: Any) -> Extractors:
        while os.environ.get("TMPDIR") == str(first) and not is_lost.exists():
            time.sleep(0.1)  # so that the other machine is the first to make clips, however long it takes to start
        return load_extractors(*words, **named)

    def lose_one(done: int, _: int) -> None:
        if done == 3 and not unsent:  # of which one is no video
            unsent[:] = second.rglob("entries/*/*/*.safetensors")
            machines.lose_one()
            is_lost.touch()

    def packed() -> list[str]:
        packs = (tmp_path / "features" / "shards").iterdir()
        return sorted(key for pack in packs for key in Shard(pack, pack.stem).keys)

    first, second = machines.folder_of("first"), machines.folder_of("second")
    unsent: list[Path] = []
    is_lost = tmp_path / "is-lost"
    monkeypatch.setattr("ccln.extractors.load_extractors", load)
    videos = sorted((tiny_set / "AVE").iterdir())[:6]
    (tmp_path / "videos" / "deep").mkdir(parents=True)
    for video in videos:
        shutil.copy(video, tmp_path / "videos" / "deep")
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    monkeypatch.setenv("XDG_CACHE_HOME", str(first))
    url, features = f"file://{tmp_path}/videos", f"file://{tmp_path}/features"
    summary = extract(url, cache=features, engine="ray", address=machines.address, progress=lose_one)
    assert len(unsent) >= 2
    assert (summary.done, summary.cached) == (6, 0)
    (failure,) = summary.failed
    assert failure.reason.startswith(f"{url}/broken.mp4: ")
    keys = {video: feature_key(source_digest(video), summary.specification) for video in videos}
    assert packed() == sorted(keys.values())
    assert list(first.glob("*ccln-fetched*")) == []

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "reader"))
    reader = open_cache(features)
    for video, key in keys.items():
        assert same(reader.read(key), FeatureCache(tiny_cache).read(key))
        assert reader.find(summary.specification, video.stem) == [key]
    monkeypatch.setenv("XDG_CACHE_HOME", str(second))
    open_cache(features).flush()
    assert packed() == sorted(keys.values()), "what the lost machine had made comes too late"
    monkeypatch.setenv("XDG_CACHE_HOME", str(first))
    again = extract(f"{url}/deep", cache=features, engine="ray", address="nowhere.invalid:1")
    assert again.cached == 6, "nothing is left to do, and no cluster asked"


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at nowhere\.invalid:1"):
        list(worked_on_cluster([1], lambda _: nullcontext(abs), lambda item, reason: item, "nowhere.invalid:1"))
