"""Folders in the published layout, made with h5py alone: the reference that import and export are held against."""

from pathlib import Path

import h5py
import numpy as np

HEADER = "Category&VideoID&Quality&StartTime&EndTime"
CLASSES = ("Church bell", "Bark", "Flute")
NAMES = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}


def write_h5(path: Path, array: np.ndarray, key: str = "avadataset") -> Path:
    with h5py.File(path, "w") as file:
        file[key] = array
    return path


def dataset_in(file: h5py.File, key: str = "avadataset") -> h5py.Dataset:
    assert list(file) == [key]
    dataset = file[key]
    assert isinstance(dataset, h5py.Dataset)
    return dataset


def read_h5(path: Path, key: str = "avadataset") -> np.ndarray:
    with h5py.File(path) as file:
        return dataset_in(file, key)[:]


def events(rows: int) -> list[tuple[int, str, int, int]]:
    """Class, id, start and end of each row: ids that occur twice, whole clips, an event of no length."""
    spans = [(0, 10), (3, 7), (0, 2), (9, 10), (0, 0), (4, 10)]
    return [(row % 3, f"id-{row if row != 5 else 1}.x", *spans[row % len(spans)]) for row in range(rows)]


def split_rows(rows: int) -> dict[str, list[int]]:
    """Rows of each split, not in order."""
    return {"train": list(range(0, rows, 2))[::-1], "val": list(range(1, rows, 4)), "test": list(range(3, rows, 4))}


def one_hot(indices: np.ndarray, columns: int) -> np.ndarray:
    return (indices[..., None] == np.arange(columns)).astype(np.float32)


def labels(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """int (row, segment), 3 being the background, and int (row,), both cell by cell."""
    segments = np.full((rows, 10), 3)
    for row, (index, _, start, end) in enumerate(events(rows)):
        for second in range(start, end):
            segments[row, second] = index
    return segments, np.array([index for index, *_ in events(rows)])


def write_annotations(folder: Path, rows: int, header: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{CLASSES[index]}&{name}&good&{start}&{end}" for index, name, start, end in events(rows)]
    (folder / "Annotations.txt").write_text("\n".join([HEADER, *lines] if header else lines) + "\n")
    for split, of_split in split_rows(rows).items():
        (folder / NAMES[split]).write_text("".join(f"{lines[row]}\n" for row in of_split))


def features(rows: int, seed: int = 0, map_shape: tuple[int, ...] = (2, 3, 4)) -> tuple[np.ndarray, np.ndarray]:
    """Float64 visual (row, 10, *map_shape) and audio (row, 10, 5); more than half of the first is zero, as in AVE."""
    generator = np.random.default_rng(seed)
    visual = np.maximum(generator.normal(0, 20, (rows, 10, *map_shape)), 0)
    return visual, generator.normal(0, 1, (rows, 10, 5))


def publish(folder: Path, rows: int = 12, background: int = 3, header: bool = True) -> Path:
    """A folder with every file that AVE publishes but the ones for matching."""
    write_annotations(folder, rows, header)
    visual, audio = features(rows)
    write_h5(folder / "visual_feature.h5", visual)
    write_h5(folder / "audio_feature.h5", audio)
    segments, clips = labels(rows)
    write_h5(folder / "labels.h5", one_hot(segments, 4))
    write_h5(folder / "mil_labels.h5", one_hot(clips, 4))
    write_h5(folder / "labels_closs.h5", (segments != 3).astype(np.float32))
    for split, of_split in split_rows(rows).items():
        write_h5(folder / f"{split}_order.h5", np.array(of_split), "order")
    if background:
        visual, audio = features(background, seed=1)
        write_h5(folder / "visual_feature_noisy.h5", visual)
        write_h5(folder / "audio_feature_noisy.h5", audio)
        write_h5(folder / "labels_noisy.h5", one_hot(np.full(background, 3), 4))
    return folder
