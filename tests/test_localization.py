import csv
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccln.model import CheckpointError, load_checkpoint
from ccln.pipeline import localize
from ccln.pipeline.commands.formats import localization_csv, localization_json, localization_table
from ccln.pipeline.localization import Localization, SpecificationError, require_same_specification


@pytest.fixture(scope="module")
def found(tiny_set: Path, tiny_run: Path) -> Localization:
    return localize(sorted((tiny_set / "AVE").iterdir())[:2], checkpoint=tiny_run)


def test_events_are_the_segments_where_both_passes_one_half(found: Localization) -> None:
    for clip in found.clips:
        inside = np.zeros(len(clip.both), bool)
        for event in clip.events:
            assert event.label == clip.label
            inside[math.floor(event.start_seconds) : math.ceil(event.end_seconds)] = True
        assert inside.tolist() == (clip.both >= 0.5).tolist()


def test_tracks_are_probabilities_and_attention_adds_up(found: Localization) -> None:
    for clip in found.clips:
        for track in (clip.seen, clip.heard, clip.both):
            assert track.shape == (10,)
            assert track.min() >= 0
            assert track.max() <= 1
        assert clip.attention.shape == (10, 7, 7)
        assert np.allclose(clip.attention.sum((1, 2)), 1, atol=1e-5)


def test_localizing_agrees_with_evaluating_cached_features(
    found: Localization, tiny_run: Path, tiny_set: Path, tiny_cache: Path
) -> None:
    from ccln.cache import FeatureCache
    from ccln.pipeline.datasets.ave_folder import read_ave_folder
    from ccln.pipeline.features.loading import load_features
    from ccln.pipeline.scoring.prediction import predict

    dataset = read_ave_folder(tiny_set)
    model = load_checkpoint(tiny_run).model
    for clips in load_features(dataset, FeatureCache(tiny_cache)).splits.values():
        predictions = predict(model, clips)
        for row, probability in zip(clips.clips, predictions.event_probability, strict=True):
            for clip in found.clips:
                if clip.path.stem == row.video_id:
                    assert np.allclose(clip.both, probability, atol=2e-3)  # the cache keeps half precision


def test_json_holds_events_and_tracks(found: Localization) -> None:
    document = json.loads(localization_json(found))
    assert len(document["clips"]) == 2
    for clip, located in zip(document["clips"], found.clips, strict=True):
        assert clip["path"] == str(located.path)
        assert [e["label"] for e in clip["events"]] == [e.label for e in located.events]
        for event in clip["events"]:
            assert event.keys() == {"label", "start_seconds", "end_seconds", "confidence"}
        assert clip["tracks"]["both"] == pytest.approx(located.both, abs=1e-4)
        assert len(clip["tracks"]["seen"]) == len(clip["tracks"]["heard"]) == 10


def test_csv_has_a_line_an_event_and_survives_odd_names(found: Localization, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(localization_csv(found))))
    assert len(rows) == sum(len(clip.events) for clip in found.clips)
    for row in rows:
        assert 0 <= float(row["start_seconds"]) < float(row["end_seconds"]) <= 10


def test_table_names_every_clip_and_second(found: Localization) -> None:
    table = localization_table(found)
    for clip in found.clips:
        assert str(clip.path) in table
    assert table.count("seen") >= 2
    assert "   0    1    2    3    4    5    6    7    8    9" in table


def test_a_bad_file_is_reported_and_the_rest_is_located(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    good = sorted((tiny_set / "AVE").iterdir())[0]
    found = localize([tmp_path / "broken.mp4", good], checkpoint=tiny_run)
    assert [clip.path for clip in found.clips] == [good]
    assert [failure.path.name for failure in found.failed] == ["broken.mp4"]


def test_pictures_are_drawn_and_none_is_overwritten(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    clip = tmp_path / "$a$ & b.mp4"
    shutil.copy(sorted((tiny_set / "AVE").iterdir())[0], clip)
    for _ in range(2):
        localize([clip], checkpoint=tiny_run, plots=tmp_path / "plots")
    pictures = sorted((tmp_path / "plots").iterdir())
    assert [picture.name for picture in pictures] == ["$a$ & b-2.png", "$a$ & b.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.size[0] == 1200


def test_extractors_that_are_not_the_checkpoints_are_refused_by_name(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["specification"]["weights_sha256"]["visual"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SpecificationError, match=r"weights_sha256.visual: checkpoint '0+', at hand '[0-9a-f]+'"):
        localize([Path(__file__)], checkpoint=run)


def test_features_of_another_shape_than_the_networks_are_refused(
    tiny_run: Path, tiny_set: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["specification"]["audio"]["mel"]["bands"] = 32
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SpecificationError, match=r"audio.*64.*128"):
        localize(sorted((tiny_set / "AVE").iterdir())[:1], checkpoint=run)


def test_a_checkpoint_of_imported_features_says_what_to_train_on_instead(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["specification"] = {"imported": "published AVE features"}
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SpecificationError, match=r"imported features.*ave-legacy"):
        localize([Path(__file__)], checkpoint=run)


def test_differences_are_all_named() -> None:
    require_same_specification({"a": {"b": 1}}, {"a": {"b": 1}})
    with pytest.raises(SpecificationError, match=r"a.b: checkpoint 1, at hand 2; c: checkpoint 3, at hand None"):
        require_same_specification({"a": {"b": 1}, "c": 3}, {"a": {"b": 2}})


def test_a_folder_that_is_no_checkpoint_says_how_to_make_one(tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ccln-train"):
        localize([tiny_set], checkpoint=tmp_path)


def test_without_a_checkpoint_the_newest_run_that_locates_events_is_taken(
    found: Localization, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "runs/first")
    Path("runs/second").mkdir()
    Path("runs/second/config.json").write_text('{"format": 1, "network": "matching"}')
    (located,) = localize([found.clips[0].path]).clips
    assert located.events == found.clips[0].events
    assert np.allclose(located.both, found.clips[0].both, atol=1e-5)
