"""The bound against theory, a numerical Fisher matrix, and efficient estimates from simulated counts."""

import math

import numpy as np
import pandas as pd
import pytest

from fairstem.errors import DataError
from fairstem.metrics import cramer_rao
from fairstem.simulate import add_noise, phantom, render_columns

NAMES = ("y", "x", "height", "width")


def table(*rows):
    return pd.DataFrame(rows, columns=NAMES)


def numerical_fisher(columns, shape, background, readout=0.0):
    """Fisher matrix from finite differences of rendered images: all columns, then one background."""
    flat = columns[list(NAMES)].to_numpy().ravel()

    def image(theta):
        return render_columns(table(*theta[:-1].reshape(-1, 4)), shape, background=theta[-1], accuracy=1e-12)

    theta = np.append(flat, background)
    steps = [(image(theta + h) - image(theta - h)) / 2e-4 for h in np.eye(len(theta)) * 1e-4]
    jacobian = np.stack([s.ravel() for s in steps], axis=1)
    expected = image(theta)
    return (jacobian.T / (expected.ravel() + readout**2)) @ jacobian, jacobian, expected


@pytest.mark.parametrize("width", [1.5, 3.5])
def test_isolated_column_without_background_is_width_over_root_n(width):
    columns = table((32.3, 31.6, 7.0, width))
    image = render_columns(columns, (64, 64))
    bound = cramer_rao(columns, image)
    exact = width / math.sqrt(image.sum())
    assert bound["sd_y"][0] == pytest.approx(exact, rel=1e-3)
    assert bound["sd_x"][0] == pytest.approx(exact, rel=1e-3)
    assert abs(bound["cov_yx"][0]) < 1e-6 * exact**2


def test_background_costs_a_quarter_to_a_third_on_p2():
    p = phantom("p2", peak=5.0)
    inside = p.truth["y"].between(30, 480) & p.truth["x"].between(30, 480) & (p.truth["species"] == "Sr")
    columns = p.truth[inside]
    n = 2 * math.pi * columns["width"] ** 2 * columns["height"]
    factor = cramer_rao(columns, p.clean)["sd_y"] / (columns["width"] / np.sqrt(n))
    assert factor.between(1.2, 1.38).all()
    # the protocol's own number for bright columns at 5 counts and 12 pm per px
    assert 12 * cramer_rao(columns, p.clean)["sd_y"].mean() == pytest.approx(2.71, abs=0.03)


@pytest.mark.parametrize("readout", [0.0, 1.5])
def test_joint_bound_is_the_inverse_of_the_numerical_fisher_matrix(readout):
    columns = table((14.2, 13.1, 9.0, 2.0), (15.0, 18.2, 5.0, 2.4))
    fisher, _, expected = numerical_fisher(columns, (30, 32), 1.2, readout)
    covariance = np.linalg.inv(fisher)
    bound = cramer_rao(columns, expected, joint=True, readout=readout, radius=7)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(bound["sd_y"], sd[[0, 4]], rtol=1e-5)
    np.testing.assert_allclose(bound["sd_x"], sd[[1, 5]], rtol=1e-5)
    np.testing.assert_allclose(bound["sd_height"], sd[[2, 6]], rtol=1e-5)
    np.testing.assert_allclose(bound["sd_width"], sd[[3, 7]], rtol=1e-5)
    np.testing.assert_allclose(bound["sd_background"], sd[[8, 8]], rtol=1e-5)
    np.testing.assert_allclose(bound["cov_yx"], covariance[[0, 4], [1, 5]], rtol=1e-4)


def test_per_column_bound_is_the_column_block_of_the_fisher_matrix():
    columns = table((14.2, 13.1, 9.0, 2.0), (15.0, 18.2, 5.0, 2.4))
    fisher, _, expected = numerical_fisher(columns, (30, 32), 1.2)
    bound = cramer_rao(columns, expected, free=NAMES, radius=7)
    for n in range(2):
        block = fisher[4 * n : 4 * n + 4, 4 * n : 4 * n + 4]
        sd = np.sqrt(np.diag(np.linalg.inv(block)))
        np.testing.assert_allclose(bound.loc[n, ["sd_y", "sd_x", "sd_height", "sd_width"]], sd, rtol=1e-5)


def test_efficient_estimates_from_counts_have_the_spread_of_the_bound():
    # one Fisher-scoring step from the truth is an efficient estimator: its spread is the bound
    columns = table((10.3, 9.8, 20.0, 2.0))
    fisher, jacobian, expected = numerical_fisher(columns, (21, 21), 2.0)
    rng = np.random.default_rng(5)
    counts = add_noise(np.broadcast_to(expected, (4000, 21, 21)), rng).reshape(4000, -1)
    step = np.linalg.solve(fisher, jacobian.T @ (counts / expected.ravel() - 1).T)
    bound = cramer_rao(columns, expected, joint=True, radius=7)
    for k, name in enumerate(("sd_y", "sd_x", "sd_height", "sd_width", "sd_background")):
        assert step[k].std() == pytest.approx(bound[name][0], rel=0.05)


def test_unknown_neighbours_cost_only_where_columns_overlap():
    near = table((20.0, 18.0, 10.0, 2.0), (20.0, 22.0, 10.0, 2.0))
    far = table((20.0, 10.0, 10.0, 2.0), (20.0, 30.0, 10.0, 2.0))
    free = ("y", "x", "height", "width")
    for columns, least, most in ((near, 1.2, 10.0), (far, 1 - 1e-9, 1.001)):
        image = render_columns(columns, (40, 40), background=1.0)
        alone, joint = (cramer_rao(columns, image, free=free, joint=j)["sd_x"] for j in (False, True))
        ratio = joint / alone
        assert ratio.between(least, most).all()


def test_fewer_free_parameters_never_cost_more():
    columns = table((12.0, 12.4, 10.0, 2.0))
    image = render_columns(columns, (24, 25), background=1.0)
    few = cramer_rao(columns, image, free=("height",))
    many = cramer_rao(columns, image)
    assert list(few) == ["sd_height"]
    assert few["sd_height"][0] < many["sd_height"][0]


def test_more_counts_and_less_readout_noise_help():
    columns = table((12.0, 12.4, 10.0, 2.0))
    image = render_columns(columns, (24, 25), background=1.0)
    brighter = columns.assign(height=40.0)
    sd = cramer_rao(columns, image)["sd_y"][0]
    assert cramer_rao(brighter, 4 * image)["sd_y"][0] == pytest.approx(sd / 2)
    assert cramer_rao(columns, image, readout=2.0)["sd_y"][0] > sd


def test_long_axis_of_an_elliptic_column_is_known_less_well():
    columns = table((20.0, 20.0, 10.0, 2.5)).assign(ellipticity=2.0, angle=0.0)
    image = render_columns(columns, (41, 41))
    bound = cramer_rao(columns, image)
    assert bound["sd_x"][0] / bound["sd_y"][0] == pytest.approx(2.0, rel=1e-3)


def test_column_outside_the_image_is_not_determined():
    columns = table((-200.0, 12.0, 10.0, 2.0), (12.0, 12.0, 10.0, 2.0))
    for joint in (False, True):
        bound = cramer_rao(
            columns, render_columns(columns, (25, 25), background=1.0), joint=joint, free=("y", "x")
        )
        assert np.isinf(bound["sd_y"][0])
        assert np.isfinite(bound["sd_y"][1])


def test_no_columns_give_an_empty_table():
    empty = table().astype(float)
    for joint in (False, True):
        assert cramer_rao(empty, np.ones((8, 8)), joint=joint).shape == (0, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"free": ("y", "z")}, "'z'"),
        ({"free": ()}, "free is"),
        ({"free": "y"}, "free is"),
        ({"expected": np.ones(5)}, "shape"),
        ({"expected": np.full((5, 5), -1.0)}, "negative"),
        ({"expected": np.full((5, 5), np.nan)}, "non-finite"),
        ({"readout": -1.0}, "readout"),
        ({"columns": pd.DataFrame({"y": [1.0]})}, "lacks"),
        ({"columns": table((1.0, 1.0, 1.0, 0.0))}, "width"),
        ({"columns": table(*[(1.0, 1.0, 1.0, 1.0)] * 800), "joint": True}, "3201 parameters"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"columns": table((2.0, 2.0, 1.0, 1.0)), "expected": np.ones((5, 5)), **change}
    with pytest.raises(DataError, match=message):
        cramer_rao(arguments.pop("columns"), arguments.pop("expected"), **arguments)
