"""Tiny networks and random clips for them."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ccln.model import CCLN, PARTS, ModelConfig, Part
from ccln.model.network import EventNetwork, MemberOutput

SMALL = ModelConfig(
    visual_height=2,
    visual_width=3,
    visual_channels=8,
    audio_channels=6,
    class_count=4,
    segment_count=5,
    width=16,
    members=2,
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


def tensors(output: tuple[Any, ...]) -> dict[str, Tensor]:
    """All tensors of nested (named) tuples by their dotted names, such as "members.1.views.0"."""
    fields = output._asdict() if hasattr(output, "_asdict") else dict(enumerate(output))  # type: ignore
    found: dict[str, Tensor] = {}
    for name, value in fields.items():
        if isinstance(value, Tensor):
            found[str(name)] = value
        elif value is not None:
            found |= {f"{name}.{inner}": tensor for inner, tensor in tensors(value).items()}
    return found


def members_of(model: CCLN) -> list[EventNetwork]:
    return [member for member in model.members if isinstance(member, EventNetwork)]


def integrated_and_outputs(model: CCLN) -> tuple[list[Tensor], tuple[MemberOutput, ...]]:
    """Of each member, what its integration returns for `clips`, and its output."""
    integrated = [results_of(member.integration) for member in members_of(model)]
    outputs = model(*clips()).members
    return [one for (one,) in integrated], outputs


def results_of(module: nn.Module) -> list[Any]:
    """What a module returns from now on, call after call."""
    results: list[Any] = []

    def note(_module: nn.Module, _inputs: object, result: object) -> None:
        results.append(result)

    module.register_forward_hook(note)
    return results
