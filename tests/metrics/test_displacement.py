"""Scores of series: what is calibration and what is gauge does not count."""

import numpy as np
import pytest

from fairstem.errors import DataError
from fairstem.metrics import affine_rms, displacement_error
from fairstem.simulate import RowDistortion, phantom


def test_affine_map_is_recovered_and_removed():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 500, (60, 2))
    matrix, shift = np.array([[1.03, 0.01], [-0.02, 0.99]]), np.array([5.0, -7.0])
    fit = affine_rms(truth @ matrix.T + shift, truth, pixel_size_nm=0.02)
    assert fit.rms < 1e-9
    np.testing.assert_allclose(fit.matrix, matrix, atol=1e-10)
    np.testing.assert_allclose(fit.shift, shift, atol=1e-7)


def test_noise_is_measured_per_axis_without_bias():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 500, (20, 2))
    fits = [affine_rms(truth + rng.normal(0, [0.3, 0.1], truth.shape), truth) for _ in range(300)]
    assert np.mean([f.y**2 for f in fits]) ** 0.5 == pytest.approx(0.3, rel=0.05)
    assert np.mean([f.x**2 for f in fits]) ** 0.5 == pytest.approx(0.1, rel=0.05)
    one = affine_rms(truth + rng.normal(0, 0.1, truth.shape), truth, pixel_size_nm=(0.01, 0.02))
    assert one.rms == pytest.approx(((one.y**2 + one.x**2) / 2) ** 0.5)
    assert (one.y_pm, one.x_pm) == pytest.approx((10 * one.y, 20 * one.x))


def invert(u, shift=(0.0, 0.0)):
    """Displacement d with d + u(p + d) = shift for u constant along rows, by iteration."""
    d = -u.copy()
    rows = np.arange(u.shape[2], dtype=float)
    for k in range(len(u)):
        for _ in range(50):
            at = rows + d[k, 0, :, 0]
            for axis in range(2):
                d[k, axis] = shift[axis] - np.interp(at, rows, u[k, axis, :, 0])[:, None]
    return d


def test_perfect_registration_has_no_error_whatever_the_gauge():
    smooth = RowDistortion(jitter_px=(0.0, 0.0))
    u = smooth.series((64, 64), 4, rng=3)
    for shift in ((0.0, 0.0), (3.0, -2.0)):
        assert displacement_error(invert(u, shift), u).rmse < 1e-6


def test_error_of_one_frame_is_found():
    u = np.zeros((4, 2, 32, 32))
    d = u.copy()
    d[2, 1] += 1.0
    error = displacement_error(d, u, pixel_size_nm=0.01)
    assert error.y == 0.0
    assert error.x == pytest.approx(np.sqrt(3) / 4)  # deviations 3/4 once, 1/4 three times
    assert error.rmse_pm == pytest.approx(10 * error.rmse)
    assert error.per_frame.argmax() == 2
    assert error.fraction == pytest.approx(31 / 32)


def test_p1_has_the_published_rigid_error_and_common_mode():
    rigid, common = [], []
    for seed in range(8):
        u = phantom("p1", seed=seed).displacement
        d = np.broadcast_to(-u.mean(axis=(2, 3), keepdims=True), u.shape)
        error = displacement_error(d, u)
        rigid.append(error.rmse)
        common.append(18 * error.common)
    assert np.mean(rigid) == pytest.approx(0.53, abs=0.05)
    assert np.mean(common) == pytest.approx(3.1, abs=0.4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affine_rms(np.ones((3, 2)), np.ones((3, 2))), "n >= 4"),
        (lambda: affine_rms(np.ones((5, 2)), np.ones((6, 2))), "shapes"),
        (lambda: affine_rms(np.ones((5, 2)), np.arange(10.0).reshape(5, 2)), "one line"),
        (lambda: affine_rms(np.full((5, 2), np.nan), np.ones((5, 2))), "not finite"),
        (lambda: displacement_error(np.ones((1, 2, 4, 4)), np.ones((1, 2, 4, 4))), "2 frames"),
        (lambda: displacement_error(np.ones((2, 2, 4, 4)), np.ones((2, 2, 4, 5))), "shapes"),
        (lambda: displacement_error(np.full((2, 2, 4, 4), np.nan), np.ones((2, 2, 4, 4))), "not finite"),
        (lambda: displacement_error(np.full((2, 2, 4, 4), 9.0), np.ones((2, 2, 4, 4))), "inside all frames"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
