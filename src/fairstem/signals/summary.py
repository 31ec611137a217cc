"""A summary of data: what they are, how large, how calibrated, what was noticed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fairstem.signals.axes import axes_of_signal
from fairstem.signals.calibration import check_signal, guess_kind
from fairstem.signals.counting import judge_counts
from fairstem.signals.door import Opened, open_data
from fairstem.signals.provenance import jsonable, steps_of

__all__ = ["describe"]


def describe(data: Any) -> dict[str, Any]:
    """Describe data in a JSON-ready dictionary, without reading lazy data.

    Parameters
    ----------
    data
        HyperSpy signal, numpy array or dask array.

    Returns
    -------
    dict
        ``title``, ``kind`` (guessed: image, image series, spectrum image, 4D scan, ...), ``shape``,
        ``dtype``, ``axes``, ``pixel_size_nm``, ``lazy``, ``chunks`` (of lazy data), ``bytes`` (when dense),
        ``values`` (min, max, mean; None for lazy data), ``counts`` (True, False, None for unknown),
        ``counts_per_position`` (mean per pixel of an image, per spectrum or per pattern of a scan, when the
        values are counts: the dose if the detector counts electrons), ``beam_energy_kev``, ``findings`` and
        ``steps`` (what fairstem did to the data).

    Raises
    ------
    DataTypeError
        `data` is no array.

    Notes
    -----
    Cost: a few passes over data in memory; nothing but the header for lazy data.

    Examples
    --------
    >>> import numpy as np
    >>> summary = describe(np.random.default_rng(0).poisson(5.0, (64, 64)))
    >>> summary["kind"], summary["counts"], summary["pixel_size_nm"]
    ('image', True, None)
    """
    opened = open_data(data, name="data")
    array, dtype = opened.array, np.dtype(opened.array.dtype)
    kind = guess_kind(opened.axes) if opened.kind == "hyperspy" else _kind_of_shape(array.ndim)
    in_memory = not opened.lazy and dtype.kind in "iuf"
    header = _from_metadata(data) if opened.kind == "hyperspy" else {}
    counts = (judge_counts(np.asarray(array)).kind == "counts") if in_memory else None
    if any(f["code"] == "eight-bit-picture" for f in header.get("findings") or []):
        counts = False  # whole numbers, but of a stretched grey scale
    values = _values(np.asarray(array)) if in_memory else None
    summary = {
        "kind": kind,
        "shape": [int(n) for n in array.shape],
        "dtype": str(dtype),
        "axes": [a.to_dict() for a in opened.axes],
        "pixel_size_nm": None if opened.pixel_size_nm is None else list(opened.pixel_size_nm),
        "lazy": opened.lazy,
        "chunks": _chunks(array) if opened.lazy else None,
        "bytes": math.prod(int(n) for n in array.shape) * dtype.itemsize,
        "values": values,
        "counts": counts,
        "counts_per_position": _dose(opened, values) if counts and values else None,
    }
    return jsonable({**header, **summary})  # type: ignore[no-any-return]


def _kind_of_shape(ndim: int) -> str:
    return {1: "spectrum", 2: "image"}.get(ndim, "array")


def _values(array: np.ndarray[Any, Any]) -> dict[str, float] | None:
    finite = array
    if array.dtype.kind == "f":
        good = np.isfinite(array)
        finite = array if good.all() else array[good]
    if finite.size == 0:
        return None
    return {
        "min": float(finite.min()),
        "max": float(finite.max()),
        "mean": float(finite.mean(dtype=np.float64)),
    }


def _chunks(array: Any) -> dict[str, Any]:
    """Return the layout of a dask array: the largest chunk, how many, and its bytes."""
    largest = [max(c) for c in array.chunks]
    return {
        "largest": largest,
        "number": math.prod(len(c) for c in array.chunks),
        "largest_bytes": math.prod(largest) * np.dtype(array.dtype).itemsize,
    }


def _dose(opened: Opened, values: dict[str, float]) -> float:
    """Return the mean counts per position: per pixel, per spectrum or per pattern."""
    scanned = any(a.navigate for a in opened.axes) and guess_kind(opened.axes) != "image series"
    inner = math.prod(a.size for a in opened.axes if not a.navigate) if scanned else 1
    return values["mean"] * inner


def _from_metadata(signal: Any) -> dict[str, Any]:
    metadata = signal.metadata
    energy = None
    for instrument in ("TEM", "SEM"):
        node = f"Acquisition_instrument.{instrument}.beam_energy"
        energy = metadata.get_item(node, default=None) if energy is None else energy
    if metadata.has_item("fairstem.reading"):
        reading = metadata.get_item("fairstem.reading").as_dictionary()
    else:
        reading = {"findings": [f.to_dict() for f in check_signal(signal)]}
    return {
        "title": str(metadata.get_item("General.title", default="")),
        "file": reading.get("file"),
        "reader": reading.get("reader"),
        "signal_class": type(signal).__name__,
        "signal_type": str(metadata.get_item("Signal.signal_type", default="")),
        "navigation_axes": [a.name for a in axes_of_signal(signal) if a.navigate],
        "beam_energy_kev": None if energy is None else float(energy),
        "findings": reading["findings"],
        "steps": steps_of(signal),
    }
