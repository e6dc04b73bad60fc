"""Published feature files: read as they are, written as AVE's are, and refused where they would do harm."""

import hashlib
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.publishing import dataset_in, features, write_h5

from ccln.cache import CacheError
from ccln.cache import hdf5 as hdf5_module
from ccln.cache.hdf5 import (
    ARRAY_KEY,
    PublishedClip,
    create_array,
    open_array,
    open_features,
    read_array,
    write_array,
)

SPECIFICATION = {"network": "none", "numbers": [1, 2.5]}


def pair(folder: Path, visual: np.ndarray, audio: np.ndarray) -> tuple[Path, Path]:
    return write_h5(folder / "visual.h5", visual), write_h5(folder / "audio.h5", audio)


def read_all(visual: Path, audio: Path) -> list[PublishedClip]:
    with open_features(visual, audio) as published:
        return list(published.clips())


@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f8", "<f2"])
def test_every_row_is_read_and_rounded_once(tmp_path: Path, dtype: str) -> None:
    visual, audio = (array.astype(dtype) for array in features(7))
    clips = read_all(*pair(tmp_path, visual, audio))
    assert [clip.row for clip in clips] == list(range(7))
    for row, clip in enumerate(clips):
        assert torch.equal(clip.features.visual, torch.tensor(visual[row].astype(np.float16)))
        assert torch.equal(clip.features.audio, torch.tensor(audio[row].astype(np.float32)))
        assert clip.features.duration_seconds == 10
        assert clip.features.missing == ()


def test_a_digest_covers_the_files_names_the_row_and_its_bytes(tmp_path: Path) -> None:
    visual, audio = features(3)
    files = pair(tmp_path, visual, audio)
    clip = read_all(*files)[1]
    document = ["visual.h5, audio.h5", 1, ["<f8", [10, 2, 3, 4]], ["<f8", [10, 5]]]
    data = json.dumps(document, separators=(",", ":")).encode() + visual[1].tobytes() + audio[1].tobytes()
    assert clip.source_sha256 == hashlib.sha256(data).hexdigest()
    same = np.repeat(visual[:1], 3, axis=0), np.repeat(audio[:1], 3, axis=0)
    (tmp_path / "same").mkdir()
    assert len({clip.source_sha256 for clip in read_all(*pair(tmp_path / "same", *same))}) == 3
    others = files[0].rename(tmp_path / "others.h5")
    assert read_all(others, files[1])[1].source_sha256 != clip.source_sha256


@pytest.mark.parametrize(
    "layout", [{}, {"chunks": (2, 5, 1, 3, 4)}, {"chunks": (3, 4, 2, 2, 3), "compression": "gzip"}]
)
def test_the_size_of_blocks_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: dict) -> None:
    visual, audio = features(11)
    wanted = read_all(*pair(tmp_path, visual, audio))
    with h5py.File(tmp_path / "visual.h5", "w") as file:
        file.create_dataset("avadataset", data=visual, **layout)
    for rows in (1, 2, 4, 7):
        monkeypatch.setattr(hdf5_module, "_BLOCK_BYTES", rows * visual[0].nbytes)
        found = read_all(tmp_path / "visual.h5", tmp_path / "audio.h5")
        assert [clip.source_sha256 for clip in found] == [clip.source_sha256 for clip in wanted]
        for clip, other in zip(found, wanted, strict=True):
            assert torch.equal(clip.features.visual, other.features.visual)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    rows = 200  # 400 MB as read, none of it on disk
    with h5py.File(tmp_path / "visual.h5", "w") as file:
        file.create_dataset("avadataset", (rows, 10, 7, 7, 512), "f8", chunks=(1, 10, 7, 7, 512), compression="gzip")
    write_h5(tmp_path / "audio.h5", np.zeros((rows, 10, 128)))
    program = """
import resource, sys
from pathlib import Path
import h5py
from ccln.cache.hdf5 import open_features
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_features(Path(sys.argv[1]), Path(sys.argv[2])) as published:
    count = sum(1 for _ in published.clips())
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    words = [sys.executable, "-c", program, tmp_path / "visual.h5", tmp_path / "audio.h5"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    count, growth_mib = map(int, done.stdout.split())
    assert count == rows
    assert growth_mib < 256


@pytest.mark.parametrize(
    ("name", "value"),
    [("visual", np.nan), ("visual", -np.inf), ("visual", 65520.0), ("audio", np.inf), ("audio", 4e38)],
)
def test_a_number_that_does_not_fit_is_named(tmp_path: Path, name: str, value: float) -> None:
    visual, audio = features(5)
    (visual if name == "visual" else audio)[3, 7].flat[2] = value
    files = pair(tmp_path, visual, audio)
    with pytest.raises(CacheError, match=rf"{name}\.h5, row 3, segment 7: {value:g}".replace("+", r"\+")):
        read_all(*files)


def test_the_largest_number_that_fits_fits(tmp_path: Path) -> None:
    visual, audio = features(2)
    visual[1, 2].flat[0] = 65519.0  # rounds down to half precision's largest
    assert read_all(*pair(tmp_path, visual, audio))[1].features.visual.max() == 65504


@pytest.mark.parametrize(
    ("visual", "audio", "message"),
    [
        ((3, 10, 2, 2, 4), (4, 10, 5), "4"),
        ((3, 10, 2, 2, 4), (3, 9, 5), "9"),
        ((3, 10, 4), (3, 10, 5), "height"),
        ((3, 10, 2, 2, 4), (3, 50), "segment, channel"),
    ],
)
def test_arrays_whose_shapes_do_not_fit_are_refused(tmp_path: Path, visual: tuple, audio: tuple, message: str) -> None:
    files = pair(tmp_path, np.zeros(visual), np.zeros(audio))
    with pytest.raises(CacheError, match=message):
        read_all(*files)


def _external_link(file: h5py.File, path: Path) -> None:
    write_h5(path.with_name("other.h5"), features(1)[0])
    file["avadataset"] = h5py.ExternalLink("other.h5", "avadataset")


def _soft_link(file: h5py.File, path: Path) -> None:
    file["real"] = features(1)[0]
    file["avadataset"] = h5py.SoftLink("/real")


def _external_storage(file: h5py.File, path: Path) -> None:
    path.with_name("secret").write_bytes(bytes(features(1)[0].nbytes))
    file.create_dataset("avadataset", (1, 10, 2, 3, 4), "f8", external=str(path.with_name("secret")))


def _virtual(file: h5py.File, path: Path) -> None:
    write_h5(path.with_name("other.h5"), features(1)[0])
    layout = h5py.VirtualLayout((1, 10, 2, 3, 4), "f8")
    layout[:] = h5py.VirtualSource(path.with_name("other.h5"), "avadataset", (1, 10, 2, 3, 4))
    file.create_virtual_dataset("avadataset", layout)


def _bomb(size_bytes: int) -> Callable[[h5py.File, Path], None]:
    def store(file: h5py.File, path: Path) -> None:
        shape = (1, 10, 2, 3, 4)
        dataset = file.create_dataset("avadataset", shape, "f8", chunks=shape, compression="gzip")
        dataset.id.write_direct_chunk((0,) * 5, zlib.compress(bytes(size_bytes)))

    return store


def _stored(**layout: object) -> Callable[[h5py.File, Path], None]:
    def store(file: h5py.File, path: Path) -> None:
        file.create_dataset("avadataset", **{"data": features(1)[0], **layout})

    return store


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_external_link, "link"),
        (_soft_link, "link"),
        (_external_storage, "other files"),
        (_virtual, "other files"),
        (_bomb(1 << 20), "does not unpack to its 1920 bytes"),
        (_bomb(1 << 26), "takes 65238 bytes in the file for 1920"),
        (_stored(compression="lzf"), "gzip"),
        (_stored(compression="gzip", scaleoffset=2), "gzip"),
        (_stored(data=["text"] * 3), "object"),
        (_stored(data=np.zeros((1, 10), [("a", "f8"), ("b", "f8")])), "holds"),
        (_stored(data=np.zeros((1, 10, 2, 2, 4), int)), "int64"),
        (_stored(data=1.0), "no array"),
        (_stored(data=h5py.Empty("f8")), "no array"),
        (_stored(data=None, shape=(1, 10, 1000, 1000, 1000), dtype="f8", chunks=(1, 1, 10, 10, 10)), "bytes"),
        (_stored(data=None, shape=(99, 10, 100, 100, 10), dtype="f8", chunks=(99, 10, 100, 100, 10)), "bytes"),
        (lambda file, path: file.create_group("avadataset"), "no array"),
        (lambda file, path: file.create_dataset("order", data=1.0), "no array 'avadataset'"),
    ],
)
def test_a_file_that_would_do_harm_is_refused(
    tmp_path: Path, make: Callable[[h5py.File, Path], object], message: str
) -> None:
    visual, audio = pair(tmp_path, *features(1))
    with h5py.File(visual, "w") as file:
        make(file, visual)
    with pytest.raises(CacheError, match=message) as raised:
        read_all(visual, audio)
    assert str(visual) in str(raised.value)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("kind", ["text", "truncated", "empty", "folder", "pipe", "absent"])
def test_a_file_other_than_hdf5_is_refused(tmp_path: Path, kind: str) -> None:
    visual, audio = pair(tmp_path, *features(3))
    data = visual.read_bytes()
    visual.unlink()
    if kind == "folder":
        visual.mkdir()
    elif kind == "pipe":
        os.mkfifo(visual)
    elif kind != "absent":
        visual.write_bytes({"text": b"hello", "truncated": data[: len(data) // 2], "empty": b""}[kind])
    with pytest.raises(CacheError) as raised:
        read_all(visual, audio)
    assert str(visual) in str(raised.value)


def test_a_chunk_that_gzip_cannot_shrink_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 10, 2, 2, 128), np.uint8).view(np.float16)
    noise[~np.isfinite(noise)] = 0
    visual, audio = pair(tmp_path, noise, features(4)[1])
    with h5py.File(visual, "w") as file:
        file.create_dataset("avadataset", data=noise, chunks=(1, *noise.shape[1:]), compression="gzip", fletcher32=True)
    found = np.stack([clip.features.visual.numpy() for clip in read_all(visual, audio)])
    assert np.array_equal(found, noise)


def test_features_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    visual = np.random.default_rng(1).integers(0, 1 << 16, (6, 10, 2, 3, 4), np.uint16).view(np.float16)
    visual[~np.isfinite(visual)] = 0  # what stays are subnormals and zeros of both signs, too
    audio = np.random.default_rng(0).normal(size=(6, 10, 5)).astype(np.float32)
    paths = tmp_path / "v.h5", tmp_path / "a.h5"
    for path, array in zip(paths, (visual, audio), strict=True):
        with create_array(path, ARRAY_KEY, array.shape, "float64", SPECIFICATION) as write:
            for row, values in enumerate(array):
                write(row, values)
    for row, clip in enumerate(read_all(*paths)):
        assert clip.features.visual.numpy().tobytes() == visual[row].tobytes()
        assert clip.features.audio.numpy().tobytes() == audio[row].tobytes()
    with open_array(paths[0], ARRAY_KEY, "f") as array:
        assert array.specification == SPECIFICATION
        assert array.nbytes == 8 * visual.size


@pytest.mark.parametrize(
    "attribute", [1.5, "variable length", np.bytes_("[1]"), np.bytes_('{"a": NaN}'), np.bytes_("[" * 60_000), [b"{}"]]
)
def test_an_attribute_without_a_specification_is_refused(tmp_path: Path, attribute: object) -> None:
    path = write_h5(tmp_path / "v.h5", features(1)[0])
    with h5py.File(path, "a") as file:
        file["avadataset"].attrs["ccln_specification"] = attribute
    with pytest.raises(CacheError, match=r"v\.h5"), open_array(path, "avadataset", "f"):
        pass


def test_small_arrays_are_written_and_read_with_their_shape(tmp_path: Path) -> None:
    write_array(tmp_path / "order.h5", "order", np.array([3, 1]))
    with h5py.File(tmp_path / "order.h5") as file:
        dataset = dataset_in(file, "order")
        assert dataset.dtype == np.int64
        assert dataset.chunks is None
    assert read_array(tmp_path / "order.h5", "order", (None,), "iu").tolist() == [3, 1]
    with pytest.raises(CacheError, match="its shape is 2, expected 2 x any"):
        read_array(tmp_path / "order.h5", "order", (2, None), "iu")
    with pytest.raises(CacheError, match="expected 3"):
        read_array(tmp_path / "order.h5", "order", (3,), "iu")
    with pytest.raises(CacheError, match=r"order\.h5"):
        write_array(tmp_path / "order.h5", "order", np.array([3, 1]))
    with pytest.raises(CacheError, match=r"gone.order\.h5"):
        write_array(tmp_path / "gone" / "order.h5", "order", np.array([3, 1]))


def test_an_error_of_the_caller_does_not_name_the_file(tmp_path: Path) -> None:
    files = pair(tmp_path, *features(1))
    with pytest.raises(ValueError, match=r"^mine$"), open_features(*files):
        raise ValueError("mine")
    with pytest.raises(ValueError, match=r"^mine$"), create_array(tmp_path / "v", ARRAY_KEY, (1, 1), "float64"):
        raise ValueError("mine")
