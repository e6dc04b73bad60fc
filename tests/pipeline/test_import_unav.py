"""UnAV-100's published features, taken into a cache; the samples are made up in their form."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccln import import_annotations, import_unav
from ccln.cache import CacheError, FeatureCache
from ccln.pipeline.commands.cache import cache_command
from ccln.pipeline.commands.evaluate import evaluate_command
from ccln.pipeline.commands.train import train_command
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.data.csv_file import read_csv_dataset
from ccln.pipeline.data.features import LabelledClips, load_features

CHANNELS = {"rgb": 1024, "flow": 1024, "vggish": 128}
SPLITS = ("train", "validation", "test")


def centre_seconds(row: int) -> float:
    """Windows of 24 frames, every 8 frames, at 25 frames a second."""
    return (8 * row + 12) / 25


def row_count(seconds: float) -> int:
    """How many whole windows there are."""
    return int((seconds * 25 - 24) // 8) + 1


def video(subset: str, *events: tuple[float, float, str]) -> dict:
    return {
        "duration": 24,
        "subset": subset,
        "annotations": [{"segment": [start, end], "label": label, "label_id": 0} for start, end, label in events],
    }


def write_files(folder: Path, name: str, rows: dict[str, int] | int, base: float = 0.0) -> None:
    """Each row holds the second of its centre, and in its first channel its own number; flow the negative of both."""
    folder.mkdir(exist_ok=True)
    for kind, channels in CHANNELS.items():
        count = rows if isinstance(rows, int) else rows[kind]
        values = [base + int(centre_seconds(row)) for row in range(count)]
        array = np.repeat(np.array(values, np.float32)[:, np.newaxis], channels, axis=1)
        array[:, 0] = np.arange(count)
        np.save(folder / f"{name}_{kind}.npy", -array if kind == "flow" else array)


def write_annotations(folder: Path, database: dict) -> Path:
    file = folder / "unav100_annotations.json"
    file.write_text(json.dumps({"version": "unav100", "database": database}))
    return file


def clip_at(clips: LabelledClips, name: str, start: int = 0) -> int:
    return next(i for i, clip in enumerate(clips.clips) if (clip.video_id, clip.start_seconds) == (name, start))


DATABASE = {
    "-abc_123XYZ": video("test", (0, 20.2, "wind noise"), (3.03, 5.9, "dog barking"), (21, 24.4, "wind noise")),
    "bcd": video("train", (1, 2, "wind noise"), (12, 16, "dog barking")),
    "cde": video("validation", (0, 5, "dog barking")),
}
LENGTHS = {"-abc_123XYZ": 24.4, "bcd": 20.0, "cde": 9.0}


@pytest.fixture
def sample(tmp_path: Path) -> tuple[Path, Path]:
    """Annotations and folder of features of three videos."""
    for name, seconds in LENGTHS.items():
        write_files(tmp_path / "av_features", name, row_count(seconds))
    return write_annotations(tmp_path, DATABASE), tmp_path / "av_features"


def test_every_second_has_the_mean_of_the_rows_whose_centres_lie_in_it(sample: tuple[Path, Path], tmp_path: Path):
    summary = import_unav(*sample, cache=tmp_path / "cache")
    assert (summary.done, summary.cached, summary.notes) == (3 + 2 + 1, 0, ())
    dataset = read_csv_dataset(summary.data)
    assert summary.data == tmp_path / "unav100_annotations.csv"
    loaded = load_features(dataset, FeatureCache(tmp_path / "cache"))
    assert {clip.video_id: split for split in SPLITS for clip in loaded.splits[split].clips} == {
        name: video["subset"] for name, video in DATABASE.items()
    }
    for split in SPLITS:
        clips = loaded.splits[split]
        assert not clips.missing
        for clip, visual, audio, covered in zip(
            clips.clips, clips.visual, clips.audio, clips.durations_seconds, strict=True
        ):
            rows = range(row_count(LENGTHS[clip.video_id]))
            whole = int(centre_seconds(rows[-1])) + 1 - clip.start_seconds
            assert visual.shape == (10, 1, 1, 2048)
            assert audio.shape == (10, 128)
            assert covered == min(10, whole)
            for second in range(10):
                number = clip.start_seconds + second
                inside = [row for row in rows if number <= centre_seconds(row) < number + 1]
                first, other = (np.mean(inside), number) if second < whole else (0.0, 0)
                assert audio[second, 0] == pytest.approx(first)
                assert (audio[second, 1:] == other).all()
                assert visual[second, 0, 0, 0] == pytest.approx(first, rel=1e-3)
                assert visual[second, 0, 0, 1024] == pytest.approx(-first, rel=1e-3)
                assert (visual[second, 0, 0, 1:1024] == other).all()
                assert (visual[second, 0, 0, 1025:] == -other).all()
    test = loaded.splits["test"]
    names = [*loaded.class_names, ""]
    labels = [
        names[label] for start in (0, 10, 20) for label in test.segment_labels[clip_at(test, "-abc_123XYZ", start)]
    ]
    wind, dog = "wind noise", "dog barking"
    assert labels == [*[wind] * 3, *[dog] * 3, *[wind] * 14, "", *[wind] * 3, *[""] * 6]


def test_a_second_import_finds_all_there_and_other_content_is_refused(sample: tuple[Path, Path], tmp_path: Path):
    first = import_unav(*sample, cache=tmp_path / "cache")
    with pytest.raises(DatasetError, match="is there already"):
        import_unav(*sample, cache=tmp_path / "cache")
    steps: list[tuple[int, int]] = []
    again = import_unav(
        *sample, cache=tmp_path / "cache", overwrite=True, progress=lambda done, total: steps.append((done, total))
    )
    assert (again.done, again.cached, again.specification) == (0, 6, first.specification)
    assert steps == [(done, 3) for done in range(4)]
    write_files(sample[1], "bcd", row_count(20.0), base=1)
    with pytest.raises(CacheError, match="holds other features of bcd"):
        import_unav(*sample, cache=tmp_path / "cache", overwrite=True)


def test_a_video_ends_with_its_shortest_file(sample: tuple[Path, Path], tmp_path: Path):
    write_files(sample[1], "bcd", {"rgb": row_count(20.0), "flow": row_count(20.0), "vggish": row_count(15.0)})
    dataset = read_csv_dataset(import_unav(*sample, cache=tmp_path / "cache").data)
    train_split = load_features(dataset, FeatureCache(tmp_path / "cache")).splits["train"]
    position = clip_at(train_split, "bcd", 10)
    assert train_split.durations_seconds[position] == 5
    assert train_split.visual[position][:, 0, 0, 1].tolist() == [10, 11, 12, 13, 14, 0, 0, 0, 0, 0]
    assert train_split.clips[position].spans == ((2, 5),)  # annotated to 16 s


def test_videos_without_a_file_are_left_out_with_their_number(sample: tuple[Path, Path], tmp_path: Path):
    (sample[1] / "bcd_flow.npy").unlink()
    summary = import_unav(*sample, cache=tmp_path / "cache")
    assert summary.notes == ("videos that lack a file and are left out: 1 (bcd_flow.npy)",)
    assert {clip.video_id for clip in read_csv_dataset(summary.data).clips} == {"-abc_123XYZ", "cde"}
    with pytest.raises(DatasetError, match=r"no video of .* has its features there, ID_rgb\.npy"):
        import_unav(sample[0], tmp_path, cache=tmp_path / "cache", overwrite=True)


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


def described(descr: str = "<f4", shape: str = "(3, 1024)") -> bytes:
    return header(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOF|magic"),
        (b"version https://git-lfs.github.com/spec/v1\n", "magic string"),
        (b"PK\x03\x04" + bytes(100), "magic string"),
        (described()[:40], "EOF|header"),
        (described(), "greater than file size|length"),
        (described(shape=f"({10**12}, 1024)"), "greater than file size|length|large|allocate"),
        (described(shape=f"({10**40}, 1024)"), "."),
        (described(shape="(-3, 1024)") + bytes(12288), "."),
        (described(descr="|O") + bytes(24576), "objects"),
        (header("{" * 60_000), "."),
        (header("{'descr': '<f4', 'shape': (" + "(" * 5000), "."),
        (header("'''"), "."),
    ],
)  # fmt: skip
def test_malformed_and_pickled_files_are_refused_by_name(
    sample: tuple[Path, Path], tmp_path: Path, content: bytes, message: str
):
    (sample[1] / "bcd_rgb.npy").write_bytes(content)
    with pytest.raises(CacheError, match=rf"bcd_rgb\.npy: .*({message}).*; download it again, or take"):
        import_unav(*sample, cache=tmp_path / "cache")


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60), version=st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"]))
def test_no_header_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, text: str, version: bytes):
    folder = tmp_path_factory.mktemp("fuzzed")
    write_files(folder, "bcd", 3)
    data = text.encode()
    (folder / "bcd_rgb.npy").write_bytes(b"\x93NUMPY" + version + len(data).to_bytes(2, "little") + data + bytes(99))
    with pytest.raises(CacheError, match=r"bcd_rgb\.npy"):
        import_unav(write_annotations(folder, {"bcd": DATABASE["bcd"]}), folder, cache=folder / "cache")


class Dangerous:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("unpickled",))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[Dangerous()]], object), "objects"),
        (np.zeros((3, 1023), np.float32), r"\(3, 1023\), expected floats \(row, 1024\)"),
        (np.zeros((0, 1024), np.float32), "."),
        (np.zeros((1024,), np.float32), r"\(1024,\)"),
        (np.zeros((3, 1024), np.int32), "int32"),
        (np.full((3, 1024), np.nan, np.float32), "no number up to 65504"),
        (np.full((3, 1024), 1e5, np.float32), "no number up to 65504"),
    ],
)
def test_arrays_that_are_no_such_features_are_refused(
    sample: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: np.ndarray, message: str
):
    monkeypatch.chdir(tmp_path)
    np.save(sample[1] / "bcd_rgb.npy", array, allow_pickle=True)
    with pytest.raises(CacheError, match=rf"bcd_rgb\.npy: .*{message}.*; download it again"):
        import_unav(*sample, cache=tmp_path / "cache")
    assert not (tmp_path / "unpickled").exists()


def test_neither_pipes_nor_huge_files_are_read(sample: tuple[Path, Path], tmp_path: Path):
    file = sample[1] / "bcd_rgb.npy"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CacheError, match="is no file"):
        import_unav(*sample, cache=tmp_path / "cache")
    file.unlink()
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(CacheError, match="bytes, features of a video have"):
        import_unav(*sample, cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["../bcd", "/etc/passwd", "a/b", "..", "", "a\\b", "a.b", "a\n", "é", "a" * 300])
def test_ids_that_lead_elsewhere_are_refused(sample: tuple[Path, Path], tmp_path: Path, name: str):
    write_annotations(tmp_path, {**DATABASE, name: DATABASE["bcd"]})
    with pytest.raises(DatasetError, match="is no id of a video"):
        import_unav(*sample, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_other_annotations_are_refused(sample: tuple[Path, Path], tmp_path: Path):
    sample[0].write_text('{"videos": []}')
    with pytest.raises(DatasetError, match="is not UnAV-100's annotations"):
        import_unav(*sample, cache=tmp_path / "cache")


def test_feature_files_among_annotations_are_refused_with_what_to_do(sample: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "bcd.mp4").touch()
    with pytest.raises(DatasetError, match=r"bcd_rgb\.npy: holds features, .*ccln-cache import-unav"):
        import_annotations(sample[1] / "bcd_rgb.npy", media_root=tmp_path)


def test_the_commands_train_and_evaluate_without_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Videos that lie beside the CSV file do not get in the way of the features, which are found by name."""
    database = {
        f"{split}-{number}": video(split, (2, 6, "dog barking"), (11, 15, "wind noise"))
        for split in SPLITS
        for number in range(2)
    }
    for name in database:
        write_files(tmp_path / "av_features", name, row_count(18))
        (tmp_path / f"{name}.mp4").touch()
    write_annotations(tmp_path, database)
    monkeypatch.chdir(tmp_path)

    def run(command: Callable[[], None], line: str) -> str:
        monkeypatch.setattr(sys, "argv", line.split())
        with pytest.raises(SystemExit, match="0"):
            command()
        return capsys.readouterr().out

    shown = run(
        cache_command, "ccln-cache import-unav unav100_annotations.json av_features --cache features --out set.csv"
    )
    assert "12 clips imported, 0 there already" in shown
    assert "data set set.csv" in shown
    run(train_command, "ccln-train --data set.csv --cache features --out run --epochs 1")
    run(evaluate_command, "ccln-evaluate run --data set.csv --cache features --json report.json")
    report = json.loads(Path("report.json").read_text())
    assert (report["missing"], report["trained_on"]) == (0, 0)
    assert (report["videos"]["videos"], report["videos"]["seconds"]) == (2, 36)
    assert "published UnAV-100 features" in run(cache_command, "ccln-cache info --cache features")
