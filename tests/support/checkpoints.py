"""Checkpoints of tiny networks, to be saved, damaged and loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ccln.model import CCLN, Checkpoint, CheckpointError, ModelConfig, Network, load_checkpoint
from support.networks import tensors

CONFIG = ModelConfig(
    visual_height=2,
    visual_width=3,
    visual_channels=8,
    audio_channels=6,
    class_count=3,
    segment_count=4,
    width=16,
    members=2,
    heads=2,
    embedding_width=8,
)
NAMES = ("Church bell", "Männerstimme, Rede", "犬")
SPECIFICATION = {"visual": {"name": "vgg19", "size": [7, 7, 512]}, "audio": {"rate_hz": 16000, "mean": 0.1}}
TRAINING = {"seed": 3, "test": {"segment_accuracy": 0.75, "event_f1": None}}


def checkpoint(seed: int = 0, names: tuple[str, ...] = NAMES, config: ModelConfig = CONFIG) -> Checkpoint:
    torch.manual_seed(seed)
    return Checkpoint(CCLN(config).eval(), names, SPECIFICATION, TRAINING)


def read(model: Network) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    visual, audio = (torch.randn(2, 4, *shape, generator=random) for shape in ((2, 3, 8), (6,)))
    with torch.inference_mode():
        output = model(visual, audio)
    return list(tensors(output).values())


def same_outputs(first: Network, second: Network) -> bool:
    return all(torch.equal(a, b) for a, b in zip(read(first), read(second), strict=True))


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config.pop("config_sha256", None)  # as earlier releases and other programs write it
    change(config)
    path.write_text(json.dumps(config), "utf-8")


def refused(folder: Path, file: str, reason: str | None = None) -> None:
    """Assert that the error of loading names the file, the cause and the remedy."""
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert str(folder / file) in message
    assert message.endswith("Train a model (ccln-train) or name the folder of another run.")
    assert len(message) < len(str(folder)) + 500
