"""Crystals along a zone axis: cells, atoms and symmetry that are known from crystallography."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem.errors import DataError, DataTypeError, DataWarning, FileFormatError
from fairstem.simulate import Structure, crystal

SQRT2 = np.sqrt(2)


def distances(structure: Structure) -> np.ndarray:
    """Sorted distances of all pairs of atoms to 0.5 nm, per atom: independent of the cell and its origin."""
    cells = np.array(np.meshgrid(*[np.arange(-3, 4)] * 3)).reshape(3, -1).T
    there = (structure.fractional[:, None] + cells[None]).reshape(-1, 3) * structure.cell_nm
    gaps = np.linalg.norm(structure.positions_nm[:, None] - there[None], axis=2).ravel()
    near = np.sort(gaps[(gaps > 1e-6) & (gaps < 0.5)])
    return near.reshape(-1)


@pytest.mark.parametrize(
    ("name", "zone", "cell", "count"),
    [
        ("SrTiO3", (0, 0, 1), (1, 1, 1), 5),
        ("SrTiO3", (0, 0, 2), (1, 1, 1), 5),  # the same direction
        ("SrTiO3", (1, 1, 0), (1, SQRT2, SQRT2), 10),
        ("Au", (0, 0, 1), (1 / SQRT2, 1 / SQRT2, 1), 2),
        ("Au", (1, 1, 1), (1 / SQRT2, np.sqrt(1.5), np.sqrt(3)), 6),
        ("Si", (1, 1, 0), (1 / SQRT2, 1, 1 / SQRT2), 4),
    ],
)
def test_known_cells(name, zone, cell, count):
    found = crystal(name, zone)
    given = crystal(name, x_axis=(1, 0, 0)).cell_nm[0]
    np.testing.assert_allclose(np.array(found.cell_nm) / given, cell, rtol=1e-9)
    assert found.numbers.size == count
    assert found.strain == 0
    assert np.all((found.fractional >= 0) & (found.fractional < 1))
    # the beam is along the zone axis, the axes are right-handed
    np.testing.assert_allclose(np.cross(found.directions[2], zone), 0, atol=1e-12)
    assert np.linalg.det(found.directions) > 0


@pytest.mark.parametrize("zone", [(1, 1, 0), (1, 1, 1), (1, 1, 2)])
def test_the_crystal_stays_the_same(zone):
    straight, turned = crystal("MgO"), crystal("MgO", zone)
    here, there = distances(straight), distances(turned)
    ratio = turned.numbers.size / straight.numbers.size
    np.testing.assert_allclose(np.repeat(here, int(ratio)), there, atol=1e-9)


def test_point_groups():
    assert len(crystal("SrTiO3").point_group()) == 8
    assert len(crystal("SrTiO3", (1, 1, 0)).point_group()) == 4
    # a screw axis along the beam is not a symmetry of the slices
    assert len(crystal("TiO2").point_group()) == 4
    moved = crystal("SrTiO3").shifted(0.11, 0.07, 0.3)
    assert len(moved.point_group()) == 8
    lone = Structure([6, 7, 8], [[0, 0, 0], [0.2, 0, 0], [0, 0.3, 0.1]], (0.4, 0.4, 0.4), [0, 0, 0])
    assert len(lone.point_group()) == 1


def test_repeat_keeps_the_crystal():
    cell = crystal("SrTiO3")
    wide = cell.repeat((2, 1, 3))
    assert wide.numbers.size == 30
    assert wide.cell_nm == pytest.approx((0.781, 0.3905, 1.1715))
    np.testing.assert_allclose(np.repeat(distances(cell), 6), distances(wide), atol=1e-9)
    np.testing.assert_allclose(wide.positions_nm[:5], cell.positions_nm)


def test_atoms_on_the_border_are_counted_once():
    near = Structure([38, 22], [[1.0, -1e-13, 0.0], [0.5, 0.5, 1.5]], (0.39, 0.39, 0.39), [0, 0])
    np.testing.assert_array_equal(near.fractional, [[0, 0, 0], [0.5, 0.5, 0.5]])
    noisy = crystal(crystal("SrTiO3").shifted(1e-9, -1e-9, -1e-9), zone=(1, 1, 0))
    assert noisy.numbers.size == 10


def test_a_small_strain_is_reported():
    with pytest.raises(DataError, match="zone axis"):
        crystal("TiO2", (1, 1, 1), max_strain=0.0)
    strained = crystal("TiO2", (1, 1, 1), max_strain=0.01)
    assert 1e-4 < strained.strain <= 0.01


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"structure": "SrTi03"}, DataError, "not known"),
        ({"structure": 5}, DataTypeError, "int"),
        ({"structure": "nowhere.cif"}, FileFormatError, "does not exist"),
        ({"structure": "Si", "zone": (0, 0, 0)}, DataError, "direction"),
        ({"structure": "Si", "zone": (0, 0.5, 0)}, DataError, "whole numbers"),
        ({"structure": "Si", "zone": (0, 1)}, DataError, "whole numbers"),
        ({"structure": "Si", "b_iso": 0.46}, DataError, "100"),
        ({"structure": "Si", "b_iso": float("nan")}, DataError, "thermal"),
        ({"structure": "Si", "b_iso": {"Sr": 0.006}}, DataError, "Sr"),
        ({"structure": "TiO2", "zone": (1, 2, 3), "max_strain": 0}, DataError, r"\[1, 2, 3\]"),
        ({"structure": "Au", "x_axis": (1, 2, 3)}, DataError, "along x"),
    ],
)
def test_what_does_not_fit_is_named(arguments, error, words):
    if arguments["structure"] == "nowhere.cif":
        pytest.importorskip("ase")
    with pytest.raises(error, match=words):
        crystal(**arguments)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (([], np.zeros((0, 3)), (1, 1, 1), []), "at least one atom"),
        (([0], [[0, 0, 0]], (1, 1, 1), [0]), "atomic numbers"),
        (([8], [[0, np.nan, 0]], (1, 1, 1), [0]), "finite"),
        (([8], [[0, 0, 0]], (1, -1, 1), [0]), "positive edges"),
        (([8], [[0, 0, 0]], (1, 1, 1), [-1]), "b_iso"),
    ],
)
def test_impossible_structures(parts, words):
    with pytest.raises(DataError, match=words):
        Structure(*parts)


def cif(tmp_path, occupancy=1.0):
    text = f"""data_test
_cell_length_a 3.905
_cell_length_b 3.905
_cell_length_c 3.905
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
_symmetry_Int_Tables_number 221
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_B_iso_or_equiv
Sr1 Sr 0 0 0 {occupancy} 0.62
Ti1 Ti 0.5 0.5 0.5 1.0 0.44
O1 O 0.5 0.5 0 1.0 0.73
"""
    path = tmp_path / "srtio3.cif"
    path.write_text(text)
    return path


def test_cif_is_the_built_in(tmp_path):
    pytest.importorskip("ase")
    read, known = crystal(cif(tmp_path)), crystal("SrTiO3")
    assert read.formula == known.formula
    np.testing.assert_allclose(distances(read), distances(known), atol=1e-9)
    assert sorted(read.b_iso_nm2) == pytest.approx(sorted(known.b_iso_nm2))


def test_partly_occupied_sites_are_refused(tmp_path):
    pytest.importorskip("ase")
    with pytest.raises(DataError, match="partly occupied"):
        crystal(cif(tmp_path, occupancy=0.5))


def test_damaged_cif(tmp_path):
    pytest.importorskip("ase")
    path = tmp_path / "bad.cif"
    path.write_text("data_x\n_cell_length_a 3\n")
    with pytest.raises(FileFormatError, match=r"bad\.cif"):
        crystal(path)


def test_atoms_there_and_back():
    ase = pytest.importorskip("ase")
    cell = crystal("SrTiO3", (1, 1, 0))
    back = crystal(cell.to_ase())
    assert back.cell_nm == pytest.approx(cell.cell_nm)
    np.testing.assert_allclose(distances(back), distances(cell), atol=1e-9)
    np.testing.assert_allclose(np.sort(back.b_iso_nm2), np.sort(cell.b_iso_nm2))
    with pytest.raises(DataError, match="periodic"):
        crystal(ase.Atoms("Si", cell=[3, 3, 3]))
    with pytest.warns(DataWarning, match="Si"):
        assert crystal(ase.Atoms("Si", cell=[3, 3, 3], pbc=True)).b_iso_nm2[0] == 0.005
