"""Features written as AVE publishes its own."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.publishing import HEADER, NAMES, dataset_in, events, features, read_h5, split_rows, write_h5

from ccln import export_ave, import_ave
from ccln.cache import FeatureCache, Features, specification_digest
from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.data.features import load_features
from ccln.pipeline.exchange import ExportSummary

SPECIFICATION = {"network": "none"}
HDF5 = {
    *("visual_feature.h5", "audio_feature.h5", "visual_feature_vec.h5", "labels.h5", "mil_labels.h5"),
    *("labels_closs.h5", "train_order.h5", "val_order.h5", "test_order.h5", "train_order_match.h5"),
    *("val_order_match.h5", "test_order_match.h5"),
}
NOISY = {"visual_feature_noisy.h5", "audio_feature_noisy.h5", "labels_noisy.h5"}
TEXTS = {"Annotations.txt", *NAMES.values()}


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(published, tmp_path / "ave")
    return tmp_path / "ave"


def own_cache(
    root: Path,
    names: list[str],
    map_shape: tuple[int, ...] = (2, 3, 4),
    audio: int = 5,
    specification: dict = SPECIFICATION,
) -> dict[str, Features]:
    """Features as if extracted from videos of these names, not imported ones."""
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


def test_without_match_orders_exported_orders_are_those_of_the_splits(exported: tuple[Path, ExportSummary]) -> None:
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


def test_exported_features_import_bit_for_bit(
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


def test_export_overwrites_nothing_and_leaves_no_partial_file(published: Path, imported: Path, tmp_path: Path) -> None:
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


def test_rows_without_features_or_split_are_refused(tmp_path: Path) -> None:
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
    """What published loaders do, with every shape written into the code: whole arrays, and batches by order."""

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


def test_published_loaders_read_a_padded_export(tmp_path: Path) -> None:
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
def test_shapes_that_padding_cannot_fit_are_refused(
    tmp_path: Path, classes: int, map_shape: tuple[int, ...], audio: int, message: str
) -> None:
    own_cache(tmp_path / "cache", unique_annotations(tmp_path / "data", max(6, classes), classes), map_shape, audio)
    with pytest.raises(DatasetError, match=message):
        export_ave(tmp_path / "out", data=tmp_path / "data", cache=tmp_path / "cache", pad=True)


def test_a_csv_with_several_and_fractional_events_is_exported(tmp_path: Path) -> None:
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


def test_one_of_several_specifications_must_be_chosen(tmp_path: Path) -> None:
    ids = unique_annotations(tmp_path / "data", 6)
    for name in ("one", "two"):
        own_cache(tmp_path / "cache", ids, specification={"network": name})
    with pytest.raises(DatasetError, match="--specification"):
        export_ave(tmp_path / "out", data=tmp_path / "data", cache=tmp_path / "cache")
    digest = specification_digest({"network": "two"})
    summary = export_ave(tmp_path / "out", data=tmp_path / "data", cache=tmp_path / "cache", specification=digest[:8])
    assert summary.specification == digest
