"""The interior of a particle as a reference: what is surface, the lattice of the rest, the errors of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fairstem.errors import CalibrationError, DataError

from ._calibration import known_cell
from ._columns import ColumnArrays, read_columns
from ._lattice_result import Lattice
from ._latticefit import design_matrix
from ._neighbours import bond_vectors

__all__ = ["Crystal", "Reference", "SharedError", "index_surface", "interior_lattice", "ruler", "variances"]

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]
CROSS = ["cov_y_y", "cov_y_x", "cov_x_y", "cov_x_x"]
MOST = 4000  # columns: the covariance of each with each is gone through
PAIRS = 200_000  # of it at a time
INTERIOR = 12  # columns: a reference made of fewer is mostly their own error
OWN_SITE = 0.3  # of the distance of neighbours: nearer to an empty site than that, a column belongs to it
MISFIT = 1.15  # long over short axis of a scan's distortion, beyond which the reference is another cell's


class SharedError(Protocol):
    """An error that columns share: `fairstem.register.Floor`, `fairstem.atoms.Support`."""

    def bond_covariance(self, columns: pd.DataFrame, first: ArrayLike, second: ArrayLike) -> pd.DataFrame:
        """Return cov_y_y, cov_y_x, cov_x_y, cov_x_x (px²) of pairs of row labels; equal labels: the variance."""


@dataclass(frozen=True)
class Crystal:
    """Indexed columns of a particle.

    Parameters
    ----------
    table, data
        The columns, and as arrays.
    design
        ``(n, 2 + sites)`` factors of origin, a, b and site offsets.
    bonds
        ``(m, 2)`` rows that are neighbours, both ways.
    number, full
        ``(n,)`` neighbours found, and neighbours of the same site in the bulk.
    cut
        ``(n,)`` True where a neighbour would lie beyond the image.
    interior
        ``(n,)`` True for the reference.
    """

    table: pd.DataFrame
    data: ColumnArrays
    design: Float
    bonds: Rows
    number: NDArray[np.int_]
    full: NDArray[np.int_]
    cut: Flags
    interior: Flags

    @property
    def surface(self) -> Rows:
        """Rows that lack neighbours, and have one."""
        return np.flatnonzero((self.number < self.full) & ~self.cut & (self.number > 0))


@dataclass(frozen=True)
class Reference:
    """The interior's lattice, and how positions become deviations from it.

    Parameters
    ----------
    cell
        ``(2, 2)`` rows a and b, px.
    ideal, deviation
        ``(n, 2)`` px, of all columns.
    project
        ``(n, n)``: ``deviation = project @ position``.
    """

    cell: Float
    ideal: Float
    deviation: Float
    project: Float


def index_surface(columns: pd.DataFrame, lattice: Lattice, depth: int) -> Crystal:
    """Find the neighbours of each column, and which columns are interior.

    Raises
    ------
    DataError
        No error bars, too many columns, or an interior of fewer than 12.
    """
    known = _indexed(lattice)
    known = known[known.index.isin(columns.index)]
    table = columns.loc[known.index]
    data = read_columns(table, at_least=INTERIOR)
    if data.covariance is None:
        raise DataError(
            "the columns have no error bars", needed="sd_y and sd_x", todo="pass a table of refine"
        )
    if len(table) > MOST:
        raise DataError(f"{len(table)} columns", needed=f"{MOST} at most", todo="crop to one particle")
    names = lattice.sites.index
    index, site = known[["i", "j"]].to_numpy(dtype=int), names.get_indexer(pd.Index(known["site"]))
    bonds, full, cut = _neighbours(index, site, lattice, data)
    number = np.bincount(bonds[:, 0], minlength=len(table))
    interior = (number == full) & ~cut
    for _ in range(depth - 1):
        outer = np.zeros(len(table), dtype=bool)
        outer[bonds[~interior[bonds[:, 1]], 0]] = True
        interior &= ~outer
    if interior.sum() < INTERIOR:
        raise DataError(
            f"{int(interior.sum())} columns are interior at depth {depth}",
            needed=f"{INTERIOR} or more",
            todo="a smaller depth, or a larger particle",
        )
    return Crystal(table, data, design_matrix(index, site, len(names)), bonds, number, full, cut, interior)


def _indexed(lattice: Lattice) -> pd.DataFrame:
    """Return i, j, site of the columns, with those at the rim that lie too far off for the lattice's fit."""
    extra = lattice.duplicates.loc[~lattice.duplicates["primary"], "row"]
    table = lattice.columns[~lattice.columns.index.isin(extra)]
    known = table["site"] != ""
    fraction, names = lattice.sites[["u", "v"]].to_numpy(dtype=float), lattice.sites.index.to_numpy()
    spacing = min(
        np.hypot(*((np.array([i, j]) + fraction[two] - fraction[one]) @ lattice.cell))
        for one, two, i, j in bond_vectors(lattice.cell, fraction, None)
    )
    taken = set(table.loc[known, ["i", "j", "site"]].itertuples(index=False, name=None))
    rest = table.loc[~known]
    at = (rest[["y", "x"]].to_numpy(dtype=float) - lattice.origin) @ np.linalg.inv(lattice.cell)
    away = at[:, None] - fraction
    cell = np.rint(away).astype(int)
    distance = np.linalg.norm((away - cell) @ lattice.cell, axis=2)
    adopted = []
    for row in np.argsort(distance.min(axis=1), kind="stable"):
        site = int(np.argmin(distance[row]))
        place = (*cell[row, site].tolist(), names[site])
        if distance[row, site] < OWN_SITE * spacing and place not in taken:
            taken.add(place)
            adopted.append((rest.index[row], *place))
    more = pd.DataFrame(adopted, columns=["label", "i", "j", "site"]).set_index("label")
    indexed = pd.concat([table.loc[known, ["i", "j", "site"]], more]) if adopted else table.loc[known]
    return indexed.loc[table.index.intersection(indexed.index), ["i", "j", "site"]]


def _neighbours(
    index: NDArray[np.int_], site: Rows, lattice: Lattice, data: ColumnArrays
) -> tuple[Rows, NDArray[np.int_], Flags]:
    """Return bonds (m, 2) both ways, neighbours of each column in the bulk, and whether the image cuts one off."""
    fraction = lattice.sites[["u", "v"]].to_numpy(dtype=float)
    low = index.min(axis=0) - 4
    row_of = np.full((*(np.ptp(index, axis=0) + 9), len(fraction)), -1)
    row_of[(*(index - low).T, site)] = np.arange(len(index))
    full, cut, pairs = np.zeros(len(index), dtype=int), np.zeros(len(index), dtype=bool), []
    for one, two, i, j in bond_vectors(lattice.cell, fraction, None):
        for start, end, sign in ((one, two, 1), (two, one, -1)):
            rows = np.flatnonzero(site == start)
            step = sign * np.array([i, j])
            partner = row_of[(*(index[rows] + step - low).T, np.full(len(rows), end))]
            full[rows] += 1
            pairs.append(np.column_stack([rows, partner])[partner >= 0])
            if data.shape is not None:
                goal = data.position[rows] + (step + fraction[end] - fraction[start]) @ lattice.cell
                beyond = ((goal < 0) | (goal > np.array(data.shape) - 1)).any(axis=1)
                cut[rows] |= beyond & (partner < 0)
    return np.concatenate(pairs), full, cut


def interior_lattice(crystal: Crystal, own: Float) -> Reference:
    """Fit a lattice to the interior, each column weighted by its error bar.

    Parameters
    ----------
    own
        ``(n, 2, 2)`` covariance of each position, px².

    Raises
    ------
    DataError
        The interior does not determine the lattice: one row, or a site that only the surface has.
    """
    inner = np.flatnonzero(crystal.interior)
    weight = 1 / np.maximum(np.trace(own[inner], axis1=1, axis2=2), 1e-12)
    design = crystal.design[inner]
    normal = design.T @ (weight[:, None] * design)
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    if np.linalg.cond(normal / np.outer(scale, scale)) > 1e10:
        raise DataError("the interior does not determine the lattice", needed="columns that span the plane")
    project = np.eye(len(crystal.design))
    solve = np.linalg.solve(normal, design.T * weight)
    project[:, inner] -= crystal.design @ solve
    position = crystal.data.position
    deviation = project @ position
    return Reference((solve @ position[inner])[1:3], position - deviation, deviation, project)


def ruler(crystal: Crystal, cell: Float, reference: float | tuple[float, ...] | None) -> tuple[Float, str]:
    """Return (2, 2) that turns vectors (y, x) in px into lengths, and their unit.

    Raises
    ------
    CalibrationError
        A reference that leaves the cell open, or is not this cell's.
    """
    size = crystal.data.pixel_size_nm
    if reference is None:
        return (np.eye(2), "px") if size is None else (np.diag(size) * 1000, "pm")
    scaled = cell * (np.ones(2) if size is None else np.array(size))
    a, b, angle = known_cell(scaled, reference)
    best: tuple[float, Float] | None = None
    # which of two like vectors is a, and whether their angle is acute, is the fit's choice
    for first, second in ((a, b), (b, a)):
        for turn in (angle, 180 - angle):
            true = np.array(
                [[0, first], second * np.array([np.sin(np.radians(turn)), np.cos(np.radians(turn))])]
            )
            true[1, 0] *= np.sign(np.linalg.det(cell)) * np.sign(np.linalg.det(true))
            stretch = np.linalg.svd(np.linalg.solve(scaled, true), compute_uv=False)
            if best is None or stretch[0] / stretch[1] < best[0]:
                best = float(stretch[0] / stretch[1]), np.linalg.solve(cell, true) * 1000
    if best is None or best[0] > MISFIT:
        raise CalibrationError(
            f"reference is {reference!r}",
            needed="(a, b, angle) of the primitive cell that the lattice has, lattice.a_nm, b_nm, angle_deg",
        )
    return best[1], "pm"


def own_covariance(crystal: Crystal, errors: Sequence[SharedError]) -> Float:
    """Return (n, 2, 2) px²: covariance of each position, from the table and all errors."""
    labels = crystal.table.index
    total = np.array(crystal.data.covariance)
    for error in errors:
        shared = error.bond_covariance(crystal.table, labels, labels)
        total += shared[CROSS].to_numpy(np.float64).reshape(-1, 2, 2)
    return total


def variances(weights: Float, crystal: Crystal, errors: Sequence[SharedError]) -> Float:
    """Return (r,): variance of ``weights (r, n, 2)`` contracted with the positions, px²."""
    n, labels = len(crystal.table), crystal.table.index
    counted = np.array(crystal.data.covariance)
    total = np.einsum("rni,nij,rnj->r", weights, counted, weights, optimize=True)
    if not errors:
        return np.asarray(total)
    step = max(1, PAIRS // n)
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        first, second = labels[np.repeat(rows, n)], labels[np.tile(np.arange(n), len(rows))]
        joint = np.zeros((len(rows) * n, 4))
        for error in errors:
            joint += error.bond_covariance(crystal.table, first, second)[CROSS].to_numpy(np.float64)
        # (rows, y x, all, y x) as one matrix
        block = joint.reshape(len(rows), n, 2, 2).transpose(0, 2, 1, 3).reshape(2 * len(rows), 2 * n)
        flat = weights.reshape(len(weights), -1)
        total += ((weights[:, rows].reshape(len(weights), -1) @ block) * flat).sum(axis=1)
    return np.asarray(np.maximum(total, 0.0))
