import json
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.training_clips import CONFIG, ave_folder, made_up_set, rows_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccln import train
from ccln.cache import FeatureCache, Features, source_digest
from ccln.extractors import ExtractorError
from ccln.model import load_checkpoint
from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.data.features import load_features
from ccln.pipeline.metrics.localization import predict
from ccln.pipeline.metrics.segments import score
from ccln.pipeline.train.config import ConfigError, read_config
from ccln.pipeline.train.state import TrainingError


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_folder_holds_all_documented_files(tiny_run: Path, tiny_cache: Path, tiny_set: Path) -> None:
    checkpoint = load_checkpoint(tiny_run)
    assert checkpoint.class_names == read_ave_folder(tiny_set).class_names
    assert checkpoint.specification in list(FeatureCache(tiny_cache).specifications().values())
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert {"segment_accuracy", "background_recall", "event_f1", "boundary_error_seconds"} <= metrics["test"].keys()
    assert {"always background", "best single class", "oracle class, every segment an event"} <= metrics[
        "baselines"
    ].keys()
    assert len(metrics["history"]) == 2
    config = tomllib.loads((tiny_run / "config.toml").read_text())
    assert config["training"]["epochs"] == 2
    assert config["model"]["width"] == checkpoint.model.config.width
    with Image.open(tiny_run / "curves.png") as curves:
        assert min(curves.size) > 300
    events = EventAccumulator(str(tiny_run)).Reload()
    for name in ("validation/segment_accuracy", "loss/wccl", "learning_rate", "gradient_norm", "gate/sbi", "gate/fee"):
        assert [scalar.step for scalar in events.Scalars(name)] == [1, 2], name
    assert 0 < events.Scalars("gate/sbi")[0].value < 1


def test_the_saved_network_gives_the_saved_test_scores(tiny_run: Path, tiny_cache: Path, tiny_set: Path) -> None:
    features = load_features(read_ave_folder(tiny_set), FeatureCache(tiny_cache))
    test = features.splits["test"]
    predicted = predict(load_checkpoint(tiny_run).model, test).segment_labels()
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert score(predicted, test.segment_labels, test.class_count).as_dict() == metrics["test"]


def test_the_resolved_config_gives_the_same_run_again(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    again = train(tiny_set, cache=tiny_cache, out=tmp_path / "run", config=tiny_run / "config.toml")
    assert same(weights(again.folder), weights(tiny_run))
    first, second = (json.loads((run / "metrics.json").read_text()) for run in (tiny_run, again.folder))
    assert first == second


def test_another_seed_gives_other_weights(tiny_run: Path, tiny_set: Path, tiny_cache: Path, tmp_path: Path) -> None:
    other = train(tiny_set, cache=tiny_cache, out=tmp_path / "run", epochs=2, seed=1)
    assert not same(weights(other.folder), weights(tiny_run))


def test_test_labels_do_not_influence_the_weights(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(tiny_set, folder)
    rows = (folder / "testSet.txt").read_text().splitlines()
    (folder / "testSet.txt").write_text("".join("&".join([*row.split("&")[:3], "4", "5"]) + "\n" for row in rows))
    wrong = train(folder, cache=tiny_cache, out=tmp_path / "run", epochs=2)
    assert same(weights(wrong.folder), weights(tiny_run))
    right = json.loads((tiny_run / "metrics.json").read_text())["test"]
    assert wrong.test.as_dict() != right


def test_parts_left_out_are_not_in_the_checkpoint(tiny_set: Path, tiny_cache: Path, tmp_path: Path) -> None:
    run = train(tiny_set, cache=tiny_cache, out=tmp_path / "run", epochs=1, without=["wccl", "fee", "sbi"]).folder
    assert load_checkpoint(run).model.config.without == ("sbi", "fee", "wccl")
    parts = ("branch", "enhancement", "gate_row", "gate_column", "gate_bias", "_projection")
    assert not any(part in name for name in weights(run) for part in parts)


def test_a_finished_run_is_never_overwritten(tiny_run: Path, tiny_set: Path, tiny_cache: Path) -> None:
    before = weights(tiny_run)
    with pytest.raises(TrainingError, match="--out"):
        train(tiny_set, cache=tiny_cache, out=tiny_run, epochs=1)
    assert same(weights(tiny_run), before)


def test_features_are_found_by_name_where_the_videos_are_absent(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "videos"
    shutil.copytree(tiny_set, bare, ignore=shutil.ignore_patterns("AVE"))
    run = train(bare, cache=tiny_cache, out=tmp_path / "run", epochs=2).folder
    assert same(weights(run), weights(tiny_run))


def test_missing_features_are_counted_and_reported(
    tiny_set: Path, tiny_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(tiny_cache, cache)
    dataset = read_ave_folder(tiny_set)
    (digest,) = FeatureCache(cache).specifications()
    (key,) = FeatureCache(cache).find(digest, dataset.clips_of("train")[0].video_id)
    FeatureCache(cache).path_of(key).unlink()
    result = train(tiny_set, cache=cache, out=tmp_path / "run", epochs=1)
    assert result.missing == {"train": 1, "validation": 0, "test": 0}
    assert "1 of 6 rows of the train split" in caplog.text


def test_a_cache_without_the_data_set_is_refused_with_a_remedy(
    tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"ffffffff.*ccln-extract"):
        load_features(read_ave_folder(tiny_set), FeatureCache(tiny_cache), specification="ffffffff")


def test_one_of_two_specifications_in_a_cache_must_be_chosen(tiny_set: Path, tiny_cache: Path, tmp_path: Path) -> None:
    cache = FeatureCache(shutil.copytree(tiny_cache, tmp_path / "cache"))
    dataset = read_ave_folder(tiny_set)
    ((digest, specification),) = cache.specifications().items()
    other = {**specification, "frames_per_segment": 5}
    for clip in dataset.clips:
        video = dataset.video_of(clip)
        assert video is not None
        features = Features(torch.zeros(10, 1, 1, 2, dtype=torch.float16), torch.zeros(10, 3), 10.0)
        cache.write(features, source_sha256=source_digest(video), source_path=video, specification=other)
    with pytest.raises(DatasetError, match="--specification"):
        load_features(dataset, cache)
    assert load_features(dataset, cache, digest[:8]).specification == specification


def test_labels_are_those_of_the_rows(tiny_set: Path, tiny_cache: Path) -> None:
    clips = load_features(read_ave_folder(tiny_set), FeatureCache(tiny_cache)).splits["train"]
    for index, clip in enumerate(clips.clips):
        segment = np.arange(10)
        ((start, end),) = clip.spans
        expected = (start <= segment) & (segment < end)
        assert clips.event[index].numpy().astype(bool).tolist() == expected.tolist()
        assert clips.labels[index].item() == (clips.class_labels[index] if expected.any() else -1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nlerning_rate = 1", "did you mean 'learning_rate'"),
        ("[trainig]\nseed = 1", "did you mean 'training'"),
        ("[training]\nepochs = 0", "at least 1"),
        ("[training]\nepochs = 'many'", "epochs = 'many': Expected `int`, got `str`"),
        ("[training]\nlearning_rate = true", "learning_rate = True: Expected `float`"),
        ("[model]\nwidth = 30", "multiple"),
        ("[model]\nclass_count = 3", "no key"),
        ("training = 3", r"\[training\]"),
        ("[training", "TOML"),
    ],
)
def test_an_invalid_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_config(path)
    assert "config.toml" in str(error.value)


def test_a_network_no_better_than_a_baseline_gives_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is no better than a trivial baseline, and one class has no training clip."""
    _, cache, config = made_up_set(tmp_path / "made")
    config.write_text(CONFIG + "learning_rate = 1e-9\n")
    rows = {
        "train": [row for row in rows_of("train", 12) if row[1] != "Flute"],
        "val": [(name, label, 2, 3) for name, label, *_ in rows_of("val", 6)],  # nearly all of it is background
        "test": rows_of("test", 6),
    }
    data = ave_folder(tmp_path / "set", rows)
    result = train(data, cache=cache, config=config, epochs=1, out=tmp_path / "run")
    untrained, useless = result.warnings
    assert "no training clip is of Flute" in untrained
    assert "no better than a trivial baseline" in useless
    assert f"{100 * result.validation.selection:.1f} %" in useless
    assert load_checkpoint(result.folder).training["warnings"] == list(result.warnings)
    assert all(warning in caplog.text for warning in result.warnings)


def test_a_trained_network_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, cache, config = made_up_set(tmp_path / "made")
    result = train(data, cache=cache, config=config, epochs=12, out=tmp_path / "run")
    assert result.warnings == ()
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.parametrize("device", ["cpu", "nowhere"])
def test_training_uses_the_named_device(device: str, tmp_path: Path) -> None:
    data, cache, config = made_up_set(tmp_path / "made")
    if device == "cpu":
        assert train(data, cache=cache, config=config, epochs=1, out=tmp_path / "run", device=device).best_epoch == 1
    else:
        with pytest.raises(ExtractorError, match="nowhere"):
            train(data, cache=cache, config=config, epochs=1, out=tmp_path / "run", device=device)


def test_the_progress_note_is_short(tmp_path: Path) -> None:
    """A progress bar of 80 columns has room for it."""
    data, cache, config = made_up_set(tmp_path / "made")
    notes: list[str] = []
    train(
        data, cache=cache, config=config, epochs=1, out=tmp_path / "run", progress=lambda *step: notes.append(step[2])
    )
    assert re.fullmatch(r"validation [\d.]+ %, best [\d.]+ %", notes[-1])
    assert len(notes[-1]) <= 34
