"""Displacement of columns from their lattice, and of one sub-lattice within another."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.errors import DataError

from ._columns import read_columns
from ._lattice_result import Lattice
from ._localfit import fit_locally, nearest_rows
from ._neighbours import first_gap

__all__ = ["displacement", "polarisation", "position_covariance", "strain"]

Float = NDArray[np.float64]


def position_covariance(lattice: Lattice, table: pd.DataFrame) -> Float:
    """Return (n, 2, 2) covariance of the positions, px²; without error bars, the measured local scatter."""
    covariance = read_columns(table).covariance
    if covariance is None:
        covariance = np.broadcast_to(np.eye(2) * lattice.scatter_px**2, (len(table), 2, 2)).copy()
    return covariance


def displacement(
    lattice: Lattice, *, reference: Literal["lattice", "local"] = "lattice", neighbours: int = 12
) -> pd.DataFrame:
    """Map the deviation of each column from its ideal position.

    **Prior.** "lattice": one rigid lattice; slow scan distortion and strain show up in the map.
    "local": the plane through the deviations of the surrounding columns; only what changes from one
    column to the next is left.

    Parameters
    ----------
    lattice
        From `lattice`.
    reference
        What the deviation is measured from.
    neighbours
        For "local": number of surrounding columns.

    Returns
    -------
    pandas.DataFrame
        One row an inlier (row labels kept): y, x, i, j, site, dy, dx, sd_dy, sd_dx (px); with
        calibration dy_pm, dx_pm, sd_dy_pm, sd_dx_pm. Error bars: of the position, and of the
        reference (fit, or plane). Without error bars in the table, the measured scatter takes
        their place (``attrs["errors_from"]``).

    Raises
    ------
    DataError
        Unknown `reference`, or fewer than four neighbours.

    Notes
    -----
    A column farther from its surroundings than five times the scatter is not an inlier and has no row;
    find it in ``lattice.columns``. Cost: O(n k).
    """
    if reference not in ("lattice", "local"):
        raise DataError(f"reference is {reference!r}", needed='"lattice" or "local"')
    if neighbours < 4:
        raise DataError(f"neighbours is {neighbours}", needed="at least 4")
    table = lattice.columns[lattice.columns["inlier"]]
    covariance = position_covariance(lattice, table)
    deviation = table[["dy", "dx"]].to_numpy(dtype=float)
    if reference == "local":
        ideal = table[["y_ideal", "x_ideal"]].to_numpy(dtype=float)
        near = nearest_rows(ideal, ideal, neighbours, skip_self=True)
        fit = fit_locally(ideal, ideal, *near, ridge=0.02)
        deviation = deviation - fit.of(deviation)[:, 0]
        covariance = covariance + fit.covariance(covariance)[:, :2, :2]
    else:
        covariance = covariance + _lattice_covariance(lattice, table)
    sd = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0))
    out = table[["y", "x", "i", "j", "site"]].assign(
        dy=deviation[:, 0], dx=deviation[:, 1], sd_dy=sd[:, 0], sd_dx=sd[:, 1]
    )
    return _finish(out, lattice, ("dy", "dx"))


def _lattice_covariance(lattice: Lattice, table: pd.DataFrame) -> Float:
    """Return (n, 2, 2) covariance of the ideal positions, from that of origin, a and b."""
    fraction = lattice.sites.loc[table["site"], ["u", "v"]].to_numpy(dtype=float)
    factor = np.column_stack([np.ones(len(table)), table[["i", "j"]].to_numpy(dtype=float) + fraction])
    blocks = lattice.covariance.reshape(3, 2, 3, 2)
    return np.asarray(np.einsum("np,piqj,nq->nij", factor, blocks, factor))


def _finish(out: pd.DataFrame, lattice: Lattice, names: tuple[str, str]) -> pd.DataFrame:
    if lattice.pixel_size_nm is not None:
        for name, size in zip(names, lattice.pixel_size_nm, strict=True):
            out[f"{name}_pm"], out[f"sd_{name}_pm"] = 1000 * size * out[name], 1000 * size * out[f"sd_{name}"]
    source = "positions" if {"sd_y", "sd_x"} <= set(lattice.columns.columns) else "scatter"
    out.attrs = {"pixel_size_nm": lattice.pixel_size_nm, "errors_from": source}
    return out


def polarisation(lattice: Lattice, site: str = "B", around: str = "A") -> pd.DataFrame:
    """Measure how far the columns of one site are from the centre of their neighbours of another.

    **Prior.** Where the structure is centred, a column sits in the centre of its neighbours.
    The vector is free of drift, slow distortion and strain: all act on both alike.

    Parameters
    ----------
    lattice
        With at least two sites.
    site, around
        Labels of the displaced site and of the one that makes the cage.

    Returns
    -------
    pandas.DataFrame
        One row a column of `site` whose cage is complete (row labels kept): y, x, i, j, py, px, sd_py,
        sd_px (px), n (columns of the cage); with calibration py_pm, px_pm and their errors.

    Raises
    ------
    DataError
        Unknown labels, equal labels, or no complete cage.

    Notes
    -----
    The cage is the first shell of `around` columns about the ideal place of `site`. Its mean error is
    that of n columns; py, px are offsets of columns, not a polarisation in C/m².
    """
    for name in (site, around):
        if name not in lattice.sites.index:
            raise DataError(
                f"the lattice has no site {name!r}", needed=f"one of {', '.join(lattice.sites.index)}"
            )
    if site == around:
        raise DataError(f"site and around are both {site!r}", needed="two different sites")
    offsets = _cage(lattice, site, around)
    table = lattice.columns[lattice.columns["inlier"]]
    index = table[["i", "j"]].to_numpy(dtype=int)
    low, size = index.min(axis=0) - 4, np.ptp(index, axis=0) + 9
    row_of = np.full(size, -1)
    cage = (table["site"] == around).to_numpy()
    row_of[tuple((index[cage] - low).T)] = np.flatnonzero(cage)
    rows = np.flatnonzero((table["site"] == site).to_numpy())
    goal = index[rows][:, None] + offsets - low
    ok = ((goal >= 0) & (goal < size)).all(axis=-1)
    partner = np.where(ok, row_of[tuple(np.moveaxis(np.where(ok[..., None], goal, 0), -1, 0))], -1)
    whole = (partner >= 0).all(axis=1)
    if not whole.any():
        raise DataError(
            f"no column of site {site} has all {len(offsets)} neighbours of site {around}",
            needed="more columns",
        )
    rows, partner = rows[whole], partner[whole]
    position, covariance = table[["y", "x"]].to_numpy(dtype=float), position_covariance(lattice, table)
    vector = position[rows] - position[partner].mean(axis=1)
    spread = covariance[rows] + covariance[partner].sum(axis=1) / len(offsets) ** 2
    sd = np.sqrt(np.maximum(np.diagonal(spread, axis1=1, axis2=2), 0))
    out = table.iloc[rows][["y", "x", "i", "j"]].assign(
        py=vector[:, 0], px=vector[:, 1], sd_py=sd[:, 0], sd_px=sd[:, 1], n=len(offsets)
    )
    return _finish(out, lattice, ("py", "px"))


def _cage(lattice: Lattice, site: str, around: str) -> NDArray[np.int_]:
    """Return (n, 2) cell steps from a column of `site` to the `around` columns of its first shell."""
    between = (lattice.sites.loc[around, ["u", "v"]] - lattice.sites.loc[site, ["u", "v"]]).to_numpy(
        dtype=float
    )
    steps = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4), indexing="ij"), -1).reshape(-1, 2)
    length = np.linalg.norm((steps + between) @ lattice.cell, axis=1)
    order = np.argsort(length, kind="stable")
    limit = first_gap(length[order[:12]])
    return np.asarray(steps[order][length[order] <= limit])


def strain(lattice: Lattice, *, neighbours: int = 12) -> pd.DataFrame:
    """Measure the local strain tensor and rotation at each column.

    **Prior.** The strain is uniform over the `neighbours` columns around each one.

    Parameters
    ----------
    lattice
        The reference: strains are relative to its a and b (the mean of the crystal).
    neighbours
        Number of columns in each local fit. More: smaller errors, coarser map; 12 reach about one and
        a half cells.

    Returns
    -------
    pandas.DataFrame
        One row a column whose neighbours span a plane (row labels kept): y, x, i, j, site, exx, eyy,
        exy, rotation (radians, from +x towards +y), and sd_exx, sd_eyy, sd_exy, sd_rotation.

    Raises
    ------
    DataError
        Fewer than four neighbours, or no column has enough of them.

    Notes
    -----
    A plane is fitted to the deviations of the column and its neighbours, positions in units of the
    recorded pixels (scaled by the calibration where pixels are not square). Errors follow from those
    of the positions. Neighbouring values share columns and are correlated. Cost: O(n k).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from fairstem.atoms._lattice import lattice
    >>> grid = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2) * 20
    >>> grid[:, 1] += 1e-4 * grid[:, 1] ** 2
    >>> local = strain(lattice(pd.DataFrame(grid, columns=["y", "x"])))
    >>> bool(local.exx.max() > 0.01 and local.eyy.abs().max() < 1e-3)
    True
    """
    if neighbours < 4:
        raise DataError(f"neighbours is {neighbours}", needed="at least 4")
    table = lattice.columns[lattice.columns["inlier"]]
    scale = np.ones(2) if lattice.pixel_size_nm is None else np.array(lattice.pixel_size_nm)
    scale = scale / scale.mean()
    ideal = table[["y_ideal", "x_ideal"]].to_numpy(dtype=float) * scale
    deviation = table[["dy", "dx"]].to_numpy(dtype=float) * scale
    fit = fit_locally(ideal, ideal, *nearest_rows(ideal, ideal, neighbours + 1))
    if not fit.determined.any():
        raise DataError(
            f"no column has neighbours around it among {len(table)}", needed="at least four in a patch"
        )
    slope = fit.of(deviation)[:, 1:]
    covariance = fit.covariance(position_covariance(lattice, table) * np.outer(scale, scale))[:, 2:, 2:]
    # slope[:, direction, component]: d(dy)/dy, d(dx)/dy, d(dy)/dx, d(dx)/dx
    flat = slope.reshape(-1, 4)
    maps = {
        "exx": np.array([0, 0, 0, 1.0]), "eyy": np.array([1.0, 0, 0, 0]),
        "exy": np.array([0, 0.5, 0.5, 0]), "rotation": np.array([0, -0.5, 0.5, 0]),
    }  # fmt: skip
    out = table[["y", "x", "i", "j", "site"]].copy()
    for name, weight in maps.items():
        out[name] = flat @ weight
        out[f"sd_{name}"] = np.sqrt(np.maximum(np.einsum("i,nij,j->n", weight, covariance, weight), 0))
    out = out[fit.determined]
    out.attrs = {"pixel_size_nm": lattice.pixel_size_nm}
    return out
