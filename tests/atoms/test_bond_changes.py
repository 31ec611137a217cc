"""Bond changes of surface atoms against planted contractions, and the errors that say how well."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from fairstem import atoms, simulate
from fairstem.errors import CalibrationError, DataError
from fairstem.simulate.nanoparticle import fcc_particle, nanoparticle_columns

PX = 0.018
CELL = (0.3924 * 0.375**0.5, 0.3924 * 0.375**0.5, 70.5288)
SCAN = np.array([[1.031, 0.0], [0.0157, 1.008]])  # what a scan does to lengths: y, x


def particle(seed=0, *, sd=0.0, scan=None, centre=(110.0, 110.0), **options):
    """Return measured columns, with error bars, and the true ones."""
    truth = nanoparticle_columns(fcc_particle(3.0), PX, centre, rotation=0.1, seed=seed, **options)
    truth.attrs = {"shape": (220, 220), "pixel_size_nm": (PX, PX)}
    table = truth[["y", "x", "height", "width"]].assign(
        background=0.1, sd_y=max(sd, 1e-4), sd_x=max(sd, 1e-4)
    )
    if scan is not None:
        table[["y", "x"]] = (table[["y", "x"]].to_numpy() - centre) @ np.linalg.inv(scan).T + centre
    table[["y", "x"]] += np.random.default_rng([seed, 7]).normal(0, sd, (len(table), 2))
    table.attrs = truth.attrs
    return table, truth


class Shared:
    """An error that all columns have alike, which varies with y as a wave of known random phase."""

    def __init__(self, size, period=150.0):
        self.size, self.k = size, 2 * np.pi / period

    def shift(self, y, rng):
        phase = rng.uniform(0, 2 * np.pi, 2)
        return self.size * 2**0.5 * np.sin(self.k * np.asarray(y)[:, None] + phase)

    def bond_covariance(self, columns, first, second):
        one, two = (columns.index.get_indexer(pd.Index(label)) for label in (first, second))
        y = columns["y"].to_numpy()
        own = self.size**2 * np.cos(self.k * (y[two] - y[one]))
        zero = np.zeros(len(own))
        return pd.DataFrame({"cov_y_y": own, "cov_y_x": zero, "cov_x_y": zero, "cov_x_x": own})


def test_exact_positions_give_the_planted_shifts():
    table, truth = particle()
    found = atoms.bond_changes(table)
    assert found["place"].to_dict() == truth["place"][found.index].to_dict()
    assert len(found) == (truth["place"] != "bulk").sum()
    np.testing.assert_allclose(found["inward_pm"], truth["contraction_pm"][found.index], atol=1e-6)
    assert found["coordination"].to_dict() == truth["neighbours"][found.index].to_dict()
    assert set(found.attrs["interior"]) == set(truth.index[truth["place"] == "bulk"])


def test_corners_too_far_off_for_the_lattice_are_measured_all_the_same():
    table, truth = particle(1, contraction_pm=(30.0, 60.0))
    full = atoms.lattice(table)
    unknown = full.columns.assign(site=full.columns["site"].where(truth["place"] != "corner", ""))
    found = atoms.bond_changes(table, dataclasses.replace(full, columns=unknown))
    assert len(found) == (truth["place"] != "bulk").sum()
    np.testing.assert_allclose(found["inward_pm"], truth["contraction_pm"][found.index], atol=1e-6)


def test_bond_lengths_are_those_between_the_positions():
    table, _ = particle()
    found = atoms.bond_changes(table, by="bond")
    step = (
        table.loc[found["first"], ["y", "x"]].to_numpy() - table.loc[found["second"], ["y", "x"]].to_numpy()
    )
    np.testing.assert_allclose(found["d_pm"], np.hypot(*step.T) * PX * 1000)
    np.testing.assert_allclose(found["change_pm"], found["d_pm"] - found["d_reference_pm"])
    by_atom = atoms.bond_changes(table)
    np.testing.assert_allclose(found.groupby("first")["change_pm"].mean(), by_atom["change_pm"].sort_index())


def test_static_scan_error_is_taken_out():
    straight = atoms.bond_changes(particle()[0])
    scanned = atoms.bond_changes(particle(scan=SCAN)[0], reference=CELL)
    np.testing.assert_allclose(scanned["change_pm"], straight["change_pm"], atol=1e-3)
    np.testing.assert_allclose(scanned["inward_pm"], straight["inward_pm"], atol=1e-3)
    as_recorded = atoms.bond_changes(particle(scan=SCAN)[0])
    assert (as_recorded["d_pm"] - straight["d_pm"]).abs().max() > 3  # 3 % of 240 pm, partly


def test_without_pixel_size_lengths_are_in_px():
    table, _ = particle()
    calibrated = atoms.bond_changes(table)
    table.attrs = {}
    found = atoms.bond_changes(table)
    np.testing.assert_allclose(found["change_px"] * PX * 1000, calibrated["change_pm"], atol=1e-9)
    assert not any(name.endswith("_pm") for name in found)
    # the cell is a ruler of its own
    np.testing.assert_allclose(
        atoms.bond_changes(table, reference=CELL)["change_pm"], calibrated["change_pm"], atol=1e-3
    )


@pytest.mark.parametrize(("depth", "shared"), [(2, None), (1, Shared(0.15))])
def test_error_bars_cover_two_thirds(depth, shared):
    score = []
    rng = np.random.default_rng(depth)
    for seed in range(8):
        table, truth = particle(seed, sd=0.08)
        exact = atoms.bond_changes(truth.assign(sd_y=1e-3, sd_x=1e-3), depth=depth)
        errors = ()
        if shared is not None:
            table[["y", "x"]] += shared.shift(table["y"], rng)
            errors = (shared,)
        found = atoms.bond_changes(table, errors=errors, depth=depth)
        score.append((found["change_pm"] - exact["change_pm"]) / found["sd_change_pm"])
        score.append((found["inward_pm"] - truth["contraction_pm"][found.index]) / found["sd_inward_pm"])
    score = np.array(score)
    # 16 tables of 34 correlated numbers: 68 % within one error bar, give or take 5
    assert 0.63 < (np.abs(score) < 1).mean() < 0.73
    assert abs(score.mean()) < 0.2


def test_error_that_is_left_out_fails_the_check():
    table, _ = particle(1, sd=0.03)
    table[["y", "x"]] += Shared(0.3, 60.0).shift(table["y"], np.random.default_rng(0))
    check = atoms.bond_changes(table).attrs["priors"][0]
    assert check["name"] == "interior-is-a-lattice"
    assert not check["holds"]
    assert atoms.bond_changes(table, errors=[Shared(0.3, 60.0)]).attrs["priors"][0]["holds"]
    plain, scaled = atoms.bond_changes(table), atoms.bond_changes(table, scaled=True)
    assert scaled.attrs["scaled_by"] == pytest.approx(check["statistic"])
    np.testing.assert_allclose(scaled["sd_change_pm"], plain["sd_change_pm"] * check["statistic"])
    np.testing.assert_allclose(scaled["change_pm"], plain["change_pm"])


def test_columns_cut_off_by_the_image_are_no_surface():
    table, truth = particle()
    table = table[table["y"] > 75]
    table.attrs = truth.attrs | {"shape": (220, 220)}
    table["y"] -= 75
    found = atoms.bond_changes(table)
    cut = table.index[table["y"] < 5]
    assert not set(found.index) & set(cut)
    assert set(found["place"]) <= {"edge", "corner"}


@pytest.mark.parametrize(
    ("change", "options", "words", "kind"),
    [
        (lambda t: t, {"by": "row"}, "by is 'row'", DataError),
        (lambda t: t, {"depth": 0}, "depth is 0", DataError),
        (lambda t: t, {"depth": 6}, "interior at depth 6", DataError),
        (lambda t: t.drop(columns=["sd_y", "sd_x"]), {}, "no error bars", DataError),
        (lambda t: t, {"reference": (0.2, 0.3, 90.0)}, "reference is", CalibrationError),
        (lambda t: t, {"reference": (0.2, 0.3)}, "reference is", CalibrationError),
    ],
)
def test_bad_input_is_named(change, options, words, kind):
    with pytest.raises(kind, match=words):
        atoms.bond_changes(change(particle()[0]), **options)


def test_neither_columns_nor_lattice():
    with pytest.raises(DataError, match="neither columns nor a lattice"):
        atoms.bond_changes()


@pytest.fixture(scope="module")
def film():
    """Four particles on a rough film, dose no matter: columns, their truth, the support."""
    out = []
    for seed in range(4):
        p = simulate.phantom("pt-nanoparticle", seed=seed, pixel_size_nm=PX, peak=2000.0, shape=(220, 220))
        columns = atoms.refine(p.data, p.truth[["y", "x"]], pixel_size_nm=PX)
        out.append((columns, p, atoms.support(p.data, columns)))
    return out


def test_support_says_how_far_its_film_shifts_columns(film):
    score = np.concatenate(
        [
            (columns[["y", "x"]].to_numpy() - p.truth[["y", "x"]].to_numpy())
            / support.widen(columns)[["sd_y", "sd_x"]].to_numpy()
            for columns, p, support in film
        ]
    )
    assert 0.85 < np.sqrt((score**2).mean()) < 1.15
    assert 0.62 < (np.abs(score) < 1).mean() < 0.74


def test_support_measures_the_film(film):
    for _, p, support in film:
        assert support.level == pytest.approx(0.15 * 2000, rel=0.03)
        assert support.roughness == pytest.approx(0.1 * 0.15 * 2000, rel=0.15)
        assert support.pixels < p.data.size


def test_support_is_the_same_on_another_scale(film):
    columns, p, support = film[0]
    image = 0.02 * p.data.astype(float)
    again = atoms.refine(image, p.truth[["y", "x"]], gain=0.02, pixel_size_nm=PX)
    np.testing.assert_allclose(
        atoms.support(image, again, gain=0.02).widen(again)["sd_y"], support.widen(columns)["sd_y"], rtol=1e-3
    )


def test_support_of_a_smooth_film_is_nothing():
    p = simulate.phantom("pt-nanoparticle", texture=0.0, pixel_size_nm=PX, peak=2000.0, shape=(220, 220))
    columns = atoms.refine(p.data, p.truth[["y", "x"]], pixel_size_nm=PX)
    widened = atoms.support(p.data, columns).widen(columns)
    assert (widened["sd_y_pm"] < 1.15 * columns["sd_y_pm"]).all()


def test_support_moves_distant_columns_apart_and_one_with_itself(film):
    columns, _, support = film[0]
    labels = columns.index
    own = support.bond_covariance(columns, labels, labels)
    np.testing.assert_allclose(
        support.widen(columns)["sd_y"] ** 2 - columns["sd_y"] ** 2, own["cov_y_y"], rtol=1e-6
    )
    far = support.bond_covariance(columns, labels[:1], labels[-1:])
    assert far[["cov_y_y", "cov_x_x"]].abs().to_numpy().max() == 0


def test_support_refuses_what_it_cannot_measure(film):
    columns, p, support = film[0]
    full = simulate.phantom("srtio3", peak=100.0)
    with pytest.raises(DataError, match="farther than 4 widths"):
        atoms.support(full.data, full.truth[["y", "x", "width"]])
    with pytest.raises(DataError, match="lacks width"):
        atoms.support(p.data, columns[["y", "x"]])
    with pytest.raises(DataError, match="lacks height"):
        support.widen(columns.drop(columns="height"))
    with pytest.raises(DataError, match="not in the table"):
        support.bond_covariance(columns, [0], [len(columns) + 5])
