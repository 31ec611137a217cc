"""The thin phase object: exactly the symmetry of its projected cell, and electrons that are neither made nor lost."""

from dataclasses import replace

import numpy as np
import pytest

from fairstem.errors import DataError
from fairstem.simulate import crystal, thin_scan

OPERATIONS = {
    "C2": lambda p: p[::-1, ::-1],
    "C4": np.rot90,
    "mx": lambda p: p[::-1],
    "my": lambda p: p[:, ::-1],
    "diagonal": np.transpose,
}
FOUR = set(OPERATIONS)
TWO = {"C2", "mx", "my"}


def held(pattern):
    return {n for n, f in OPERATIONS.items() if np.allclose(pattern, f(pattern), atol=1e-6 * pattern.max())}


@pytest.fixture(scope="module")
def sto():
    return thin_scan("SrTiO3", (8, 8), detector=(25, 25), mrad_per_px=2.4)


def test_each_position_has_the_symmetry_of_the_projected_cell(sto):
    patterns = sto.intensities
    assert held(patterns[0, 0]) == held(patterns[4, 4]) == FOUR  # Sr; Ti and O
    assert held(patterns[0, 4]) == held(patterns[4, 0]) == TWO  # O
    assert held(patterns[0, 2]) == {"mx"}  # on a horizontal mirror line only
    assert held(patterns[2, 2]) == {"diagonal"}
    assert held(patterns[1, 2]) == set()


def test_the_scan_runs_as_the_cell_does(sto):
    """Turning, mirroring and moving the crystal does the same to the scan."""
    patterns = sto.intensities
    turned = np.rot90(np.rot90(patterns, axes=(0, 1)), axes=(2, 3))
    np.testing.assert_allclose(np.roll(turned, 1, axis=0), patterns, atol=1e-8)  # about position (0, 0)
    moved = thin_scan(crystal("SrTiO3").shifted(x=0.25), (8, 8), detector=(25, 25), mrad_per_px=2.4)
    np.testing.assert_allclose(moved.intensities, np.roll(patterns, 2, axis=1), atol=1e-8)


def test_electrons_are_neither_made_nor_lost():
    made = thin_scan("SrTiO3", (4, 4), detector=(41, 41), mrad_per_px=3.8, phase_rad=0.7)
    np.testing.assert_allclose(made.intensities.sum(axis=(2, 3)), 1, atol=2e-3)


def test_without_a_phase_the_patterns_are_the_aperture():
    made = thin_scan("SrTiO3", (3, 2), phase_rad=0, defocus_nm=5)
    k = 1.8 * np.hypot(*np.mgrid[-16:17, -16:17])
    inside = np.clip(0.5 + (20 - k) / 1.8, 0, 1)
    np.testing.assert_allclose(
        made.intensities, np.broadcast_to(inside / inside.sum(), (3, 2, 33, 33)), atol=1e-8
    )


def test_the_beam_is_deflected_towards_a_column():
    """A column is a potential well for electrons: it attracts (the centre of mass moves to it)."""
    cell = crystal("SrTiO3")
    lone = replace(
        cell, numbers=cell.numbers[:1], fractional=cell.fractional[:1] * 0 + 0.5, b_iso_nm2=cell.b_iso_nm2[:1]
    )
    made = thin_scan(lone, (8, 8), detector=(25, 25), mrad_per_px=2.4, phase_rad=0.5)
    ky, kx = np.mgrid[-12:13, -12:13]
    beside = made.intensities[3, 4]  # the column is at (4, 4)
    assert (beside * ky).sum() > 1e-3 > abs((beside * kx).sum())


def test_a_displaced_column_breaks_the_symmetry_only_near_it():
    cell = crystal("SrTiO3").repeat((3, 3, 1))
    moved = cell.fractional.copy()
    titanium = np.flatnonzero((cell.numbers == 22) & (np.abs(moved[:, :2] - 0.5).max(axis=1) < 0.1))
    moved[titanium, 0] += 0.02 / cell.cell_nm[0]
    perfect, made = (
        thin_scan(c, (12, 12), detector=(25, 25), mrad_per_px=2.4).intensities
        for c in (cell, replace(cell, fractional=moved))
    )
    change = np.abs(made - perfect).sum(axis=(2, 3))
    assert change[6, 6] > 50 * change[0, 0]
    assert "my" not in held(made[6, 6])
    np.testing.assert_allclose(
        perfect[:4, :4],
        thin_scan("SrTiO3", (4, 4), detector=(25, 25), mrad_per_px=2.4).intensities,
        atol=1e-7,
    )


def test_the_signal_says_what_made_it(sto):
    signal = sto.signal(sto.counts(100, 0))
    (step,) = signal.metadata.fairstem.steps
    assert step["function"] == "fairstem.simulate.thin_scan"
    assert step["parameters"]["phase_rad"] == 1.5
    assert signal.axes_manager["k_x"].axis[12] == 0


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"structure": "unobtainium"}, "unobtainium"),
        ({"scan": (0, 4)}, "scan"),
        ({"scan": (4,)}, "scan"),
        ({"detector": (32, 32)}, "odd"),
        ({"detector": (9, 9)}, "disc"),
        ({"mrad_per_px": 0}, "mrad_per_px"),
        ({"semiangle_mrad": -3}, "semiangle_mrad"),
        ({"energy_kev": float("nan")}, "energy_kev"),
        ({"phase_rad": -1}, "phase_rad"),
        ({"defocus_nm": float("inf")}, "defocus_nm"),
    ],
)
def test_bad_input_is_named(given, word):
    with pytest.raises(DataError, match=word):
        thin_scan(**{"structure": "SrTiO3", "scan": (4, 4)} | given)
