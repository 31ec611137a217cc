"""Nearest neighbours of atom columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fairstem.errors import DataError

from ._columns import read_columns
from ._lattice_result import Lattice

__all__ = ["bond_vectors", "first_gap", "first_shell", "neighbours"]

Float = NDArray[np.float64]
#: a gap counts as the end of the first shell when it is this close to the widest one
NEARLY_WIDEST = 0.9


def neighbours(
    columns: pd.DataFrame | Lattice, k: int | None = None, cutoff: float | None = None
) -> pd.DataFrame:
    """List pairs of neighbouring columns, each pair once.

    **Prior.** None with `k` or `cutoff`. Without them: distances fall into shells with a gap between.

    Parameters
    ----------
    columns
        Column table with y, x (px); or a `Lattice`: then pairs are those of its ideal cell (no false
        columns, right at strained places), and `k` is not allowed.
    k
        Take the k nearest of every column; a pair is listed when either column has the other among
        them.
    cutoff
        Take all pairs up to this distance, px.

    Returns
    -------
    pandas.DataFrame
        first, second (row labels), dy, dx (second minus first, px), length (px); with a lattice also
        kind ("A-B") and direction (number of the bond vector of the cell). Sorted by first, second.

    Raises
    ------
    DataError
        Fewer than two columns, or `k`, `cutoff` not positive.

    Notes
    -----
    Choosing: leave both out for the first shell. It ends at the first wide gap between the median
    distances to the 1st, 2nd, … neighbour; columns of one dumbbell are then each other's only
    neighbours, so give `cutoff` to have bonds between dumbbells as well.
    Cost: O(n log n).

    Examples
    --------
    >>> import pandas as pd
    >>> square = pd.DataFrame({"y": [0.0, 0.0, 10.0, 10.0], "x": [0.0, 10.0, 0.0, 10.0]})
    >>> neighbours(square)[["first", "second"]].values.tolist()
    [[0, 1], [0, 2], [1, 3], [2, 3]]
    """
    _check(k, cutoff)
    if isinstance(columns, Lattice):
        if k is not None:
            raise DataError(
                "k is given with a lattice", needed="cutoff, or neither", todo="pass lattice.columns"
            )
        return _lattice_pairs(columns, cutoff)
    data = read_columns(columns, at_least=2)
    tree = cKDTree(data.position)
    if k is not None:
        found = tree.query(data.position, min(k, len(data) - 1) + 1)[1]
        one = np.repeat(np.arange(len(data)), found.shape[1])
        pairs = np.sort(np.column_stack([one, found.ravel()]), axis=1)
        pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    else:
        pairs = tree.query_pairs(
            first_shell(data.position) if cutoff is None else cutoff, output_type="ndarray"
        )
        pairs = pairs[np.lexsort(pairs.T[::-1])]
    return _pair_table(columns.index, data.position, pairs)


def _check(k: int | None, cutoff: float | None) -> None:
    if k is not None and cutoff is not None:
        raise DataError("k and cutoff are both given", needed="one of them")
    if k is not None and (not isinstance(k, int | np.integer) or k < 1):
        raise DataError(f"k is {k!r}", needed="a whole number from 1")
    if cutoff is not None and not (np.isfinite(cutoff) and cutoff > 0):
        raise DataError(f"cutoff is {cutoff!r}", needed="a distance in px above 0")


def _pair_table(labels: pd.Index, position: Float, pairs: NDArray[np.intp]) -> pd.DataFrame:
    step = position[pairs[:, 1]] - position[pairs[:, 0]]
    return pd.DataFrame({
        "first": labels[pairs[:, 0]], "second": labels[pairs[:, 1]],
        "dy": step[:, 0], "dx": step[:, 1], "length": np.linalg.norm(step, axis=1),
    })  # fmt: skip


def first_shell(position: Float) -> float:
    """Return the distance at which the first shell of neighbours ends, px.

    The median distances to the 1st, 2nd, … 12th neighbour rise in steps; the shell ends in the middle
    of the first step that is nearly as wide as the widest.

    Examples
    --------
    >>> grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), -1).reshape(-1, 2)
    >>> round(first_shell(grid), 2)
    1.19
    """
    k = min(12, len(position) - 1)
    distance = cKDTree(position).query(position, k + 1)[0][:, 1:]
    # columns at the rim lack neighbours: the quarter with the shortest reach are the inner ones
    inner = distance[:, -1] <= np.quantile(distance[:, -1], 0.5)
    return first_gap(np.median(distance[inner], axis=0))


def first_gap(shell: Float) -> float:
    """Return the middle of the first nearly widest gap in rising distances."""
    shell = np.maximum(shell, 1e-12)
    if len(shell) == 1:
        return float(1.2 * shell[0])
    ratio = shell[1:] / shell[:-1]
    if ratio.max() < 1.05:
        return float(1.2 * shell[-1])
    step = int(np.argmax(ratio - 1 >= NEARLY_WIDEST * (ratio.max() - 1)))
    return float(np.sqrt(shell[step] * shell[step + 1]))


def _lattice_pairs(lattice: Lattice, cutoff: float | None) -> pd.DataFrame:
    """Pair columns by their indices: every bond vector of the ideal cell up to the cutoff."""
    names = list(lattice.sites.index)
    fraction = lattice.sites[["u", "v"]].to_numpy(dtype=float)
    table = lattice.columns[(lattice.columns["site"] != "") & ~lattice.columns.index.isin(_extra(lattice))]
    site = pd.Index(names).get_indexer(table["site"])
    index = table[["i", "j"]].to_numpy(dtype=int)
    vectors = bond_vectors(lattice.cell, fraction, cutoff)
    low = index.min(axis=0) - 12
    size = index.max(axis=0) - low + 13
    row_of = np.full((*size, len(names)), -1)
    row_of[(*(index - low).T, site)] = np.arange(len(table))
    position = table[["y", "x"]].to_numpy(dtype=float)
    pairs, kinds, directions = [], [], []
    for number, (one, two, step_i, step_j) in enumerate(vectors):
        rows = np.flatnonzero(site == one)
        goal = index[rows] + (step_i, step_j) - low
        ok = ((goal >= 0) & (goal < size)).all(axis=1)
        partner = np.where(ok, row_of[(*np.where(ok[:, None], goal, 0).T, np.full(len(rows), two))], -1)
        there = partner >= 0
        pairs.append(np.column_stack([rows[there], partner[there]]))
        kinds += [f"{names[one]}-{names[two]}"] * int(there.sum())
        directions += [number] * int(there.sum())
    both = np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=int)
    out = _pair_table(table.index, position, both).assign(kind=kinds, direction=directions)
    return out.sort_values(["direction", "first", "second"], kind="stable").reset_index(drop=True)


def _extra(lattice: Lattice) -> list[object]:
    """Return the labels of second columns on one site."""
    return list(lattice.duplicates.loc[~lattice.duplicates["primary"], "row"])


def bond_vectors(cell: Float, fraction: Float, cutoff: float | None) -> list[tuple[int, int, int, int]]:
    """List the bonds of the ideal cell, each once: (site, site, Δi, Δj) with site ≤ site.

    Without a cutoff: the first shell, by the first wide gap in the distances of each site.
    """
    reach = 3
    steps = np.stack(
        np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1), indexing="ij"), -1
    )
    steps = steps.reshape(-1, 2)
    found: list[tuple[float, int, int, int, int]] = []
    for one in range(len(fraction)):
        for two in range(len(fraction)):
            vector = (steps + fraction[two] - fraction[one]) @ cell
            length = np.linalg.norm(vector, axis=1)
            found += [
                (float(size), one, two, int(i), int(j))
                for size, (i, j) in zip(length, steps, strict=True)
                if size > 1e-6
            ]
    kept = set()
    for site in range(len(fraction)):
        own = sorted(bond for bond in found if bond[1] == site)
        limit = cutoff if cutoff is not None else first_gap(np.array([bond[0] for bond in own[:12]]))
        kept |= {bond[1:] for bond in own if bond[0] <= limit}
    unique = set()
    for one, two, i, j in kept:
        forward = one < two or (one == two and ((j, i) > (0, 0)))
        unique.add((one, two, i, j) if forward else (two, one, -i, -j))
    return sorted(unique)
