"""HDF5 files of one array each: read in blocks of rows, written row by row.

The files come from strangers: whatever HDF5 would fetch from elsewhere, or let grow beyond its size, is refused.
"""

import itertools
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ccln.cache.errors import CacheError
from ccln.cache.keys import JSON, canonical_json

if TYPE_CHECKING:
    import h5py

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
    """The array of an open file. Made by `open_array`.

    Attributes:
        path: The file.
        shape: The array's, (row, ...).
        nbytes: What all of it would take in memory.
        specification: How the features were made, where the file says so in our attribute.
    """

    def __init__(self, path: Path, dataset: "h5py.Dataset") -> None:
        self.path = path
        self.shape: tuple[int, ...] = dataset.shape
        self.nbytes: int = dataset.nbytes
        self.specification = _read_specification(dataset)
        self._dataset = dataset
        self._chunk: tuple[int, ...] | None = dataset.chunks

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def block_rows(self) -> int:
        """How many rows to read at once: 64 MiB at most, and whole chunks if they are not larger than that."""
        rows = max(1, _BLOCK_BYTES // max(1, self.nbytes // max(1, len(self))))
        chunk_rows = self._chunk[0] if self._chunk else 1
        return rows - rows % chunk_rows if chunk_rows <= rows else rows

    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows [start, stop) as they are in the file.

        Raises:
            CacheError: They cannot be read, or unpack to more than their place.
        """
        with blaming(self.path):
            if self._chunk and _GZIP in _filters(self._dataset):
                self._refuse_bombs(self._chunk, start, stop)
            return self._dataset[start:stop]

    def _refuse_bombs(self, chunk: tuple[int, ...], start: int, stop: int) -> None:
        """HDF5 unpacks a chunk to whatever there is in it, and packed zeros grow a thousandfold."""
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
    """Open the array of a file, refusing what is none or would read anything but this file.

    Args:
        path: The HDF5 file.
        key: Name of the array in it.
        kinds: Kinds of number that it may hold, as numpy's letters: "f" floating point, "i" and "u" integer.

    Raises:
        CacheError: The file is not such a file.
    """
    import h5py

    with blaming(path):
        if not path.is_file():  # opening a pipe would wait for ever
            raise CacheError("there is no such file")
        file = h5py.File(path, "r", locking="best-effort")
    with file:
        with blaming(path):
            array = ArrayFile(path, _plain_dataset(file, key, kinds))
        yield array


def read_array(path: Path, key: str, shape: tuple[int | None, ...], kinds: str) -> np.ndarray:
    """A small array whole: labels, or the rows of a split.

    Args:
        path: The HDF5 file.
        key: Name of the array in it.
        shape: What it must have; None stands for any length.
        kinds: As for `open_array`.

    Raises:
        CacheError: The file is not such a file, or the shape is another.
    """
    with open_array(path, key, kinds) as array:
        with blaming(path):
            same_axes = len(array.shape) == len(shape)
            if not same_axes or any(wanted not in (None, found) for wanted, found in zip(shape, array.shape)):  # noqa: B905
                raise CacheError(f"its shape is {written(array.shape)}, expected {written(shape)}")
            if array.nbytes > _BLOCK_BYTES:
                raise CacheError(f"its array takes {array.nbytes} bytes, {_BLOCK_BYTES} are possible here")
        return array.read(0, len(array))


class NewArray:
    """The array of a file in the making: filled by assigning to rows. Made by `create_array`."""

    def __init__(self, path: Path, dataset: "h5py.Dataset") -> None:
        self.path = path
        self._dataset = dataset

    def __setitem__(self, rows: int | slice, values: np.ndarray) -> None:
        with blaming(self.path, _NO_ROOM):
            self._dataset[rows] = values


@contextmanager
def create_array(
    path: Path, key: str, shape: tuple[int, ...], dtype: str, specification: Mapping[str, JSON] | None = None
) -> Iterator[NewArray]:
    """Make a file with one array; features (more than two axes) are packed, a row a chunk.

    Packing is invisible to whoever reads: half-precision features in float64 take a fourth of the space or less.

    Args:
        path: The file; must not exist.
        key: Name of the array in it.
        shape: (row, ...).
        dtype: "float64", say.
        specification: How the features were made, kept in an attribute for `ArrayFile.specification`.

    Raises:
        CacheError: The file cannot be written.
    """
    import h5py

    packed: dict[str, Any] = {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}
    with blaming(path, _NO_ROOM):
        file = h5py.File(path, "x")
    try:
        with blaming(path, _NO_ROOM):
            dataset = file.create_dataset(key, shape, dtype, **(packed if len(shape) > 2 else {}))
            if specification is not None:
                dataset.attrs[_SPECIFICATION] = np.bytes_(canonical_json(dict(specification)))
        yield NewArray(path, dataset)
    finally:
        with blaming(path, _NO_ROOM):  # the last of it is written now
            file.close()


def write_array(path: Path, key: str, array: np.ndarray) -> None:
    """Make a file of one small array.

    Raises:
        CacheError: The file cannot be written.
    """
    with create_array(path, key, array.shape, array.dtype.str) as new:
        new[:] = array


def written(shape: tuple[int | None, ...]) -> str:
    """A shape in words for people: "178 x 10 x any"."""
    return " x ".join("any" if length is None else str(length) for length in shape)


@contextmanager
def blaming(path: Path, remedy: str = _AGAIN) -> Iterator[None]:
    """Whatever is wrong with a file becomes one CacheError that names it.

    Raises:
        CacheError: Instead of what the block raises.
    """
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
    specification = json.loads(bytes(text))
    if not isinstance(specification, dict):
        raise CacheError(f"its attribute {_SPECIFICATION} is no specification")
    canonical_json(specification)  # refuses NaN and the infinities
    return specification
