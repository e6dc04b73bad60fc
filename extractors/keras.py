"""Files of weights as Keras writes them: HDF5, each layer a group of its name with a few arrays.

Such a file is not to be trusted: only plain numbers of the layer's own shape, stored in the file itself, are read.
"""

from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from ccln.extractors.contract import WeightsError
from ccln.extractors.weights import unreadable

_MEMBERS_AT_MOST = 8


class KerasFile:
    """An open file of Keras's; whatever cannot be read in its `with` block becomes a WeightsError."""

    def __init__(self, file: Path, network: str) -> None:
        """Open the file.

        Args:
            file: As Keras's `save_weights` wrote it.
            network: Whose weights are wanted, for the errors.

        Raises:
            WeightsError: It is no HDF5 file.
        """
        self._file, self._network = file, network
        try:
            self._root = h5py.File(file, "r")
        except (OSError, RuntimeError) as error:
            raise unreadable(file, error) from error

    def __enter__(self) -> "KerasFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._root.close()
        if isinstance(error, OSError | RuntimeError | LookupError | ValueError | TypeError):
            raise unreadable(self._file, error) from error

    def array(self, layer: str, shape: tuple[int, ...], leaf: str = "") -> np.ndarray:
        """Return the only array of that many dimensions in the layer's group, float32.

        Args:
            layer: Its name; a "/" in it is a group within a group.
            shape: What the array has to have.
            leaf: The start of the array's name, where the layer has several of as many dimensions.

        Raises:
            WeightsError: There is none or several, or it has another shape or kind.
        """
        found = [part for part in self._arrays(layer, leaf) if len(part.shape) == len(shape)]
        if len(found) != 1 or found[0].shape != shape or found[0].dtype.kind != "f":
            got = ", ".join(f"{part.dtype} {part.shape}" for part in found) or "none"
            raise WeightsError(
                f"{self._file} does not hold the weights of {self._network}: layer {layer} should have one float array "
                f"{shape} in the file itself, but has {got}; give the published file"
            )
        return found[0][()].astype(np.float32)

    def _arrays(self, layer: str, leaf: str) -> list[h5py.Dataset]:
        """Return the datasets of a layer, from `layer/` or, as newer files have it, from `layer/layer/`.

        Hard links alone are followed: soft and external ones lead anywhere. So do external and virtual datasets; and
        chunks may unpack to any size. Keras writes none of these.
        """
        outer = _group(self._root, layer)
        group = _group(outer, layer) or outer
        if group is None or len(group) > _MEMBERS_AT_MOST:
            return []
        members = [_member(group, str(name)) for name in group if str(name).startswith(leaf)]
        return [
            part
            for part in members
            if isinstance(part, h5py.Dataset) and not part.external and not part.is_virtual and part.chunks is None
        ]


def _group(parent: h5py.Group | None, path: str) -> h5py.Group | None:
    for name in path.split("/"):
        child = None if parent is None else _member(parent, name)
        parent = child if isinstance(child, h5py.Group) else None
    return parent


def _member(group: h5py.Group, name: str) -> object:
    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
