"""Features from and to the files that AVE publishes, held against readers and writers that know h5py only."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from publishing import (
    HEADER,
    NAMES,
    dataset_in,
    events,
    features,
    labels,
    one_hot,
    publish,
    read_h5,
    split_rows,
    write_annotations,
    write_h5,
)

from ccln.cache import CacheError, FeatureCache, Features, specification_digest
from ccln.extractors import ExtractorError, preset_from_specification
from ccln.pipeline.datasets.annotations import DatasetError, Split
from ccln.pipeline.datasets.ave_folder import read_ave_folder
from ccln.pipeline.exchange.ave import ExportSummary, export_ave, import_ave
from ccln.pipeline.exchange.labels import compare_labels, compare_orders, label_arrays, match_order_arrays
from ccln.pipeline.features import load_features

AVE = Path("../shared/ave")
needs_ave = pytest.mark.skipif(not AVE.is_dir(), reason="the published label files are not here")
SPECIFICATION = {"network": "none"}
SHORT: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
HDF5 = {
    *("visual_feature.h5", "audio_feature.h5", "visual_feature_vec.h5", "labels.h5", "mil_labels.h5"),
    *("labels_closs.h5", "train_order.h5", "val_order.h5", "test_order.h5", "train_order_match.h5"),
    *("val_order_match.h5", "test_order_match.h5"),
}
NOISY = {"visual_feature_noisy.h5", "audio_feature_noisy.h5", "labels_noisy.h5"}
TEXTS = {"Annotations.txt", *NAMES.values()}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published") / "ave")


@pytest.fixture(scope="module")
def imported(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("imported") / "features"
    assert import_ave(published, cache=cache).done == 15
    return cache


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(published, tmp_path / "ave")
    return tmp_path / "ave"


def own_cache(
    root: Path,
    names: list[str],
    map_shape: tuple[int, ...] = (2, 3, 4),
    audio: int = 5,
    specification: dict = SPECIFICATION,
) -> dict[str, Features]:
    """Features that nobody published, as if extracted from videos of these names."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for number, name in enumerate(names):
        visual = torch.randn(10, *map_shape, generator=generator).half()
        made[name] = Features(visual, torch.randn(10, audio, generator=generator), 10.0)
        FeatureCache(root).write(
            made[name], source_sha256=f"{number:064x}", source_path=f"{name}.mp4", specification=specification
        )
    return made


def unique_annotations(folder: Path, rows: int, classes: int = 3) -> list[str]:
    """An AVE folder without videos and without ids that occur twice; returns the ids."""
    folder.mkdir()
    ids = [f"clip{row}" for row in range(rows)]
    lines = [f"Class {row % classes}&{ids[row]}&good&{row % 5}&{10 - row % 2}" for row in range(rows)]
    (folder / "Annotations.txt").write_text("\n".join([HEADER, *lines]) + "\n")
    for split, of_split in split_rows(rows).items():
        (folder / NAMES[split]).write_text("".join(f"{lines[row]}\n" for row in of_split))
    return ids


# Import


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


def test_import_again_and_import_after_a_stop_do_only_what_is_lacking(published: Path, tmp_path: Path) -> None:
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


def test_import_compares_what_there_is_to_compare(published: Path, tmp_path: Path) -> None:
    compared = import_ave(published, cache=tmp_path / "a").compared
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


def test_files_of_ten_segments_only(folder: Path, tmp_path: Path) -> None:
    write_h5(folder / "visual_feature.h5", np.zeros((12, 9, 2, 2, 4)))
    write_h5(folder / "audio_feature.h5", np.zeros((12, 9, 5)))
    with pytest.raises(DatasetError, match="9 segments a clip, a clip here has 10"):
        import_ave(folder, cache=tmp_path / "features")


def test_other_features_of_the_same_rows_are_not_mixed_in(folder: Path, imported: Path, tmp_path: Path) -> None:
    cache = shutil.copytree(imported, tmp_path / "features")
    _cell("visual_feature.h5", (4, 2, 0, 0, 0), 3.0)(folder)
    with pytest.raises(CacheError, match=r"row 4: .* other features of this row.* cache of its own"):
        import_ave(folder, cache=cache)


def test_rows_in_no_split_are_left_out_and_said(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "trainSet.txt").read_text().splitlines(keepends=True)
    (folder / "trainSet.txt").write_text("".join(lines[1:]))  # row 10
    _array("train_order.h5", np.array([8, 6, 4, 2, 0]), "order")(folder)
    summary = import_ave(folder, cache=tmp_path / "features")
    assert summary.done == 14
    assert summary.notes == ("1 rows of Annotations.txt are in no split",)


def test_imported_features_are_never_taken_for_extracted_ones(imported: Path, tmp_path: Path) -> None:
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
    from ccln.pipeline import train

    result = train(published, cache=imported, out=tmp_path / "run", epochs=1)
    assert not any(result.missing.values())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["specification"]["imported"] == "published AVE features"


# Export


@pytest.fixture(scope="module")
def exported(published: Path, imported: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportSummary]:
    out = tmp_path_factory.mktemp("exported") / "out"
    return out, export_ave(out, data=published, cache=imported)


def test_export_writes_the_published_layout(exported: tuple[Path, ExportSummary], published: Path) -> None:
    out, summary = exported
    assert {path.name for path in out.iterdir()} == HDF5 | NOISY | TEXTS
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (summary.clips, summary.background) == (12, 3)
    shapes = {
        "visual_feature.h5": ((12, 10, 2, 3, 4), "float64"),
        "audio_feature.h5": ((12, 10, 5), "float64"),
        "visual_feature_vec.h5": ((12, 10, 4), "float64"),
        "labels.h5": ((12, 10, 4), "float32"),
        "mil_labels.h5": ((12, 4), "float32"),
        "labels_closs.h5": ((12, 10), "float32"),
        "visual_feature_noisy.h5": ((3, 10, 2, 3, 4), "float64"),
        "audio_feature_noisy.h5": ((3, 10, 5), "float64"),
        "labels_noisy.h5": ((3, 4), "float32"),
    }
    for name, (shape, dtype) in shapes.items():
        array = read_h5(out / name)
        assert (array.shape, str(array.dtype)) == (shape, dtype)
    visual, audio = features(12)
    assert np.array_equal(read_h5(out / "visual_feature.h5"), visual.astype(np.float16).astype(np.float64))
    assert np.array_equal(read_h5(out / "audio_feature.h5"), audio.astype(np.float32).astype(np.float64))
    for name in ("labels.h5", "mil_labels.h5", "labels_closs.h5", "labels_noisy.h5"):
        assert np.array_equal(read_h5(out / name), read_h5(published / name))
    for split, of_split in split_rows(12).items():
        order = read_h5(out / f"{split}_order.h5", "order")
        assert (order.tolist(), order.dtype) == (of_split, np.int64)
    for name in TEXTS:
        assert (out / name).read_bytes() == (published / name).read_bytes()


def test_without_match_orders_they_keep_the_splits(exported: tuple[Path, ExportSummary]) -> None:
    out, summary = exported
    whole_or_none = {row for row, (_, _, start, end) in enumerate(events(12)) if end - start in (0, 10)}
    assert whole_or_none == {0, 4, 6, 10}
    for split, of_split in split_rows(12).items():
        wanted = of_split if split == "train" else [row for row in of_split if row not in whole_or_none]
        assert read_h5(out / f"{split}_order_match.h5", "order").tolist() == wanted
    assert "train_order_match.h5" in summary.notes[0]


def test_match_orders_of_the_data_set_itself_are_copied(folder: Path, imported: Path, tmp_path: Path) -> None:
    own = {"train": [5, 1, 2], "val": [0], "test": [11, 3]}
    for split, rows in own.items():
        write_h5(folder / f"{split}_order_match.h5", np.array(rows), "order")
    assert export_ave(tmp_path / "out", data=folder, cache=imported).notes == ()
    for split, rows in own.items():
        assert read_h5(tmp_path / "out" / f"{split}_order_match.h5", "order").tolist() == rows


def test_export_and_import_back_is_the_same_bit_for_bit(
    exported: tuple[Path, ExportSummary], published: Path, imported: Path, tmp_path: Path
) -> None:
    summary = import_ave(exported[0], cache=tmp_path / "features")
    assert (summary.done, len(summary.compared)) == (15, 7)
    assert summary.specification != exported[1].specification
    before = load_features(read_ave_folder(published), FeatureCache(imported))
    after = load_features(read_ave_folder(exported[0]), FeatureCache(tmp_path / "features"))
    assert after.specification["made_with"] == before.specification
    for split, clips in before.splits.items():
        assert [clip.row for clip in after.splits[split].clips] == [clip.row for clip in clips.clips]
        for name in ("visual", "audio"):
            for one, other in zip(getattr(clips, name), getattr(after.splits[split], name), strict=True):
                assert one.dtype == other.dtype
                assert one.numpy().tobytes() == other.numpy().tobytes()
    export_ave(tmp_path / "again", data=exported[0], cache=tmp_path / "features")
    for name in HDF5 | NOISY:
        key = "order" if "order" in name else "avadataset"
        assert np.array_equal(read_h5(tmp_path / "again" / name, key), read_h5(exported[0] / name, key))


def test_nothing_is_overwritten_and_nothing_is_left_half_done(published: Path, imported: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_ave(tmp_path / "out", data=published, cache=imported, progress=stop)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]
    export_ave(tmp_path / "out", data=published, cache=imported)
    with pytest.raises(DatasetError, match="not empty"):
        export_ave(tmp_path / "out", data=published, cache=imported)
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="not empty"):
        export_ave(tmp_path / "file", data=published, cache=imported)


def test_every_row_needs_features_and_a_place(tmp_path: Path) -> None:
    data, cache, out = tmp_path / "data", tmp_path / "cache", tmp_path / "out"
    ids = unique_annotations(data, 12)
    own_cache(cache, [name for name in ids if name not in ("clip2", "clip7")])
    with pytest.raises(DatasetError, match=r"2 of 12 rows have no features: 2 \(clip2\), 7 \(clip7\).*ccln-extract"):
        export_ave(out, data=data, cache=cache)
    train = (data / "trainSet.txt").read_text()
    (data / "trainSet.txt").write_text(train + "Class 0&stranger&good&0&10\n")
    with pytest.raises(DatasetError, match=r"stranger.*not in Annotations|not in Annotations.*stranger"):
        export_ave(out, data=data, cache=cache)
    (data / "trainSet.txt").write_text("".join(train.splitlines(keepends=True)[1:]))
    with pytest.raises(DatasetError, match=r"1 rows of Annotations\.txt are in no split \(row 10"):
        export_ave(out, data=data, cache=cache)
    assert not out.exists()


def test_background_clips_are_found_by_name_or_content(tmp_path: Path) -> None:
    from ccln.cache import source_digest

    data, cache = tmp_path / "data", tmp_path / "cache"
    ids = unique_annotations(data, 12)
    (data / "backgroundSet.txt").write_text("".join(f"Background&b{i}&good&0&0\n" for i in range(3)))
    own_cache(cache, ids)
    summary = export_ave(tmp_path / "without", data=data, cache=cache)
    assert summary.background == 0
    assert "3 of the 3" in summary.notes[0]
    assert not {path.name for path in (tmp_path / "without").iterdir()} & NOISY

    made = own_cache(cache, [*ids, "b0", "b2"])
    (data / "AVE").mkdir()
    (data / "AVE" / "b1.mp4").write_bytes(b"a video")
    by_content = Features(torch.ones(10, 2, 3, 4).half(), torch.ones(10, 5), 10.0)
    digest = source_digest(data / "AVE" / "b1.mp4")
    FeatureCache(cache).write(by_content, source_sha256=digest, source_path="moved", specification=SPECIFICATION)
    assert export_ave(tmp_path / "with", data=data, cache=cache).background == 3
    found = read_h5(tmp_path / "with" / "visual_feature_noisy.h5")
    for row, entry in enumerate((made["b0"], by_content, made["b2"])):
        assert np.array_equal(found[row], entry.visual.double().numpy())
    assert read_h5(tmp_path / "with" / "labels_noisy.h5").tolist() == [[0, 0, 0, 1]] * 3
    assert (tmp_path / "with" / "backgroundSet.txt").read_bytes() == (data / "backgroundSet.txt").read_bytes()


class PeersBatches:
    """What the peers' loaders do, with every shape written into the code: whole arrays, and batches by order."""

    def __init__(self, folder: Path, order: str) -> None:
        self.visual = self._whole(folder / "visual_feature.h5", "avadataset")
        self.audio = self._whole(folder / "audio_feature.h5", "avadataset")
        self.labels = self._whole(folder / "labels.h5", "avadataset")
        self.order = self._whole(folder / order, "order")

    def _whole(self, path: Path, key: str) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return dataset_in(file, key)[:]

    def batch(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        visual = np.zeros((size, 10, 7, 7, 512), np.float32)
        audio = np.zeros((size, 10, 128), np.float32)
        one_hots = np.zeros((size, 10, 29), np.float32)
        for place in range(size):
            row = self.order[place]
            visual[place, :, :, :, :] = self.visual[row, :, :, :, :]
            audio[place, :, :] = self.audio[row, :, :]
            one_hots[place, :, :] = self.labels[row, :, :]
        return visual, audio, one_hots


def test_padded_export_is_what_the_peers_code_reads(tmp_path: Path) -> None:
    data, cache, out = tmp_path / "data", tmp_path / "cache", tmp_path / "out"
    ids = unique_annotations(data, 8)
    (data / "backgroundSet.txt").write_text("Background&b0&good&0&0\n")
    made = own_cache(cache, [*ids, "b0"], map_shape=(7, 7, 20), audio=6)
    export_ave(out, data=data, cache=cache, pad=True)
    visual, audio, one_hots = PeersBatches(out, "train_order.h5").batch(4)
    for place, row in enumerate((6, 4, 2, 0)):
        assert np.array_equal(visual[place, ..., :20], made[f"clip{row}"].visual.float().numpy())
        assert np.array_equal(audio[place, ..., :6], made[f"clip{row}"].audio.numpy())
        wanted = [row % 3 if row % 5 <= second < 10 - row % 2 else 28 for second in range(10)]
        assert np.argmax(one_hots[place], axis=-1).tolist() == wanted
    assert not visual[..., 20:].any()
    assert not audio[..., 6:].any()
    assert np.array_equal(one_hots.sum(-1), np.ones((4, 10)))

    # The weakly supervised loader puts both kinds of clips into arrays of fixed shape.
    both = np.zeros((5, 10, 7, 7, 512))
    both[:4], both[4:] = visual, read_h5(out / "visual_feature_noisy.h5")
    assert np.array_equal(both[4, ..., :20], made["b0"].visual.double().numpy())
    weak = np.zeros((9, 29))
    weak[:8], weak[8:] = read_h5(out / "mil_labels.h5"), read_h5(out / "labels_noisy.h5")
    assert weak.argmax(-1).tolist() == [row % 3 for row in range(8)] + [28]
    vectors = np.zeros((80, 512))
    vectors[:] = read_h5(out / "visual_feature_vec.h5").reshape(80, 512)
    np.testing.assert_allclose(vectors[:10, :20], made["clip0"].visual.double().mean((1, 2)), atol=1e-12)
    assert import_ave(out, cache=tmp_path / "back").done == 9  # labels of 29 columns agree with 3 classes, too


@pytest.mark.parametrize(
    ("classes", "map_shape", "audio", "message"),
    [
        (29, (7, 7, 8), 5, "29 classes"),
        (3, (7, 7, 513), 5, "513 visual channels"),
        (3, (7, 8, 8), 5, "maps of 7 x 8"),
        (3, (7, 7, 8), 129, "129 audio channels"),
    ],
)
def test_what_padding_cannot_fit_is_refused(
    tmp_path: Path, classes: int, map_shape: tuple[int, ...], audio: int, message: str
) -> None:
    own_cache(tmp_path / "cache", unique_annotations(tmp_path / "data", max(6, classes), classes), map_shape, audio)
    with pytest.raises(DatasetError, match=message):
        export_ave(tmp_path / "out", data=tmp_path / "data", cache=tmp_path / "cache", pad=True)


def test_a_csv_with_several_and_fractional_events(tmp_path: Path) -> None:
    rows = [
        *("a.mp4,1,3,Bark,train", "b.mp4,0.4,2.5,Flute,train", "a.mp4,5.5,7,Bark,train", "c.mp4,,,,validation"),
        *("d.mp4,0,10,Bark,validation", "e.mp4,2,3,Flute,test", "f.mp4,9,10,Bark,test"),
    ]
    (tmp_path / "own.csv").write_text("\n".join(["path,start,end,label,split", *rows]))
    made = own_cache(tmp_path / "cache", list("abcdef"))
    out = tmp_path / "out"
    assert export_ave(out, data=tmp_path / "own.csv", cache=tmp_path / "cache").clips == 6
    assert {path.name for path in out.iterdir()} == HDF5
    event = {"a": [1, 2, 5, 6], "b": [0, 1, 2], "c": [], "d": range(10), "e": [2], "f": [9]}
    event_labels = read_h5(out / "labels_closs.h5")
    for row, (name, seconds) in enumerate(event.items()):
        assert event_labels[row].nonzero()[0].tolist() == list(seconds)
        assert np.array_equal(read_h5(out / "visual_feature.h5")[row], made[name].visual.double().numpy())
    assert read_h5(out / "mil_labels.h5").argmax(-1).tolist() == [0, 1, 2, 0, 1, 0]
    assert read_h5(out / "val_order.h5", "order").tolist() == [2, 3]
    assert read_h5(out / "val_order_match.h5", "order").tolist() == []
    assert read_h5(out / "test_order_match.h5", "order").tolist() == [4, 5]


def test_of_several_specifications_one_is_chosen(tmp_path: Path) -> None:
    ids = unique_annotations(tmp_path / "data", 6)
    for name in ("one", "two"):
        own_cache(tmp_path / "cache", ids, specification={"network": name})
    with pytest.raises(DatasetError, match="--specification"):
        export_ave(tmp_path / "out", data=tmp_path / "data", cache=tmp_path / "cache")
    digest = specification_digest({"network": "two"})
    summary = export_ave(tmp_path / "out", data=tmp_path / "data", cache=tmp_path / "cache", specification=digest[:8])
    assert summary.specification == digest


# The published files themselves


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
