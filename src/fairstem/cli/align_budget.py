"""The error budget of a position in a registered average."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError

__all__ = ["COUNTING", "FLOOR", "REGISTRATION", "budget_of"]

Floats = NDArray[np.float64]
FLOOR, REGISTRATION, COUNTING = "common-mode floor", "registration error of a row", "counting noise"
_LARGEST = 512  # px a side of the part that is searched for columns
_ENOUGH = 6


def budget_of(
    alignment: Any, average: Floats, row_error: Floats | None
) -> tuple[dict[str, float], float | None]:
    """Return what limits a position in the average.

    Prior: where the average shows atom columns, what counts is the position of a column, which averages
    over the rows that it covers; otherwise that of one row.

    Parameters
    ----------
    alignment
        A `fairstem.register.Alignment`.
    average
        ``(y, x)`` its average.
    row_error
        ``(frame, 2, y)`` px, or None.

    Returns
    -------
    tuple
        Sizes by name, rms per axis in pm (px without calibration), and the width of the columns in px
        (None: sizes are for one row). What could not be measured is left out.
    """
    floor = alignment.floor
    pixel = np.ones(2) if floor.pixel_size_nm is None else 1000 * np.asarray(floor.pixel_size_nm)
    width, counting = _columns(alignment, average)
    if width is None:
        budget = {FLOOR: float(floor.px if floor.pm is None else floor.pm)}
    else:
        budget = {FLOOR: _rms(np.asarray(floor.position_sd(width)) * pixel)}
    if row_error is not None:
        typical = np.median(row_error[list(alignment.used)], axis=(0, 2)) * pixel
        if np.isfinite(typical).all():
            budget[REGISTRATION] = _rms(typical) / float(np.sqrt(len(alignment.used)))
    if counting is not None:
        budget[COUNTING] = _rms(counting * pixel)
    return budget, width


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _columns(alignment: Any, average: Floats) -> tuple[float | None, Floats | None]:
    """Return width (px) and error bar (sd_y, sd_x in px) of the columns in the middle of the average."""
    from fairstem import atoms

    start = [max((n - _LARGEST) // 2, 0) for n in average.shape]
    part = tuple(slice(s, s + _LARGEST) for s in start)
    noise = _noise(average[part], np.asarray(alignment.variance)[part], np.asarray(alignment.samples)[part])
    if noise is None:
        return None, None
    try:
        table = atoms.find(average[part], gain=noise[0], offset=0.0, readout=noise[1])
    except DataError:
        return None, None
    inner = table[~table["edge"].to_numpy(dtype=bool)] if len(table) else table
    if len(inner) < _ENOUGH:
        return None, None
    return float(inner["width"].median()), inner[["sd_y", "sd_x"]].median().to_numpy(dtype=np.float64)


def _noise(average: Floats, variance: Floats, samples: Floats) -> tuple[float, float] | None:
    """Return gain and readout that explain the variance of the average; None where it does not grow with it.

    The average of K counting frames has the K-th part of their gain.
    """
    good = (samples > 1) & np.isfinite(variance) & (variance > 0) & (average > 0)
    if good.sum() < 500:
        return None
    value, scatter = average[good], variance[good]
    edges = np.quantile(value, np.linspace(0, 1, 25))
    bins = np.digitize(value, edges[1:-1])
    count = np.bincount(bins, minlength=24)
    mean, square = (np.bincount(bins, v, minlength=24)[count > 0] for v in (value, scatter))
    count = count[count > 0]
    slope, constant = np.polyfit(mean / count, square / count, 1, w=np.sqrt(count))
    if not slope > 0:
        return None
    return float(slope), float(np.sqrt(max(constant, 0.0)))
