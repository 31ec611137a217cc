import numpy as np
import pandas as pd
import pytest

from fairstem import plot
from fairstem.errors import DataError


@pytest.fixture
def table():
    """One deviation of each kind, and an unlikely one."""
    kinds = [
        "shift",
        "intensity",
        "intensity",
        "shape",
        "vacancy",
        "interstitial",
        "missing",
        "none",
        "shift",
    ]
    n = len(kinds)
    return pd.DataFrame({
        "kind": kinds,
        "y": np.arange(n) * 5.0,
        "x": np.arange(n) * 4.0,
        "shift_y": 0.6,
        "shift_x": -0.8,
        "relative_intensity": [1.0, 1.5, 0.5, 1.0, 0.0, np.nan, np.nan, 1.0, 1.0],
        "probability": [1.0] * (n - 1) + [0.1],
    })  # fmt: skip


def test_each_kind_has_its_marker_and_shifts_their_arrows(table):
    ax = plot.figure().subplots()
    plot.image(np.random.default_rng(0).random((48, 48)), ax=ax)
    drawn = plot.deviations(table, ax=ax, magnify=10)
    assert set(drawn.marks) == {
        "shift", "more intensity", "less intensity", "shape", "vacancy", "interstitial", "missing", "none",
    }  # fmt: skip
    paths = {artist.get_paths()[0].vertices.tobytes() for artist in drawn.marks.values()}
    assert len(paths) == len(drawn.marks)
    # only the likely shift has an arrow, from where the crystal has its column
    assert len(drawn.arrows.U) == 1
    assert (drawn.arrows.U[0], drawn.arrows.V[0]) == pytest.approx((-8, 6))
    assert drawn.arrows.get_offsets()[0] == pytest.approx((0.8, -0.6))
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "shift (1)" in texts
    assert "more intensity (1)" in texts


def test_arrows_are_magnified_by_a_round_number(table):
    ax = plot.figure().subplots()
    plot.image(np.random.default_rng(0).random((400, 400)), ax=ax)
    assert plot.deviations(table, ax=ax).magnified == 20


def test_a_table_without_rows_draws_nothing_and_another_is_refused(table):
    assert plot.deviations(table[:0]).marks == {}
    assert plot.deviations(pd.DataFrame()).arrows is None
    with pytest.raises(DataError, match="kind"):
        plot.deviations(table.drop(columns="kind"))


def test_too_much_structure_is_outlined():
    field = np.zeros((32, 32))
    ax = plot.figure().subplots()
    plot.structure_left(field, ax=ax)
    before = len(ax.collections)
    field[10:20, 10:20] = 8
    ax = plot.figure().subplots()
    plot.structure_left(field, ax=ax)
    assert len(ax.collections) > before


def test_maps_have_fixed_limits_and_refuse_what_is_no_image():
    assert plot.crystal_share(np.full((8, 8), 0.3)).image.get_clim() == (0, 1)
    assert plot.put_back(np.ones((8, 8)), np.ones((8, 8))).image.get_clim() == (-1, 1)
    for draw in (plot.crystal_share, plot.structure_left):
        with pytest.raises(DataError, match="2-D"):
            draw(np.ones(5))
    with pytest.raises(DataError, match="equal shapes"):
        plot.put_back(np.ones((8, 8)), np.ones((8, 9)))


def test_curves_of_what_is_kept_are_one_a_kind_of_column():
    amounts = np.array([1.0, 5.0, 20.0])
    rows = [
        {"crystal": 0, "site": site, "quantity": quantity, "amount": a * scale, "kept": 1 - np.exp(-a)}
        for site in (0, 1)
        for quantity, scale in (("shift", 1), ("intensity", 0.05))
        for a in amounts
    ]
    ax = plot.figure().subplots(1, 2)
    lines = plot.kept(pd.DataFrame(rows), ax=ax, unit="px")
    assert len(lines) == 4
    assert ax[0].get_xlabel() == "displacement (px)"
    assert lines[-1].get_xdata() == pytest.approx(5 * amounts)  # of 0.05 in %
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 2
    with pytest.raises(DataError, match="kept"):
        plot.kept(pd.DataFrame({"quantity": [], "amount": []}))
    with pytest.raises(DataError, match="2 axes"):
        plot.kept(pd.DataFrame(rows), ax=[ax[0]])
