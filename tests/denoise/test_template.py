"""One cell's image, fitted to all cells: known truth, noise-limited accuracy, sites."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairstem import simulate
from fairstem.denoise._contracts import FoundLattice
from fairstem.denoise._crystal.fit import fit_crystal
from fairstem.errors import DataError
from fairstem.metrics import psnr
from fairstem.priors import PriorCheck
from fairstem.simulate import lattices

PX = 0.018


def found(vectors) -> FoundLattice:
    known = PriorCheck("periodic", "repeats itself", 9.0, 5.0, ">=", "z", "")
    return FoundLattice(np.asarray(vectors, dtype=float), 1e-4, known)


def cell_vectors(cell, pixel_size_nm, rotation=0.0):
    cos, sin = math.cos(rotation), math.sin(rotation)
    vectors = np.asarray(cell.vectors_nm) @ np.array([[cos, -sin], [sin, cos]]) / pixel_size_nm
    return vectors if np.linalg.det(vectors) > 0 else vectors[::-1]


def crystal(cell, peak=5.0, n=128, rotation=0.05, pixel=PX, seed=0, offset=(1.3, -2.2), background=0.06):
    table = cell.columns((n, n), pixel, rotation=rotation, offset=offset, margin_nm=0.5)
    table["height"] *= peak * (1 - background)
    clean = simulate.render_columns(table, (n, n), background=peak * background)
    k = np.random.default_rng(seed).poisson(clean).astype(float)
    return k, clean, table, found(cell_vectors(cell, pixel, rotation))


CELLS = {
    "srtio3": (lattices.srtio3(), PX, 2),
    "dumbbells": (lattices.silicon110(), 0.012, 4),
    "honeycomb": (lattices.graphene(), 0.012, 2),
    "dim site": (lattices.ws2(), 0.012, 2),
    "hexagonal": (lattices.fcc111(), 0.014, 1),
    "small cell": (lattices.square(0.09, width_nm=0.02), PX, 1),
}


@pytest.mark.parametrize("name", CELLS)
def test_error_is_that_of_the_parameters(name):
    """The mean squared error is the noise of as many parameters as were kept, times a small factor."""
    cell, pixel, _ = CELLS[name]
    k, clean, _, lattice = crystal(cell, pixel=pixel)
    fit = fit_crystal(k, lattice)
    noise = clean.mean() * fit.freedom / k.size
    assert ((fit.estimate.mean - clean) ** 2).mean() < 4 * noise
    assert fit.estimate.mean.min() > 0


@pytest.mark.parametrize("name", CELLS)
def test_sites_are_the_columns(name):
    cell, pixel, number = CELLS[name]
    k, _, table, lattice = crystal(cell, pixel=pixel, peak=20.0)
    fit = fit_crystal(k, lattice)
    assert len(np.unique(fit.sites[:, 3])) == number
    true = table[["y", "x"]].to_numpy()
    inside = ((true > 0) & (true < 127)).all(axis=1)
    away = np.hypot(*(true[inside, None] - fit.sites[None, :, :2]).transpose(2, 0, 1))
    assert away.min(axis=1).max() < 0.35
    nearest = fit.sites[away.argmin(axis=1)]
    height = table["height"].to_numpy()[inside]
    bright = height > 0.3 * height.max()
    np.testing.assert_allclose(nearest[bright, 4], height[bright], rtol=0.15)
    np.testing.assert_allclose(nearest[bright, 2], table["width"].to_numpy()[inside][bright], rtol=0.15)


def test_sites_reach_one_cell_beyond_the_border():
    k, _, _, lattice = crystal(lattices.srtio3())
    sites = fit_crystal(k, lattice).sites
    assert sites[:, 0].min() < -5
    assert sites[:, 0].max() > 132
    assert sites.min(axis=0)[:2].min() >= -23


@pytest.mark.parametrize(("peak", "least"), [(1, 42.4), (5, 48.5), (20, 54.0)])
def test_protocol_p2(peak, least):
    p = simulate.phantom("p2", peak=peak, seed=0)
    fit = fit_crystal(p.data.astype(float), found(np.diag([32.5, 32.5])))
    assert psnr(fit.estimate.mean, p.clean) > least


def test_leverage_is_the_share_of_own_noise():
    """The leverage sums to the parameters, and predicts the change by a changed count."""
    k, _, _, lattice = crystal(lattices.srtio3(), n=64)
    fit = fit_crystal(k, lattice)
    leverage = fit.estimate.leverage
    assert 0 <= leverage.min() <= leverage.max() <= 1
    assert leverage.sum() == pytest.approx(fit.freedom, rel=0.1)
    changes = []
    picks = [tuple(p) for p in np.random.default_rng(1).integers(4, 60, (12, 2))]
    for y, x in picks:
        other = k.copy()
        other[y, x] += 0.5
        changes.append((fit_crystal(other, lattice).estimate.mean - fit.estimate.mean)[y, x] / 0.5)
    predicted = [leverage[p] for p in picks]
    assert np.mean(changes) == pytest.approx(np.mean(predicted), rel=0.5)


def test_without_noise_the_image_stays():
    _, clean, _, lattice = crystal(lattices.srtio3())
    assert psnr(fit_crystal(clean * 100, lattice).estimate.mean / 100, clean) > 55


def test_a_constant_stays_constant():
    fit = fit_crystal(np.full((64, 64), 3.0), found(np.diag([8.0, 9.0])))
    np.testing.assert_allclose(fit.estimate.mean, 3.0, rtol=1e-4)
    assert fit.sites.shape == (0, 5)


def test_excluded_pixels_have_no_influence():
    k, _, _, lattice = crystal(lattices.srtio3())
    excluded = np.zeros(k.shape, dtype=bool)
    excluded[40:60, 50:70] = True
    spoilt = k.copy()
    spoilt[excluded] = 90.0
    first = fit_crystal(k, lattice, excluded=excluded)
    second = fit_crystal(spoilt, lattice, excluded=excluded.astype(float))
    np.testing.assert_array_equal(first.estimate.mean, second.estimate.mean)
    assert (first.estimate.leverage[excluded] == 0).all()


def test_negative_and_fractional_counts_are_accepted():
    k, clean, _, lattice = crystal(lattices.srtio3())
    k += np.random.default_rng(3).normal(0, 0.3, k.shape) + 0.09
    fit = fit_crystal(k, lattice)
    assert psnr(fit.estimate.mean, clean + 0.09) > 36
    assert fit.estimate.mean.min() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: {"k": k[0]}, "counts have shape"),
        (lambda k: {"k": np.where(k == k.max(), np.nan, k)}, "counts have shape"),
        (lambda k: {"weight": np.ones((3, 3))}, "weight has shape"),
        (lambda k: {"weight": np.zeros(k.shape)}, "mean count"),
        (lambda k: {"weight": -np.ones(k.shape)}, "weight has shape"),
        (lambda k: {"excluded": np.zeros((3, 3), dtype=bool)}, "excluded has shape"),
        (lambda k: {"excluded": np.full(k.shape, 1.5)}, "weight has shape"),
        (lambda k: {"k": -k}, "mean count"),
    ],
)
def test_bad_input_is_named(change, message):
    k, _, _, lattice = crystal(lattices.srtio3(), n=64)
    arguments = {"k": k, "lattice": lattice, **change(k)}
    with pytest.raises(DataError, match=message):
        fit_crystal(**arguments)
