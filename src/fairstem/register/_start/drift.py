"""Which lattice vector each frame moved by: what drift within the frames says about drift between them."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from fairstem.register._start.cell import Cell, nearest_vectors

__all__ = ["Drift", "follow_drift"]

Floats = NDArray[np.float64]
_DEAD_TIMES = np.arange(1.0, 3.01, 0.25)
_CLEARER = 0.4  # a dead time must explain this share of the scatter without it, or less
_OUTLYING = 4.0  # standard deviations: neither link of a frame that jumped follows the drift
_JITTER = 1.0  # px, what one frame's middle jumps at least: guess that counts as one link


@dataclass(frozen=True)
class Drift:
    """Offsets that agree with the drift within the frames.

    Parameters
    ----------
    offsets
        ``(K, 2)`` px.
    mean
        ``(2,)`` px per frame, the drift that all frames share.
    dead_time
        Time from frame to frame over the time of a frame.
    scatter
        px per axis, of the links about what the drift predicts.
    margin
        How far the next best lattice vector is, for the least certain link or for the mean drift,
        standard deviations; NaN when there are too few links to say.
    weakest
        The link that is least certain: from this frame to the next.
    """

    offsets: Floats
    mean: Floats
    dead_time: float
    scatter: float
    margin: float
    weakest: int


def follow_drift(offsets: Floats, ramps: Floats, numbers: NDArray[np.int64], cell: Cell) -> Drift:
    """Choose lattice vectors so that the steps between frames continue the drift within them.

    Prior: frames are recorded one after another, and the specimen drifts on between them as it does
    within them; the mean drift is the smallest that fits.

    Parameters
    ----------
    offsets
        ``(K, 2)`` px, of the middle of each frame, right up to a lattice vector.
    ramps
        ``(K, 2)`` px per frame height, drift within each frame up to what all share.
    numbers
        ``(K,)`` number of each frame in the series: frames left out are bridged.
    cell
        The lattice.

    Notes
    -----
    From the middle of one frame to the middle of the next the specimen moves by half the drift of each.
    The mean drift ``v`` deforms the lattice of all frames alike, which is why it can't be seen within
    them: it follows from the steps, which agree on it up to a lattice vector. Cost: ``O(K²)``.
    """
    step = np.diff(offsets, axis=0)
    between = 0.5 * (ramps[1:] + ramps[:-1])
    gap = np.diff(numbers).astype(np.float64)[:, None]
    vectors = cell.direct, np.asarray(np.linalg.inv(cell.direct), dtype=np.float64)
    fits = [_common(step - dead * gap * between, gap[:, 0], *vectors) for dead in _DEAD_TIMES]
    costs = np.array([cost for _, cost in fits])
    best = int(np.argmin(costs))
    if not (len(step) >= 5 and costs[best] < _CLEARER * costs[0]):
        best = 0
    dead = float(_DEAD_TIMES[best])
    mean = _smallest(fits[best][0], cell)
    rest = step - dead * gap * between - gap * mean
    taken = cell.nearest(rest)
    taken += _bridged(rest - taken, gap[:, 0], cell)
    step = step - taken
    rest = rest - taken
    placed = offsets[0] + np.concatenate([np.zeros((1, 2)), np.cumsum(step, axis=0)])
    links = len(step)
    scatter = float(np.sqrt((np.sum(rest**2) / 2 + _JITTER**2) / max(links - 1 + 1, 1)))
    if links < 3:
        return Drift(placed, mean, dead, scatter, float("nan"), 0)
    link = _clearance(rest, cell) / (scatter * np.sqrt(gap[:, 0]))
    # the mean drift is told from the next by being small: against the scatter of drifts about zero, and
    # against itself, because a drift that stays the same needn't be small
    spread = dead * np.sqrt(
        float((ramps**2).sum() / 2) / max(len(ramps) - 1, 1) / len(ramps) + mean @ mean / 4
    )
    common = float(_clearance(mean[None], cell)[0] / max(spread, 0.5))
    return Drift(placed, mean, dead, scatter, min(float(link.min()), common), int(np.argmin(link)))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _common(rest: Floats, gap: Floats, direct: Floats, inverse: Floats) -> tuple[Floats, float]:
    """Return the step per frame that the most links share up to lattice vectors, and its cost.

    A Cauchy cost: links of frames that jumped may disagree. Each link between neighbours is a guess.
    """
    best, least = np.zeros(2), np.inf
    width = (2 * _JITTER) ** 2
    for first in range(len(rest)):
        if gap[first] > gap.min():
            continue
        guess = rest[first] / gap[first]
        for _ in range(4):
            off = rest - gap[:, None] * guess
            off = off - nearest_vectors(off, direct, inverse)
            weight = 1 / (1 + (off**2).sum(axis=1) / width)
            cost = np.log(1 + (off**2).sum(axis=1) / width).sum()
            if cost < least:
                best, least = guess, cost
            guess = guess + (weight[:, None] * off / gap[:, None]).sum(axis=0) / weight.sum()
    return best, least


def _bridged(rest: Floats, gap: Floats, cell: Cell) -> Floats:
    """Return the lattice vectors by which the frames after one that jumped would not follow the frames before it.

    A jump by about half a cell leaves open which vector each of its two links takes; together they have to
    bring the series back to the drift.
    """
    extra = np.zeros_like(rest)
    size = np.hypot(*rest.T) / np.sqrt(gap)
    # the median length of a vector is 1.18 standard deviations of its components
    usual = max(float(np.median(size)) / 1.18, _JITTER) if len(size) else _JITTER
    for k in np.flatnonzero(np.minimum(size[:-1], size[1:]) > _OUTLYING * usual):
        over = rest[k] + rest[k + 1] - extra[k]
        vector = cell.nearest(over[None])[0]
        if np.hypot(*(over - vector)) <= _OUTLYING * usual * np.sqrt(gap[k] + gap[k + 1]):
            extra[k + 1] = vector
    return extra


def _smallest(mean: Floats, cell: Cell) -> Floats:
    return np.asarray(mean - cell.nearest(mean))


def _clearance(rest: Floats, cell: Cell) -> Floats:
    """Return the root of how much larger (squared px) the next best residual is."""
    a, b = cell.direct
    others = np.stack([i * a + j * b for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
    next_best = ((rest[:, None] + others) ** 2).sum(-1).min(axis=1)
    return np.asarray(np.sqrt(np.maximum(next_best - (rest**2).sum(1), 0.0)))
