"""Robust affine fit of a lattice to its indexed columns, with standard errors.

position = origin + i·a + j·b + offset(site): linear in all unknowns. Each column is weighted by its
own covariance plus an isotropic intrinsic scatter that the fit estimates; outliers are held off by
Huber weights on the length of the residual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AffineFit", "design_matrix", "fit_lattice", "propagate"]

Float = NDArray[np.float64]

#: residuals beyond this many standard deviations lose weight; 4 % of Gaussian ones do
HUBER = 2.5


@dataclass(frozen=True)
class AffineFit:
    """The fitted lattice.

    Parameters
    ----------
    value
        (3 + s - 1, 2): origin, a, b, offsets of the sites after the first; each (y, x), px.
    covariance
        Covariance of ``value.ravel()``, px².
    residual
        (n, 2) position minus ideal position of the columns given to the fit, px.
    intrinsic
        Scatter beyond the position errors, per axis, px.
    correlation
        Correlation of the residuals of neighbouring columns; near 0 when the crystal is one lattice.
    """

    value: Float
    covariance: Float
    residual: Float
    intrinsic: float
    correlation: float


def fit_lattice(
    position: Float,
    index: NDArray[np.int_],
    site: NDArray[np.int_],
    n_sites: int,
    covariance: Float | None = None,
) -> AffineFit:
    """Fit origin, a, b and the site offsets to indexed columns.

    Parameters
    ----------
    position
        (n, 2) positions (y, x), px.
    index
        (n, 2) cell indices.
    site
        (n,) site numbers; site 0 carries the origin.
    n_sites
        Number of sites.
    covariance
        (n, 2, 2) covariance of the positions, px², or None.

    Notes
    -----
    Standard errors: sandwich estimate with leverage correction. Where neighbouring residuals are
    correlated (scan distortion, strain) that would be far too small; then blocks of the image are
    left out one after the other (jackknife).
    Cost: O(n (s + 2)²) for n columns and s sites.
    """
    design = design_matrix(index, site, n_sites)
    error = np.zeros((len(position), 2, 2)) if covariance is None else covariance
    origin = position.mean(axis=0)
    target = position - origin
    beta = np.linalg.lstsq(design, target, rcond=None)[0]
    intrinsic = 0.0
    precision: Float = np.broadcast_to(np.eye(2), error.shape)
    for _ in range(12):
        residual = target - design @ beta
        intrinsic = _intrinsic(residual, error, design.shape)
        precision = np.asarray(np.linalg.inv(error + max(intrinsic**2, 1e-14) * np.eye(2)), dtype=float)
        length = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", residual, precision, residual), 0))
        weight = np.minimum(1.0, HUBER / np.maximum(length, 1e-12))
        precision = precision * weight[:, None, None]
        normal, right = _normal_equations(design, target, precision)
        new = np.linalg.solve(normal, right).reshape(beta.shape)
        change = float(np.abs(new - beta).max())
        beta = new
        if change < 1e-7:  # px
            break
    residual = target - design @ beta
    # a perfect lattice leaves rounding errors only, whose correlation means nothing
    correlation = _neighbour_correlation(position, residual)
    block_errors = abs(correlation) > 0.2 and len(position) >= 60
    bread = np.asarray(np.linalg.inv(normal), dtype=float)
    if block_errors:
        spread = _jackknife(design, target, precision, position, beta)
    else:
        spread = _sandwich(design, residual, precision, bread)
    beta[0] += origin
    return AffineFit(beta, spread, residual, intrinsic, correlation)


def design_matrix(index: NDArray[np.int_], site: NDArray[np.int_], n_sites: int) -> Float:
    """Return (n, 2 + n_sites): factors of origin, a, b and of the offsets of the sites after the first."""
    design = np.zeros((len(index), 3 + n_sites - 1))
    design[:, 0] = 1
    design[:, 1:3] = index
    for number in range(1, n_sites):
        design[:, 2 + number] = site == number
    return design


def _intrinsic(residual: Float, error: Float, shape: tuple[int, int]) -> float:
    """Scatter per axis beyond the error bars, from the median squared residual (robust)."""
    freedom = max(1 - shape[1] / shape[0], 0.1)
    # the median of a squared two-dimensional Gaussian residual is 2 ln 2 times the variance per axis
    total = float(np.median((residual**2).sum(axis=1))) / (2 * np.log(2)) / freedom
    known = float(np.median(np.trace(error, axis1=1, axis2=2))) / 2
    return float(np.sqrt(max(total - known, 0.0)))


def _normal_equations(design: Float, target: Float, precision: Float) -> tuple[Float, Float]:
    """Return the normal matrix and right side for ``beta.ravel()`` (parameter first, then axis)."""
    p = design.shape[1]
    weighted = precision[:, None, :, :] * design[:, :, None, None]
    # contract over the columns with one matrix product: this runs a dozen times
    flat = weighted.reshape(len(design), -1)
    normal = (design.T @ flat).reshape(p, p, 2, 2).transpose(0, 2, 1, 3).reshape(2 * p, 2 * p)
    right = (design.T @ (precision @ target[..., None])[..., 0]).ravel()
    return normal, right


def _sandwich(design: Float, residual: Float, precision: Float, bread: Float) -> Float:
    scores = (design[:, :, None] * np.einsum("nij,nj->ni", precision, residual)[:, None, :]).reshape(
        len(design), -1
    )
    blocks = bread.reshape(design.shape[1], 2, design.shape[1], 2)
    reduced = np.einsum("piqj,nq->npij", blocks, design)
    cover = np.einsum("np,npij->nij", design, reduced)
    leverage = np.einsum("nij,nji->n", cover, precision) / 2
    scores /= np.maximum(1 - leverage, 0.1)[:, None]
    return np.asarray(bread @ (scores.T @ scores) @ bread)


def _jackknife(design: Float, target: Float, precision: Float, position: Float, beta: Float) -> Float:
    low, high = position.min(axis=0), position.max(axis=0)
    cells = np.minimum(((position - low) / np.maximum(high - low, 1e-9) * 4).astype(int), 3)
    block = cells[:, 0] * 4 + cells[:, 1]
    normal, right = _normal_equations(design, target, precision)
    left_out = []
    for number in np.unique(block):
        rows = block == number
        part, part_right = _normal_equations(design[rows], target[rows], precision[rows])
        rest = normal - part
        if np.linalg.cond(rest) < 1e12:
            left_out.append(np.linalg.solve(rest, right - part_right) - beta.ravel())
    deviation = np.array(left_out)
    count = len(deviation)
    deviation -= deviation.mean(axis=0)
    return np.asarray((count - 1) / count * (deviation.T @ deviation))


def _neighbour_correlation(position: Float, residual: Float) -> float:
    from scipy.spatial import cKDTree

    if float(np.abs(residual).max()) < 1e-9 * float(np.ptp(position)):
        return 0.0
    k = min(5, len(position))
    nearest = cKDTree(position).query(position, k)[1][:, 1:]
    scale = 3 * 1.4826 * float(np.median(np.abs(residual))) + 1e-300
    clipped = np.clip(residual, -scale, scale)
    power = float(np.mean(clipped**2))
    return float(np.mean(clipped[:, None] * clipped[nearest]) / power) if power > 0 else 0.0


def propagate(function: Callable[[Float], Float], value: Float, covariance: Float) -> Float:
    """Return the covariance of ``function(value)``, by central differences.

    Examples
    --------
    >>> import numpy as np
    >>> propagate(lambda v: np.array([2 * v[0]]), np.array([1.0]), np.array([[0.01]])).round(6).tolist()
    [[0.04]]
    """
    step = np.maximum(1e-6 * np.abs(value), 1e-7)
    slope = np.empty((len(np.atleast_1d(function(value))), len(value)))
    for number, size in enumerate(step):
        shift = np.zeros(len(value))
        shift[number] = size
        slope[:, number] = (function(value + shift) - function(value - shift)) / (2 * size)
    return np.asarray(slope @ covariance @ slope.T)
