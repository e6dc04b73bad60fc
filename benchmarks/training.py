"""What the training loop costs on top of the network: an epoch of training against the bare steps of the network.

The data set has AVE's real rows and splits, and simulated features of the published shapes and sparsity; it is made
once (2 GiB) and kept. Both sides run in turn, several times, and the fastest of each counts: other work on the machine
only ever makes a side slower.

uv run python benchmarks/training.py --labels FOLDER --work FOLDER [--task weak] [--rounds 3]

--labels is a folder with AVE's Annotations.txt, trainSet.txt, valSet.txt and testSet.txt.
"""

import argparse
import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import torch
from accelerate.utils import set_seed
from torch import nn

from ccln.cache import FeatureCache, Features
from ccln.model import CCLN
from ccln.pipeline.datasets import read_dataset
from ccln.pipeline.exchange.names import published_background_name, published_name
from ccln.pipeline.fitting import Task, fit
from ccln.pipeline.memory import keep_freed_memory
from ccln.pipeline.settings import TrainingConfig
from ccln.pipeline.training import prepare

READY_BATCHES, BACKGROUND_CLIPS = 8, 178
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
    """Seconds of each epoch of `fit`, validation, log and kept state included."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        fit(
            model,
            task,
            replace(training, epochs=epochs),
            Path(folder),
            identity={},
            progress=lambda *_: times.append(time.perf_counter()),
        )
    return [end - start for start, end in pairwise(times)]


def seconds_of_bare_steps(model: nn.Module, task: Task, training: TrainingConfig) -> float:
    """Seconds of as many forward and backward passes and optimizer steps as an epoch has, on ready-made batches."""
    size = training.batch_size
    random = torch.Generator().manual_seed(0)
    batches = [
        task.augmented(task.clips.__getitems__(list(range(start, start + size))), random)
        for start in range(0, READY_BATCHES * size, size)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), training.learning_rate)
    model.train()
    start, left = time.perf_counter(), len(task.clips)
    while left > 0:
        for batch in batches[: -(-left // size)]:
            part = {name: value[:left] for name, value in batch.items()}  # the last batch of an epoch is smaller
            optimizer.zero_grad(set_to_none=True)
            task.losses(model, part, 1.0)["total"].backward()
            nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
            optimizer.step()
            left -= size
    return time.perf_counter() - start


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
    parser.add_argument("--task", choices=["supervised", "weak"], default="supervised")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    keep_freed_memory()
    cache = FeatureCache(arguments.work / "cache")
    if not cache.root.exists():
        unfinished = FeatureCache(arguments.work / "cache.unfinished")
        simulate(arguments.labels, unfinished)
        unfinished.root.rename(cache.root)
    with peak_memory() as peak:
        experiment = prepare(arguments.labels, task=arguments.task, cache=cache.root)
        config = experiment.model_config()
        task, training = experiment.task, experiment.settings.training
        bare, whole = [], []
        for _ in range(arguments.rounds):
            set_seed(0)
            whole += seconds_of_epochs(CCLN(config), task, training, 1)
            bare.append(seconds_of_bare_steps(CCLN(config), task, training))
    parameters = sum(parameter.numel() for parameter in CCLN(config).parameters())
    print(f"{len(task.clips)} training clips, {parameters:,} parameters")
    print(f"epoch of training    {min(whole):8.2f} s  (all: {', '.join(f'{value:.2f}' for value in whole)})")
    print(f"bare steps           {min(bare):8.2f} s  (all: {', '.join(f'{value:.2f}' for value in bare)})")
    print(f"ratio                {min(whole) / min(bare):8.3f}")
    print(f"peak memory          {peak[0] / GIB:8.2f} GiB on top of the page cache")


if __name__ == "__main__":
    main()
