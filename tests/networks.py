"""Tiny networks and random clips for them."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from ccln.model import CCLN, PARTS, ModelConfig, Output, Part

SMALL = ModelConfig(
    visual_height=2,
    visual_width=3,
    visual_channels=8,
    audio_channels=6,
    class_count=4,
    segment_count=5,
    width=16,
    heads=2,
    embedding_width=8,
)
ABLATIONS: list[tuple[Part, ...]] = [
    chosen for count in range(len(PARTS) + 1) for chosen in itertools.combinations(PARTS, count)
]
each_ablation = pytest.mark.parametrize("without", ABLATIONS, ids=lambda parts: "-".join(parts) or "whole")


def network(config: ModelConfig = SMALL, seed: int = 0) -> CCLN:
    torch.manual_seed(seed)
    return CCLN(config)


def clips(config: ModelConfig = SMALL, count: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random features of ``count`` clips: visual and audio."""
    random = torch.Generator().manual_seed(seed)
    shape = (config.visual_height, config.visual_width, config.visual_channels)
    visual = torch.randn(count, config.segment_count, *shape, generator=random)
    return visual, torch.randn(count, config.segment_count, config.audio_channels, generator=random)


def truth(config: ModelConfig = SMALL, count: int = 4) -> tuple[Tensor, Tensor]:
    """Event segments and labels: every second segment of all clips but the last, which has no event."""
    event = (torch.arange(config.segment_count) % 2).float().repeat(count, 1)
    event[-1] = 0
    labels = torch.arange(count) % config.class_count
    labels[-1] = -1
    return event, labels


def tensors(output: Output) -> dict[str, Tensor]:
    found = {name: value for name, value in output._asdict().items() if isinstance(value, Tensor)}
    if output.embeddings is not None:
        for view, pair in output.embeddings._asdict().items():
            found |= {f"{view}_audio": pair[0], f"{view}_visual": pair[1]}
    return found


def results_of(module: nn.Module) -> list[Tensor]:
    """What a module returns from now on, call after call."""
    results: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, result: Tensor) -> None:
        results.append(result)

    module.register_forward_hook(note)
    return results
