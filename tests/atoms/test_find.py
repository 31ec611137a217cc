"""Finding: every column once, none where there is none, and a table that says what it holds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from scipy.spatial import cKDTree

import fairstem as fs
from fairstem.errors import DataWarning

NAMES = [
    "y", "x", "sd_y", "sd_x", "cov_yx", "height", "sd_height", "width", "sd_width", "background", "chi2", "score",
    "edge", "converged",
]  # fmt: skip
CALIBRATED = ["y_nm", "x_nm", "sd_y_pm", "sd_x_pm", "width_pm"]


def find(p, **options):
    return fs.atoms.find(p.data, pixel_size_nm=p.pixel_size_nm, **options)


def assert_no_twins(table):
    """No two rows within one width of each other."""
    if len(table) > 1:
        nearest = cKDTree(table[["y", "x"]]).query(table[["y", "x"]], 2)[0][:, 1]
        assert nearest.min() > table["width"].median()


@pytest.mark.parametrize(
    ("name", "peak", "recall", "precision"),
    [
        ("p2", 20, 1.0, 1.0),
        ("p2", 5, 0.98, 0.98),
        ("srtio3", 20, 1.0, 1.0),
        ("srtio3", 5, 0.95, 0.98),
        ("si110", 10, 0.99, 1.0),
        ("graphene", 10, 0.99, 0.99),
        ("fcc111", 5, 0.98, 0.98),
        ("cspbbr3", 60, 0.99, 0.99),
        ("ws2", 200, 0.98, 1.0),
        ("vacancies", 20, 0.99, 1.0),
        ("grain-boundary", 20, 0.98, 0.98),
        ("background-ramp", 40, 0.98, 0.99),
        ("pt-nanoparticle", 30, 0.95, 0.95),
    ],
)
def test_columns_of_phantoms_are_found(name, peak, recall, precision):
    matches = []
    for seed in range(2):
        p = fs.simulate.phantom(name, seed=seed, peak=peak, shape=(192, 192))
        table = find(p)
        assert_no_twins(table)
        matches.append(fs.metrics.match_positions(table, p.truth))
    assert np.mean([m.recall for m in matches]) >= recall
    assert np.mean([m.precision for m in matches]) >= precision
    # and refined: at a rms well below a pixel
    assert np.mean([m.rms for m in matches]) < 1.0


@pytest.mark.parametrize(("name", "peak"), [("p2", 10), ("ws2", 150), ("cspbbr3", 60)])
def test_a_dim_sublattice_beside_a_bright_one_is_found(name, peak):
    for seed in range(2):
        p = fs.simulate.phantom(name, seed=seed, peak=peak, shape=(192, 192))
        match = fs.metrics.match_positions(find(p), p.truth)
        dimmest = p.truth.groupby("species")["height"].median().idxmin()
        dim = p.truth["species"].eq(dimmest).to_numpy()
        missed = dim[match.false_negatives].sum()
        inside = p.truth["y"].between(6, 185) & p.truth["x"].between(6, 185)
        assert missed <= 0.02 * (dim & inside).sum()


def test_a_vacancy_and_an_interstitial_are_seen():
    p = fs.simulate.phantom("vacancies", seed=2, peak=60, shape=(256, 256))
    table = find(p)
    match = fs.metrics.match_positions(table, p.truth)
    assert match.false_negatives.size == 0
    assert match.false_positives.size == 0


def test_the_table_holds_what_refining_again_gives():
    p = fs.simulate.phantom("p2", seed=1, peak=20, shape=(160, 160))
    table = find(p)
    again = fs.atoms.refine(p.data, table, pixel_size_nm=p.pixel_size_nm)
    shift = np.abs(table[["y", "x"]] - again[["y", "x"]]).to_numpy() / table[["sd_y", "sd_x"]].to_numpy()
    inner = ~table["edge"].to_numpy()
    assert np.median(shift[inner]) < 0.1
    assert list(again.columns) == list(table.columns)


def test_error_bars_cover_the_truth_and_positions_are_at_the_bound():
    # allowances: three standard errors of a share and of a rms
    error, stated, least = [], [], []
    for seed in range(3):
        p = fs.simulate.phantom("p2", seed=seed, peak=20, shape=(320, 320), rotation=0.1)
        table = find(p)
        match = fs.metrics.match_positions(table, p.truth)
        rows, true = match.pairs[match.scored].T
        bound = fs.metrics.cramer_rao(p.truth, p.clean)
        error.append(match.delta[match.scored])
        stated.append(table[["sd_y", "sd_x"]].to_numpy()[rows])
        least.append(bound[["sd_y", "sd_x"]].to_numpy()[true])
    error, stated, least = (np.concatenate(part) for part in (error, stated, least))
    n = error.size
    assert abs(np.mean(np.abs(error) < stated) - 0.683) <= 0.05 + 3 * np.sqrt(0.683 * 0.317 / n)
    assert np.sqrt(np.mean((error / least) ** 2)) <= 1.05 + 3 / np.sqrt(2 * n)


# ---- nothing, one, at the border ----


@pytest.mark.parametrize("level", [0.02, 0.3, 3.0, 50.0, 1e6])
def test_white_poisson_noise_has_no_columns(level):
    images = [np.random.default_rng(s).poisson(level, (192, 192)).astype(float) for s in range(4)]
    assert [len(fs.atoms.find(image)) for image in images] == [0] * 4


@pytest.mark.parametrize("sigma", [0.5, 30.0])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
@pytest.mark.filterwarnings("ignore:.*are negative:fairstem.errors.DataWarning")
def test_white_noise_of_constant_variance_has_no_columns(mean, sigma):
    images = [np.random.default_rng(s).normal(mean, sigma, (128, 128)) for s in range(3)]
    assert [len(fs.atoms.find(image, gain="estimate")) for image in images] == [0] * 3


@pytest.mark.parametrize("name", ["p2", "si110"])
def test_columns_are_found_in_noise_of_constant_variance(name):
    p = fs.simulate.phantom(name, seed=1, peak=50, shape=(160, 160))
    data = p.clean + np.random.default_rng(0).normal(500.0, 1.0, p.clean.shape)
    match = fs.metrics.match_positions(fs.atoms.find(data, gain="estimate"), p.truth)
    assert (match.recall, match.precision) == (1, 1)


def test_a_smooth_background_has_no_columns():
    y, x = np.mgrid[:192, :192] / 192
    clean = 20 + 15 * np.sin(2.5 * y) + 10 * x
    assert len(fs.atoms.find(np.random.default_rng(0).poisson(clean).astype(float))) == 0


def test_no_columns_are_an_empty_table_with_all_names_and_types():
    noise = np.random.default_rng(0).poisson(5.0, (64, 64)).astype(float)
    empty = fs.atoms.find(noise, pixel_size_nm=0.012)
    p = fs.simulate.phantom("p2", seed=0, peak=20, shape=(64, 64))
    full = find(p)
    assert len(empty) == 0
    assert list(empty.columns) == NAMES + CALIBRATED == list(full.columns)
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert empty.attrs.keys() == full.attrs.keys()
    assert empty.attrs["shape"] == (64, 64)
    assert empty.attrs["pixel_size_nm"] == (0.012, 0.012)
    json.dumps(empty.attrs, allow_nan=False)
    # and what comes after takes it
    assert len(fs.atoms.refine(noise, empty)) == 0


@pytest.mark.parametrize("width", [1.5, 3.0, 8.0])
@pytest.mark.parametrize("height", [30.0, 1000.0])
def test_a_single_atom_is_one_row(width, height):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        one = pd.DataFrame({"y": [40.3], "x": [61.8], "height": [height], "width": [width]})
        clean = fs.simulate.render_columns(one, (100, 110), background=4.0)
        table = fs.atoms.find(rng.poisson(clean).astype(float))
        assert len(table) == 1
        row = table.iloc[0]
        assert abs(row["y"] - 40.3) < 4 * row["sd_y"]
        assert abs(row["x"] - 61.8) < 4 * row["sd_x"]
        assert row["width"] == pytest.approx(width, abs=5 * row["sd_width"])
        assert row["height"] == pytest.approx(height, abs=5 * row["sd_height"])


@pytest.mark.parametrize("pixel_size_nm", [None, 0.004])
def test_columns_at_the_border_are_flagged(pixel_size_nm):
    p = fs.simulate.phantom("p2", seed=0, peak=40, shape=(160, 160))
    table = fs.atoms.find(p.data, pixel_size_nm=pixel_size_nm)
    band = 5.0 if pixel_size_nm is None else 0.06 / pixel_size_nm
    border = np.minimum(table[["y", "x"]], 159 - table[["y", "x"]]).min(axis=1)
    assert table["edge"].dtype == bool
    assert table["edge"].tolist() == (border < band).tolist()
    assert table["edge"].any()
    assert not table["edge"].all()
    assert table["y"].between(-0.5, 159.5).all()
    assert table["x"].between(-0.5, 159.5).all()


@pytest.mark.parametrize("peak", [4, 30, 300])
def test_no_column_is_found_twice(peak):
    for name in ("p2", "si110", "graphene"):
        assert_no_twins(fs.atoms.find(fs.simulate.phantom(name, seed=3, peak=peak, shape=(160, 160)).data))


# ---- what it does not depend on, and what it says ----


def test_rows_run_from_top_to_bottom_and_numbers_are_finite():
    table = find(fs.simulate.phantom("srtio3", seed=0, peak=20, shape=(128, 128)))
    assert table["y"].is_monotonic_increasing
    assert list(table.index) == list(range(len(table)))
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert (table[["sd_y", "sd_x", "height", "width", "sd_height"]] > 0).all(axis=None)
    assert (table["score"] >= 3.5).all()


@pytest.mark.parametrize(("gain", "offset"), [(9.0, 0.0), (0.02, 5.0)])
def test_given_gain_and_offset_only_change_the_unit(gain, offset):
    p = fs.simulate.phantom("p2", seed=0, peak=20, shape=(128, 128), dtype="float64")
    table, other = (
        find(p),
        fs.atoms.find(p.data * gain + offset, gain=gain, offset=offset, pixel_size_nm=0.012),
    )
    assert_frame_equal(table, other, rtol=1e-5, atol=1e-5)


def test_an_estimated_gain_finds_the_same_columns():
    p = fs.simulate.phantom("p2", seed=0, peak=20, shape=(256, 256), gain=40.0, offset=200.0, readout=20.0)
    table = find(p, gain="estimate")
    match = fs.metrics.match_positions(table, p.truth)
    assert (match.recall, match.precision) == (1, 1)
    assert table.attrs["noise"]["gain"] == pytest.approx(40, rel=0.1)


@pytest.mark.parametrize("turn", [np.transpose, np.flipud, np.rot90], ids=["transposed", "flipped", "turned"])
def test_turning_the_image_turns_the_columns(turn):
    p = fs.simulate.phantom("srtio3", seed=5, peak=30, shape=(128, 128))
    table, other = find(p), fs.atoms.find(turn(p.data))
    back = {
        "transpose": other[["x", "y"]].to_numpy(),
        "flipud": np.column_stack([127 - other["y"], other["x"]]),
        "rot90": np.column_stack([other["x"], 127 - other["y"]]),
    }[turn.__name__]
    distance, partner = cKDTree(back).query(table[["y", "x"]])
    inner = ~table["edge"]
    assert np.unique(partner[inner]).size == inner.sum()
    assert np.all(distance[inner] < 0.5 * table.loc[inner, "sd_y"])


def test_a_higher_threshold_finds_a_part_of_the_same():
    p = fs.simulate.phantom("single-atoms", seed=1, peak=14, shape=(192, 192), texture=0.0)
    low, high = find(p, threshold=4.0), find(p, threshold=8.0)
    assert 0 < len(high) < len(low)
    assert cKDTree(low[["y", "x"]]).query(high[["y", "x"]])[0].max() < 1


def test_a_given_width_is_the_scale_it_looks_at():
    p = fs.simulate.phantom("p2", seed=1, peak=20, shape=(128, 128))
    for width in (2.5, 3.5, 5.0):
        table = find(p, width=width)
        match = fs.metrics.match_positions(table, p.truth)
        assert (match.recall, match.precision) == (1, 1)
        assert table.attrs["scale"] == pytest.approx(width)


def test_nan_pixels_cost_no_columns_around_them():
    p = fs.simulate.phantom("p2", seed=1, peak=40, shape=(160, 160))
    data = p.data.copy()
    data[:, 70] = np.nan
    data[np.random.default_rng(0).random(data.shape) < 0.02] = np.nan
    with pytest.warns(DataWarning, match="NaN"):
        table = fs.atoms.find(data, pixel_size_nm=p.pixel_size_nm)
    match = fs.metrics.match_positions(table, p.truth)
    assert (match.recall, match.precision) == (1, 1)


def test_the_table_says_how_it_was_made():
    attrs = find(fs.simulate.phantom("p2", seed=1, peak=20, shape=(128, 128))).attrs
    assert attrs["model"] == "classical"
    assert attrs["threshold"] == 5.0
    assert attrs["noise"]["source"] == "counts"
    assert attrs["height_unit"] == "electrons"
    checks = {c["name"]: c["holds"] for c in attrs["priors"]}
    assert checks["gaussian-columns"]
    assert checks["noise-level"]
    json.dumps(attrs, allow_nan=False)


def test_the_image_is_left_alone():
    data = fs.simulate.phantom("p2", seed=1, peak=20, shape=(96, 96)).data
    kept = data.copy()
    data.setflags(write=False)
    fs.atoms.find(data)
    assert np.array_equal(data, kept)
