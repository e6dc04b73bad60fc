import csv
import io
import json
import math
import re
import shutil
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccln import localize
from ccln.extractors import Extractors, Preset
from ccln.model import CheckpointError, load_checkpoint
from ccln.pipeline.commands.located import localization_heading, localization_json, localization_text
from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.extract import Failure
from ccln.pipeline.localize.localize import Localization
from ccln.pipeline.localize.localizer import Localizer
from ccln.pipeline.localize.specification import SpecificationError, require_same_specification
from ccln.pipeline.report.writers import OutputError, to_text


@pytest.fixture(scope="module")
def found(tiny_set: Path, tiny_run: Path) -> Localization:
    return localize(sorted((tiny_set / "AVE").iterdir())[:2], checkpoint=tiny_run)


def test_events_are_the_segments_whose_probability_reaches_the_threshold(found: Localization, tiny_run: Path) -> None:
    decoding = load_checkpoint(tiny_run).decoding
    clips = localize([clip.path for clip in found.clips], checkpoint=tiny_run, shortest_seconds=1).clips
    for clip in clips:
        assert len(set(clip.labels)) == 1  # of ten seconds
        inside = np.zeros(len(clip.event_probability), bool)
        for event in clip.events:
            assert event.label == clip.labels[0]
            inside[math.floor(event.start_seconds) : math.ceil(event.end_seconds)] = True
        assert inside.tolist() == (clip.event_probability >= decoding.event_threshold).tolist()


def test_tracks_are_probabilities_and_attention_adds_up(found: Localization) -> None:
    for clip in found.clips:
        for track in clip.tracks.values():
            assert track.shape == (10,)
            assert track.min() >= 0
            assert track.max() <= 1
        assert clip.attention.shape == (10, 7, 7)
        assert np.allclose(clip.attention.sum((1, 2)), 1, atol=1e-5)


def test_localizing_agrees_with_evaluating_cached_features(
    found: Localization, tiny_run: Path, tiny_set: Path, tiny_cache: Path
) -> None:
    from ccln.cache import FeatureCache
    from ccln.pipeline.data.ave import read_ave_folder
    from ccln.pipeline.data.features import load_features
    from ccln.pipeline.metrics.localization import predict

    dataset = read_ave_folder(tiny_set)
    checkpoint = load_checkpoint(tiny_run)
    for clips in load_features(dataset, FeatureCache(tiny_cache)).splits.values():
        predictions = predict(checkpoint.model, clips)
        calibrated = 1 / (1 + np.exp(-predictions.event_logits / checkpoint.decoding.event_temperature))
        for row, probability in zip(clips.clips, calibrated, strict=True):
            for clip in found.clips:
                if clip.path.stem == row.video_id:
                    assert np.allclose(clip.event_probability, probability, atol=2e-3)  # the cache keeps half precision


def test_json_holds_all_that_was_found(found: Localization) -> None:
    failure = Failure(Path("broken.mp4"), "broken.mp4: is empty. Fetch it again.")
    document = json.loads(localization_json(Localization(found.clips, (failure,))))
    assert (document["format"], document["version"], len(document["videos"])) == ("ccln-localization", 3, 2)
    assert document["failed"] == [{"path": str(Path("broken.mp4").resolve()), "reason": failure.reason}]
    for clip, located in zip(document["videos"], found.clips, strict=True):
        assert clip["path"] == str(located.path)
        assert clip["duration_seconds"] == pytest.approx(located.duration_seconds, abs=1e-3)
        assert clip["tracks"]["labels"] == list(located.labels)
        assert [e["label"] for e in clip["events"]] == [e.label for e in located.events]
        for event in clip["events"]:
            assert event.keys() == {"label", "start_seconds", "end_seconds", "confidence"}
        for name, track in located.tracks.items():
            assert clip["tracks"][name] == pytest.approx(track, abs=1e-4)


def test_csv_has_a_line_an_event(found: Localization) -> None:
    text = localization_heading("csv") + "".join(localization_text(clip, "csv") for clip in found.clips)
    rows = list(csv.DictReader(io.StringIO(text)))
    events = [event for clip in found.clips for event in clip.events]
    assert [row["label"] for row in rows] == [event.label for event in events]
    for row, event in zip(rows, events, strict=True):
        assert float(row["start_seconds"]) == event.start_seconds
        assert float(row["end_seconds"]) == pytest.approx(event.end_seconds, abs=1e-3)


@pytest.mark.parametrize("name", ["webvtt", "srt", "audacity", "elan", "label-studio"])
def test_other_formats_are_printed_as_they_are_written(found: Localization, name: str) -> None:
    clip = found.clips[0]
    assert localization_heading(name) + localization_text(clip, name) == to_text(clip, name)


def test_table_names_every_clip_and_second(found: Localization) -> None:
    for clip in found.clips:
        table = localization_text(clip, "table")
        assert str(clip.path) in table
        assert table.count("seen") >= 1
        assert "   0    1    2    3    4    5    6    7    8    9" in table


def test_a_bad_file_is_reported_and_the_rest_is_located(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    good = sorted((tiny_set / "AVE").iterdir())[0]
    found = localize([tmp_path / "broken.mp4", good], checkpoint=tiny_run)
    assert [clip.path for clip in found.clips] == [good]
    assert [failure.path.name for failure in found.failed] == ["broken.mp4"]


def test_files_are_there_as_soon_as_a_clip_is_done(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    def stopped_after_the_first(done: int, _: int, __: str) -> None:
        assert len(list(tmp_path.iterdir())) == 2 * done
        if done == 1:
            raise KeyboardInterrupt

    paths = [clip.path for clip in found.clips]
    with pytest.raises(KeyboardInterrupt):
        localize(
            paths, checkpoint=tiny_run, out=tmp_path, formats=["json", "csv"], jobs=1, progress=stopped_after_the_first
        )
    assert {path.name for path in tmp_path.iterdir()} == {f"{paths[0].stem}.json", f"{paths[0].stem}.csv"}


def test_no_file_of_others_is_written_over_and_the_rest_is_done(
    found: Localization, tiny_run: Path, tmp_path: Path
) -> None:
    paths = [clip.path for clip in found.clips]
    mine, page = tmp_path / f"{paths[0].stem}.vtt", tmp_path / "page.html"
    mine.write_text("mine")
    page.write_text("mine, too")
    again = localize(paths, checkpoint=tiny_run, out=tmp_path, formats=["webvtt"], html=page)
    assert len(again.clips) == 2
    assert again.failed == ()
    assert [failure.path for failure in again.unwritten] == [paths[0], page]
    assert again.written == (tmp_path / f"{paths[1].stem}.vtt",)
    assert (mine.read_text(), page.read_text()) == ("mine", "mine, too")


def test_clips_of_one_name_have_files_of_their_own(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    paths = [tmp_path / folder / "clip.mp4" for folder in ("a", "b")]
    for path, clip in zip(paths, found.clips, strict=True):
        path.parent.mkdir()
        shutil.copy(clip.path, path)
    localize(paths, checkpoint=tiny_run, out=tmp_path / "out", formats=["json"])
    for path, name in zip(paths, ("clip.json", "clip-2.json"), strict=True):
        assert json.loads((tmp_path / "out" / name).read_text("utf-8"))["videos"][0]["path"] == str(path)


def test_the_page_shows_every_clip_and_what_failed(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    paths = [tmp_path / "broken.mp4", *(clip.path for clip in found.clips)]
    page = localize(paths, checkpoint=tiny_run, html=tmp_path / "page.html").written[0].read_text("utf-8")
    index, *details = (
        json.loads(text)
        for identity in ("index", "clip-0", "clip-1")
        for text in re.findall(f'id="{identity}">(.*?)</script>', page)
    )
    assert [clip["events"] for clip in index["clips"]] == [
        [
            {"label": e.label, "start": e.start_seconds, "end": e.end_seconds, "confidence": round(e.confidence, 3)}
            for e in clip.events
        ]
        for clip in found.clips
    ]
    assert ["broken.mp4" in failure["reason"] for failure in index["failed"]] == [True]
    for clip, shown in zip(found.clips, details, strict=True):
        assert shown["event"] == pytest.approx(clip.event_probability, abs=2e-3)
        loudness = (
            np.abs(decode_clip(clip.path, FrameRequest(8, 8)).waveform)
            .reshape(-1, SAMPLE_RATE_HZ // 50)
            .max(1)
            .clip(0, 1)
        )
        peaks = np.frombuffer(b64decode(shown["peaks"]), np.uint8) / 255
        np.testing.assert_allclose(peaks, loudness[: len(peaks)], atol=1 / 255)
        glow = np.frombuffer(b64decode(shown["attention"]["values"]), np.uint8).reshape(clip.attention.shape)
        np.testing.assert_allclose(glow / glow.max(), clip.attention / clip.attention.max(), atol=1.5 / glow.max())


def test_what_cannot_be_written_is_said_before_a_clip_is_read(
    found: Localization, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    clip = found.clips[0].path
    with pytest.raises(OutputError, match="file: this folder cannot be made"):
        localize([clip], checkpoint=tiny_run, out=tmp_path / "file")
    with pytest.raises(OutputError, match="file: this folder cannot be made"):
        localize([clip], checkpoint=tiny_run, html=tmp_path / "file" / "page.html")
    with pytest.raises(ValueError, match=r"table: no such format; choose from json, csv"):
        localize([clip], checkpoint=tiny_run, out=tmp_path, formats=["table", "json"])


def test_pictures_are_drawn_and_none_is_overwritten(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    clip = tmp_path / "$a$ & b.mp4"
    shutil.copy(sorted((tiny_set / "AVE").iterdir())[0], clip)
    (written,) = localize(clip, checkpoint=tiny_run, plot=tmp_path / "plots").written
    assert localize(clip, checkpoint=tiny_run, plot=tmp_path / "plots").written == (written,)  # the same to the byte
    assert written == tmp_path / "plots" / "$a$ & b.png"
    with Image.open(written) as picture:
        assert picture.size[0] == 1200
    written.write_bytes(b"mine")
    (failure,) = localize(clip, checkpoint=tiny_run, plot=tmp_path / "plots").unwritten
    assert "other content" in failure.reason
    assert written.read_bytes() == b"mine"


def test_files_written_before_one_that_cannot_be_are_named(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    (tmp_path / f"{clip.stem}.png").write_bytes(b"mine")
    found = localize(clip, checkpoint=tiny_run, out=tmp_path, plot=tmp_path)
    assert found.written == (tmp_path / f"{clip.stem}.json",)
    assert [failure.path for failure in found.unwritten] == [clip]


def test_videos_are_written_with_their_events(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    (written,) = localize(clip, checkpoint=tiny_run, video=tmp_path, heat_map=True).written
    assert written == tmp_path / f"{clip.stem}.events.mp4"
    before, after = (decode_clip(path, FrameRequest(8, 8)) for path in (clip, written))
    np.testing.assert_array_equal(before.waveform, after.waveform)


def test_threshold_and_least_length_can_be_said(found: Localization, tiny_run: Path) -> None:
    paths = [clip.path for clip in found.clips]
    for clip in localize(paths, checkpoint=tiny_run, threshold=1e-6).clips:
        assert [(event.start_seconds, event.end_seconds) for event in clip.events] == [(0, clip.duration_seconds)]
    for clip in localize(paths, checkpoint=tiny_run, threshold=1 - 1e-6).clips:
        assert clip.events == ()
    with pytest.raises(ValueError, match="event_threshold = 2"):
        localize(paths, checkpoint=tiny_run, threshold=2)


def test_what_is_found_does_not_hang_on_the_number_of_jobs(found: Localization, tiny_run: Path) -> None:
    paths = [clip.path for clip in found.clips]
    seen: list[Path] = []
    one = localize(paths, checkpoint=tiny_run, jobs=1, found=lambda clip: seen.append(clip.path))
    two = localize(paths, checkpoint=tiny_run, jobs=2)
    assert seen == paths == [clip.path for clip in two.clips]
    for a, b in zip(one.clips, two.clips, strict=True):
        np.testing.assert_allclose(a.event_probability, b.event_probability, atol=1e-4)


def test_extractors_that_are_not_the_checkpoints_are_refused_by_name(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["specification"]["weights_sha256"]["visual"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SpecificationError, match=r"weights_sha256.visual: checkpoint '0+', at hand '[0-9a-f]+'"):
        localize([Path(__file__)], checkpoint=run)


@pytest.mark.parametrize("capabilities", [{"avx2": True}, {"avx512_bf16": True}])
@pytest.mark.parametrize("trained_in", ["float32", "bfloat16"])
def test_the_arithmetic_is_the_processors_whatever_the_checkpoint_was_trained_on(
    tiny_run: Path, trained_in: str, capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    class MadeError(Exception):
        pass

    def made(preset: Preset, **_: object) -> Extractors:
        raise MadeError(preset.visual.precision)

    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    monkeypatch.setattr("ccln.pipeline.localizing.localizer.load_extractors", made)
    checkpoint = load_checkpoint(tiny_run)
    checkpoint.specification["visual"]["precision"] = trained_in
    with pytest.raises(MadeError, match="bfloat16" if "avx512_bf16" in capabilities else "float32"):
        Localizer(checkpoint, device="cpu")


def test_a_checkpoint_of_another_arithmetic_finds_the_same(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    other = {"float32": "bfloat16", "bfloat16": "float32"}[config["specification"]["visual"]["precision"]]
    config["specification"]["visual"]["precision"] = other
    (run / "config.json").write_text(json.dumps(config))
    (clip,) = localize(found.clips[0].path, checkpoint=run).clips
    assert clip.events == found.clips[0].events


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
    require_same_specification({"visual": {"precision": "float32"}}, {"visual": {"precision": "bfloat16"}})
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
    Path("runs/second/config.json").write_text('{"format": 2, "network": "matching"}')
    (located,) = localize([found.clips[0].path]).clips
    assert located.events == found.clips[0].events
    assert np.allclose(located.event_probability, found.clips[0].event_probability, atol=1e-5)
