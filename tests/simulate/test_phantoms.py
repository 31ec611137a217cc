"""Every phantom: same seed same image, truth that explains the image, options that are checked."""

import json

import numpy as np
import pytest

from fairstem.errors import DataError
from fairstem.metrics import cramer_rao
from fairstem.simulate import phantom, phantoms, render_columns

NAMES = phantoms()["name"].tolist()
SMALL = {"shape": (96, 112)}
REQUIRED = {
    "p1", "p2", "srtio3", "si110", "graphene", "ws2", "fcc111", "cspbbr3", "grain-boundary", "interface",
    "vacancies", "displaced", "dislocation", "pt-nanoparticle", "single-atoms", "background-ramp", "empty",
    "drifted", "vacuum-edge", "gain-ramp", "bent", "row-drift",
}  # fmt: skip


def small(name, **options):
    # three planted kinds need room
    shape = (200, 220) if name in ("vacancies", "displaced") else SMALL["shape"]
    frames = {"frames": 2} if name == "p1" else {}
    return phantom(name, **{"shape": shape, **frames, **options})


def test_all_that_is_promised_is_there_with_a_line_and_its_options():
    table = phantoms()
    assert set(NAMES) >= REQUIRED
    assert table["name"].is_unique
    assert (table["line"].str.len() > 10).all()
    assert "shifted=0" in table.set_index("name").loc["p2", "options"]


@pytest.mark.parametrize("name", NAMES)
def test_seed_and_parameters_make_the_same_phantom_again(name):
    p = small(name, seed=4)
    again = phantom(name, **p.parameters)
    np.testing.assert_array_equal(again.data, p.data)
    np.testing.assert_array_equal(again.clean, p.clean)
    assert again.truth.equals(p.truth)
    json.dumps(p.parameters)
    json.dumps(p.truth.attrs)
    assert (small(name, seed=5).data != p.data).any()


@pytest.mark.parametrize("name", NAMES)
def test_data_are_counts_of_the_clean_image_and_truth_is_complete(name):
    p = small(name, seed=1)
    assert p.data.shape == p.clean.shape
    assert p.data.shape[-2:] == tuple(p.parameters["shape"])
    assert (p.data.dtype, p.clean.dtype) == (np.float32, np.float64)
    chi2 = ((p.data - p.clean) ** 2).sum() / p.clean.sum()
    assert chi2 == pytest.approx(1.0, abs=0.1)
    assert {"y", "x", "height", "width", "species", "planted", "shift_y", "shift_x"} <= set(p.truth)
    assert not p.truth.isna().any().any()
    assert p.truth.attrs["shape"] == tuple(p.parameters["shape"])
    assert p.truth.attrs["pixel_size_nm"] == (p.pixel_size_nm, p.pixel_size_nm)
    assert (len(p.truth) == 0) == (name == "empty")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("p1", "drifted", "row-drift")])
def test_truth_explains_the_clean_image(name):
    p = small(name, seed=2)
    rest = p.clean - render_columns(p.truth, p.clean.shape)
    level = p.parameters["peak"] * p.parameters["background"]
    # what is left is the background: flat, or its texture, step or ramp
    uneven = ("interface", "background-ramp", "pt-nanoparticle", "single-atoms", "vacuum-edge", "gain-ramp")
    flat = name not in uneven
    if flat:
        np.testing.assert_allclose(rest, level, atol=1e-6 * p.parameters["peak"])
    assert rest.min() >= -1e-9
    # half of the image is vacuum; the ramp is 1 on the bright side
    share = {"vacuum-edge": 0.6, "gain-ramp": 2 / 3}.get(name, 1.0)
    assert rest.mean() == pytest.approx(share * level, rel=0.3)


def test_truth_of_a_series_explains_each_frame():
    p = small("p1", seed=3)
    assert p.displacement.shape == (2, 2, *SMALL["shape"])
    for k in range(2):
        image = render_columns(p.truth, SMALL["shape"], displacement=p.displacement[k], background=30 * 0.06)
        np.testing.assert_allclose(image, p.clean[k], atol=1e-6)


def test_p2_is_the_protocol():
    p = phantom("p2", peak=5.0, seed=1)
    assert p.data.shape == (512, 512)
    assert p.pixel_size_nm == 0.012
    np.testing.assert_allclose(p.truth["width"], 3.5)
    heights = p.truth.groupby("species")["height"].first()
    assert heights["Ti"] / heights["Sr"] == pytest.approx(0.45)
    assert p.clean.max() == pytest.approx(5.0, rel=0.01)
    assert p.clean.min() == pytest.approx(0.3, rel=0.02)
    sr = np.sort(p.truth.loc[p.truth["species"] == "Sr", "y"].round(6).unique())
    np.testing.assert_allclose(np.diff(sr), 32.5, atol=1e-5)
    bound = cramer_rao(p.truth, p.clean)
    assert len(bound) == len(p.truth)


def test_p2_plants_shifts_of_20_pm_and_half_columns():
    p = phantom("p2", shifted=12, halved=12, seed=2)
    shift = p.truth[p.truth["planted"] == "shift"]
    assert (shift["species"] == "Sr").all()
    np.testing.assert_allclose(np.hypot(shift["shift_y"], shift["shift_x"]) * 12, 20.0)
    half, rest = (p.truth[p.truth["planted"] == kind] for kind in ("half", "none"))
    assert (len(shift), len(half)) == (12, 12)
    full = rest.loc[rest["species"] == "Ti", "height"].iloc[0]
    np.testing.assert_allclose(half["height"], full / 2)


def test_options_all_share():
    p = phantom(
        "srtio3", shape=(64, 80), pixel_size_nm=0.01, peak=50.0, background=0.5, dtype="uint16", seed=1
    )
    assert p.data.shape == (64, 80)
    assert p.data.dtype == np.uint16
    assert p.clean.max() == pytest.approx(50, rel=0.02)
    assert p.clean.min() >= 25
    np.testing.assert_allclose(p.truth["width"], 5.0)
    frames = phantom("srtio3", **SMALL, frames=3)
    assert frames.data.shape == (3, *SMALL["shape"])
    assert (frames.data[0] != frames.data[1]).any()
    np.testing.assert_array_equal(frames.clean[0], frames.clean[1])
    detector = phantom("empty", gain=10.0, offset=100.0, readout=1.0, saturation=200.0)
    assert detector.data.max() == 200.0
    pair = phantom(
        "square", **SMALL, frames=2, distortion="scan", distortion_options={"rotations_deg": (0, 90)}
    )
    assert pair.displacement.shape == (2, 2, *SMALL["shape"])


def test_interface_is_one_lattice_with_a_dim_side():
    p = phantom("interface", dim=0.1, seed=1)
    bright, dim = (p.truth[(p.truth["grain"] == g) & (p.truth["species"] == "Sr")]["height"] for g in (0, 1))
    assert (bright.nunique(), dim.nunique()) == (1, 1)
    assert dim.iloc[0] / bright.iloc[0] == pytest.approx(0.1)
    two = phantom("interface", second="fcc110", pixel_size_nm=0.012, dim=0.5, seed=1)
    assert set(two.truth.loc[two.truth["grain"] == 1, "species"]) == {"Pt"}


def test_nanoparticle_series_for_the_bond_table():
    p = phantom("pt-nanoparticle", frames=3, distortion="row", seed=1)
    assert p.data.shape == (3, 256, 256)
    assert p.truth.loc[p.truth["place"] != "bulk", "contraction_pm"].between(4, 44).all()
    assert set(p.truth["place"]) == {"bulk", "edge", "corner"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("srtio4", {}, "did you mean 'srtio3'"),
        ("nothing-like-it", {}, "one of p2, p1"),
        ("p2", {"halfed": 3}, "'halfed'.*halved.*pixel_size_nm"),
        ("p2", {"peak": 0.0}, "peak"),
        ("p2", {"background": 1.0}, "background"),
        ("p2", {"shape": (512,)}, "shape"),
        ("p2", {"pixel_size_nm": -0.1}, "pixel_size_nm"),
        ("p2", {"frames": 0}, "frames"),
        ("p2", {"seed": -1}, "seed"),
        ("p2", {"seed": 0.5}, "seed"),
        ("p2", {"distortion": "wild"}, "'wild'"),
        ("p1", {"distortion_options": {"drift": 1}}, "drift_px"),
        ("vacancies", {"shape": (16, 16)}, "count is 5"),
        ("gain-ramp", {"ratio": 0.5}, "ratio"),
        ("bent", {"strain": 0.5}, "strain"),
        ("row-drift", {"drift_px": (3.0,)}, "drift_px"),
        ("interface", {"second": "SrTiO3"}, "one of srtio3"),
    ],
)
def test_bad_input_is_named(name, options, message):
    with pytest.raises(DataError, match=message):
        phantom(name, **options)
