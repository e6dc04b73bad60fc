"""What opening, describing and resuming cost with caches of up to a million clips.

    python benchmarks/scale.py --work DIR [--files 1000 10000 100000] [--packed 100000 1000000]

The caches are made in DIR, and are used again: of a file a clip, and of shards of a thousand clips. Features are of ten
numbers a second, and a video is a file of a few bytes, so that what is measured is what every clip costs whatever it
holds. Files are written without waiting for the disk, else a million of them would take hours.

Measured in a process each: CPU seconds (user and system), without the start of the interpreter and imports, and peak
memory of the whole process (with torch, 0.6 GiB).

- open: list the specifications and find one clip by its name; cold without an index, warm with one.
- info: what `ccln-cache info` does.
- list: find the videos in their folder.
- resume: find that no clip is missing, as `ccln-extract` does with listed videos. The contents of the videos are known
  from an earlier run, as they are to every run but the first, which takes as long as to read all files. The first time
  on a machine all features are read once; after that only what has changed.
"""

import argparse
import gc
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ccln.cache import FeatureCache, Features, describe, feature_key, specification_digest
from ccln.cache.entry import Entry, encode
from ccln.cache.keys import shard_name
from ccln.cache.shards import write_shard
from ccln.extractors.contract import DECODING_RULES
from ccln.pipeline.data import find_clips
from ccln.pipeline.extract.run import extract_features
from ccln.pipeline.extract.source import state_of as state_of_source

CLIPS_PER_SHARD = CLIPS_PER_FOLDER = 1000
SPECIFICATION = {"visual": {"name": "none"}, "audio": {"name": "none"}}
FEATURES = Features(torch.zeros(10, 1, 1, 4, dtype=torch.float16), torch.zeros(10, 6), 10.0, (), {}, DECODING_RULES)
ACTIONS = ("open, cold", "open, warm", "info", "list", "resume, first", "resume")


def video(folder: Path, number: int) -> Path:
    return folder / f"{number // CLIPS_PER_FOLDER:04}" / f"clip-{number:07}.mp4"


def content(number: int) -> bytes:
    return b"video %d" % number


def make_videos(folder: Path, count: int) -> None:
    for number in range(count):
        path = video(folder, number)
        if number % CLIPS_PER_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(number))
        os.utime(path, (1e9, 1e9))  # long ago, as most videos were written


def entries(folder: Path, count: int) -> Iterator[tuple[Entry, bytes]]:
    """By key."""
    digest = specification_digest(SPECIFICATION)
    sources = [hashlib.sha256(content(number)).hexdigest() for number in range(count)]
    for _, number in sorted((feature_key(source, digest), number) for number, source in enumerate(sources)):
        header, data = encode(
            FEATURES,
            source_path=str(video(folder, number)),
            source_sha256=sources[number],
            specification=SPECIFICATION,
        )
        yield Entry(header, FEATURES), data


def make_files(cache: Path, videos: Path, count: int) -> None:
    for entry, data in entries(videos, count):
        path = FeatureCache(cache).path_of(entry.header.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def make_shards(cache: Path, videos: Path, count: int) -> None:
    (cache / "shards").mkdir(parents=True)
    batch: list[Entry] = []
    for done, (entry, _) in enumerate(entries(videos, count), start=1):
        batch.append(entry)
        if len(batch) == CLIPS_PER_SHARD or done == count:
            name = shard_name([entry.header.key for entry in batch])
            with (cache / "shards" / f"{name}.safetensors").open("wb") as file:
                write_shard(file, batch)
            batch = []


def make_once(folder: Path, make: Callable[[], None]) -> None:
    """Make a folder if it is not there whole."""
    if not (done := folder.with_suffix(".made")).exists():
        shutil.rmtree(folder, ignore_errors=True)
        make()
        done.touch()


def know_videos(cache: Path, videos: Path, count: int) -> None:
    """Let the cache know the contents of the videos, as if an earlier run had read them."""
    for begin in range(0, count, 100 * CLIPS_PER_FOLDER):
        numbers = range(begin, min(count, begin + 100 * CLIPS_PER_FOLDER))
        states = [(number, state_of_source(video(videos, number))) for number in numbers]
        digests = {state.text(): hashlib.sha256(content(number)).hexdigest() for number, state in states if state}
        FeatureCache(cache).keep_source_digests(digests)


def act(action: str, cache: Path, videos: Path, count: int) -> float:
    """CPU seconds that it takes."""
    files = [str(video(videos, number)) for number in range(count)] if action.startswith("resume") else []
    gc.freeze()  # as ccln-extract does after its imports
    store, started = FeatureCache(cache), time.process_time()
    if action.startswith("open"):
        (digest,) = store.specifications()
        assert len(store.find(digest, video(videos, 0).stem)) == 1
    elif action == "info":
        describe(store)
    elif action == "list":
        assert len(find_clips([videos])) == count
    else:
        nothing: Any = SimpleNamespace(
            specification=SPECIFICATION,
            device=torch.device("cpu"),
            preset=SimpleNamespace(visual=SimpleNamespace(precision="float32")),
        )
        summary = extract_features(files, nothing, store)
        assert (summary.cached, summary.failed) == (count, ())
    return time.process_time() - started


def measured(action: str, cache: Path, videos: Path, count: int) -> tuple[float, float]:
    """CPU seconds and peak memory in bytes."""
    command = [sys.executable, __file__, "--measure", action, str(cache), str(videos), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(json.loads(done.stdout))


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        seconds = act(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--files", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--packed", type=int, nargs="*", default=[100_000, 1_000_000])
    arguments = parser.parse_args()
    print("CPU seconds, and GiB at the peak")
    print(f"{'':20}" + "".join(f"{action:>20}" for action in ACTIONS))
    for kind, make, counts in (("files", make_files, arguments.files), ("packed", make_shards, arguments.packed)):
        for count in counts:
            videos, cache = arguments.work / f"videos-{count}", arguments.work / f"{kind}-{count}"
            make_once(videos, partial(make_videos, videos, count))
            make_once(cache, partial(make, cache, videos, count))
            (cache / "index.sqlite").unlink(missing_ok=True)
            print(f"{count:10} {kind:9}", end="", flush=True)
            for action in ACTIONS:
                if action == "resume, first":
                    know_videos(cache, videos, count)
                seconds, peak_bytes = measured(action, cache, videos, count)
                print(f"{seconds:12.2f} s{peak_bytes / 2**30:6.2f}", end="", flush=True)
            print(flush=True)


if __name__ == "__main__":
    main()
