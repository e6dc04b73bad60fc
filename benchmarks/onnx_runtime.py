"""ONNX Runtime beside torch: CPU time of the networks of preset `light` on one clip, and how far their features differ.

    uv run python benchmarks/onnx_runtime.py CLIP [--threads N] [--rounds N]

Both get what extraction gives: four frames at once, ten patches. They take turns; of each the fastest round counts.
CPU time is that of all threads, so that other work on the machine changes little. How to hold a process to AVX2 says
avx2.c.
"""

import argparse
import copy
import io
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from ccln.extractors import load_extractors, pick_precision, preset_named, preset_with
from ccln.extractors.contract import VisualChoice
from ccln.extractors.efficientnet_lite0 import build
from ccln.extractors.extraction import fold_batch_norms
from ccln.extractors.log_mel import PatchExtractor
from ccln.pipeline.commands.console import keep_freed_memory
from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.extract.features import frame_request

FRAMES_AT_ONCE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    preset = preset_named("light")
    precisions = dict.fromkeys(["float32", pick_precision("auto", "cpu")])
    by_precision = {name: load_extractors(preset_with(preset, precision=name)) for name in precisions}
    extractors = by_precision["float32"]
    clip = decode_clip(options.clip, frame_request(extractors))
    frames = torch.from_numpy(clip.frames).flatten(0, 1)
    ears = extractors.audio_network
    assert isinstance(ears, PatchExtractor)
    patches = ears.front_end(torch.from_numpy(clip.waveform).view(len(clip.frames), -1))
    visual = fold_batch_norms(build(preset.visual, None), normalised(frames[:1], preset.visual))
    run_visual = session(visual, normalised(frames[:FRAMES_AT_ONCE], preset.visual), options.threads)
    run_audio = session(ears.network, patches, options.threads)
    works: dict[str, Callable[[], np.ndarray]] = {
        f"visual, torch, {name}": lambda name=name: by_precision[name].visual(clip.frames) for name in precisions
    }
    works |= {
        "visual, ONNX Runtime, float32": lambda: segment_means(
            [run_visual(normalised(chunk, preset.visual).numpy()) for chunk in frames.split(FRAMES_AT_ONCE)],
            len(clip.frames),
        ),
        "audio, torch": lambda: in_torch(ears.network, patches),
        "audio, ONNX Runtime": lambda: run_audio(patches.numpy()),
    }
    print(f"{torch.backends.cpu.get_cpu_capability()}, threads: {options.threads}; CPU ms a clip, difference by norm")
    show(works, options.rounds)


def show(works: dict[str, Callable[[], np.ndarray]], rounds: int) -> None:
    best, found = dict.fromkeys(works, float("inf")), {}
    for _ in range(rounds + 1):
        for name, work in works.items():
            started = time.process_time()
            found[name] = work()
            best[name] = min(best[name], time.process_time() - started)
    for name, seconds in best.items():
        wanted = found["audio, torch" if name.startswith("audio") else "visual, torch, float32"]
        difference = np.linalg.norm(found[name] - wanted) / np.linalg.norm(wanted)
        print(f"  {name:<40}{1000 * seconds:10.1f}{difference:10.1e}")


def session(network: nn.Module, example: Tensor, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """The network in ONNX Runtime."""
    file = io.BytesIO()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(action="ignore"):  # the exporter that needs no further package is an old one
        torch.onnx.export(
            copy.deepcopy(network).to(memory_format=torch.contiguous_format),
            (example,),
            file,  # pyright: ignore[reportArgumentType]: the old exporter takes it
            input_names=["input"],
            dynamic_axes={"input": {0: "item"}},
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    run = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"]).run
    return lambda batch: np.asarray(run(None, {"input": batch})[0])


def normalised(frames: Tensor, choice: VisualChoice) -> Tensor:
    """Bytes (frame, height, width, 3) to what the network takes, (frame, 3, height, width)."""
    mean, std = torch.tensor(choice.mean)[:, None, None], torch.tensor(choice.std)[:, None, None]
    return ((frames.permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous()


def segment_means(chunks: list[np.ndarray], segments: int) -> np.ndarray:
    """Maps (frame, channel, height, width) to what extraction gives, (segment, height, width, channel)."""
    maps = np.concatenate(chunks).transpose(0, 2, 3, 1)
    return maps.reshape(segments, -1, *maps.shape[1:]).mean(1)


def in_torch(network: nn.Module, batch: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return network(batch).numpy()


if __name__ == "__main__":
    main()
