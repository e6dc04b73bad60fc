"""Work on several files on the machines of a Ray cluster, as `ccln.pipeline.workers` does it on one.

Only files' names and what became of them travel: what is decoded and what is computed stays where it is made.
"""

import logging
import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_PLACE = re.compile(r"(?P<host>[^:/]+):(?P<port>\d+)")
_PATIENCE_SECONDS = 10
_MOST_LOSSES = 2
"""An item may be lost with that many workers; it may itself be what ends them."""


class ClusterError(Exception):
    """There is no cluster to work on; the message says what to do."""


@dataclass(eq=False)
class _Task:
    """An item that waits or is in work."""

    item: Any
    losses: int = 0
    """Workers that died while they had it in work."""


@dataclass(eq=False)
class _Slot:
    """A worker somewhere in the cluster."""

    actor: Any
    """Its Ray handle."""
    places: int
    """How many items it has at the same time."""
    tasks: list[_Task] = field(default_factory=list)
    """Those that it has now."""

    def has_room_for(self, task: _Task) -> bool:
        """Whether it may have a task now; what may have ended a worker gets one to itself, and takes no other along."""
        if task.losses:
            return not self.tasks
        return len(self.tasks) < self.places and not any(other.losses for other in self.tasks)


def worked_on_cluster(
    items: Sequence[_Item],
    make_work: Callable[[int], AbstractContextManager[Callable[[_Item], _Result]]],
    given_up: Callable[[_Item, str], _Result],
    address: str = "local",
    *,
    ahead: int = 0,
    lost: Callable[[], Iterable[_Item]] = lambda: (),
) -> Iterator[_Result]:
    """Yield the result of each item as it comes, in no order.

    A worker takes a GPU and its share of that machine's processors, in a cluster without GPUs one processor. What it
    had in work when its machine or its process died goes to another, and it is replaced where and when there is room.
    There are no more workers than items.

    Args:
        items: What to work on.
        make_work: Called in each worker, and sent there: takes the number of its processors, and gives a context, which
            ends when all is done, for what takes an item to its result, in any number of threads. An exception that any
            of these raises ends the whole.
        given_up: The result of an item that was lost with several workers, with the reason.
        address: Of the cluster, as Ray has it: "local" for one that is started on this machine and ends with this.
        ahead: How many items a worker has for each processor, beside the one to compute, so as to get them ready.
        lost: Called when all is done and the contexts have ended: gives the items of which what was made is lost with
            its worker. They are worked on again, and yielded again.

    Raises:
        ClusterError: Ray is not installed, or does not answer.
    """
    if not items:
        return
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
    starting: dict[Any, _Slot] = {}
    ready: list[_Slot] = []
    working: dict[Any, tuple[_Slot, _Task]] = {}
    waiting = deque(map(_Task, items))

    def begin(slots: Iterable[_Slot]) -> None:
        starting.update((slot.actor.begin.remote(make_work), slot) for slot in slots)

    def start(count: int) -> None:
        gpus, processors, share = _shape(ray.nodes())
        places = share * (1 + ahead)
        actor = ray.remote(_Worker).options(num_gpus=1 if gpus else 0, num_cpus=share, max_concurrency=places)
        count = count or min(len(items), max(1, gpus or processors))
        begin(_Slot(actor.remote(share), places) for _ in range(count))

    def deal() -> None:
        while waiting and (free := [slot for slot in ready if slot.has_room_for(waiting[0])]):
            slot, task = min(free, key=lambda slot: len(slot.tasks)), waiting.popleft()
            slot.tasks.append(task)
            working[slot.actor.work.remote(task.item)] = slot, task

    def answer(call: Any) -> Any:
        try:
            return ray.get(call)
        except RayTaskError as error:
            raise error.cause from error

    def work() -> Iterator[_Result]:
        while waiting or working:
            deal()
            for call in ray.wait([*starting, *working], num_returns=1)[0]:
                if call in starting:
                    slot = starting.pop(call)
                    try:
                        answer(call)
                        ready.append(slot)
                    except RayActorError:
                        start(1)
                    continue
                slot, task = working.pop(call)
                slot.tasks.remove(task)
                try:
                    result = answer(call)
                except RayActorError as error:
                    if slot in ready:  # several of its tasks may be lost with it
                        ready.remove(slot)
                        start(1)
                    task.losses += 1
                    if task.losses < _MOST_LOSSES:
                        waiting.append(task)  # after all others: it may be what ends workers
                    else:
                        yield given_up(task.item, str(error).split("\n")[0])
                else:
                    yield result

    def end() -> None:
        ending = [(slot, slot.actor.end.remote()) for slot in ready]
        for slot, call in ending:
            try:
                answer(call)
            except RayActorError:
                ready.remove(slot)
                start(1)

    try:
        start(0)
        for _ in range(_MOST_LOSSES):
            yield from work()
            end()
            waiting.extend(map(_Task, lost()))
            if not waiting:
                return
            begin(ready)
            ready.clear()
        yield from (given_up(task.item, "before it handed on what it had made") for task in waiting)
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

    def __init__(self, processors: int) -> None:
        self._processors, self._context = processors, ExitStack()

    def begin(self, make_work: Callable[[int], AbstractContextManager[Callable[[Any], Any]]]) -> None:
        self._work = self._context.enter_context(make_work(self._processors))

    def work(self, item: Any) -> Any:
        return self._work(item)

    def end(self) -> None:
        self._context.close()
