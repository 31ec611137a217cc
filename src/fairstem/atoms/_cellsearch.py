"""The choice of the cell: candidates are indexed, and the evidence for each is weighed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from fairstem.errors import DataError

from ._indexing import Indexing, index_columns
from ._translations import Pairs, find_translations, no_lattice

__all__ = ["Evidence", "find_cell"]

Float = NDArray[np.float64]

#: each site of a cell needs this many columns on average
MIN_PER_SITE = 6
#: below this number of columns a cell needs more evidence
SMALL = 100
#: the smallest cell that explains this share of what the best cell explains is taken
ENOUGH = 0.85


@dataclass(frozen=True)
class Evidence:
    """How strongly the columns support a lattice; random points fail at least one of the three.

    Parameters
    ----------
    score
        Share of columns with partners at both translations where both are expected.
    occupied
        Share of the neighbouring cells (at ±a, ±b) of indexed columns that hold an indexed column.
    misfit
        Root-mean-square misfit over the largest misfit accepted; 0.7 for columns that fall anywhere.
    share
        Share of all columns that got indices.
    filled
        Share of the sites inside the convex hull of the indexed columns that hold a column.
    sites
        Number of sites per cell.
    """

    score: float
    occupied: float
    misfit: float
    share: float
    filled: float
    sites: int

    @property
    def order(self) -> float:
        """Occupied cells times sharpness: ≥ 0.5 for crystals, ≤ 0.25 for random or amorphous points."""
        return self.occupied * (1 - self.misfit)

    def sufficient(self, n: int) -> bool:
        """Tell whether `n` columns with this evidence form a lattice.

        The limits lie between crystals and hard-core random points. In a small table a lattice with a
        third of its sites empty can't be told from a wrong cell, so there more must be filled.
        """
        return (
            self.score >= 0.25
            and self.order * self.share**0.5 >= 0.3
            and self.filled >= (0.75 if n < SMALL else 0.6)
            and n * self.share >= MIN_PER_SITE * self.sites
        )


def find_cell(position: Float, pairs: Pairs) -> tuple[Indexing, Evidence]:
    """Find the primitive cell of the positions (heights ignored) and index the columns.

    Parameters
    ----------
    position
        (n, 2) positions (y, x), px.
    pairs
        Their nearest pairs.

    Raises
    ------
    DataError
        No lattice, or evidence too weak to call it one.
    """
    candidates = find_translations(position, pairs)
    # with many columns the counting error is nil and the first candidate is the answer
    tried = _try(position, pairs, candidates if len(position) < 600 else candidates[:1])
    if not any(evidence.filled * evidence.share > 0.8 for _, evidence in tried):
        # few columns, grains, or many holes: translations that score less may explain more
        tried += _try(position, pairs, find_translations(position, pairs, share_of_best=0.4))
    if not tried:
        raise no_lattice("no region of eight columns follows one")
    tried.sort(key=lambda pair: abs(float(np.linalg.det(pair[0].cell))))
    value = [evidence.filled * evidence.share for _, evidence in tried]
    # the smallest cell that explains nearly as much as the best one
    chosen = next(number for number, this in enumerate(value) if this >= ENOUGH * max(value))
    indexing, evidence = tried[chosen]
    if not evidence.sufficient(len(position)):
        order = evidence.order * evidence.share**0.5
        least = 75 if len(position) < SMALL else 60
        raise no_lattice(
            f"the best cell, of {evidence.sites} sites, repeats {evidence.score:.0%} of {len(position)} columns "
            f"(25 % needed), fills {evidence.filled:.0%} of its sites ({least} % and {MIN_PER_SITE} columns a "
            f"site needed), and has an order of {order:.2f} (0.3 needed; near 1 in a crystal, near 0.2 in an "
            "amorphous area)"
        )
    return indexing, evidence


def _try(
    position: Float, pairs: Pairs, candidates: list[tuple[Float, float]]
) -> list[tuple[Indexing, Evidence]]:
    """Index with each cell; cells that index nothing are left out."""
    tried = []
    for cell, score in candidates:
        try:
            indexing = index_columns(position, pairs, cell)
        except DataError:
            continue
        evidence = _evidence(indexing, score)
        tried.append((indexing, evidence))
        if evidence.filled * evidence.share >= ENOUGH:
            break  # candidates come by size: no larger one can be preferred to this
    return tried


def _evidence(indexing: Indexing, score: float) -> Evidence:
    rows = indexing.indexed
    keys = np.unique(np.column_stack([indexing.index, indexing.site])[rows], axis=0)
    low = keys.min(axis=0) - 1
    size = keys.max(axis=0) - low + 2
    grid = np.zeros(size, dtype=bool)
    grid[tuple((keys - low).T)] = True
    steps = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0))
    occupied = float(np.mean([grid[tuple((keys - low + np.array(step)).T)].mean() for step in steps]))
    misfit = float(np.sqrt(np.mean(indexing.misfit[rows] ** 2)) / indexing.radius)
    filled = len(keys) / _sites_in_hull(indexing)
    return Evidence(score, occupied, misfit, float(rows.mean()), filled, len(indexing.fraction))


def _sites_in_hull(indexing: Indexing) -> float:
    """Count the sites inside the hull of the indexed columns, in undistorted coordinates."""
    coordinates = indexing.coordinates[indexing.indexed]
    try:
        hull = ConvexHull(coordinates).equations
    except QhullError:
        return float("inf")  # all in one row: no evidence for a plane lattice
    low = np.floor(coordinates.min(axis=0)).astype(int) - 1
    high = np.ceil(coordinates.max(axis=0)).astype(int) + 2
    cells = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1])), -1).reshape(-1, 2)
    sites = (cells[:, None, :] + indexing.fraction).reshape(-1, 2)
    inside = np.ones(len(sites), dtype=bool)
    for normal_i, normal_j, offset in hull:
        inside &= sites @ (normal_i, normal_j) + offset < 1e-6
    return float(inside.sum())
