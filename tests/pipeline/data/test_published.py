"""The label and order files that AVE publishes, rebuilt from its text files."""

from pathlib import Path

import numpy as np
import pytest
from support.publishing import one_hot, publish, read_h5, write_h5

from ccln import export_ave, import_ave
from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import Split
from ccln.pipeline.data.published import compare_labels, compare_orders, label_arrays, match_order_arrays

AVE = Path("../shared/ave")
needs_ave = pytest.mark.skipif(not AVE.is_dir(), reason="the published label files are not here")
SHORT: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


@needs_ave
def test_every_published_label_is_rebuilt_from_the_text() -> None:
    dataset = read_ave_folder(AVE)
    clips = {clip.row: clip for clip in dataset.clips if clip.row is not None}
    assert sorted(clips) == list(range(4143))
    made = label_arrays([clips[row] for row in range(4143)], dataset.class_names)
    for name in ("mil_labels.h5", "labels_closs.h5"):
        found = read_h5(AVE / name)
        assert found.dtype == made[name].dtype
        assert np.array_equal(found, made[name])
    assert made["labels.h5"].shape == (4143, 10, 29)
    assert made["labels.h5"].dtype == np.float32
    assert np.array_equal(1 - made["labels.h5"][..., 28], read_h5(AVE / "labels_closs.h5"))
    assert compare_labels(AVE, clips, dataset.class_names, 4143) == ["mil_labels.h5", "labels_closs.h5"]


@needs_ave
def test_the_published_orders_are_the_text_files_row_by_row() -> None:
    dataset = read_ave_folder(AVE)
    rows: dict[Split, list[int]] = {
        split: [clip.row for clip in dataset.clips_of(split) if clip.row is not None] for split in SHORT
    }
    for split, name in SHORT.items():
        assert read_h5(AVE / f"{name}_order.h5", "order").tolist() == rows[split]
    assert compare_orders(AVE, rows, 4143) == ["train_order.h5", "val_order.h5", "test_order.h5"]
    matched = match_order_arrays(rows, read_h5(AVE / "labels_closs.h5"))
    assert len(matched["train_order_match.h5"]) == 3339
    seconds = read_h5(AVE / "labels_closs.h5").sum(axis=1)
    for name in ("val_order_match.h5", "test_order_match.h5"):
        assert set(seconds[matched[name]]) <= set(range(1, 10))


@needs_ave
def test_published_background_features_go_through_the_cache(tmp_path: Path) -> None:
    published = read_h5(AVE / "audio_feature_noisy.h5")[:12]
    folder = publish(tmp_path / "ave", background=0)
    write_h5(folder / "audio_feature.h5", published)
    import_ave(folder, cache=tmp_path / "cache")
    export_ave(tmp_path / "out", data=folder, cache=tmp_path / "cache")
    back = read_h5(tmp_path / "out" / "audio_feature.h5")
    assert np.array_equal(back == 0, published == 0)
    np.testing.assert_allclose(back, published, rtol=2**-24, atol=0)


def test_one_hot_of_the_tests_is_one_hot() -> None:
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
