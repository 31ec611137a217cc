"""Warps: values kept by one, counts by the other; exact cases, invariants, masks, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem.errors import DataError
from fairstem.register._series.warp import deposit, fill_nearest, resample


def field(shape=(20, 24), seed=0, size=1.0):
    """A smooth displacement (2, y, x) px."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    a = rng.normal(0, size, (2, 4))
    return np.stack([c[0] + c[1] * np.sin(5 * y + c[2]) * np.cos(4 * x + c[3]) for c in a])


def bump(y, x):
    return 3.0 + np.exp(-((y - 9) ** 2 + (x - 11) ** 2) / (2 * 3.0**2))


def test_resampling_on_its_own_grid_changes_nothing():
    values = np.random.default_rng(0).poisson(5, (20, 24)).astype(float)
    for order in (1, 3):
        out, weight = resample(values, np.zeros((2, 20, 24)), order=order)
        np.testing.assert_allclose(out, values, atol=1e-12)
        assert weight.all()


# linear interpolation errs by an eighth of the curvature, which is 1 / 9 an axis
@pytest.mark.parametrize(("order", "bound"), [(1, 2 / 72), (3, 1e-3)])
def test_resampling_hits_a_smooth_image(order, bound):
    y, x = np.mgrid[:20, :24].astype(float)
    u = field(size=0.7)
    out, weight = resample(bump(y, x), u, order=order)
    error = (out - bump(y + u[0], x + u[1]))[weight > 0]
    assert abs(error).max() < bound


def test_weights_say_what_lies_inside():
    u = field(size=2.0)
    y, x = np.mgrid[:20, :24].astype(float)
    _, weight = resample(np.ones((20, 24)), u)
    inside = (y + u[0] >= 0) & (y + u[0] <= 19) & (x + u[1] >= 0) & (x + u[1] <= 23)
    np.testing.assert_array_equal(weight > 0, inside)
    assert 0 < inside.sum() < inside.size


def test_samples_outside_hold_the_nearest_value():
    values = np.add.outer(np.arange(8.0), 10 * np.arange(9.0))
    out, weight = resample(values, np.full((2, 8, 9), 100.0))
    np.testing.assert_allclose(out, values[-1, -1])
    assert not weight.any()


def test_masked_pixels_are_not_touched():
    values, mask = np.ones((20, 24)), np.ones((20, 24), dtype=bool)
    mask[10, 12] = False
    values[10, 12] = 0.0
    _, weight = resample(values, np.zeros((2, 20, 24)), mask)
    np.testing.assert_array_equal(weight > 0, mask)
    out, weight = resample(values, np.full((2, 20, 24), 0.5), mask)
    assert not weight[9:11, 11:13].any()
    assert weight[:19, :23].sum() == 19 * 23 - 4
    np.testing.assert_allclose(out, 1.0, atol=1e-12)  # the hole neither rings nor pulls


def test_rows_that_move_as_one_need_one_number():
    values = np.random.default_rng(1).normal(size=(20, 24))
    rows = np.random.default_rng(2).normal(size=(2, 20))
    view = np.broadcast_to(rows[:, :, None], (2, 20, 24))
    for warp in (resample, deposit):
        for a, b in zip(warp(values, view), warp(values, view.copy()), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("spread", ["linear", "cubic"])
@pytest.mark.parametrize("size", [0.3, 3.0, 40.0])
def test_no_count_is_lost_unsaid(spread, size):
    counts = np.random.default_rng(3).poisson(4, (20, 24, 5))
    out, coverage, lost = deposit(counts, field(size=size), spread=spread)
    np.testing.assert_allclose(out.sum(axis=(0, 1)) + lost, counts.sum(axis=(0, 1)), rtol=1e-12)
    ones, again, _ = deposit(np.ones((20, 24)), field(size=size), spread=spread)
    np.testing.assert_allclose(ones, coverage, atol=1e-12)
    np.testing.assert_array_equal(again, coverage)
    assert out.min() >= 0


def test_whole_pixels_stay_whole():
    counts = np.random.default_rng(4).poisson(4, (10, 12))
    out, coverage, lost = deposit(counts, np.broadcast_to(np.array([2.0, -3.0])[:, None, None], (2, 10, 12)))
    np.testing.assert_array_equal(out[2:, :9], counts[:8, 3:])
    assert lost == counts.sum() - out.sum()
    assert set(np.unique(coverage)) == {0.0, 1.0}


def test_rows_recorded_twice_or_left_out():
    counts = np.ones((10, 12))
    u = np.zeros((2, 10, 12))
    u[0, 5] = -1.0  # row 5 lies on row 4
    out, coverage, lost = deposit(counts, u)
    np.testing.assert_array_equal(coverage[:, 0], [1, 1, 1, 1, 2, 0, 1, 1, 1, 1])
    assert out.sum() == 120
    assert lost == 0


def test_deposit_to_another_grid_with_a_mask():
    counts, mask = np.ones((6, 6)), np.ones((6, 6), dtype=bool)
    mask[0] = False
    out, _, lost = deposit(counts, np.zeros((2, 6, 6)), (4, 8), mask)
    assert out.shape == (4, 8)
    assert out.sum() == 18
    assert lost == 12


def test_trailing_axes_are_treated_alike():
    values = np.random.default_rng(5).poisson(3, (9, 10, 2, 3)).astype(float)
    u = field((9, 10), size=0.6)
    for warp in (resample, deposit):
        whole = warp(values, u)[0]
        assert whole.shape == (9, 10, 2, 3)
        np.testing.assert_allclose(whole[..., 1, 2], warp(values[..., 1, 2], u)[0], atol=1e-12)


def test_fill_nearest():
    good = np.zeros((4, 5), dtype=bool)
    good[1, 1] = good[3, 4] = True
    values = np.arange(20.0).reshape(4, 5)
    filled = fill_nearest(values, good)
    assert set(np.unique(filled)) == {6.0, 19.0}
    assert filled[0, 0] == 6.0
    np.testing.assert_array_equal(fill_nearest(values, np.zeros((4, 5), dtype=bool)), values)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: resample(np.ones((4, 5)), np.zeros((4, 5))), "backward of shape"),
        (lambda: resample(np.ones(4), np.zeros((2, 4, 5))), r"values of shape \(4,\)"),
        (lambda: resample(np.ones((4, 5)), np.zeros((2, 4, 5)), order=2), "order=2"),
        (lambda: resample(np.ones((4, 5)), np.zeros((2, 4, 5)), np.ones((5, 4), bool)), "mask of shape"),
        (lambda: deposit(np.ones((4, 5)), np.zeros((2, 5, 4))), "forward of shape"),
        (lambda: deposit(np.ones((4, 5)), np.zeros((2, 4, 5)), spread="square"), "spread='square'"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(DataError, match=words):
        call()
