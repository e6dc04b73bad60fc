"""Training that starts from a trained network."""

import json
from pathlib import Path

import pytest
import torch
from support.training_clips import CONFIG, Row, ave_folder, made_up, made_up_set, prepared, rows_of, store

from ccln import evaluate, train
from ccln.cache import FeatureCache
from ccln.model import load_checkpoint
from ccln.pipeline.data import read_dataset
from ccln.pipeline.train.run import Experiment
from ccln.pipeline.train.state import TrainingError

pytestmark = pytest.mark.usefixtures("one_core", "no_curves")

OF = {"Bark": "Cat", "Cat": "Owl", "Flute": "Bark"}
"""What the made-up features of a class are called in the second set: two known classes in another order, one new."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The cache and the config of a set of Bark, Cat and Flute, and a run on it."""
    folder = tmp_path_factory.mktemp("first")
    data, cache, config = made_up_set(folder)
    return cache, config, train(data, cache=cache, config=config, out=folder / "run", epochs=12).folder


def second_set(folder: Path, cache: Path) -> Path:
    splits = {"train": 6, "val": 6, "test": 6}
    rows: dict[str, list[Row]] = {
        split: [(f"second-{name}", label, start, end) for name, label, start, end in rows_of(split, count)]
        for split, count in splits.items()
    }
    for row in (row for of_split in rows.values() for row in of_split):
        store(FeatureCache(cache), row[0], made_up(row))
    renamed = {
        split: [(name, OF[label or ""], start, end) for name, label, start, end in of_split]
        for split, of_split in rows.items()
    }
    return ave_folder(folder, renamed)


def test_shared_classes_keep_their_heads_and_new_ones_get_new_heads(tmp_path: Path, first: tuple[Path, Path, Path]):
    cache, config, run = first
    data, old = second_set(tmp_path / "second", cache), load_checkpoint(run)
    plain = prepared(data, cache=cache, config=config)
    network = Experiment(**{**vars(plain), "init": old}).new_network().eval()
    visual, audio = torch.randn(2, 10, 2, 2, 4), torch.randn(2, 10, 5)
    with torch.inference_mode():
        before, after = old.model(visual, audio), network(visual, audio)
    names = read_dataset(data).class_names
    assert set(names) == {"Bark", "Cat", "Owl"}
    shared = [name for name in names if name != "Owl"]
    here, there = ([of.index(name) for name in shared] for of in (names, old.class_names))
    assert torch.equal(after.audio_logits[..., here], before.audio_logits[..., there])
    assert torch.equal(after.visual_logits[..., here], before.visual_logits[..., there])


def test_a_start_from_a_trained_network_needs_fewer_epochs(tmp_path: Path, first: tuple[Path, Path, Path]):
    cache, config, run = first
    data = second_set(tmp_path / "second", cache)
    started = train(data, cache=cache, out=tmp_path / "started", init=run, epochs=2)
    new = train(data, cache=cache, config=config, out=tmp_path / "new", epochs=2)
    assert started.validation.selection > new.validation.selection + 0.1


def test_the_run_knows_what_it_started_from_and_goes_on_from_there(
    tmp_path: Path, first: tuple[Path, Path, Path], caplog: pytest.LogCaptureFixture
):
    cache, _, run = first
    data = second_set(tmp_path / "second", cache)
    with caplog.at_level("INFO", "ccln"):
        started = train(data, cache=cache, out=tmp_path / "run", init=run, epochs=1).folder
    assert "classes that are new: Owl" in caplog.text
    assert "the data set has not, and that are given up: Flute" in caplog.text
    training = load_checkpoint(started).training
    assert training["init"] == load_checkpoint(run).weights_sha256
    rows = set(training["rows"].split())
    assert rows > set(load_checkpoint(run).training["rows"].split())
    assert evaluate(started, split="train", cache=cache).trained_on == 6
    assert json.loads((started / "metrics.json").read_text())["identity"]["init"] == training["init"]
    again = train(data, cache=cache, out=tmp_path / "again", init=run, epochs=1).folder
    assert (again / "model.safetensors").read_bytes() == (started / "model.safetensors").read_bytes()


def test_clips_to_evaluate_on_that_were_trained_on_are_named(
    tmp_path: Path, first: tuple[Path, Path, Path], caplog: pytest.LogCaptureFixture
):
    cache, _, run = first
    rows = rows_of("train", 12)
    data = ave_folder(tmp_path / "set", {"train": rows_of("val", 6), "val": rows[:6], "test": rows[6:9]})
    train(data, cache=cache, out=tmp_path / "run", init=run, epochs=1)
    assert "was trained on 6 of the 6 validation clips" in caplog.text
    assert "was trained on 3 of the 3 test clips" in caplog.text


def test_a_network_that_does_not_fit_is_refused(tmp_path: Path, first: tuple[Path, Path, Path]):
    cache, _, run = first
    data = second_set(tmp_path / "second", cache)
    wide = tmp_path / "wide.toml"
    wide.write_text(CONFIG.replace("width = 16", "width = 32", 1))
    with pytest.raises(TrainingError, match=r"width = 32 \(it has 16\)"):
        train(data, cache=cache, out=tmp_path / "run", config=wide, init=run)
    with pytest.raises(TrainingError, match="Leave --specification out"):
        train(data, cache=cache, out=tmp_path / "run", specification="00", init=run)
    with pytest.raises(TrainingError, match="is a CCLN, and this task trains a"):
        train(data, cache=cache, out=tmp_path / "run", task="cml", init=run)
