"""Flicker: rows that are brighter or darker than the same rows of the other frames.

**Prior.** The values of each row of each frame are those of the object times a factor ``1 + b`` (current of
the beam); b is independent from row to row, with a variance that is found from the data. What the frames
share at one place of the average is the object, or the blur of the reference, and no flicker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

__all__ = ["STEADY", "Flicker", "estimate_flicker"]

Floats = NDArray[np.float64]
_SURE = 4.0  # standard errors: what varies by less may do so by chance, and counts as none
_FAR = 5.0  # standard deviations: rows that lost their way, or hold little
_STEPS = 4
_MEDIAN = 0.455  # of the square of a normal variable
_SHARED = 0.3  # sd of what frames share: more than the blur of a reference does


@dataclass(frozen=True)
class Curve:
    """Brightness along the average, that rows of all frames share: values at whole rows from `first` on."""

    first: int
    values: Floats


@dataclass(frozen=True)
class Flicker:
    """How the brightness of rows varies.

    Parameters
    ----------
    sd
        Standard deviation of the brightness of a row, as a share of it; 0 where it does not vary.
    shared
        For each scan direction what the rows of all frames share, as a share too.
    """

    sd: float = 0.0
    shared: tuple[Curve, ...] = ()

    def expected(self, at: Floats, group: int) -> Floats:
        """Return the brightness that rows at these rows of the average have in any frame of that direction."""
        if self.sd == 0:
            return np.zeros_like(at)
        curve = self.shared[group]
        return np.interp(at, curve.first + np.arange(curve.values.size), curve.values)


STEADY = Flicker()


def estimate_flicker(
    share: Floats, variance: Floats, at: Floats, groups: Sequence[int], *, blur: float, others: float
) -> Flicker:
    """Find how much the brightness of rows varies between frames, beyond what noise explains.

    Parameters
    ----------
    share
        ``(frame, y)``, by what share each row is brighter than its reference.
    variance
        ``(frame, y)``, of it; infinite where nothing is known.
    at
        ``(frame, y)`` px, where the rows lie in the average.
    groups
        Scan direction of each frame, a number from 0 on.
    blur
        Variance of the blur of the reference, px².
    others
        Number of frames behind the reference; infinite where those of the same direction are not among them.

    Returns
    -------
    Flicker
        With ``sd = 0`` unless the variance differs from 0 by more than 4 standard errors.

    Notes
    -----
    What the frames of a direction share is a line between whole rows of the average, by weighted least
    squares; the variance follows from the sum of squares that is left. Two frames differ by more than their
    own noise and flicker, as each lies in the reference of the other. Cost: ``O(frames * rows)``.
    """
    seen = np.isfinite(variance)
    own, noise, y = share[seen], variance[seen], at[seen]
    group = np.broadcast_to(np.asarray(groups)[:, None], share.shape)[seen]
    apart = 1 + 2 / (math.sqrt(2 * math.pi * blur) * others) + 1 / (2 * math.sqrt(math.pi * blur) * others**2)
    kept, excess = np.ones(own.size, dtype=bool), 0.0
    for step in range(_STEPS):
        weight = kept / (noise + excess)
        curves, rest, places = _shared(own, weight, y, group)
        free = int(kept.sum()) - places
        if free < 1:
            return STEADY
        square = rest**2 / apart
        if step == 0:
            # half of the rows at least are as they should be
            excess = max(float(np.median(square / noise)) / _MEDIAN - 1, 0.0) * float(np.median(noise))
        else:
            grown = float(weight @ square) * kept.sum() / free - float(weight @ noise)
            excess = max(grown / float(weight.sum()), 0.0)
        kept = square < _FAR**2 * (noise + excess)
    beyond = float((square / noise)[kept].sum()) - free
    if excess == 0 or beyond <= _SURE * math.sqrt(2 * free):
        return STEADY
    return Flicker(math.sqrt(excess), curves)


def _shared(
    share: Floats, weight: Floats, at: Floats, group: NDArray[np.int_]
) -> tuple[tuple[Curve, ...], Floats, int]:
    """Return the curve that the rows of each direction share, what rows differ from it, and its free values."""
    curves, rest, places = [], share.copy(), 0
    for number in range(int(group.max(initial=-1)) + 1):
        own = group == number
        if not weight[own].any():
            curves.append(Curve(0, np.zeros(1)))
            continue
        curve, rest[own], reached = _line(share[own], weight[own], at[own])
        curves.append(curve)
        places += reached
    return tuple(curves), rest, places


def _line(share: Floats, weight: Floats, at: Floats) -> tuple[Curve, Floats, int]:
    """Return the curve that all rows share, what each differs from it, and at how many places it is known."""
    first = math.floor(at.min())
    low = np.floor(at).astype(int) - first
    to_high = at - first - low
    size = int(low.max()) + 2
    bands, right = np.zeros((2, size)), np.zeros(size)
    for knot, part in ((low, 1 - to_high), (low + 1, to_high)):
        bands[1] += np.bincount(knot, weight * part**2, size)
        right += np.bincount(knot, weight * part * share, size)
    bands[0, 1:] = np.bincount(low, weight * to_high * (1 - to_high), size)[:-1]
    reached = int((bands[1] > 0).sum())
    bands[1] += 1 / _SHARED**2
    values = solveh_banded(bands, right)
    rest = share - (1 - to_high) * values[low] - to_high * values[low + 1]
    return Curve(first, values), rest, reached
