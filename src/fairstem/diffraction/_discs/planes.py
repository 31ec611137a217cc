"""A plane through centres measured over the scan, whatever a few of them say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Plane", "fit_plane"]

_SEEN = 9.21  # chi-square of the two components of a slope that 1 % of scans without descan exceed
_TUKEY = 4.685  # 95 % efficient for Gaussian errors
_ROUNDS = 30
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """Centre = `center` + `descan` · (position − `middle`).

    Parameters
    ----------
    center, center_sd
        Value (y, x) in the middle of the scan in px, and its standard error.
    descan, descan_sd
        ``[[dy/d_scan_y, dy/d_scan_x], [dx/d_scan_y, dx/d_scan_x]]`` in px per scan position.
    middle
        The middle of the scan.
    scatter
        Robust scale of the residuals in units of their standard errors: 1 when the plane explains the centres.
    outliers
        Fraction of the centres that were rejected.
    """

    center: Array
    center_sd: Array
    descan: Array
    descan_sd: Array
    middle: Array
    scatter: float
    outliers: float

    @property
    def significant_descan(self) -> Array:
        """`descan` with 0 where the centre doesn't move along an axis of the scan by more than chance would have it."""
        known = np.where(self.descan_sd > 0, self.descan_sd, np.inf)
        size = ((self.descan / known) ** 2).sum(axis=0)
        out: Array = np.where(size > _SEEN, self.descan, 0.0)
        return out

    def __call__(self, at: Array) -> Array:
        """Return the centres ``(2, ...)`` at scan positions ``(2, ...)``."""
        moved = at - self.middle.reshape(2, *(1,) * (at.ndim - 1))
        out: Array = self.center.reshape(2, *(1,) * (at.ndim - 1)) + np.tensordot(self.descan, moved, axes=1)
        return out


def fit_plane(values: Array, sd: Array, at: Array, middle: Array) -> Plane:
    """Fit a plane to centres by iterated weights (Tukey's biweight on the joint residual of y and x).

    Parameters
    ----------
    values, sd
        ``(2, n)`` centres (y, x) and their standard errors in px; NaN are left out.
    at
        ``(2, n)`` scan positions.
    middle
        Scan position where `Plane.center` holds.

    Notes
    -----
    A slope along an axis needs three different positions there and six centres; without, it is 0.
    """
    good = np.all(np.isfinite(values) & np.isfinite(sd), axis=0)
    values, sd, at = values[:, good], sd[:, good], at[:, good]
    columns = [np.ones(values.shape[1])]
    sloped = [i for i in range(2) if len(np.unique(at[i])) >= 3 and values.shape[1] >= 6]
    columns += [at[i] - middle[i] for i in sloped]
    design = np.stack(columns, axis=1)
    weights = np.ones(values.shape[1])
    fits, residual, scale = _weighted(design, values, sd, weights)
    for turn in range(_ROUNDS):
        size = np.hypot(residual[0], residual[1]) / np.sqrt(2.0)
        if turn < _ROUNDS // 3:
            weights = 1 / np.maximum(size, 0.1)  # least absolute residuals: far outliers can't hold the plane
        else:
            weights = np.maximum(1 - (size / (_TUKEY * max(scale, 1.0))) ** 2, 0.0) ** 2
        fits, residual, scale = _weighted(design, values, sd, weights)
    center_sd, descan, descan_sd = np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2))
    for axis in range(2):
        normal = (design / sd[axis][:, None] ** 2 * weights[:, None]).T @ design
        errors = max(scale, 1.0) * np.sqrt(np.diag(np.linalg.pinv(normal, hermitian=True)))
        center_sd[axis] = errors[0]
        descan[axis, sloped] = fits[axis, 1:]
        descan_sd[axis, sloped] = errors[1:]
    return Plane(fits[:, 0], center_sd, descan, descan_sd, middle, scale, float(np.mean(weights <= 0)))


def _weighted(design: Array, values: Array, sd: Array, weights: Array) -> tuple[Array, Array, float]:
    """Least squares with weights: coefficients (2, n_coefficients), residuals in sd (2, n), their robust scale."""
    fits = np.empty((2, design.shape[1]))
    for axis in range(2):
        root = np.sqrt(weights) / sd[axis]
        fits[axis] = np.linalg.lstsq(design * root[:, None], values[axis] * root, rcond=None)[0]
    residual = (values - fits @ design.T) / sd
    spare = max(1 - design.shape[1] / values.shape[1], 1 / values.shape[1])
    scale = float(np.median(np.abs(residual)) / 0.6745 / np.sqrt(spare))
    return fits, residual, scale
