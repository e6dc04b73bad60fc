"""Features as AVE publishes them: one HDF5 file for what is seen and one for what is heard, all clips in it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ccln.cache.errors import CacheError
from ccln.cache.features import Features
from ccln.cache.hdf5 import ArrayFile, NewArray, blaming, create_array, open_array, written
from ccln.cache.keys import JSON, canonical_json

ARRAY_KEY = "avadataset"
ORDER_KEY = "order"


class PublishedClip(NamedTuple):
    """One clip of the published files."""

    row: int
    """Its position in them from 0."""
    source_sha256: str
    """Of the row's own bytes in both files, its number, and what the rows are."""
    features: Features


@dataclass(frozen=True, eq=False)
class PublishedFeatures:
    """Both feature files of the same clips, open. Made by `open_features`."""

    visual: ArrayFile
    audio: ArrayFile
    domain: str

    def __len__(self) -> int:
        return len(self.visual)

    def clips(self) -> Iterator[PublishedClip]:
        """All clips in order, read in blocks and converted one by one: visual to float16, audio to float32.

        Raises:
            CacheError: A block cannot be read, or a value is not a number that fits.
        """
        step = self.visual.block_rows
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            block = zip(self.visual.read(start, stop), self.audio.read(start, stop), strict=True)
            for row, (visual, audio) in enumerate(block, start):
                yield PublishedClip(row, self._digest(row, visual, audio), self._features(row, visual, audio))

    def _digest(self, row: int, *arrays: np.ndarray) -> str:
        said = [self.domain, row, *([array.dtype.str, list(array.shape)] for array in arrays)]
        digest = hashlib.sha256(canonical_json(said).encode())
        for array in arrays:
            digest.update(array.data)
        return digest.hexdigest()

    def _features(self, row: int, visual: np.ndarray, audio: np.ndarray) -> Features:
        seen = _converted(self.visual.path, row, visual, np.dtype(np.float16))
        heard = _converted(self.audio.path, row, audio, np.dtype(np.float32))
        return Features(torch.from_numpy(seen), torch.from_numpy(heard), duration_seconds=float(len(visual)))


@contextmanager
def open_features(visual: Path, audio: Path, *, domain: str) -> Iterator[PublishedFeatures]:
    """Open a pair of published feature files.

    Args:
        visual: floats (row, segment, height, width, channel).
        audio: floats (row, segment, channel).
        domain: What the rows are; a part of their digests, so that rows of different files are never taken for one.

    Raises:
        CacheError: A file is not such a file, or the two do not hold the same number of clips.
    """
    with open_array(visual, ARRAY_KEY, "f") as seen, open_array(audio, ARRAY_KEY, "f") as heard:
        for array, axes in ((seen, "(row, segment, height, width, channel)"), (heard, "(row, segment, channel)")):
            with blaming(array.path):
                if len(array.shape) != axes.count(",") + 1:
                    raise CacheError(f"its shape is {written(array.shape)}, expected {axes}")
        if seen.shape[:2] != heard.shape[:2]:
            raise CacheError(
                f"{visual} holds {seen.shape[0]} rows of {seen.shape[1]} segments, {audio} {heard.shape[0]} of "
                f"{heard.shape[1]}; take both from one publication"
            )
        yield PublishedFeatures(seen, heard, domain)


@dataclass(frozen=True, eq=False)
class NewFeatures:
    """Feature files in the making. Made by `create_features`."""

    visual: NewArray
    audio: NewArray
    visual_vector: NewArray | None
    visual_shape: tuple[int, ...]
    audio_shape: tuple[int, ...]

    def write(self, row: int, visual: torch.Tensor, audio: torch.Tensor) -> None:
        """Put a clip's features into their row; what the row's shape has beyond theirs is zero.

        Args:
            row: From 0.
            visual: (segment, height, width, channel).
            audio: (segment, channel).

        Raises:
            CacheError: A file cannot be written.
        """
        seen = _padded(visual, self.visual_shape)
        self.visual[row] = seen
        self.audio[row] = _padded(audio, self.audio_shape)
        if self.visual_vector is not None:
            self.visual_vector[row] = seen.mean(axis=(1, 2))


@contextmanager
def create_features(
    paths: Sequence[Path],
    *,
    rows: int,
    visual_shape: tuple[int, int, int, int],
    audio_shape: tuple[int, int],
    specification: Mapping[str, JSON],
) -> Iterator[NewFeatures]:
    """Make the published feature files of some clips, float64 throughout, as published.

    Args:
        paths: Where the visual features go, (row, segment, height, width, channel); where the audio features go, (row,
            segment, channel); and, if there is a third, where the visual features' mean over height and width goes.
        rows: How many clips.
        visual_shape: Of one clip, at least its features'.
        audio_shape: Of one clip, at least its features'.
        specification: How the features were made; kept in an attribute.

    Raises:
        CacheError: A file exists or cannot be written.
    """
    with ExitStack() as files:
        shapes = (visual_shape, audio_shape, (visual_shape[0], visual_shape[3]))
        visual, audio, *vectors = (
            files.enter_context(create_array(path, ARRAY_KEY, (rows, *shape), "float64", specification))
            for path, shape in zip(paths, shapes, strict=False)
        )
        yield NewFeatures(visual, audio, vectors[0] if vectors else None, visual_shape, audio_shape)


def _padded(features: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    padded = np.zeros(shape)
    padded[tuple(map(slice, features.shape))] = features.numpy()
    return padded


def _converted(path: Path, row: int, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(dtype)
    if not np.isfinite(converted).all():
        segment = int(np.argmin(np.isfinite(converted).reshape(len(converted), -1).all(axis=1)))
        value = values[segment][~np.isfinite(converted[segment])][0]
        limit = f"a finite number up to {np.finfo(dtype).max:g} ({dtype})"
        raise CacheError(f"{path}, row {row}, segment {segment}: {value:g} is not {limit}; download the file again")
    return converted
