"""What symmetry STEM assumes, measured on the scan: counts, centre, no shadow, enough pixels, enough contrast."""

from __future__ import annotations

import math
import warnings

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from fairstem.diffraction._pairs.correlation import Maps
from fairstem.errors import DataWarning
from fairstem.priors import PriorCheck

__all__ = ["check_priors"]

_FEWEST_PATTERNS = 64  # fewer say little about where the scan's mean pattern has its centre
_REACH = 3.0  # px around the given centre where a better one is looked for
_CLEAR = 0.5  # correlation of the mean pattern with itself turned by 180°, for its centre to mean something
_LOWEST = 0.05  # of the positions: some are symmetric, and asymmetry adds to the scatter of the others
_BELOW = 1.645  # standard errors that as many of them lie below the mean by chance
_QUANTILE_ERROR = 2.11  # standard error of that quantile of n normal values, times the square root of n
_SURE = 4.0  # standard errors that the quantile must be below 1
_UNSURE = 0.5  # standard error of a dispersion: larger ones tell nothing
_DISPERSED = 0.4  # a limit below this can't tell averages from counts
Floats = NDArray[np.float64]


def check_priors(
    maps: Maps, allowed: NDArray[np.bool_], center: tuple[float, float], counts: bool
) -> tuple[PriorCheck, ...]:
    """Measure the assumptions of `symmetry` and warn where one that spoils every map does not hold.

    Parameters
    ----------
    maps
        What was computed, with the sum of the patterns.
    allowed
        Pixels that may be used.
    center
        (y, x) in px of the summed patterns.
    counts
        True with counting noise corrected.
    """
    total = maps.total.reshape(allowed.shape)
    checks = [
        _enough_pixels(maps),
        _centered(total, allowed, center, maps.patterns),
        _unshadowed(total, allowed, center),
        _contrast(maps),
    ]
    if counts:
        checks.insert(0, _poisson(maps))
    for check in checks:
        if check.holds is False:
            warnings.warn(f"symmetry: {check}", DataWarning, stacklevel=3)
    return tuple(checks)


def _poisson(maps: Maps) -> PriorCheck:
    lowest, limit = math.nan, 0.8
    usable = (maps.dispersion > 0) & (maps.dispersion_error < _UNSURE)
    if usable.any():
        errors = maps.dispersion_error[usable]
        # the lower tail of a sum of squares is that of a log-normal value, nearly; all operations see the same pixels
        error = _QUANTILE_ERROR * float(np.median(errors)) / math.sqrt(int(usable.any(axis=0).sum()))
        limit = min(limit, 1.0 - _SURE * error)
        if limit >= _DISPERSED:
            lowest = float(np.quantile(maps.dispersion[usable] * np.exp(_BELOW * errors), _LOWEST))
    return PriorCheck(
        "poisson-counts",
        "pixels are independent Poisson counts",
        lowest,
        limit,
        ">=",
        "variance over mean between pixels that a symmetry ties together (lowest 5 %, less their own scatter; "
        "asymmetry only adds to it)",
        "the values scatter less than counts: averaged, denoised or scaled; pass raw counts, or gain=",
    )


def _enough_pixels(maps: Maps) -> PriorCheck:
    return PriorCheck(
        "enough-pixels",
        "the patterns are compared over many pixels",
        float(maps.n_pixels.min()),
        100.0,
        ">=",
        "pixels compared by the operation that has the fewest",
        "widen the mask or measure the centre: standard errors to first order need more pixels",
    )


def _contrast(maps: Maps) -> PriorCheck:
    return PriorCheck(
        "contrast",
        "patterns vary by more than their counting noise",
        float(np.isfinite(maps.standard_error).mean()),
        0.99,
        ">=",
        "fraction of maps' positions with a significant variance (the others: gamma 0, infinite standard error)",
        "sum neighbouring positions or raise the dose; vacuum and beam-off positions are best left out",
    )


def _centered(
    total: Floats, allowed: NDArray[np.bool_], center: tuple[float, float], patterns: int
) -> PriorCheck:
    away = math.nan
    if patterns >= _FEWEST_PATTERNS:
        away = _distance_of_inversion_center(total, allowed, center)
    return PriorCheck(
        "centre",
        "the operations act about the optic axis",
        away,
        0.25,
        "<=",
        "px between the centre and the inversion centre of the mean pattern",
        "a wrong centre lowers every map: measure it with diffraction.center(scan) and pass center= (a mean pattern "
        "without inversion symmetry, from less than a unit cell or a polar crystal, can mislead this check)",
    )


def _distance_of_inversion_center(
    total: Floats, allowed: NDArray[np.bool_], center: tuple[float, float]
) -> float:
    """Correlate the mean pattern with itself turned by 180° about all centres near the given one."""
    weights = allowed.astype(float)
    mean = float((total * weights).sum() / weights.sum())
    zero = np.where(allowed, total - mean, 0.0)
    shape = [scipy.fft.next_fast_len(2 * n, real=True) for n in total.shape]
    images = [scipy.fft.rfft2(image, s=shape) for image in (zero, zero**2, weights)]
    numerator = scipy.fft.irfft2(images[0] ** 2, s=shape)
    denominator = scipy.fft.irfft2(images[1] * images[2], s=shape)
    sums = np.indices(shape) / 2
    near = np.hypot(sums[0] - center[0], sums[1] - center[1]) <= _REACH
    enough = denominator > 0.25 * (zero**2).sum()
    gamma = np.where(near & enough, numerator / np.where(enough, denominator, 1.0), -1.0)
    at = np.unravel_index(int(gamma.argmax()), gamma.shape)
    if gamma[at] < _CLEAR:
        return math.nan
    best = [(at[k] + _vertex(np.take(gamma, at[1 - k], axis=1 - k), int(at[k]))) / 2 for k in range(2)]
    return math.hypot(best[0] - center[0], best[1] - center[1])


def _vertex(values: Floats, at: int) -> float:
    """Return the sub-sample position of a maximum, relative to its sample."""
    if not 0 < at < values.size - 1 or min(values[at - 1], values[at + 1]) <= -1:
        return 0.0
    bend = values[at - 1] - 2 * values[at] + values[at + 1]
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (values[at - 1] - values[at + 1]) / bend, -0.5, 0.5))


def _unshadowed(total: Floats, allowed: NDArray[np.bool_], center: tuple[float, float]) -> PriorCheck:
    """Look for pixels that stay dark where the opposite side of the pattern is bright."""
    at = np.argwhere(allowed)
    opposite = np.rint(2 * np.asarray(center) - at).astype(int)
    inside = ((opposite >= 0) & (opposite < np.array(total.shape))).all(1)
    at, opposite = at[inside], opposite[inside]
    both = allowed[tuple(opposite.T)]
    here, there = total[tuple(at[both].T)], total[tuple(opposite[both].T)]
    bright = float(here.mean()) if here.size else 0.0
    dark = (np.abs(here) <= 0.02 * there) & (there > 0.2 * bright) & (there > 20 * _quantum(total))
    share = float(there[dark].sum() / here.sum()) if bright > 0 else math.nan
    return PriorCheck(
        "no-shadow",
        "no part of the detector is dead or behind a beam stop",
        share,
        0.01,
        "<=",
        "fraction of the electrons that face a dead area on the opposite side",
        "pass mask= (True where the detector sees electrons) that leaves the beam stop or the dead area out",
    )


def _quantum(total: Floats) -> float:
    """Return one count for counts, nothing for other values: a dark pixel must not be chance."""
    return 1.0 if bool((total == np.rint(total)).all()) else 0.0
