"""The summary of a 4D scan, and of lazy data that are judged from a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fairstem.signals.axes import Axis
from fairstem.signals.conventions import optic_axis_inside
from fairstem.signals.counting import judge_counts
from fairstem.signals.door import is_dask
from fairstem.signals.findings import Finding
from fairstem.signals.scan_check import (
    SAMPLE_BYTES,
    PatternStatistics,
    check_patterns,
    pattern_statistics,
    sample,
)

__all__ = ["sample_values", "summarise_scan"]

_NO_ELECTRONS = {"eight-bit-patterns", "analogue-detector"}  # findings after which a sum is no dose


def summarise_scan(
    array: Any, axes: Sequence[Axis], codes: set[str], *, look: bool
) -> tuple[dict[str, Any], list[Finding]]:
    """Summarise a 4D scan or a time series of scans.

    Parameters
    ----------
    array
        (..., y, x, k_y, k_x), numpy or dask.
    axes
        Its axes.
    codes
        Codes of the findings that were made already.
    look
        Whether to look at the values: all of them in memory, a sample of lazy ones.

    Returns
    -------
    tuple
        A JSON-ready dictionary: ``scan_shape``, ``detector_shape``, ``patterns``, ``looked_at``, ``values_are``
        (``"counts"``, ``"multiples"``, ``"continuous"``), ``dose_per_pattern``, ``dose_lowest``,
        ``dose_highest``, ``dose_unit``, ``empty_patterns``, ``saturated_fraction``, ``hot_pixels``, ``k_step``,
        ``k_units``, ``optic_axis_px``; and the findings about the values.

    Notes
    -----
    Cost: one pass over data in memory; at most 128 patterns and 64 MiB of lazy data.
    """
    shape = [int(n) for n in array.shape]
    detector = axes[-2:]
    units = {axis.units for axis in detector}
    inside = optic_axis_inside(detector) and units <= {"mrad", "rad", "1/nm", "1/Å"}
    summary: dict[str, Any] = {
        "scan_shape": shape[-4:-2],
        "series": shape[:-4],
        "detector_shape": shape[-2:],
        "patterns": math.prod(shape[:-2]),
        "looked_at": 0,
        "k_step": [a.scale for a in detector] if units != {""} else None,
        "k_units": detector[-1].units,
        "optic_axis_px": [-a.offset / a.scale for a in detector] if inside else None,
    }
    if not look or np.dtype(array.dtype).kind not in "uif":
        return summary, []
    statistics = pattern_statistics(array, everything=not is_dask(array))
    return summary | _looked(statistics, codes), check_patterns(statistics)


def _looked(s: PatternStatistics, codes: set[str]) -> dict[str, Any]:
    kind = judge_counts(s.values).kind if s.values.size else "continuous"
    electrons = kind == "counts" and not codes & _NO_ELECTRONS and (s.values.size == 0 or s.values.min() >= 0)
    return {
        "looked_at": s.patterns,
        "values_are": kind,
        "dose_per_pattern": s.dose,
        "dose_lowest": float(s.doses.min()),
        "dose_highest": float(s.doses.max()),
        "dose_unit": "counts" if electrons else "detector units",
        "empty_patterns": s.empty,
        "saturated_fraction": s.saturated[0] if s.saturated else 0.0,
        "hot_pixels": s.hot.tolist(),
    }


def sample_values(array: Any, axes: Sequence[Axis]) -> tuple[np.ndarray[Any, Any], int, int]:
    """Read a sample of lazy data: spectra or images at positions spread over the data, or the middle of one image.

    Parameters
    ----------
    array
        Lazy data.
    axes
        Its axes.

    Returns
    -------
    tuple
        The values (positions, ...), how many positions, of how many.

    Notes
    -----
    Memory: about 64 MiB, and the stored chunks around the places.
    """
    inner = sum(not a.navigate for a in axes) or min(array.ndim, 2)
    outer = array.shape[: array.ndim - inner]
    if not outer and array.nbytes > SAMPLE_BYTES:
        share = (SAMPLE_BYTES / array.nbytes) ** (1 / inner)
        sizes = [max(1, int(n * share)) for n in array.shape]
        array = array[
            tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(array.shape, sizes, strict=True))
        ]
    blocks = list(sample(array, inner))
    values = np.concatenate(blocks)
    return values, len(values), math.prod(int(n) for n in outer)
