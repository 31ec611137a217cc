"""Has the object changed between frames, and where? Are residuals counting noise?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_propagation, gaussian_filter
from scipy.optimize import brentq
from scipy.stats import norm

from fairstem.errors import DataError
from fairstem.priors import PriorCheck

__all__ = ["FALSE_ALARM", "check_unchanged"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FALSE_ALARM = 0.01  # of each check, when its assumption is true
_SCALES_PX = (2.5, 8.0)  # sigma: one atom column, and a region of several
_FITTED = 100_000  # pixels are enough for a line
_REFITS = 4  # of the level, changes left out
_EDGE_OF_REGION = 3.0  # standard deviations at which a significant region ends


def check_unchanged(
    chi2: ArrayLike, samples: ArrayLike, *, counts: ArrayLike | None = None, false_alarm: float = FALSE_ALARM
) -> tuple[PriorCheck, Bools]:
    """Test that the object is the same in all frames, and show where it isn't.

    Prior: where the object is unchanged, frames differ from the average by counting noise, so that the
    mean squared residual over its expectation scatters as a χ² with one degree of freedom a frame.

    Parameters
    ----------
    chi2
        ``(y, x)`` mean over frames of the squared residual over its expected variance.
    samples
        ``(y, x)`` number of frames behind each pixel; pixels with fewer than 2 are left out.
    counts
        ``(y, x)`` expected electrons a frame and pixel; the parameter that matters. Few electrons scatter
        more, and rarely by much; and where the counts are steep, what is left of the displacement adds to
        the residuals in the same proportion everywhere, which is no change of the object.
    false_alarm
        Probability that an unchanged object fails.

    Returns
    -------
    check : PriorCheck
        The largest excess anywhere in standard deviations, against the largest that noise makes among
        all independent places.
    changed : ndarray of bool
        ``(y, x)``, True where the object changed: regions above three standard deviations around a
        significant place; all False when the prior holds.

    Raises
    ------
    DataError
        The shapes differ.

    Notes
    -----
    The map is averaged over Gaussians of 2.5 and 8 px. Level and spread are taken from its own lower
    half, so that a noise model that is a little off everywhere (see `check_residual`) is no alarm here.
    Threshold: expected Euler characteristic of a Gaussian random field (Worsley et al., Hum. Brain
    Mapp. 4 (1996) 58, doi:10.1002/(SICI)1097-0193(1996)4:1<58::AID-HBM4>3.0.CO;2-O).
    A change of more than half of the image is seen by `check_residual`, not here.
    Cost: ``O(pixels)``.

    Examples
    --------
    >>> import numpy as np
    >>> chi2 = np.random.default_rng(0).chisquare(10, (128, 128)) / 10
    >>> check_unchanged(chi2, np.full((128, 128), 10))[0].holds
    True
    >>> chi2[40:50, 60:70] *= 2
    >>> check, changed = check_unchanged(chi2, np.full((128, 128), 10))
    >>> check.holds, bool(changed[45, 65]), bool(changed[90, 20])
    (False, True, False)
    """
    values, weight = _checked_map(chi2, samples)
    electrons = None if counts is None else np.maximum(np.asarray(counts, dtype=np.float64), 0.02)
    if electrons is not None and electrons.shape != values.shape:
        raise DataError(f"counts have shape {electrons.shape}, chi2 {values.shape}", needed="equal shapes")
    changed, largest, threshold = np.zeros(values.shape, dtype=bool), math.nan, math.nan
    if (weight > 0).sum() >= 64:
        largest, margin, threshold = -math.inf, -math.inf, 0.0
        for sigma in _SCALES_PX:
            z = _excess(values, weight, electrons, sigma)
            limit = _largest_by_chance((weight > 0).sum(), sigma, false_alarm / len(_SCALES_PX))
            top = float(z.max())
            if top > limit:
                changed |= np.asarray(binary_propagation(z > limit, mask=z > _EDGE_OF_REGION))
            if top - limit > margin:
                largest, threshold, margin = top, limit, top - limit
    area = float(changed.sum() / max((weight > 0).sum(), 1))
    check = PriorCheck(
        "unchanged-object",
        "the object is the same in all frames",
        largest,
        threshold,
        "<=",
        f"largest local excess of the residuals over counting noise ({area:.1%} of the area changed), sd",
        "look at the map of changes; leave out the frames after the change, or read those places with care",
    )
    return check, changed


def _checked_map(chi2: ArrayLike, samples: ArrayLike) -> tuple[Floats, Floats]:
    """Return the map, 1 where it isn't known, and the number of frames, 0 there."""
    values, weight = np.array(chi2, dtype=np.float64), np.array(samples, dtype=np.float64)
    if values.shape != weight.shape or values.ndim != 2:
        raise DataError(
            f"chi2 {values.shape} and samples {weight.shape}", needed="two maps (y, x) of equal shape"
        )
    known = np.isfinite(values) & (weight >= 2)
    values[~known], weight[~known] = 1.0, 0.0
    return values, weight


def _local_mean(values: Floats, weight: Floats, sigma: float) -> tuple[Floats, Floats]:
    """Return the weighted local mean, and the local mean of the weight."""
    total = gaussian_filter(weight, sigma, mode="constant")
    return gaussian_filter(weight * values, sigma, mode="constant") / np.maximum(total, 1e-12), total


def _excess(values: Floats, weight: Floats, counts: Floats | None, sigma: float) -> Floats:
    """Return the excess of the local mean over its expectation, in standard deviations.

    A squared Poisson residual has the cumulants 1, 2 + 1/count, 8 + 22/count + 1/count².
    """
    mean, total = _local_mean(values, weight, sigma)
    rarity = np.zeros_like(values) if counts is None else 1 / counts
    # variance and third cumulant of sum(w x) / sum(w), with the Gaussian's square and cube as weights
    second = gaussian_filter(weight * (2 + rarity), sigma / math.sqrt(2), mode="constant")
    third = gaussian_filter(weight * (8 + 22 * rarity + rarity**2), sigma / math.sqrt(3), mode="constant")
    total = np.maximum(total, 1e-9)
    variance = np.maximum(second / (4 * math.pi * sigma**2 * total**2), 1e-12)
    skewness = third / (12 * math.pi**2 * sigma**4 * total**3) / variance**1.5
    inside = weight > 0
    level = _level(
        mean, inside, None if counts is None else _local_mean(_steepness(counts), weight, sigma)[0]
    )
    # Wilson and Hilferty: the cube root of a gamma variable is nearly normal
    root = 2 / np.maximum(skewness, 1e-6)
    z = (
        3
        * root
        * (np.cbrt(np.maximum(1 + (mean / level - 1) / np.sqrt(variance) / root, 0)) - 1 + 1 / (9 * root**2))
    )
    middle = float(np.median(z[inside]))
    low = float(np.quantile(z[inside], norm.cdf(-1)))
    return np.where(inside, (z - middle) / max(middle - low, 1.0), 0.0)


def _steepness(counts: Floats) -> Floats:
    """Return what a displacement of 1 px adds to the squared residual over its variance."""
    return np.asarray(sum(np.square(g) for g in np.gradient(gaussian_filter(counts, 1.0))) / counts)


def _level(mean: Floats, inside: Bools, steep: Floats | None) -> Floats:
    """Return the expected local mean: constant, plus what displacement leaves where counts are steep."""
    constant = np.full(mean.shape, max(float(np.median(mean[inside])), 1e-12))
    if steep is None or not steep[inside].any():
        return constant
    thin = max(int(inside.sum()) // _FITTED, 1)
    x, y = steep[inside][::thin], mean[inside][::thin]
    keep = np.ones(len(y), dtype=bool)
    base, slope = float(constant.flat[0]), 0.0
    for _ in range(_REFITS):
        slope, base = (float(c) for c in np.polyfit(x[keep], y[keep], 1))
        rest = y - base - slope * x
        # a change is an excess: it must not pull the level up
        keep = rest <= 2 * 1.4826 * np.median(np.abs(rest))
    if slope <= 0 or base <= 0:
        return constant
    return base + slope * steep


def _largest_by_chance(area_px: int, sigma: float, false_alarm: float) -> float:
    """Return the level that a smooth Gaussian random field exceeds anywhere with that probability."""
    side = math.sqrt(area_px) / (sigma * math.sqrt(2 * math.log(2)) * 2)  # in full widths at half maximum

    def excursions(z: float) -> float:
        flat = math.exp(-z * z / 2) * 4 * math.log(2)
        edge = 2 * side * math.sqrt(4 * math.log(2)) / (2 * math.pi) * math.exp(-z * z / 2)
        return float(side**2 * flat * z / (2 * math.pi) ** 1.5 + edge + norm.sf(z)) - false_alarm

    return float(brentq(excursions, 1.0, 12.0))
