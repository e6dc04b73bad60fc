"""Extraction on a Ray cluster: machines of their own, as far as Ray is concerned, on this one."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ccln import extract
from ccln.pipeline.cluster import ClusterError, worked_on_cluster

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow

LEAST_MEMORY = 100 << 20  # that Ray takes


@pytest.fixture(scope="module")
def cluster() -> "Iterator[Cluster]":
    """A head without processors and two nodes of one."""
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": LEAST_MEMORY})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=LEAST_MEMORY)
    yield cluster
    cluster.shutdown()


def entries(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (cache / "entries").rglob("*.safetensors")}


def test_a_cluster_that_loses_a_machine_makes_what_one_machine_makes(
    cluster: "Cluster", tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    nodes = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]

    def lose_one(done: int, _: int) -> None:
        if done == 3:
            cluster.remove_node(nodes[0], allow_graceful=False)

    summary = extract([tiny_set], cache=tmp_path, engine="ray", address=str(cluster.address), progress=lose_one)
    assert (summary.done + summary.cached, summary.failed) == (16, ())
    assert entries(tmp_path) == entries(tiny_cache)
    cluster.add_node(num_cpus=1, object_store_memory=LEAST_MEMORY)


def test_an_item_that_ends_its_workers_costs_itself(cluster: "Cluster") -> None:
    def make() -> Callable[[int], int]:
        return lambda item: os._exit(1) if item == 2 else 10 * item

    results = worked_on_cluster(range(6), make, lambda item, reason: -item, str(cluster.address))
    assert sorted(results) == [-2, 0, 10, 30, 40, 50]


def test_an_error_of_the_work_is_the_callers(cluster: "Cluster") -> None:
    def make() -> Callable[[int], int]:
        return lambda item: 1 // item

    with pytest.raises(ZeroDivisionError):
        list(worked_on_cluster([1, 0], make, lambda item, reason: item, str(cluster.address)))


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at nowhere\.invalid:1"):
        list(worked_on_cluster([1], lambda: abs, lambda item, reason: item, "nowhere.invalid:1"))
