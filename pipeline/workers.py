"""Work on several files at the same time, its results in the files' order."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_PATIENCE_SECONDS = 4.0
"""How long what is in work may go on after the rest was cancelled."""


def worked_on(
    items: Sequence[_Item], work: Callable[[_Item], _Result], workers: int | None = None
) -> Iterator[_Result]:
    """Yield the result of each item in the order of the items, several of which are in work at the same time.

    Each worker is a thread that takes an item through all its stages; what it decodes with is a process of its own (see
    `ccln.pipeline.decode.processes`), for which it mostly waits: together they take one core. Networks that shared the
    cores among their own threads would wait for each other, and for the decoders, at every layer: measured, half the
    speed. They would also add in another order, and an item's result would depend on the number of workers.

    When the caller stops reading, or Ctrl-C stops it, items that wait are cancelled; those in work have a few seconds
    to finish.

    Args:
        items: What to work on.
        work: Any number of threads may call it; an exception that it raises ends the whole.
        workers: Items in work at the same time; as many as there are processors if None.

    Raises:
        ValueError: `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}, but has to be 1 or more")
    workers = workers or processors()
    threads = ThreadPoolExecutor(workers, initializer=_compute_alone)
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(threads.submit(work, item))
            if len(waiting) > 2 * workers:  # not all at once: there may be a million
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        wait(waiting, _PATIENCE_SECONDS)


def _compute_alone() -> None:
    """Let networks run in this thread alone."""
    if torch := sys.modules.get("torch"):  # to listen to videos takes no networks, nor the seconds of importing it
        torch.set_num_threads(1)


def processors() -> int:
    """How many processors this process may use: fewer than there are, in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
