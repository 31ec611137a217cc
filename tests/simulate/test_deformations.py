"""Strain, dislocations and boundaries against elasticity and geometry."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from fairstem.errors import DataError
from fairstem.simulate import dislocate, join_grains, square, srtio3, strain_columns

SHAPE = (256, 256)


@pytest.fixture
def crystal():
    return srtio3().columns(SHAPE, 0.02, rotation=0.1)


def positions(table):
    return table[["y", "x"]].to_numpy(float)


def test_strain_changes_distances_by_its_amount(crystal):
    out = strain_columns(crystal, [[0.02, 0.0], [0.0, -0.01]], (128.0, 128.0))
    change = positions(out) - positions(crystal)
    np.testing.assert_allclose(change[:, 0], 0.02 * (crystal["y"] - 128), atol=1e-12)
    np.testing.assert_allclose(change[:, 1], -0.01 * (crystal["x"] - 128), atol=1e-12)


def test_dislocation_closes_everywhere_but_around_the_core():
    a = 20.0
    crystal = square(0.4).columns(SHAPE, 0.02, margin_nm=3.0)
    core = (127.5 + a / 2, 127.5 + a / 2)
    out = dislocate(crystal, core, (0.0, a))
    field = out[["shift_y", "shift_x"]].to_numpy()
    # the jump over the cut, along +x from far left to far right, is half a Burgers vector up and down
    where = positions(crystal)
    left = (where[:, 1] < 60) & (np.abs(where[:, 0] - core[0]) <= a / 2 + 1)
    above, below = left & (where[:, 0] > core[0]), left & (where[:, 0] < core[0])
    jump = np.abs(field[above, 1].mean() - field[below, 1].mean())
    assert jump == pytest.approx(a, rel=0.25)
    # no two columns fall together
    kept = positions(out)
    assert cKDTree(kept).query(kept, k=2)[0][:, 1].min() > 0.6 * a
    # far from the core the crystal is only slightly strained
    far = np.hypot(*(kept - core).T) > 4 * a
    nearest = cKDTree(kept).query(kept[far & ((kept > 20) & (kept < 236)).all(axis=1)], k=2)[0][:, 1]
    np.testing.assert_allclose(nearest, a, rtol=0.08)


def test_burgers_circuit_of_the_field():
    a, core = 20.0, (100.0, 100.0)
    angle = np.linspace(-math.pi + 1e-9, math.pi - 1e-9, 721)
    ring = pd.DataFrame({"y": core[0] + 60 * np.sin(angle), "x": core[1] + 60 * np.cos(angle)})
    out = dislocate(ring, core, (0.0, a))
    ends = out[["shift_y", "shift_x"]].iloc[[0, -1]].to_numpy()
    np.testing.assert_allclose(ends[1] - ends[0], [0.0, a], atol=1e-6)


def test_dislocation_field_satisfies_elastic_equilibrium():
    # Navier: (1 - 2 nu) laplace(u) + grad(div u) = 0 away from the core
    nu, a, h = 0.3, 20.0, 0.5

    def field(y, x):
        table = pd.DataFrame({"y": [y], "x": [x]})
        out = dislocate(table, (0.0, 0.0), (0.0, a), poisson_ratio=nu)
        return out[["shift_y", "shift_x"]].to_numpy()[0]

    y, x = 40.0, 55.0
    d2 = {}
    u0 = field(y, x)
    d2["yy"] = (field(y + h, x) - 2 * u0 + field(y - h, x)) / h**2
    d2["xx"] = (field(y, x + h) - 2 * u0 + field(y, x - h)) / h**2
    d2["yx"] = (field(y + h, x + h) - field(y + h, x - h) - field(y - h, x + h) + field(y - h, x - h)) / (
        4 * h**2
    )
    laplace = d2["yy"] + d2["xx"]
    grad_div = np.array([d2["yy"][0] + d2["yx"][1], d2["yx"][0] + d2["xx"][1]])
    scale = np.abs(d2["yy"]).max()
    np.testing.assert_allclose((1 - 2 * nu) * laplace + grad_div, 0.0, atol=0.01 * scale)


@pytest.mark.parametrize("angle", [math.pi / 2, 0.0, 0.8])
def test_grains_lie_on_their_sides_and_do_not_overlap(angle):
    cell = srtio3()
    first, second = (cell.columns(SHAPE, 0.02, rotation=r) for r in (-0.2, 0.25))
    out = join_grains(first, second, (128.0, 128.0), angle, closest=9.0)
    side = (positions(out) - 128.0) @ [-math.cos(angle), math.sin(angle)]
    np.testing.assert_array_equal(out["grain"], (side >= 0).astype(int))
    assert cKDTree(positions(out)).query(positions(out), k=2)[0][:, 1].min() >= 9.0
    assert set(out["grain"]) == {0, 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: strain_columns(t, [1.0, 2.0]), "gradient"),
        (lambda t: dislocate(t, (0, 0), (0, 0)), "burgers"),
        (lambda t: dislocate(t, (0, 0), (0, 1), poisson_ratio=0.5), "poisson_ratio"),
    ],
)
def test_bad_input_is_named(crystal, call, message):
    with pytest.raises(DataError, match=message):
        call(crystal)
