"""Forward and backward maps are inverse; rotations, slow fields, rows out of order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from fairstem.register._series.motion import DenseMotion, RowMotion, evaluate_grid, spline_basis

SHAPE = (48, 40)


def smooth_rows(n=3, size=1.5, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, shape[0])
    a, b, phase = rng.normal(0, size, (3, n, 2, 1))
    return a + b * t + 0.5 * size * np.sin(6 * t + phase)


def motions(angles=(0.0, 0.0, 0.0), slow=False, jitter=0.0, shape=SHAPE):
    rng = np.random.default_rng(1)
    rows = smooth_rows(len(angles), shape=shape)
    rows = rows + jitter * rng.standard_normal(rows.shape)
    coefficients = rng.normal(0, 0.6, (len(angles), 2, 6, 5)) if slow else None
    return RowMotion(rows, shape, np.array(angles), coefficients)


def there_and_back(motion, k):
    """Distance (2, y, x) px from a pixel of the average to the frame and back, inside only."""
    ny, nx = motion.shape
    grid = np.mgrid[:ny, :nx].astype(float)
    backward, forward = motion.backward(k), motion.forward(k)
    at = grid + backward
    returned = backward + np.stack([map_coordinates(f, at, order=1, mode="nearest") for f in forward])
    inside = (at[0] > 1) & (at[0] < ny - 2) & (at[1] > 1) & (at[1] < nx - 2)
    # a dense field is not known beyond the average: its outermost pixels have no neighbour to interpolate with
    inside[[0, 1, -2, -1]] = inside[:, [0, 1, -2, -1]] = False
    assert inside.mean() > 0.4
    return np.where(inside, returned, 0.0)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.0, 90.0, 180.0), (30.0, -12.5, 270.0)])
def test_forward_and_backward_are_inverse(angles, slow):
    found = motions(angles, slow)
    for k in range(found.n):
        # linear interpolation between rows of fields that bend by up to 0.02 px a row²
        assert abs(there_and_back(found, k)).max() < 0.01


def test_rows_without_slow_field_invert_exactly():
    found = motions(jitter=0.1)
    for k in range(3):
        assert abs(there_and_back(found, k)).max() < 1e-9


def test_the_frame_shows_what_the_average_shows():
    """The contract of the signs, with an object that is known everywhere."""

    def scene(y, x):
        return np.sin(0.3 * y) + np.cos(0.2 * x + 0.1 * y)

    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    found = motions((30.0, 0.0, -60.0), slow=True)
    for k in range(3):
        forward, backward = found.forward(k), found.backward(k)
        frame = scene(y + forward[0], x + forward[1])
        at_y, at_x = y + backward[0], x + backward[1]
        seen = map_coordinates(frame, [at_y, at_x], order=3, mode="mirror")
        inside = (at_y > 4) & (at_y < SHAPE[0] - 5) & (at_x > 4) & (at_x < SHAPE[1] - 5)
        assert abs(seen - scene(y, x))[inside].max() < 0.01


def test_a_scan_turned_by_90_degrees():
    """+x turns towards +y: the fast axis of the scan runs down the average."""
    shape = (20, 20)
    found = RowMotion(np.zeros((1, 2, 20)), shape, np.array([90.0]))
    y, x = np.mgrid[:20, :20].astype(float)
    forward = found.forward(0)
    np.testing.assert_allclose(y + forward[0], x, atol=1e-9)  # scan x becomes y
    np.testing.assert_allclose(x + forward[1], 19 - y, atol=1e-9)  # scan y becomes -x
    np.testing.assert_allclose(there_and_back(found, 0), 0.0, atol=1e-9)


def test_rows_turn_with_the_scan():
    rows = np.zeros((1, 2, 20))
    rows[0, 1] = 2.0  # 2 px along the fast axis
    forward = RowMotion(rows, (20, 20), np.array([90.0])).forward(0)
    plain = RowMotion(0 * rows, (20, 20), np.array([90.0])).forward(0)
    np.testing.assert_allclose(
        forward - plain, np.array([2.0, 0.0])[:, None, None] * np.ones((2, 20, 20)), atol=1e-9
    )


def test_upright_rows_take_no_memory():
    found = motions()
    assert found.upright
    assert not motions((0.0, 1.0, 0.0)).upright
    assert found.forward(0).strides[-1] == found.backward(0).strides[-1] == 0


def test_what_is_returned_may_be_changed_without_harm():
    for angles, slow in (((0.0, 0.0, 0.0), True), ((30.0, 0.0, 0.0), False)):
        found = motions(angles, slow)
        first = found.forward(0).copy()
        found.forward(0)[:] = 7.0
        np.testing.assert_array_equal(found.forward(0), first)


@pytest.mark.parametrize("shift", [60.0, -60.0])
def test_rows_beyond_the_frame_move_like_its_ends(shift):
    rows = np.zeros((1, 2, 48))
    rows[0, 0], rows[0, 1] = shift, 3.0
    backward = RowMotion(rows, SHAPE, np.zeros(1)).backward(0)
    np.testing.assert_allclose(backward[0], -shift)
    np.testing.assert_allclose(backward[1], -3.0)


def test_rows_recorded_out_of_order():
    rows = np.zeros((1, 2, 48))
    rows[0, 0, 20], rows[0, 0, 21] = 1.0, -1.0  # 20 and 21 swap places
    rows[0, 1, 20] = 5.0
    backward = RowMotion(rows, SHAPE, np.zeros(1)).backward(0)
    assert backward[0, 21, 0] == pytest.approx(-1.0)  # place 21 is in recorded row 20
    assert backward[0, 20, 0] == pytest.approx(1.0)
    assert backward[1, 21, 0] == pytest.approx(-5.0)
    assert np.isfinite(backward).all()


def test_two_rows_at_one_place():
    rows = np.zeros((1, 2, 48))
    rows[0, 0, 21] = -1.0  # rows 20 and 21 both lie at 20
    backward = RowMotion(rows, SHAPE, np.zeros(1)).backward(0)
    assert np.isfinite(backward).all()
    assert backward[0, 20, 0] in (0.0, 1.0)
    assert 0.0 <= backward[0, 21, 0] <= 0.5  # between one of them and row 22


def test_dense_fields_are_inverted():
    y, x = np.meshgrid(*(np.linspace(0, 3, n) for n in SHAPE), indexing="ij")
    fields = np.stack([np.stack([1.5 * np.sin(y + k), np.cos(x - y)]) + 0.7 * k for k in range(3)])
    found = DenseMotion(fields.astype("float32"))
    assert (found.n, found.shape) == (3, SHAPE)
    for k in range(3):
        assert abs(there_and_back(found, k)).max() < 0.01
        assert found.backward(k).dtype == np.float64


def test_a_slow_field_of_equal_coefficients_is_a_shift():
    np.testing.assert_allclose(spline_basis(50, 7).sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(evaluate_grid(np.full((2, 5, 4), 1.25), SHAPE), 1.25, rtol=1e-12)


def test_a_slow_field_holds_straight_lines():
    coefficients = np.broadcast_to(np.arange(6.0)[None, :, None], (2, 6, 5))
    field = evaluate_grid(coefficients, SHAPE)
    np.testing.assert_allclose(np.diff(field, n=2, axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(field[:, -1] - field[:, 0], 3.0)
