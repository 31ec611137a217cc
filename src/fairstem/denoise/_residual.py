"""What is left over: is it noise?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fairstem.denoise._contracts import Estimate
from fairstem.priors import PriorCheck

__all__ = ["FLAGGED", "Whiteness", "judge_residual", "standardised", "structure_map", "whiteness"]

Floats = NDArray[np.float64]
_SCALES = (1.0, 2.0, 4.0)  # px: structure of about these sizes is looked for
_WINDOW = 6.0  # px (sigma), over which its power is averaged
FLAGGED = 4.5  # standard deviations of white noise: there is structure left
_MOST_LEVERAGE = 0.95


@dataclass(frozen=True)
class Whiteness:
    """How far the residual of an estimate is from white noise.

    Parameters
    ----------
    map
        ``(y, x)``: excess power of smooth structure in the residual round each pixel, standard deviations.
    flagged
        Share of the area where it exceeds 4.5.
    neighbour
        Correlation of neighbouring pixels of the residual; 0 for white noise.
    """

    map: Floats
    flagged: float
    neighbour: float


def standardised(k: Floats, estimate: Estimate, mask: NDArray[np.bool_] | None = None) -> Floats:
    """Return the residual in standard deviations of the noise; 0 where nothing was measured.

    What the estimate took from a pixel's own noise is missing in the residual: the leverage says how much.
    """
    own = 1.0 - np.minimum(estimate.leverage, _MOST_LEVERAGE)
    residual: Floats = (k - estimate.mean) / np.sqrt(estimate.mean * own)
    return residual if mask is None else np.where(mask, residual, 0.0)


def structure_map(residual: Floats, mask: NDArray[np.bool_] | None = None) -> Floats:
    """Return the excess power of smooth structure round each pixel, standard deviations, largest of the scales."""
    seen = np.ones(residual.shape) if mask is None else mask.astype(np.float64)
    worst = np.full(residual.shape, -np.inf)
    for scale in _SCALES:
        smooth = ndimage.gaussian_filter(residual, scale, mode="constant")
        # variance of a weighted sum of white noise: the sum of the squared weights, fewer at the border
        share = ndimage.gaussian_filter(seen, scale / math.sqrt(2), mode="constant")
        expected = share / (4 * math.pi * scale**2)
        power = np.where(expected > 0, smooth**2 / np.maximum(expected, 1e-12), 1.0) - 1.0
        window = max(_WINDOW, 1.5 * scale)
        inside = ndimage.gaussian_filter(seen, window, mode="constant")
        mean = ndimage.gaussian_filter(np.where(seen > 0, power, 0.0), window, mode="constant")
        # the squares of smoothed noise are alike over sqrt(2) * scale
        spread = math.sqrt(2.0) * scale / math.sqrt(window**2 + scale**2)
        worst = np.maximum(worst, mean / np.maximum(inside, 1e-3) / spread)
    return worst


def whiteness(residual: Floats, mask: NDArray[np.bool_] | None = None) -> Whiteness:
    """Test whether what was taken away, `standardised`, is noise, place by place."""
    field = structure_map(residual, mask)
    flagged = float((field > FLAGGED).mean())
    power = float((residual**2).mean())
    pairs = 0.5 * float((residual[1:] * residual[:-1]).mean() + (residual[:, 1:] * residual[:, :-1]).mean())
    return Whiteness(field, flagged, pairs / power if power > 0 else 0.0)


def judge_residual(found: Whiteness) -> PriorCheck:
    """Return the check: what was taken away is noise."""
    return PriorCheck(
        "residual-is-noise",
        "what was removed is noise, nowhere structure",
        100 * found.flagged,
        1.0,
        "<=",
        "share of the area where the residual holds structure beyond 4.5 sd of white noise, %",
        "look at the map of the residual; lower `strength` keeps less, strength=1 erases nothing at columns",
    )
