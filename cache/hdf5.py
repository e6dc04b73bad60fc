"""HDF5 files of one array each, in which AVE publishes features: read in blocks of rows, written row by row.

The files are of unknown origin: what HDF5 would fetch from elsewhere, or unpack beyond its size, is refused.
"""

import hashlib
import itertools
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ccln.cache.entry import Features
from ccln.cache.keys import JSON, CacheError, canonical_json
from ccln.strict_json import strict_json

if TYPE_CHECKING:
    import h5py

ARRAY_KEY = "avadataset"
ORDER_KEY = "order"

_BLOCK_BYTES = 1 << 26
_SPECIFICATION = "ccln_specification"  # an attribute; files made by others have none
_MAX_SPECIFICATION_BYTES = 1 << 16  # HDF5's own limit for an attribute in the header of its object
_MAX_ROW_BYTES = 1 << 26  # VGG-19's are 2 MB
_GZIP, _SHUFFLE, _CHECKSUM = 1, 2, 3  # numbers that HDF5 has given its filters
_FILTERS = {
    (*packing, *checksum)
    for packing in ((), (_SHUFFLE,), (_GZIP,), (_SHUFFLE, _GZIP))
    for checksum in ((), (_CHECKSUM,))
}
_AGAIN = "download it, or make it, again"
_NO_ROOM = "free some space there or choose another folder"


class ArrayFile:
    """The array of an open file. Made by `open_array`."""

    def __init__(self, path: Path, dataset: "h5py.Dataset") -> None:
        self.path = path
        self.shape: tuple[int, ...] = dataset.shape
        """(row, ...)."""
        self.nbytes: int = dataset.nbytes
        """Size of the whole array in memory."""
        self.specification = _read_specification(dataset)
        """How the features were made, where the file has our attribute."""
        self._dataset = dataset
        self._chunk: tuple[int, ...] | None = dataset.chunks

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def block_rows(self) -> int:
        """The number of rows to read at once: 64 MiB at most, and whole chunks if they are not larger than that."""
        rows = max(1, _BLOCK_BYTES // max(1, self.nbytes // max(1, len(self))))
        chunk_rows = self._chunk[0] if self._chunk else 1
        return rows - rows % chunk_rows if chunk_rows <= rows else rows

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read the rows [start, stop) as they are in the file.

        Raises:
            CacheError: If they cannot be read, or unpack to more than their size.
        """
        with errors_naming(self.path):
            if self._chunk and _GZIP in _filters(self._dataset):
                self._refuse_bombs(self._chunk, start, stop)
            return self._dataset[start:stop]

    def _refuse_bombs(self, chunk: tuple[int, ...], start: int, stop: int) -> None:
        """Check sizes before HDF5 unpacks: it unpacks a chunk without limit, and packed zeros grow a thousandfold."""
        room = self._dataset.dtype.itemsize * math.prod(chunk)
        first = range(start - start % chunk[0], stop, chunk[0])
        others = (range(0, length, step) for length, step in zip(self.shape[1:], chunk[1:], strict=True))
        for offset in itertools.product(first, *others):
            info = self._dataset.id.get_chunk_info_by_coord(offset)
            if info.byte_offset is None:  # never written
                continue
            if info.size > 2 * room + 64:  # packing adds a few bytes at worst
                raise CacheError(f"the chunk at {offset} takes {info.size} bytes in the file for {room}")
            skipped, packed = self._dataset.id.read_direct_chunk(offset)
            inflater = zlib.decompressobj()
            # What packing could not shrink is kept as it is, and marked so.
            if not skipped and (len(inflater.decompress(packed, room + 1)) > room or not inflater.eof):
                raise CacheError(f"the chunk at {offset} does not unpack to its {room} bytes")


@contextmanager
def open_array(path: Path, key: str, kinds: str) -> Iterator[ArrayFile]:
    """Open the array of a file; refuse other files, and those that would have HDF5 read a second file.

    Args:
        path: The HDF5 file.
        key: Name of the array in it.
        kinds: Kinds of number that it may hold, as numpy's letters: "f" floating point, "i" and "u" integer.

    Raises:
        CacheError: If the file is not such a file.
    """
    import h5py

    with errors_naming(path):
        if not path.is_file():  # opening a pipe would wait for ever
            raise CacheError("there is no such file")
        file = h5py.File(path, "r", locking="best-effort")
    with file:
        with errors_naming(path):
            array = ArrayFile(path, _plain_dataset(file, key, kinds))
        yield array


def read_array(path: Path, key: str, shape: tuple[int | None, ...], kinds: str) -> np.ndarray:
    """Read a small array whole: labels, or the rows of a split.

    Args:
        path: The HDF5 file.
        key: Name of the array in it.
        shape: The shape that it must have; None stands for any length.
        kinds: As for `open_array`.

    Raises:
        CacheError: If the file is not such a file, or has another shape.
    """
    with open_array(path, key, kinds) as array:
        with errors_naming(path):
            same_axes = len(array.shape) == len(shape)
            if not same_axes or any(wanted not in (None, found) for wanted, found in zip(shape, array.shape)):  # noqa: B905
                raise CacheError(f"its shape is {shape_text(array.shape)}, expected {shape_text(shape)}")
            if array.nbytes > _BLOCK_BYTES:
                raise CacheError(f"its array takes {array.nbytes} bytes, {_BLOCK_BYTES} are possible here")
        return array.read(0, len(array))


class PublishedClip(NamedTuple):
    """One clip of the published files."""

    row: int
    """Its position in them from 0."""
    source_sha256: str
    """Of the row's own bytes in both files, its number, and the files' names: rows of different files are never
    confused."""
    features: Features


@dataclass(frozen=True, eq=False)
class PublishedFeatures:
    """Both feature files of the same clips, open. Made by `open_features`."""

    visual: ArrayFile
    audio: ArrayFile

    def __len__(self) -> int:
        return len(self.visual)

    def clips(self) -> Iterator[PublishedClip]:
        """All clips in order, read in blocks and converted one by one: visual to float16, audio to float32.

        Raises:
            CacheError: If a block cannot be read, or a value is not a number that fits.
        """
        step = self.visual.block_rows
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            block = zip(self.visual.read(start, stop), self.audio.read(start, stop), strict=True)
            for row, (visual, audio) in enumerate(block, start):
                features = Features(
                    _converted(self.visual.path, row, visual, np.float16),
                    _converted(self.audio.path, row, audio, np.float32),
                    duration_seconds=float(len(visual)),
                )
                yield PublishedClip(row, self._digest(row, visual, audio), features)

    def _digest(self, row: int, *arrays: np.ndarray) -> str:
        names = f"{self.visual.path.name}, {self.audio.path.name}"
        described = [names, row, *([array.dtype.str, list(array.shape)] for array in arrays)]
        digest = hashlib.sha256(canonical_json(described).encode())
        for array in arrays:
            digest.update(array.data)
        return digest.hexdigest()


@contextmanager
def open_features(visual: Path, audio: Path) -> Iterator[PublishedFeatures]:
    """Open a pair of published feature files.

    Args:
        visual: Floats (row, segment, height, width, channel).
        audio: Floats (row, segment, channel).

    Raises:
        CacheError: If a file is not such a file, or the two do not hold the same number of clips.
    """
    with open_array(visual, ARRAY_KEY, "f") as visuals, open_array(audio, ARRAY_KEY, "f") as audios:
        for array, axes in ((visuals, "(row, segment, height, width, channel)"), (audios, "(row, segment, channel)")):
            with errors_naming(array.path):
                if len(array.shape) != axes.count(",") + 1:
                    raise CacheError(f"its shape is {shape_text(array.shape)}, expected {axes}")
        if visuals.shape[:2] != audios.shape[:2]:
            raise CacheError(
                f"{visual} holds {visuals.shape[0]} rows of {visuals.shape[1]} segments, {audio} {audios.shape[0]} of "
                f"{audios.shape[1]}; take both from one publication"
            )
        yield PublishedFeatures(visuals, audios)


@contextmanager
def create_array(
    path: Path, key: str, shape: tuple[int, ...], dtype: str, specification: Mapping[str, JSON] | None = None
) -> Iterator[Callable[[int | slice, np.ndarray], None]]:
    """Make a file of one array; features (more than two axes) are compressed, a row a chunk.

    Half-precision features in float64 take a fourth of the space or less.

    Yields:
        A function that writes the values of some rows.

    Args:
        path: The file; must not exist.
        key: Name of the array in it.
        shape: (row, ...).
        dtype: As numpy names it, "float64" for example.
        specification: How the features were made, kept in an attribute for `ArrayFile.specification`.

    Raises:
        CacheError: If the file cannot be written.
    """
    import h5py

    packed: dict[str, Any] = {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}
    with errors_naming(path, _NO_ROOM):
        file = h5py.File(path, "x")
    try:
        with errors_naming(path, _NO_ROOM):
            dataset = file.create_dataset(key, shape, dtype, **(packed if len(shape) > 2 else {}))
            if specification is not None:
                dataset.attrs[_SPECIFICATION] = np.bytes_(canonical_json(dict(specification)))

        def write(rows: int | slice, values: np.ndarray) -> None:
            with errors_naming(path, _NO_ROOM):
                dataset[rows] = values

        yield write
    finally:
        with errors_naming(path, _NO_ROOM):  # the last of it is written now
            file.close()


def write_array(path: Path, key: str, array: np.ndarray) -> None:
    """Make a file of one small array.

    Raises:
        CacheError: If the file cannot be written.
    """
    with create_array(path, key, array.shape, array.dtype.str) as write:
        write(slice(None), array)


def shape_text(shape: tuple[int | None, ...]) -> str:
    """A shape for people: "178 x 10 x any"."""
    return " x ".join("any" if length is None else str(length) for length in shape)


@contextmanager
def errors_naming(path: Path, remedy: str = _AGAIN) -> Iterator[None]:
    """Turn whatever is wrong with a file into one CacheError that names it."""
    try:
        yield
    except (CacheError, OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, zlib.error) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)[:300]
        raise CacheError(f"{path}: {reason}; {remedy}") from error


def _plain_dataset(file: "h5py.File", key: str, kinds: str) -> "h5py.Dataset":
    import h5py

    link = file.get(key, getlink=True) if key in list(file) else None  # `key in file` would follow a link
    if link is None:
        raise CacheError(f"it has no array {key!r}")
    if not isinstance(link, h5py.HardLink):
        raise CacheError(f"its {key!r} is a link to elsewhere")
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
        raise CacheError(f"its {key!r} is no array")
    if dataset.dtype.kind not in kinds:
        raise CacheError(f"its {key!r} holds {dataset.dtype}, not numbers of the kind expected")
    if dataset.is_virtual or dataset.external:
        raise CacheError(f"its {key!r} lies in other files")
    if _filters(dataset) not in _FILTERS:
        raise CacheError(f"its {key!r} is packed in another way than gzip (filters {_filters(dataset)})")
    row_bytes, chunk_bytes = (
        dataset.dtype.itemsize * math.prod(lengths) for lengths in (dataset.shape[1:], dataset.chunks or (0,))
    )
    if row_bytes > _MAX_ROW_BYTES or chunk_bytes > _BLOCK_BYTES:
        raise CacheError(f"its rows take {row_bytes} bytes each, its chunks {chunk_bytes}: more than features do")
    return dataset


def _filters(dataset: "h5py.Dataset") -> tuple[int, ...]:
    plist = dataset.id.get_create_plist()
    return tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))


def _read_specification(dataset: "h5py.Dataset") -> Mapping[str, JSON] | None:
    if _SPECIFICATION not in dataset.attrs:
        return None
    attribute = dataset.attrs.get_id(_SPECIFICATION)
    if attribute.shape != () or attribute.dtype.kind != "S" or attribute.dtype.itemsize > _MAX_SPECIFICATION_BYTES:
        raise CacheError(f"its attribute {_SPECIFICATION} is no text")
    text: Any = dataset.attrs[_SPECIFICATION]
    specification = strict_json(bytes(text))
    if not isinstance(specification, dict):
        raise CacheError(f"its attribute {_SPECIFICATION} is no specification")
    canonical_json(specification)  # refuses NaN and the infinities
    return specification


def _converted(path: Path, row: int, values: np.ndarray, dtype: type[np.floating]) -> torch.Tensor:
    """One row in another precision; an infinity, or a number too large for it, is refused."""
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(dtype)
    if not np.isfinite(converted).all():
        segment = int(np.argmin(np.isfinite(converted).reshape(len(converted), -1).all(axis=1)))
        value = values[segment][~np.isfinite(converted[segment])][0]
        limit = f"a finite number up to {np.finfo(dtype).max:g} ({np.dtype(dtype)})"
        raise CacheError(f"{path}, row {row}, segment {segment}: {value:g} is not {limit}; download the file again")
    return torch.from_numpy(converted)
