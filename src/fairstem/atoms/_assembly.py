"""From indexed columns to a `Lattice`: site order, fit, tables, checks."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.priors import PriorCheck

from ._calibration import calibrate_scan
from ._cellsearch import Evidence
from ._columns import ColumnArrays
from ._indexing import Indexing
from ._lattice_result import Lattice
from ._latticefit import AffineFit, design_matrix, fit_lattice, propagate
from ._localfit import local_misfit
from ._occupancy import Occupancy, find_occupancy, primary_columns
from ._superlattice import change_cell
from ._translations import canonical_cell, nearest_pairs

__all__ = ["MIN_COLUMNS", "NAMES", "assemble_lattice", "order_sites"]

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]
#: labels of the sites, highest columns first
NAMES = string.ascii_uppercase
#: fewer columns than this can't show a lattice in two dimensions
MIN_COLUMNS = 8


def order_sites(indexing: Indexing, data: ColumnArrays) -> Indexing:
    """Number the sites by falling height and put site 0 at the corner of its cell."""
    fraction = indexing.fraction
    if data.height is not None:
        level = [float(np.median(data.height[indexing.site == number])) for number in range(len(fraction))]
        order = np.argsort(-np.array(level), kind="stable")
    else:
        order = np.lexsort(np.round(fraction % 1.0, 2).T)
    rank = np.argsort(order)
    moved = fraction[order] - fraction[order[0]]
    whole = np.floor(moved + 1e-3)
    site = np.where(indexing.site >= 0, rank[indexing.site], -1)
    index = indexing.index + whole.astype(int)[site]
    corner = np.median(index[indexing.indexed], axis=0).astype(int)
    index = np.where(site[:, None] >= 0, index - corner, 0)
    return Indexing(indexing.cell, moved - whole, index, site, indexing.misfit, indexing.radius)


def _fit(data: ColumnArrays, indexing: Indexing, primary: Flags) -> tuple[AffineFit, Flags, float]:
    """Return the fit, the inliers and the local scatter."""
    rows = np.flatnonzero(primary)
    n_sites = len(indexing.fraction)
    start = indexing.ideal[rows]
    # displacements from a plain fit; what it gets wrong is the same for a column and its neighbours
    design = design_matrix(indexing.index[rows], indexing.site[rows], n_sites)
    shift = data.position[rows] - design @ np.linalg.lstsq(design, data.position[rows], rcond=None)[0]
    _, scatter, good = local_misfit(start, shift)
    inlier = np.zeros(len(primary), dtype=bool)
    inlier[rows[good]] = True
    used = inlier & ~data.edge
    present = np.bincount(indexing.site[used], minlength=n_sites)
    # columns cut by the border are biased: leave them out unless a site would be left with nothing
    used = used if present.min() >= 3 and used.sum() >= MIN_COLUMNS else inlier
    error = None if data.covariance is None else data.covariance[used]
    fit = fit_lattice(data.position[used], indexing.index[used], indexing.site[used], n_sites, error)
    return fit, inlier, scatter


def assemble_lattice(
    columns: pd.DataFrame,
    data: ColumnArrays,
    indexing: Indexing,
    evidence: Evidence,
    reference: float | tuple[float, ...] | None,
) -> Lattice:
    """Fit the lattice to the indexed columns and gather its tables and checks."""
    primary = primary_columns(indexing.index, indexing.site, indexing.misfit)
    fit, inlier, scatter = _fit(data, indexing, primary)
    for _ in range(2):
        matrix = canonical_cell(fit.value[1:3])[1]
        if np.array_equal(matrix, np.eye(2)):
            break
        # the fit over all columns may order |a| and |b| otherwise than the few cells of the start
        indexing = order_sites(change_cell(indexing, matrix, reduce=False), data)
        fit, inlier, scatter = _fit(data, indexing, primary)
    indexing, fit = _centre(data, indexing, fit, inlier)
    cell, origin = fit.value[1:3], fit.value[0]
    fraction = np.vstack([np.zeros((1, 2)), fit.value[3:] @ np.linalg.inv(cell)])
    ideal = (indexing.index + fraction[indexing.site]) @ cell + origin
    rows = np.flatnonzero(primary)
    occupancy = find_occupancy(
        data.position[rows], indexing.index[rows], indexing.site[rows], cell, fraction,
        ideal=ideal[rows], shape=data.shape, origin=origin, inlier=inlier[rows],
    )  # fmt: skip
    table = _table(columns, data, indexing, ideal, inlier)
    calibration = None
    if reference is not None and data.pixel_size_nm is not None:
        scale = np.tile(data.pixel_size_nm, 2)
        calibration = calibrate_scan(
            cell * data.pixel_size_nm, fit.covariance[2:6, 2:6] * np.outer(scale, scale), reference
        )
    missing = occupancy.missing.assign(site=[NAMES[number] for number in occupancy.missing["site"]])
    return Lattice(
        a=cell[0].copy(), b=cell[1].copy(), origin=origin.copy(), covariance=fit.covariance[:6, :6],
        sites=_site_table(data, indexing, fit, inlier, occupancy), columns=table, missing=missing,
        duplicates=_duplicates(table, primary), scatter_px=scatter, intrinsic_px=fit.intrinsic,
        pixel_size_nm=data.pixel_size_nm, calibration=calibration,
        priors=_priors(data, indexing, fit, evidence, scatter),
    )  # fmt: skip


def _centre(
    data: ColumnArrays, indexing: Indexing, fit: AffineFit, inlier: Flags
) -> tuple[Indexing, AffineFit]:
    """Move cell (0, 0) to the centre of the columns, where origin and cell are least correlated."""
    middle = data.position[inlier].mean(axis=0)
    shift = np.rint((middle - fit.value[0]) @ np.linalg.inv(fit.value[1:3])).astype(int)
    transform = np.eye(len(fit.value))
    transform[0, 1:3] = shift
    value = transform @ fit.value
    big = np.kron(transform, np.eye(2))
    index = np.where(indexing.indexed[:, None], indexing.index - shift, 0)
    moved = Indexing(indexing.cell, indexing.fraction, index, indexing.site, indexing.misfit, indexing.radius)
    return moved, AffineFit(value, big @ fit.covariance @ big.T, fit.residual, fit.intrinsic, fit.correlation)


def _table(
    columns: pd.DataFrame, data: ColumnArrays, indexing: Indexing, ideal: Float, inlier: Flags
) -> pd.DataFrame:
    known = indexing.indexed
    ideal = np.where(known[:, None], ideal, 0.0)
    deviation = np.where(known[:, None], data.position - ideal, 0.0)
    new: dict[str, Any] = {
        "i": np.where(known, indexing.index[:, 0], 0),
        "j": np.where(known, indexing.index[:, 1], 0),
        "site": [NAMES[number] if number >= 0 else "" for number in indexing.site],
        "y_ideal": ideal[:, 0], "x_ideal": ideal[:, 1], "dy": deviation[:, 0], "dx": deviation[:, 1],
        "inlier": inlier,
    }  # fmt: skip
    if data.pixel_size_nm is not None:
        new["dy_pm"] = 1000 * deviation[:, 0] * data.pixel_size_nm[0]
        new["dx_pm"] = 1000 * deviation[:, 1] * data.pixel_size_nm[1]
    table = columns.assign(**new)
    if data.pixel_size_nm is not None:
        table.attrs["pixel_size_nm"] = data.pixel_size_nm
    return table


def _site_table(
    data: ColumnArrays, indexing: Indexing, fit: AffineFit, inlier: Flags, occupancy: Occupancy
) -> pd.DataFrame:
    def fractions(flat: Float) -> Float:
        value = flat.reshape(-1, 2)
        return np.asarray((value[3:] @ np.linalg.inv(value[1:3])).ravel())

    n_sites = len(indexing.fraction)
    uv, sd = np.zeros((n_sites, 2)), np.zeros((n_sites, 2))
    if n_sites > 1:
        flat = fit.value.ravel()
        uv[1:] = fractions(flat).reshape(-1, 2)
        sd[1:] = np.sqrt(np.maximum(np.diag(propagate(fractions, flat, fit.covariance)), 0)).reshape(-1, 2)
    members = [np.flatnonzero(inlier & (indexing.site == number)) for number in range(n_sites)]
    table = pd.DataFrame({"u": uv[:, 0], "v": uv[:, 1], "sd_u": sd[:, 0], "sd_v": sd[:, 1]})
    if data.height is not None:
        table["height"] = [float(data.height[rows].mean()) if len(rows) else 0.0 for rows in members]
        table["sd_height"] = [
            float(data.height[rows].std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else 0.0
            for rows in members
        ]
    table["n"] = [len(rows) for rows in members]
    table["found"], table["missing"] = occupancy.found, occupancy.empty
    table["completeness"] = occupancy.found / np.maximum(occupancy.found + occupancy.empty, 1)
    table.index = pd.Index(list(NAMES[:n_sites]), name="site")
    return table


def _duplicates(table: pd.DataFrame, primary: Flags) -> pd.DataFrame:
    indexed = table.assign(row=table.index, primary=primary)[table["site"] != ""]
    doubled = indexed[indexed.duplicated(["i", "j", "site"], keep=False)]
    out = doubled[["i", "j", "site", "row", "primary"]].sort_values(["i", "j", "site"], kind="stable")
    out.attrs = {}
    return out.reset_index(drop=True)


def _priors(
    data: ColumnArrays, indexing: Indexing, fit: AffineFit, evidence: Evidence, scatter: float
) -> list[PriorCheck]:
    spacing = nearest_pairs(data.position, 1).spacing
    return [
        PriorCheck(
            "periodic", "the columns are one crystal", float(indexing.indexed.mean()), 0.8, ">=",
            "share of the columns with unit-cell indices",
            "more grains, an amorphous part or false columns: select one grain, or detect more strictly",
        ),
        PriorCheck(
            "translations", "two translations repeat the columns", evidence.score, 0.5, ">=",
            "share of columns with partners at both translations",
            "many columns are missing or false: look at `missing` and at columns that are not inliers",
        ),
        PriorCheck(
            "sharp-sites", "columns scatter little about their sites", scatter / spacing, 0.15, "<=",
            "scatter about the surroundings over the distance of nearest columns",
            "refine the positions, or average more frames",
        ),
        PriorCheck(
            "one-lattice", "deviations of neighbouring columns are independent", fit.correlation, 0.3, "<=",
            "correlation of neighbouring deviations",
            "strain or scan distortion: use displacement and strain maps; errors of a and b come from blocks",
        ),
    ]  # fmt: skip
