"""Refinement reaches the Cramér-Rao bound, without bias, with error bars that cover the truth.

Statistical allowance: every limit on an estimate (rms over bound, bias, coverage) is widened by three of
that estimate's own standard errors, which each test computes from the number of columns it pooled. With the
fixed seeds a test either holds or doesn't; the allowance says what the seeds could have been.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import fairstem as fs
from fairstem.errors import DataWarning

PIXEL_NM = 0.012
PM = PIXEL_NM * 1e3
BAND = 30  # px: columns of dumbbells, ramps and ellipses are placed this far from the border


def inside(columns, shape):
    """Rows of a table whose columns lie in the image."""
    return columns[columns["y"].between(0, shape[0] - 1) & columns["x"].between(0, shape[1] - 1)]


def rounded(truth, shape):
    """Start positions as a detection on whole pixels would give them, and nothing else."""
    return inside(truth[["y", "x"]].round(), shape)


def inner_rows(table, band=None):
    """Labels of the columns that count: away from the border by more than `band` px, or not at the edge."""
    if band is None:
        return table.index[~table["edge"]]
    ny, nx = table.attrs["shape"]
    return table.index[table["y"].between(band, ny - 1 - band) & table["x"].between(band, nx - 1 - band)]


def against_truth(table, truth, bound=None, band=None):
    """Errors, error bars and bounds of the columns away from the border: arrays (n, 2) in px."""
    rows = inner_rows(table, band)
    assert table.loc[rows, "converged"].all()
    error = table.loc[rows, ["y", "x"]].to_numpy() - truth.loc[rows, ["y", "x"]].to_numpy()
    stated = table.loc[rows, ["sd_y", "sd_x"]].to_numpy()
    least = stated if bound is None else bound.loc[rows, ["sd_y", "sd_x"]].to_numpy()
    return error, stated, least


def pooled(parts):
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def assert_efficient(error, bound, limit=1.05):
    """Rms of error over bound; that of n normal numbers has the standard error 1/sqrt(2n)."""
    ratio = np.sqrt(np.mean((error / bound) ** 2))
    assert ratio <= limit + 3 / np.sqrt(2 * error.size), f"rms/bound {ratio:.3f} of {error.size}"


def assert_covered(error, stated, margin=0.05):
    """68.3 % of the errors lie within their error bars."""
    share = np.mean(np.abs(error) < stated)
    allowance = 3 * np.sqrt(0.683 * 0.317 / error.size)
    assert abs(share - 0.683) <= margin + allowance, f"coverage {share:.3f} of {error.size}"


def assert_unbiased(error, stated, limit_pm=0.3):
    """Mean error along y and along x."""
    allowance = 3 * np.sqrt(np.sum(stated**2, axis=0)) / len(error)
    assert np.all(np.abs(error.mean(axis=0)) * PM <= limit_pm + allowance * PM), error.mean(axis=0) * PM


def p2(seed, peak, shape=(320, 320), **options):
    # turned, so that the columns lie at all sub-pixel positions
    return fs.simulate.phantom("p2", seed=seed, peak=peak, shape=shape, rotation=0.1, **options)


def columns_on_grid(shape, spacing, rng, **values):
    """Columns at random sub-pixel positions around a square grid, `BAND` from the border."""
    axes = [np.arange(BAND, n - BAND, spacing) for n in shape]
    y, x = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
    shift = rng.uniform(-0.5, 0.5, (2, y.size))
    return pd.DataFrame({"y": y + shift[0], "x": x + shift[1], "height": 50.0, "width": 3.0} | values)


# ---- at the bound ----


@pytest.fixture(scope="module", params=[5, 20, 100], ids="peak {}".format)
def crystal(request):
    """Errors of both sub-lattices of protocol P2, pooled over five images."""
    parts = []
    for seed in range(5):
        p = p2(seed, request.param)
        table = fs.atoms.refine(p.data, rounded(p.truth, p.data.shape), pixel_size_nm=PIXEL_NM)
        bound = fs.metrics.cramer_rao(p.truth, p.clean)
        species = p.truth.loc[inner_rows(table), "species"].to_numpy()
        parts.append((*against_truth(table, p.truth, bound), species))
    return pooled(parts)


@pytest.mark.parametrize("species", ["Sr", "Ti"])
def test_rms_is_at_the_bound_on_each_sublattice(crystal, species):
    error, _, bound, kind = crystal
    assert_efficient(error[kind == species], bound[kind == species])


def test_error_bars_cover_the_truth(crystal):
    error, stated, _, _ = crystal
    assert_covered(error, stated)


def test_error_bars_are_the_bound(crystal):
    _, stated, bound, _ = crystal
    assert np.median(stated / bound) == pytest.approx(1, abs=0.03)


def test_positions_are_unbiased(crystal):
    error, stated, _, _ = crystal
    assert_unbiased(error, stated)


@pytest.mark.parametrize("name", ["p2", "si110", "graphene", "srtio3", "background-ramp"])
def test_without_noise_positions_are_within_half_a_picometre(name):
    p = fs.simulate.phantom(name, seed=2, peak=50, shape=(160, 160))
    pm = p.pixel_size_nm * 1e3
    table = fs.atoms.refine(p.clean, rounded(p.truth, p.clean.shape), pixel_size_nm=p.pixel_size_nm)
    # nearer to the border, columns outside the image reach in, and no start position may stand for them
    error, _, _ = against_truth(table, p.truth, band=26)
    assert len(error) > 8
    assert np.hypot(*error.T).max() * pm < 0.5


def test_heights_widths_and_backgrounds_are_the_simulated_ones_without_noise():
    p = p2(0, 20, (160, 160))
    table = fs.atoms.refine(p.clean, rounded(p.truth, p.clean.shape))
    rows = inner_rows(table, band=26)
    for name in ("height", "width"):
        assert table.loc[rows, name].to_numpy() == pytest.approx(p.truth.loc[rows, name].to_numpy(), rel=5e-3)
    assert table.loc[rows, "background"].to_numpy() == pytest.approx(20 * 0.06, rel=1e-2)


def test_error_bars_of_height_and_width_cover_the_truth():
    pulls = []
    for seed in range(3):
        p = p2(seed, 30)
        table = fs.atoms.refine(p.data, rounded(p.truth, p.data.shape))
        rows = table.index[~table["edge"]]
        off = (table.loc[rows, ["height", "width"]] - p.truth.loc[rows, ["height", "width"]]).to_numpy()
        pulls.append(off / table.loc[rows, ["sd_height", "sd_width"]].to_numpy())
    pulls = np.concatenate(pulls)
    assert_covered(pulls, np.ones_like(pulls))
    assert np.all(np.abs(pulls.mean(axis=0)) < 0.1 + 3 / np.sqrt(len(pulls)))


def test_chi_square_per_degree_of_freedom_is_one():
    p = p2(1, 20)
    table = fs.atoms.refine(p.data, rounded(p.truth, p.data.shape))
    assert table.loc[~table["edge"], "chi2"].mean() == pytest.approx(1, abs=0.03)


# ---- never worse ----


@pytest.mark.parametrize("peak", [4, 12, 60])
@pytest.mark.parametrize("name", ["p2", "si110", "graphene", "vacancies", "background-ramp"])
def test_refining_is_never_worse_than_its_start(name, peak):
    from fairstem.atoms._detect import detect_columns

    squares = []
    for seed in range(3):
        p = fs.simulate.phantom(name, seed=seed, peak=peak, shape=(128, 128))
        found = detect_columns(p.data.astype(float))
        detected = pd.DataFrame({"y": found.y, "x": found.x})
        before = fs.metrics.match_positions(detected, p.truth)
        first = fs.atoms.refine(p.data, detected)
        after = fs.metrics.match_positions(first, p.truth)
        assert after.rms <= before.rms, (seed, before.rms, after.rms)
        assert after.recall >= before.recall
        again = fs.metrics.match_positions(fs.atoms.refine(p.data, first), p.truth)
        squares.append((after.rms**2, again.rms**2))
    # and a second time changes nothing that matters
    once, twice = np.sqrt(np.mean(squares, axis=0))
    assert twice <= 1.05 * once, (once, twice)


# ---- overlap, shape, width, background ----


@pytest.mark.parametrize("separation", [2.4, 3.0, 4.0])  # widths
def test_dumbbells_are_fitted_jointly_without_bias_and_with_coverage(separation):
    parts, stretch = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        first = columns_on_grid((256, 256), 34, rng)
        second = first.assign(height=35.0)
        angle = rng.uniform(0, 2 * np.pi, len(first))
        apart = separation * 3.0
        second["y"] += apart * np.sin(angle)
        second["x"] += apart * np.cos(angle)
        truth = pd.concat([first, second], ignore_index=True)
        clean = fs.simulate.render_columns(truth, (256, 256), background=3.0)
        data = fs.simulate.add_noise(clean, seed)
        table = fs.atoms.refine(data, truth[["y", "x"]].round(), background="constant")
        parts.append(against_truth(table, truth, fs.metrics.cramer_rao(truth, clean, joint=True)))
        a, b = table.iloc[: len(first)], table.iloc[len(first) :]
        length = np.hypot(b["y"].to_numpy() - a["y"].to_numpy(), b["x"].to_numpy() - a["x"].to_numpy())
        stretch.append(length - apart)
    error, stated, bound = pooled(parts)
    assert_covered(error, stated)
    assert_efficient(error, bound)
    stretch = np.concatenate(stretch)
    assert abs(stretch.mean()) * PM < 0.3 + 3 * stretch.std() / np.sqrt(stretch.size) * PM


@pytest.mark.parametrize(("ellipticity", "angle"), [(1.15, 0.4), (1.3, 1.2), (1.5, 2.7)])
def test_elliptic_columns_are_recovered(ellipticity, angle):
    rng = np.random.default_rng(3)
    truth = columns_on_grid((256, 256), 28, rng, ellipticity=ellipticity, angle=angle, height=100.0)
    clean = fs.simulate.render_columns(truth, (256, 256), background=5.0)
    start = truth[["y", "x"]].round()
    exact = fs.atoms.refine(clean, start, shape="elliptic", background="constant")
    assert exact["ellipticity"].to_numpy() == pytest.approx(ellipticity, abs=1e-3)
    assert exact["width"].to_numpy() == pytest.approx(3.0, abs=1e-3)
    assert exact["angle_deg"].to_numpy() == pytest.approx(np.degrees(angle), abs=0.1)
    data = fs.simulate.add_noise(clean, 0)
    table = fs.atoms.refine(data, start, shape="elliptic", background="constant")
    error, stated, _ = against_truth(table, truth)
    assert_covered(error, stated)
    for name, true in (("ellipticity", ellipticity), ("width", 3.0), ("angle_deg", np.degrees(angle))):
        allowance = 3 * table[name].std() / np.sqrt(len(table))
        assert abs(table[name].mean() - true) < 0.003 * true + allowance, name
    # the round model sees that it doesn't fit
    if ellipticity >= 1.3:
        assert fs.atoms.refine(data, start)["chi2"].mean() > table["chi2"].mean() + 0.05


def test_round_columns_are_not_made_elliptic():
    truth = columns_on_grid((256, 256), 28, np.random.default_rng(0), height=100.0)
    clean = fs.simulate.render_columns(truth, (256, 256), background=5.0)
    table = fs.atoms.refine(clean, truth[["y", "x"]].round(), shape="elliptic", background="constant")
    assert table["ellipticity"].to_numpy() == pytest.approx(1, abs=1e-3)


def test_a_held_width_stays_and_makes_heights_surer():
    p = p2(0, 10, (192, 192))
    start = rounded(p.truth, p.data.shape)
    held, free = (fs.atoms.refine(p.data, start, width=w) for w in (3.5, "free"))
    inner = ~held["edge"]
    assert held["width"].to_numpy() == pytest.approx(3.5, rel=1e-12)
    assert (held.loc[inner, "sd_width"] == 0).all()
    assert (held.loc[inner, "sd_height"] < free.loc[inner, "sd_height"]).mean() > 0.95
    error, stated, _ = against_truth(held, p.truth)
    assert_covered(error, stated)


@pytest.mark.parametrize("background", ["constant", "plane", "auto"])
def test_a_flat_background_stays_flat_at_the_rim_of_a_crystal(background):
    # an island of columns, with nothing around it that could tell the slope beyond its rim
    truth = columns_on_grid((256, 256), 28, np.random.default_rng(3), height=100.0)
    clean = fs.simulate.render_columns(truth, (256, 256), background=5.0)
    start = truth[["y", "x"]].round()
    exact, _, _ = against_truth(fs.atoms.refine(clean, start, background=background), truth)
    assert np.hypot(*exact.T).max() * PM < 0.5
    bound = fs.metrics.cramer_rao(truth, clean)
    parts = [
        against_truth(
            fs.atoms.refine(fs.simulate.add_noise(clean, s), start, background=background), truth, bound
        )
        for s in range(5)
    ]
    error, stated, least = pooled(parts)
    assert_covered(error, stated)
    # a free slope costs precision, and its error bar says so
    assert_efficient(error, stated if background == "plane" else least)


@pytest.mark.parametrize("background", ["plane", "auto"])
def test_a_steep_ramp_does_not_shift_columns(background):
    parts, wrong = [], []
    for seed in range(3):
        truth = columns_on_grid((224, 224), 24, np.random.default_rng(seed), height=20.0)
        ramp = 10.0 + 0.5 * np.arange(224.0)
        clean = fs.simulate.render_columns(truth, (224, 224), background=np.tile(ramp, (224, 1)))
        data = fs.simulate.add_noise(clean, seed)
        start = truth[["y", "x"]].round()
        parts.append(against_truth(fs.atoms.refine(data, start, width=3.0, background=background), truth))
        wrong.append(fs.atoms.refine(data, start, width=3.0, background="constant")["x"] - truth["x"])
    error, stated, _ = pooled(parts)
    assert_unbiased(error, stated)
    assert_covered(error, stated)
    assert np.concatenate(wrong).mean() > 0.1


# ---- pixels that can't be used ----


def test_columns_are_measured_beside_nan_pixels():
    parts = []
    for seed in range(3):
        p = p2(seed, 30)
        data = p.data.copy()
        holes = np.random.default_rng(seed).random(data.shape) < 0.2
        data[holes] = np.nan
        start = rounded(p.truth, data.shape)
        with pytest.warns(DataWarning, match="NaN"):
            table = fs.atoms.refine(data, start)
        assert "nan" in [f["code"] for f in table.attrs["findings"]]
        parts.append(against_truth(table, p.truth))
        whole = fs.atoms.refine(p.data, start)
        inner = ~table["edge"]
        # a fifth of the pixels lost makes error bars sqrt(1/0.8) larger
        ratio = (table.loc[inner, "sd_y"] / whole.loc[inner, "sd_y"]).median()
        assert ratio == pytest.approx(0.8**-0.5, rel=0.03)
    error, stated, _ = pooled(parts)
    assert_covered(error, stated)


def test_a_column_whose_pixels_are_all_nan_is_no_measurement():
    p = p2(0, 30, (160, 160))
    start = rounded(p.truth, p.data.shape)
    centre = start.index[np.argmin(np.hypot(start["y"] - 80, start["x"] - 80))]
    y, x = (int(v) for v in start.loc[centre])
    data = p.data.copy()
    data[y - 12 : y + 13, x - 12 : x + 13] = np.nan
    with pytest.warns(DataWarning, match="NaN"):
        table = fs.atoms.refine(data, start)
    assert not table["converged"][centre]
    assert table.loc[centre, ["y", "x"]].tolist() == [y, x]
    assert table["sd_y"][centre] > 1
    others = table.drop(index=centre)
    error, stated, _ = against_truth(others, p.truth)
    assert np.sqrt(np.mean((error / stated) ** 2)) < 1.3


def test_saturated_tops_are_left_out_and_positions_stay_within_their_error_bars():
    parts = []
    for seed in range(3):
        p = p2(seed, 100)
        with pytest.warns(DataWarning, match="saturated"):
            table = fs.atoms.refine(np.minimum(p.data, 75), rounded(p.truth, p.data.shape))
        parts.append(against_truth(table, p.truth))
        # heights are those of the whole peak (94), not of the cut one
        bright = p.truth["species"].reindex(table.index).eq("Sr") & ~table["edge"]
        assert table.loc[bright, "height"].mean() == pytest.approx(94, rel=0.1)
    error, stated, _ = pooled(parts)
    assert_covered(error, stated)
    assert_unbiased(error, stated)


# ---- detectors that don't count ----


def test_readout_noise_is_in_the_error_bars_and_costs_what_the_bound_says():
    parts = []
    for seed in range(4):
        p = p2(seed, 20, gain=7.0, offset=200.0, readout=28.0)
        table = fs.atoms.refine(p.data, rounded(p.truth, p.data.shape), gain=7.0, offset=200.0, readout=28.0)
        parts.append(against_truth(table, p.truth, fs.metrics.cramer_rao(p.truth, p.clean, readout=4.0)))
        rows = table.index[~table["edge"]]
        ratio = table.loc[rows, "height"] / p.truth.loc[rows, "height"]
        assert ratio.mean() == pytest.approx(1, abs=0.03)
    error, stated, bound = pooled(parts)
    assert_covered(error, stated)
    assert_unbiased(error, stated)
    assert_efficient(error, bound)


def test_an_estimated_gain_gives_coverage_too():
    parts = []
    for seed in range(4):
        p = p2(seed, 40, gain=23.0, offset=500.0, readout=23 * 0.5)
        table = fs.atoms.refine(p.data, rounded(p.truth, p.data.shape), gain="estimate")
        noise = table.attrs["noise"]
        assert noise["source"] == "estimated"
        assert noise["gain"] == pytest.approx(23, rel=0.1)
        parts.append(against_truth(table, p.truth))
    error, stated, _ = pooled(parts)
    assert_covered(error, stated, margin=0.06)
    assert_unbiased(error, stated)


def test_constant_noise_is_told_from_counting_and_covered():
    parts = []
    for seed in range(3):
        p = p2(seed, 20)
        data = p.clean + np.random.default_rng(seed).normal(50.0, 2.0, p.clean.shape)
        table = fs.atoms.refine(data, rounded(p.truth, data.shape), gain="estimate")
        noise = table.attrs["noise"]
        assert not noise["poisson"]
        assert noise["readout"] == pytest.approx(2, rel=0.05)
        assert table.attrs["height_unit"] == "raw units"
        parts.append(against_truth(table, p.truth))
        rows = table.index[~table["edge"]]
        assert (table.loc[rows, "height"] / p.truth.loc[rows, "height"]).mean() == pytest.approx(1, abs=0.03)
    error, stated, _ = pooled(parts)
    assert_covered(error, stated)
    assert_unbiased(error, stated)
