"""Published sets by their own files; the samples are made up in their forms."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.making import Audio, Video, make_video, steady

from ccln import import_annotations
from ccln.pipeline.data.clips import Dataset, DatasetError, segment_labels
from ccln.pipeline.data.csv_file import read_csv_dataset


def videos(folder: Path, *names: str) -> Path:
    """A folder of videos of these names that nothing can decode."""
    root = folder / "videos"
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).write_bytes(name.encode())
    return root


def imported(folder: Path, files: dict[str, str]) -> Dataset:
    for name, text in files.items():
        (folder / name).write_text(text)
    out = folder / "set.csv"
    import_annotations([folder / name for name in files], media_root=folder / "videos", out=out, overwrite=True)
    return read_csv_dataset(out)


def seconds_of(dataset: Dataset, name: str) -> list[str]:
    clips = sorted((clip for clip in dataset.clips if clip.video_id == name), key=lambda clip: clip.start_seconds)
    names = [*dataset.class_names, ""]
    return [names[index] for index in segment_labels(clips, dataset.class_names).ravel()]


UNAV = {
    "-abc_123XYZ": {
        "duration": 24,
        "subset": "test",
        "annotations": [
            {"segment": [0, 20.2], "label": "wind noise", "label_id": 7},
            {"segment": [3.03, 5.9], "label": "dog barking", "label_id": 12},
            {"segment": [21, 24.4], "label": "wind noise", "label_id": 7},
        ],
    },
    "bcd": {"duration": 9.5, "subset": "train", "annotations": [{"segment": [1, 2], "label": "x", "label_id": 1}]},
    "cde": {"duration": 9, "subset": "validation", "annotations": []},
    "gone": {"duration": 9, "subset": "train", "annotations": [{"segment": [1, 2], "label": "y", "label_id": 2}]},
}


def test_unav_100(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = videos(tmp_path, "bcd.mp4", "cde.mp4")
    make_video(root / "-abc_123XYZ.mp4", Video(steady(120, 5)), Audio(np.zeros(24 * 8000, np.float32), 8000))
    dataset = imported(tmp_path, {"unav100_annotations.json": json.dumps({"version": "unav100", "database": UNAV})})
    assert {clip.video_id: clip.split for clip in dataset.clips} == {
        "-abc_123XYZ": "test",
        "bcd": "train",
        "cde": "validation",
    }
    wind, dog = "wind noise", "dog barking"
    assert seconds_of(dataset, "-abc_123XYZ") == [*[wind] * 3, *[dog] * 3, *[wind] * 14, "", *[wind] * 3, *[""] * 6]
    assert "1 videos are not there and are left out (gone, ...)" in caplog.text


OV_META = (
    "split,cls_name,cls_type,vid_name\ntrain,people burping,close,abc\nval,people burping,close,bcd\n"
    "test,zebra,open,cde\n"
)


def ov(label: str = "[0, 1, 1, 0, 0, 0, 0, 0, 0, 1]") -> str:
    return json.dumps(
        {
            "abc": {"category": "people burping", "label": label},
            "bcd": {"category": "people burping", "label": "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"},
            "cde": {"category": "zebra", "label": "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"},
        }
    )


def test_ov_ave_bench(tmp_path: Path):
    videos(tmp_path, "abc.mp4", "bcd.mp4", "cde.mp4")
    dataset = imported(tmp_path, {"released_ovavel_dataset_anno.json": ov(), "ovave_dataset_meta.csv": OV_META})
    found = {clip.video_id: (clip.label, clip.spans, clip.split) for clip in dataset.clips}
    assert found == {
        "abc": ("people burping", ((1, 3), (9, 10)), "train"),
        "bcd": (None, (), "validation"),
        "cde": ("zebra", ((0, 10),), "test"),
    }


LLP = {
    "AVVP_train.csv": "filename\tevent_labels\naaaaaaaaaaa_30_40\tDog\nbbbbbbbbbbb_0_10\tSpeech,Dog\n",
    "AVVP_val_pd.csv": "filename\tevent_labels\nccccccc_ccc_7_17\tSpeech,Dog\n",
    "AVVP_test_pd.csv": "filename\tevent_labels\nddddddddddd_7_17\tSpeech\neeeeeeeeeee_7_17\tFrying_(food)\n",
    "AVVP_eval_audio.csv": "filename\tonset\toffset\tevent_labels\n"
    "ccccccc_ccc_7_17\t0\t6\tDog\nccccccc_ccc_7_17\t0\t10\tSpeech\neeeeeeeeeee_7_17\t2\t10\tFrying_(food)\n",
    "AVVP_eval_visual.csv": "filename\tonset\toffset\tevent_labels\n"
    "ccccccc_ccc_7_17\t2\t4\tDog\nccccccc_ccc_7_17\t5\t10\tDog\neeeeeeeeeee_7_17\t0\t3\tFrying_(food)\n"
    "ddddddddddd_7_17\t0\t10\tSpeech\n",
}


def test_llp(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Training clips have a weak label; in the others an event is where a class is both heard and seen."""
    names = "aaaaaaaaaaa.mp4", "bbbbbbbbbbb.mp4", "ccccccc_ccc_7_17.mp4", "ddddddddddd.mp4", "eeeeeeeeeee.mp4"
    videos(tmp_path, *names)
    dataset = imported(tmp_path, LLP)
    found = {clip.video_id[:3]: (clip.label, clip.spans, clip.split) for clip in dataset.clips}
    assert found == {
        "aaa": ("Dog", ((0, 10),), "train"),
        "ccc": ("Dog", ((2, 4), (5, 6)), "validation"),
        "ddd": (None, (), "test"),
        "eee": ("Frying_(food)", ((2, 3),), "test"),
    }
    assert "1 training clips of LLP have several classes" in caplog.text


def test_an_uncut_video_is_not_taken_for_the_clip_that_was_annotated(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = videos(tmp_path, "ccccccc_ccc.mp4", "ddddddddddd.mp4", "eeeeeeeeeee.mp4")
    make_video(root / "aaaaaaaaaaa.mp4", Video(steady(200, 5)), Audio(np.zeros(40 * 8000, np.float32), 8000))
    assert "aaaaaaaaaaa" not in {clip.video_id for clip in imported(tmp_path, LLP).clips}
    assert "aaaaaaaaaaa.mp4: is not the clip that was annotated but longer" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"u.json": json.dumps({"database": {"bcd": {"annotations": []}}})}, "missing required field `subset`"),
        ({"u.json": json.dumps({"database": {"bcd": {"subset": "x", "annotations": []}}})}, "'bcd' is in 'x'"),
        ({"o.json": ov()}, "one JSON and one table are needed, here are 1 and 0"),
        ({"o.json": ov("[0, 1]"), "m.csv": OV_META}, "the label of 'abc' is .*expected ten times 0 or 1"),
        ({"o.json": ov("zero"), "m.csv": OV_META}, "the label of 'abc' is 'zero'"),
        ({"o.json": ov(), "m.csv": OV_META + "test,zebra,open,zzz\n"}, "'test,zebra,open,zzz' has no annotation in"),
        ({"AVVP_test_pd.csv": LLP["AVVP_test_pd.csv"]}, "AVVP_eval_audio.csv and AVVP_eval_visual.csv beside them"),
        ({**LLP, "AVVP_eval_audio.csv": "filename\tonset\toffset\tevent_labels\na\tb\tc\td\n"}, "is not filename"),
        ({"some.csv": LLP["AVVP_train.csv"]}, "its name says no split"),
        ({"u.json": json.dumps({"database": {"gone": UNAV["gone"]}})}, "no video of these annotations is in"),
    ],
)  # fmt: skip
def test_what_is_not_as_published_is_refused(tmp_path: Path, files: dict[str, str], message: str):
    videos(tmp_path, "abc.mp4", "bcd.mp4", "cde.mp4")
    with pytest.raises(DatasetError, match=message):
        imported(tmp_path, files)
