"""Centres of patterns: bias, coverage of the error bars, robustness, bad input."""

import dask.array as da
import numpy as np
import pytest
from tests.diffraction import geometry_phantoms as phantoms

from fairstem.diffraction import center
from fairstem.errors import CalibrationError, DataError, DataWarning

DESCAN = ((0.05, 0.02), (-0.03, 0.04))


@pytest.fixture(scope="module")
def scan():
    return phantoms.scan((8, 8), dose=3000, descan=DESCAN, seed=1)


def truth_of(shape, at=(31.3, 32.6), descan=DESCAN):
    grids = np.indices(shape) - np.array([(n - 1) / 2 for n in shape])[:, None, None]
    return np.array(at)[:, None, None] + np.tensordot(np.array(descan), grids, axes=1)


def test_bias_and_coverage_of_centre_plane_and_blocks():
    middle, slopes, blocks, errors = [], [], [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        at = (31.3 + rng.uniform(-0.5, 0.5), 32.6 + rng.uniform(-0.5, 0.5))
        found = center(phantoms.scan((6, 6), dose=3000, descan=DESCAN, seed=seed, center=at), block=2)
        errors.append(np.subtract(found.center, at))
        middle.append(errors[-1] / found.center_sd)
        slopes.append((found.descan - DESCAN) / found.descan_sd)
        blocks.append(((found.positions - truth_of((6, 6), at)) / found.sd)[:, ::2, ::2])
    assert np.abs(np.mean(errors, axis=0)).max() < 0.08
    assert 0.55 < np.mean(np.abs(blocks) < 1) < 0.8  # 180 values, 68 ± 3 % by chance
    assert np.mean(np.abs(slopes) < 1) > 0.5  # 40 values, 68 ± 6 % by chance
    assert np.mean(np.abs(middle) < 2) > 0.8


def test_centre_of_mass_is_not_the_centre(scan):
    total = scan.sum(axis=(0, 1)).astype(float)
    bright = np.where(total > 0.3 * total.max(), total, 0.0)
    mass = np.array([np.sum(g * bright) for g in np.indices(total.shape)]) / bright.sum()
    assert abs(mass[1] - 32.6) > 0.5
    assert abs(center(scan).center[1] - 32.6) < 0.15


def test_low_dose_is_summed_over_blocks():
    few = phantoms.scan((8, 8), dose=150, seed=3)
    found = center(few)
    assert found.block[0] > 3
    assert np.all(np.abs(np.subtract(found.center, (31.3, 32.6))) < 4 * np.array(found.center_sd))
    assert found.positions.shape == (2, 8, 8)


def test_finer_blocks_follow_the_plane(scan):
    found = center(scan, block=1)
    assert found.block == (1, 1)
    error = found.positions - truth_of((8, 8))
    assert 0.6 < np.sqrt(np.mean((error / found.sd) ** 2)) < 1.5
    np.testing.assert_allclose(found.plane, truth_of((8, 8)), atol=0.3)


def test_outliers_do_not_move_the_plane(scan):
    moved = scan.copy()
    moved[0, :3] = np.roll(scan[0, :3], 6, axis=-1)
    a, b = center(scan, block=1), center(moved, block=1)
    np.testing.assert_allclose(a.center, b.center, atol=0.15)


def test_lazy_is_eager(scan):
    lazy = da.from_array(scan, chunks=(3, 5, 64, 64))
    a, b = center(scan, block=2), center(lazy, block=2, budget="2 MB")
    np.testing.assert_allclose(a.positions, b.positions, atol=1e-9)
    assert a.center == pytest.approx(b.center, abs=1e-9)


def test_line_and_single_pattern(scan):
    assert center(scan[0] * 5).positions.shape == (2, 8)
    one = center(phantoms.scan((1, 1), dose=1e6, seed=0)[0, 0])
    assert one.positions.shape == (2,)
    assert one.positions == pytest.approx((31.3, 32.6), abs=0.12)


def test_beam_stop_with_mask(scan):
    covered = scan.copy()
    covered[..., 24:40, :36] = 0
    mask = np.ones((64, 64), bool)
    mask[24:40, :36] = False
    found = center(covered, mask=mask)
    assert np.all(
        np.abs(np.subtract(found.center, (31.3, 32.6))) < np.maximum(4 * np.array(found.center_sd), 0.1)
    )


def test_beam_stop_without_mask_is_said(scan):
    covered = scan.copy()
    covered[..., 26:38, 26:38] = 0
    found = center(covered)
    assert {p.name: p.holds for p in found.priors}["no-beam-stop"] is False
    assert np.all(np.abs(np.subtract(found.center, (31.3, 32.6))) < 0.3)


@pytest.mark.parametrize("dose", [1e4, 1e6])
def test_spots_by_reflection(dose):
    k = np.indices((64, 64), dtype=float)
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(8):
        at = np.array([30.0, 33.0]) + rng.uniform(-0.5, 0.5, 2)
        image = np.full((64, 64), 5e-4)
        for h, m in np.ndindex(7, 7):
            y, x = at[0] + 9 * (h - 3) + (m - 3), at[1] - (h - 3) + 9 * (m - 3)
            image += np.exp(-((k[0] - y) ** 2 + (k[1] - x) ** 2) / 2 - 0.5 * ((h - 3) ** 2 + (m - 3) ** 2))
        found = center(rng.poisson(dose * image / image.sum()))
        assert found.method == "reflection"
        errors.append((np.subtract(found.center, at)) / found.center_sd)
    assert np.mean(np.abs(errors) < 2.5) > 0.85


def lopsided(shape=(2, 2)):
    """A bright disc among wide faint shapes that are larger, on a detector that cuts them off."""
    k = np.indices((96, 96), dtype=float)
    expected = 2.0 + 600 * phantoms.disc(k - np.array([[[40.3]], [[12.6]]]), 11, 1.2)
    for y, x, radius in ((12, 4, 22), (66, 10, 28)):
        expected += 40 * phantoms.disc(k - np.array([[[y]], [[x]]]), radius, 3)
    counts = np.random.default_rng(0).poisson(np.broadcast_to(expected, (*shape, 96, 96)))
    return np.minimum(counts, 100)  # a counter of few bits


def test_a_faint_shape_is_not_taken_for_the_disc():
    found = center(lopsided())
    assert found.method == "edge"
    assert found.center == pytest.approx((40.3, 12.6), abs=0.15)


def test_a_reflection_away_from_the_beam_is_said():
    k = np.indices((96, 96), dtype=float)
    expected = 60 * phantoms.disc(k - 47.5, 30, 3) + 150 * phantoms.disc(k - 38.0, 6, 1)
    wrong = center(np.random.default_rng(0).poisson(expected), method="reflection")
    assert wrong.center == pytest.approx((47.5, 47.5), abs=4)
    assert {p.name: p.holds for p in wrong.priors}["beam-at-centre"] is False
    right = center(phantoms.scan((2, 2), asymmetry=0.0, seed=1), method="reflection")
    assert {p.name: p.holds for p in right.priors}["beam-at-centre"] is True


def test_averages_are_said(scan):
    found = center(scan / 7.0)
    assert {p.name: p.holds for p in found.priors}["counts"] is False
    assert found.center == pytest.approx(center(scan).center, abs=0.02)


def test_nan_is_named_and_left_out(scan):
    broken = scan.astype(np.float32)
    broken[2, 3, 5, 7] = np.nan
    with pytest.warns(DataWarning, match="1 pixels of scan"):
        found = center(broken)
    assert np.isfinite(found.positions).all()
    broken[..., :20, :] = np.nan
    with pytest.raises(DataError, match="aren't finite"):
        center(broken)


def test_bad_input(scan):
    with pytest.raises(DataError, match="no electrons"):
        center(np.zeros((3, 3, 16, 16), np.uint16))
    with pytest.raises(DataError, match="saturated"):
        center(np.full((3, 3, 16, 16), 65535, np.uint16))
    with pytest.raises(DataError, match="5 axes"):
        center(np.ones((2, 2, 2, 16, 16)))
    with pytest.raises(DataError, match="mask of shape"):
        center(scan, mask=np.ones((3, 3), bool))
    with pytest.raises(DataError, match="block"):
        center(scan, block=0)
    with pytest.raises(DataError, match="method"):
        center(scan, method="mass")
    with pytest.raises(DataError, match="precision_px"):
        center(scan, precision_px=-1)
    with pytest.raises(DataError, match="no disc"):
        center(np.random.default_rng(0).poisson(3, (4, 4, 32, 32)), method="edge")


def test_centre_outside_the_detector():
    away = phantoms.scan((3, 3), dose=2e5, detector=(64, 64), center=(32.0, -6.0), seed=0)
    with pytest.raises(CalibrationError, match="outside the detector"):
        center(away, method="edge")


def test_disc_cut_by_the_edge_of_the_detector():
    cut = phantoms.scan((3, 3), dose=1e5, center=(31.0, 8.0), seed=0)
    found = center(cut)
    assert {p.name: p.holds for p in found.priors}["disc-whole"] is False
    assert found.center == pytest.approx((31.0, 8.0), abs=0.3)


def test_detector_that_is_not_square():
    wide = phantoms.scan((4, 4), dose=2e4, detector=(56, 90), center=(27.2, 44.9), seed=0)
    assert center(wide).center == pytest.approx((27.2, 44.9), abs=0.12)
