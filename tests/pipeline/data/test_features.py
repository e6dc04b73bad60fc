"""The look-up of a data set's features: by content, by the row of an import, by name."""

import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import torch
from support.cache_clips import flip_last_bit

from ccln import train
from ccln.cache import FeatureCache, Features, open_cache, source_digest, specification_digest
from ccln.pipeline.commands.cache import cache_command
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import Dataset, DatasetError
from ccln.pipeline.data.features import DatasetFeatures, background_features, load_features
from ccln.pipeline.data.published import published_background_name, published_name

SPECIFICATION = {"made": "for a test"}
ROWS = ["a,0,10,Bark,train", "b,0,3,Cat,train", "c,2,5.5,Bark,val", "d,0,10,Cat,val", "e,1,2,Bark,test"]


def csv_set(folder: Path, rows: Sequence[str] = ROWS, videos: str = "abcde") -> Dataset:
    """A CSV of rows whose paths lack their ending, and videos whose content is their name."""
    folder.mkdir(exist_ok=True)
    for name in videos:
        (folder / f"{name}.mp4").write_text(name)
    text = "".join(row.replace(",", ".mp4,", 1) + "\n" for row in rows)
    (folder / "clips.csv").write_text("path,start,end,label,split\n" + text)
    return read_dataset(folder / "clips.csv")


def ave_set(folder: Path, videos: str = "") -> Dataset:
    (folder / "AVE").mkdir(parents=True)
    for name in videos:
        (folder / "AVE" / f"{name}.mp4").write_text(name)
    rows = ["Bark&a&good&0&10", "Cat&b&good&0&10", "Cat&c.1&good&0&10", "Bark&a&good&3&4"]
    files = {"Annotations": rows, "trainSet": [rows[0], rows[3]], "valSet": rows[1:2], "testSet": rows[2:3]}
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return read_dataset(folder)


def in_arithmetic(precision: str) -> dict:
    return SPECIFICATION | {"visual": {"precision": precision}}


def store(
    cache: FeatureCache,
    name: str,
    value: float,
    content: str | None = None,
    specification: dict = SPECIFICATION,
    **lacking,
) -> None:
    """One tiny entry, of a source of this name and content (its name, if not given), that holds one value."""
    digest = hashlib.sha256((content or name).encode()).hexdigest()
    generator = torch.Generator().manual_seed(int(value))
    visual = torch.rand(10, 2, 2, 4, generator=generator).to(torch.float16)
    audio = torch.full((10, 3), float(value))
    features = Features(visual, audio, 10.0, **lacking)
    cache.write(features, source_sha256=digest, source_path=f"{name}.mp4", specification=specification)


def values(features: DatasetFeatures) -> dict[str, list[float]]:
    """Of every split the values that its clips' entries hold."""
    return {split: [audio[0, 0].item() for audio in clips.audio] for split, clips in features.splits.items()}


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    cache = FeatureCache(tmp_path / "cache")
    for value, name in enumerate("abcde"):
        store(cache, name, value)
    return cache


def test_features_of_an_existing_video_are_found_by_content(tmp_path: Path, cache: FeatureCache) -> None:
    data = csv_set(tmp_path / "set")
    assert source_digest(tmp_path / "set" / "a.mp4") == hashlib.sha256(b"a").hexdigest()
    (tmp_path / "set" / "a.mp4").write_text("d")  # another video under the old name
    features = load_features(data, cache)
    assert values(features) == {"train": [3, 1], "validation": [2, 3], "test": [4]}
    assert features.specification == SPECIFICATION
    assert features.class_names == ("Bark", "Cat")


def test_a_subset_has_all_of_some_clips_in_their_order(tmp_path: Path, cache: FeatureCache) -> None:
    whole = load_features(csv_set(tmp_path / "set"), cache).splits["validation"]
    some = whole.subset([1, 0])
    assert [clip.video_id for clip in some.clips] == ["d", "c"]
    assert [audio[0, 0].item() for audio in some.audio] == [3, 2]
    assert some.keys == whole.keys[::-1]
    assert (some.segment_labels == whole.segment_labels[::-1]).all()
    assert (some.class_labels == whole.class_labels[::-1]).all()
    (last,) = whole.subset([1]).visual
    assert torch.equal(last, whole.visual[1])
    assert len(whole.subset([])) == 0


def test_an_existing_video_without_features_is_not_found_by_name(tmp_path: Path, cache: FeatureCache) -> None:
    data = csv_set(tmp_path / "set")
    (tmp_path / "set" / "a.mp4").write_text("never extracted")
    features = load_features(data, cache)
    assert values(features)["train"] == [1]
    assert [clip.video_id for clip in features.splits["train"].missing] == ["a"]


def test_features_of_an_absent_video_are_found_by_name(tmp_path: Path, cache: FeatureCache) -> None:
    assert values(load_features(csv_set(tmp_path / "set", videos=""), cache)) == {
        "train": [0, 1],
        "validation": [2, 3],
        "test": [4],
    }


def test_a_name_that_two_files_have_is_not_used(tmp_path: Path, cache: FeatureCache) -> None:
    data = csv_set(tmp_path / "set", [*ROWS, "x/a,0,1,Cat,train"], videos="")
    assert values(load_features(data, cache))["train"] == [1]


def test_a_name_that_two_entries_have_is_refused(tmp_path: Path, cache: FeatureCache) -> None:
    store(cache, "a", 7, content="another a")
    with pytest.raises(DatasetError, match=r"features of 2 different files named a\. Put the video back"):
        load_features(csv_set(tmp_path / "set", videos=""), cache)
    assert values(load_features(csv_set(tmp_path / "set"), cache))["train"] == [0, 1]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("videos", ["abcde", "ace", ""])
def test_all_damaged_clips_are_named_at_once(tmp_path: Path, cache: FeatureCache, videos: str) -> None:
    dataset = csv_set(tmp_path / "set", videos=videos)
    digest = specification_digest(SPECIFICATION)
    for name, at in (("b", 20), ("d", -1), ("e", -1)):  # a header, and numbers
        (key,) = cache.find(digest, name)
        flip(cache.path_of(key), at)
    with pytest.raises(DatasetError) as refused:
        load_features(dataset, FeatureCache(cache.root))
    said = str(refused.value)
    assert "features are damaged, of 3 clips:" in said
    assert sorted(said.split(": ")[2].split(". ")[0].split(", ")) == ["b", "d", "e"]
    assert said.endswith(f"ccln-extract {dataset.source} --cache {cache.root}")


def test_at_a_url_repair_comes_before_making_damaged_clips_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "copies"))
    dataset, url = csv_set(tmp_path / "set"), f"file://{tmp_path}/bucket"
    cache = open_cache(url)
    for value, name in enumerate("abcde"):
        store(cache, name, value)
    cache.flush()
    flip_last_bit(next((tmp_path / "bucket" / "shards").iterdir()))
    with pytest.raises(DatasetError) as refused:
        load_features(dataset, open_cache(url))
    repair, make = f"ccln-cache repair --cache {url}", f"ccln-extract {dataset.source} --cache {url}"
    assert re.search(rf"damaged, of 1 clips: \w\. .*{re.escape(repair)}\. .*{re.escape(make)}$", str(refused.value))
    monkeypatch.setattr("sys.argv", repair.split())
    with pytest.raises(SystemExit):
        cache_command()
    (split,) = [split for split in load_features(dataset, open_cache(url)).splits.values() if split.missing]
    store(open_cache(url), name := split.missing[0].video_id, "abcde".index(name))
    assert not any(split.missing for split in load_features(dataset, open_cache(url)).splits.values())


def test_an_index_that_swaps_names_trains_on_no_other_clips_features(tmp_path: Path, cache: FeatureCache) -> None:
    dataset = csv_set(tmp_path / "set", videos="")
    before = values(load_features(dataset, cache))
    with closing(sqlite3.connect(cache.root / "index.sqlite")) as connection:
        for old, new in ("a?", "ba", "?b"):
            connection.execute("UPDATE entries SET source_name = ? WHERE source_name = ?", (new, old))
        connection.commit()
    assert values(load_features(dataset, FeatureCache(cache.root))) == before


def test_imported_features_are_found_by_row(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    for row, video_id in enumerate(["a", "b", "c.1", "a"]):
        store(cache, published_name(row, video_id), row)
    store(cache, published_name(1, "z"), 8)  # of another data set
    assert values(load_features(ave_set(tmp_path / "set"), cache)) == {"train": [0, 3], "validation": [1], "test": [2]}


def test_look_up_is_by_content_then_by_imported_row_then_by_name(tmp_path: Path, cache: FeatureCache) -> None:
    for row, video_id in ((0, "a"), (2, "c.1"), (3, "a")):
        store(cache, published_name(row, video_id), 10 + row)
    store(cache, "c.1", 9)
    data = ave_set(tmp_path / "set", videos="a")
    # a: its video has features; b: found by its name, 1; c.1: the import's, not those by name.
    assert values(load_features(data, cache)) == {"train": [0, 0], "validation": [1], "test": [12]}
    (tmp_path / "set" / "AVE" / "a.mp4").write_text("never extracted")
    assert values(load_features(data, cache)) == {"train": [10, 13], "validation": [1], "test": [12]}


@pytest.mark.parametrize("video_id", ["-abc", "a.b", "..a.", "ä b"])
def test_published_names_are_stems_and_differ(video_id: str) -> None:
    name = published_name(7, video_id)
    assert Path(f"published/{name}").stem == Path(f"published/{name}.mp4").stem == name
    assert len({name, published_name(8, video_id), published_background_name(7), published_background_name(8)}) == 4
    assert published_name(12345, video_id) != published_name(1234, f"5{video_id}")


def test_labels_of_fractions_and_of_background(tmp_path: Path, cache: FeatureCache) -> None:
    rows = [*ROWS[:4], "e,,,,test"]
    features = load_features(csv_set(tmp_path / "set", rows), cache)
    validation, test = features.splits["validation"], features.splits["test"]
    assert validation.segment_labels[0].tolist() == [2, 2, 0, 0, 0, 0, 2, 2, 2, 2]
    assert validation.class_labels.tolist() == [0, 1]
    assert test.segment_labels.tolist() == [[2] * 10]
    assert test.class_labels.tolist() == [2]
    assert test.labels.tolist() == [-1]
    assert test.event.sum().item() == 0


def test_an_empty_split_is_refused(tmp_path: Path, cache: FeatureCache) -> None:
    with pytest.raises(DatasetError, match=r"the test split has no clip\. .*column split"):
        load_features(csv_set(tmp_path / "set", ROWS[:4]), cache)


def test_leaks_are_reported_and_dropped_by_content_when_asked(
    tmp_path: Path, cache: FeatureCache, caplog: pytest.LogCaptureFixture
) -> None:
    data = csv_set(tmp_path / "set")
    (tmp_path / "set" / "b.mp4").write_text("e")  # the test clip's video under another name in train
    kept = load_features(data, cache)
    assert values(kept)["train"] == [0, 4]
    assert kept.dropped == {"train": 0, "validation": 0, "test": 0}
    assert "videos in train and in test: 1 (b)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "ccln"):
        dropped = load_features(data, cache, drop_leaks=True)
    assert values(dropped)["train"] == [0]
    assert dropped.dropped == {"train": 1, "validation": 0, "test": 0}
    assert "videos in train" not in caplog.text
    assert "4 clips of 2 classes (1 train, 2 validation, 1 test)" in caplog.text
    assert "1 rows of the train split dropped" in caplog.text


def test_clips_that_lack_a_stream_are_counted(
    tmp_path: Path, cache: FeatureCache, caplog: pytest.LogCaptureFixture
) -> None:
    store(cache, "a", 0, missing=("audio",))
    store(cache, "b", 1, missing=("video",))
    with caplog.at_level(logging.INFO, "ccln"):
        load_features(csv_set(tmp_path / "set"), cache)
    for stream in ("audio", "video"):
        assert f"1 of 2 clips of the train split have no {stream}: zeros stand for it" in caplog.text
    assert "validation split have no" not in caplog.text


def test_a_csv_of_five_clips_trains_and_records_what_was_dropped(tmp_path: Path, cache: FeatureCache) -> None:
    data = csv_set(tmp_path / "set")
    (tmp_path / "set" / "b.mp4").write_text("d")  # validation has it, too
    result = train(data.source, cache=cache.root, out=tmp_path / "run", epochs=1, drop_leaks=True)
    assert result.dropped == {"train": 1, "validation": 0, "test": 0}
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["dropped"] == result.dropped
    assert metrics["test"]["clips"] == 1
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.fixture(params=["float32", "bfloat16"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The arithmetic of a processor that has this one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": request.param == "bfloat16"})
    return request.param


@pytest.fixture
def other(native: str) -> str:
    return {"float32": "bfloat16", "bfloat16": "float32"}[native]


@pytest.mark.parametrize("videos", ["abcde", ""])
def test_native_features_are_taken_first_and_a_mixture_is_reported(
    tmp_path: Path, native: str, other: str, videos: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache, data = FeatureCache(tmp_path / "cache"), csv_set(tmp_path / "set", videos=videos)
    for value, name in enumerate("abcde"):
        store(cache, name, 10 + value, specification=in_arithmetic(other))
    alone = load_features(data, cache)
    assert values(alone) == {"train": [10, 11], "validation": [12, 13], "test": [14]}
    assert alone.specification == in_arithmetic(other)
    assert "mixture" not in caplog.text
    for value, name in enumerate("abc"):
        store(cache, name, value, specification=in_arithmetic(native))
    mixed = load_features(data, cache)
    assert values(mixed) == {"train": [0, 1], "validation": [2, 13], "test": [14]}
    assert mixed.specification == in_arithmetic(native)
    assert f"mixture, of rows: 3 in {native}, 2 in {other}" in caplog.text


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_named_arithmetic_precedes_the_native_one(tmp_path: Path, precision: str) -> None:
    cache, data = FeatureCache(tmp_path / "cache"), csv_set(tmp_path / "set")
    for value, name in enumerate("abcde"):
        for more, made_in in ((0, "float32"), (10, "bfloat16")):
            store(cache, name, more + value, specification=in_arithmetic(made_in))
    wanted, more = in_arithmetic(precision), 10 * (precision == "bfloat16")
    for named in (specification_digest(wanted)[:8], wanted):
        features = load_features(data, cache, named)
        assert values(features) == {"train": [more, more + 1], "validation": [more + 2, more + 3], "test": [more + 4]}
        assert features.specification == wanted


@pytest.mark.usefixtures("native")
def test_specifications_that_differ_beyond_arithmetic_are_not_mixed(tmp_path: Path) -> None:
    cache, data = FeatureCache(tmp_path / "cache"), csv_set(tmp_path / "set")
    specifications = [in_arithmetic("float32"), in_arithmetic("bfloat16") | {"made": "otherwise"}]
    for specification in specifications:
        for name in "abcde":
            store(cache, name, 0, specification=specification)
    with pytest.raises(DatasetError, match="several specifications"):
        load_features(data, cache)
    with pytest.raises(DatasetError, match="no features of this data set"):
        load_features(data, cache, in_arithmetic("float32") | {"made": "never"})


@pytest.mark.usefixtures("native")
def test_a_name_that_two_files_have_in_one_arithmetic_each_is_refused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    store(cache, "a", 0, specification=in_arithmetic("float32"))
    store(cache, "a", 1, content="another a", specification=in_arithmetic("bfloat16"))
    with pytest.raises(DatasetError, match=r"features of 2 different files named a\. Put the video back"):
        load_features(csv_set(tmp_path / "set", videos=""), cache)


def test_background_only_clips_are_found_in_either_arithmetic(tmp_path: Path, native: str, other: str) -> None:
    cache = FeatureCache(tmp_path / "cache")
    data = ave_set(tmp_path / "set", videos="z")
    (tmp_path / "set" / "backgroundSet.txt").write_text("Bg&z&good&0&10\nBg&y&good&0&10\nBg&x&good&0&10")
    for value, name in enumerate(["a", "b", "c.1", "z"]):
        store(cache, name, value, specification=in_arithmetic(native))
    for value, name in enumerate(["z", "y"]):
        store(cache, name, 10 + value, specification=in_arithmetic(other))
    alike = load_features(data, cache).alike
    present, lacking = background_features(data, cache, alike)
    assert [entry.audio[0, 0].item() for entry in present] == [3, 11]
    assert lacking == ["x"]
    for path in (tmp_path / "cache" / "entries").rglob("*.safetensors"):
        flip_last_bit(path)
    with pytest.raises(DatasetError, match=r"features are damaged, of 2 clips: z, y\. Make them again.*ccln-extract"):
        background_features(data, cache, alike)
