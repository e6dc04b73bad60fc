"""How near extraction comes to the limit of the hardware, and how much faster it is than the usual loop.

    uv run python benchmarks/extraction.py VIDEO_FOLDER [--preset light|vgg19] [--clips N] [--rounds N]

Everything is measured in one run, in turn, on the same clips; what is printed are medians over the rounds. The limit is
what the cores could do if nothing were lost between the stages: 1 / (seconds a clip of the network alone, on ready-made
batches in the same precision, on all cores + seconds a clip of decoding and scaling alone, on all cores), for both need
the same cores. `vgg19` is VGG-19 at 16 frames a second with VGGish, both with random weights: speed does not depend on
them. Decoders are compared in CPU time of all threads: other work on the machine changes the wall time of those most
that never wait, and each clip gets a core of its own anyway.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from av.video.stream import VideoStream

from ccln.extractors import Preset, load_extractors, pick_precision, preset_named, preset_with
from ccln.extractors.registry import audio_extractor, visual_extractor
from ccln.extractors.vggish import Vggish
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.data import find_videos
from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.extract.features import frame_request

CORES = len(os.sched_getaffinity(0))
EXTRACT = """
import json, resource, sys
from ccln import extract
from ccln.pipeline.commands.console import keep_freed_memory
keep_freed_memory()
summary = extract(**json.loads(sys.argv[1]))
assert not summary.failed, summary.failed
peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([summary.seconds / summary.done, peak_gib]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--preset", choices=("light", "vgg19"), default="light")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()
    files = find_videos([options.videos])
    files = files[:: max(1, len(files) // options.clips)][: options.clips]
    name = "light" if options.preset == "light" else "ave"
    preset = preset_named(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = random_weights(folder) if options.preset == "vgg19" else {}
        silent = [without_audio(file, folder / f"{number}.mkv") for number, file in enumerate(files)]
        rounds = []
        for number in range(options.rounds):
            cache = folder / f"cache{number}"
            rounds.append(measure(name, files, weights, cache) | measure_decoders(preset, silent))
    print(f"{options.preset}, {len(files)} clips, {CORES} cores, medians of {options.rounds} rounds")
    for name in rounds[0]:
        print(f"  {name:<52}{statistics.median(measured[name] for measured in rounds):10.3f}")


def measure(name: str, files: Sequence[Path], weights: dict[str, str], cache: Path) -> dict[str, float]:
    preset = preset_named(name)
    extractors = load_extractors(preset_with(preset, precision=pick_precision("auto", "cpu")), **weights)
    request = frame_request(extractors)
    decoding = seconds_a_clip(lambda file: decode_clip(file, request), files)
    ready = [decode_clip(file, request) for file in files[: 2 * CORES]]
    ready = [ready[number % len(ready)] for number in range(len(files))]
    # The better of the two ways to use all cores: a clip on each, or each clip on all.
    network = min(
        seconds_a_clip(lambda clip: extractors(clip.frames, clip.waveform), ready, workers) for workers in (CORES, 1)
    )
    arguments = json.dumps({"videos": [str(f) for f in files], "cache": str(cache), "preset": name, **weights})
    process = subprocess.run([sys.executable, "-c", EXTRACT, arguments], check=True, capture_output=True, text=True)
    whole, peak_gib = json.loads(process.stdout.splitlines()[-1])
    plain = plain_loop(preset, files[: max(2, len(files) // 4)], weights)
    return {
        "ccln-extract, clips/s": 1 / whole,
        "network alone, all cores, s a clip": network,
        "decoding and scaling alone, all cores, s a clip": decoding,
        "limit, clips/s": 1 / (network + decoding),
        "RATIO of ccln-extract to the limit": (network + decoding) / whole,
        "plain float32 loop, one file at a time, clips/s": 1 / plain,
        "RATIO of ccln-extract to the plain loop": plain / whole,
        "peak memory of ccln-extract, GiB": peak_gib,
    }


def measure_decoders(preset: Preset, files: Sequence[Path]) -> dict[str, float]:
    """Decoding of video alone, the same frames for all, one clip a core."""
    visual = preset.visual
    request = FrameRequest(visual.frame_height, visual.frame_width, preset.frames_per_segment, visual.interpolation)
    works: dict[str, Callable] = {
        "our decoding, frames only": lambda file: decode_clip(file, request, on_missing="zeros"),
        **{
            f"PyAV {mode}": partial(with_pyav, request=request, mode=mode)
            for mode in ("NONE", "SLICE", "FRAME", "AUTO")
        },
        "decord": partial(with_decord, request=request),
    }
    found = {f"{name}, CPU s a clip": cpu_seconds_a_clip(work, files) for name, work in works.items()}
    ours, *others = found.values()
    return found | {"RATIO of our decoding to the fastest other": ours / min(others)}


def cpu_seconds_a_clip(work: Callable, items: Sequence) -> float:
    with ThreadPoolExecutor(CORES) as threads:
        list(threads.map(work, items[:CORES]))
        started = time.process_time()
        list(threads.map(work, items))
        return (time.process_time() - started) / len(items)


def seconds_a_clip(work: Callable, items: Sequence, workers: int = CORES) -> float:
    """Wall time over the number of items, each worker with its share of the cores."""
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(CORES // workers,)) as threads:
        list(threads.map(work, items[:workers]))  # warm-up: allocations of the first items
        started = time.perf_counter()
        list(threads.map(work, items))
        return (time.perf_counter() - started) / len(items)


def plain_loop(preset: Preset, files: Sequence[Path], weights: dict[str, str]) -> float:
    """Seconds a clip of the usual loop: every frame decoded and kept, each second's frames a batch, one by one."""
    paths = {name: Path(file) for name, file in weights.items()}
    visual = visual_extractor(preset.visual.name).build(preset.visual, paths.get("visual_weights")).eval()
    audio = audio_extractor(preset.audio.name).build(preset.audio, paths.get("audio_weights")).eval()
    torch.set_num_threads(CORES)
    started = time.perf_counter()
    for file in files:
        with av.open(str(file)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        wanted = np.linspace(0, len(frames) - 1, 10 * preset.frames_per_segment).astype(int)
        waveform = torch.from_numpy(decode_clip(file, FrameRequest(8, 8, 1)).waveform)
        with torch.no_grad():
            for indices in wanted.reshape(10, -1):
                batch = torch.from_numpy(np.stack([frames[index] for index in indices])).permute(0, 3, 1, 2).float()
                batch = torch.nn.functional.interpolate(batch.contiguous(), (224, 224), mode="bilinear") / 255
                visual((batch - 0.45) / 0.22).mean(0)
            audio(waveform.view(10, -1))
    return (time.perf_counter() - started) / len(files)


def with_pyav(file: Path, request: FrameRequest, mode: str) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    targets = request.target_times()
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        stream.thread_type = mode
        last = None
        for frame in container.decode(stream):
            while last is not None and len(found) < len(targets) and targets[len(found)] < frame.time:
                scaled = last.reformat(
                    request.width, request.height, "rgb24", interpolation=request.interpolation.upper()
                )
                found.append(scaled.to_ndarray())
            last = frame
            if len(found) == len(targets):
                break
    return found


def with_decord(file: Path, request: FrameRequest) -> np.ndarray:
    import decord

    reader = decord.VideoReader(str(file), width=request.width, height=request.height, num_threads=1)
    starts = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    wanted = np.searchsorted(starts, [float(time) for time in request.target_times()], side="right") - 1
    return reader.get_batch(wanted.clip(0)).asnumpy()


def random_weights(folder: Path) -> dict[str, str]:
    from torchvision.models import vgg19

    torch.manual_seed(0)
    torch.save(vgg19().state_dict(), folder / "visual.pth")
    torch.save(Vggish().state_dict(), folder / "audio.pth")
    return {"visual_weights": str(folder / "visual.pth"), "audio_weights": str(folder / "audio.pth")}


def without_audio(file: Path, copy: Path) -> Path:
    """Copy the video packets alone into a file; returns `copy`."""
    with av.open(str(file)) as source, av.open(str(copy), "w") as target:
        stream: VideoStream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return copy


if __name__ == "__main__":
    main()
