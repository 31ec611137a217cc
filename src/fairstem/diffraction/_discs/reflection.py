"""The centre about which a pattern is its own point reflection: for rings, spots and discs alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = ["Reflection", "reflect"]

_SMOOTH = 1.2  # px
_OVERLAP = 0.6  # least part of the pattern's power that a reflection has to land on
_SAMPLING = 0.012  # px: error by the grid and by what the detector cuts off, seen in simulations
_REACH = 2  # half-pixel steps about the peak that a parabola is fitted to
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reflection:
    """Centre (y, x) of inversion in px, its standard error, and the correlation with the reflection."""

    center: Array
    sd: Array
    correlation: float


def reflect(
    pattern: Array, usable: NDArray[np.bool_], near: Array | None = None, reach: float = 4.0
) -> Reflection:
    """Find the centre c with the largest correlation between I(k) and I(2c − k).

    Parameters
    ----------
    pattern
        (k_y, k_x).
    usable
        True where the detector may be used.
    near
        Centre (y, x) that is looked for within `reach` px only.
    reach
        See `near`.

    Notes
    -----
    On √intensity, whose counting noise is even, smoothed by a Gaussian of 1.2 px; the mean is subtracted. The
    standard error is that of the maximum of a self-correlation: twice the smoothed noise times the gradient, over
    the curvature. Cost: two FFTs of twice the pattern's size.
    """
    root = np.where(usable, np.sqrt(np.maximum(pattern, 0.0)), 0.0)
    weight = ndimage.gaussian_filter(usable.astype(np.float64), _SMOOTH)
    smooth = ndimage.gaussian_filter(root, _SMOOTH) / np.maximum(weight, 0.05)
    smooth = np.where(usable, smooth - smooth[usable].mean(), 0.0)
    shape = tuple(fft.next_fast_len(2 * n - 1, real=True) for n in smooth.shape)
    one, two, three = (fft.rfft2(a, shape) for a in (smooth, smooth**2, usable.astype(np.float64)))
    cut = tuple(slice(0, 2 * n - 1) for n in smooth.shape)
    product: Array = fft.irfft2(one * one, shape)[cut]
    power: Array = fft.irfft2(two * three, shape)[cut]
    total = float(np.sum(smooth**2))
    allowed = power > _OVERLAP * total
    if near is not None:
        grid = np.indices(product.shape) / 2 - np.asarray(near)[:, None, None]
        allowed &= np.hypot(grid[0], grid[1]) <= reach
    if total <= 0 or not allowed.any():
        return Reflection(np.full(2, np.nan), np.full(2, np.nan), 0.0)
    score = np.where(allowed, product / np.maximum(power, 1e-300), -np.inf)
    peak = np.array(np.unravel_index(int(np.argmax(score)), score.shape))
    shift, curvature = _parabola(product, peak)
    sums = peak + shift
    gradient = np.stack([ndimage.gaussian_filter(smooth, _SMOOTH, order=o) for o in ((1, 0), (0, 1))])
    noise = 4 * np.einsum("aij,bij,ij->ab", gradient, gradient, _variance(root, usable, peak))
    inverse = np.linalg.pinv(curvature, hermitian=True)
    covariance = inverse @ noise @ inverse / 4
    return Reflection(sums / 2, np.sqrt(np.diag(covariance) + _SAMPLING**2), float(score[tuple(peak)]))


def _parabola(product: Array, peak: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the maximum next to `peak` and the matrix of second derivatives there."""
    at = [int(np.clip(p, _REACH, n - 1 - _REACH)) for p, n in zip(peak, product.shape, strict=True)]
    window = product[at[0] - _REACH : at[0] + _REACH + 1, at[1] - _REACH : at[1] + _REACH + 1]
    y, x = (g.ravel().astype(np.float64) for g in np.indices(window.shape) - _REACH)
    design = np.stack([np.ones(y.size), y, x, y * y / 2, y * x, x * x / 2], axis=1)
    fit = np.linalg.lstsq(design, window.ravel(), rcond=None)[0]
    curvature = np.array([[fit[3], fit[4]], [fit[4], fit[5]]])
    shift = -np.linalg.pinv(curvature, hermitian=True) @ fit[1:3]
    offset = np.array(at) - peak
    return np.clip(shift, -_REACH, _REACH) + offset, curvature


def _variance(root: Array, usable: NDArray[np.bool_], sums: NDArray[np.int64]) -> Array:
    """Variance of each pixel of √intensity: half the squared difference to its reflection; the mean without one."""
    index = [s - np.arange(n) for s, n in zip(sums, root.shape, strict=True)]
    valid = [(i >= 0) & (i < n) for i, n in zip(index, root.shape, strict=True)]
    part = np.ix_(np.flatnonzero(valid[0]), np.flatnonzero(valid[1]))
    partner = np.ix_(index[0][valid[0]], index[1][valid[1]])
    both = usable[part] & usable[partner]
    squared = (root[part] - root[partner]) ** 2 / 2
    out = np.full(root.shape, float(squared[both].mean()) if both.any() else np.nan)
    out[part] = np.where(both, squared, out[part])
    return out
