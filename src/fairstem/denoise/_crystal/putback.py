"""Joint fit of the columns that deviate from their crystal, and what each pixel of it owes to its own noise.

A deviating column is a moved Gaussian with Gauss-Hermite terms at its new place,
T + h·[G(r - d)·(1 + β0 + β3 (y²-1) + β4 xy + β5 (x²-1)) - G(r)]; only what deviates is free: intensity, shift,
shape. A column that has lost most of its intensity has no position: it keeps linear dipole terms β1 y + β2 x.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import spatial, special

from fairstem.denoise._crystal.site_kernels import (
    RADIUS,
    RIDGE,
    add_sites,
    cross_information,
    fit_sites,
    put_leverage,
    site_scores,
)
from fairstem.denoise._crystal.sites import GROUP_COSTS, GROUPS

__all__ = [
    "PutBack", "covariances", "expanded", "fit_rounds", "free_more", "leverage_of", "prune",
    "shift_matrix", "weighted",
]  # fmt: skip

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# neighbours of a site that enter its covariance: more than a crystal packs into two discs
MOST_NEIGHBOURS = 12


@dataclass
class PutBack:
    """State of the joint fit.

    Parameters
    ----------
    base
        Expected counts with every column of `sites` as it is there; never changed.
    sites
        (n, 5) as in `Crystal`; blobs follow the sites of the crystal as rows of their own.
    groups
        (n, 3): what is free at each: intensity, shift, shape.
    mean
        Expected counts that the fit has reached.
    shift
        (n, 2) in widths.
    beta
        (n, 6): Gauss-Hermite terms at the shifted place, in heights.
    """

    base: Floats
    sites: Floats
    groups: Bools
    mean: Floats = field(init=False)
    shift: Floats = field(init=False)
    beta: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.mean = self.base.copy()
        self.shift, self.beta = np.zeros((len(self.sites), 2)), np.zeros((len(self.sites), 6))

    @property
    def free(self) -> Bools:
        """Coefficients (n, 6) that are fitted."""
        return np.asarray(self.groups @ GROUPS, dtype=bool)

    @property
    def active(self) -> Bools:
        """Sites with anything to fit."""
        return np.asarray(self.groups.any(1), dtype=bool)

    @property
    def moved(self) -> Floats:
        """The sites at their new positions."""
        out = self.sites.copy()
        out[:, :2] += self.shift * self.sites[:, 2:3]
        return out

    def render(self) -> None:
        """Make `mean` anew from `base` and what is put back."""
        self.mean, index = self.base.copy(), np.flatnonzero(self.active)
        column = np.zeros((len(self.sites), 6))
        column[:, 0] = 1.0
        add_sites(self.mean, self.sites, index, -column)
        add_sites(self.mean, self.moved, index, column + self.beta)

    def reset(self, which: Bools) -> None:
        """Take sites back to what they are in the crystal."""
        self.groups[which], self.shift[which], self.beta[which] = False, 0.0, 0.0
        self.render()

    def extend(self, rows: Floats, groups: Bools) -> None:
        """Add Gaussians of their own, `rows` like sites, to the base and to the fit."""
        column = np.zeros((len(rows), 6))
        column[:, 0] = 1.0
        self.base = self.base.copy()
        for mean in (self.base, self.mean):
            add_sites(mean, rows, np.arange(len(rows)), column)
        self.sites = np.concatenate([self.sites, rows])
        self.groups = np.concatenate([self.groups, groups])
        self.shift = np.concatenate([self.shift, np.zeros((len(rows), 2))])
        self.beta = np.concatenate([self.beta, np.zeros((len(rows), 6))])


def fit_rounds(
    k: Floats, state: PutBack, weight: Floats, floor: Floats, rounds: int, tolerance: float
) -> int:
    """Fisher scoring of all active sites until no step exceeds `tolerance` standard deviations; rounds taken."""
    index = np.flatnonzero(state.active)
    free = state.free
    for taken in range(rounds if index.size else 0):
        step = fit_sites(k, state.mean, weight, floor, state.sites, index, free, state.shift, state.beta)
        if step < tolerance:
            return taken + 1
    return rounds if index.size else 0


def _conditional(info: Floats, free: Bools) -> Floats:
    """Information with the coefficients that aren't free replaced by a unit diagonal."""
    both = free[:, :, None] & free[:, None, :]
    return np.where(both, info, np.eye(6))


def free_more(k: Floats, state: PutBack, weight: Floats, floor: Floats, strength: float, count: int) -> bool:
    """Free each group, of an active one of the first `count` sites, whose own score given the fit stands out."""
    index = np.flatnonzero((state.active & ~state.groups.all(1))[:count])
    if not index.size:
        return False
    score, info = site_scores(k, state.mean, weight, floor, state.moved, index)
    score, info = score[index], info[index] + 1e-6 * np.eye(6) * np.einsum("nii->ni", info[index])[:, None, :]
    changed = False
    free = state.free[index]
    inverse = np.linalg.inv(_conditional(info, free)) * (free[:, :, None] & free[:, None, :])
    rest = info - info @ inverse @ info
    for g, members in enumerate(GROUPS):
        asked = np.flatnonzero(~state.groups[index, g])
        if not asked.size:
            continue
        own = np.flatnonzero(members)
        u = score[asked][:, own]
        left = rest[np.ix_(asked, own, own)]
        statistic = np.einsum("ni,ni->n", u, np.linalg.solve(left, u[..., None])[..., 0])
        found = special.chdtrc(own.size, np.maximum(statistic, 0.0)) * GROUP_COSTS[g] < strength
        state.groups[index[asked[found]], g] = True
        changed |= bool(found.any())
    return changed


def shift_matrix(shift: Floats) -> Floats:
    """(n, 6, 6): coefficients at the original position from those at a position moved by `shift`, second order."""
    y, x = shift[:, 0], shift[:, 1]
    out = np.zeros((len(shift), 6, 6)) + np.eye(6)
    out[:, 1, 0], out[:, 2, 0] = y, x
    out[:, 3, 0], out[:, 4, 0], out[:, 5, 0] = y**2 / 2, x * y, x**2 / 2
    out[:, 3, 1], out[:, 4, 1] = y, x
    out[:, 4, 2], out[:, 5, 2] = y, x
    return out


def expanded(state: PutBack, own: Floats) -> tuple[Floats, Floats]:
    """Coefficients (n, 6) at the original positions, and their covariance (n, 6, 6), of all that is fitted."""
    turn = shift_matrix(state.shift)
    column = np.eye(6)[0]
    coefficients = np.einsum("nij,nj->ni", turn, state.beta + column) - column
    coefficients[~state.active] = 0.0
    return coefficients, turn @ own @ turn.transpose(0, 2, 1)


def prune(state: PutBack, pairs: NDArray[np.int64], own: Floats, strength: float, count: int) -> bool:
    """Take back those of the first `count` sites that stand out no longer once their neighbours are fitted."""
    shared = np.unique(pairs[pairs[:, 0] != pairs[:, 1], 0])
    index = shared[shared < count]
    if not index.size or strength >= 1:
        return False
    # at the new place: β0, the move and the shape, of which only what is free counts
    moved = state.beta[index].copy()
    moved[:, 1:3] += state.shift[index] * np.maximum(1.0 + state.beta[index, :1], 0.0)
    free = state.free[index]
    covariance = _conditional(own[index], free)
    moved = np.where(free, moved, 0.0)
    statistic = np.einsum("ni,ni->n", moved, np.linalg.solve(covariance, moved[..., None])[..., 0])
    gone = special.chdtrc(free.sum(1), np.maximum(statistic, 0.0)) >= strength
    if gone.any():
        which = np.zeros(len(state.sites), bool)
        which[index[gone]] = True
        state.reset(which)
    return bool(gone.any())


def _neighbours(sites: Floats, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs (p, 2) of sites of `index` whose discs overlap, both orders and each with itself, sorted."""
    pairs = [np.column_stack([index, index])]
    if index.size > 1:
        reach = 2 * RADIUS * float(sites[index, 2].max())
        near = index[spatial.cKDTree(sites[index, :2]).query_pairs(reach, output_type="ndarray")]
        apart = np.hypot(*(sites[near[:, 0], :2] - sites[near[:, 1], :2]).T)
        near = near[apart < RADIUS * (sites[near[:, 0], 2] + sites[near[:, 1], 2])]
        pairs += [near, near[:, ::-1]]
    joined = np.concatenate(pairs)
    return joined[np.lexsort((joined[:, 1], joined[:, 0]))].astype(np.int64)


def covariances(
    state: PutBack, weight: Floats, floor: Floats
) -> tuple[NDArray[np.int64], Floats, Floats]:  # fmt: skip
    """Pairs of active sites (p, 2), their covariance blocks (p, 6, 6), and the covariance (n, 6, 6) of each site.

    A site is inverted together with the active sites that overlap it: exact for pairs, and close to it for the
    longer chains of a dense crystal, whose information falls off within two discs.
    """
    index = np.flatnonzero(state.active)
    moved, free, n = state.moved, state.free, len(state.sites)
    own = np.zeros((n, 6, 6))
    pairs = _neighbours(moved, index)
    blocks = np.zeros((len(pairs), 6, 6))
    if not index.size:
        return pairs, blocks, own
    info = cross_information(state.mean, weight, floor, moved, pairs)
    info *= free[pairs[:, 0], :, None] & free[pairs[:, 1], None, :]
    where = {(int(a), int(b)): p for p, (a, b) in enumerate(pairs)}
    starts = np.searchsorted(pairs[:, 0], index)
    ends = np.append(starts[1:], len(pairs))
    for i, start, end in zip(index, starts, ends, strict=True):
        members = [int(i), *(int(j) for j in pairs[start:end, 1] if j != i)][: MOST_NEIGHBOURS + 1]
        whole = np.zeros((6 * len(members), 6 * len(members)))
        for a, first in enumerate(members):
            for b, second in enumerate(members):
                found = where.get((first, second))
                if found is not None:
                    whole[6 * a : 6 * a + 6, 6 * b : 6 * b + 6] = info[found]
        diagonal = np.einsum("ii->i", whole)
        diagonal[...] = np.where(diagonal > 0, diagonal * (1 + RIDGE), 1.0)
        rows = np.linalg.solve(whole, np.eye(len(whole), 6))
        for b, second in enumerate(members):
            keep = free[i][:, None] & free[second][None, :]
            blocks[where[(int(i), second)]] = rows[6 * b : 6 * b + 6].T * keep
        own[i] = rows[:6] * (free[i][:, None] & free[i][None, :])
    return pairs, blocks, own


def weighted(state: PutBack, share: Floats) -> Floats:
    """The mean (y, x) with `share` (n,) of each deviation put back."""
    mean, index = state.base.copy(), np.flatnonzero(state.active)
    column = np.zeros((len(state.sites), 6))
    column[:, 0] = share
    add_sites(mean, state.sites, index, -column)
    add_sites(mean, state.moved, index, column + share[:, None] * state.beta)
    return mean


def leverage_of(
    state: PutBack, weight: Floats, floor: Floats, pairs: NDArray[np.int64], blocks: Floats
) -> Floats:
    """Derivative (y, x) of each pixel's estimate by its own count, through the fit of the active sites."""
    out = np.zeros_like(state.mean)
    put_leverage(out, state.mean, weight, floor, state.moved, pairs, blocks)
    return out
