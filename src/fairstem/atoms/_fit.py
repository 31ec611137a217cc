"""Array-level refinement: groups of overlapping columns, sweeps to convergence, error bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairstem.atoms import _sweeps
from fairstem.atoms._kernels import E1, E2, HEIGHT, LOG_WIDTH, N_PARAMETERS, X, Y
from fairstem.atoms._sweeper import ColumnFit, Slope, Sweeper, lowest_background
from fairstem.atoms._sweeps import Scene

__all__ = ["fit_columns"]

FloatArray = NDArray[np.float64]

FEW = 0.85  # share of converged columns below which free slopes are tried


def fit_columns(
    counts: FloatArray,
    y: FloatArray,
    x: FloatArray,
    width: FloatArray,
    *,
    mask: NDArray[np.bool_] | None = None,
    dark: float = 0.0,
    elliptic: bool = False,
    fixed_width: bool = False,
    slope: Slope | None = None,
    width_range: tuple[float, float] = (0.5, 60.0),
) -> ColumnFit:
    """Fit Gaussian columns with local backgrounds by Poisson maximum likelihood.

    Columns nearer than 3.2 widths are fitted jointly; farther neighbours enter as known mean, updated in sweeps
    until nothing moves (block coordinate ascent of the joint likelihood). Error bars: the inverse Fisher matrix
    with overlapping neighbours free.

    Parameters
    ----------
    counts : ndarray (y, x)
        Counts whose variance equals their mean (`NoiseModel.kernel_counts`).
    y, x, width : ndarray (n,)
        Start values in px.
    mask : ndarray of bool (y, x), optional
        True where a pixel may be used.
    dark
        Counts per pixel that aren't signal.
    elliptic, fixed_width
        Free the ellipticity; hold the width.
    slope
        Slope of each local background: ``"none"``, ``"common"`` (from the backgrounds of the columns around),
        ``"free"``, or None: common, and free where too few columns converge with that.
    width_range
        Limits of the width in px.

    Returns
    -------
    ColumnFit
        `params` (n, 6): height, y, x, log width, e1, e2; `covariance` (n, 6, 6); a column that did not converge
        has its start values back and a NaN covariance.
    """
    n = len(y)
    mask = np.ones(counts.shape, np.bool_) if mask is None else np.ascontiguousarray(mask, np.bool_)
    counts = np.where(mask, counts, 0.0)
    params = np.zeros((n, N_PARAMETERS))
    params[:, Y], params[:, X] = y, x
    params[:, LOG_WIDTH] = np.log(np.clip(width, *width_range))
    background = np.zeros((n, 3))
    if n == 0:
        empty = np.zeros((0, N_PARAMETERS, N_PARAMETERS))
        return ColumnFit(params, background, empty, np.zeros(0), np.zeros(0, bool), 0, "none")
    _sweeps.start_values(counts, mask, params, background, dark)
    free = np.array(
        [HEIGHT, Y, X] + ([] if fixed_width else [LOG_WIDTH]) + ([E1, E2] if elliptic else []), np.int64
    )
    scene = Scene(counts, mask, dark, lowest_background(counts, mask, dark))

    def attempt(choice: Slope) -> Sweeper:
        job = Sweeper(scene, params.copy(), background.copy(), np.log(np.asarray(width_range, float)))
        job.run(choice, free)
        return job

    best = attempt(slope or "common")
    if slope is None and best.converged.mean() < FEW:
        # single atoms on a rough support have no neighbours to agree with
        other = attempt("free")
        best = other if other.converged.mean() > best.converged.mean() + 0.02 else best
    return best.finish(params)
