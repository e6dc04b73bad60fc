import csv
import io
import json
import math
import re
import shutil
from base64 import b64decode
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from PIL import Image
from support import killers
from support.located import located_video
from support.making import Audio, Video, make_video, steady

from ccln import localize
from ccln.extractors import PRESETS, Extractors, Preset
from ccln.model import CheckpointError, load_checkpoint
from ccln.pipeline.commands.localize import Localization
from ccln.pipeline.commands.located import localization_heading, localization_json, localization_text, video_table
from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.extract.failures import Failure
from ccln.pipeline.localize.events import segments_of
from ccln.pipeline.localize.localizer import Localizer, SpecificationError, require_same_specification
from ccln.pipeline.localize.naming import LEAST_EVIDENCE
from ccln.pipeline.localize.open_events import LEAST_SUPPORT, UNKNOWN
from ccln.pipeline.localize.result import Event, Named, Provenance, VideoFormat
from ccln.pipeline.localize.windows import SegmentPredictions, WindowedNetwork
from ccln.pipeline.report.writers import OutputError, to_text


@pytest.fixture(scope="module")
def found(tiny_set: Path, tiny_run: Path) -> Localization:
    return localize(sorted((tiny_set / "AVE").iterdir())[:2], checkpoint=tiny_run)


@pytest.mark.parametrize("classes", ["trained", "open", "both"])
def test_no_row_contradicts_itself_whatever_names_events(classes: Any, found: Localization, tiny_run: Path) -> None:
    for video in localize([video.path for video in found.videos], checkpoint=tiny_run, classes=classes).videos:
        for event in video.events:
            place = segments_of(event)
            assert set(video.labels[place]) == {event.label}
            seen, heard = video.known_tracks["seen"][place], video.known_tracks["heard"][place]
            known = [[value for value in track if value is not None] for track in (seen, heard)]
            assert event.named_by in {"trained": ("trained", "none"), "open": ("open", "none")}.get(
                classes, ("trained", "open", "none")
            )
            if event.named_by == "none":
                assert event.label == UNKNOWN
            else:
                least = LEAST_SUPPORT if event.named_by == "trained" else LEAST_EVIDENCE
                assert all(np.mean(track) >= least - 1e-6 for track in known if track)
            assert bool(event.heard) == (classes != "trained")


def test_any_event_has_no_name_and_its_seconds_neither(found: Localization, tiny_run: Path) -> None:
    paths = [video.path for video in found.videos]
    for video in localize(paths, checkpoint=tiny_run, any_event=True, minimum_duration=1).videos:
        assert {(event.label, event.named_by) for event in video.events} <= {("event", "none")}
        is_event = video.event_probability >= video.provenance.event_threshold
        assert [label == "event" for label in video.labels] == is_event.tolist()
        ends = [event.end_seconds for event in video.events]
        assert not set(ends) & {event.start_seconds for event in video.events}  # those that touch are one


def test_events_are_the_segments_whose_probability_reaches_the_threshold(found: Localization, tiny_run: Path) -> None:
    decoding = load_checkpoint(tiny_run).decoding
    videos = localize([clip.path for clip in found.videos], checkpoint=tiny_run, minimum_duration=1).videos
    for clip in videos:
        inside = np.zeros(len(clip.event_probability), bool)
        for event in clip.events:
            assert event.label == clip.labels[math.floor(event.start_seconds)]
            inside[math.floor(event.start_seconds) : math.ceil(event.end_seconds)] = True
        assert inside.tolist() == (clip.event_probability >= decoding.event_threshold).tolist()


def test_tracks_are_probabilities_and_attention_adds_up(found: Localization) -> None:
    for clip in found.videos:
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
    alone = localize([clip.path for clip in found.videos], checkpoint=tiny_run, classes="trained")
    for clips in load_features(dataset, FeatureCache(tiny_cache)).splits.values():
        predictions = predict(checkpoint.model, clips)
        calibrated = 1 / (1 + np.exp(-predictions.event_logits / checkpoint.decoding.event_temperature))
        for row, probability in zip(clips.clips, calibrated, strict=True):
            for clip in alone.videos:
                if clip.path.stem == row.video_id:
                    assert np.allclose(clip.event_probability, probability, atol=2e-3)  # the cache keeps half precision


def test_json_holds_all_that_was_found(found: Localization) -> None:
    failure = Failure(Path("broken.mp4"), "broken.mp4: is empty. Fetch it again.")
    document = json.loads(localization_json(found.videos, [failure]))
    assert (document["format"], document["version"], len(document["videos"])) == ("ccln-localization", 3, 2)
    assert document["failed"] == [{"path": str(Path("broken.mp4").resolve()), "reason": failure.reason}]
    for clip, located in zip(document["videos"], found.videos, strict=True):
        assert clip["path"] == str(located.path)
        assert clip["duration_seconds"] == pytest.approx(located.duration_seconds, abs=1e-3)
        assert clip["tracks"]["labels"] == list(located.labels)
        assert [e["label"] for e in clip["events"]] == [e.label for e in located.events]
        for event in clip["events"]:
            assert event.keys() == {
                *("label", "start_seconds", "end_seconds", "confidence"),
                *("named_by", "heard", "seen"),
            }
        for name, track in located.tracks.items():
            assert clip["tracks"][name] == pytest.approx(track, abs=1e-4)


def test_csv_has_a_line_an_event(found: Localization) -> None:
    text = localization_heading("csv") + "".join(localization_text(clip, "csv") for clip in found.videos)
    rows = list(csv.DictReader(io.StringIO(text)))
    events = [event for clip in found.videos for event in clip.events]
    assert [row["label"] for row in rows] == [event.label for event in events]
    for row, event in zip(rows, events, strict=True):
        assert float(row["start_seconds"]) == event.start_seconds
        assert float(row["end_seconds"]) == pytest.approx(event.end_seconds, abs=1e-3)


@pytest.mark.parametrize("name", ["webvtt", "srt", "audacity", "elan", "label-studio"])
def test_other_formats_are_printed_as_they_are_written(found: Localization, name: str) -> None:
    clip = found.videos[0]
    assert localization_heading(name) + localization_text(clip, name) == to_text(clip, name)


def test_table_names_every_clip_and_second(found: Localization) -> None:
    for clip in found.videos:
        table = localization_text(clip, "table")
        assert str(clip.path) in table
        assert table.count("seen") >= 1
        assert "   0    1    2    3    4    5    6    7    8    9" in table


def test_table_shows_what_is_heard_and_seen_beside_an_open_name_and_nothing_seen_as_none() -> None:
    event = Event("Helicopter", 1.0, 2.0, 0.9, "open", (Named("Helicopter", 0.6),), (Named("alp", 0.12),))
    seeable = np.array([True, False, True])
    table = video_table(
        located_video("a.mp4", 3.0, [event], seen=np.array([0.1, 0, 0.3], np.float32), seeable=seeable)
    ).splitlines()
    assert table[2].strip() == "heard Helicopter 60%, seen alp 12%"
    assert next(line for line in table if line.startswith("  seen")).split() == ["seen", "10%", "–", "30%"]


def test_a_bad_file_is_reported_and_the_rest_is_located(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    good = sorted((tiny_set / "AVE").iterdir())[0]
    found = localize([tmp_path / "broken.mp4", good], checkpoint=tiny_run)
    assert [clip.path for clip in found.videos] == [good]
    assert [failure.path.name for failure in found.failed] == ["broken.mp4"]


def test_an_error_that_nobody_foresaw_costs_its_video_alone(
    found: Localization, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_first(self: WindowedNetwork) -> SegmentPredictions:
        if not failed:
            failed.append(self)
            raise IndexError("of nothing")
        return predictions(self)

    failed: list[WindowedNetwork] = []
    predictions = WindowedNetwork.predictions
    monkeypatch.setattr(WindowedNetwork, "predictions", failing_first)
    paths = [clip.path for clip in found.videos[:2]]
    again = localize(paths, checkpoint=tiny_run, jobs=1)
    assert [clip.path for clip in again.videos] == paths[1:]
    assert again.failed[0].reason.startswith(f"{paths[0]}: an unforeseen error (IndexError: of nothing")


def test_videos_that_kill_their_decoder_cost_themselves_alone(
    found: Localization, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccln.pipeline.localize.localizer.decode_clips", killers.decode_clips)
    causes = {"segfault": "crashed (SIGSEGV)", "spin": "ran out of time (4 s", "divide": "unforeseen error"}
    paths = [Path(shutil.copy(found.videos[0].path, tmp_path / f"{name}.mp4")) for name in causes]
    again = localize([*paths, found.videos[0].path], checkpoint=tiny_run, timeout=4)
    assert [video.path for video in again.videos] == [found.videos[0].path]
    assert again.videos[0].to_dict() == found.videos[0].to_dict()
    assert [failure.path for failure in again.failed] == paths
    for failure, cause in zip(again.failed, causes.values(), strict=True):
        assert cause in failure.reason


def test_an_error_of_the_callback_ends_the_whole(tiny_run: Path, tmp_path: Path) -> None:
    def enough(done: int, total: int, note: str) -> None:
        if done:
            raise RuntimeError("enough")

    video = make_video(tmp_path / "long.mkv", Video(steady(63, 3)), Audio(np.zeros(21 * 8000, np.float32), 8000))
    with pytest.raises(RuntimeError, match="enough"):
        localize(video, checkpoint=tiny_run, progress=enough)


def test_files_are_there_as_soon_as_a_clip_is_done(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    def stopped_after_the_first(done: int, _: int, __: str) -> None:
        assert len(list(tmp_path.iterdir())) == 2 * done
        if done == 1:
            raise KeyboardInterrupt

    paths = [clip.path for clip in found.videos]
    with pytest.raises(KeyboardInterrupt):
        localize(
            paths, checkpoint=tiny_run, out=tmp_path, formats=["json", "csv"], jobs=1, progress=stopped_after_the_first
        )
    assert {path.name for path in tmp_path.iterdir()} == {f"{paths[0].stem}.json", f"{paths[0].stem}.csv"}


@pytest.mark.parametrize("name", ["{stem}.json", "{stem}.png", "{stem}.events.mkv", "page.html"])
def test_files_of_an_earlier_run_are_refused_before_a_video_is_read(name: str, tiny_run: Path, tmp_path: Path) -> None:
    unreadable = tmp_path / "b.mp4"
    unreadable.write_bytes(b"no video: it would be among the failed")
    there = tmp_path / "out" / name.format(stem="b")
    there.parent.mkdir()
    there.write_text("hours of work")
    places: dict[str, Any] = {
        "out": there.parent,
        "plot": there.parent,
        "video": there.parent,
        "html": there.parent / "page.html",
    }
    with pytest.raises(OutputError, match=rf"{there.name}: is there already.*--overwrite"):
        localize(unreadable, checkpoint=tiny_run, **places)
    assert list(there.parent.iterdir()) == [there]
    assert there.read_text() == "hours of work"


def test_files_of_an_earlier_run_are_replaced_when_asked(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    path = found.videos[0].path
    places: dict[str, Any] = {"out": tmp_path, "formats": ["json", "label-studio"], "plot": tmp_path, "video": tmp_path}
    before = localize(path, checkpoint=tiny_run, html=tmp_path / "page.html", **places)
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert {file.name for file in files} == {file.name for file in before.written} | {"label-studio.xml"}
    (tmp_path / f"{path.stem}.png").write_bytes(b"another run's")
    (tmp_path / "label-studio.xml").write_bytes(b"another run's")
    again = localize(path, checkpoint=tiny_run, html=tmp_path / "page.html", overwrite=True, **places)
    assert (again.written, again.unwritten) == (before.written, ())
    now = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert now.keys() == files.keys()
    for file in files:  # an encoder with several threads may spend other bits on the same frames
        assert now[file] == files[file] or file.suffix == ".mp4"


def test_an_input_video_is_never_replaced(tiny_run: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.events.mp4"):
        (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"a\.events\.mp4: is one of the videos to be read"):
        localize([tmp_path / "a.mp4", tmp_path / "a.events.mp4"], checkpoint=tiny_run, video=tmp_path, overwrite=True)
    assert (tmp_path / "a.events.mp4").read_bytes() == b"precious"


def test_a_file_that_appears_meanwhile_is_not_written_over(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    paths = [clip.path for clip in found.videos]
    mine, page = tmp_path / f"{paths[0].stem}.vtt", tmp_path / "page.html"

    def others_write(done: int, total: int, note: str) -> None:
        if done == 0:
            mine.write_text("mine")
            page.write_text("mine, too")

    again = localize(
        paths, checkpoint=tiny_run, out=tmp_path, formats=["webvtt"], html=page, jobs=1, progress=others_write
    )
    assert len(again.videos) == 2
    assert again.failed == ()
    assert [failure.path for failure in again.unwritten] == [paths[0], page]
    assert again.written == (tmp_path / f"{paths[1].stem}.vtt",)
    assert (mine.read_text(), page.read_text()) == ("mine", "mine, too")


def test_json_names_version_checkpoint_and_settings(found: Localization, tiny_run: Path) -> None:
    checkpoint = load_checkpoint(tiny_run)
    (located,) = localize(found.videos[0].path, checkpoint=tiny_run, threshold=0.25, hop=5).videos
    assert located.provenance == Provenance(
        ccln_version=version("ccln"),
        weights_sha256=json.loads((tiny_run / "config.json").read_text())["weights_sha256"],
        class_names=checkpoint.class_names,
        event_threshold=0.25,
        minimum_duration_seconds=checkpoint.decoding.minimum_duration_seconds,
        hop_seconds=5,
    )
    with av.open(str(located.path)) as container:
        stream = container.streams.video[0]
        assert located.video_format == VideoFormat(stream.height, stream.width, float(stream.average_rate or 0))


def test_label_studio_gets_a_media_root_and_a_configuration(
    found: Localization, tiny_run: Path, tmp_path: Path
) -> None:
    path = found.videos[0].path
    with pytest.raises(OutputError, match="is not within the media root"):
        localize(path, checkpoint=tiny_run, out=tmp_path, formats=["label-studio"], media_root=tmp_path / "other")
    localize(path, checkpoint=tiny_run, out=tmp_path, formats=["label-studio"], media_root=path.parent)
    task = json.loads((tmp_path / f"{path.stem}.label-studio.json").read_text("utf-8"))[0]
    assert task["data"]["video"] == f"/data/local-files/?d={path.name}"
    labels = [label.get("value") for label in ElementTree.parse(tmp_path / "label-studio.xml").getroot().iter("Label")]
    names = load_checkpoint(tiny_run).class_names
    assert tuple(labels[: len(names)]) == names
    assert {"unknown", "Baby cry, infant cry"} < set(labels)  # all names that an event can bear
    assert len(set(labels)) == len(labels)


def test_a_run_with_training_warnings_is_not_used_silently(
    found: Localization, tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config.pop("config_sha256", None)
    config["training"]["warnings"] = ["no training clip of class Cat"]
    (run / "config.json").write_text(json.dumps(config))
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    localize(tmp_path / "broken.mp4", checkpoint=run)
    assert "no training clip of class Cat" in caplog.text


def test_a_file_given_as_checkpoint_is_refused(tiny_set: Path) -> None:
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    with pytest.raises(CheckpointError, match="is a file, and a checkpoint is a run folder"):
        localize(clip, checkpoint=clip)


@pytest.mark.parametrize("jobs", [0, -1])
def test_fewer_than_one_job_is_refused(jobs: int, found: Localization, tiny_run: Path) -> None:
    with pytest.raises(ValueError, match=f"jobs is {jobs}"):
        localize([clip.path for clip in found.videos], checkpoint=tiny_run, jobs=jobs)


def test_a_single_video_reports_its_seconds(found: Localization, tiny_run: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    localize(found.videos[0].path, checkpoint=tiny_run, progress=lambda *state: calls.append(state))
    assert calls == [(0, 10, ""), (10, 10, "")]


def test_the_table_fits_eighty_columns() -> None:
    long = "Acoustic guitar, classical guitar, and everything else that is plucked"
    for seconds in (10, 14, 15, 20, 21):
        for events in ((), (Event(long, 1.0, 5.0, 0.5),)):
            tables = video_table(located_video("a.mp4", float(seconds), events, labels=(long,) * seconds)).splitlines()
            assert max(map(len, tables)) <= 80
            assert sum(line.count("%") for line in tables) == (3 * seconds if seconds <= 20 else 0)


def test_videos_of_the_same_name_get_different_files(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    paths = [tmp_path / folder / "clip.mp4" for folder in ("a", "b")]
    for path, clip in zip(paths, found.videos, strict=True):
        path.parent.mkdir()
        shutil.copy(clip.path, path)
    localize(paths, checkpoint=tiny_run, out=tmp_path / "out", formats=["json"])
    for path, name in zip(paths, ("clip.json", "clip-2.json"), strict=True):
        assert json.loads((tmp_path / "out" / name).read_text("utf-8"))["videos"][0]["path"] == str(path)


def test_the_page_shows_every_video_and_every_failure(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    paths = [tmp_path / "broken.mp4", *(video.path for video in found.videos)]
    page = localize(paths, checkpoint=tiny_run, html=tmp_path / "page.html").written[0].read_text("utf-8")
    index, *details = (
        json.loads(text)
        for identity in ("index", "video-0", "video-1")
        for text in re.findall(f'id="{identity}">(.*?)</script>', page)
    )
    assert [video["events"] for video in index["videos"]] == [
        [
            {
                "label": e.label,
                "start": e.start_seconds,
                "end": e.end_seconds,
                "confidence": round(e.confidence, 3),
                "lane": 0,
            }
            for e in video.events
        ]
        for video in found.videos
    ]
    assert ["broken.mp4" in failure["reason"] for failure in index["failed"]] == [True]
    for video, shown in zip(found.videos, details, strict=True):
        assert shown["event"] == pytest.approx(video.event_probability, abs=2e-3)
        loudness = (
            np.abs(decode_clip(video.path, FrameRequest(8, 8)).waveform)
            .reshape(-1, SAMPLE_RATE_HZ // 50)
            .max(1)
            .clip(0, 1)
        )
        peaks = np.frombuffer(b64decode(shown["peaks"]), np.uint8) / 255
        np.testing.assert_allclose(peaks, loudness[: len(peaks)], atol=1 / 255)
        glow = np.frombuffer(b64decode(shown["attention"]["values"]), np.uint8).reshape(video.attention.shape)
        np.testing.assert_allclose(glow / glow.max(), video.attention / video.attention.max(), atol=1.5 / glow.max())


def test_outputs_that_cannot_be_written_are_refused_before_decoding(
    found: Localization, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    clip = found.videos[0].path
    with pytest.raises(OutputError, match="file: this folder cannot be made"):
        localize([clip], checkpoint=tiny_run, out=tmp_path / "file")
    with pytest.raises(OutputError, match="file: this folder cannot be made"):
        localize([clip], checkpoint=tiny_run, html=tmp_path / "file" / "page.html")
    with pytest.raises(ValueError, match=r"table: no such format; choose from json, csv"):
        localize([clip], checkpoint=tiny_run, out=tmp_path, formats=cast(Any, ["table", "json"]))


def test_pictures_are_drawn_the_same_each_time(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    clip = tmp_path / "$a$ & b.mp4"
    shutil.copy(sorted((tiny_set / "AVE").iterdir())[0], clip)
    (written,) = localize(clip, checkpoint=tiny_run, plot=tmp_path / "plots").written
    before = written.read_bytes()
    assert localize(clip, checkpoint=tiny_run, plot=tmp_path / "plots", overwrite=True).written == (written,)
    assert written.read_bytes() == before
    assert written == tmp_path / "plots" / "$a$ & b.png"
    with Image.open(written) as picture:
        assert picture.size[0] == 1200


def test_files_written_before_one_that_cannot_be_are_named(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    clip = sorted((tiny_set / "AVE").iterdir())[0]

    def another_writes(done: int, *_: object) -> None:
        if done == 0:
            (tmp_path / f"{clip.stem}.png").write_bytes(b"mine")

    found = localize(clip, checkpoint=tiny_run, out=tmp_path, plot=tmp_path, progress=another_writes)
    assert found.written == (tmp_path / f"{clip.stem}.json",)
    assert [failure.path for failure in found.unwritten] == [clip]


def test_videos_are_written_with_their_events(tiny_set: Path, tiny_run: Path, tmp_path: Path) -> None:
    clip = sorted((tiny_set / "AVE").iterdir())[0]
    (written,) = localize(clip, checkpoint=tiny_run, video=tmp_path, heat_map=True).written
    assert written == tmp_path / f"{clip.stem}.events.mp4"
    before, after = (decode_clip(path, FrameRequest(8, 8)) for path in (clip, written))
    np.testing.assert_array_equal(before.waveform, after.waveform)


def test_threshold_and_minimum_duration_can_be_given(found: Localization, tiny_run: Path) -> None:
    paths = [clip.path for clip in found.videos]
    for clip in localize(paths, checkpoint=tiny_run, threshold=1e-6).videos:
        assert [(event.start_seconds, event.end_seconds) for event in clip.events] == [(0, clip.duration_seconds)]
    for clip in localize(paths, checkpoint=tiny_run, threshold=1 - 1e-6).videos:
        assert clip.events == ()
    with pytest.raises(ValueError, match="event_threshold = 2"):
        localize(paths, checkpoint=tiny_run, threshold=2)


def test_events_do_not_depend_on_the_number_of_jobs(found: Localization, tiny_run: Path) -> None:
    paths = [clip.path for clip in found.videos]
    seen: list[Path] = []
    one = localize(paths, checkpoint=tiny_run, jobs=1, found=lambda clip: seen.append(clip.path))
    two = localize(paths, checkpoint=tiny_run, jobs=2)
    assert seen == paths == [clip.path for clip in two.videos]
    for a, b in zip(one.videos, two.videos, strict=True):
        np.testing.assert_allclose(a.event_probability, b.event_probability, atol=1e-4)


def test_extractors_other_than_the_checkpoints_are_refused_by_name(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config.pop("config_sha256", None)
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
    monkeypatch.setattr("ccln.pipeline.localize.localizer.load_extractors", made)
    checkpoint = load_checkpoint(tiny_run)
    checkpoint.specification["visual"]["precision"] = trained_in
    with pytest.raises(MadeError, match="bfloat16" if "avx512_bf16" in capabilities else "float32"):
        Localizer(checkpoint, device="cpu")


def test_a_checkpoint_of_another_arithmetic_finds_the_same(found: Localization, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config.pop("config_sha256", None)
    other = {"float32": "bfloat16", "bfloat16": "float32"}[config["specification"]["visual"]["precision"]]
    config["specification"]["visual"]["precision"] = other
    (run / "config.json").write_text(json.dumps(config))
    (located,) = localize(found.videos[0].path, checkpoint=run).videos
    assert located.events == found.videos[0].events


def test_features_of_another_shape_than_the_networks_are_refused(
    tiny_run: Path, tiny_set: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config.pop("config_sha256", None)
    config["specification"]["audio"] = PRESETS["light-log-mel"].to_json()["audio"]
    config["specification"]["weights_sha256"]["audio"] = None
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SpecificationError, match=r"audio.*128.*1024"):
        localize(sorted((tiny_set / "AVE").iterdir())[:1], checkpoint=run)


def test_a_checkpoint_of_imported_features_is_refused_with_a_remedy(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config.pop("config_sha256", None)
    config["specification"] = {"imported": "published AVE features"}
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SpecificationError, match=r"imported features.*ave-legacy"):
        localize([Path(__file__)], checkpoint=run)


def test_differences_are_all_named() -> None:
    require_same_specification({"a": {"b": 1}}, {"a": {"b": 1}})
    require_same_specification({"visual": {"precision": "float32"}}, {"visual": {"precision": "bfloat16"}})
    with pytest.raises(SpecificationError, match=r"a.b: checkpoint 1, at hand 2; c: checkpoint 3, at hand None"):
        require_same_specification({"a": {"b": 1}, "c": 3}, {"a": {"b": 2}})


def test_a_folder_without_a_checkpoint_is_refused_with_a_remedy(tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ccln-train"):
        localize([tiny_set], checkpoint=tmp_path)


def test_without_a_checkpoint_the_newest_localization_run_is_used(
    found: Localization, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "runs/first")
    Path("runs/second").mkdir()
    Path("runs/second/config.json").write_text('{"format": 2, "network": "matching"}')
    (located,) = localize([found.videos[0].path]).videos
    assert located.events == found.videos[0].events
    assert np.allclose(located.event_probability, found.videos[0].event_probability, atol=1e-5)
