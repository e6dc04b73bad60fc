"""Videos of any length as training data: which windows there are, what is in them, and their features."""

import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.making import Audio, Video, make_video, steady, sweep

from ccln import evaluate, extract, train
from ccln.cache import FeatureCache, clip_digest, feature_key, source_digest
from ccln.pipeline.data import find_clips
from ccln.pipeline.data.clips import AnnotatedClip, Dataset, DatasetError, segment_labels
from ccln.pipeline.data.csv_file import read_csv_dataset
from ccln.pipeline.data.features import load_features
from ccln.pipeline.train.state import TrainingError

HEADER = "path,start,end,label,split\n"


def read(folder: Path, *rows: str) -> Dataset:
    file = folder / "set.csv"
    file.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return read_csv_dataset(file)


def labels_of(dataset: Dataset, name: str) -> list[str]:
    """The label of each second of a video, "" for background, from all its windows one after the other."""
    clips = sorted((clip for clip in dataset.clips if clip.video_id == name), key=lambda clip: clip.start_seconds)
    names = [*dataset.class_names, ""]
    return [names[index] for index in segment_labels(clips, dataset.class_names).ravel()]


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 25), st.sampled_from("ABC")), min_size=1, max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_the_windows_of_a_video_give_every_second_its_label(lengths, random):
    """Events one after the other, each after a gap, in rows in any order."""
    wanted: list[str] = []
    rows = []
    for gap, length, label in lengths:
        wanted += [""] * gap
        rows.append(f"a.mp4,{len(wanted)},{len(wanted) + length},{label},test")
        wanted += [label] * length
    random.shuffle(rows)
    with tempfile.TemporaryDirectory() as folder:
        dataset = read(Path(folder), *rows)
    starts = [clip.start_seconds for clip in dataset.clips]
    assert starts == list(range(0, len(wanted), 10))
    assert labels_of(dataset, "a") == wanted + [""] * (10 * len(starts) - len(wanted))
    assert len({clip.row for clip in dataset.clips}) == len(dataset.clips)


def test_a_second_of_two_classes_has_the_one_that_covers_more_and_of_two_events_the_later(tmp_path: Path):
    dataset = read(tmp_path, "a.mp4,0,1.6,A,test", "a.mp4,1.6,4.4,B,test", "a.mp4,3,5,A,test", "a.mp4,7,9,B,test")
    # A to 1.6, B from there to 3, where A begins; B goes on to 4.4 and is shown no more.
    assert labels_of(dataset, "a") == ["A", "A", "B", "A", "A", "", "", "B", "B", ""]
    inside = read(tmp_path, "a.mp4,0,10,Music,test", "a.mp4,2,4,Bark,test", "a.mp4,3,3.2,Music,test")
    assert labels_of(inside, "a") == ["Music", "Music", "Bark", "Bark", *["Music"] * 6]


def test_training_has_as_many_windows_of_background_as_of_events(tmp_path: Path):
    rows = ["long.mp4,100,104,A,SPLIT", "long.mp4,355,365,B,SPLIT", "long.mp4,3590,3600,,SPLIT", "quiet.mp4,,,,SPLIT"]
    evaluated = read(tmp_path, *(row.replace("SPLIT", "test") for row in rows))
    assert [clip.start_seconds for clip in evaluated.clips] == [*range(0, 3600, 10), 0]
    trained = read(tmp_path, *(row.replace("SPLIT", "train") for row in rows)).clips
    long = [clip for clip in trained if clip.video_id == "long"]
    events = [clip.start_seconds for clip in long if clip.label]
    background = [clip.start_seconds for clip in long if not clip.label]
    assert (events, len(background)) == ([100, 350, 360], 3)
    assert max(background) - min(background) > 1800  # spread over the hour
    assert [clip.start_seconds for clip in trained if clip.video_id == "quiet"] == [0]


def test_what_is_annotated_ends_with_the_last_row_or_the_video(tmp_path: Path):
    make_video(tmp_path / "a.mp4", Video(steady(625)), Audio(np.zeros(25 * 44_100, np.float32)))
    for rows, starts in (
        (["a.mp4,2,3,A,test"], [0]),
        (["a.mp4,2,12,A,test"], [0, 10]),
        (["a.mp4,2,3,A,test", "a.mp4,0,25,,test"], [0, 10, 20]),
        (["b.mp4,2,3,A,test", "a.mp4,,,,test"], [0, 0, 10, 20]),
        (["a.mp4,2,10.05,A,test"], [0]),  # a sliver is no window
        (["a.mp4,8,10.3,A,test", "a.mp4,12,13,A,test"], [0, 10]),
    ):
        assert [clip.start_seconds for clip in read(tmp_path, *rows).clips] == starts
    assert labels_of(read(tmp_path, "a.mp4,8,10.3,A,test", "a.mp4,18,19,A,test"), "a")[10:18] == [""] * 8


def test_a_wrong_time_does_not_exhaust_the_memory(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"annotated for 27778 hours.*1000 at most"):
        read(tmp_path, "gone.mp4,0,1e8,A,train")


def test_all_windows_of_a_video_are_in_one_split(tmp_path: Path):
    rows = [f"{name}.mp4,{start},{start + 9},A" for name in range(30) for start in (0, 20, 40)]
    (tmp_path / "set.csv").write_text("path,start,end,label\n" + "\n".join(rows))
    splits: dict[str, set[str]] = {}
    for clip in read_csv_dataset(tmp_path / "set.csv").clips:
        splits.setdefault(clip.video_id, set()).add(clip.split)
    assert all(len(of_video) == 1 for of_video in splits.values())
    assert set.union(*splits.values()) == {"train", "validation", "test"}


# Features, training and evaluation


def long_video(path: Path, seconds: int) -> Path:
    """Whose picture and sound are different in every second, and coded without loss, each picture by itself."""
    rate_hz = 16_000
    sound = np.zeros(seconds * rate_hz, np.float32)
    for second in range(seconds):
        tone = sweep(rate_hz) * (second + 1) / seconds
        start = second * rate_hz + rate_hz // 3  # not at the border, where packets are cut
        sound[start : start + len(tone)] = tone
    video = Video(steady(seconds * 8, 8), codec="ffv1", options={"g": "1"})
    return make_video(path, video, Audio(sound, rate_hz, codec="pcm_s16le"))


def cut(source: Path, path: Path, start: int, end: int) -> Path:
    """The packets of a part of a file, as a file."""
    with av.open(str(source)) as given, av.open(str(path), "w") as output:
        streams = {stream.index: output.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.pts is None or packet.time_base is None:
                continue
            if start <= packet.pts * packet.time_base < end:
                offset = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts - offset, packet.pts - offset
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return path


@pytest.fixture(scope="module")
def long_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set of three videos of 25 seconds, and the cache of what it needs."""
    folder = tmp_path_factory.mktemp("long")
    rows = []
    for split in ("train", "val", "test"):
        long_video(folder / f"{split}.mkv", 25)
        rows += [f"{split}.mkv,2,7,A,{split}", f"{split}.mkv,7,13,B,{split}", f"{split}.mkv,22,25,A,{split}"]
    read(folder, *rows)
    summary = extract(folder / "set.csv", cache=folder / "features")
    assert (summary.done, summary.failed) == (9, ())
    return folder / "set.csv", folder / "features"


def test_a_windows_features_are_those_of_the_file_that_is_cut_out(tmp_path: Path, long_set: tuple[Path, Path]):
    file, cache = long_set[0].parent / "test.mkv", FeatureCache(long_set[1])
    (specification,) = cache.specifications()
    for start in (0, 10, 20):
        part = cut(file, tmp_path / f"{start}.mkv", start, start + 10)
        alone = extract(part, cache=tmp_path / "features")
        assert (alone.done, alone.specification) == (1, specification)
        expected = FeatureCache(tmp_path / "features").read(feature_key(source_digest(part), specification))
        found = cache.read(feature_key(clip_digest(source_digest(file), start), specification))
        assert found.duration_seconds == pytest.approx(expected.duration_seconds, abs=0.01)
        assert np.allclose(found.visual, expected.visual, atol=1e-3)
        assert np.allclose(found.audio, expected.audio, atol=1e-3)


def test_only_what_lacks_is_extracted(tmp_path: Path, long_set: tuple[Path, Path]):
    data, cache = long_set
    again = extract(data, cache=cache)
    assert (again.done, again.cached) == (0, 9)
    assert find_clips([data.parent / "test.mkv", data]) == {
        str(data.parent / f"{name}.mkv"): {0, 10, 20} for name in ("test", "train", "val")
    }
    first = extract(data.parent / "test.mkv", cache=cache)  # a file alone is its first ten seconds
    assert (first.done, first.cached) == (0, 1)


def test_a_video_that_ends_before_its_times_is_a_failure(tmp_path: Path):
    video = long_video(tmp_path / "a.mkv", 12)
    (tmp_path / "set.csv").write_text("path,start,end,label\na.mkv,2,12,A\n")
    from ccln.extractors import load_extractors, preset_named
    from ccln.pipeline.extract.run import extract_features

    summary = extract_features(
        {str(video): {0, 30}}, load_extractors(preset_named("light")), FeatureCache(tmp_path / "f")
    )
    assert summary.done == 1
    assert "ends at 12.00 s, and 1 clips after that are wanted" in summary.failed[0].reason


def test_features_of_windows_are_found_with_and_without_the_videos(tmp_path: Path, long_set: tuple[Path, Path]):
    data, cache = long_set
    (tmp_path / "set.csv").write_bytes(data.read_bytes())
    there, absent = (load_features(read_csv_dataset(of), FeatureCache(cache)) for of in (data, tmp_path / "set.csv"))
    for split in ("train", "validation", "test"):
        assert len(there.splits[split]) == 3
        assert there.splits[split].keys == absent.splits[split].keys
        assert [round(seconds, 1) for seconds in there.splits[split].durations_seconds] == [10, 10, 5]


def test_training_and_evaluating_on_whole_videos(long_set: tuple[Path, Path], tmp_path: Path):
    data, cache = long_set
    run = train(data, cache=cache, out=tmp_path / "run", epochs=2)
    assert run.videos["test"].videos == 1
    assert run.videos["test"].seconds == 25
    report = evaluate(run.folder, data=data, cache=cache, split="train")
    assert report.videos is not None
    assert 0 <= report.videos.segment_accuracy <= 1
    assert report.trained_on == 3
    assert report.as_dict()["videos"]["seconds"] == 25
    with pytest.raises(TrainingError, match="finished"):
        train(data, cache=cache, out=tmp_path / "run", epochs=2)


def test_a_clip_is_found_by_its_own_name():
    clip = AnnotatedClip(0, "A", "lecture", ((0, 1),), "train")
    assert (clip.name, AnnotatedClip(0, "A", "lecture", (), "train", start_seconds=120).name) == (
        "lecture",
        "lecture@120s",
    )
