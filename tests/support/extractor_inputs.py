"""What the tests of the extractors share: inputs, random weights, and a small network that is quick to run."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from ccln.extractors import PRESETS, AudioChoice, Preset, VisualChoice, preset_with, registry

RATE_HZ = 16_000
LIGHT, AVE, LEGACY = PRESETS["light-log-mel"], PRESETS["ave"], PRESETS["ave-legacy"]
CORNERS = list(itertools.product(range(2), range(2)))


def build_visual(choice: VisualChoice, weights: Path | None) -> torch.nn.Module:
    return registry.visual_extractor(choice.name).build(choice, weights)


def build_audio(choice: AudioChoice, weights: Path | None) -> torch.nn.Module:
    return registry.audio_extractor(choice.name).build(choice, weights)


def waveforms() -> dict[str, np.ndarray]:
    """One second each, float32."""
    random = np.random.default_rng(7)
    seconds = np.arange(RATE_HZ) / RATE_HZ
    pitch_hz = 140 + 60 * np.sin(2 * np.pi * 1.5 * seconds)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    formants = sum(np.exp(-(((np.arange(1, 40) * 140 - hz) / 250) ** 2)) for hz in (500, 1500, 2500))
    syllables = np.clip(np.sin(2 * np.pi * 4 * seconds), 0, None)
    voice = syllables * sum(part * np.sin(n * phase) for n, part in enumerate(np.asarray(formants), 1))
    return {
        "silence": np.zeros(RATE_HZ, np.float32),
        "tone at 440 Hz": np.sin(2 * np.pi * 440 * seconds).astype(np.float32),
        "tone between bins": (0.3 * np.sin(2 * np.pi * 1234.5 * seconds + 1)).astype(np.float32),
        "constant": np.full(RATE_HZ, 0.5, np.float32),
        "chirp": np.sin(2 * np.pi * (50 + 3900 * seconds) * seconds).astype(np.float32),
        "gliding voice in syllables": (voice / np.abs(voice).max()).astype(np.float32),
        "noise": random.uniform(-1, 1, RATE_HZ).astype(np.float32),
        "quiet noise": (1e-4 * random.standard_normal(RATE_HZ)).astype(np.float32),
        "click in the last sample a frame sees": np.eye(1, RATE_HZ, 97 * 160 + 399, dtype=np.float32)[0],
        "click at the start": np.eye(1, RATE_HZ, 3, dtype=np.float32)[0],
    }


def random_state(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Weights that keep a signal's size through ReLU layers, small biases."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.1 if len(shape) == 1 else (2 / np.prod(shape[1:])) ** 0.5)
        for name, shape in shapes.items()
    }


def random_frames(preset: Preset, segments: int, seed: int) -> np.ndarray:
    size = (segments, preset.frames_per_segment, preset.visual.frame_height, preset.visual.frame_width, 3)
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def random_waveform(segments: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, segments * RATE_HZ).astype(np.float32)


def with_size(preset: Preset, height: int, width: int) -> Preset:
    return replace(preset, visual=replace(preset.visual, frame_height=height, frame_width=width))


def tiny_preset() -> Preset:
    return with_size(preset_with(LIGHT, visual="timm:test_resnet"), 64, 96)


def save_timm(name: str, file: Path, seed: int = 0) -> Any:
    """A timm model with random weights and non-trivial batch statistics; its state is saved to `file`."""
    import timm  # takes seconds, and few tests need it

    torch.manual_seed(seed)
    model: Any = timm.create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            torch.nn.init.normal_(module.running_mean, std=0.1)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return model
