"""Small data sets whose features are made up, so that training on them takes a moment."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ccln.cache import FeatureCache, Features
from ccln.pipeline.commands.train import TaskName, task_types
from ccln.pipeline.data import read_dataset
from ccln.pipeline.train.config import read_config
from ccln.pipeline.train.run import Experiment, prepare

SPECIFICATION = {"made": "for a test"}
CLASSES = ("Bark", "Cat", "Flute")
CONFIG = "[model]\nwidth = 16\nmembers = 2\nheads = 2\nembedding_width = 8\n[training]\nbatch_size = 4\n"

Row = tuple[str, str | None, int, int]
"""Name, class or None, start and end in seconds."""


def rows_of(split: str, count: int) -> list[Row]:
    """Rows of all classes in turn; every third event fills its clip."""
    spans = [(0, 10) if index // 3 % 3 == 0 else (index % 4, 5 + index % 5) for index in range(count)]
    return [(f"{split}{index}", CLASSES[index % 3], *span) for index, span in enumerate(spans)]


def made_up(row: Row) -> Features:
    """Features in which one channel a class is high in both modalities in the event's seconds, among noise."""
    name, label, start, end = row
    noise = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))
    visual, audio = torch.randn(10, 2, 2, 4, generator=noise), torch.randn(10, 5, generator=noise)
    if label is not None:
        visual[start:end, ..., CLASSES.index(label)] += 5
        audio[start:end, CLASSES.index(label)] += 5
    return Features(visual.half(), audio, 10.0)


def store(cache: FeatureCache, name: str, features: Features) -> None:
    """Keep the features of a source that is found by its name, no video being there."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    cache.write(features, source_sha256=digest, source_path=f"{name}.mp4", specification=SPECIFICATION)


def ave_folder(folder: Path, splits: Mapping[str, Sequence[Row]] | None = None, background: Sequence[str] = ()) -> Path:
    """An AVE folder without videos, by default of 12 training, 6 validation and 6 test rows."""
    splits = splits or {"train": rows_of("train", 12), "val": rows_of("val", 6), "test": rows_of("test", 6)}
    folder.mkdir(parents=True)
    lines = {
        split: "".join(f"{label}&{name}&good&{start}&{end}\n" for name, label, start, end in rows)
        for split, rows in splits.items()
    }
    (folder / "Annotations.txt").write_text("".join(lines.values()))
    for split, text in lines.items():
        (folder / f"{split}Set.txt").write_text(text)
    if background:
        text = "".join(f"Background&{name}&good&0&0\n" for name in background)
        (folder / "backgroundSet.txt").write_text(text)
    return folder


def made_up_set(folder: Path) -> tuple[Path, Path, Path]:
    """The AVE folder of the default rows, a cache of their features, and a config of a tiny network."""
    rows = [row for split, count in (("train", 12), ("val", 6), ("test", 6)) for row in rows_of(split, count)]
    cache = FeatureCache(folder / "cache")
    for row in rows:
        store(cache, row[0], made_up(row))
    config = folder / "tiny.toml"
    config.write_text(CONFIG)
    return ave_folder(folder / "set"), cache.root, config


def prepared(
    data: Path, *, cache: Path, config: Path | None = None, task: TaskName = "supervised", epochs: int | None = None
) -> Experiment:
    """An experiment on a data set, as `ccln-train` prepares it."""
    settings = read_config(config).with_training(epochs=epochs)
    return prepare(read_dataset(data), task_types()[task], FeatureCache(cache), settings)
