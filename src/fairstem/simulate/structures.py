"""Crystals seen along a zone axis: a small orthogonal cell, its atoms and their thermal motion."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError, DataWarning
from fairstem.simulate._crystals import CRYSTALS, SYMBOLS, atomic_number

__all__ = ["Structure", "crystal"]

Cell = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms of one orthogonal cell of a crystal, the beam along z.

    Stands on the prior that the object is periodic in all three directions.

    Parameters
    ----------
    numbers
        Atomic numbers, ``(n,)``.
    fractional
        Positions (x, y, z) in units of the cell's edges, ``(n, 3)``; wrapped into [0, 1).
    cell_nm
        Edges (a, b, c) of the cell along x, y and the beam in nm.
    b_iso_nm2
        Thermal factors B = 8 π² <u_x²> in nm² (1 Å² is 0.01 nm²), ``(n,)``.
    name
        What the crystal is called.
    directions
        Rows: the edges x, y, z of this cell in units of the edges of the cell the crystal was given in.
    strain
        Largest strain that was needed to make the cell orthogonal (0: none).

    Raises
    ------
    DataError
        A shape, an element or a number doesn't fit.

    Examples
    --------
    >>> cell = crystal("SrTiO3", zone=(1, 1, 0))
    >>> cell.formula, [round(edge, 4) for edge in cell.cell_nm]
    ('O6Sr2Ti2', [0.3905, 0.5523, 0.5523])
    """

    numbers: NDArray[np.int64]
    fractional: NDArray[np.float64]
    cell_nm: Cell
    b_iso_nm2: NDArray[np.float64]
    name: str = ""
    directions: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    strain: float = 0.0

    def __post_init__(self) -> None:
        numbers = np.array(self.numbers, dtype=np.int64)
        fractional, thermal = np.array(self.fractional, dtype=float), np.array(self.b_iso_nm2, dtype=float)
        count = numbers.size
        if numbers.ndim != 1 or not count or fractional.shape != (count, 3) or thermal.shape != (count,):
            raise DataError(
                f"numbers {numbers.shape}, fractional {fractional.shape}, b_iso_nm2 {thermal.shape}",
                needed="at least one atom; shapes (n,), (n, 3), (n,)",
            )
        if numbers.min() < 1 or numbers.max() > len(SYMBOLS):
            raise DataError(
                f"atomic numbers {numbers.min()} to {numbers.max()}", needed=f"1 to {len(SYMBOLS)}"
            )
        if not np.isfinite(fractional).all():
            raise DataError("fractional positions that aren't finite", needed="numbers in units of the edges")
        if not (np.isfinite(thermal).all() and thermal.min() >= 0):
            raise DataError("b_iso_nm2 negative or not finite", needed="thermal factors of 0 nm² or more")
        cell = tuple(float(edge) for edge in self.cell_nm)
        if len(cell) != 3 or not all(np.isfinite(edge) and edge > 0 for edge in cell):
            raise DataError(f"cell_nm={self.cell_nm}", needed="three positive edges (a, b, c) in nm")
        directions = np.array(self.directions, dtype=float)
        fractional = _wrap(fractional)
        for array in (numbers, fractional, thermal, directions):
            array.flags.writeable = False
        for key, value in zip(
            ("numbers", "fractional", "b_iso_nm2", "cell_nm", "directions"),
            (numbers, fractional, thermal, cell, directions),
            strict=True,
        ):
            object.__setattr__(self, key, value)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols of the atoms."""
        return tuple(SYMBOLS[z - 1] for z in self.numbers)

    @property
    def formula(self) -> str:
        """What one cell holds, elements in alphabetical order."""
        counts = {s: self.symbols.count(s) for s in sorted(set(self.symbols))}
        return "".join(f"{s}{n if n > 1 else ''}" for s, n in counts.items())

    @property
    def positions_nm(self) -> NDArray[np.float64]:
        """Positions (x, y, z) in nm, ``(n, 3)``."""
        return np.asarray(self.fractional * np.array(self.cell_nm))

    @property
    def rms_nm(self) -> NDArray[np.float64]:
        """Root mean square displacement of every atom along one direction in nm, sqrt(B / 8 π²)."""
        return np.asarray(np.sqrt(self.b_iso_nm2 / (8 * np.pi**2)))

    def repeat(self, times: tuple[int, int, int]) -> Structure:
        """Return the supercell of `times` (x, y, z) cells; the atoms of the first cell come first."""
        counts = np.array(times)
        if counts.shape != (3,) or not np.issubdtype(counts.dtype, np.integer) or counts.min() < 1:
            raise DataError(f"times={times!r}", needed="three whole numbers of 1 or more, for x, y, z")
        shifts = np.array(
            [(x, y, z) for z in range(times[2]) for y in range(times[1]) for x in range(times[0])]
        )
        fractional = (self.fractional[None] + shifts[:, None]) / counts
        a, b, c = self.cell_nm
        return Structure(
            np.tile(self.numbers, len(shifts)),
            fractional.reshape(-1, 3),
            (a * times[0], b * times[1], c * times[2]),
            np.tile(self.b_iso_nm2, len(shifts)),
            self.name,
            self.directions * counts[:, None],
            self.strain,
        )

    def shifted(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Structure:
        """Return the same crystal with all atoms moved by (x, y, z) in units of the cell's edges."""
        return replace(self, fractional=self.fractional + np.array([x, y, z]))

    def to_ase(self) -> Any:
        """Return ASE Atoms: lengths in Å, periodic, thermal factors in the array ``b_iso_nm2``.

        Raises
        ------
        MissingDependencyError
            ASE isn't installed.
        """
        from fairstem.simulate._ase import to_ase

        return to_ase(self)

    def point_group(self) -> tuple[NDArray[np.int64], ...]:
        """Return the operations across the beam that map the crystal onto itself.

        Matrices for (x, y), of those that keep the cell: rotations by multiples of 90° and mirrors on x, y and
        the diagonals, each with any shift across the beam and none along it. The identity is the first.
        """
        square = np.isclose(self.cell_nm[0], self.cell_nm[1], rtol=1e-6)
        signs = [(1, 1), (-1, -1), (1, -1), (-1, 1)]
        candidates = [np.diag(pair) for pair in signs]
        if square:
            candidates += [np.array([[0, p], [q, 0]]) for p, q in signs]
        return tuple(m for m in candidates if _maps_onto_itself(self, m))


def crystal(
    structure: Any,
    zone: tuple[int, int, int] | None = None,
    b_iso: float | Mapping[str, float] | None = None,
    x_axis: tuple[int, int, int] | None = None,
    max_strain: float = 0.01,
) -> Structure:
    """Return a crystal in a small orthogonal cell with the zone axis along the beam.

    Stands on the prior that the crystal is perfect. The cell is the smallest one whose edges are lattice vectors
    at right angles (the primitive lattice is searched, so that [001] of a face-centred crystal has the edges
    [110]/2 and [1-10]/2). Where right angles can't be had, a cell strained by at most `max_strain` is taken
    and the strain is reported in `Structure.strain`.

    Parameters
    ----------
    structure
        A name ("SrTiO3", "MgO", "TiO2" (rutile), "Si", "Al", "Cu", "Au"), the path of a CIF file, ASE Atoms, or a
        `Structure`.
    zone
        Direction [uvw] of the beam in units of the edges of the cell that was given; None takes
        (0, 0, 1), and a `Structure` as it is.
    b_iso
        Thermal factor(s) B in nm² (1 Å² is 0.01 nm²): one for all atoms, or by chemical symbol. None takes those
        of the source; where it has none, 0.005 nm² is assumed, with a warning.
    x_axis
        Direction [uvw] along x, where another than the shortest is wanted.
    max_strain
        Largest strain allowed to make the cell orthogonal.

    Returns
    -------
    Structure
        The cell, atoms with coordinates in [0, 1).

    Raises
    ------
    DataError
        The name is unknown, sites are partly occupied, the zone axis has no small orthogonal cell, or a thermal
        factor is impossible.
    MissingDependencyError
        A CIF file or Atoms without ASE (extra ``simulate``).

    Notes
    -----
    Cost: a search over (2 m + 1)³ lattice vectors, m ≤ 8, and pairs of those across the beam; milliseconds.

    Examples
    --------
    >>> silicon = crystal("Si", zone=(1, 1, 0))
    >>> silicon.formula, silicon.strain
    ('Si4', 0.0)
    """
    from fairstem.simulate._orthogonal import orthogonal_cell

    given = _given(structure)
    thermal = _thermal(given, b_iso)
    if isinstance(structure, Structure) and zone is None and x_axis is None:
        return replace(structure, b_iso_nm2=thermal)
    numbers, fractional, edges, name = given.numbers, given.fractional, given.edges_nm, given.name
    return orthogonal_cell(
        numbers,
        fractional,
        edges,
        thermal,
        name=name,
        zone=_direction(zone if zone is not None else (0, 0, 1), "zone"),
        x_axis=None if x_axis is None else _direction(x_axis, "x_axis"),
        max_strain=max_strain,
    )


@dataclass(frozen=True)
class Given:
    """A crystal as it was given: any cell, thermal factors NaN where unknown."""

    numbers: NDArray[np.int64]
    fractional: NDArray[np.float64]
    edges_nm: NDArray[np.float64]
    thermal_nm2: NDArray[np.float64]
    name: str


def _given(structure: Any) -> Given:
    if isinstance(structure, Structure):
        edges = np.diag(structure.cell_nm)
        return Given(
            structure.numbers, structure.fractional, edges, structure.b_iso_nm2.copy(), structure.name
        )
    if isinstance(structure, str) and structure in CRYSTALS:
        known = CRYSTALS[structure]
        symbols = [site[0] for site in known.sites]
        return Given(
            np.array([atomic_number(s) for s in symbols]),
            np.array([site[1:] for site in known.sites], dtype=float),
            np.diag(known.cell_nm),
            np.array([known.b_angstrom2[s] for s in symbols]) / 100,
            structure,
        )
    from fairstem.simulate._ase import from_ase

    return Given(*from_ase(structure))


def _thermal(given: Given, b_iso: float | Mapping[str, float] | None) -> NDArray[np.float64]:
    """Thermal factors of all atoms: those asked for, else those given, else a warned assumption."""
    thermal = given.thermal_nm2.copy()
    symbols = np.array([SYMBOLS[z - 1] for z in given.numbers])
    if isinstance(b_iso, Mapping):
        absent = sorted(set(b_iso) - set(symbols))
        if absent:
            raise DataError(f"b_iso for {', '.join(absent)}", needed=f"elements of {sorted(set(symbols))}")
        for symbol, value in b_iso.items():
            thermal[symbols == symbol] = _factor(value)
    elif b_iso is not None:
        thermal[:] = _factor(b_iso)
    unknown = np.isnan(thermal)
    if unknown.any():
        warnings.warn(
            f"no thermal factors for {', '.join(sorted(set(symbols[unknown])))}: B = 0.005 nm² is assumed; "
            "pass b_iso= to say better",
            DataWarning,
            stacklevel=3,
        )
        thermal[unknown] = 0.005
    return thermal


def _factor(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not 0 <= number <= 0.1:  # NaN fails too
        raise DataError(
            f"b_iso={value!r}",
            needed="a thermal factor B in nm² between 0 and 0.1",
            todo="divide values in Å² by 100",
        )
    return number


def _direction(value: Any, name: str) -> NDArray[np.int64]:
    try:
        indices = np.array(value, dtype=float)
    except (TypeError, ValueError):
        indices = np.zeros(0)
    if indices.shape != (3,) or not np.isfinite(indices).all() or np.any(indices != np.rint(indices)):
        raise DataError(f"{name}={value!r}", needed="three whole numbers [u, v, w]")
    whole = indices.astype(np.int64)
    if not whole.any():
        raise DataError(f"{name}={value!r}", needed="a direction: not all zero")
    return np.asarray(whole // np.gcd.reduce(whole))


def _wrap(fractional: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wrap into [0, 1); what rounding left just below 1 is 0."""
    wrapped = fractional - np.floor(fractional)
    wrapped[wrapped > 1 - 1e-9] = 0.0
    return wrapped


def _maps_onto_itself(structure: Structure, matrix: NDArray[np.int64]) -> bool:
    """Whether the operation, with some shift across the beam, maps every atom on one of its kind."""
    moved = structure.fractional.copy()
    moved[:, :2] = moved[:, :2] @ matrix.T
    kinds = np.stack([structure.numbers, np.rint(structure.b_iso_nm2 * 1e9)], axis=1)
    same = (kinds[:, None] == kinds[None]).all(axis=2)
    # the shift takes the first atom to one of its kind at its height: the rarest kind gives the fewest trials
    first = int(np.argmin(same.sum(axis=1)))
    for target in np.flatnonzero(same[first]):
        shift = structure.fractional[target] - moved[first]
        if abs(shift[2] - np.rint(shift[2])) > 1e-5:
            continue
        gap = (moved + shift)[:, None] - structure.fractional[None]
        near = (np.abs(gap - np.rint(gap)) < 1e-5).all(axis=2) & same
        if near.any(axis=1).all():
            return True
    return False
