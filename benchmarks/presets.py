"""What each preset costs by arithmetic: parameters, floating-point operations of a clip, memory, size of its features.

uv run python benchmarks/presets.py [--run PRESET ...]

Networks have their published sizes and no weights (torch's meta device); multiplications and additions count one each.
Texts are left out: they are encoded once. --run computes one clip with random weights, with one thread.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import vgg19
from transformers import ClapConfig, ClapModel, CLIPConfig, CLIPModel, PeAudioVideoConfig, PeAudioVideoModel

from ccln.extractors import PRESETS, Preset, load_extractors
from ccln.extractors.cnn14 import Cnn14
from ccln.extractors.hub_models import PEVideoTower, VisionTower
from ccln.extractors.vggish import Vggish

SEGMENTS = 10


class _Pooled(nn.Module):
    """An audio tower and its projection, without the front end."""

    def __init__(self, tower: Any, projection: Any) -> None:
        super().__init__()
        self.tower, self.projection = tower, projection

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.projection(self.tower(given).pooler_output)


def light(_: Preset) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
    extractors = load_extractors(PRESETS["light"])
    return extractors._visual, extractors.audio_network, (SEGMENTS, 16_000)


def ave(_: Preset) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
    return vgg19().features, Vggish(), (SEGMENTS, 96, 64)


def clip_clap(preset: Preset) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
    vision = {"patch_size": 32, "hidden_act": "gelu"}
    clip, clap = CLIPModel(CLIPConfig(vision_config=vision)), ClapModel(ClapConfig())
    return VisionTower(clip, preset.visual), _Pooled(clap.audio_model, clap.audio_projection), (SEGMENTS, 1, 1001, 64)


def pe_av(preset: Preset) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
    model: Any = PeAudioVideoModel(PeAudioVideoConfig())
    audio = model.audio_model
    tower = PEVideoTower(model.video_model, preset.visual)
    return tower, _Pooled(audio.audio_encoder, audio.audio_head), (SEGMENTS, 1, 48_000)


def cnn14(_: Preset) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
    return vgg19().features, Cnn14(), (SEGMENTS, 101, 64)


BUILT: dict[str, Callable[[Preset], tuple[nn.Module, nn.Module, tuple[int, ...]]]] = {
    "light": light,
    "ave": ave,
    "ave, --audio cnn14": cnn14,
    "clip-clap": clip_clap,
    "pe-av": pe_av,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="*", default=[], choices=list(BUILT))
    chosen = parser.parse_args().run
    torch.set_num_threads(1)
    print("preset | side | parameters | weights in float32 | GFLOPs a clip | features a clip | CPU seconds")
    for name, build in BUILT.items():
        preset = PRESETS[name.partition(",")[0]]
        meta = name not in chosen and name != "light"
        with torch.device("meta" if meta else "cpu"), torch.inference_mode():
            visual, audio, heard = build(preset)
            frames = SEGMENTS * preset.frames_per_segment
            size = (preset.visual.frame_height, preset.visual.frame_width)
            seen = (frames, 3, *size)
            if preset.visual.pooling == "joint":
                seen = (SEGMENTS, preset.frames_per_segment, 3, *size)
            for side, network, shape in (("visual", visual, seen), ("audio", audio, heard)):
                report(name, side, network.eval(), torch.rand(shape), run=name in chosen)


def report(name: str, side: str, network: nn.Module, given: torch.Tensor, run: bool) -> None:
    parts = given.split(4 if given.ndim == 4 and len(given) > SEGMENTS else 1)  # as they are run on a processor
    with FlopCounterMode(display=False) as counter:
        found = [network(part) for part in parts[:1]]
    operations = counter.get_total_flops() * len(given) / len(parts[0])
    features = (2 if side == "visual" else 4) * SEGMENTS * found[0][0].numel()
    parameters = sum(value.numel() for value in network.parameters())
    seconds = ""
    if run:
        begun = time.process_time()
        for part in parts:
            network(part)
        seconds = f"{time.process_time() - begun:.1f}"
    print(
        f"{name} | {side} | {parameters / 1e6:.1f} M | {parameters * 4 / 2**20:.0f} MiB | {operations / 1e9:.0f} | "
        f"{features / 2**10:.0f} KiB | {seconds}"
    )


if __name__ == "__main__":
    main()
