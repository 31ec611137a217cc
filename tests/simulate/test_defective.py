"""Supercells with a defect: what was planted is what is there, and nothing else changed."""

import importlib.util

import numpy as np
import pytest

from fairstem import simulate
from fairstem.errors import DataError
from fairstem.simulate import with_boundary, with_strain_dipole, with_vacancy

EDGE = 0.3905


def test_vacancy_takes_one_column_and_leaves_the_others():
    perfect = simulate.crystal("SrTiO3").repeat((4, 3, 1))
    made = with_vacancy("SrTiO3", (4, 3, 1), site=(0.0, 0.0))
    gone = made.columns[made.columns["missing"] > 0]
    assert len(gone) == 1
    assert gone["atoms"].item() == 0
    assert (gone["y_nm"].item(), gone["x_nm"].item()) == pytest.approx((1 * EDGE, 2 * EDGE))
    assert made.structure.numbers.size == perfect.numbers.size - 1
    assert made.structure.cell_nm == perfect.cell_nm
    assert made.columns["atoms"].sum() == made.structure.numbers.size
    assert len(made.columns) == 4 * 3 * 4  # Sr, Ti/O and two O columns a cell


def test_one_element_of_a_mixed_column():
    made = with_vacancy("SrTiO3", (2, 2, 1), site=(0.5, 0.5), element="O")
    row = made.columns[made.columns["missing"] > 0].iloc[0]
    assert (row["species"], row["atoms"], row["missing"]) == ("Ti", 1, 1)


def test_substitution_keeps_the_number_of_atoms_and_the_thermal_factor():
    perfect = simulate.crystal("SrTiO3").repeat((2, 2, 4))
    made = with_vacancy("SrTiO3", (2, 2, 4), site=(0.0, 0.0), substitute="Ba", fraction=0.5, rng=1)
    assert made.structure.numbers.size == perfect.numbers.size
    assert (made.structure.numbers == 56).sum() == 2
    assert made.columns["replaced"].sum() == 2
    np.testing.assert_array_equal(made.structure.b_iso_nm2, perfect.b_iso_nm2)


def test_fractions_are_seeded():
    def heights(seed):
        made = with_vacancy("SrTiO3", (1, 1, 12), site=(0, 0), fraction=0.5, rng=seed)
        return tuple(made.structure.fractional[made.structure.numbers == 38, 2].round(6))

    assert heights(0) == heights(0)
    assert len({heights(seed) for seed in range(4)}) > 1


def test_boundary_shifts_one_half_and_keeps_distances_inside_it():
    made = with_boundary("SrTiO3", (6, 2, 1), shift=(0.5, 0.0))
    moved = made.columns["shift_y_pm"] > 0
    assert moved.sum() == len(moved) / 2
    np.testing.assert_allclose(made.columns.loc[moved, "shift_y_pm"], 1e3 * EDGE / 2)
    assert (made.columns["shift_x_pm"] == 0).all()
    assert made.columns.loc[moved, "x_nm"].min() == pytest.approx(3 * EDGE)
    strontium = made.columns[made.columns["species"] == "Sr"]
    left, right = (strontium[strontium["x_nm"].between(*at)]["y_nm"] for at in ((-0.1, 1.1), (1.1, 2.3)))
    assert set((left / EDGE % 1).round(6)) == {0.0}
    assert set((right / EDGE % 1).round(6)) == {0.5}


def test_strain_dipole_is_periodic_smooth_and_as_large_as_asked_for():
    made = with_strain_dipole("SrTiO3", (10, 8, 1), amplitude_pm=12, width_nm=0.5)
    shift = made.columns[["shift_y_pm", "shift_x_pm"]].to_numpy()
    assert np.hypot(*shift.T).max() == pytest.approx(12)
    np.testing.assert_allclose(shift.sum(axis=0), 0, atol=1e-9)
    # neighbours differ by no more than the strain allows, across the edge of the supercell as well
    strontium = made.columns[made.columns["species"] == "Sr"]
    grid = strontium.assign(
        i=((strontium["y_nm"] - strontium["shift_y_pm"] / 1e3) / EDGE).round().astype(int) % 8,
        j=((strontium["x_nm"] - strontium["shift_x_pm"] / 1e3) / EDGE).round().astype(int) % 10,
    ).pivot(index="i", columns="j", values="shift_x_pm")
    assert grid.shape == (8, 10)
    steps = np.diff(grid.to_numpy(), axis=1, append=grid.to_numpy()[:, :1])
    assert np.abs(steps).max() < 2 * 12 * EDGE / 0.5
    assert grid.to_numpy()[4, 3] > 0 > grid.to_numpy()[4, 2]  # pushed away from a quarter of the supercell


def test_nothing_moves_without_amplitude():
    made = with_strain_dipole("SrTiO3", (3, 3, 1), amplitude_pm=0)
    np.testing.assert_array_equal(
        made.structure.fractional, simulate.crystal("SrTiO3").repeat((3, 3, 1)).fractional
    )


def test_truth_of_the_columns_is_where_the_atoms_are():
    made = with_strain_dipole("SrTiO3", (4, 4, 1), amplitude_pm=10)
    atoms = made.structure.positions_nm[:, 1::-1]
    columns = made.columns[["y_nm", "x_nm"]].to_numpy()
    edges = np.array(made.structure.cell_nm[1::-1])
    away = atoms[:, None] - columns[None]
    away -= np.round(away / edges) * edges
    nearest = np.hypot(away[..., 0], away[..., 1]).min(axis=1)
    assert nearest.max() < 1e-9


@pytest.mark.skipif(
    importlib.util.find_spec("abtem") is None, reason="abTEM isn't installed (extra: simulate)"
)
def test_patterns_lose_their_symmetry_next_to_a_vacancy_but_not_on_it():
    made = with_vacancy("SrTiO3", (3, 3, 1), site=(0.0, 0.0))
    scan = simulate.multislice_scan(
        made.structure,
        thickness_nm=0.8,
        semiangle_mrad=13.6,
        scan_px=6,
        detector=25,
        max_angle_mrad=30,
        cache=None,
    )

    def asymmetry(y, x):
        pattern = scan.intensities[y, x].astype(float)
        return np.abs(pattern - pattern[:, ::-1]).max() / pattern.max()

    assert asymmetry(2, 2) < 1e-4  # the vacancy, at a third of the supercell
    assert asymmetry(2, 4) > 1e-3  # the next Sr column along x


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: with_vacancy("SrTiO3", site=(0.3, 0.2)), "no column"),
        (lambda: with_vacancy("SrTiO3", site=(0, 0), element="Ti"), "takes no atom"),
        (lambda: with_vacancy("SrTiO3", site=(0, 0), fraction=0.2), "takes no atom"),
        (lambda: with_vacancy("SrTiO3", site=(0, 0), fraction=-1), "takes no atom"),
        (lambda: with_vacancy("SrTiO3", site=(0, 0), substitute="Xx"), "Xx"),
        (lambda: with_vacancy("SrTiO3", (0, 1, 1)), "times"),
        (lambda: with_boundary("SrTiO3", (5, 2, 1)), "even"),
        (lambda: with_boundary("SrTiO3", (4, 2, 1), shift=(0.5,)), "pair"),
        (lambda: with_boundary("SrTiO3", (4, 2, 1), shift=(0.0, -0.5)), "nearer than"),
        (lambda: with_strain_dipole("SrTiO3", amplitude_pm=-1), "amplitude_pm"),
        (lambda: with_strain_dipole("SrTiO3", width_nm=0), "width_nm"),
        (lambda: with_strain_dipole("SrTiO3", amplitude_pm=400, width_nm=0.1), "nearer than"),
    ],
)
def test_defects_that_cant_be_made(make, words):
    with pytest.raises(DataError, match=words):
        make()
