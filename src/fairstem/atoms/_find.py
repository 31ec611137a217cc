"""Finding the atom columns of an image: detect, measure, look at what is left, measure again."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fairstem.atoms._detect import THRESHOLD, Detection, detect_columns, detect_residual
from fairstem.atoms._fit import fit_columns
from fairstem.atoms._kernels import HEIGHT, LOG_WIDTH, X, Y
from fairstem.atoms._prepare import Prepared, prepare
from fairstem.atoms._sweeper import ColumnFit, Slope
from fairstem.atoms._table import column_table, fit_priors
from fairstem.errors import DataError
from fairstem.signals import Gain

__all__ = ["find"]

FloatArray = NDArray[np.float64]

SIGNIFICANT = 3.5  # height over its own error bar, below which a fitted column is dropped
SAME = 0.9  # two fits nearer than this many widths are one column
APART = 1.8  # a column is added no nearer to another than this many widths
MAX_ROUNDS = 3
AROUND = 8.0  # widths around a column in which something may have been left over
WEAKEST = 0.08  # of the height of its neighbours: below that a residual is a misfit, not a column


def find(
    image: Any,
    model: Literal["auto", "classical"] = "auto",
    *,
    gain: Gain = None,
    offset: float | None = None,
    readout: float | None = None,
    width: float | None = None,
    threshold: float = THRESHOLD,
    pixel_size_nm: float | tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Find every atom column of an image and measure it: position (px, nm), error bar (px, pm), height, width.

    Peaks of the scale-space Laplacian that stand `threshold` standard deviations out of the counting noise are
    fitted by `refine`'s likelihood; columns that the fit has left over (a weak one beside a strong one) are added and
    all are fitted again; what is not significant, or the same column twice, is dropped.

    Prior: a column is a peaked spot, of about one width all over the image; the noise of a pixel is known. What the
    data say to that is in ``attrs["priors"]``.

    Parameters
    ----------
    image : HyperSpy signal, numpy or dask array (y, x)
        One image, bright columns on dark. A plain array counts as electrons unless `gain` says otherwise; a signal
        whose metadata don't give the noise has it estimated (``attrs["noise"]`` says so).
    model
        ``"classical"``; ``"auto"`` takes the best there is for the image, which is ``"classical"`` now.
    gain, offset, readout
        Detector: raw units per electron, raw value without electrons, readout noise in raw units.
        ``gain="estimate"`` takes them from the image.
    width
        Column width (Gaussian sigma) in px: the parameter that matters. None chooses the width that explains most of
        the image; give it when the image holds structure of another size that is stronger than the columns.
    threshold
        Significance in standard deviations of the counting noise; 5 gives less than one false column per 4096² of
        white noise.
    pixel_size_nm
        Pixel size in nm, (y, x) or one number; None takes the signal's calibration. Without any, everything is in px.

    Returns
    -------
    DataFrame
        One row a column, as `refine` returns it, top to bottom. Empty, with all its names, when nothing is found.

    Raises
    ------
    DataTypeError, DataError
        Not one 2-D image, all NaN, constant, negative counts, an unknown model, a width that can't be.

    Notes
    -----
    Cost: about 2 µs per pixel for the detection and 1-2 ms per column for two fits.

    Examples
    --------
    >>> import fairstem as fs
    >>> p = fs.simulate.phantom("p2", peak=20, seed=1, shape=(128, 128))
    >>> table = fs.atoms.find(p.data, pixel_size_nm=p.pixel_size_nm)
    >>> fs.metrics.match_positions(table, p.truth).recall
    1.0
    """
    if model not in ("auto", "classical"):
        raise DataError(f"model={model!r}", needed="'auto' or 'classical'")
    if not np.isfinite(threshold) or threshold <= 0:
        raise DataError(
            f"threshold={threshold!r}", needed="a positive number of standard deviations, 5 as a rule"
        )
    ready = prepare(image, gain, offset, readout, pixel_size_nm)
    found = detect_columns(ready.counts, ready.measured, width=width, threshold=threshold)
    fit, rounds = _fit_all(ready, found, threshold)
    table = column_table(fit, ready.shape, ready.pixel_size_nm, unit=ready.unit)
    order = np.lexsort((table["x"], table["y"]))
    table = table.iloc[order].reset_index(drop=True)
    priors = ready.priors + fit_priors(table)
    table.attrs |= ready.attributes() | {
        "model": "classical",
        "scale": found.scale,
        "threshold": float(threshold),
        "rounds": rounds,
        "slope": fit.slope,
        "priors": [check.to_dict() for check in priors],
    }
    return table


def _fit_all(ready: Prepared, found: Detection, threshold: float) -> tuple[ColumnFit, int]:
    """Fit, drop, add what is left over, until nothing is added; at most three fits."""
    y, x = found.y, found.x
    width = np.full(y.size, max(found.scale, 0.5))
    limits = (max(0.3, found.scale / 3), max(1.0, found.scale * 3))
    slope: Slope | None = None
    for rounds in range(1, MAX_ROUNDS + 1):
        fit = fit_columns(
            ready.counts, y, x, width, mask=ready.mask, dark=ready.dark, slope=slope, width_range=limits
        )
        keep = _worth_keeping(fit, ready.shape)
        new_y, new_x = np.empty(0), np.empty(0)
        if rounds == 1 and keep.any():
            new_y, new_x = _left_over(ready, fit, keep, threshold)
        # columns outside the image or without significance hardly touch the others: only twins and additions do
        if not new_y.size and not _twins_dropped(fit, keep):
            break
        common = float(np.median(np.exp(fit.params[keep, LOG_WIDTH]))) if keep.any() else 1.0
        y = np.concatenate([fit.params[keep, Y], new_y])
        x = np.concatenate([fit.params[keep, X], new_x])
        width = np.concatenate([np.exp(fit.params[keep, LOG_WIDTH]), np.full(new_y.size, common)])
        slope = fit.slope
    return (fit if keep.all() else _subset(fit, keep)), rounds


def _twins_dropped(fit: ColumnFit, keep: NDArray[np.bool_]) -> bool:
    """Whether a dropped fit had shared its column with a kept one."""
    if keep.all() or not keep.any():
        return False
    width = np.exp(fit.params[:, LOG_WIDTH])
    distance = cKDTree(fit.params[keep][:, [Y, X]]).query(fit.params[~keep][:, [Y, X]])[0]
    return bool(np.any(fit.converged[~keep] & (distance < APART * width[~keep])))


def _subset(fit: ColumnFit, keep: NDArray[np.bool_]) -> ColumnFit:
    return ColumnFit(
        fit.params[keep], fit.background[keep], fit.covariance[keep], fit.chi2[keep],
        fit.converged[keep], fit.sweeps, fit.slope,
    )  # fmt: skip


def _worth_keeping(fit: ColumnFit, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Inside the image, significant, and of two fits of one column the better."""
    params = fit.params
    keep = fit.converged.copy()
    for axis, column in enumerate((Y, X)):
        keep &= (params[:, column] >= -0.5) & (params[:, column] <= shape[axis] - 0.5)
    if not len(params):
        return keep
    sd = np.sqrt(np.where(fit.converged, fit.covariance[:, HEIGHT, HEIGHT], np.inf))
    score = params[:, HEIGHT] / sd
    keep &= score >= SIGNIFICANT
    width = np.exp(params[:, LOG_WIDTH])
    position = params[:, [Y, X]]
    for a, b in cKDTree(position).query_pairs(SAME * float(width.max())):
        if (
            keep[a]
            and keep[b]
            and np.hypot(*(position[a] - position[b])) < SAME * 0.5 * (width[a] + width[b])
        ):
            keep[a if score[a] < score[b] else b] = False
    return keep


def _left_over(
    ready: Prepared, fit: ColumnFit, keep: NDArray[np.bool_], threshold: float
) -> tuple[FloatArray, FloatArray]:
    """Peaks of the residual that may be columns: away from the others, and not much weaker than these."""
    kept = _subset(fit, keep)
    width = float(np.median(np.exp(kept.params[:, LOG_WIDTH])))
    left = detect_residual(ready.counts, kept.model(ready.shape, AROUND), ready.mask, width, threshold)
    if not left.y.size:
        return left.y, left.x
    tree = cKDTree(kept.params[:, [Y, X]])
    here = np.column_stack([left.y, left.x])
    distance = tree.query(here)[0]
    near = tree.query(here, min(6, len(kept.params)))[1].reshape(left.y.size, -1)
    typical = np.median(kept.params[near, HEIGHT], axis=1)
    border = np.minimum(here, np.array(ready.shape) - 1 - here).min(axis=1)
    # at the border half a column outside the image looks like one
    add = (distance > APART * width) & (left.height > WEAKEST * typical) & (border > width)
    return left.y[add], left.x[add]
