"""Formats: what can be read, and small readers for formats that RosettaSciIO does not know.

The readers here are for files that users of atomic-resolution STEM have: StatSTEM and other MATLAB 5
files, NumPy archives, Atomap lattices, fpd scans, Dectris detectors (in a file of their own). Fitted
positions in them go to the original metadata.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import FileFormatError
from fairstem.signals.blockfile import read_blockfile
from fairstem.signals.dectris import read_dectris

__all__ = ["known_extensions", "own_readers"]


def known_extensions() -> dict[str, list[str]]:
    """Return the file extensions that can be read (lower case, no dot), each with its readers' names."""
    import rsciio

    found: dict[str, list[str]] = {}
    for plugin in rsciio.IO_PLUGINS:
        for extension in plugin["file_extensions"]:
            names = found.setdefault(extension.lower(), [])
            if plugin["name"] not in names:
                names.append(plugin["name"])
    own = (("mat", "StatSTEM"), ("npz", "NumPy"), ("hdf5", "Atomap"), ("hdf5", "fpd"), ("h5", "Dectris"))
    for extension, name in own:
        found.setdefault(extension, []).append(name)
    return found


def own_readers() -> Mapping[str, Callable[[Path, bool, str | None], Any]]:
    """Return fairstem's own readers by name; each takes path, lazy and the name of a data set."""
    return {
        "StatSTEM": _read_mat,
        "NumPy": _read_npz,
        "Atomap": _read_atomap,
        "fpd": _read_fpd,
        "Dectris": read_dectris,
        "Blockfile": read_blockfile,  # RosettaSciIO's needs scikit-image, and pads what is missing with zeros
    }


def _signal(
    data: NDArray[Any], title: str, original: Mapping[str, Any], axes: list[dict[str, Any]] | None
) -> Any:
    """Make a HyperSpy signal: 2-D data are an image, 1-D and 3-D spectra."""
    import hyperspy.api as hs

    make = {1: hs.signals.Signal1D, 2: hs.signals.Signal2D, 3: hs.signals.Signal1D, 4: hs.signals.Signal2D}
    options = {} if axes is None else {"axes": axes}
    signal = make.get(data.ndim, hs.signals.BaseSignal)(np.ascontiguousarray(data), **options)
    signal.metadata.General.title = title
    signal.original_metadata.add_dictionary(dict(original))
    return signal


def _image_axes(shape: tuple[int, ...], scale: float | None, units: str) -> list[dict[str, Any]]:
    calibrated = {} if scale is None else {"scale": scale, "units": units}
    return [{"name": name, "size": n, **calibrated} for name, n in zip("yx", shape, strict=True)]


def _pick(arrays: Mapping[str, Any], dataset: str | None, path: Path) -> NDArray[Any]:
    """Return the array named `dataset`, or say which there are."""
    numeric = {
        k: v for k, v in arrays.items() if isinstance(v, np.ndarray) and v.dtype.kind in "iufc" and v.ndim
    }
    if dataset is not None and dataset in numeric:
        return np.asarray(numeric[dataset])
    listed = ", ".join(f"{k} {v.shape}" for k, v in numeric.items()) or "none"
    given = f"{path.name} has no numeric array {dataset!r}" if dataset else f"{path.name} holds bare arrays"
    raise FileFormatError(
        given, needed="the name of one of its arrays", todo=f"pass dataset=; there are: {listed}"
    )


def _read_npz(path: Path, lazy: bool, dataset: str | None) -> Any:
    # opened here, because np.load leaves a damaged file open
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        data = _pick(dict(archive), dataset, path)
    signal = _signal(data, str(dataset), {}, None)
    return signal.as_lazy() if lazy else signal


def _read_mat(path: Path, lazy: bool, dataset: str | None) -> Any:
    from scipy.io import loadmat

    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False)
    except NotImplementedError as error:
        raise FileFormatError(
            f"{path.name} is a MATLAB 7.3 file",
            needed="a MATLAB 5 to 7.2 file",
            todo="save it with save(..., '-v7') in MATLAB, or read it with h5py",
        ) from error
    given = content.get("input")
    if dataset is None and hasattr(given, "obs") and np.ndim(given.obs) == 2:
        signal = _statstem(path, given, content.get("output"))
    else:
        signal = _signal(_pick(content, dataset, path), str(dataset), {}, None)
    return signal.as_lazy() if lazy else signal


def _statstem(path: Path, given: Any, output: Any) -> Any:
    """Turn StatSTEM's input and output structures into an image with fitted positions."""
    image = np.asarray(given.obs)
    pixel = getattr(given, "dx", None)
    scale = float(pixel) if isinstance(pixel, int | float) else None
    original: dict[str, Any] = {"format": "StatSTEM"}
    coordinates = getattr(output, "coordinates", None)
    if coordinates is not None and scale:
        xy = np.atleast_2d(np.asarray(coordinates, dtype=float))
        # StatSTEM's coordinates are (x, y) in Å and start with 1 at the first pixel; its widths are in Å
        # and its volumes in Å² times grey levels
        fitted = {"y": xy[:, 1] / scale - 1, "x": xy[:, 0] / scale - 1, "units": "px, first pixel at 0"}
        named = {"rho": ("width", scale), "eta": ("height", 1.0), "volumes": ("volume", scale**2)}
        fitted |= {
            name: np.atleast_1d(np.asarray(getattr(output, key), dtype=float)) / unit
            for key, (name, unit) in named.items()
            if hasattr(output, key)
        }
        starts = np.asarray(getattr(given, "coordinates", ()))
        species = np.atleast_1d(getattr(given, "types", ()))
        if starts.ndim == 2 and starts.shape[1] > 2 and len(starts) == len(xy) and len(species):
            fitted |= {"species": [str(t) for t in species], "species_index": starts[:, 2].astype(int) - 1}
        original["fitted"] = fitted
    return _signal(image, path.stem, original, _image_axes(image.shape, scale, "Å"))


def _read_atomap(path: Path, lazy: bool, dataset: str | None) -> Any:
    import h5py

    with h5py.File(path) as file:
        groups = [g for g in file if g.endswith("sublattice") and "atom_positions" in file[g]]
        if dataset is not None and dataset not in file:
            raise FileFormatError(
                f"{path.name} has no data set {dataset!r}", todo=f"it has: {', '.join(sorted(file))}"
            )
        image = np.asarray(file[dataset or "image_data0"])
        positions = [np.asarray(file[g]["atom_positions"], dtype=float) for g in groups]
        scale = float(file[groups[0]].attrs.get("pixel_size", 1.0)) if groups else 1.0
    original: dict[str, Any] = {"format": "Atomap"}
    if positions:
        xy = np.concatenate(positions)  # (x, y) in px, first pixel at 0
        index = np.repeat(np.arange(len(positions)), [len(p) for p in positions])
        original["fitted"] = {
            "y": xy[:, 1],
            "x": xy[:, 0],
            "sublattice": index,
            "units": "px, first pixel at 0",
        }
    # Atomap keeps the pixel size without its unit
    axes = [{"name": name, "size": n, "scale": scale} for name, n in zip("yx", image.shape, strict=True)]
    signal = _signal(image, path.stem, original, axes)
    return signal.as_lazy() if lazy else signal


def _read_fpd(path: Path, lazy: bool, dataset: str | None) -> Any:
    import h5py
    import hyperspy.api as hs

    where = dataset or "fpd_expt/fpd_data/data"
    with h5py.File(path) as file:
        if where not in file:
            raise FileFormatError(
                f"{path.name} has no data set {where!r}", needed="an fpd file with patterns"
            )
        source = file[where]
        shape, dtype, chunks = source.shape, source.dtype, source.chunks
        # the third axis is the detector's colour mode: one for monochrome counting
        if len(shape) != 5 or shape[2] != 1:
            raise FileFormatError(
                f"{where} of {path.name} has the shape {shape}", needed="(y, x, 1, k_y, k_x)"
            )
        data = None if lazy else np.ascontiguousarray(source[:, :, 0])
    if data is None:
        # one small task per block of scan positions: the file is opened where the block is needed
        positions = hs.signals.Signal1D(np.zeros(shape[:2], bool)).as_lazy().data
        positions = positions.rechunk(chunks[:2] if chunks else (1, "auto"))
        data = positions.map_blocks(
            functools.partial(_fpd_block, path=str(path), where=where),
            dtype=dtype,
            new_axis=(2, 3),
            chunks=(*positions.chunks, (shape[3],), (shape[4],)),
            meta=np.empty((0, 0, 0, 0), dtype),
        )
    signal = hs.signals.Signal2D(data)
    signal = signal.as_lazy() if lazy else signal
    for axis, name in zip(signal.axes_manager._axes, ("y", "x", "k_y", "k_x"), strict=True):
        axis.name = name
    signal.metadata.General.title = path.stem
    signal.original_metadata.add_dictionary({"format": "fpd"})
    return signal


def _fpd_block(
    _block: NDArray[np.bool_], path: str, where: str, block_info: Mapping[Any, Any] | None = None
) -> NDArray[Any]:
    """Read the patterns of one block of scan positions."""
    import h5py

    if block_info is None:  # the lazy library asks for the type of an empty block
        return np.empty((0, 0, 0, 0))
    rows, columns = block_info[0]["array-location"]
    with h5py.File(path) as file:
        return np.asarray(file[where][rows[0] : rows[1], columns[0] : columns[1], 0])
