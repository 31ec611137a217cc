"""Where which estimate holds: shares that an estimate of the risk decides, place by place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairstem.denoise._contracts import Estimate
from fairstem.denoise._windows import window_mean

__all__ = ["blend", "crystal_share", "plain_estimate", "share_of"]

Floats = NDArray[np.float64]
_DOUBT = 3.0  # standard deviations: with less against it, the estimate with the stronger prior is kept


def plain_estimate(k: Floats, sigma: float, mask: NDArray[np.bool_] | None = None) -> Estimate:
    """Return the counts smoothed by a Gaussian: what is there if nothing is known."""
    seen = np.ones(k.shape) if mask is None else mask.astype(np.float64)
    weight = np.maximum(window_mean(seen, sigma), 1e-9)
    smooth = window_mean(np.where(seen > 0, k, 0.0), sigma) / weight
    floor = 1e-3 * max(float(k.mean()), np.finfo(np.float64).tiny)
    return Estimate(np.maximum(smooth, floor), np.minimum(seen / (2 * np.pi * sigma**2) / weight, 1.0))


def share_of(
    k: Floats, strong: Estimate, weak: Estimate, window: float, *, mask: NDArray[np.bool_] | None = None
) -> tuple[Floats, Floats]:
    """Return the share of `strong` that has least risk in a mix with `weak`, and its standard error ``(y, x)``.

    Stein's estimate of the risk of ``weak + share * (strong - weak)`` is a parabola in the share, in a Gaussian
    window of `window` px; the leverages say how much of its own noise each estimate holds. Not clipped.
    """
    variance = 0.5 * (strong.mean + weak.mean)
    step = strong.mean - weak.mean
    gain = step * (k - weak.mean) / variance + (weak.leverage - strong.leverage)
    power = step * step / variance
    if mask is not None:
        gain, power = np.where(mask, gain, 0.0), np.where(mask, power, 0.0)
    top = window_mean(gain, window)
    below = np.maximum(window_mean(power, window), 1e-12)
    # white noise: the squared weights of the window sum to 1 / (4 pi window²)
    squares = window_mean(power, window / np.sqrt(2))
    error = np.sqrt(np.maximum(squares, 1e-12) / (4 * np.pi * window**2)) / below
    return top / below, error


def crystal_share(
    k: Floats, strong: Estimate, weak: Estimate, window: float, *, mask: NDArray[np.bool_] | None = None
) -> Floats:
    """Return the share of `strong`, 0 to 1: 1 unless the data speak against it, then what has least risk."""
    share, error = share_of(k, strong, weak, window, mask=mask)
    doubt = (1.0 - share) / np.maximum(error, 1e-12)
    against = np.clip(1.0 - (_DOUBT / np.maximum(doubt, 1e-6)) ** 2, 0.0, 1.0)
    against[doubt <= 0] = 0.0
    return np.clip(1.0 - (1.0 - share) * against, 0.0, 1.0)


def blend(strong: Estimate, weak: Estimate, share: Floats) -> Estimate:
    """Mix two estimates, `share` of the first."""
    return Estimate(
        share * strong.mean + (1 - share) * weak.mean,
        share * strong.leverage + (1 - share) * weak.leverage,
    )
