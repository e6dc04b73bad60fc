"""What training costs, in one run on a data set of AVE's size.

- the loop: an epoch of training against the bare steps of the network on ready-made batches;
- the network: the share of each part in forward and backward passes, its parameters, an epoch against one of guided
  attention, LSTMs and heads alone, and its steps in bfloat16 and compiled.

The data set has AVE's real rows and splits, and simulated features of the published shapes and sparsity; it is made
once (2 GiB) and kept. What is compared runs in turn, several times, and the fastest of each counts: other work on the
machine only ever makes a side slower.

uv run python benchmarks/training.py --labels FOLDER --work FOLDER [--task weak|cml] [--rounds 3]

--labels is a folder with AVE's Annotations.txt, trainSet.txt, valSet.txt and testSet.txt (and for cml the order files).
"""

import argparse
import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import torch
from accelerate.utils import set_seed
from network_cost import (
    Batch,
    PlainNetwork,
    PlainTask,
    ready_batches,
    seconds_by_precision,
    seconds_of_steps,
    shares,
)
from torch import nn

from ccln.cache import FeatureCache, Features
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.commands.train import task_types
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.published import published_background_name, published_name
from ccln.pipeline.train.config import TrainingConfig
from ccln.pipeline.train.loop import train_network
from ccln.pipeline.train.run import prepare
from ccln.pipeline.train.tasks import Task

READY_BATCHES, BACKGROUND_CLIPS, MOST_PARAMETERS = 8, 178, 6_000_000
GIB = 1 << 30


def simulate(labels: Path, cache: FeatureCache) -> None:
    """Features for every row: VGG-19's map, about half of it zero, and VGGish's vector, about two thirds of it zero."""
    specification = {"simulated": "AVE"}
    rows = {published_name(clip.row, clip.video_id) for clip in read_dataset(labels).clips if clip.row is not None}
    random = torch.Generator().manual_seed(0)
    for name in sorted(rows | {published_background_name(index) for index in range(BACKGROUND_CLIPS)}):
        features = Features(
            torch.randn(10, 7, 7, 512, generator=random).relu().half(),
            (torch.randn(10, 128, generator=random) - 0.4).relu(),
            10.0,
        )
        digest = hashlib.sha256(name.encode()).hexdigest()
        cache.write(features, source_sha256=digest, source_path=name, specification=specification)


def seconds_of_epochs(model: nn.Module, task: Task, training: TrainingConfig, epochs: int) -> list[float]:
    """Seconds of each epoch of `train_network`, validation, log and kept state included."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        train_network(
            model,
            task,
            replace(training, epochs=epochs),
            Path(folder),
            identity={},
            progress=lambda *_: times.append(time.perf_counter()),
        )
    return [end - start for start, end in pairwise(times)]


def epoch_of(batches: Sequence[Batch], clips: int) -> list[Batch]:
    """Ready-made batches over and over until there were as many clips as an epoch has; the last batch is smaller."""
    size = len(batches[0]["audio"])
    return [
        {name: value[: clips - start] for name, value in batches[number % len(batches)].items()}
        for number, start in enumerate(range(0, clips, size))
    ]


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The most bytes of this process that are not of files, in a list of one."""
    peak, stop, process = [0], threading.Event(), psutil.Process()

    def watch() -> None:
        while not stop.wait(0.05):
            now = process.memory_info()
            peak[0] = max(peak[0], now.rss - now.shared)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--task", choices=list(task_types()), default="supervised")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    keep_freed_memory()
    cache = FeatureCache(arguments.work / "cache")
    if not cache.root.exists():
        unfinished = FeatureCache(arguments.work / "cache.unfinished")
        simulate(arguments.labels, unfinished)
        unfinished.root.rename(cache.root)
    with peak_memory() as peak:
        experiment = prepare(read_dataset(arguments.labels), task_types()[arguments.task], cache)
        config, task, training = experiment.model_config(), experiment.task, experiment.config.training

        def network() -> nn.Module:
            set_seed(0)
            return experiment.new_network()

        batches = ready_batches(task, training, READY_BATCHES)
        whole, bare, plain = [], [], []
        for _ in range(arguments.rounds):
            whole += seconds_of_epochs(network(), task, training, 1)
            bare.append(seconds_of_steps(network(), task, training, epoch_of(batches, len(task.clips))))
            if task.name != "cml":  # whose network has no attention and no LSTM
                plain += seconds_of_epochs(PlainNetwork(config), PlainTask(task), training, 1)
    parameters = sum(parameter.numel() for parameter in network().parameters())
    print(f"{len(task.clips)} training clips, {parameters:,} parameters (at most {MOST_PARAMETERS:,})")
    show("epoch of training", whole)
    show("bare steps of an epoch", bare)
    print(f"RATIO of the epoch to its bare steps            {min(whole) / min(bare):8.3f}")
    if plain:
        show("epoch of attention, LSTMs, heads", plain)
        print(f"RATIO of the epoch to that                      {min(whole) / min(plain):8.3f}")
    print(f"peak memory on top of the page cache            {peak[0] / GIB:8.2f} GiB")
    print("share of forward and backward passes:")
    for part, share in shares(network(), task, batches).items():
        print(f"  {part:<46}{100 * share:8.1f} %")
    seconds = seconds_by_precision(network, task, training, batches, arguments.rounds)
    for name in ("bfloat16", "compiled"):
        print(f"RATIO of steps {name} to float32, uncompiled{'':5}{seconds[name] / seconds['float32']:8.3f}")


def show(what: str, seconds: Sequence[float]) -> None:
    print(f"{what:<48}{min(seconds):8.2f} s  (all: {', '.join(f'{value:.2f}' for value in seconds)})")


if __name__ == "__main__":
    main()
