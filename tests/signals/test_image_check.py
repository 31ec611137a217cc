"""Each bad image has its clear error or finding."""

from __future__ import annotations

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.errors import DataError, DataTypeError, DataWarning
from fairstem.signals import find_saturation, validate_image


@pytest.fixture
def image():
    return np.random.default_rng(0).poisson(50.0, (24, 30)).astype(float)


def test_good_image_passes_unchanged(image):
    for given in (image, da.from_array(image, chunks=10), hs.signals.Signal2D(image), image.astype("u2")):
        check = validate_image(given)
        assert check.array.dtype == np.float64
        assert np.array_equal(check.array, image)
        assert check.complete
        assert check.findings == ()


def test_one_dimensional():
    with pytest.raises(DataError, match=r"one-dimensional, shape \(30,\); needed: a 2-D array"):
        validate_image(np.ones(30))


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_picture(channels):
    with pytest.raises(DataError, match=r"colour \(RGB\) picture"):
        validate_image(np.ones((16, 16, channels), np.uint8))


def test_colour_picture_of_hyperspy():
    colour = hs.signals.Signal1D(np.zeros((16, 16, 3), np.uint8))
    colour.change_dtype("rgb8")
    with pytest.raises(DataError, match=r"colour \(RGB\) picture"):
        validate_image(colour)


def test_series_says_to_pass_one_frame():
    with pytest.raises(DataError, match="pass one frame"):
        validate_image(np.ones((5, 16, 16)))


def test_too_small_and_empty():
    with pytest.raises(DataError, match="only 4 x 16 pixels"):
        validate_image(np.ones((4, 16)))
    with pytest.raises(DataError, match="empty"):
        validate_image(np.ones((0, 16)))


def test_all_nan(image):
    with pytest.raises(DataError, match="all 720 pixels of map are NaN"):
        validate_image(image * np.nan, "map")


def test_some_nan_are_masked_filled_and_reported(image):
    broken = image.copy()
    broken[3:6, 4] = np.nan
    with pytest.warns(DataWarning, match="3 of 720 pixels of image"):
        check = validate_image(broken)
    assert np.array_equal(~check.mask, np.isnan(broken))
    assert np.isfinite(check.array).all()
    assert check.array[4, 4] in (image[4, 3], image[4, 5])
    assert np.array_equal(check.array[check.mask], image[check.mask])
    assert check.has("nan")
    assert np.isnan(broken[4, 4])


def test_masked_array_keeps_its_mask(image):
    masked = np.ma.masked_array(image, image > 65)
    check = validate_image(masked, warn=False)
    assert np.array_equal(~check.mask, image > 65)


def test_infinite(image):
    image[0, 0] = np.inf
    with pytest.raises(DataError, match="1 infinite value"):
        validate_image(image)


def test_constant():
    with pytest.raises(DataError, match="constant: every pixel is 7"):
        validate_image(np.full((16, 16), 7))


def test_saturated(image):
    clipped = np.minimum(image, 55)
    with pytest.warns(DataWarning, match="pile up at the maximum 55"):
        check = validate_image(clipped)
    assert check.has("saturated")
    fraction, level = find_saturation(clipped)
    assert level == 55
    assert fraction == pytest.approx((image >= 55).mean())


def test_saturated_at_the_limit_of_the_type():
    values = np.random.default_rng(0).normal(240, 20, (64, 64)).clip(0, 255).astype(np.uint8)
    assert find_saturation(values)[1] == 255


@pytest.mark.parametrize("mean", [0.02, 0.3, 3.0, 100.0])
def test_counts_are_not_called_saturated(mean):
    rng = np.random.default_rng(2)
    assert all(find_saturation(rng.poisson(mean, (128, 128))) is None for _ in range(5))


def test_negative_is_a_finding_or_an_error(image):
    shifted = image - 40
    with pytest.warns(DataWarning, match="pixels of image are negative"):
        assert validate_image(shifted).has("negative")
    with pytest.raises(DataError, match="needed: counts"):
        validate_image(shifted, counts=True)


@pytest.mark.parametrize(
    ("dtype", "word"), [(complex, "complex"), (bool, "boolean"), (object, "Python objects")]
)
def test_wrong_type(image, dtype, word):
    with pytest.raises(DataTypeError, match=word):
        validate_image(image.astype(dtype))


def test_text_is_a_wrong_type():
    with pytest.raises(DataTypeError, match="needed: an integer or float image"):
        validate_image(np.full((16, 16), "a"))


def test_eight_bits_are_mentioned(image):
    assert validate_image(image.astype(np.uint8)).has("eight-bit")
