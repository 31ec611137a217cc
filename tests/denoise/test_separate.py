"""An image taken apart: how close to the truth, what is kept, what is found, what is said about it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

import fairstem as fs
from fairstem.denoise import separate
from fairstem.denoise._analysis import analyse
from fairstem.denoise._tables import deviations_table, inflation, judge_deviations, retention_table
from fairstem.metrics import psnr


@pytest.fixture(scope="module")
def planted():
    """P2 at 5 electrons: two columns moved by 20 pm, two of half the intensity."""
    p = fs.simulate.phantom("p2", peak=5, seed=4, shape=(256, 256), shifted=2, halved=2, dtype="float64")
    return p, separate(p.data)


@pytest.fixture(scope="module")
def bright():
    """The same at 20 electrons, 160 px a side."""
    p = fs.simulate.phantom("p2", peak=20, seed=4, shape=(160, 160), shifted=1, halved=1, dtype="float64")
    return p, separate(p.data)


def nearest(table, y, x, within=4.0):
    away = np.hypot(table["y"] - y, table["x"] - x)
    return table[away < within]


def checks(found):
    return {check.name: check for check in found.priors}


def test_crystal_at_five_electrons_is_better_than_forty_decibel(planted):
    p, found = planted
    assert psnr(p.data, p.clean) < 16
    assert psnr(found.image, p.clean) > 40


def test_planted_defects_are_kept_in_the_image(planted):
    p, found = planted
    reference = fs.simulate.phantom("p2", peak=5, seed=4, shape=(256, 256)).clean
    defect = p.clean - reference
    there = np.abs(defect) > 0.1
    # along the planted change: 1 where all of it is kept
    kept = float(((found.image - reference) * defect)[there].sum() / (defect[there] ** 2).sum())
    assert kept == pytest.approx(1, abs=0.25)
    assert found.crystal is not None
    erased = float(((found.crystal - reference) * defect)[there].sum() / (defect[there] ** 2).sum())
    assert abs(erased) < 0.15


@pytest.mark.parametrize("which", ["planted", "bright"])
def test_planted_defects_are_in_the_table(which, request):
    p, found = request.getfixturevalue(which)
    truth = p.truth[p.truth["planted"] != "none"]
    assert len(truth) >= 2
    for _, column in truth.iterrows():
        rows = nearest(found.deviations, column["y"], column["x"])
        assert len(rows) == 1, column
        row = rows.iloc[0]
        assert row["p_value"] < 0.01
        if column["planted"] == "half":
            assert row["relative_intensity"] == pytest.approx(
                0.5, abs=max(4 * row["sd_relative_intensity"], 0.05)
            )
        else:
            error = np.hypot(row["shift_y"] - column["shift_y"], row["shift_x"] - column["shift_x"])
            assert error < 4 * np.hypot(row["sd_shift_y"], row["sd_shift_x"])


def test_table_lists_few_columns_that_are_like_the_others(planted):
    p, found = planted
    # strength 0.05 of some 120 columns
    assert len(found.deviations) <= 4 + 3 + 0.05 * len(p.truth)
    assert found.deviations["p_value"].is_monotonic_increasing
    assert found.deviations.attrs["inflation"] == [pytest.approx(1.0, abs=0.3)]


def test_what_is_removed_is_noise(planted):
    p, found = planted
    assert np.mean(found.residual**2) == pytest.approx(1, abs=0.03)
    assert abs(np.corrcoef(found.residual[1:].ravel(), found.residual[:-1].ravel())[0, 1]) < 0.02
    assert checks(found)["residual-is-noise"].holds
    assert found.whiteness.shape == p.data.shape
    assert np.mean(found.whiteness > 4.5) < 0.01


def test_assumptions_hold_on_a_crystal(planted):
    _, found = planted
    assert {"noise-level", "white-noise", "periodic", "residual-is-noise", "few-deviate"} == set(
        checks(found)
    )
    assert all(check.holds for check in found.priors)
    assert found.lattices.shape == (1, 2, 2)
    assert np.hypot(*found.lattices[0].T) == pytest.approx(32.5, abs=0.03)
    assert found.share.mean() > 0.95
    assert "1 lattice" in str(found)


def test_parameters_are_ready_for_json(planted):
    from fairstem.signals.provenance import jsonable

    _, found = planted
    written = json.loads(json.dumps(jsonable(found.parameters), allow_nan=False))
    assert written["lattices"] == found.lattices.tolist()
    assert written["expected retention"]


@pytest.fixture(scope="module")
def nothing_erased(bright):
    return separate(bright[0].data, strength=1)


def test_expected_retention_grows_with_strength_and_size(bright, nothing_erased):
    _, found = bright
    both = found.retention.merge(
        nothing_erased.retention, on=["site", "quantity", "amount"], suffixes=("", "_all")
    )
    assert len(both) == len(found.retention)
    assert (both["kept_all"] > both["kept"] - 0.05).all()
    assert both["kept_all"].between(0.9, 1.1).mean() > 0.9
    for _, rows in found.retention.groupby(["site", "quantity"]):
        assert np.corrcoef(rows["amount"], rows["kept"])[0, 1] > 0
    assert found.retention.attrs["unit"] == "px"


def test_strength_one_keeps_the_noise_of_columns(bright, nothing_erased):
    p, found = bright
    assert psnr(p.data, p.clean) + 8 < psnr(nothing_erased.image, p.clean) < psnr(found.image, p.clean) - 2


def test_amorphous_film_is_not_periodic():
    film = fs.simulate.AmorphousBackground(10.0, 0.3, 3.0, seed=1)
    clean = film(*np.mgrid[:128, :128].astype(float))
    found = separate(np.random.default_rng(1).poisson(clean))
    assert len(found.lattices) == 0
    assert checks(found)["periodic"].holds is False
    assert "few-deviate" not in checks(found)
    assert found.crystal is None
    assert found.deviations.empty
    assert found.retention.empty
    assert psnr(found.image, clean) > psnr(clean + np.sqrt(clean), clean) + 6
    json.dumps(found.parameters, allow_nan=False)


# all columns deviate: what the table says then


@pytest.fixture(scope="module")
def taken_apart():
    p = fs.simulate.phantom("srtio3", peak=20, seed=1, shape=(112, 112), pixel_size_nm=0.024, dtype="float64")
    return analyse(p.data)


def with_statistic(analysis, change):
    part = analysis.parts[0]
    changed = replace(part.deviations, statistic=change(part.deviations.statistic))
    return replace(analysis, parts=(replace(part, deviations=changed),))


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 50.0])
def test_inflation_is_the_spread_of_the_typical_column(taken_apart, scale):
    rng = np.random.default_rng(0)
    chance = with_statistic(taken_apart, lambda s: scale * rng.chisquare(6, s.size))
    assert inflation(chance.parts[0].deviations) == pytest.approx(max(scale, 1), rel=0.35)
    assert judge_deviations(chance).holds is (scale < 2)
    # a twentieth that deviates strongly is no inflation
    outliers = with_statistic(taken_apart, lambda s: np.where(np.arange(s.size) % 20, 5.0, 500.0))
    assert inflation(outliers.parts[0].deviations) == 1.0
    assert judge_deviations(outliers).holds


def test_untested_columns_and_few_columns_are_no_inflation(taken_apart):
    nothing = with_statistic(taken_apart, lambda s: np.full(s.size, np.nan))
    assert inflation(nothing.parts[0].deviations) == 1.0
    few = with_statistic(taken_apart, lambda s: np.where(np.arange(s.size) < 10, 100.0, np.nan))
    assert judge_deviations(few).holds is None


def test_table_counts_what_stands_out_from_columns_that_all_deviate(taken_apart):
    plain = deviations_table(taken_apart, None, 1.0, 1.0)
    inflated = with_statistic(taken_apart, lambda s: 4 * s)
    scale = inflation(inflated.parts[0].deviations)
    assert scale == pytest.approx(4 * plain.attrs["inflation"][0], rel=0.25)
    table = deviations_table(inflated, None, 1.0, 1.0)
    assert table.attrs["inflation"] == [scale]
    columns = [t[t["site"] >= 0].reset_index(drop=True) for t in (plain, table)]
    both = columns[0].join(columns[1].add_suffix("_inflated"))
    assert len(columns[0]) == len(columns[1]) > 0
    ratio = plain.attrs["inflation"][0]
    np.testing.assert_allclose(both["statistic_inflated"], both["statistic"] * 4 * ratio / scale)
    np.testing.assert_allclose(both["p_value_inflated"], chi2.sf(both["statistic_inflated"], 6))
    seen = both["sd_relative_intensity"].notna()
    np.testing.assert_allclose(
        both["sd_relative_intensity_inflated"][seen],
        both["sd_relative_intensity"][seen] * np.sqrt(scale / ratio),
    )
    # a smaller share of all is sure
    assert len(deviations_table(inflated, None, 1.0, 0.01)) <= len(table)


def test_columns_that_all_differ_are_said_to():
    shape = (112, 112)
    p = fs.simulate.phantom("srtio3", peak=50, seed=1, shape=shape, pixel_size_nm=0.024)
    rng = np.random.default_rng(3)
    columns = p.truth.assign(
        y=p.truth["y"] + rng.normal(0, 0.4, len(p.truth)), x=p.truth["x"] + rng.normal(0, 0.4, len(p.truth))
    )
    clean = fs.simulate.render_columns(columns, shape, background=3.0)
    found = separate(rng.poisson(clean))
    check = checks(found)["few-deviate"]
    assert check.holds is False
    assert "align" in check.advice
    assert found.deviations.attrs["inflation"] == [check.statistic]
    assert found.parameters["inflation"] == [check.statistic]
    # half of the columns have a shift far beyond counting noise; few of them stand out from the others
    assert len(found.deviations) < 0.4 * len(columns)


def test_retention_of_one_column_is_expected_where_no_other_deviates(taken_apart):
    table = retention_table(taken_apart, 0.05, None)
    kept = table[(table["quantity"] == "shift") & (table["amount"] == 2.0)]["kept"]
    assert (kept > 0.9).all()
    missing = table[(table["quantity"] == "intensity") & (table["amount"] == 1.0)]["kept"]
    assert (missing > 0.9).all()
    assert (table[(table["quantity"] == "shift") & (table["amount"] == 0.1)]["kept"] < 0.5).all()
