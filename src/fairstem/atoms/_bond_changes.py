"""Bond lengths of surface atoms against the interior of the same particle, with error bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.priors import PriorCheck

from ._interior import (
    Crystal,
    Reference,
    SharedError,
    index_surface,
    interior_lattice,
    own_covariance,
    ruler,
    variances,
)
from ._lattice import lattice as fit_lattice
from ._lattice_result import Lattice

__all__ = ["bond_changes"]

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
SIGNIFICANT = 2.0  # error bars


def bond_changes(
    columns: pd.DataFrame | None = None,
    lattice: Lattice | None = None,
    *,
    errors: Sequence[SharedError] = (),
    reference: float | tuple[float, ...] | None = None,
    depth: int = 1,
    by: Literal["atom", "bond"] = "atom",
    scaled: bool = False,
) -> pd.DataFrame:
    """Compare the bonds of surface atoms with those of the particle's own interior.

    **Prior.** The interior is one lattice, so that an affine fit to it takes out what the scan does to
    lengths and angles; positions err by what the table and `errors` say, and by nothing else. Both are
    tested by the interior's scatter about its lattice: ``attrs["priors"]``.

    Parameters
    ----------
    columns
        Column table of `refine`: y, x (px), sd_y, sd_x, cov_yx from the counts alone. None: the lattice's own.
    lattice
        Decides which columns are bonded. None: fitted to `columns`.
    errors
        What the counts don't tell and columns share: the common-mode floor of a registered series
        (``alignment.floor``), the film below (``support(image, columns)``). Neighbours that are shifted
        alike keep their bond; that is counted.
    reference
        The crystal's own lattice parameters in nm, as in `lattice`: (a, b, angle in degrees) of its primitive
        cell. The interior is then the ruler. None: lengths by the pixel size as it is, so that a scan which
        is off by 3 % makes changes 3 % wrong.
    depth
        The parameter that matters. How many bonds from the surface the interior begins: 1, all that have
        all neighbours; more, where the layers below the surface relax as well: the reference is then
        truly bulk, but of fewer columns, farther from the surface.
    by
        ``"atom"``: one row a surface atom, its bonds averaged. ``"bond"``: one row a bond of it.
    scaled
        Multiply the error bars by the interior's scatter over the stated one, where that is above 1: for
        errors that nothing in `errors` knows of, such as a vibration in step with the frames. Conservative
        by a few per cent where the stated errors are right.

    Returns
    -------
    pandas.DataFrame
        place ("corner": at most half of the neighbours of the bulk; "edge": fewer than all), d_pm (mean
        length of the bonds), d_reference_pm (the same bonds in the interior's lattice), change_pm,
        sd_change_pm, significant (beyond two error bars); px instead of pm without calibration. By atom:
        index as in `columns`; y, x (px), coordination, neighbours (labels), inward_pm, sd_inward_pm
        (shift from the lattice site towards its neighbours: contraction is positive). By bond: first (on
        the surface), second. ``attrs``: interior (labels), priors, scaled_by,
        pixel_size_nm.

    Raises
    ------
    DataError
        No error bars, no lattice, an interior of fewer than 12 columns, more than 4000 columns.
    CalibrationError
        A `reference` that does not fit the cell.

    Notes
    -----
    Every number is linear in the positions, the interior's fit included, so its error bar follows from the
    covariance of all positions. An atom's change is not its shift: its neighbours move too. Columns with
    neighbours beyond the image are no surface. Cost: O(n²) for n columns; 0.2 s for 100.

    References
    ----------
    Yankovich et al., Nat. Commun. 5 (2014) 4155, doi:10.1038/ncomms5155.

    Examples
    --------
    >>> import fairstem as fs
    >>> p = fs.simulate.phantom("pt-nanoparticle", seed=1, peak=1000, texture=0.0)
    >>> columns = fs.atoms.refine(p.data, p.truth[["y", "x"]], pixel_size_nm=p.pixel_size_nm)
    >>> surface = bond_changes(columns)
    >>> surface.place.value_counts().to_dict()
    {'edge': 28, 'corner': 6}
    >>> planted = p.truth.contraction_pm[surface.index]
    >>> bool(((surface.inward_pm - planted).abs() < 4 * surface.sd_inward_pm).all())
    True
    """
    if by not in ("atom", "bond"):
        raise DataError(f"by is {by!r}", needed="'atom' or 'bond'")
    if not isinstance(depth, int | np.integer) or depth < 1:
        raise DataError(f"depth is {depth!r}", needed="a whole number from 1")
    if lattice is None:
        if columns is None:
            raise DataError("neither columns nor a lattice is given", needed="one of them")
        lattice = fit_lattice(columns)
    crystal = index_surface(lattice.columns if columns is None else columns, lattice, depth)
    fit = interior_lattice(crystal, own_covariance(crystal, errors))
    measure, unit = ruler(crystal, fit.cell, reference)
    table = (_by_atom if by == "atom" else _by_bond)(crystal, fit, measure, unit, errors)
    check = _one_interior(crystal, fit, errors)
    factor = max(check.statistic, 1.0) if scaled else 1.0
    for name in (f"sd_change_{unit}", f"sd_inward_{unit}"):
        if name in table:
            table[name] *= factor
    table["significant"] = table[f"change_{unit}"].abs() > SIGNIFICANT * table[f"sd_change_{unit}"]
    table.attrs = {
        "pixel_size_nm": crystal.data.pixel_size_nm,
        "interior": crystal.table.index[crystal.interior].tolist(),
        "priors": [check.to_dict()],
        "scaled_by": factor,
    }
    return table


def _bonds(crystal: Crystal, fit: Reference, measure: Float) -> tuple[Rows, Float, Float, Float]:
    """Return the bonds of surface atoms (m, 2), lengths, lengths in the lattice, and weights (m, n, 2)."""
    bonds = crystal.bonds[np.isin(crystal.bonds[:, 0], crystal.surface)]
    bonds = bonds[np.lexsort(bonds.T[::-1])]
    one, two = bonds.T
    step = (crystal.data.position[two] - crystal.data.position[one]) @ measure
    ideal = (fit.ideal[two] - fit.ideal[one]) @ measure
    length, before = np.linalg.norm(step, axis=1), np.linalg.norm(ideal, axis=1)
    along = step / length[:, None] @ measure.T
    weights = (fit.project[two] - fit.project[one])[:, :, None] * along[:, None, :]
    return bonds, length, before, weights


def _places(crystal: Crystal, rows: Rows) -> NDArray[np.object_]:
    return np.where(2 * crystal.number[rows] <= crystal.full[rows], "corner", "edge").astype(object)


def _by_bond(
    crystal: Crystal, fit: Reference, measure: Float, unit: str, errors: Sequence[SharedError]
) -> pd.DataFrame:
    bonds, length, before, weights = _bonds(crystal, fit, measure)
    labels = crystal.table.index
    return pd.DataFrame({
        "first": labels[bonds[:, 0]], "second": labels[bonds[:, 1]], "place": _places(crystal, bonds[:, 0]),
        f"d_{unit}": length, f"d_reference_{unit}": before, f"change_{unit}": length - before,
        f"sd_change_{unit}": np.sqrt(variances(weights, crystal, errors)),
    })  # fmt: skip


def _by_atom(
    crystal: Crystal, fit: Reference, measure: Float, unit: str, errors: Sequence[SharedError]
) -> pd.DataFrame:
    bonds, length, before, weights = _bonds(crystal, fit, measure)
    rows, labels = crystal.surface, crystal.table.index
    share = (bonds[:, 0] == rows[:, None]) / crystal.number[rows][:, None]
    inwards = _inwards(crystal, fit, measure, bonds)
    shift_weights = fit.project[rows][:, :, None] * (inwards @ measure.T)[:, None, :]
    both = np.concatenate([np.tensordot(share, weights, 1), shift_weights])
    sd = np.sqrt(variances(both, crystal, errors)).reshape(2, -1)
    columns: dict[str, Any] = {
        "y": crystal.data.position[rows, 0], "x": crystal.data.position[rows, 1],
        "place": _places(crystal, rows), "coordination": crystal.number[rows],
        "neighbours": [tuple(labels[bonds[bonds[:, 0] == row, 1]]) for row in rows],
        f"d_{unit}": share @ length, f"d_reference_{unit}": share @ before,
        f"change_{unit}": share @ (length - before), f"sd_change_{unit}": sd[0],
        f"inward_{unit}": (fit.deviation[rows] @ measure * inwards).sum(axis=1), f"sd_inward_{unit}": sd[1],
    }  # fmt: skip
    return pd.DataFrame(columns, index=labels[rows])


def _inwards(crystal: Crystal, fit: Reference, measure: Float, bonds: Rows) -> Float:
    """Return (r, 2) unit vectors, in units of length, from each surface atom's site to its neighbours'."""
    rows = crystal.surface
    step = (fit.ideal[bonds[:, 1]] - fit.ideal[bonds[:, 0]]) @ measure
    mean = np.array([step[bonds[:, 0] == row].mean(axis=0) for row in rows]).reshape(-1, 2)
    middle = (fit.ideal[crystal.interior].mean(axis=0) - fit.ideal[rows]) @ measure
    # neighbours on opposite sides say nothing of inside
    open_sided = np.linalg.norm(mean, axis=1) > 0.05 * np.linalg.norm(step, axis=1).mean()
    towards = np.where(open_sided[:, None], mean, middle)
    return np.asarray(towards / np.linalg.norm(towards, axis=1, keepdims=True))


def _one_interior(crystal: Crystal, fit: Reference, errors: Sequence[SharedError]) -> PriorCheck:
    """Measure whether the interior scatters about its lattice as much as its error bars say."""
    inner = np.flatnonzero(crystal.interior)
    weights = (fit.project[inner][:, None, :, None] * np.eye(2)[:, None]).reshape(2 * len(inner), -1, 2)
    expected = variances(weights, crystal, errors).sum()
    return PriorCheck(
        "interior-is-a-lattice",
        "the interior is one lattice, and its positions err as much as stated",
        float(np.sqrt((fit.deviation[inner] ** 2).sum() / max(expected, 1e-300))),
        1.5,
        "<=",
        "scatter of the interior about its lattice over what the error bars say",
        "pass all errors (floor of the registration, support); a larger depth if inner layers relax; scaled=True",
    )
