"""The published AVE features, taken into a cache."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.publishing import (
    features,
    labels,
    publish,
    read_h5,
    split_rows,
    write_annotations,
    write_h5,
)

from ccln import import_ave
from ccln.cache import CacheError, FeatureCache, verify
from ccln.extractors import ExtractorError, preset_from_specification
from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import DatasetError, Split
from ccln.pipeline.data.features import load_features

SHORT: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(published, tmp_path / "ave")
    return tmp_path / "ave"


def test_import_gives_every_row_its_own_features(published: Path, imported: Path) -> None:
    visual, audio = features(12)
    loaded = load_features(read_ave_folder(published), FeatureCache(imported))
    segments, clips = labels(12)
    for split, name in SHORT.items():
        found = loaded.splits[split]
        assert not found.missing
        assert [clip.row for clip in found.clips] == split_rows(12)[name]
        for index, row in enumerate(split_rows(12)[name]):
            assert np.array_equal(found.visual[index].numpy(), visual[row].astype(np.float16))
            assert np.array_equal(found.audio[index].numpy(), audio[row].astype(np.float32))
            assert found.segment_labels[index].tolist() == segments[row].tolist()
            assert found.class_labels[index] == clips[row]


def test_a_repeated_or_resumed_import_adds_only_missing_rows(published: Path, tmp_path: Path) -> None:
    def stop_after_five(done: int, total: int) -> None:
        assert total == 15
        if done == 5:
            raise KeyboardInterrupt

    cache = tmp_path / "features"
    with pytest.raises(KeyboardInterrupt):
        import_ave(published, cache=cache, progress=stop_after_five)
    steps: list[tuple[int, int]] = []
    summary = import_ave(published, cache=cache, progress=lambda done, total: steps.append((done, total)))
    assert (summary.done, summary.cached, summary.background) == (10, 5, 3)
    assert steps == [(done, 15) for done in range(16)]
    again = import_ave(published, cache=cache)
    assert (again.done, again.cached, again.specification) == (0, 15, summary.specification)
    assert list(FeatureCache(cache).specifications()) == [summary.specification]


def test_import_compares_every_label_and_order_file_that_is_there(published: Path, tmp_path: Path) -> None:
    compared = import_ave(str(published), cache=str(tmp_path / "a")).compared
    assert set(compared) == {
        *("labels.h5", "mil_labels.h5", "labels_closs.h5", "labels_noisy.h5"),
        *("train_order.h5", "val_order.h5", "test_order.h5"),
    }
    bare = publish(tmp_path / "bare", background=0, header=False)
    for path in bare.glob("*.h5"):
        if "feature" not in path.name:
            path.unlink()
    summary = import_ave(bare, cache=tmp_path / "b")
    assert (summary.done, summary.background, summary.compared) == (12, 0, ())
    assert "visual_feature_noisy.h5 and audio_feature_noisy.h5" in summary.notes[0]


def _cell(name: str, index: tuple[int, ...], value: float, key: str = "avadataset") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        array = read_h5(folder / name, key)
        array[index] = value
        write_h5(folder / name, array, key)

    return spoil


def _array(name: str, array: np.ndarray, key: str = "avadataset") -> Callable[[Path], None]:
    return lambda folder: write_h5(folder / name, array, key) and None


def _gone(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cell("labels.h5", (7, 4, 2), 0.5), r"labels\.h5, row 7 \(id-7\.x\)"),
        (_cell("labels.h5", (7, 4, 2), np.nan), r"labels\.h5, row 7 \(id-7\.x\)"),
        (_cell("mil_labels.h5", (3, 0), 0), r"mil_labels\.h5, row 3"),
        (_cell("labels_closs.h5", (11, 9), 0), r"labels_closs\.h5, row 11"),
        (_cell("labels_noisy.h5", (1, 0), 1), r"labels_noisy\.h5, row 1"),
        (_array("labels.h5", np.zeros((12, 10, 3))), r"labels\.h5 has 3 columns, 3 classes .* need 4"),
        (_array("mil_labels.h5", np.zeros((11, 4))), r"mil_labels\.h5: its shape is 11 x 4, expected 12 x any"),
        (_cell("val_order.h5", (1,), 0, "order"), r"val_order\.h5 has 3 rows, .* 3, the first .* is 0"),
        (_cell("val_order.h5", (1,), 12, "order"), r"val_order\.h5 names row 12, the rows are 0 to 11"),
        (_cell("test_order.h5", (1,), -1, "order"), r"test_order\.h5 names row -1"),
        (_array("train_order.h5", np.array([10, 8, 6, 4, 2, 0, 0]), "order"), r"train_order\.h5 has 7 rows"),
        (_array("visual_feature.h5", features(11)[0]), r"11 rows .*12"),
        (_array("audio_feature.h5", features(13)[1]), "13"),
        (_array("visual_feature.h5", np.zeros((12, 9, 2, 2, 4))), "9"),
        (_cell("visual_feature.h5", (6, 2, 0, 0, 0), 1e6), r"visual_feature\.h5, row 6, segment 2"),
        (_array("visual_feature_noisy.h5", np.zeros((3, 10, 2, 3, 5))), "differ in shape"),
        (_gone("visual_feature.h5"), r"visual_feature\.h5 is missing.*AVE-ECCV18"),
        (_gone("audio_feature.h5"), r"audio_feature\.h5 is missing.*AVE-ECCV18"),
        (_gone("Annotations.txt"), r"Annotations\.txt is missing"),
    ],
)
def test_import_refuses_files_that_contradict_each_other(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises((DatasetError, CacheError), match=message):
        import_ave(folder, cache=tmp_path / "features")


def test_files_without_ten_segments_are_refused(folder: Path, tmp_path: Path) -> None:
    write_h5(folder / "visual_feature.h5", np.zeros((12, 9, 2, 2, 4)))
    write_h5(folder / "audio_feature.h5", np.zeros((12, 9, 5)))
    with pytest.raises(DatasetError, match="9 segments a clip, a clip here has 10"):
        import_ave(folder, cache=tmp_path / "features")


@pytest.mark.parametrize("at", [20, -1])
def test_damaged_features_are_imported_again(folder: Path, imported: Path, tmp_path: Path, at: int) -> None:
    cache = shutil.copytree(imported, tmp_path / "features")
    path = next((cache / "entries").rglob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    again = import_ave(folder, cache=cache)
    assert (again.done, again.cached) == (1, 14)
    assert verify(FeatureCache(cache)) == (15, [])


def test_other_features_of_the_same_rows_are_refused(folder: Path, imported: Path, tmp_path: Path) -> None:
    cache = shutil.copytree(imported, tmp_path / "features")
    _cell("visual_feature.h5", (4, 2, 0, 0, 0), 3.0)(folder)
    with pytest.raises(CacheError, match=r"row 4: .* other features of this row.* cache of its own"):
        import_ave(folder, cache=cache)


def test_rows_in_no_split_are_left_out_and_noted(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "trainSet.txt").read_text().splitlines(keepends=True)
    (folder / "trainSet.txt").write_text("".join(lines[1:]))  # row 10
    _array("train_order.h5", np.array([8, 6, 4, 2, 0]), "order")(folder)
    summary = import_ave(folder, cache=tmp_path / "features")
    assert summary.done == 14
    assert summary.notes == ("1 rows of Annotations.txt are in no split",)


def test_imported_features_never_replace_extracted_ones(imported: Path, tmp_path: Path) -> None:
    ((digest, specification),) = FeatureCache(imported).specifications().items()
    assert specification["imported"] == "published AVE features"
    assert specification["visual"] == {"made_with": "not known", "shape": [10, 2, 3, 4]}
    with pytest.raises(ExtractorError):
        preset_from_specification(dict(specification))
    folder = tmp_path / "as-published"
    write_annotations(folder, 4)
    write_h5(folder / "visual_feature.h5", np.zeros((4, 10, 7, 7, 512)))
    write_h5(folder / "audio_feature.h5", np.zeros((4, 10, 128)))
    found = import_ave(folder, cache=tmp_path / "features").specification
    assert found != digest
    made_with = FeatureCache(tmp_path / "features").specifications()[found]
    assert "VGG-19" in str(made_with["visual"])
    assert "VGGish" in str(made_with["audio"])


def test_training_needs_no_video(published: Path, imported: Path, tmp_path: Path) -> None:
    from ccln import train

    result = train(published, cache=imported, out=tmp_path / "run", epochs=1)
    assert not any(result.missing.values())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["specification"]["imported"] == "published AVE features"
