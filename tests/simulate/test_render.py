"""Rendered columns against the formula, pixel by pixel."""

import math

import numpy as np
import pandas as pd
import pytest

from fairstem.errors import DataError, DataTypeError
from fairstem.simulate import RampBackground, render_columns

SHAPE = (40, 52)


@pytest.fixture
def columns():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.uniform(-5, 45, 30),
            "x": rng.uniform(-5, 57, 30),
            "height": rng.uniform(1, 10, 30),
            "width": rng.uniform(1, 4, 30),
        }
    )


def formula(columns, u=None):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    if u is not None:
        y, x = y + u[0], x + u[1]
    image = np.zeros(SHAPE)
    for c in columns.itertuples():
        ratio, angle = getattr(c, "ellipticity", 1.0), getattr(c, "angle", 0.0)
        along = (x - c.x) * math.cos(angle) + (y - c.y) * math.sin(angle)
        across = -(x - c.x) * math.sin(angle) + (y - c.y) * math.cos(angle)
        q = along**2 / (c.width**2 * ratio) + across**2 / (c.width**2 / ratio)
        image += c.height * np.exp(-q / 2)
    return image


def test_equals_the_formula_up_to_the_accuracy(columns):
    error = np.abs(render_columns(columns, SHAPE) - formula(columns))
    assert error.max() < 1e-9 * columns["height"].sum()
    # every single column keeps it
    for n in range(5):
        one = columns.iloc[[n]]
        assert np.abs(render_columns(one, SHAPE) - formula(one)).max() < 1e-9 * one["height"].iloc[0]


@pytest.mark.parametrize("angle", [0.0, 0.5, math.pi / 2])
def test_elliptic_columns_equal_the_formula(columns, angle):
    elliptic = columns.assign(ellipticity=1.7, angle=angle)
    np.testing.assert_allclose(render_columns(elliptic, SHAPE), formula(elliptic), atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, 0.3, 6.0])
def test_each_pixel_samples_the_object_where_the_displacement_says(columns, scale):
    rng = np.random.default_rng(1)
    u = scale * rng.normal(size=(2, *SHAPE)) + [[[2.0]], [[-1.0]]]
    np.testing.assert_allclose(render_columns(columns, SHAPE, displacement=u), formula(columns, u), atol=1e-7)


def test_zero_displacement_is_no_displacement(columns):
    u = np.zeros((2, *SHAPE))
    np.testing.assert_allclose(
        render_columns(columns, SHAPE, displacement=u), render_columns(columns, SHAPE), atol=1e-7
    )


def test_background_as_number_image_and_function(columns):
    plain = render_columns(columns, SHAPE)
    np.testing.assert_allclose(render_columns(columns, SHAPE, background=2.0), plain + 2)
    image = np.random.default_rng(0).random(SHAPE)
    np.testing.assert_allclose(render_columns(columns, SHAPE, background=image), plain + image)
    ramp = RampBackground(10.0, 0.1, 0.0, (0.0, 0.0))
    shifted = np.stack([np.full(SHAPE, 5.0), np.zeros(SHAPE)])
    moved = render_columns(columns[:0], SHAPE, background=ramp, displacement=shifted)
    np.testing.assert_allclose(moved[:, 0], 10.5 + 0.1 * np.arange(SHAPE[0]))


def test_order_of_the_columns_does_not_matter(columns):
    shuffled = columns.sample(frac=1, random_state=1)
    np.testing.assert_allclose(render_columns(shuffled, SHAPE), render_columns(columns, SHAPE))


def test_no_columns_give_the_background(columns):
    assert (render_columns(columns[:0], SHAPE, background=3.0) == 3.0).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"shape": (0, 5)}, DataError, "shape is"),
        ({"shape": (5,)}, DataError, "shape is"),
        ({"columns": [1, 2]}, DataTypeError, "list"),
        ({"columns": pd.DataFrame({"y": [1.0]})}, DataError, "x, height, width"),
        (
            {"columns": pd.DataFrame({"y": [np.nan], "x": 1.0, "height": 1.0, "width": 1.0})},
            DataError,
            "rows",
        ),
        ({"columns": pd.DataFrame({"y": [1.0], "x": 1.0, "height": 1.0, "width": 0.0})}, DataError, "width"),
        ({"displacement": np.zeros((2, 3, 3))}, DataError, "displacement has shape"),
        ({"displacement": np.full((2, 8, 8), np.nan)}, DataError, "not finite"),
        ({"background": np.zeros((3, 3))}, DataError, "background has shape"),
        ({"background": np.nan}, DataError, "background"),
        ({"accuracy": 0.0}, DataError, "accuracy"),
    ],
)
def test_bad_input_is_named(change, error, message):
    one = pd.DataFrame({"y": [1.0], "x": [1.0], "height": [1.0], "width": [1.0]})
    arguments = {"columns": one, "shape": (8, 8), **change}
    with pytest.raises(error, match=message):
        render_columns(arguments.pop("columns"), arguments.pop("shape"), **arguments)
