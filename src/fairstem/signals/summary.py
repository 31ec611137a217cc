"""A summary of data: what they are, how large, how calibrated, what was noticed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fairstem.signals.axes import axes_of_signal
from fairstem.signals.calibration import check_signal, guess_kind
from fairstem.signals.counting import judge_counts
from fairstem.signals.door import Opened, open_data
from fairstem.signals.findings import Finding
from fairstem.signals.provenance import jsonable, steps_of
from fairstem.signals.scan_summary import sample_values, summarise_scan

__all__ = ["describe"]


def describe(data: Any, *, sample: bool = False) -> dict[str, Any]:
    """Describe data in a JSON-ready dictionary, without reading lazy data unless a sample is asked for.

    Parameters
    ----------
    data
        HyperSpy signal, numpy array or dask array.
    sample
        Judge lazy data from a sample: at most 128 positions spread over them, and about 64 MiB.

    Returns
    -------
    dict
        ``title``, ``kind`` (guessed: image, image series, spectrum image, 4D scan, ...), ``shape``,
        ``dtype``, ``axes``, ``pixel_size_nm``, ``lazy``, ``chunks`` (of lazy data), ``bytes`` (when dense),
        ``values`` (min, max, mean; None for lazy data without a sample), ``sampled`` (how many positions were
        looked at, of how many; None when all or none were), ``counts`` (True, False, None for unknown),
        ``counts_per_position`` (mean per pixel of an image, per spectrum or per pattern of a scan, when the
        values are counts: the dose if the detector counts electrons), ``scan`` (of 4D scans, see
        `fairstem.signals.scan_summary.summarise_scan`), ``beam_energy_kev``, ``findings`` and ``steps`` (what
        fairstem did to the data).

    Raises
    ------
    DataTypeError
        `data` is no array.

    Notes
    -----
    Cost: a few passes over data in memory; nothing but the header, or the sample, of lazy data.

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
    look = dtype.kind in "iuf" and (sample or not opened.lazy)
    header = _from_metadata(data) if opened.kind == "hyperspy" else {}
    known = {f["code"] for f in header.get("findings") or []}
    scan, found = None, list[Finding]()
    if kind.startswith("4D scan"):
        scan, found = summarise_scan(array, opened.axes, known, look=look)
    facts = _facts(opened, look)
    if known & {"eight-bit-picture", "eight-bit-patterns", "analogue-detector"}:
        facts["counts"] = False  # whole numbers, but of a stretched grey scale
    summary = {
        "kind": kind,
        "shape": [int(n) for n in array.shape],
        "dtype": str(dtype),
        "axes": [a.to_dict() for a in opened.axes],
        "pixel_size_nm": None if opened.pixel_size_nm is None else list(opened.pixel_size_nm),
        "lazy": opened.lazy,
        "chunks": _chunks(array) if opened.lazy else None,
        "bytes": math.prod(int(n) for n in array.shape) * dtype.itemsize,
        **facts,
        "counts_per_position": _dose(opened, facts["values"])
        if facts["counts"] and facts["values"]
        else None,
        "scan": scan,
    }
    if look:
        found += [_sampled(facts["sampled"])] if facts["sampled"] else []
        header["findings"] = _merged(header.get("findings") or [], found)
    return jsonable({**header, **summary})  # type: ignore[no-any-return]


def _facts(opened: Opened, look: bool) -> dict[str, Any]:
    """Return the values of data in memory, or of a sample of lazy data."""
    if not look:
        return {"values": None, "sampled": None, "counts": None}
    array, sampled = opened.array, None
    if opened.lazy:
        array, positions, of = sample_values(array, opened.axes)
        sampled = [positions, of]
    array = np.asarray(array)
    return {
        "values": _values(array),
        "sampled": sampled,
        "counts": judge_counts(array).kind == "counts",
    }


def _sampled(positions: list[int]) -> Finding:
    number, of = positions
    part = f"{number} of {of} positions, spread over the data" if of > 1 else "the middle of the image"
    message = f"the data are large or lazy: their values were judged from {part}"
    return Finding("values-sampled", "info", message, given=f"{number} of {of}")


def _merged(before: list[dict[str, str]], found: list[Finding]) -> list[dict[str, str]]:
    """Add findings about the values that were looked at; those that were made before are not repeated."""
    kept = [f for f in before if f["code"] != "values-not-checked"]
    codes = {f["code"] for f in kept}
    for finding in found:
        if finding.code not in codes:
            kept.append(finding.to_dict())
            codes.add(finding.code)
    return kept


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
