"""One-to-one matching against brute force, planted errors, and its definitions for empty sets."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from fairstem.errors import DataError
from fairstem.metrics import match_positions


def grid(n=8, spacing=20.0):
    y, x = np.mgrid[:n, :n]
    return np.stack([y.ravel(), x.ravel()], axis=1) * spacing + spacing


def test_truth_against_itself_is_perfect():
    m = match_positions(grid(), grid())
    assert (m.recall, m.precision, m.f1, m.mean, m.rms, m.median) == (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    assert (m.pairs[:, 0] == m.pairs[:, 1]).all()


def test_planted_errors_are_counted_and_measured():
    truth = grid()
    found = np.concatenate([np.delete(truth, [3, 40], axis=0) + np.array([0.3, -0.4]), [[30.0, 30.0]]])
    m = match_positions(found, truth, pixel_size_nm=0.01)
    assert m.false_negatives.tolist() == [3, 40]
    assert m.false_positives.tolist() == [len(found) - 1]
    assert m.recall == pytest.approx(62 / 64)
    assert m.precision == pytest.approx(62 / 63)
    assert m.f1 == pytest.approx(2 * 62 / (2 * 62 + 3))
    assert m.rms == pytest.approx(0.5)
    assert m.rms_pm == pytest.approx(5.0)
    np.testing.assert_allclose(m.delta, np.broadcast_to([0.3, -0.4], m.delta.shape))


@pytest.mark.parametrize("seed", range(6))
def test_assignment_equals_the_dense_hungarian_method(seed):
    rng = np.random.default_rng(seed)
    found, truth = rng.uniform(0, 30, (25, 2)), rng.uniform(0, 30, (22, 2))
    tolerance = 5.0
    m = match_positions(found, truth, tolerance)
    d2 = ((found[:, None] - truth[None]) ** 2).sum(axis=2)
    cost = np.where(d2 <= tolerance**2, d2, 1e6)
    i, j = linear_sum_assignment(cost)
    allowed = cost[i, j] < 1e6
    assert len(m.pairs) == allowed.sum()
    assert (m.delta**2).sum() == pytest.approx(cost[i, j][allowed].sum())
    assert len(set(m.pairs[:, 0])) == len(set(m.pairs[:, 1])) == len(m.pairs)
    assert (np.hypot(*m.delta.T) <= tolerance).all()


def test_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(1)
    truth = grid()
    found = truth + rng.normal(0, 3, truth.shape)
    order = rng.permutation(len(found))
    a, b = match_positions(found, truth), match_positions(found[order], truth)
    assert a.to_dict() == pytest.approx(b.to_dict())
    assert {(order[i], j) for i, j in b.pairs} == {tuple(p) for p in a.pairs}


def test_two_found_for_one_true_column_is_one_false_positive():
    truth = grid(2)
    m = match_positions(np.concatenate([truth, [truth[0] + 2.0]]), truth)
    assert (m.recall, len(m.false_positives), m.mean) == (1.0, 1, 0.0)


def test_default_tolerance_is_half_the_neighbour_distance_and_at_most_70_pm():
    truth = grid(3, 20.0)
    assert match_positions(truth, truth).tolerance == pytest.approx(10.0)
    assert match_positions(truth, truth, pixel_size_nm=0.01).tolerance == pytest.approx(7.0)
    assert match_positions(truth + np.array([0.0, 9.9]), truth).recall == 1.0
    assert match_positions(truth + np.array([0.0, 9.9]), truth, pixel_size_nm=0.01).recall == 0.0


def test_columns_in_the_border_band_may_be_matched_but_are_not_scored():
    truth = np.array([[2.0, 20.0], [20.0, 20.0], [37.0, 3.0]])
    found = np.array([[2.0, 21.0], [20.0, 20.0], [38.0, 38.0]])
    m = match_positions(found, truth, 3.0, shape=(40, 40))
    assert m.border == 5.0
    assert (m.recall, m.precision, m.mean) == (1.0, 1.0, 0.0)
    assert m.pairs.tolist() == [[0, 0], [1, 1]]
    assert m.scored.tolist() == [False, True]
    # 0.06 nm is 12 px here: now no column is left to score
    assert match_positions(found, truth, 3.0, shape=(40, 40), pixel_size_nm=0.005).border == pytest.approx(
        12.0
    )


def test_calibration_and_shape_are_taken_from_the_table():
    truth = pd.DataFrame(grid(), columns=["y", "x"])
    truth.attrs = {"pixel_size_nm": (0.02, 0.02), "shape": (180, 180)}
    m = match_positions(truth + 0.5, truth)
    assert m.tolerance == pytest.approx(3.5)
    assert m.mean_pm == pytest.approx(20 * math.hypot(0.5, 0.5))
    assert m.border == 5.0


def test_unequal_pixel_sizes_measure_in_pm():
    truth = grid(3)
    m = match_positions(truth + np.array([1.0, 0.0]), truth, 2.0, pixel_size_nm=(0.01, 0.02))
    assert m.mean_pm == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([], [], (1.0, 1.0, 1.0)),
        ([], [[1, 1], [9, 9]], (0.0, 1.0, 0.0)),
        ([[1, 1], [9, 9]], [], (1.0, 0.0, 0.0)),
    ],
)
def test_empty_sets_are_defined(found, truth, expected):
    m = match_positions(found, truth)
    assert (m.recall, m.precision, m.f1) == expected
    assert math.isnan(m.mean)
    assert m.to_dict()["mean"] is None
    assert m.pairs.shape == m.delta.shape == (0, 2)


def test_ten_thousand_columns_with_one_connected_group():
    truth = grid(100, 10.0)
    found = truth + np.random.default_rng(0).normal(0, 0.5, truth.shape)
    m = match_positions(found, truth, 12.0)
    assert m.recall == m.precision == 1.0
    assert m.rms == pytest.approx(0.5 * math.sqrt(2), rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1, 2, 3]], [[1, 2]]), "found has shape"),
        (([[1, 2]], [1, 2]), "truth has shape"),
        (([[1, np.nan]], [[1, 2], [3, 4]]), "not finite"),
        ((pd.DataFrame({"y": [1.0]}), [[1, 2], [3, 4]]), "needed: y and x"),
        (([[1, 2]], [[1, 2]]), "one true column"),
        (([[1, 2]], [[1, 2]], -1.0), "tolerance"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(DataError, match=message):
        match_positions(*arguments)


def test_bad_pixel_size_is_named():
    with pytest.raises(DataError, match="pixel_size_nm"):
        match_positions(grid(), grid(), pixel_size_nm=0.0)
