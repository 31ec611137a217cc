"""Coarser versions of an image, the way back, and the choice between estimates by Stein's risk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from fairstem.denoise._contracts import Estimate

__all__ = ["bin_counts", "blend", "keep_counts", "refine_grid", "smooth"]

Floats = NDArray[np.float64]

_WIDTHS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)  # Gaussian sigmas that are tried, px
_WINDOW = 8.0  # Gaussian sigma, px, of the window in which risks are compared
_KEPT = 16.0  # Gaussian sigma, px, of the window in which the number of counts is kept
_GRID = 4  # weights of a blend are slow: computed on every 4th pixel


def bin_counts(counts: Floats, b: int) -> Floats:
    """Sum counts over b x b pixels; sums of Poisson counts are Poisson counts."""
    ny, nx = counts.shape
    total: Floats = counts.reshape(ny // b, b, nx // b, b).sum((1, 3))
    return total


def _refine_rows(sums: Floats, b: int) -> Floats:
    edges = np.arange(sums.shape[0] + 1) * b
    below = np.vstack([np.zeros((1, sums.shape[1])), np.cumsum(sums, axis=0)])
    spline = make_interp_spline(edges, below, k=3)
    fine: Floats = np.diff(spline(np.arange(edges[-1] + 1)), axis=0)
    return fine


def refine_grid(sums: Floats, b: int) -> Floats:
    """Spread counts of b x b pixels over these smoothly; their sums stay what they are.

    Differences of the spline through the cumulative counts: interpolating the values themselves
    would keep the blur of the binning.
    """
    if b == 1:
        return sums
    return np.ascontiguousarray(_refine_rows(_refine_rows(sums, b).T, b).T)


def smooth(counts: Floats) -> Estimate:
    """Return the Gaussian filter with the least Stein risk, and its leverage."""
    best: tuple[float, Floats, float] | None = None
    for sigma in _WIDTHS:
        tap = np.zeros(2 * int(4 * sigma + 0.5) + 1)
        tap[tap.size // 2] = 1.0
        own = float(ndimage.gaussian_filter1d(tap, sigma, mode="constant").max() ** 2)
        mean = ndimage.gaussian_filter(counts, sigma)
        risk = float(np.mean((mean - counts) ** 2 - counts + 2 * own * counts))
        if best is None or risk < best[0]:
            best = (risk, mean, own)
    if best is None:  # pragma: no cover - there is always a width
        raise RuntimeError("no width was tried")
    return Estimate(best[1], np.full(counts.shape, best[2]))


def blend(first: Estimate, second: Estimate, counts: Floats) -> Estimate:
    """Mix two estimates with the weights that minimise Stein's unbiased risk in local windows.

    For Poisson counts k the risk of f is E[(f - k)² - k + 2 k df/dk] (Hudson's identity to first order); along
    first + w (second - first) it is a parabola in w.
    """
    step = second.mean - first.mean
    rise = second.leverage - first.leverage
    slope = step * (first.mean - counts) + counts * rise
    local = [
        ndimage.gaussian_filter(_coarse(part), _WINDOW / _GRID, mode="nearest") for part in (slope, step**2)
    ]
    weight = np.clip(-local[0] / np.maximum(local[1], 1e-12 * (1.0 + local[1].max())), 0.0, 1.0)
    fine = _fine(weight, counts.shape)
    return Estimate(first.mean + fine * step, first.leverage + fine * rise)


def keep_counts(estimate: Estimate, counts: Floats) -> Estimate:
    """Give the estimate the number of electrons that was counted, in windows of 16 px (sigma).

    Gains that were chosen from the counts themselves lose some of them at low dose, 3 % at 0.3 per pixel.
    """
    kept, lost = (
        ndimage.gaussian_filter(_coarse(part), _KEPT / _GRID, mode="nearest")
        for part in (counts, estimate.mean)
    )
    ratio = _fine(np.maximum(kept, 0.0) / np.maximum(lost, 1e-12), counts.shape)
    return Estimate(estimate.mean * ratio, estimate.leverage + 1 / (4 * np.pi * _KEPT**2))


def _fine(field: Floats, shape: tuple[int, ...]) -> Floats:
    fine: Floats = ndimage.zoom(field, _GRID, order=1, mode="nearest", grid_mode=True)
    return fine[: shape[0], : shape[1]]


def _coarse(field: Floats) -> Floats:
    ny, nx = field.shape
    padded = np.pad(field, ((0, -ny % _GRID), (0, -nx % _GRID)), mode="edge")
    return bin_counts(padded, _GRID)
