"""Coarser versions of an image, the way back, and the choice between estimates by Stein's risk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from fairstem.denoise._contracts import Estimate
from fairstem.denoise._windows import block_mean, to_pixels

__all__ = ["bin_counts", "blend", "keep_counts", "mirrored_mean", "refine_grid", "smooth"]

Floats = NDArray[np.float64]

_WIDE, _NARROW = 24.0, 8.0  # Gaussian sigmas, px, of the windows in which risks are compared
_SPREAD = 0.2  # by which weights in narrow windows differ from those in wide ones
_FINE = 4.0  # blocks in a window (sigma)
_KEPT = 32.0  # Gaussian sigma, px, of the window in which the number of counts is kept


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


def mirrored_mean(field: Floats, sigma: float) -> Floats:
    """Return the mean in a Gaussian window of `sigma` px; the field is mirrored at its border.

    `window_mean` continues the border instead, which would count its pixels many times over.
    """
    block = int(sigma / _FINE) + 1
    coarse = ndimage.gaussian_filter(block_mean(field, block), sigma / block, mode="reflect")
    return to_pixels(coarse, field.shape, block)


def smooth(counts: Floats, sigma: float) -> Estimate:
    """Return a Gaussian filter of the counts."""
    mean = ndimage.gaussian_filter(counts, sigma)
    return Estimate(mean, np.full(counts.shape, 1 / (4 * np.pi * sigma**2)))


def blend(first: Estimate, second: Estimate, counts: Floats) -> Estimate:
    """Mix two estimates with the weights that minimise Stein's unbiased risk in local windows.

    For Poisson counts k the risk of f is E[(f - k)² - k + 2 k df/dk] (Hudson's identity to first order); along
    first + w (second - first) it is a parabola in w. A narrow window knows its weight badly where the two hardly
    differ: then the weight of a wide one is taken.
    """
    step = second.mean - first.mean
    rise = second.leverage - first.leverage
    slope, power = step * (first.mean - counts) + counts * rise, step**2
    wide = _ratio(-mirrored_mean(slope, _WIDE), mirrored_mean(power, _WIDE))
    # as if so much had been seen beforehand
    prior = np.maximum(mirrored_mean(counts, _WIDE), 0.0) / (4 * np.pi * _NARROW**2 * _SPREAD**2)
    seen = mirrored_mean(power, _NARROW)
    weight = _ratio(prior * wide - mirrored_mean(slope, _NARROW), seen + prior)
    # the weight follows the counts too
    own = ((weight > 0) & (weight < 1)) * seen / np.maximum(seen + prior, 1e-30) / (2 * np.pi * _NARROW**2)
    return Estimate(first.mean + weight * step, first.leverage + weight * rise + own)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.clip(above / np.maximum(below, 1e-12 * (1.0 + below.max())), 0.0, 1.0)
    return ratio


def keep_counts(estimate: Estimate, counts: Floats) -> Estimate:
    """Give the estimate the number of electrons that was counted, in windows of 32 px (sigma).

    Gains that were chosen from the counts themselves lose some of them at low dose, 3 % at 0.3 per pixel.
    """
    kept, lost = (mirrored_mean(part, _KEPT) for part in (counts, estimate.mean))
    ratio = np.maximum(kept, 0.0) / np.maximum(lost, 1e-12)
    return Estimate(estimate.mean * ratio, estimate.leverage + 1 / (4 * np.pi * _KEPT**2))
