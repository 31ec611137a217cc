"""What is planted is what the table says."""

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

from fairstem.errors import DataError
from fairstem.simulate import (
    add_interstitials,
    displace_columns,
    remove_columns,
    scale_columns,
    srtio3,
)

SHAPE = (256, 256)


@pytest.fixture
def crystal():
    return srtio3().columns(SHAPE, 0.02, rotation=0.1)


def positions(table):
    return table[["y", "x"]].to_numpy(float)


def test_vacancies_are_gone_and_listed(crystal):
    out = remove_columns(crystal, 7, 1, shape=SHAPE, species="Ti")
    assert len(out) == len(crystal) - 7
    gone = np.array(out.attrs["vacancies"])
    assert cKDTree(positions(out)).query(gone)[0].min() > 5
    assert cKDTree(positions(crystal)).query(gone)[0].max() == 0
    assert (out["species"] == "Sr").sum() == (crystal["species"] == "Sr").sum()


def test_interstitials_lie_in_holes(crystal):
    out = add_interstitials(crystal, 6, 2, shape=SHAPE, height=0.4)
    new = out[out["planted"] == "interstitial"]
    assert len(new) == 6
    assert (new["height"] == 0.4).all()
    # largest holes of this lattice are a/2 from their neighbours
    distance = cKDTree(positions(crystal)).query(positions(new))[0]
    np.testing.assert_allclose(distance, 0.3905 / 2 / 0.02, rtol=0.01)
    assert not out.isna().any().any()


def test_shifts_and_half_columns_are_exact_and_disjoint(crystal):
    out = displace_columns(crystal, 12, 1.7, 3, shape=SHAPE, species="Sr")
    out = scale_columns(out, 12, 0.5, 4, shape=SHAPE)
    moved = positions(out) - positions(crystal)
    np.testing.assert_allclose(moved, out[["shift_y", "shift_x"]], atol=1e-12)
    length = np.hypot(*moved.T)
    np.testing.assert_allclose(length[out["planted"] == "shift"], 1.7)
    assert (length[out["planted"] != "shift"] == 0).all()
    ratio = out["height"] / crystal["height"]
    assert (ratio[out["planted"] == "half"] == 0.5).all()
    assert (ratio[out["planted"] != "half"] == 1).all()
    assert out["planted"].value_counts().to_dict() == {"none": len(out) - 24, "shift": 12, "half": 12}
    assert "planted" not in crystal  # the input is left alone


def test_given_direction_is_from_x_towards_y(crystal):
    out = displace_columns(crystal, 3, 2.0, direction=math.pi / 2)
    assert out.loc[out["planted"] == "shift", "shift_y"].tolist() == pytest.approx([2.0] * 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: remove_columns(t, 10**6), "count is 1000000"),
        (lambda t: remove_columns(t, 1, species="U"), "0 columns"),
        (lambda t: scale_columns(t, 1, -0.5), "factor"),
        (lambda t: add_interstitials(t[:2], 1), "2 columns"),
        (lambda t: add_interstitials(t, 10**6), "holes"),
    ],
)
def test_bad_input_is_named(crystal, call, message):
    with pytest.raises(DataError, match=message):
        call(crystal)
