"""Detectors of Dectris (Arina, Quadro, Singla): HDF5 files of patterns, read lazily and with their own type."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import FileFormatError, MissingDependencyError

__all__ = ["read_dectris"]

_BLOCK_BYTES = 2**26


def read_dectris(path: Path, lazy: bool, dataset: str | None) -> Any:
    """Read a master file of a Dectris detector as a stack of patterns.

    Parameters
    ----------
    path
        The ``_master.h5`` file; the data files that it links to lie beside it.
    lazy
        Leave the patterns on disk.
    dataset
        Group of the patterns; ``entry/data`` by default.

    Returns
    -------
    hyperspy.signals.Signal2D
        (frame, k_y, k_x) in the order of recording, in the type of the file. No scan shape is guessed.

    Raises
    ------
    FileFormatError
        The group holds no patterns, or a data file that it links to is missing.
    MissingDependencyError
        The patterns are compressed and the filters of the package hdf5plugin are missing.
    """
    import hyperspy.api as hs

    where = dataset or "entry/data"
    parts, shape, dtype = _parts(path, where)
    total = sum(parts.values())
    if lazy:
        frames = hs.signals.BaseSignal(np.zeros(total, bool)).as_lazy().data
        number = max(1, _BLOCK_BYTES // (math.prod(shape) * dtype.itemsize))
        data = frames.rechunk((number,)).map_blocks(
            functools.partial(_block, path=str(path), where=where, parts=parts),
            dtype=dtype,
            new_axis=(1, 2),
            chunks=(frames.rechunk((number,)).chunks[0], (shape[0],), (shape[1],)),
            meta=np.empty((0, 0, 0), dtype),
        )
    else:
        data = _read(path, where, parts, 0, total)
    signal = hs.signals.Signal2D(data)
    signal = signal.as_lazy() if lazy else signal
    for axis, name in zip(signal.axes_manager._axes, ("frame", "k_y", "k_x"), strict=True):
        axis.name = name
    signal.metadata.General.title = path.stem.removesuffix("_master")
    signal.metadata.Signal.signal_type = "electron_diffraction"
    signal.original_metadata.add_dictionary({"format": "Dectris"})
    return signal


def _parts(path: Path, where: str) -> tuple[dict[str, int], tuple[int, int], np.dtype[Any]]:
    """Return the names and lengths of the data sets, the shape of a pattern and its type."""
    import h5py

    found: dict[str, int] = {}
    shapes, types = set(), set()
    with h5py.File(path) as file:
        group = file.get(where)
        for name in sorted(group) if isinstance(group, h5py.Group) else ():
            try:
                part = group[name]
            except (KeyError, OSError) as error:
                link = group.get(name, getlink=True)
                linked = getattr(link, "filename", name)
                raise FileFormatError(
                    f"{path.name} links to {linked}, which is not there",
                    needed="all its data files beside it",
                ) from error
            if isinstance(part, h5py.Dataset) and part.ndim == 3:
                found[name] = int(part.shape[0])
                shapes.add((int(part.shape[1]), int(part.shape[2])))
                types.add(part.dtype)
    if not sum(found.values()) or len(shapes) != 1 or len(types) != 1:
        raise FileFormatError(
            f"{where} of {path.name} holds {len(found)} data sets of patterns of {len(shapes)} shapes",
            needed="data sets (frame, k_y, k_x) of one shape and type",
            todo="name another group with dataset=",
        )
    return found, shapes.pop(), types.pop()


def _block(
    _block: NDArray[np.bool_],
    path: str,
    where: str,
    parts: dict[str, int],
    block_info: Mapping[Any, Any] | None = None,
) -> NDArray[Any]:
    """Read the patterns of one block."""
    if block_info is None:
        return np.empty((0, 0, 0))
    ((start, stop),) = block_info[0]["array-location"]
    return _read(Path(path), where, parts, start, stop)


def _read(path: Path, where: str, parts: dict[str, int], start: int, stop: int) -> NDArray[Any]:
    """Read patterns that may lie in several data sets."""
    import h5py

    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")  # registers the detector's compression, where it is installed
    pieces, first = [], 0
    with h5py.File(path) as file:
        for name, length in parts.items():
            low, high = max(start - first, 0), min(stop - first, length)
            if low < high:
                try:
                    pieces.append(np.asarray(file[where][name][low:high]))
                except OSError as error:
                    given = f"the patterns in {path.name} can't be decompressed: {error}"
                    raise MissingDependencyError(given, todo="pip install hdf5plugin") from error
            first += length
    return np.concatenate(pieces)
