"""Weakly supervised training: its loss, and that it uses no segment labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from support.networks import results_of
from support.training_clips import CLASSES, Row, ave_folder, made_up, made_up_set, prepared, rows_of, store
from torch import Tensor
from torch.nn import functional as F

from ccln import train
from ccln.cache import FeatureCache
from ccln.model import CCLN, LossConfig, ModelConfig, weak_loss
from ccln.model.losses import log_both_and_not, multiple_instance_loss, own_segment_labels
from ccln.pipeline.commands.train import TaskName
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.features import load_features
from ccln.pipeline.data.published import published_background_name
from ccln.pipeline.metrics.segments import Scores
from ccln.pipeline.train.config import RunConfig
from ccln.pipeline.train.tasks import WeakLocalization

Made = tuple[Path, Path, Path]


pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_up_set(tmp_path_factory.mktemp("made"))


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "model.safetensors")


# --- The loss ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-1, 2), min_size=1, max_size=5), st.integers(0, 10**6))
def test_the_multiple_instance_loss_agrees_with_its_formula(labels: list[int], seed: int) -> None:
    logits = 3 * torch.randn(len(labels), 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    loss = multiple_instance_loss(F.logsigmoid(logits), F.logsigmoid(-logits), torch.tensor(labels))
    probability = logits.sigmoid()
    expected = 0.0
    for clip, label in enumerate(labels):
        for name in range(3):
            if name == label:
                expected -= probability[clip, :, name].mean().log().item()
            else:
                expected -= sum((1 - probability[clip, t, name]).log().item() for t in range(4)) / 4
    assert loss.item() == pytest.approx(expected / len(labels))


def test_the_class_may_be_in_a_part_of_the_clip_but_others_in_none() -> None:
    somewhere = torch.full((1, 10, 2), -8.0)
    somewhere[0, 3:6, 0] = 8.0

    def loss(logits: Tensor, label: int) -> float:
        return multiple_instance_loss(F.logsigmoid(logits), F.logsigmoid(-logits), torch.tensor([label])).item()

    nowhere = torch.full((1, 10, 2), -8.0)
    assert loss(somewhere, 0) < 1.3 < 5 < loss(nowhere, 0)
    assert loss(nowhere, -1) < 0.01 < 2 < loss(somewhere, -1)
    assert loss(somewhere, 1) > 5


@given(st.integers(-1, 2), st.integers(0, 10**6))
def test_own_labels_are_relative_to_the_most_probable_second(label: int, seed: int) -> None:
    log_both = 3 * torch.randn(1, 10, 3, generator=torch.Generator().manual_seed(seed)) - 9
    event = own_segment_labels(log_both, torch.tensor([label]))[0]
    if label < 0:
        assert event.sum() == 0
        return
    share = log_both[0, :, label].exp() / log_both[0, :, label].exp().max()
    assert event.tolist() == (share >= 0.1).float().tolist()
    shifted = own_segment_labels(log_both - 5, torch.tensor([label]))[0]
    assert torch.equal(shifted, event)


def test_equal_probabilities_make_the_whole_clip_an_event() -> None:
    log_both, _ = log_both_and_not(torch.zeros(2, 10, 3), torch.zeros(2, 10, 3))
    assert own_segment_labels(log_both, torch.tensor([1, -1])).sum(1).tolist() == [10, 0]


PARTS = ((), ("sbi",), ("fee",), ("wccl",), ("sbi", "fee", "wccl"))


@pytest.mark.parametrize("without", PARTS)
@pytest.mark.parametrize("labels", [[0, 1, -1, 0], [-1, -1, -1, -1], [2]])
def test_clip_labels_alone_train_every_part(without: Any, labels: Sequence[int]) -> None:
    torch.manual_seed(0)
    model = CCLN(ModelConfig(2, 2, 4, 5, 3, width=16, members=2, heads=2, embedding_width=8, without=without))
    output = model(torch.randn(len(labels), 10, 2, 2, 4), torch.randn(len(labels), 10, 5))
    losses = weak_loss(output, torch.tensor(labels), LossConfig())
    expected = {"event", "class", "modality", "total"} | ({"fee", "wccl"} - set(without))
    assert losses.keys() == expected
    assert all(torch.isfinite(value) for value in losses.values())
    losses["total"].backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())


def test_the_total_is_the_weighted_sum() -> None:
    torch.manual_seed(0)
    model = CCLN(ModelConfig(2, 2, 4, 5, 3, width=16, members=2, heads=2, embedding_width=8))
    output = model(torch.randn(4, 10, 2, 2, 4), torch.randn(4, 10, 5))
    config = LossConfig(fee_weight=0.7, wccl_weight=0.6, modality_weight=0.5)
    without_branch = output._replace(branch=None)
    alone = [
        weak_loss(without_branch._replace(members=(one,)), torch.tensor([0, 1, -1, 0]), config)
        for one in output.members
    ]
    losses = weak_loss(output, torch.tensor([0, 1, -1, 0]), config, 0.25)
    total = losses["event"] + losses["class"] + 0.5 * losses["modality"] + 0.7 * losses["fee"] + 0.15 * losses["wccl"]
    torch.testing.assert_close(losses["total"], total)
    for name in ("event", "class", "modality"):
        torch.testing.assert_close(losses[name], (alone[0][name] + alone[1][name]) / 2)
        assert not torch.isclose(alone[0][name], alone[1][name])


def test_fees_distance_is_the_mean_over_scenes_with_both_event_and_background() -> None:
    torch.manual_seed(0)
    model = CCLN(ModelConfig(2, 2, 4, 5, 3, width=16, members=2, heads=2, embedding_width=8))
    output, labels = model(torch.randn(8, 10, 2, 2, 4), torch.randn(8, 10, 5)), torch.tensor([0, 1, -1, 0, 2, 2, 1, 0])
    scenes, distances, entropies = [], [], []
    for one in output.members:
        event = own_segment_labels(log_both_and_not(one.audio_logits, one.visual_logits)[0], labels)
        assert one.foreground_logits is not None
        entropies.append(F.binary_cross_entropy(one.foreground_logits.sigmoid(), event))
        found = (one.foreground_logits > 0) & (labels >= 0)[:, None]
        scenes.append(int((found.any(1) & ~found.all(1)).sum()))
        alone = weak_loss(output._replace(branch=None, members=(one,)), labels, LossConfig())
        distances.append(alone["fee"] - entropies[-1])
    assert len(set(scenes)) == 2  # otherwise a mean of the members' means would pass, too
    expected = sum(n * d for n, d in zip(scenes, distances, strict=True)) / sum(scenes) + sum(entropies) / 2
    torch.testing.assert_close(weak_loss(output, labels, LossConfig())["fee"], expected)


# --- What it uses -----------------------------------------------------------------------------------------------------


def test_a_weak_batch_holds_no_segment_labels(made: Made) -> None:
    experiment = prepared(made[0], task="weak", cache=made[1], config=made[2])
    batch = experiment.task.clips.__getitems__([2, 0])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "visual": (2, 10, 2, 2, 4),
        "audio": (2, 10, 5),
        "label": (2,),
    }
    assert batch["label"].tolist() == [2, 0]
    assert batch["visual"].dtype == torch.float16


@pytest.mark.parametrize("task", ["weak", "supervised"])
def test_logged_gates_are_means_over_the_members(made: Made, task: TaskName) -> None:
    experiment = prepared(made[0], task=task, cache=made[1], config=made[2])
    batch = experiment.task.clips.__getitems__([2, 0, 5])
    model = experiment.new_network()
    results = results_of(model)
    losses = experiment.task.losses(model, batch, 1.0)
    assert len(results[0].members) == 2
    passed = [one.gate.mean().item() for one in results[0].members]
    raised = [one.foreground_logits.sigmoid().mean().item() for one in results[0].members]
    assert losses["gate/sbi"].item() == pytest.approx(sum(passed) / 2)
    assert losses["gate/fee"].item() == pytest.approx(sum(raised) / 2)


def test_wrong_segment_labels_give_the_same_weights(made: Made, tmp_path: Path) -> None:
    data, cache, config = made
    rows = {split: rows_of(split, count) for split, count in (("train", 12), ("val", 6), ("test", 6))}
    planted: list[Row] = [(name, label, 9, 9 + index % 2) for index, (name, label, *_) in enumerate(rows["train"])]
    wrong = ave_folder(tmp_path / "wrong", {**rows, "train": planted})
    runs = {
        (task, folder): train(folder, task=task, cache=cache, config=config, epochs=2, out=tmp_path / f"{task}{index}")
        for task in ("weak", "supervised")
        for index, folder in enumerate((data, wrong))
    }
    for task, alike in (("weak", True), ("supervised", False)):
        one, other = (weights(runs[task, folder].folder) for folder in (data, wrong))
        assert all(torch.equal(one[name], other[name]) for name in one) == alike, task


# --- Background-only clips --------------------------------------------------------------------------------------------


def background_labels(data: Path, made: Made) -> list[int]:
    return prepared(data, task="weak", cache=made[1], config=made[2]).task.clips.labels["label"][12:].tolist()


def test_background_only_clips_are_used_if_there_are_any(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = made_up_set(tmp_path)
    assert background_labels(made[0], made) == []
    cache = FeatureCache(made[1])
    for index in range(3):
        store(cache, published_background_name(index), made_up((f"imported{index}", None, 0, 0)))
    assert background_labels(made[0], made) == [-1, -1, -1]  # what was imported
    for name in ("quiet", "still"):
        store(cache, name, made_up((name, None, 0, 0)))
    listed = ave_folder(tmp_path / "listed", background=[f"none{index}" for index in range(3)] + ["quiet", "absent"])
    assert background_labels(listed, made) == [-1] * 4  # three by their place, one by name
    assert "1 of 5 background-only clips" in caplog.text
    assert "absent" in caplog.text
    supervised = prepared(listed, cache=made[1], config=made[2])
    assert len(supervised.task.clips) == 12


def test_a_csv_has_its_own_background_rows(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    rows = ["a,0,3,Bark,train", "b,,,,train", "c,0,3,Bark,val", "d,0,3,Bark,test"]
    for name in "abcd":
        store(cache, name, made_up((name, None, 0, 0)))
    file = tmp_path / "clips.csv"
    file.write_text("path,start,end,label,split\n" + "".join(row.replace(",", ".mp4,", 1) + "\n" for row in rows))
    features = load_features(read_dataset(file), cache)
    assert WeakLocalization(features, RunConfig()).clips.labels["label"].tolist() == [0, -1]


# --- What it learns ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_boundaries_are_learnt_without_segment_labels(tmp_path: Path) -> None:
    rows = {
        split: [(f"{split}{i}", CLASSES[i % 3], *((0, 10) if i % 5 == 0 else (i % 4, 6 + i % 5))) for i in range(count)]
        for split, count in (("train", 90), ("val", 20), ("test", 30))
    }
    cache = FeatureCache(tmp_path / "cache")
    for row in (row for split in rows.values() for row in split):
        store(cache, row[0], made_up(row))
    for index in range(10):
        store(cache, f"none{index}", made_up((f"none{index}", None, 0, 0)))
    data = ave_folder(tmp_path / "set", rows, [f"none{index}" for index in range(10)])
    config = tmp_path / "small.toml"
    config.write_text(
        "[model]\nwidth = 32\nmembers = 2\nheads = 2\nembedding_width = 8\n"
        "[training]\nbatch_size = 16\nlearning_rate = 0.003\n"
    )
    result = train(data, task="weak", cache=cache.root, config=config, epochs=30, out=tmp_path / "run")
    told_the_class = result.baselines["oracle class, every segment an event"].selection
    assert isinstance(result.test, Scores)
    assert result.test.segment_accuracy > told_the_class + 0.03
    assert result.test.background_precision > 0.8
    about = json.loads((result.folder / "config.json").read_text())["training"]
    assert about["task"] == "weak"
