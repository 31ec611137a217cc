"""The local estimate: block matching and collaborative filtering of Poisson counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from fairstem.denoise._blocks.local import local_estimate
from fairstem.denoise._blocks.matching import BLOCK, GROUP, match_local, match_periodic, reference_blocks
from fairstem.denoise._blocks.scales import bin_counts, blend, refine_grid, smooth
from fairstem.denoise._blocks.texture import _bands
from fairstem.denoise._blocks.transforms import cosine, cosine_back, haar, haar_back, to_columns, to_rows
from fairstem.denoise._contracts import Estimate
from fairstem.errors import DataError

Floats = NDArray[np.float64]


def crystal(n: int, cell: float, peak: float, sigma: float = 2.5, background: float = 0.1) -> Floats:
    y = np.arange(n) % cell - cell / 2
    line = np.exp(-0.5 * (y / sigma) ** 2)
    return peak * (background + (1 - background) * np.outer(line, line))


def poisson(clean: Floats, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).poisson(clean).astype(np.float64)


def error(estimate: Floats, clean: Floats) -> float:
    return float(np.mean((estimate - clean) ** 2))


@pytest.mark.parametrize("level", [0.5, 7.0, 1e5])
def test_constant_stays_constant(level: float) -> None:
    estimate = local_estimate(np.full((40, 40), level))
    np.testing.assert_allclose(estimate.mean, level, rtol=1e-5)


def test_no_counts_at_all_gives_a_positive_estimate() -> None:
    estimate = local_estimate(np.zeros((32, 32)))
    assert (estimate.mean > 0).all()
    assert estimate.mean.max() < 1e-2


@pytest.mark.parametrize("mean", [0.3, 1.0, 8.0])
def test_flat_region_is_unbiased(mean: float) -> None:
    clean = np.full((64, 64), mean)
    estimates = [local_estimate(poisson(clean, seed)).mean for seed in range(4)]
    # three standard errors of the mean of all counts
    assert abs(np.mean(estimates) - mean) < 3 * np.sqrt(mean / clean.size / 4)
    assert np.mean([error(e, clean) for e in estimates]) < 0.02 * mean


def test_structured_region_is_unbiased() -> None:
    clean = crystal(96, 16.0, 2.0)
    shift = [local_estimate(poisson(clean, seed)).mean.mean() - clean.mean() for seed in range(4)]
    assert abs(np.mean(shift)) < 3 * np.sqrt(clean.mean() / clean.size / 4)


def test_without_noise_the_image_is_kept() -> None:
    clean = crystal(80, 16.0, 200.0)
    estimate = local_estimate(clean).mean
    # what a threshold of 3 sigma takes away is 1 % of the noise at most
    assert error(estimate, clean) < 0.01 * clean.mean()


def test_translation_by_the_block_grid() -> None:
    # 12 px: the grid of blocks (3 px) and of the binning (4 px) both come back
    counts = poisson(crystal(120, 16.0, 20.0))
    whole, part = local_estimate(counts).mean, local_estimate(counts[12:, 12:]).mean
    inner = (slice(40, -16), slice(40, -16))
    assert error(part[28:-16, 28:-16], whole[inner]) < 0.1 * error(counts[inner], whole[inner])


def test_edge_is_sharper_than_the_best_gaussian() -> None:
    clean = np.where(np.arange(96)[None] < 47, 2.0, 20.0) * np.ones((96, 1))
    counts = poisson(clean)
    best = min(error(ndimage.gaussian_filter(counts, s), clean) for s in (0.5, 0.7, 1.0, 1.4, 2.0, 3.0))
    assert error(local_estimate(counts).mean, clean) < 0.5 * best


def test_crystal_is_better_than_the_best_gaussian_and_periodic_search_better_still() -> None:
    clean = crystal(128, 21.0, 5.0)
    counts = poisson(clean)
    best = min(error(ndimage.gaussian_filter(counts, s), clean) for s in (1.0, 1.4, 2.0, 2.8))
    local = error(local_estimate(counts).mean, clean)
    vectors = np.array([[21.0, 0.0], [0.0, 21.0]])
    periodic = error(local_estimate(counts, search="periodic", vectors=vectors).mean, clean)
    assert periodic < local < 0.7 * best


@pytest.mark.parametrize(("peak", "sigma"), [(1.0, 2.5), (20.0, 2.5), (100.0, 1.5)])
def test_leverage_is_the_covariance_with_the_noise(peak: float, sigma: float) -> None:
    clean = crystal(64, 16.0, peak, sigma)
    measured, stated = [], []
    for seed in range(4):
        counts = poisson(clean, seed)
        estimate = local_estimate(counts)
        measured.append(np.mean((estimate.mean - clean) * (counts - clean) / clean))
        stated.append(estimate.leverage.mean())
    assert 0.75 < np.mean(stated) / np.mean(measured) < 1.33


def amorphous(n: int, level: float, seed: int = 0) -> Floats:
    """A Gaussian random field, correlated over 2.5 px."""
    field = ndimage.gaussian_filter(np.random.default_rng([9, seed]).normal(size=(n, n)), 1.8, mode="wrap")
    return np.maximum(level * (1 + 0.2 * field / field.std()), 0.0)


@pytest.mark.parametrize("level", [0.5, 2.0, 10.0])
def test_leverage_holds_on_amorphous_films(level: float) -> None:
    measured, stated = [], []
    for seed in range(4):
        clean = amorphous(96, level, seed)
        counts = poisson(clean, seed)
        estimate = local_estimate(counts)
        measured.append(np.mean((estimate.mean - clean) * (counts - clean) / clean))
        stated.append(estimate.leverage.mean())
    assert 0.7 < np.mean(stated) / np.mean(measured) < 1.4


def test_amorphous_film_is_as_near_as_a_wiener_filter_that_knows_its_spectrum() -> None:
    clean = amorphous(128, 5.0)
    counts = poisson(clean)
    qy, qx = np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128), indexing="ij")
    shape = np.exp(-((2 * np.pi * 1.8) ** 2) * (qy**2 + qx**2))
    power = shape / shape.mean() * 1.0  # a variance of (0.2 x 5)²
    best = np.fft.ifft2(np.fft.fft2(counts - 5.0) * power / (power + 5.0)).real + 5.0
    assert error(local_estimate(counts).mean, clean) < 1.15 * error(best, clean)


def test_bands_add_up_to_the_image() -> None:
    counts = poisson(np.full((30, 41), 5.0))
    np.testing.assert_allclose(sum(band.values for band in _bands(counts)), counts, atol=1e-9)


def test_dark_counts_are_part_of_the_mean() -> None:
    dark = 4.0
    rng = np.random.default_rng(0)
    clean = crystal(64, 16.0, 10.0)
    counts = rng.poisson(clean) + rng.normal(dark, np.sqrt(dark), clean.shape)
    estimate = local_estimate(counts, dark).mean
    assert estimate.min() >= dark
    assert error(estimate, clean + dark) < 0.1 * (clean.mean() + dark)


def test_where_is_filtered_as_the_whole_is() -> None:
    counts = poisson(crystal(96, 16.0, 10.0))
    where = np.zeros(counts.shape, bool)
    where[40:56, 40:56] = True
    part, whole = local_estimate(counts, where=where).mean, local_estimate(counts).mean
    assert error(part[where], whole[where]) < 0.05 * counts.mean()


def test_small_where_is_cut_out_of_a_large_image() -> None:
    counts = poisson(crystal(260, 16.0, 10.0))
    where = np.zeros(counts.shape, bool)
    where[200:210, 20:30] = True
    part, whole = local_estimate(counts, where=where), local_estimate(counts)
    assert error(part.mean[where], whole.mean[where]) < 0.01 * counts.mean()
    assert (part.mean > 0).all()


def test_same_counts_same_estimate() -> None:
    counts = poisson(crystal(40, 16.0, 5.0))
    np.testing.assert_array_equal(local_estimate(counts).mean, local_estimate(counts).mean)


def test_pilot_is_used() -> None:
    clean = crystal(64, 16.0, 2.0)
    counts = poisson(clean)
    blurred = np.full_like(clean, clean.mean())
    assert error(local_estimate(counts, pilot=clean).mean, clean) < error(
        local_estimate(counts, pilot=blurred).mean, clean
    )


@pytest.mark.parametrize("shape", [(8, 8), (9, 31), (33, 70)])
def test_any_size_from_one_block(shape: tuple[int, int]) -> None:
    estimate = local_estimate(poisson(np.full(shape, 5.0)))
    assert estimate.mean.shape == estimate.leverage.shape == shape
    assert np.isfinite(estimate.mean).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": np.ones((7, 40))}, "at least 8 px"),
        ({"k": np.ones((4, 40, 40))}, "shape"),
        ({"k": np.full((40, 40), np.nan)}, "not finite"),
        ({"dark": -1.0}, "dark"),
        ({"search": "global"}, "search"),
        ({"search": "periodic"}, "vectors"),
        ({"where": np.ones((3, 3), bool)}, "where"),
        ({"pilot": np.ones((3, 3))}, "pilot"),
    ],
)
def test_bad_input_is_named(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        local_estimate(**{"k": np.ones((40, 40)), **options})


def test_transforms_keep_power_and_come_back() -> None:
    group = np.random.default_rng(0).normal(size=BLOCK * BLOCK * GROUP).astype(np.float32)
    rows, columns, scratch = group.copy(), np.empty_like(group), np.empty(BLOCK * GROUP, np.float32)
    haar(rows, GROUP, scratch)
    cosine(rows)
    to_columns(rows, columns)
    cosine(columns)
    assert np.sum(columns**2) == pytest.approx(np.sum(group**2), rel=1e-5)
    cosine_back(columns)
    to_rows(columns, rows)
    cosine_back(rows)
    haar_back(rows, GROUP, scratch)
    np.testing.assert_allclose(rows, group, atol=1e-5)


def test_blocks_a_cell_away_are_matched() -> None:
    guide = crystal(80, 16.0, 5.0).astype(np.float32)
    corners = np.array([[30, 33]], np.int32)
    for search in ("local", "periodic"):
        groups, sizes = np.zeros((1, GROUP, 2), np.int32), np.zeros(1, np.int32)
        if search == "local":
            match_local(guide, corners, 32, 2, np.inf, groups, sizes)
        else:
            match_periodic(guide, corners, np.diag([16.2, 15.8]), 3, 1, groups, sizes)
        offsets = groups[0, :9] - corners[0]
        assert sizes[0] == GROUP
        assert not (offsets % 16).any()


def test_reference_blocks_cover_where() -> None:
    where = np.zeros((30, 41), bool)
    where[5, 40] = True
    corners = reference_blocks(where.shape, 3, where)
    assert ((corners[:, 1] + BLOCK > 40) & (abs(corners[:, 0] - 1.5) < 5)).all()
    assert len(reference_blocks((BLOCK, BLOCK), 3, None)) == 1


def test_refined_counts_keep_their_sums() -> None:
    sums = poisson(np.full((16, 20), 9.0))
    np.testing.assert_allclose(bin_counts(refine_grid(sums, 4), 4), sums, atol=1e-9)


def test_blend_takes_the_better_one() -> None:
    clean = crystal(96, 16.0, 20.0)
    counts = poisson(clean)
    blurred = Estimate(ndimage.gaussian_filter(counts, 8.0), np.full(clean.shape, 1 / (4 * np.pi * 64)))
    good = smooth(counts, 1.4)
    mixed = blend(blurred, good, counts)
    assert error(mixed.mean, clean) < 1.05 * error(good.mean, clean)
