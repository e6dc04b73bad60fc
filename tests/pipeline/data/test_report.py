from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest
from support.making import Audio, Video, make_video, steady
from support.paths import SHARED

from ccln import check_data
from ccln.cache import FeatureCache
from ccln.pipeline.commands.data import data_command
from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import AnnotatedClip, Dataset, DatasetError, Split, videos_of
from ccln.pipeline.data.csv_file import read_csv_dataset
from ccln.pipeline.data.features import load_features
from ccln.pipeline.data.report import report_on, without_leaks

PUBLISHED = SHARED / "ave"


def dataset(*, train: str, validation: str, test: str) -> Dataset:
    """Clips of one class without videos; the id of each is one letter."""
    ids: dict[Split, str] = {"train": train, "validation": validation, "test": test}
    rows: list[tuple[str, Split]] = [(video_id, split) for split, letters in ids.items() for video_id in letters]
    clips = (AnnotatedClip(row, "Bark", video_id, ((0, 10),), split) for row, (video_id, split) in enumerate(rows))
    return Dataset(Path("ave"), ("Bark",), tuple(clips))


def names(data: Dataset, split: Split) -> list[str]:
    return [clip.video_id for clip in data.clips_of(split)]


LEAKY = dataset(train="abcdbd", validation="bcef", test="cfg")


def test_the_report_counts_rows_ids_and_leaks():
    report = report_on(LEAKY)
    assert report.rows == 13
    assert report.clips == {"train": 6, "validation": 4, "test": 3}
    assert report.duplicate_ids == ("b", "c", "d", "f")
    assert report.leaks == {
        ("train", "validation"): ("b", "c"),
        ("train", "test"): ("c",),
        ("validation", "test"): ("c", "f"),
    }
    summary, warnings = report.summary(), report.warnings()
    assert summary == "13 clips of 1 classes (6 train, 4 validation, 3 test); ids with several rows: 4; no videos"
    assert warnings[0] == "videos in train and in validation: 2 (b, c); --drop-leaks leaves them out of train"
    assert [warning.split(":")[0] for warning in warnings] == [
        "videos in train and in validation",
        "videos in train and in test",
        "videos in validation and in test",
    ]


def test_dropping_leaks_puts_every_video_in_one_split_and_keeps_test_whole():
    kept = without_leaks(LEAKY)
    assert names(kept, "train") == ["a", "d", "d"]
    assert names(kept, "validation") == ["b", "e"]
    assert kept.clips_of("test") == LEAKY.clips_of("test")
    assert report_on(kept).leaks == {}
    assert without_leaks(kept) == kept


def test_a_report_without_warnings_is_one_line(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").touch()
    text = "path,start,end,label,split\na.mp4,0,10,Bark,train\nb.mp4,0,10,Bark,val\nc.mp4,0,1,Bark,test\n"
    (tmp_path / "clips.csv").write_text(text)
    report = report_on(read_csv_dataset(tmp_path / "clips.csv"))
    assert (report.summary(), report.warnings()) == ("3 clips of 1 classes (1 train, 1 validation, 1 test)", [])


def test_videos_of_a_csv_are_identified_by_path_not_by_name(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_text(name)
    (tmp_path / "copy.mp4").write_text("x")
    text = (
        "path,start,end,label,split\nx/a.mp4,0,10,Bark,train\ny/a.mp4,0,10,Bark,test\n"
        "copy.mp4,0,10,Bark,validation\ngone.mp4,0,0.3,Bark,train\nquiet.mp4,,,,train\n"
    )
    (tmp_path / "clips.csv").write_text(text)
    data = read_csv_dataset(tmp_path / "clips.csv")
    report = report_on(data)
    assert report.leaks == {}
    assert report.duplicate_ids == ("a",)
    assert report.background == 1
    assert [clip.video_id for clip in report.empty_events] == ["gone"]
    assert [clip.video_id for clip in report.missing_videos] == ["gone", "quiet"]
    summary, (missing,) = report.summary(), report.warnings()
    assert summary.endswith("background throughout: 1; ids with several rows: 1; events that fill no segment: 1")
    assert missing == f"videos that are missing: 2 of 5 ({tmp_path / 'gone.mp4'}, {tmp_path / 'quiet.mp4'})"
    assert without_leaks(data) == data

    digests = {video: video.read_text() for video in videos_of(data)}
    assert report_on(data, digests).leaks == {("train", "validation"): ("a",)}
    kept = without_leaks(data, digests)
    assert [clip.path for clip in kept.clips] == [
        tmp_path / name for name in ("y/a.mp4", "copy.mp4", "gone.mp4", "quiet.mp4")
    ]


def test_split_rows_absent_from_the_annotations_are_reported(tmp_path):
    rows = [f"Bark&{name}&good&0&10" for name in "abc"]
    (tmp_path / "Annotations.txt").write_text("\n".join(rows))
    for name, row in zip(("trainSet", "valSet", "testSet"), rows, strict=True):
        (tmp_path / f"{name}.txt").write_text(row.replace("b&good&0", "b&good&1"))
    report = report_on(read_ave_folder(tmp_path))
    assert [clip.video_id for clip in report.unlisted] == ["b"]
    assert report.warnings() == ["rows of the split files that Annotations.txt has not: 1 (b)"]


def test_check_listens_and_compares_the_videos(tmp_path, capsys, monkeypatch):
    tone = (0.5 * np.sin(np.arange(2 * 44_100) / 10)).astype(np.float32)
    for name, samples in (("a", tone), ("quiet", 0 * tone), ("c", tone[:44_100])):
        make_video(tmp_path / f"{name}.mp4", Video(steady(50)), Audio(samples))
    copyfile(tmp_path / "a.mp4", tmp_path / "b.mp4")  # encoded again, it may differ in a few bits
    make_video(tmp_path / "mute.mp4", Video(steady(50)))
    text = (
        "path,start,end,label,split\na.mp4,0,2,Bark,train\nb.mp4,0,2,Bark,train\nquiet.mp4,,,,train\n"
        "c.mp4,0,1,Bell,val\nmute.mp4,0,1,Bell,test\ngone.mp4,0,1,Bark,test\n"
    )
    (tmp_path / "clips.csv").write_text(text)
    report = check_data(tmp_path / "clips.csv")
    assert report.untrained == ("Bell",)
    assert report.copies == ((tmp_path / "a.mp4", tmp_path / "b.mp4"),)
    assert report.silent == (tmp_path / "quiet.mp4",)
    assert [warning.split(":")[0] for warning in report.warnings()] == [
        "videos that are missing",
        "classes without training clips",
        "videos that are there more than once",
        "videos with silent audio",
    ]
    monkeypatch.setattr("sys.argv", ["ccln-data", "check", str(tmp_path / "clips.csv")])
    with pytest.raises(SystemExit, match="1"):
        data_command()
    printed = capsys.readouterr()
    assert printed.out.startswith("6 clips of 2 classes (3 train, 1 validation, 2 test)")
    assert "warning: classes without training clips: 1 (Bell); add some, or say with a column split" in printed.err


@pytest.mark.parametrize("train", ["a", ""])
@pytest.mark.parametrize("validation", ["b", ""])
@pytest.mark.parametrize("test", ["c", ""])
def test_a_split_that_training_needs_and_that_is_empty_is_warned_of(train: str, validation: str, test: str):
    """A set without training clips is there to be evaluated on, and needs no other split."""
    data = dataset(train=train, validation=validation, test=test)
    lacking = [split for split, clips in (("validation", validation), ("test", test)) if train and not clips]
    warnings = report_on(data).warnings()
    assert [warning.split(":")[0] for warning in warnings] == [f"no {split} clips" for split in lacking]
    if lacking:
        with pytest.raises(DatasetError, match=f"the {lacking[0]} split has no clip"):
            load_features(data, FeatureCache("nowhere"))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published AVE files are not in {PUBLISHED}")
def test_the_report_on_the_published_files():
    data = read_ave_folder(PUBLISHED)
    report = report_on(data)
    assert report.rows == 4143
    assert report.clips == {"train": 3339, "validation": 402, "test": 402}
    assert len(report.duplicate_ids) == 45
    assert {pair: len(ids) for pair, ids in report.leaks.items()} == {
        ("train", "test"): 8,
        ("train", "validation"): 10,
    }
    assert [clip.row for clip in report.empty_events] == [26]
    assert report.unlisted == ()
    assert report.background == 0

    kept = without_leaks(data)
    leaked = {clip.video_id for split in ("validation", "test") for clip in data.clips_of(split)}
    assert [clip for clip in data.clips_of("train") if clip.video_id not in leaked] == list(kept.clips_of("train"))
    assert len(kept.clips_of("train")) == 3339 - 19  # one of the 18 videos has two rows in train
    assert kept.clips[3339 - 19 :] == data.clips[3339:]
    assert report_on(kept).leaks == {}


def test_a_video_that_cannot_be_read_is_reported_and_the_others_are_listened_to(tmp_path):
    quiet = np.zeros(44_100, np.float32)
    for name in "ab":
        make_video(tmp_path / f"{name}.mp4", Video(steady(25)), Audio(quiet))
    copyfile(tmp_path / "b.mp4", tmp_path / "c.mp4")
    rows = [f"{name}.mp4,0,1,Bark,train" for name in "abc"]
    (tmp_path / "clips.csv").write_text("\n".join(["path,start,end,label,split", *rows]))
    steps = []

    def lose_one(done: int, of: int) -> None:
        (tmp_path / "a.mp4").unlink(missing_ok=True)
        steps.append((done, of))

    report = check_data(tmp_path / "clips.csv", progress=lose_one)
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert report.silent == (tmp_path / "b.mp4", tmp_path / "c.mp4")
    assert report.copies == ((tmp_path / "b.mp4", tmp_path / "c.mp4"),)
    assert report.unheard == (
        f"{tmp_path / 'a.mp4'}: cannot be read (No such file or directory). Check the path and its permissions.",
    )
