"""Structures from and to ASE: Atoms and CIF files. ASE is imported here only, when it is needed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError, DataTypeError, FileFormatError, MissingDependencyError
from fairstem.simulate._crystals import CRYSTALS

if TYPE_CHECKING:
    from fairstem.simulate.structures import Structure

__all__ = ["from_ase", "to_ase"]

Parts = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], str]


def _ase(what: str) -> Any:
    try:
        import ase
    except ImportError:
        raise MissingDependencyError(
            f"{what} needs ASE, which isn't installed",
            needed="the extra simulate",
            todo="pip install 'fairstem[simulate]', or name a built-in crystal",
        ) from None
    return ase


def to_ase(structure: Structure) -> Any:
    """Return ASE Atoms of a `Structure`."""
    atoms = _ase("Structure.to_ase()").Atoms(
        numbers=structure.numbers,
        scaled_positions=structure.fractional,
        cell=np.array(structure.cell_nm) * 10,
        pbc=True,
    )
    atoms.set_array("b_iso_nm2", np.array(structure.b_iso_nm2))
    return atoms


def from_ase(given: Any) -> Parts:
    """Return numbers, fractional positions, edges (rows, nm), thermal factors and name of Atoms or a CIF file."""
    if isinstance(given, str | Path):
        path = Path(given)
        if path.suffix.lower() != ".cif" and not path.exists():
            raise DataError(
                f"structure {str(given)!r} is not known",
                needed=f"one of {', '.join(CRYSTALS)}, the path of a CIF file, ASE Atoms or a Structure",
            )
        atoms, thermal = _read_cif(path)
        return _parts(atoms, thermal, path.stem)
    if not hasattr(given, "get_scaled_positions"):
        raise DataTypeError(
            f"structure is a {type(given).__name__}",
            needed="a name, the path of a CIF file, ASE Atoms or a Structure",
        )
    return _parts(given, {}, given.get_chemical_formula())


def _parts(atoms: Any, by_symbol: dict[str, float], name: str) -> Parts:
    if len(atoms) == 0:
        raise DataError(f"{name or 'the structure'} holds no atoms", needed="a crystal")
    edges = np.asarray(atoms.cell, dtype=float) / 10
    if not np.isfinite(edges).all() or abs(np.linalg.det(edges)) < 1e-6 or not all(atoms.pbc):
        raise DataError(
            f"{name}: cell {np.round(edges, 4).tolist()} nm, periodic {[bool(p) for p in atoms.pbc]}",
            needed="a crystal that is periodic in three directions",
            todo="set atoms.cell and atoms.pbc = True",
        )
    if np.linalg.det(edges) < 0:
        raise DataError(f"{name}: a left-handed cell", todo="exchange two of its edges")
    _refuse_partial(atoms, name)
    if "b_iso_nm2" in atoms.arrays:
        thermal = np.array(atoms.arrays["b_iso_nm2"], dtype=float)
    else:
        thermal = np.array([by_symbol.get(s, np.nan) for s in atoms.get_chemical_symbols()])
    return np.array(atoms.numbers), np.array(atoms.get_scaled_positions(wrap=True)), edges, thermal, name


def _refuse_partial(atoms: Any, name: str) -> None:
    occupancy = atoms.info.get("occupancy") or {}
    for site in occupancy.values():
        if len(site) > 1 or any(abs(float(v) - 1) > 1e-6 for v in site.values()):
            raise DataError(
                f"{name}: a site is partly occupied ({', '.join(f'{s} {v:g}' for s, v in site.items())})",
                needed="whole atoms",
                todo="give an ordered supercell, or set the occupancies to 1",
            )


def _read_cif(path: Path) -> tuple[Any, dict[str, float]]:
    _ase("reading a CIF file")
    from ase.io import cif

    if not path.is_file():
        raise FileFormatError(f"{path} does not exist", needed="a CIF file")
    try:
        with warnings.catch_warnings():  # ASE warns of labels and occupancies; the latter are refused by name
            warnings.simplefilter("ignore")
            block = next(iter(cif.parse_cif(str(path))))
            atoms = block.get_atoms(fractional_occupancies=True)
    except Exception as error:
        raise FileFormatError(
            f"{path} can't be read as CIF: {error}", needed="a CIF file with cell and sites"
        ) from error
    return atoms, _cif_thermal(block)


def _cif_thermal(block: Any) -> dict[str, float]:
    """Return B in nm² by element, the mean over its sites; elements without are left out."""
    symbols = block.get("_atom_site_type_symbol") or block.get("_atom_site_label") or []
    values = block.get("_atom_site_b_iso_or_equiv")
    scale = 0.01
    if values is None:
        values, scale = block.get("_atom_site_u_iso_or_equiv"), 0.01 * 8 * np.pi**2
    found: dict[str, list[float]] = {}
    for label, value in zip(symbols, values or [], strict=False):
        symbol = "".join(c for c in str(label)[:2] if c.isalpha()).capitalize()
        if isinstance(value, int | float) and value > 0:
            found.setdefault(symbol, []).append(float(value) * scale)
    return {symbol: float(np.mean(v)) for symbol, v in found.items()}
