"""A registration in a file, and back: to apply it again, elsewhere, without the series."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem._version import __version__
from fairstem.compute import staged_output
from fairstem.errors import DataError, FileFormatError
from fairstem.priors import PriorCheck
from fairstem.register._alignment import Alignment
from fairstem.register._judge.floor import Floor
from fairstem.register._series.motion import DenseMotion, Motion, RowMotion
from fairstem.signals import Axis, make_signal, open_data
from fairstem.signals.provenance import jsonable

__all__ = ["load", "save"]

_FORMAT, _VERSION = "fairstem.alignment", 1
_IMAGES = ("samples", "variance", "chi2")
_IN_MEMORY = 256 * 2**20  # bytes of dense displacements that are read at once; larger ones frame by frame


def save(alignment: Alignment, path: str | Path, overwrite: bool = False) -> Path:
    """Write a registration to an HDF5 file: everything but the series.

    Parameters
    ----------
    alignment
        Result of `align`.
    path
        File to write. It is whole or absent.
    overwrite
        Allow replacing an existing file.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OutputError
        The place is taken or can't be written.
    DataError
        The motion is of a kind that has no form in a file.

    Notes
    -----
    Row-wise motion takes ``frames * 2 * rows`` numbers, dense motion ``frames * 2 * pixels``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fairstem as fs
    >>> alignment = fs.register.align(fs.simulate.phantom("p1", seed=1, frames=3, shape=(64, 64)).data)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     file = fs.register.save(alignment, pathlib.Path(place) / "motion.h5")
    ...     again = fs.register.load(file)
    >>> bool((again.displacement == alignment.displacement).all())
    True
    """
    import h5py

    target = Path(path).expanduser().absolute()
    with staged_output(target, overwrite=overwrite) as staged, h5py.File(staged, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = _FORMAT, _VERSION
        file.attrs["fairstem_version"] = __version__
        _save_motion(file.create_group("motion"), alignment.motion)
        _save_average(file, alignment.average)
        for name in _IMAGES:
            file.create_dataset(name, data=getattr(alignment, name), compression="gzip", shuffle=True)
        if alignment.row_error is not None:
            file.create_dataset("row_error", data=alignment.row_error)
        rest = {
            "floor": {f.name: getattr(alignment.floor, f.name) for f in fields(alignment.floor)},
            "used": [int(k) for k in alignment.used],
            "priors": [{f.name: getattr(p, f.name) for f in fields(p)} for p in alignment.priors],
            "parameters": alignment.parameters,
        }
        arrays = file.create_group("arrays")
        file.create_dataset("rest", data=json.dumps(_pack(rest, arrays)))
    return target


def load(path: str | Path) -> Alignment:
    """Read a registration that `save` has written.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Alignment
        Without the series: ``.frames`` is None and ``.aligned`` raises; ``apply(alignment, series,
        method="interpolate", combine=False)`` takes its place. ``.average`` is in memory, a HyperSpy signal or
        a numpy array; ``.lattice_pass`` is None, its facts are in ``.parameters``.
        Dense displacements of more than 256 MB are read when they are needed; the file must then stay.

    Raises
    ------
    FileFormatError
        The file does not exist, is damaged, or is none of `save`.

    Notes
    -----
    Cost: one pass over the file. For an example see `save`.
    """
    import h5py

    source = Path(path).expanduser().absolute()
    if not source.is_file():
        raise FileFormatError(f"{source} does not exist", needed="a file written by register.save")
    try:
        with h5py.File(source, "r") as file:
            _check_format(file, source)
            return _read(file, source)
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise FileFormatError(
            f"{source.name} can't be read as a registration: {error}",
            needed="a file written by register.save",
            todo="if it is one, it is damaged: take another copy, or register the series again",
        ) from error


def _check_format(file: Any, source: Path) -> None:
    kind, version = file.attrs.get("format"), file.attrs.get("format_version", 0)
    if kind != _FORMAT:
        raise FileFormatError(
            f"{source.name} is an HDF5 file, but no registration",
            needed="a file written by register.save",
            todo="images and scans are read by fairstem.load",
        )
    if version > _VERSION:
        raise FileFormatError(
            f"{source.name} has format version {version}, from fairstem {file.attrs.get('fairstem_version')}",
            needed=f"format version {_VERSION} or earlier",
            todo="update fairstem",
        )


def _read(file: Any, source: Path) -> Alignment:
    rest = _unpack(json.loads(file["rest"][()]), file["arrays"])
    return Alignment(
        average=_load_average(file),
        motion=_load_motion(file["motion"], source),
        **{name: file[name][:] for name in _IMAGES},
        floor=Floor(**rest["floor"]),
        row_error=file["row_error"][:] if "row_error" in file else None,
        used=tuple(rest["used"]),
        priors=tuple(PriorCheck(**p) for p in rest["priors"]),
        parameters=rest["parameters"],
    )


def _save_motion(group: Any, motion: Motion) -> None:
    group.attrs["shape"] = motion.shape
    if isinstance(motion, RowMotion):
        group.attrs["kind"] = "rows"
        group.create_dataset("rows", data=motion.rows)
        group.create_dataset("angles_deg", data=motion.angles_deg)
        if motion.slow is not None:
            group.create_dataset("slow", data=motion.slow)
    elif isinstance(motion, DenseMotion):
        group.attrs["kind"] = "dense"
        shape = (motion.n, 2, *motion.shape)
        stored = group.create_dataset("fields", shape, motion.fields.dtype, chunks=(1, 1, *motion.shape))
        for k in range(motion.n):
            stored[k] = motion.fields[k]
    else:
        raise DataError(f"a motion of type {type(motion).__name__}", needed="row-wise or dense motion")


def _load_motion(group: Any, source: Path) -> Motion:
    kind = group.attrs["kind"]
    if kind == "rows":
        shape = (int(group.attrs["shape"][0]), int(group.attrs["shape"][1]))
        slow = group["slow"][:] if "slow" in group else None
        return RowMotion(group["rows"][:], shape, group["angles_deg"][:], slow)
    if kind != "dense":
        raise FileFormatError(f"{source.name} holds a motion of kind {kind!r}", needed="'rows' or 'dense'")
    stored = group["fields"]
    if stored.nbytes <= _IN_MEMORY:
        return DenseMotion(stored[:])
    lazy: Any = _StoredFields(source, stored.name, stored.shape, stored.dtype)
    return DenseMotion(lazy)


@dataclass(frozen=True)
class _StoredFields:
    """Displacements ``(frame, 2, y, x)`` that stay in their file until they are asked for."""

    source: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        import h5py

        with h5py.File(self.source, "r") as file:
            return np.asarray(file[self.name][key])


def _save_average(file: Any, average: Any) -> None:
    opened = open_data(average, name="average", ndim=2)
    array = opened.array.compute() if opened.lazy else opened.array
    stored = file.create_dataset("average", data=np.asarray(array), compression="gzip", shuffle=True)
    stored.attrs["kind"] = opened.kind
    if opened.kind == "hyperspy":
        stored.attrs["axes"] = json.dumps([jsonable(axis.to_dict()) for axis in opened.axes])
        stored.attrs["metadata"] = json.dumps(jsonable(average.metadata.as_dictionary()))


def _load_average(file: Any) -> Any:
    stored = file["average"]
    if stored.attrs["kind"] != "hyperspy":
        return stored[:]
    plain = open_data(make_signal(stored[:]))
    axes = [Axis(**entry) for entry in json.loads(stored.attrs["axes"])]
    signal = plain.rewrap(plain.array, axes=axes)
    signal.metadata.add_dictionary(json.loads(stored.attrs["metadata"]))
    return signal


def _pack(value: Any, arrays: Any) -> Any:
    """Turn nested parameters into JSON without loss; arrays go into the group `arrays`."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        name = str(len(arrays))
        arrays.create_dataset(name, data=value)
        return {"array": name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {"dict": {str(k): _pack(v, arrays) for k, v in value.items()}}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [_pack(v, arrays) for v in value]}
    return str(value)


def _unpack(value: Any, arrays: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content][()]
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {k: _unpack(v, arrays) for k, v in content.items()}
    items = [_unpack(v, arrays) for v in content]
    return items if kind == "list" else tuple(items)
