"""Supercells with one defect, periodic so that multislice is valid, and the truth about each of their columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.simulate._crystals import SYMBOLS, atomic_number
from fairstem.simulate.structures import Structure, crystal

__all__ = ["DefectiveCrystal", "with_boundary", "with_strain_dipole", "with_vacancy"]

Floats = NDArray[np.float64]
_SAME_COLUMN = 1e-4  # nm; atoms of a perfect crystal that lie closer across the beam are one column
_NEAR_SITE = 0.03  # nm; how exactly a site must be named


@dataclass(frozen=True, eq=False)
class DefectiveCrystal:
    """A supercell with a defect, and what is true of each of its columns.

    Stands on the prior that the defect repeats with the supercell: it has to be so far from its images that their
    patterns don't mix (at least the width of the probe at the exit surface).

    Parameters
    ----------
    structure
        The supercell, for `multislice_scan`.
    columns
        One row a column of the perfect crystal: ``y_nm, x_nm`` (where it is), ``species``, ``atoms`` (in one supercell
        along the beam), ``missing`` and ``replaced`` (atoms), ``shift_y_pm, shift_x_pm`` (from its place in the
        perfect crystal).
    defect
        What was done, in a few words.
    parameters
        The arguments.
    """

    structure: Structure
    columns: pd.DataFrame
    defect: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def with_vacancy(
    structure: Any,
    repeat: tuple[int, int, int] = (6, 6, 1),
    *,
    site: tuple[float, float] = (0.5, 0.5),
    element: str | None = None,
    substitute: str | None = None,
    fraction: float = 1.0,
    rng: np.random.Generator | int = 0,
) -> DefectiveCrystal:
    """Return a supercell with vacancies, or other atoms, in one column of its middle cell.

    Prior: the neighbours stay where they are. The thermal factor of a replaced atom stays that of the site.

    Parameters
    ----------
    structure
        What `crystal` makes a `Structure` from.
    repeat
        Cells (x, y, z) of the supercell.
    site
        Column (y, x) in units of the cell's edges.
    element
        Which atoms of the column are meant; by default all of them.
    substitute
        Chemical symbol of the atoms that take their place; None leaves vacancies.
    fraction
        Part of those atoms that is taken, rounded to whole atoms; ``repeat[2]`` cells along the beam hold them.
    rng
        Generator or seed that draws which.

    Returns
    -------
    DefectiveCrystal
        Cost ``O(n log n)`` in the atoms.

    Raises
    ------
    DataError
        No such column or element, or a fraction that takes no atom.

    Examples
    --------
    >>> made = with_vacancy("SrTiO3", (4, 4, 1), site=(0.5, 0.0), element="O")
    >>> made.structure.formula, made.columns.query("missing > 0")[["y_nm", "x_nm"]].round(3).values.tolist()
    ('O47Sr16Ti16', [[0.976, 0.781]])
    """
    perfect = crystal(structure).repeat(repeat)
    at = (np.array([repeat[1] // 2, repeat[0] // 2]) + np.asarray(site, dtype=float)) / (repeat[1], repeat[0])
    chosen = _atoms_at(perfect, at, site)
    if element is not None:
        chosen = chosen[perfect.numbers[chosen] == _number(element)]
    count = round(fraction * len(chosen)) if 0 < fraction <= 1 else 0
    if not count:
        raise DataError(
            f"element={element!r} with fraction={fraction} takes no atom of the column at site={tuple(site)}",
            needed="an element of that column, and a fraction in (0, 1] that makes a whole atom",
            todo="repeat the cell along the beam for small fractions",
        )
    chosen = np.random.default_rng(rng).permutation(chosen)[:count]
    hit = np.zeros(len(perfect.numbers), dtype=bool)
    hit[chosen] = True
    numbers, kept = perfect.numbers.copy(), ~hit
    if substitute is not None:
        numbers[hit], kept = _number(substitute), np.ones_like(hit)
    what = "vacancy" if substitute is None else f"{substitute} substitution"
    parameters = {"repeat": list(repeat), "site": list(site), "element": element, "substitute": substitute}
    none = np.zeros((len(numbers), 2))
    return _defective(perfect, none, numbers, kept, what, {**parameters, "fraction": fraction})


def with_boundary(
    structure: Any,
    repeat: tuple[int, int, int] = (8, 4, 1),
    *,
    shift: tuple[float, float] = (0.5, 0.5),
) -> DefectiveCrystal:
    """Return a supercell whose second half along x is shifted: an antiphase boundary, and the opposite one.

    Prior: both halves are perfect up to the boundary. The boundaries lie between cells, at half the supercell and at
    its edge, perpendicular to x.

    Parameters
    ----------
    structure
        What `crystal` makes a `Structure` from.
    repeat
        Cells (x, y, z) of the supercell, an even number along x.
    shift
        Shift (y, x) in units of the cell's edges. (0.5, 0) moves along the boundary and changes no distance across
        it; along x, one boundary opens as the other one closes.

    Returns
    -------
    DefectiveCrystal
        The halves are the columns with and without a shift.

    Raises
    ------
    DataError
        An odd number of cells along x, a shift that isn't finite, or one that puts atoms on each other.

    Examples
    --------
    >>> made = with_boundary("SrTiO3", (4, 2, 1), shift=(0.5, 0.0))
    >>> moved = made.columns[made.columns["shift_y_pm"] > 0]
    >>> len(moved) / len(made.columns), float(moved["x_nm"].min().round(4))
    (0.5, 0.781)
    """
    cell = crystal(structure)
    if repeat[0] % 2:
        raise DataError(
            f"repeat={repeat}", needed="an even number of cells along x, half of which are shifted"
        )
    vector = np.asarray(shift, dtype=float)
    if vector.shape != (2,) or not np.isfinite(vector).all():
        raise DataError(f"shift={shift!r}", needed="a pair (y, x) in units of the cell's edges")
    perfect = cell.repeat(repeat)
    second = perfect.fractional[:, 0] >= 0.5 - 1e-9
    moved = second[:, None] * vector * np.array([cell.cell_nm[1], cell.cell_nm[0]])
    kept = np.ones(len(second), dtype=bool)
    parameters = {"repeat": list(repeat), "shift": list(shift)}
    made = _defective(perfect, moved, perfect.numbers, kept, "antiphase boundary", parameters)
    _check_distances(made.structure)
    return made


def with_strain_dipole(
    structure: Any,
    repeat: tuple[int, int, int] = (8, 8, 1),
    *,
    amplitude_pm: float = 15.0,
    width_nm: float = 0.5,
) -> DefectiveCrystal:
    """Return a supercell whose columns are smoothly displaced: pushed away from one point, drawn to another.

    Prior: columns stay straight along the beam. The displacement is the gradient of two smooth peaks of opposite
    sign, at a quarter and at three quarters of the supercell along x and half of it along y, and periodic with it; so
    bonds are stretched and compressed as around a pair of inclusions, and the truth is known for every column.

    Parameters
    ----------
    structure
        What `crystal` makes a `Structure` from.
    repeat
        Cells (x, y, z) of the supercell.
    amplitude_pm
        Largest displacement in pm. The strain is about ``amplitude / width``; 15 pm over 0.5 nm are 3 %.
    width_nm
        Distance from each point in nm where the displacement is greatest.

    Returns
    -------
    DefectiveCrystal
        ``shift_y_pm`` and ``shift_x_pm`` of its columns are the truth.

    Raises
    ------
    DataError
        An amplitude below 0 or a width that isn't positive.

    Examples
    --------
    >>> made = with_strain_dipole("SrTiO3", (6, 6, 1), amplitude_pm=10)
    >>> shift = made.columns[["shift_y_pm", "shift_x_pm"]]
    >>> float(np.hypot(*shift.to_numpy().T).max().round(3)), abs(float(shift.mean().max().round(9)))
    (10.0, 0.0)
    """
    if not (math.isfinite(amplitude_pm) and amplitude_pm >= 0 and math.isfinite(width_nm) and width_nm > 0):
        raise DataError(
            f"amplitude_pm={amplitude_pm}, width_nm={width_nm}", needed="0 or more, and a positive width"
        )
    perfect = crystal(structure).repeat(repeat)
    edges = np.array(perfect.cell_nm[1::-1])  # y, x
    position = perfect.fractional[:, 1::-1]
    field_ = _push(position, np.array([0.5, 0.25]), edges, width_nm)
    field_ -= _push(position, np.array([0.5, 0.75]), edges, width_nm)
    largest = np.hypot(field_[:, 0], field_[:, 1]).max()
    moved = field_ * (1e-3 * amplitude_pm / largest) if largest else field_
    kept = np.ones(len(moved), dtype=bool)
    parameters = {"repeat": list(repeat), "amplitude_pm": amplitude_pm, "width_nm": width_nm}
    made = _defective(perfect, moved, perfect.numbers, kept, "strain dipole", parameters)
    _check_distances(made.structure)
    return made


def _push(position: Floats, center: Floats, edges: Floats, width: float) -> Floats:
    """Return the negative gradient of a peak that repeats with the supercell, ``(n, 2)``."""
    angle = 2 * np.pi * (position - center)
    sharpness = (edges / (2 * np.pi * width)) ** 2  # near its top the peak is a Gaussian of this width
    peak = np.exp((sharpness * (np.cos(angle) - 1)).sum(axis=1))
    return np.asarray(peak[:, None] * sharpness * np.sin(angle) / edges)


def _atoms_at(perfect: Structure, at: Floats, site: tuple[float, float]) -> NDArray[np.int64]:
    away = perfect.fractional[:, 1::-1] - at
    away -= np.round(away)
    distance = np.hypot(*(away * np.array(perfect.cell_nm[1::-1])).T)
    found = np.flatnonzero(distance < _NEAR_SITE)
    if not len(found):
        raise DataError(
            f"no column at site={tuple(site)}; the nearest is {distance.min():.3g} nm away",
            needed="the place (y, x) of a column in units of the cell's edges",
            todo="look at Structure.fractional, whose order is (x, y, z)",
        )
    return found


def _number(symbol: str) -> int:
    try:
        return atomic_number(symbol)
    except ValueError:
        raise DataError(f"{symbol!r}", needed="the symbol of an element, such as 'O'") from None


def _check_distances(made: Structure) -> None:
    """Refuse atoms that lie nearer to each other than any bond."""
    from scipy.spatial import cKDTree

    edges = np.array(made.cell_nm)
    tree = cKDTree(np.minimum(made.fractional * edges, np.nextafter(edges, 0)), boxsize=edges)
    pairs = tree.query_pairs(0.06, output_type="ndarray")
    if len(pairs):
        one, other = (made.symbols[i] for i in pairs[0])
        raise DataError(
            f"{len(pairs)} pairs of atoms nearer than 0.06 nm ({one} and {other})",
            needed="atoms that don't lie on each other",
            todo="choose another shift, such as (0.5, 0), or a smaller amplitude",
        )


def _defective(
    perfect: Structure,
    moved_nm: Floats,
    numbers: NDArray[np.int64],
    kept: NDArray[np.bool_],
    defect: str,
    parameters: Mapping[str, Any],
) -> DefectiveCrystal:
    """Build the supercell from the perfect one, displacements (y, x), elements, and the atoms that are there."""
    edges = np.array(perfect.cell_nm)
    fractional = perfect.fractional.copy()
    fractional[:, :2] += moved_nm[:, ::-1] / edges[:2]
    structure = Structure(
        numbers[kept],
        fractional[kept],
        perfect.cell_nm,
        perfect.b_iso_nm2[kept],
        f"{perfect.name or perfect.formula} with {defect}",
        perfect.directions,
        perfect.strain,
    )
    columns = _columns(perfect, moved_nm, numbers, kept)
    return DefectiveCrystal(structure, columns, defect, dict(parameters))


def _columns(
    perfect: Structure, moved_nm: Floats, numbers: NDArray[np.int64], kept: NDArray[np.bool_]
) -> pd.DataFrame:
    lateral = perfect.fractional[:, 1::-1] * np.array(perfect.cell_nm[1::-1])
    _, first, member = np.unique(
        np.round(lateral / _SAME_COLUMN), axis=0, return_index=True, return_inverse=True
    )
    member = member.reshape(-1)
    edges = np.array(perfect.cell_nm[1::-1])
    place = (lateral[first] + moved_nm[first]) % edges
    replaced = kept & (numbers != perfect.numbers)

    def count(which: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(member, weights=which, minlength=len(first)).astype(np.int64)

    species = [
        "".join(sorted({SYMBOLS[z - 1] for z in numbers[kept & (member == column)]}))
        for column in range(len(first))
    ]
    return pd.DataFrame(
        {
            "y_nm": place[:, 0],
            "x_nm": place[:, 1],
            "species": pd.Series(species, dtype=object),
            "atoms": count(kept),
            "missing": count(~kept),
            "replaced": count(replaced),
            "shift_y_pm": 1e3 * moved_nm[first, 0],
            "shift_x_pm": 1e3 * moved_nm[first, 1],
        }
    )
