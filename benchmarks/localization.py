"""What ccln-localize costs beside its work proper, and what an hour of video costs it.

    uv run python benchmarks/localization.py --clip FILE [--work FOLDER] [--checkpoint RUN] [--rounds N]

- cold start: the whole process on a clip of ten seconds against one that only imports torch, and decoding and the
  networks alone; and where a process spends its time. All of it runs in turn, in fresh processes, and the fastest of
  each counts: other work on the machine only ever makes a side slower.
- an hour, if there is --work: seconds and peak memory of a made-up video of an hour and of one of five minutes, in
  fresh processes. The videos are made once, in that folder, and kept. Memory is what the process and the one that
  decodes for it have to themselves, without pages of files.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from long_video import HEIGHT, MINUTE_SECONDS, RATE_HZ, WIDTH, repeated_minute

SHORT_MINUTES, LONG_MINUTES = 5, 60
COMMAND = "from ccln.pipeline.commands.localize import localize_command; localize_command()"
# The command, with timers around the functions it calls, put there when their modules are imported.
CLOCKED = """
import time
begun = time.perf_counter()
import builtins, json, sys
COMMAND, MODEL, ENGINE = "ccln.pipeline.commands.localize", "ccln.model", "ccln.pipeline.localize.localize"
parent_began, seconds, plain_import = float(sys.argv.pop(1)), {}, builtins.__import__

def clocked(part, work):
    def call(*args, **options):
        start = time.perf_counter()
        try:
            return work(*args, **options)
        finally:
            seconds[part] = seconds.get(part, 0) + time.perf_counter() - start
    return call

def importing(name, *rest, **named):
    if name not in (COMMAND, "torch", MODEL, ENGINE) or name in sys.modules:
        return plain_import(name, *rest, **named)
    module = clocked(f"import {name}", plain_import)(name, *rest, **named)
    if name == MODEL:
        module.load_checkpoint = clocked("load the checkpoint", module.load_checkpoint)
    if name == ENGINE:
        from ccln.pipeline.decode.processes import Decoders
        from ccln.pipeline.localize import localizer
        each, network = Decoders.each, localizer.WindowedNetwork
        def decoding(*args, **options):
            clips = each(*args, **options)
            return iter(clocked("waiting for decoding", lambda: next(clips, None)), None)
        Decoders.each = decoding
        localizer.clip_features = clocked("extractors", localizer.clip_features)
        network.add, network.predictions = clocked("CCLN", network.add), clocked("CCLN", network.predictions)
        localizer.load_extractors = clocked("load the extractors", localizer.load_extractors)
    return module

builtins.__import__ = importing
from ccln.pipeline.commands.localize import localize_command
try:
    localize_command()
except SystemExit as stop:
    assert not stop.code
ended = time.perf_counter()
engine, torch = (sum(seconds.pop(f"import {name}") for name in names) for names in ((MODEL, ENGINE), ("torch",)))
parts = {"start of the interpreter": begun - parent_began, "import of the command": seconds.pop(f"import {COMMAND}"),
    "import of torch": torch, "import of the rest": engine - torch, **seconds}
parts["parsing, printing and the rest"] = ended - parent_began - sum(parts.values())
print(json.dumps([parts, ended]), file=sys.stderr)
"""
# Decoding and networks alone, in one process: the time of the first call, and the fastest.
WARM = """
import json, sys, time
from pathlib import Path
from ccln.model import load_checkpoint
from ccln.pipeline import defaults
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.localize.localizer import Localizer
clip, checkpoint = sys.argv[1:]
keep_freed_memory()

class InThisProcess:
    def each(self, function, *arguments, **options):
        return function(*arguments, **options)
    def once(self, function, *arguments):
        return function(*arguments)

localizer = Localizer(load_checkpoint(Path(checkpoint or defaults.latest_localizing_run() or defaults.PRETRAINED)))
seconds = []
for _ in range(6):
    start = time.perf_counter()
    localizer.locate(Path(clip), InThisProcess())
    seconds.append(time.perf_counter() - start)
print(json.dumps([seconds[0], min(seconds)]))
"""
# The command, with a thread that records the peak memory of each five minutes of the video, in bytes.
WATCHED = """
import json, sys, threading
import psutil
from ccln.pipeline.commands.localize import localize_command
from ccln.pipeline.decode.processes import Decoders
peaks, process, stop, each = [0], psutil.Process(), threading.Event(), Decoders.each

def watched(*args, **options):
    for clip in each(*args, **options):
        if getattr(clip, "start_seconds", 0) >= 300 * len(peaks):
            peaks.append(0)
        yield clip

def watch():
    while not stop.wait(0.05):
        used = [part.memory_info() for part in (process, *process.children())]
        peaks[-1] = max(peaks[-1], sum(now.rss - now.shared for now in used))

Decoders.each = watched
thread = threading.Thread(target=watch)
thread.start()
try:
    localize_command()
except SystemExit as end:
    assert not end.code
finally:
    stop.set()
    thread.join()
print(json.dumps(peaks), file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    network = [] if options.checkpoint is None else ["--checkpoint", str(options.checkpoint)]
    cold_start(options.clip, network, str(options.checkpoint or ""), options.rounds)
    if options.work is not None:
        long_videos(options.work, network)


def cold_start(clip: Path, network: Sequence[str], checkpoint: str, rounds: int) -> None:
    whole, torch, first, warm, breakdowns = [], [], [], [], []
    for _ in range(rounds):
        whole.append(timed(COMMAND, str(clip), *network)[0])
        torch.append(timed("import torch")[0])
        start = time.perf_counter()
        _, process = timed(CLOCKED, str(start), str(clip), *network)
        parts, ended = json.loads(process.stderr.splitlines()[-1])
        breakdowns.append(parts | {"end of the process": time.perf_counter() - ended})
        cold, best = json.loads(timed(WARM, str(clip), checkpoint)[1].stdout)
        first.append(cold)
        warm.append(best)
    print(f"{clip.name}, the fastest of {rounds} rounds, seconds")
    show("ccln-localize, the whole process", min(whole))
    for part, seconds in min(breakdowns, key=lambda parts: sum(parts.values())).items():
        show(f"  {part}", seconds)
    show("decoding and networks alone, first time", min(first))
    show("decoding and networks alone, warm", min(warm))
    show("python -c 'import torch', the whole process", min(torch))
    show("RATIO of ccln-localize to import torch, decoding and networks", min(whole) / (min(torch) + min(first)))


def long_videos(work: Path, network: Sequence[str]) -> None:
    work.mkdir(parents=True, exist_ok=True)
    peaks = {}
    for minutes in (SHORT_MINUTES, LONG_MINUTES):
        video = repeated_minute(work, minutes)
        seconds, process = timed(WATCHED, str(video), *network, "--format", "json")
        peaks[minutes] = [peak / 2**20 for peak in json.loads(process.stderr.splitlines()[-1])]
        print(f"{minutes} minutes, {WIDTH} x {HEIGHT} at {RATE_HZ} Hz")
        show("seconds", seconds)
        show("times as fast as it plays", minutes * MINUTE_SECONDS / seconds)
        show("peak memory, MiB", max(peaks[minutes]))
    show("peak memory in minutes 5 to 10 of the hour, MiB", peaks[LONG_MINUTES][1])
    show("peak memory in its last five minutes, MiB", peaks[LONG_MINUTES][-1])
    show("RATIO of peak memory, the hour to five minutes", max(peaks[LONG_MINUTES]) / max(peaks[SHORT_MINUTES]))


def timed(program: str, *arguments: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    start = time.perf_counter()
    process = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(process.stderr)
    return time.perf_counter() - start, process


def show(what: str, value: float) -> None:
    print(f"{what:<60}{value:10.3f}")


if __name__ == "__main__":
    main()
