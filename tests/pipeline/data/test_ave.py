import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import SHARED

from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import (
    SPLITS,
    AnnotatedClip,
    Dataset,
    DatasetError,
    Split,
    class_labels,
    segment_labels,
)

PUBLISHED = SHARED / "ave"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published AVE files are not in {PUBLISHED}")

HEADER = "Category&VideoID&Quality&StartTime&EndTime"
ROWS = ["Bark&-abc_DEF123&good&0&10", "Violin, fiddle&xyz&good&2&5", "Cat&none&good&0&0"]


def write_folder(folder: Path, annotations=ROWS, train=ROWS[:1], validation=ROWS[1:2], test=ROWS[2:]) -> Path:
    contents = {"Annotations": [HEADER, *annotations], "trainSet": train, "valSet": validation, "testSet": test}
    for name, rows in contents.items():
        (folder / f"{name}.txt").write_bytes("".join(f"{row}\n" for row in rows).encode())
    return folder


# Reading


def test_reads_rows_splits_and_class_names(tmp_path):
    folder = read_ave_folder(write_folder(tmp_path))
    assert folder.source == tmp_path
    assert folder.class_names == ("Bark", "Violin, fiddle", "Cat")
    assert folder.clips == (
        AnnotatedClip(0, "Bark", "-abc_DEF123", ((0, 10),), "train"),
        AnnotatedClip(1, "Violin, fiddle", "xyz", ((2, 5),), "validation"),
        AnnotatedClip(2, "Cat", "none", ((0, 0),), "test"),
    )
    assert folder.clips_of("validation") == folder.clips[1:2]


NAMES = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="&/\\."), min_size=1, max_size=8)
LABELS = st.lists(NAMES, min_size=1, max_size=3).map(", ".join)
TIMES = st.tuples(st.integers(0, 10), st.integers(0, 10)).map(sorted)
RECORDS = st.builds(lambda label, name, quality, times: (label, name, quality, *times), LABELS, NAMES, NAMES, TIMES)


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(RECORDS, min_size=1, max_size=6),
    repeats=st.integers(1, 3),
    line_end=st.sampled_from(["\n", "\r\n"]),
    start=st.sampled_from(["", "\ufeff"]),
    header=st.sampled_from([[], [HEADER]]),
    end=st.sampled_from(["", "\n", "\r\n\r\n", "\n  \n"]),
    random=st.randoms(use_true_random=False),
)
def test_every_row_is_read_back_in_any_form_of_the_file(records, repeats, line_end, start, header, end, random):
    records = records * repeats
    order = list(range(len(records)))
    random.shuffle(order)
    cuts = sorted(random.choices(range(len(records) + 1), k=2))
    parts = [order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :]]
    with tempfile.TemporaryDirectory() as directory:
        names = ["Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt"]
        for name, part in zip(names, [range(len(records)), *parts], strict=True):
            lines = header + ["&".join(map(str, records[position])) for position in part]
            (Path(directory) / name).write_bytes((start + line_end.join(lines) + end).encode())
        folder = read_ave_folder(directory)

    assert folder.class_names == tuple(dict.fromkeys(record[0] for record in records))
    for split, part in zip(("train", "validation", "test"), parts, strict=True):
        clips = folder.clips_of(split)
        assert [event(clip) for clip in clips] == [written(records[position]) for position in part]
    # Each row is used once, by a clip that equals it in all that decides which row it is.
    assert sorted(clip.row for clip in folder.clips if clip.row is not None) == list(range(len(records)))
    for clip in folder.clips:
        assert event(clip) == written(records[clip.row or 0])


def event(clip: AnnotatedClip) -> tuple:
    return clip.label, clip.video_id, clip.spans


def written(record: tuple) -> tuple:
    label, video_id, _, start_seconds, end_seconds = record
    return label, video_id, ((start_seconds, end_seconds),)


def test_equal_rows_are_assigned_in_order(tmp_path):
    same = "Bark&a&good&0&4"
    rows = [same, "Bark&b&good&0&4", same]
    folder = read_ave_folder(write_folder(tmp_path, rows, train=[same], validation=rows[1:2], test=[same]))
    assert [clip.row for clip in folder.clips] == [0, 1, 2]


def test_one_video_with_two_events_has_two_rows(tmp_path):
    rows = ["Bark&a&good&0&4", "Bark&a&good&6&9", "Cat&a&good&0&4"]
    folder = read_ave_folder(write_folder(tmp_path, rows, train=rows[::-1], validation=[], test=[]))
    assert [clip.row for clip in folder.clips] == [2, 1, 0]


def test_a_split_row_absent_from_the_annotations_has_no_row(tmp_path):
    folder = read_ave_folder(write_folder(tmp_path, test=["Cat&none&good&0&1"]))
    assert folder.clips_of("test")[0].row is None


def test_splits_that_share_a_row_share_its_position(tmp_path):
    folder = read_ave_folder(write_folder(tmp_path, validation=ROWS[2:], test=ROWS[2:]))
    assert [clip.row for clip in folder.clips] == [0, 2, 2]


# Malformed files

MALFORMED = [
    ("Bark&a&good&0", "'Bark&a&good&0'", "five columns"),
    ("Bark&a&good&0&10&1", "'Bark&a&good&0&10&1'", "five columns"),
    (HEADER, "'StartTime'", "whole second"),  # a header anywhere but on top is no header
    ("Bark&a&good&0.5&10", "start time '0.5'", "whole second"),
    ("Bark&a&good&&10", "start time ''", "whole second"),
    ("Bark&a&good&0&ten", "end time 'ten'", "whole second"),
    ("Bark&a&good&0&11", "end time '11'", "0 to 10"),
    ("Bark&a&good&-1&10", "start time '-1'", "0 to 10"),
    ("Bark&a&good&٣&10", "start time '٣'", "0 to 10"),
    ("Bark&a&good&0&" + "9" * 6000, "end time '999", "0 to 10"),
    ("Bark&a&good&6&5", "start time '6'", "at most the end time, 5"),
    ("Bark&&good&0&10", "video id ''", "file name"),
    ("Bark&  &good&0&10", "video id '  '", "file name"),
    ("Bark&a/b&good&0&10", "video id 'a/b'", "path separators"),
    ("Bark&a\\b&good&0&10", "video id 'a\\\\b'", "path separators"),
    ("Bark&..&good&0&10", "video id '..'", "'..'"),
    ("Bark&a\0b&good&0&10", "video id 'a\\x00b'", "control characters"),
    ("Bark&a\x1bb&good&0&10", "video id 'a\\x1bb'", "control characters"),
    ("Bark&a\rb&good&0&10", "video id 'a\\rb'", "control characters"),
    ("Bark&a\u202eb&good&0&10", "video id 'a\\u202eb'", "control characters"),
    ("&a&good&0&10", "category ''", "name"),
    ("Bark\x07&a&good&0&10", "category 'Bark\\x07'", "printable"),
    ("Bark&a&go\x07od&0&10", "quality 'go\\x07od'", "printable"),
]


@pytest.mark.parametrize("split", ["annotations", "train", "validation", "test"])
@pytest.mark.parametrize(("row", "value", "expected"), MALFORMED)
def test_a_malformed_row_is_one_clear_error(tmp_path, split, row, value, expected):
    names = {"annotations": "Annotations.txt", "train": "trainSet.txt", "validation": "valSet.txt"}
    write_folder(tmp_path, **{split: [ROWS[0], "", row]})
    line_number = 4 if split == "annotations" else 3
    with pytest.raises(DatasetError) as caught:
        read_ave_folder(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / names.get(split, 'testSet.txt')}, line {line_number}: ")
    assert value in message
    assert expected in message.split("; expected ")[1]
    assert len(message) < len(str(tmp_path)) + 400


def test_a_row_that_is_not_utf8_is_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "valSet.txt").write_bytes("Bärk&a&good&0&10".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"valSet\.txt, line 1: .*UTF-8"):
        read_ave_folder(tmp_path)


def test_a_category_of_a_split_file_alone_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"testSet\.txt, line 1: category 'Dog'; expected a category of Annotations"):
        read_ave_folder(write_folder(tmp_path, test=["Dog&a&good&0&10"]))


@pytest.mark.parametrize("name", ["Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt"])
class TestFiles:
    def test_a_missing_file_is_named(self, tmp_path, name):
        (write_folder(tmp_path) / name).unlink()
        with pytest.raises(DatasetError, match=f"{name} is missing; an AVE folder holds Annotations.txt"):
            read_ave_folder(tmp_path)

    def test_oversized_files_are_refused_without_reading(self, tmp_path, name):
        with (write_folder(tmp_path) / name).open("wb") as file:
            file.truncate(2**40)  # sparse: reading it would exceed the test's time limit
        with pytest.raises(DatasetError, match=f"{name} has {2**40} bytes"):
            read_ave_folder(tmp_path)

    def test_a_pipe_is_refused_without_waiting(self, tmp_path, name):
        (write_folder(tmp_path) / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(DatasetError, match=f"{name} is not a regular file"):
            read_ave_folder(tmp_path)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"Annotations\.txt cannot be read"):
        read_ave_folder(tmp_path / "file")


def test_annotations_without_rows_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"Annotations\.txt has no rows"):
        read_ave_folder(write_folder(tmp_path, annotations=[]))


# Videos


def videos_by_id(folder: Path, *ids: str) -> dict[str, str | None]:
    rows = [f"Bark&{i}&good&0&10" for i in ids]
    dataset = read_ave_folder(write_folder(folder, rows, train=rows, validation=(), test=()))
    videos = {clip.video_id: dataset.video_of(clip) for clip in dataset.clips}
    assert all(path is None or path.parent == folder / "AVE" for path in videos.values())
    return {video_id: path and path.name for video_id, path in videos.items()}


def test_videos_are_found_by_id_with_any_video_ending(tmp_path):
    videos = tmp_path / "AVE"
    videos.mkdir()
    for name in ["-a.mp4", "b.WEBM", "c.mkv", "c.mp4", "c.avi", "d.txt", "e.v1.mp4", ".mp4"]:
        (videos / name).touch()
    (videos / "f.mp4").mkdir()
    assert videos_by_id(tmp_path, "-a", "b", "c", "d", "e.v1", "e", "f", "A") == {
        "-a": "-a.mp4",
        "b": "b.WEBM",
        "c": "c.mp4",
        "d": None,
        "e.v1": "e.v1.mp4",
        "e": None,
        "f": None,
        "A": None,
    }


def test_a_folder_without_videos_has_none_by_id(tmp_path):
    assert videos_by_id(tmp_path, "a") == {"a": None}
    (tmp_path / "AVE").touch()
    with pytest.raises(DatasetError, match="AVE cannot be listed"):
        read_ave_folder(tmp_path)


# The published files


@pytest.fixture(scope="module", params=["Annotations.txt", "Annotations.github.txt"])
def published(request, tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("ave")
    for name in ("trainSet.txt", "valSet.txt", "testSet.txt"):
        shutil.copy(PUBLISHED / name, folder)
    shutil.copy(PUBLISHED / request.param, folder / "Annotations.txt")
    return read_ave_folder(folder)


@needs_published
def test_published_counts(published):
    assert len(published.class_names) == 28
    assert (published.class_names[0], published.class_names[-1]) == ("Church bell", "Mandolin")
    splits: dict[Split, int] = {"train": 3339, "validation": 402, "test": 402}
    assert {split: len(published.clips_of(split)) for split in splits} == splits
    assert sorted(clip.row for clip in published.clips) == list(range(4143))

    ids = Counter(clip.video_id for clip in published.clips)
    assert len(ids) == 4097
    assert sum(count > 1 for count in ids.values()) == 45
    train, validation, test = ({clip.video_id for clip in published.clips_of(split)} for split in splits)
    assert (len(train & test), len(train & validation)) == (8, 10)

    without_event = [clip.row for clip in published.clips for start, end in clip.spans if start == end]
    assert without_event == [26]


@needs_published
def test_published_background(published):
    labels = segment_labels(published.clips_of("test"), published.class_names)
    assert labels.size == 4020
    assert round(100 * float(np.mean(labels == 28)), 1) == 17.8


@needs_published
def test_published_segment_labels(published):
    h5py = pytest.importorskip("h5py")
    with h5py.File(PUBLISHED / "labels_closs.h5") as file:
        is_event = np.asarray(file["avadataset"])
    with h5py.File(PUBLISHED / "mil_labels.h5") as file:
        clip_label = np.asarray(file["avadataset"]).argmax(axis=1)
    clips = sorted(published.clips, key=lambda clip: clip.row)
    np.testing.assert_array_equal(class_labels(clips, published.class_names), clip_label)
    expected = np.where(is_event == 1, clip_label[:, np.newaxis], 28)
    np.testing.assert_array_equal(segment_labels(clips, published.class_names), expected)

    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        with h5py.File(PUBLISHED / f"{name}_order.h5") as file:
            order = np.asarray(file["order"])
        assert sorted(clip.row for clip in published.clips_of(split)) == sorted(order.tolist())


@needs_published
def test_published_variants_are_equal(tmp_path):
    read = []
    for name in ("Annotations.txt", "Annotations.github.txt"):
        for split_file in ("trainSet.txt", "valSet.txt", "testSet.txt"):
            (tmp_path / split_file).write_bytes((PUBLISHED / split_file).read_bytes())
        (tmp_path / "Annotations.txt").write_bytes((PUBLISHED / name).read_bytes())
        read.append(read_ave_folder(tmp_path))
    assert read[0] == read[1]


@needs_published
def test_index_files_replace_missing_split_files(tmp_path: Path) -> None:
    for name in ("train_order.h5", "val_order.h5", "test_order.h5"):
        shutil.copy(PUBLISHED / name, tmp_path)
    shutil.copy(PUBLISHED / "Annotations.github.txt", tmp_path / "Annotations.txt")
    indexed, worded = read_ave_folder(tmp_path), read_ave_folder(PUBLISHED)
    assert indexed.class_names == worded.class_names
    for split in SPLITS:
        assert {clip.row for clip in indexed.clips_of(split)} == {clip.row for clip in worded.clips_of(split)}
    assert {clip.row: clip for clip in indexed.clips} == {clip.row: clip for clip in worded.clips}
