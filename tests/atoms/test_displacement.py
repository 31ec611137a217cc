"""Displacement, polarisation and strain against planted truth."""

import numpy as np
import pytest

from fairstem import simulate
from fairstem.atoms._displacement import displacement, polarisation, strain
from fairstem.atoms._lattice import lattice
from fairstem.errors import DataError

PX = 0.02


def crystal(cell=None, *, side=250, sd=0.1, seed=0, rotation=0.1, error_bars=True):
    cell = simulate.srtio3() if cell is None else cell
    table = cell.columns((side, side), PX, rotation=rotation, margin_nm=0.0)[["y", "x", "height", "species"]]
    rng = np.random.default_rng(seed)
    table[["y", "x"]] += rng.normal(0, sd, (len(table), 2))
    table = table.assign(sd_y=sd, sd_x=sd) if error_bars else table
    table.attrs = {"shape": (side, side), "pixel_size_nm": (PX, PX)}
    return table


@pytest.mark.parametrize("reference", ["lattice", "local"])
@pytest.mark.parametrize("error_bars", [True, False])
def test_deviations_have_the_scatter_their_error_bars_say(reference, error_bars):
    result = lattice(crystal(side=350, error_bars=error_bars))
    table = displacement(result, reference=reference)
    z = np.r_[table.dy / table.sd_dy, table.dx / table.sd_dx]
    assert len(z) > 1000
    assert 0.65 < np.mean(abs(z) < 1) < 0.72
    assert np.allclose(table.dy_pm, 1000 * PX * table.dy)
    assert table.attrs["errors_from"] == ("positions" if error_bars else "scatter")


def test_local_reference_removes_slow_distortion_and_keeps_a_displaced_column():
    table = crystal(sd=0.05)
    table["x"] += 4 * np.sin(2 * np.pi * table.y / 250)
    row = table.index[len(table) // 2]
    table.loc[row, "y"] += 0.22
    result = lattice(table)
    assert displacement(result).dx.std() > 1
    local = displacement(result, reference="local")
    inner = local[(local[["y", "x"]] > 40).all(axis=1) & (local[["y", "x"]] < 210).all(axis=1)]
    assert inner.dx.std() < 0.3  # what a plane leaves of the curvature
    assert local.dy[row] == pytest.approx(0.22, abs=0.17)


def test_polarisation_is_recovered_with_error_bars_and_free_of_strain():
    table = crystal(sd=0.1)
    ti = table.species == "Ti"
    table.loc[ti, "y"] += 0.5
    table.loc[ti, "x"] -= 0.3
    table["x"] *= 1.02
    table["y"] += 0.03 * table.x
    vectors = polarisation(lattice(table))
    assert set(vectors.n) == {4}
    expected = (0.5 - 0.03 * 0.3, -0.3 * 1.02)
    z = np.r_[(vectors.py - expected[0]) / vectors.sd_py, (vectors.px - expected[1]) / vectors.sd_px]
    assert 0.63 < np.mean(abs(z) < 1) < 0.74
    assert np.allclose(vectors.sd_py, 0.1 * (1 + 1 / 4) ** 0.5)


def test_strain_of_a_deformed_half_with_error_bars():
    table = crystal(simulate.square(), side=400, sd=0.1)
    middle = 200.0
    # the right half is stretched by 2 % along x and sheared by 1 %
    right = np.maximum(table.x - middle, 0)
    table["x"] += 0.02 * right
    table["y"] += 0.01 * right
    local = strain(lattice(table))
    left, stretched = local[local.x < middle - 50], local[local.x > middle + 50]
    assert stretched.exx.mean() - left.exx.mean() == pytest.approx(0.02, abs=0.001)
    assert stretched.eyy.mean() - left.eyy.mean() == pytest.approx(0.0, abs=0.001)
    assert stretched.exy.mean() - left.exy.mean() == pytest.approx(0.005, abs=0.001)
    assert stretched.rotation.mean() - left.rotation.mean() == pytest.approx(0.005, abs=0.001)


def test_error_bars_of_strain_cover_the_truth():
    hits = []
    for seed in range(8):
        local = strain(lattice(crystal(sd=0.2, seed=seed)))
        hits += [
            (abs(local[name]) < local[f"sd_{name}"]).mean() for name in ("exx", "eyy", "exy", "rotation")
        ]
    assert 0.63 < np.mean(hits) < 0.74


def test_bad_arguments():
    result = lattice(crystal())
    with pytest.raises(DataError, match="reference"):
        displacement(result, reference="moon")
    with pytest.raises(DataError, match="neighbours"):
        displacement(result, neighbours=2)
    with pytest.raises(DataError, match="neighbours"):
        strain(result, neighbours=2)
    with pytest.raises(DataError, match="no site 'C'"):
        polarisation(result, "C")
    with pytest.raises(DataError, match="both"):
        polarisation(result, "A", "A")
