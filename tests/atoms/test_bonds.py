"""Neighbours and bonds against planted positions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fairstem import simulate
from fairstem.atoms._bonds import bond_spread, bonds
from fairstem.atoms._lattice import lattice
from fairstem.atoms._neighbours import neighbours
from fairstem.errors import DataError

PX = 0.02


def crystal(cell, *, side=200, sd=0.0, seed=0, rotation=0.2):
    table = cell.columns((side, side), PX, rotation=rotation, margin_nm=0.0)[["y", "x", "height"]]
    rng = np.random.default_rng(seed)
    table = table.assign(sd_y=sd, sd_x=sd) if sd else table
    table[["y", "x"]] += rng.normal(0, sd, (len(table), 2)) if sd else 0.0
    table.attrs = {"shape": (side, side), "pixel_size_nm": (PX, PX)}
    return table


@pytest.mark.parametrize(
    ("cell", "number", "length"),
    [
        (simulate.square(), 4, 0.3905),
        (simulate.srtio3(), 4, 0.3905 / 2**0.5),
        (simulate.fcc111(), 6, None),
        (simulate.graphene(), 3, 0.246 / 3**0.5),
        (simulate.silicon110(), 1, 0.5431 / 4),
    ],
    ids=["square", "srtio3", "fcc111", "graphene", "silicon110"],
)
@pytest.mark.parametrize("indexed", [True, False])
def test_first_shell(cell, number, length, indexed):
    table = crystal(cell, sd=0.1)
    pairs = neighbours(lattice(table)) if indexed else neighbours(table)
    assert not (pairs["first"] == pairs["second"]).any()
    assert len(np.unique(np.sort(pairs[["first", "second"]].to_numpy(), axis=1), axis=0)) == len(pairs)
    count = pd.Series(np.r_[pairs["first"], pairs["second"]]).value_counts()
    inner = table[(table[["y", "x"]] > 30).all(axis=1) & (table[["y", "x"]] < 170).all(axis=1)]
    assert (count.reindex(inner.index) == number).mean() > 0.98
    if length is not None:
        assert pairs["length"].mean() * PX == pytest.approx(length, rel=0.01)


def test_k_and_cutoff():
    table = crystal(simulate.square())
    assert neighbours(table, cutoff=0.3905 / PX * 1.1)["length"].max() < 0.3905 / PX * 1.1
    near = neighbours(table, k=1)
    assert set(near["first"]) | set(near["second"]) == set(table.index)
    with pytest.raises(DataError, match="both"):
        neighbours(table, k=1, cutoff=2.0)
    with pytest.raises(DataError, match="k is 0"):
        neighbours(table, k=0)
    with pytest.raises(DataError, match="cutoff"):
        neighbours(table, cutoff=-1.0)
    with pytest.raises(DataError, match="k is given"):
        neighbours(lattice(table), k=2)
    with pytest.raises(DataError, match="at least 2"):
        neighbours(table.iloc[:1])


def test_bond_lengths_kinds_and_directions():
    result = lattice(crystal(simulate.srtio3(), sd=0.05))
    table = bonds(lattice=result)
    assert set(table.kind) == {"A-B"}
    assert table.direction.nunique() == 4
    assert table.length_nm.mean() == pytest.approx(0.3905 / 2**0.5, rel=0.002)
    wide = bonds(lattice=result, cutoff=1.05 * result.a_px)
    assert set(wide.kind) == {"A-B", "A-A", "B-B"}
    for _, group in wide.groupby("direction"):
        assert group.kind.nunique() == 1
        assert group.angle_deg.std() < 3
        assert abs(group.strain.mean()) < 1e-12
    flat = bonds(result.columns)
    assert flat.direction.nunique() == 2
    assert (flat.kind == "").all()


def test_error_bars_of_lengths_cover_the_truth():
    truth = crystal(simulate.silicon110(), side=250)
    rng = np.random.default_rng(5)
    table = truth.copy()
    table["sd_y"], table["sd_x"] = rng.uniform(0.05, 0.4, (2, len(table)))
    table["cov_yx"] = rng.uniform(-0.9, 0.9, len(table)) * table.sd_y * table.sd_x
    for row in table.index:
        c = table.loc[row]
        table.loc[row, ["y", "x"]] += rng.multivariate_normal(
            [0, 0], [[c.sd_y**2, c.cov_yx], [c.cov_yx, c.sd_x**2]]
        )
    table.attrs = truth.attrs
    measured = bonds(table, cutoff=1.5 * 0.3326 / PX)
    p = truth[["y", "x"]]
    true = np.linalg.norm(p.loc[measured["second"]].to_numpy() - p.loc[measured["first"]].to_numpy(), axis=1)
    z = (measured.length - true) / measured.sd_length
    assert len(z) > 1000
    assert 0.65 < (z.abs() < 1).mean() < 0.72
    assert np.allclose(measured.sd_length_pm, 1000 * PX * measured.sd_length)


def test_covariance_of_columns_fitted_together():
    pair = pd.DataFrame(
        {"y": [0.0, 0.0], "x": [0.0, 10.0], "sd_y": [0.1, 0.1], "sd_x": [0.2, 0.2]}, index=[7, 3]
    )
    joint = pd.DataFrame(
        {"first": [3], "second": [7], "cov_y_y": 0.0, "cov_y_x": 0.0, "cov_x_y": 0.0, "cov_x_x": 0.03}
    )
    assert bonds(pair).sd_length[0] == pytest.approx(0.08**0.5)
    assert bonds(pair, covariance=joint).sd_length[0] == pytest.approx(0.02**0.5)
    with pytest.raises(DataError, match="covariance lacks"):
        bonds(pair, covariance=joint.drop(columns="cov_x_x"))


def test_spread_splits_into_error_and_intrinsic():
    rng = np.random.default_rng(0)
    hits, intrinsic = [], []
    for seed in range(25):
        table = crystal(simulate.square(), side=300, sd=0.15, seed=seed)
        table[["y", "x"]] += rng.normal(0, 0.2, (len(table), 2))  # static displacements
        summary = bond_spread(bonds(lattice=lattice(table)))
        assert len(summary) == 2
        truth = 1000 * PX * (2 * (0.15**2 + 0.2**2)) ** 0.5
        hits += list(abs(summary.spread_pm - truth) < summary.sd_spread_pm)
        intrinsic += list(summary.intrinsic_pm)
        assert np.allclose(summary.error_pm, 1000 * PX * 0.15 * 2**0.5)
    assert 0.5 < np.mean(hits) < 0.85
    assert np.mean(intrinsic) == pytest.approx(1000 * PX * 0.2 * 2**0.5, rel=0.03)


def test_spread_without_intrinsic_part_is_explained_by_the_errors():
    summary = bond_spread(bonds(lattice=lattice(crystal(simulate.square(), side=300, sd=0.3))))
    assert (summary.intrinsic_pm < 2 * summary.sd_intrinsic_pm).all()
    assert (abs(summary.spread_pm - summary.error_pm) < 3 * summary.sd_spread_pm).all()


@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(angle=st.floats(0, 6.28), seed=st.integers(0, 50))
def test_lengths_do_not_depend_on_rotation_or_order(angle, seed):
    table = crystal(simulate.graphene(), side=100, sd=0.1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = table.copy()
    moved[["y", "x"]] = table[["y", "x"]].to_numpy() @ turn.T
    one = np.sort(bonds(table).length)
    two = np.sort(bonds(moved.sample(frac=1, random_state=seed)).length)
    assert np.allclose(one, two)


def test_no_pairs_and_no_input():
    with pytest.raises(DataError, match="neither"):
        bonds()
    with pytest.raises(DataError, match="no two columns"):
        bonds(crystal(simulate.square()), cutoff=1.0)
    with pytest.raises(DataError, match="three bonds"):
        bond_spread(bonds(pd.DataFrame({"y": [0.0, 0.0], "x": [0.0, 10.0]})))


def test_minimal_table_has_no_error_bars_but_lengths():
    table = bonds(crystal(simulate.square())[["y", "x"]].reset_index(drop=True))
    assert "sd_length" not in table
    assert "intrinsic" not in bond_spread(table)
