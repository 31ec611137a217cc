"""Slow fields of a crystal: followed where they are, zero where they are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairstem import simulate
from fairstem.denoise._contracts import FoundLattice
from fairstem.denoise._crystal.fields import smooth_displacement
from fairstem.denoise._crystal.fit import fit_crystal
from fairstem.denoise._crystal.smoothing import smooth
from fairstem.metrics import psnr
from fairstem.priors import PriorCheck
from fairstem.simulate import lattices

N, PX = 192, 0.018
CELL = lattices.srtio3()
VECTORS = np.diag([0.3905 / PX] * 2)
Y, X = np.mgrid[:N, :N].astype(float)


def found(vectors=VECTORS) -> FoundLattice:
    known = PriorCheck("periodic", "repeats itself", 9.0, 5.0, ">=", "z", "")
    return FoundLattice(np.asarray(vectors, dtype=float), 1e-4, known)


def scene(displacement=None, gain=1.0, background=0.0, seed=0, peak=5.0):
    """Counts and truth; `displacement` says where each pixel samples the object."""
    table = CELL.columns((N, N), PX, offset=(1.3, -2.2), margin_nm=1.0)
    table["height"] *= peak * 0.94
    image = simulate.render_columns(table, (N, N), background=0.06 * peak, displacement=displacement)
    clean = gain * image + background
    return np.random.default_rng(seed).poisson(clean).astype(float), clean


@pytest.mark.parametrize("seed", range(3))
def test_fields_of_a_perfect_crystal_are_none(seed):
    k, _ = scene(seed=seed)
    fit = fit_crystal(k, found())
    assert np.abs(fit.displacement).max() < 0.2
    assert np.ptp(fit.gain) < 0.05
    assert np.ptp(fit.background) < 0.05


FIELDS = {
    "strain gradient": (np.stack([-0.005 * Y**2 / N, 0 * X]), 38),
    "drift of 4 px": (np.stack([0 * Y, 4 * np.sin(2 * np.pi * Y / N)]), 37),
    "wrong lattice": (np.stack([0.004 * (Y - N / 2), -0.003 * (X - N / 2)]), 38),
}


@pytest.mark.parametrize("name", FIELDS)
def test_displacement_is_followed(name):
    field, least = FIELDS[name]
    k, clean = scene(displacement=field)
    fit = fit_crystal(k, found())
    assert psnr(fit.estimate.mean, clean) > least
    # the pixel at r shows the cell at r - u, where the simulation samples r + field
    error = fit.displacement + field
    error -= np.median(error, axis=(1, 2), keepdims=True)
    assert np.sqrt((error**2).mean()) < 0.2


def test_ramps_are_followed():
    ramp = np.linspace(0.5, 1.5, N)[None] * np.ones((N, 1))
    k, clean = scene(gain=ramp)
    fit = fit_crystal(k, found())
    assert psnr(fit.estimate.mean, clean) > 40
    assert np.sqrt(((fit.gain / fit.gain.mean() - ramp) ** 2).mean()) < 0.05
    k, clean = scene(background=ramp)
    fit = fit_crystal(k, found())
    assert psnr(fit.estimate.mean, clean) > 40
    assert np.ptp(fit.gain) < 0.15


def test_vibration_is_a_plane_wave():
    """Two lines, fast against a row: far beyond what a field smooth over cells can follow."""
    field = np.stack(
        [0.5 * np.cos(2 * np.pi * (0.13 * Y + 0.002 * X)), 0.6 * np.sin(2 * np.pi * (0.31 * Y - 0.017 * X))]
    )
    k, clean = scene(displacement=field)
    fit = fit_crystal(k, found())
    assert psnr(fit.estimate.mean, clean) > 38
    error = fit.displacement + field
    error -= error.mean(axis=(1, 2), keepdims=True)
    assert np.sqrt((error**2).mean()) < 0.15


def test_rows_have_their_own_shift():
    field = np.zeros((2, N, N))
    field[1] = np.random.default_rng(5).normal(0, 0.6, (N, 1))
    k, clean = scene(displacement=field, peak=20.0)
    fit = fit_crystal(k, found())
    still = psnr(scene(peak=20.0)[1], clean)
    assert psnr(fit.estimate.mean, clean) > still + 6


def test_around_a_dislocation_the_crystal_goes_on():
    p = simulate.phantom("dislocation", peak=5, seed=0, shape=(N, N))
    k = p.data.astype(float)
    fit = fit_crystal(k, found(np.diag([0.39 / PX] * 2)))
    assert psnr(fit.estimate.mean, p.clean) > 33
    residual = (k - fit.estimate.mean) / np.sqrt(fit.estimate.mean)
    # the line where the displacement jumps by a cell does not show
    jumps = sum(int((np.abs(np.diff(fit.displacement[1], axis=a)) > 10).sum()) for a in (0, 1))
    assert jumps > 40
    assert 0.9 < (residual**2).mean() < 1.1


def test_a_region_is_fitted_alone():
    k, clean = scene()
    k[:, N // 2 :] = np.random.default_rng(1).poisson(1.0, (N, N // 2))
    weight = (X < N // 2).astype(float)
    fit = fit_crystal(k, found(), weight)
    assert psnr(fit.estimate.mean[:, : N // 2], clean[:, : N // 2]) > 38
    assert np.isfinite(fit.estimate.mean).all()
    assert fit.estimate.mean.max() < 1.5 * clean.max()
    assert (fit.estimate.leverage[weight == 0] == 0).all()


def test_an_earlier_fit_is_continued():
    field, _ = FIELDS["drift of 4 px"]
    k, clean = scene(displacement=field)
    first = fit_crystal(k, found())
    excluded = np.zeros(k.shape)
    excluded[80:100, 80:100] = 1.0
    again = fit_crystal(k, found(), excluded=excluded, start=first)
    assert psnr(again.estimate.mean, clean) > psnr(first.estimate.mean, clean) - 1


def test_few_cells_at_one_count_are_not_bent():
    """Two by two cells and one count at the top: nothing supports a displacement."""
    for seed in range(6):
        k, _ = scene(seed=seed, peak=1.0)
        fit = fit_crystal(k[:44, :44], found())
        assert np.abs(fit.displacement - fit.displacement.mean(axis=(1, 2), keepdims=True)).max() < 3.0


def test_smoothness_is_chosen_by_prediction():
    """Boxes with a step in their displacement are smoothed better than with any one width."""
    rng = np.random.default_rng(0)
    size, information = (24, 24), 40.0
    truth = np.where(np.arange(24) < 12, -0.5, 0.5)[None, :, None] * np.ones((24, 1, 2))
    none = np.zeros((*size, 2))
    for signal in (truth, none):
        data = np.zeros((*size, 5))
        data[..., 2] = data[..., 4] = information
        data[..., :2] = information * (signal + rng.normal(0, 1 / math.sqrt(information), (*size, 2)))
        smoothed = smooth_displacement(data, none, VECTORS)
        error = smoothed.field.reshape(*size, 2) - signal
        assert smoothed.constant is not bool(signal.any())
        flat, inverse = data.reshape(-1, 5), np.linalg.inv(VECTORS)
        for width in (8.0, 4.0, 2.0, 1.0, 0.6, 0.4):
            one, _, _ = smooth(flat, size, (width, width), 1, none.reshape(-1, 2), VECTORS, inverse, False)
            assert (error**2).mean() < ((one.reshape(*size, 2) - signal) ** 2).mean()
