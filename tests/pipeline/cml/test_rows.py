"""The splits of cross-modality localization and the guard against scoring on trained rows."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.paths import SHARED

from ccln.model import CCLN, Checkpoint, ModelConfig, load_checkpoint, save_checkpoint
from ccln.pipeline.cml.task import cml_dataset
from ccln.pipeline.data import DatasetError, read_dataset
from ccln.pipeline.data.clips import SPLITS, AnnotatedClip, Dataset, Split
from ccln.pipeline.train.trained_rows import SeenRowsError, refuse_seen_rows, row_fingerprints, trained_rows, with_rows

AVE = SHARED / "ave"
published = pytest.mark.skipif(not (AVE / "test_order_match.h5").exists(), reason="AVE's published files are not here")

SPANS = {"train": [(0, 10), (2, 5)], "validation": [(0, 10), (4, 6), (0, 0)], "test": [(1, 10), (0, 10)]}


def made_dataset(source: Path) -> Dataset:
    clips: list[AnnotatedClip] = []
    for split in SPLITS:
        for span in SPANS[split]:
            number = len(clips)
            clips.append(AnnotatedClip(number, "a", f"v{number}", (span,), split))
    return Dataset(source, ("a",), tuple(clips))


def write_orders(folder: Path, **rows: list[int]) -> None:
    for name, order in rows.items():
        with h5py.File(folder / f"{name}_order_match.h5", "w") as file:
            file["order"] = np.array(order, np.int64)


def rows_of(dataset: Dataset) -> dict[Split, list[int | None]]:
    return {split: [clip.row for clip in dataset.clips_of(split)] for split in SPLITS}


def test_without_order_files_only_short_events_stay_in_validation_and_test(tmp_path: Path):
    dataset = cml_dataset(made_dataset(tmp_path))
    assert rows_of(dataset) == {"train": [0, 1], "validation": [3], "test": [5]}
    assert dataset.class_names == ("a",)


def test_order_files_alone_determine_the_splits(tmp_path: Path):
    write_orders(tmp_path, train=[6, 5, 4], val=[0, 1], test=[3])
    assert rows_of(cml_dataset(made_dataset(tmp_path))) == {
        "train": [6, 5, 4],
        "validation": [0, 1],
        "test": [3],
    }


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ({"train": [0], "val": [1]}, r"test_order_match\.h5 is missing"),
        ({"train": [0], "val": [1], "test": [7]}, "names row 7"),
        ({"train": [0], "val": [1], "test": [6]}, "no clip of the test split has one event shorter"),
    ],
)
def test_order_files_that_do_not_fit_are_refused(tmp_path: Path, orders: dict[str, list[int]], message: str):
    write_orders(tmp_path, **orders)
    with pytest.raises(DatasetError, match=message):
        cml_dataset(made_dataset(tmp_path))


def test_a_row_of_no_split_is_refused(tmp_path: Path):
    write_orders(tmp_path, train=[0], val=[1], test=[3])
    dataset = made_dataset(tmp_path)
    with pytest.raises(DatasetError, match="names row 3, which is in no split"):
        cml_dataset(replace(dataset, clips=tuple(clip for clip in dataset.clips if clip.row != 3)))


def test_a_data_set_of_full_events_alone_is_refused(tmp_path: Path):
    dataset = made_dataset(tmp_path)
    full = tuple(replace(clip, spans=((0, 10),)) if clip.split == "validation" else clip for clip in dataset.clips)
    with pytest.raises(DatasetError, match="no clip of the validation split"):
        cml_dataset(replace(dataset, clips=full))


@published
def test_the_published_split_is_used_unchanged():
    dataset = cml_dataset(read_dataset(AVE))
    found = rows_of(dataset)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 3339, "validation": 402, "test": 402}
    with h5py.File(AVE / "test_order_match.h5") as file:
        assert found["test"] == np.asarray(file["order"]).tolist()


@published
def test_a_localization_checkpoint_may_not_be_scored_on_the_published_test_rows(tmp_path: Path):
    localization = read_dataset(AVE)
    matching = cml_dataset(localization)

    def of(dataset: Dataset, split: Split) -> tuple[tuple[AnnotatedClip, ...], list[str]]:
        clips = dataset.clips_of(split)
        return clips, [clip.video_id for clip in clips]

    network = CCLN(ModelConfig(1, 1, 2, 2, len(localization.class_names), width=8, heads=2, embedding_width=4))
    account = with_rows({"task": "supervised"}, *of(localization, "train"))
    save_checkpoint(tmp_path, Checkpoint(network, localization.class_names, {}, account))
    with pytest.raises(SeenRowsError, match=r"^314 of the 402 rows"):
        refuse_seen_rows(trained_rows(load_checkpoint(tmp_path).training), *of(matching, "test"))
    for split in ("validation", "test"):
        refuse_seen_rows(row_fingerprints(*of(matching, "train")), *of(matching, split))
        refuse_seen_rows(row_fingerprints(*of(localization, "train")), *of(localization, split))


def test_a_row_is_identified_by_the_event_of_its_video():
    clip = AnnotatedClip(0, "a", "one", ((2, 5),), "train")
    trained = row_fingerprints([clip], ["key"])
    renamed = replace(clip, row=7, video_id="other", spans=((2.0, 5.0),), split="test")
    with pytest.raises(SeenRowsError, match="other"):
        refuse_seen_rows(trained, [renamed], ["key"])
    for differing in (replace(clip, label="b"), replace(clip, spans=((2, 6),))):
        refuse_seen_rows(trained, [differing], ["key"])
    refuse_seen_rows(trained, [clip], ["another key"])


def test_a_checkpoint_without_a_list_of_trained_rows_is_refused():
    with pytest.raises(SeenRowsError, match="does not say"):
        refuse_seen_rows(None, [], [])


def test_a_checkpoint_keeps_its_trained_rows():
    clips = [AnnotatedClip(0, "a", "one", ((2, 5),), "train"), AnnotatedClip(1, None, "two", (), "train")]
    training = with_rows({"seed": 3}, clips, ["x", "y"])
    assert training["seed"] == 3
    assert trained_rows(training) == row_fingerprints(clips, ["x", "y"])


@pytest.mark.parametrize("training", [{}, {"rows": ""}, {"rows": 3}, {"rows": ["a"]}])
def test_a_training_record_without_rows_gives_none(training: dict):
    assert trained_rows(training) is None
