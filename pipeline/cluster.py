"""Work on several files on the machines of a Ray cluster, as `ccln.pipeline.workers` does it on one.

Only files' names and what became of them travel: what is decoded and what is computed stays where it is made.
"""

import logging
import os
import re
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_PLACE = re.compile(r"(?P<host>[^:/]+):(?P<port>\d+)")
_PATIENCE_SECONDS = 10
_MOST_LOSSES = 2
"""An item may take that many workers with it; it may itself be what ends them."""


class ClusterError(Exception):
    """There is no cluster to work on; the message says what to do."""


@dataclass(eq=False)
class _Slot:
    """A worker somewhere in the cluster."""

    actor: Any
    """Its Ray handle."""
    places: int
    """How many items it works on at the same time."""


def worked_on_cluster(
    items: Sequence[_Item],
    make_work: Callable[[], Callable[[_Item], _Result]],
    given_up: Callable[[_Item, str], _Result],
    address: str = "local",
) -> Iterator[_Result]:
    """Yield the result of each item as it comes, in no order.

    A worker takes a GPU and its share of that machine's processors, in a cluster without GPUs one processor. What it
    had in work when its machine or its process died goes to another, and it is replaced where and when there is room.

    Args:
        items: What to work on.
        make_work: Called once in each worker, and sent there: it gives what takes an item to its result, in any number
            of threads; an exception that either raises ends the whole.
        given_up: The result of an item with which several workers died, with the reason.
        address: Of the cluster, as Ray has it: "local" for one that is started on this machine and ends with this.

    Raises:
        ClusterError: Ray is not installed, or does not answer.
    """
    # Ray would send this folder to all machines under `uv run`, and report what it is used for to its makers.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayActorError, RayTaskError
    except ImportError as error:
        raise ClusterError("Ray is not installed: pip install 'ccln[ray]', here and on the cluster") from error
    try:
        if (place := _PLACE.fullmatch(address)) is not None:  # Ray would try for ten minutes
            socket.create_connection((place["host"], int(place["port"])), _PATIENCE_SECONDS).close()
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers at {address} ({error})") from error
    slots: list[_Slot] = []
    starting: dict[Any, _Slot] = {}
    working: dict[Any, tuple[_Slot, int]] = {}
    idle: deque[_Slot] = deque()
    waiting = deque(range(len(items)))
    losses: Counter[int] = Counter()

    def start(count: int) -> None:
        gpus, processors, places = _shape(ray.nodes())
        for _ in range(count or max(1, int(gpus or processors))):
            actor = ray.remote(_Worker).options(num_gpus=1 if gpus else 0, num_cpus=places, max_concurrency=places)
            slot = _Slot(actor.remote(), places)
            slots.append(slot)
            starting[slot.actor.prepare.remote(make_work)] = slot

    try:
        start(0)
        while waiting or working:
            while waiting and idle:
                slot, position = idle.popleft(), waiting.popleft()
                working[slot.actor.work.remote(items[position])] = slot, position
            done, _ = ray.wait([*starting, *working], num_returns=1)
            for answer in done:
                slot, position = (starting.pop(answer), None) if answer in starting else working.pop(answer)
                try:
                    result = ray.get(answer)
                except RayTaskError as error:
                    raise error.cause from error
                except RayActorError as error:
                    if slot in slots:  # several of its items may be lost with it
                        slots.remove(slot)
                        idle = deque(other for other in idle if other is not slot)
                        start(1)
                    if position is None:
                        continue
                    losses[position] += 1
                    if losses[position] < _MOST_LOSSES:
                        waiting.append(position)  # after all others: it may be what ends workers
                    else:
                        yield given_up(items[position], str(error).split("\n")[0])
                else:
                    if slot in slots:  # another of its items may have ended it since
                        idle.extend([slot] * (slot.places if position is None else 1))
                    if position is not None:
                        yield result
    finally:
        ray.shutdown()  # ends the workers, too


def _shape(nodes: Sequence[dict[str, Any]]) -> tuple[int, int, int]:
    """GPUs and processors in all, and how many processors a worker takes."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus, processors = (int(sum(node.get(kind, 0) for node in alive)) for kind in ("GPU", "CPU"))
    shares = [node.get("CPU", 0) // node["GPU"] for node in alive if node.get("GPU")]
    return gpus, processors, max(1, int(min(shares, default=1)))


class _Worker:
    """What Ray runs in a process of its own."""

    def prepare(self, make_work: Callable[[], Callable[[Any], Any]]) -> None:
        self._work = make_work()

    def work(self, item: Any) -> Any:
        import torch

        torch.set_num_threads(1)  # as the workers of one machine: the sums, too, are then the same
        return self._work(item)
