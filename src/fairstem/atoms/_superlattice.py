"""Does a larger cell repeat the crystal, by height or by displacement?

Positions alone give the smallest cell: the half cell of SrTiO3 [001], where Sr and Ti/O columns
sit at equivalent places. Every sublattice of index 2 and 3 is tested: do its cosets differ in
height, or are they displaced against each other, beyond the scatter within each coset?
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from ._indexing import Indexing
from ._translations import Pairs, canonical_cell

__all__ = ["change_cell", "find_superlattice"]

Float = NDArray[np.float64]

#: the sublattices of index 2 and 3, as rows of integers in the old basis (Hermite normal forms)
SUBLATTICES = tuple(np.array(rows) for rows in (
    [[1, 1], [0, 2]], [[2, 0], [0, 1]], [[1, 0], [0, 2]],
    [[3, 0], [0, 1]], [[1, 0], [0, 3]], [[1, 1], [0, 3]], [[1, 2], [0, 3]],
))  # fmt: skip


def find_superlattice(
    position: Float,
    pairs: Pairs,
    indexing: Indexing,
    height: Float | None,
    *,
    n_sites: int | None = None,
    max_sites: int = 12,
) -> Indexing:
    """Enlarge the cell as long as the cosets of a sublattice differ significantly.

    Parameters
    ----------
    position
        (n, 2) positions (y, x), px.
    pairs
        Their nearest pairs.
    indexing
        Indices in the primitive cell of the positions.
    height
        (n,) heights, or None.
    n_sites
        Number of sites per cell wanted: enlarge until reached, whatever the significance, and no
        further. None lets the significance decide.
    max_sites
        Never go beyond this many sites per cell.

    Returns
    -------
    Indexing
        In the enlarged cell; the same object when no larger cell is called for.
    """
    wanted = max_sites if n_sites is None else n_sites
    while len(indexing.fraction) < wanted:
        features = _features(position, pairs, indexing, height)
        best, best_share = None, -np.inf
        for matrix in SUBLATTICES:
            if len(indexing.fraction) * round(np.linalg.det(matrix)) > wanted:
                continue
            for coset, values in _cosets(indexing, matrix, features):
                share, significant = _contrast(coset, values)
                if (significant or n_sites is not None) and share > best_share:
                    best, best_share = matrix, share
        if best is None:
            break
        indexing = change_cell(indexing, best)
    return indexing


def _features(position: Float, pairs: Pairs, indexing: Indexing, height: Float | None) -> list[Float]:
    """Return what is compared: heights over their local mean, and displacements from the local mean."""
    k = min(24, pairs.neighbour.shape[1])
    near = pairs.neighbour[:, :k]
    features = []
    inside = indexing.indexed[near].astype(float)
    inside_all = inside.sum(axis=1) + 1
    ideal = indexing.ideal
    # the difference of neighbouring displacements is free of any common origin, drift and slow distortion
    step = position[near] - position[:, None] - (ideal[near] - ideal[:, None])
    shift = -(step * inside[..., None]).sum(axis=1) / inside_all[:, None]
    spacing = pairs.spacing
    features += [shift[:, 0] / spacing, shift[:, 1] / spacing]
    if height is not None and np.median(height) > 0:
        mean = (height + (height[near] * inside).sum(axis=1)) / inside_all
        features.append(height / np.maximum(mean, 0.05 * float(np.median(height))))
    return features


def _cosets(
    indexing: Indexing, matrix: NDArray[np.int_], features: list[Float]
) -> Iterator[tuple[NDArray[np.int_], tuple[Float, float]]]:
    """Yield, for each site and feature, the cosets of its columns, their values and the least effect."""
    order = round(np.linalg.det(matrix))
    coset = _coset_number(indexing.index, matrix, order)
    for site in range(len(indexing.fraction)):
        rows = indexing.site == site
        for number, values in enumerate(features):
            # below 2 % of the spacing, or 8 % of the height, a difference is no reason for a larger cell
            yield coset[rows], (values[rows], 0.02 if number < 2 else 0.08)


def _contrast(coset: NDArray[np.int_], values: tuple[Float, float]) -> tuple[float, bool]:
    """Return the share of the variance that lies between the cosets, and whether it is significant."""
    value, least = values
    number = np.bincount(coset) if len(coset) else np.zeros(1, dtype=int)
    groups = len(number)
    if groups < 2 or number.min() < 5:
        return -np.inf, False
    middle = float(np.median(value))
    reach = 4 * 1.4826 * float(np.median(np.abs(value - middle)))
    # single strange columns must not decide; both levels of a true superlattice lie inside the reach
    value = np.clip(value, middle - reach, middle + reach) if reach > 0 else value
    mean = np.bincount(coset, value) / number
    within = float(np.sum((value - mean[coset]) ** 2))
    between = float(np.sum(number * (mean - value.mean()) ** 2))
    share = between / max(between + within, 1e-300)
    freedom = len(value) - groups
    difference, scatter = float(np.ptp(mean)), (within / freedom) ** 0.5
    # significance grows with the number of columns; a real second site also stands out from the scatter
    if difference <= max(least, scatter):
        return share, False
    ratio = between / (groups - 1) / max(within / freedom, 1e-300)
    return share, float(f_distribution.sf(ratio, groups - 1, freedom)) < 1e-6


def _coset_number(index: NDArray[np.int_], matrix: NDArray[np.int_], order: int) -> NDArray[np.int_]:
    """Number the cosets of the sublattice spanned by the rows of `matrix` (Hermite normal form)."""
    adjugate = np.array([[matrix[1, 1], -matrix[0, 1]], [-matrix[1, 0], matrix[0, 0]]])
    rest = (index @ adjugate) % order
    # fractional coordinates in the new cell, times its index: one number for each of the few values
    codes = {tuple(code): number for number, code in enumerate(_representatives(adjugate, order)[1])}
    table = np.full((order, order), -1)
    for code, number in codes.items():
        table[code] = number
    return np.asarray(table[rest[:, 0], rest[:, 1]])


def _representatives(
    adjugate: NDArray[np.int_], order: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    members: list[tuple[int, int]] = []
    codes: list[tuple[int, int]] = []
    for i in range(order):
        for j in range(order):
            code = tuple(int(value) for value in (np.array([i, j]) @ adjugate) % order)
            if code not in codes:
                members.append((i, j))
                codes.append((code[0], code[1]))
    return members, codes


def change_cell(indexing: Indexing, matrix: NDArray[np.int_], *, reduce: bool = True) -> Indexing:
    """Re-index in the cell ``matrix @ cell`` (integers, determinant ≥ 1), Gauss-reduced.

    Examples
    --------
    >>> import numpy as np
    >>> half = Indexing(np.array([[0., 1.], [1., 0.]]), np.zeros((1, 2)), np.array([[0, 0], [1, 0]]),
    ...                 np.array([0, 0]), np.zeros(2), 0.3)
    >>> whole = change_cell(half, np.array([[1, 1], [0, 2]]))
    >>> len(whole.fraction), whole.site.tolist()
    (2, [0, 1])
    """
    if reduce:
        matrix = canonical_cell(matrix @ indexing.cell)[1] @ matrix
    order = abs(round(np.linalg.det(matrix)))
    sign = 1 if np.linalg.det(matrix) > 0 else -1
    adjugate = sign * np.array([[matrix[1, 1], -matrix[0, 1]], [-matrix[1, 0], matrix[0, 0]]])
    members, codes = _representatives(adjugate, order)
    table = np.full((order, order), -1)
    for number, code in enumerate(codes):
        table[code] = number
    scaled = indexing.index @ adjugate
    coset = table[scaled[:, 0] % order, scaled[:, 1] % order]
    old = indexing.fraction
    # new fraction of (site, coset) = (member + old fraction) in the new basis; whole part goes to the index
    fraction = ((np.array(members)[None] + old[:, None]) @ adjugate / order).reshape(-1, 2)
    whole = np.floor(fraction + 1e-9)
    site = np.where(indexing.site >= 0, indexing.site * order + coset, -1)
    base = np.array(codes)[coset] if order > 1 else np.zeros_like(scaled)
    carried = (np.array(members) @ adjugate - np.array(codes))[coset]
    index = (scaled - base - carried) // order + whole.astype(int)[site]
    index = np.where(site[:, None] >= 0, index, 0)
    cell = matrix @ indexing.cell
    return Indexing(cell, fraction - whole, index, site, indexing.misfit, indexing.radius)
