"""Lattices found in images: right, precise, and none where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairstem.denoise._crystal.lattice import find_lattice, refine_lattice
from fairstem.errors import DataError
from fairstem.simulate import lattices, phantom

CELLS = {
    "srtio3": (lattices.srtio3(), False),
    "cspbbr3": (lattices.cspbbr3(), False),
    "graphene": (lattices.graphene(), False),
    "ws2": (lattices.ws2(), False),
    "si110": (lattices.silicon110(), True),
    "fcc110": (lattices.fcc110(), True),
}


def true_vectors(name, parameters):
    """Primitive vectors in px of a phantom's cell."""
    cell, centred = CELLS[name]
    a, b = np.asarray(cell.vectors_nm) / parameters["pixel_size_nm"]
    vectors = np.stack([a, (a + b) / 2 if centred else b])
    cos, sin = math.cos(parameters["rotation"]), math.sin(parameters["rotation"])
    return vectors @ np.array([[cos, sin], [-sin, cos]]).T


def misfit(found, true):
    """Relative error of vectors that span the true lattice; infinite when they span another."""
    whole = np.rint(found @ np.linalg.inv(true))
    if abs(abs(np.linalg.det(whole)) - 1) > 0.01:
        return math.inf
    return float((np.hypot(*(found - whole @ true).T) / np.hypot(*found.T)).max())


@pytest.mark.parametrize("name", list(CELLS))
@pytest.mark.parametrize(("peak", "bound"), [(2.0, 4e-3), (50.0, 1e-3)])
def test_primitive_cell_of_each_crystal(name, peak, bound):
    p = phantom(name, seed=3, peak=peak)
    lattice, prior = find_lattice(p.data.astype(float))
    assert prior.holds
    assert lattice.prior is prior
    error = misfit(lattice.vectors, true_vectors(name, p.parameters))
    assert error < bound
    # the quoted error is no wish: it covers the true one
    assert error < 5 * lattice.relative_error


def test_vectors_are_reduced_and_right_handed():
    a, b = find_lattice(phantom("fcc110", seed=1).data.astype(float))[0].vectors
    assert a @ a <= b @ b
    assert abs(a @ b) <= 0.5 * (a @ a) + 1e-9
    assert a[0] * b[1] - a[1] * b[0] > 0


@pytest.mark.parametrize(("peak", "bound"), [(1.0, 1.2e-3), (20.0, 4e-4)])
def test_precision_with_shifted_and_half_columns(peak, bound):
    p = phantom("p2", peak=peak, seed=2, shifted=12, halved=12)
    lattice = find_lattice(p.data.astype(float))[0]
    assert misfit(lattice.vectors, 32.5 * np.eye(2)) < bound


@pytest.mark.parametrize("name", ["drifted", "row-drift", "bent", "dislocation", "vacuum-edge", "gain-ramp"])
def test_deformed_crystals_and_edges(name):
    p = phantom(name, seed=1, peak=10)
    lattice = find_lattice(p.data.astype(float))[0]
    a = 0.3905 / p.pixel_size_nm
    assert np.hypot(*lattice.vectors.T) == pytest.approx([a, a], rel=0.06)


def test_noise_films_ramps_and_single_atoms_show_none():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 128)
    images = [rng.poisson(2.0, (128, 128)), rng.poisson(5 + 20 * x + 0 * x[:, None])]
    images += [phantom("empty", texture=0.2, peak=peak, seed=seed).data for peak, seed in ((5, 0), (50, 1))]
    images += [phantom("single-atoms", seed=0).data]
    for image in images:
        lattice, prior = find_lattice(image.astype(float))
        assert lattice is None
        assert not prior.holds
        assert prior.name == "periodic"


def test_constant_image_and_too_few_cells_show_none():
    assert find_lattice(np.full((64, 64), 3.0))[0] is None
    y, x = np.mgrid[:96, :96]
    wide = 50 + 20 * np.cos(2 * np.pi * y / 70) + 20 * np.cos(2 * np.pi * x / 70)
    lattice, prior = find_lattice(np.random.default_rng(0).poisson(wide).astype(float))
    assert lattice is None
    assert not prior.holds


def test_without_noise_and_at_any_scale():
    p = phantom("p2", shape=(256, 256))
    first = find_lattice(p.clean)[0].vectors
    assert misfit(first, 32.5 * np.eye(2)) < 3e-4
    assert misfit(find_lattice(1000 * p.clean)[0].vectors, first) < 1e-5


def test_second_grain_in_the_part_that_is_left():
    p = phantom("grain-boundary", seed=0, peak=20)
    k = p.data.astype(float)
    first = find_lattice(k)[0].vectors
    ny, nx = k.shape
    y, x = np.mgrid[:ny, :nx] - 127.5
    side = math.sin(1.4) * x - math.cos(1.4) * y
    cell = np.eye(2) * 0.3905 / p.pixel_size_nm
    turned = []
    for weight in (side > 0, side < 0):
        lattice = find_lattice(k, weight.astype(float))[0]
        assert np.hypot(*lattice.vectors.T) == pytest.approx(cell[0, 0], rel=0.01)
        turned.append(math.degrees(math.atan2(*lattice.vectors[0])) % 90)
    assert abs((turned[0] - turned[1] + 45) % 90 - 45) == pytest.approx(math.degrees(0.4), abs=1)
    assert np.hypot(*first.T) == pytest.approx(cell[0, 0], rel=0.02)


def test_refinement_keeps_the_combination_it_is_given():
    p = phantom("p2", peak=20, shape=(256, 256))
    start = 32.5 * np.array([[1.0, 0.0], [1.0, 1.0]]) * 1.004
    out = refine_lattice(p.data.astype(float), start)
    assert out == pytest.approx(32.5 * np.array([[1.0, 0.0], [1.0, 1.0]]), abs=0.05)


def test_bad_input_is_named():
    with pytest.raises(DataError, match="shape"):
        find_lattice(np.ones((63, 80)))
    with pytest.raises(DataError, match="finite"):
        find_lattice(np.full((64, 64), np.nan))
    with pytest.raises(DataError, match="weight has shape"):
        find_lattice(np.ones((64, 64)), np.ones((64, 65)))
    with pytest.raises(DataError, match="weight adds up"):
        find_lattice(np.ones((64, 64)), np.zeros((64, 64)))
    with pytest.raises(DataError, match="span a plane"):
        refine_lattice(np.ones((64, 64)), np.ones((2, 2)))
