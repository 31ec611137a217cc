"""What the result of a refinement does not depend on: order, place, orientation, units, kind of array."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

import fairstem as fs

MEASURED = [
    "y",
    "x",
    "sd_y",
    "sd_x",
    "cov_yx",
    "height",
    "sd_height",
    "width",
    "sd_width",
    "background",
    "score",
]
CALIBRATED = ["y_nm", "x_nm", "sd_y_pm", "sd_x_pm", "width_pm"]


def image_and_start(name="p2", seed=1, peak=20, shape=(128, 128)):
    p = fs.simulate.phantom(name, seed=seed, peak=peak, shape=shape)
    start = p.truth[["y", "x"]].round()
    ny, nx = shape
    inside = start["y"].between(0, ny - 1) & start["x"].between(0, nx - 1)
    return p.data, start[inside].reset_index(drop=True)


@pytest.fixture(scope="module")
def crystal():
    return image_and_start()


def assert_same_positions(a, b, share=0.1):
    """Equal to within a tenth of the error bar: where the iterations stop is allowed to differ, the answer isn't."""
    inner = ~a["edge"].to_numpy()
    shift = np.abs(a[["y", "x"]].to_numpy() - b[["y", "x"]].to_numpy())[inner]
    assert np.all(shift < share * a[["sd_y", "sd_x"]].to_numpy()[inner]), shift.max()
    for name in ("sd_y", "sd_x"):
        assert b[name].to_numpy()[inner] == pytest.approx(a[name].to_numpy()[inner], rel=0.05)


@pytest.mark.parametrize("name", ["p2", "si110"])
def test_shuffled_rows_give_shuffled_results(name):
    image, start = image_and_start(name)
    table = fs.atoms.refine(image, start)
    shuffled = start.sample(frac=1, random_state=0)
    again = fs.atoms.refine(image, shuffled)
    assert list(again.index) == list(shuffled.index)
    assert_same_positions(table, again.loc[table.index])


@pytest.mark.parametrize("name", ["p2", "si110"])
def test_transposing_the_image_swaps_y_and_x(name):
    image, start = image_and_start(name)
    table = fs.atoms.refine(image, start)
    other = fs.atoms.refine(image.T, start.rename(columns={"y": "x", "x": "y"}))
    swapped = other.rename(columns={"y": "x", "x": "y", "sd_y": "sd_x", "sd_x": "sd_y"})
    assert_same_positions(table, swapped)


@pytest.mark.parametrize("shift", [(3, 0), (0, -5), (11, 7)])
def test_a_shift_by_whole_pixels_shifts_the_result(shift):
    rng = np.random.default_rng(0)
    columns = pd.DataFrame(
        {"y": [60.2, 60.9, 85.5, 70.0], "x": [58.4, 82.7, 60.1, 71.3], "height": 30.0, "width": 3.0}
    )
    image = rng.poisson(fs.simulate.render_columns(columns, (144, 144), background=2.0)).astype(float)
    start = columns[["y", "x"]].round().assign(width=3.0)
    table = fs.atoms.refine(image, start)
    moved = start.assign(y=start["y"] + shift[0], x=start["x"] + shift[1])
    other = fs.atoms.refine(np.roll(image, shift, (0, 1)), moved)
    back = other.assign(y=other["y"] - shift[0], x=other["x"] - shift[1])
    for name in MEASURED:
        assert back[name].to_numpy() == pytest.approx(table[name].to_numpy(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("gain", "offset"), [(1.0, 0.0), (7.0, 0.0), (0.013, 0.0), (7.0, 100.0), (2.0, -40.0)]
)
@pytest.mark.filterwarnings("ignore:.*are negative:fairstem.errors.DataWarning")
def test_gain_and_offset_only_change_the_unit(crystal, gain, offset):
    image, start = crystal
    counts = image.astype(float)
    table = fs.atoms.refine(counts, start)
    other = fs.atoms.refine(counts * gain + offset, start, gain=gain, offset=offset, readout=0.0)
    assert other.attrs["noise"]["source"] == "given"
    for name in MEASURED:
        assert other[name].to_numpy() == pytest.approx(table[name].to_numpy(), rel=1e-6, abs=1e-7), name


# ---- kinds of input ----


def hyperspy_signal(image, **scales):
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(image)
    for axis, scale in zip(signal.axes_manager.signal_axes, (scales["x"], scales["y"]), strict=True):
        axis.scale, axis.units = scale, scales.get("units", "nm")
    return signal


@pytest.mark.parametrize("dtype", ["float64", "uint8", "uint16", "int32", "int64", ">f4", "float16"])
def test_the_type_of_the_counts_does_not_matter(crystal, dtype):
    image, start = crystal
    assert image.max() < 255
    assert_frame_equal(
        fs.atoms.refine(image.astype(dtype), start), fs.atoms.refine(image, start), check_exact=True
    )


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed", "read-only", "list-chunks"])
def test_the_layout_of_the_array_does_not_matter(crystal, layout):
    image, start = crystal
    big = np.zeros((256, 256), image.dtype)
    big[::2, ::2] = image
    frozen = image.copy()
    frozen.setflags(write=False)
    given = {
        "fortran": np.asfortranarray(image),
        "strided": big[::2, ::2],
        "reversed": image[::-1].copy()[::-1],
        "read-only": frozen,
        "list-chunks": da.from_array(image, chunks=(50, 31)),
    }[layout]
    assert_frame_equal(fs.atoms.refine(given, start), fs.atoms.refine(image, start), check_exact=True)


@pytest.mark.parametrize("function", ["find", "refine"])
def test_dask_gives_exactly_what_numpy_gives(crystal, function):
    image, start = crystal
    arguments = (start,) if function == "refine" else ()
    verb = getattr(fs.atoms, function)
    lazy = verb(da.from_array(image, chunks=48), *arguments, pixel_size_nm=0.012)
    assert_frame_equal(lazy, verb(image, *arguments, pixel_size_nm=0.012), check_exact=True)
    assert lazy.attrs["noise"] == verb(image, *arguments).attrs["noise"]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_hyperspy_signal_of_counts_gives_the_same_and_brings_its_pixel_size(crystal, lazy):
    image, start = crystal
    signal = hyperspy_signal(image, y=0.012, x=0.012)
    signal = signal.as_lazy() if lazy else signal
    table = fs.atoms.refine(signal, start)
    assert table.attrs["pixel_size_nm"] == pytest.approx((0.012, 0.012))
    assert table.attrs["noise"]["source"] == "counts"
    assert_frame_equal(table, fs.atoms.refine(image, start, pixel_size_nm=0.012))


def test_the_noise_in_a_signals_metadata_is_used(crystal):
    image, start = crystal
    signal = hyperspy_signal(image.astype(float) * 5 + 30, y=0.012, x=0.012)
    noise = {"gain_factor": 5.0, "gain_offset": -150.0, "correlation_factor": 1.0}
    signal.metadata.set_item("Signal.Noise_properties.Variance_linear_model", noise)
    table = fs.atoms.refine(signal, start)
    assert table.attrs["noise"]["source"] == "given"
    expected = fs.atoms.refine(image.astype(float), start, pixel_size_nm=0.012)
    for name in MEASURED:
        assert table[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-6, abs=1e-7), name


def test_units_are_converted_and_pixels_need_not_be_square(crystal):
    image, start = crystal
    table = fs.atoms.refine(hyperspy_signal(image, y=0.1, x=0.25, units="Å"), start)
    assert table.attrs["pixel_size_nm"] == pytest.approx((0.01, 0.025))
    given = fs.atoms.refine(image, start, pixel_size_nm=(0.01, 0.025))
    for calibrated in (table, given):
        for axis, size in (("y", 0.01), ("x", 0.025)):
            assert calibrated[f"{axis}_nm"].to_numpy() == pytest.approx(size * calibrated[axis].to_numpy())
            picometres = 1e3 * size * calibrated[f"sd_{axis}"].to_numpy()
            assert calibrated[f"sd_{axis}_pm"].to_numpy() == pytest.approx(picometres)
        middle = 1e3 * np.sqrt(0.01 * 0.025) * calibrated["width"].to_numpy()
        assert calibrated["width_pm"].to_numpy() == pytest.approx(middle)


def test_without_calibration_everything_is_in_pixels(crystal):
    table = fs.atoms.refine(*crystal)
    assert table.attrs["pixel_size_nm"] is None
    assert not set(CALIBRATED) & set(table.columns)


# ---- the table ----


def test_index_and_further_names_are_kept(crystal):
    image, start = crystal
    labelled = start.assign(species="Sr", weight=np.arange(len(start)), y_nm=-1.0)
    labelled.index = [f"column {i}" for i in range(len(start))][::-1]
    table = fs.atoms.refine(image, labelled)
    assert list(table.index) == list(labelled.index)
    assert table["species"].eq("Sr").all()
    assert table["weight"].tolist() == list(range(len(start)))
    # calibrated lengths of another image would be wrong here
    assert "y_nm" not in table
    assert_frame_equal(table.reset_index(drop=True)[MEASURED], fs.atoms.refine(image, start)[MEASURED])


def test_neither_image_nor_table_is_changed(crystal):
    image, start = crystal
    data = image.astype(float)
    data[3, 4] = np.nan
    kept, rows = data.copy(), start.copy()
    with pytest.warns(fs.errors.DataWarning, match="NaN"):
        fs.atoms.refine(data, start, shape="elliptic", background="plane")
    assert np.array_equal(data, kept, equal_nan=True)
    assert_frame_equal(start, rows)


def test_the_same_call_gives_the_same_table(crystal):
    assert_frame_equal(fs.atoms.refine(*crystal), fs.atoms.refine(*crystal), check_exact=True)


def test_no_start_positions_give_an_empty_table_with_all_names(crystal):
    image, start = crystal
    full = fs.atoms.refine(image, start, pixel_size_nm=0.012)
    empty = fs.atoms.refine(image, start.iloc[:0], pixel_size_nm=0.012)
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert empty.attrs.keys() == full.attrs.keys()


def test_attributes_are_json_and_name_the_checks(crystal):
    attrs = fs.atoms.refine(*crystal, pixel_size_nm=0.012).attrs
    json.dumps(attrs, allow_nan=False)
    assert {"noise", "pixel_size_nm", "shape", "priors", "findings", "height_unit"} <= attrs.keys()
    assert {"gaussian-columns", "noise-level", "white-noise"} <= {p["name"] for p in attrs["priors"]}


@settings(max_examples=25, deadline=None)
@given(
    positions=st.lists(st.tuples(st.floats(-0.49, 63.49), st.floats(-0.49, 63.49)), min_size=1, max_size=25),
    seed=st.integers(0, 3),
    shape=st.sampled_from(["round", "elliptic"]),
)
def test_any_start_positions_give_finite_numbers_and_one_row_each(positions, seed, shape):
    image = fs.simulate.phantom("srtio3", seed=seed, peak=15, shape=(64, 64)).data
    start = pd.DataFrame(positions, columns=["y", "x"])
    table = fs.atoms.refine(image, start, shape=shape, pixel_size_nm=0.018)
    assert list(table.index) == list(start.index)
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert (table[["sd_y", "sd_x", "width"]] > 0).all(axis=None)
    lost = ~table["converged"]
    assert_frame_equal(table.loc[lost, ["y", "x"]], start.loc[lost], check_dtype=False)
    assert (table.loc[lost, ["sd_y", "sd_x"]].to_numpy() >= 0.3).all()
