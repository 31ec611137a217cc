"""Moments, reproducibility and limits of the detector model."""

import numpy as np
import pytest

from fairstem.errors import DataError
from fairstem.simulate import add_noise

CLEAN = np.full((300, 300), 20.0)


def test_poisson_mean_and_variance_and_whole_counts():
    counts = add_noise(CLEAN, 1)
    assert counts.dtype == np.float32
    assert counts.mean() == pytest.approx(20, rel=0.01)
    assert counts.var() == pytest.approx(20, rel=0.03)
    assert (counts == np.rint(counts)).all()


def test_gain_offset_and_readout_change_the_moments_as_they_should():
    grey = add_noise(CLEAN, 2, gain=3, offset=100, readout=4)
    assert grey.mean() == pytest.approx(3 * 20 + 100, rel=0.01)
    assert grey.var() == pytest.approx(9 * 20 + 16, rel=0.03)


def test_seed_gives_the_same_counts_and_a_generator_goes_on():
    np.testing.assert_array_equal(add_noise(CLEAN, 3, readout=1.0), add_noise(CLEAN, 3, readout=1.0))
    rng = np.random.default_rng(3)
    assert (add_noise(CLEAN, rng) != add_noise(CLEAN, rng)).any()


def test_saturation_rounding_and_integer_types():
    clipped = add_noise(CLEAN, 4, saturation=22.0, readout=1.0, rounded=True)
    assert clipped.max() == 22.0
    assert (clipped == np.rint(clipped)).all()
    byte = add_noise(CLEAN * 20, 4, dtype=np.uint8, gain=5.0, offset=-1900)
    assert (byte.min(), byte.max()) == (0, 255)
    assert add_noise(CLEAN, 4, dtype="uint16").dtype == np.uint16


def test_zero_expected_is_zero_and_empty_is_empty():
    assert (add_noise(np.zeros((5, 5)), 0) == 0).all()
    assert add_noise(np.zeros((0, 5)), 0).shape == (0, 5)


@pytest.mark.parametrize(
    ("clean", "options", "message"),
    [
        ([-1.0], {}, "negative"),
        ([np.nan], {}, "non-finite"),
        ([np.inf], {}, "non-finite"),
        ([1.0], {"gain": 0.0}, "gain"),
        ([1.0], {"readout": -1.0}, "readout"),
        ([1.0], {"offset": np.nan}, "offset"),
    ],
)
def test_bad_input_is_named(clean, options, message):
    with pytest.raises(DataError, match=message):
        add_noise(clean, **options)
