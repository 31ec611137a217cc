"""Pixels that lie: hot wherever the beam stands and sharper than the camera can draw, or dead."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fairstem.diffraction._discs.patches import Patches

__all__ = ["bad_pixels"]

_SIGMAS = 5.0
_MARGIN = 1.5  # a pixel has to be so much sharper than the point spread allows
_LASTING = 0.5  # in this fraction of the patches at least half of the mean excess has to be there
_PATCHES = 8  # fewer say nothing about lasting
Array = NDArray[np.float64]


def bad_pixels(
    patches: Patches, usable: NDArray[np.bool_], width: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find hot and dead pixels.

    A hot pixel stands above its surroundings (median of the 5 × 5 px ring) and above each of its eight neighbours by
    5 standard errors, its excess is larger than a point drawn with the blur `width` could have beside its largest
    neighbour, and it is there all over the scan, in proportion to the number of patterns. The neighbours matter at
    the edge of a disc, where the median of the ring is the level outside. A Bragg spot is drawn by the camera with its
    blur, has a spread over neighbours, and mostly comes and goes with the beam. A dead pixel counts less than half of
    the darkest of its eight neighbours, by 5 standard errors.

    Parameters
    ----------
    patches
        Sums over patches of the scan.
    usable
        (k_y, k_x).
    width
        Gaussian sigma of the sharpest edge in px; where it isn't known 0.5, the sharpest of real cameras.

    Returns
    -------
    tuple
        Hot and dead pixels, (k_y, k_x).

    Notes
    -----
    The standard error is that of counts, √(unit · value), the unit being the robust scatter of the whole pattern
    about its local median over the expectation, at least the smallest step of the values. A pixel that a mask or NaN
    excludes is never reported. A hot pixel on the very edge of a disc is found only where it is brighter than the
    disc. A point-like spot that lasts over the whole scan at one pixel of a camera without any blur can't be told from
    a hot pixel. Cost: a few filters of one pattern.
    """
    total = np.where(usable, patches.total, 0.0)
    surroundings = _ring_median(total)
    excess = total - surroundings
    unit = _unit(total, surroundings, usable)
    error = np.sqrt(unit * np.maximum(surroundings, unit))
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    # "mirror", not "reflect": at the border of the detector a pixel isn't its own neighbour
    beside = ndimage.maximum_filter(excess, footprint=cross, mode="mirror")
    sharp = excess > _MARGIN * _ratio(width) * np.maximum(beside, 0.0) + _SIGMAS * error
    neighbours = np.ones((3, 3), dtype=bool)
    neighbours[1, 1] = False
    brightest = ndimage.maximum_filter(total, footprint=neighbours, mode="mirror")
    above = total > brightest + _SIGMAS * np.sqrt(unit * np.maximum(brightest, unit))
    hot = sharp & above & usable & _alone(usable)
    for y, x in np.argwhere(hot):
        hot[y, x] = _lasts(patches, int(y), int(x))
    filled = np.where(usable, total, np.inf)
    darkest = ndimage.minimum_filter(filled, footprint=neighbours, mode="mirror")
    darkest = np.where(np.isfinite(darkest), darkest, 0.0)
    half = 0.5 * darkest
    dead = usable & (total < half - _SIGMAS * np.sqrt(unit * half))
    return hot, dead


def _ratio(width: float) -> float:
    """Largest ratio of a pixel to its brightest neighbour that a blurred point can have."""
    return float(np.exp(0.5 / max(width, 0.35) ** 2))


def _ring_median(values: Array) -> Array:
    ring = np.ones((5, 5), dtype=bool)
    ring[1:4, 1:4] = False
    out: Array = ndimage.median_filter(values, footprint=ring, mode="reflect")
    return out


def _unit(total: Array, surroundings: Array, usable: NDArray[np.bool_]) -> float:
    """Variance over expectation, from the scatter about the surroundings; structure makes it larger, not smaller."""
    bright = usable & (surroundings > 0)
    positive = total[usable & (total > 0)]
    smallest = float(positive.min()) if positive.size else 1.0
    if not bright.any():
        return smallest
    scatter = (total - surroundings)[bright] / np.sqrt(surroundings[bright])
    robust = 1.4826 * float(np.median(np.abs(scatter - np.median(scatter))))
    return max(robust**2, smallest if smallest <= 1 else 1.0)


def _alone(usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True where the eight neighbours are usable: beside a beam stop nothing can be said."""
    out: NDArray[np.bool_] = ndimage.minimum_filter(usable.astype(np.uint8), size=3, mode="reflect") > 0
    return out


def _lasts(patches: Patches, y: int, x: int) -> bool:
    """Say whether the excess is there all over the scan: against the neighbours, per pattern, patch by patch."""
    rows, columns = slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2)
    around = patches.sums[:, :, rows, columns].reshape(patches.numbers.size, -1)
    own = patches.sums[:, :, y, x].ravel()
    numbers = patches.numbers.ravel()
    excess = own - (around.sum(axis=1) - own) / (around.shape[1] - 1)
    rate = excess.sum() / numbers.sum()
    expected = rate * numbers
    if numbers.size < _PATCHES or np.median(expected) < 9:
        return True
    # half of the mean excess less three standard errors: a spot that comes and goes misses it in many patches
    there = excess > 0.5 * expected - 3 * np.sqrt(np.maximum(own, 1.0))
    return bool(np.mean(there) >= 1 - 0.5 * _LASTING and np.median(excess / numbers) > _LASTING * rate)
