"""Every bad input by its name: what is refused says what to do, what can be used says what was noticed."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest

import fairstem as fs
from fairstem.errors import CalibrationError, DataError, DataTypeError, DataWarning, FileFormatError

SHAPE = (96, 96)


@pytest.fixture(scope="module")
def counts():
    """A crystal in electron counts, float64."""
    image = fs.simulate.phantom("p2", seed=0, peak=30, shape=SHAPE, dtype="float64").data
    image.setflags(write=False)
    return image


@pytest.fixture(scope="module")
def start(counts):
    return fs.atoms.find(counts)[["y", "x"]]


def measure(verb, image, start, **options):
    return fs.atoms.find(image, **options) if verb == "find" else fs.atoms.refine(image, start, **options)


def refused(verb, image, start, error, *words, **options):
    """The error is of its class and of the built-in one, and its three parts are there where they can be."""
    with pytest.raises(error) as caught:
        measure(verb, image, start, **options)
    assert isinstance(caught.value, TypeError if issubclass(error, DataTypeError) else ValueError)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert caught.value.needed
    return caught.value


def colours(counts):
    import hyperspy.api as hs

    signal = hs.signals.Signal1D(np.repeat(np.clip(counts, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    signal.change_dtype("rgb8")
    return signal


IMAGES = {
    "1-D data": (lambda c: c[0], DataError, ["one-dimensional", "2-D", "reshape"]),
    "a number": (lambda c: np.float64(c[0, 0]), DataError, ["0 dimensions", "2-D array"]),
    "RGB picture": (lambda c: np.stack([c] * 3, axis=-1), DataError, ["RGB", "microscope's own file"]),
    "RGBA picture": (lambda c: np.stack([c] * 4, axis=-1).astype(np.uint8), DataError, ["RGB", "one grey image"]),
    "RGB signal": (colours, DataError, ["RGB", "one grey image"]),
    "stack of frames": (lambda c: np.stack([c] * 5), DataError, ["3 dimensions", "pass one frame", "data[0]"]),
    "lazy stack": (lambda c: da.stack([da.from_array(c)] * 5), DataError, ["3 dimensions", "pass one frame"]),
    "4-D scan": (lambda c: np.zeros((4, 4, 8, 8)), DataError, ["4 dimensions", "pass one frame"]),
    "all NaN": (lambda c: np.full(SHAPE, np.nan), DataError, ["NaN", "measured pixels"]),
    "all masked": (lambda c: np.ma.masked_all(SHAPE), DataError, ["masked", "measured pixels"]),
    "infinite": (lambda c: np.where(c == c.max(), np.inf, c), DataError, ["infinite", "set them to NaN"]),
    "minus infinite": (lambda c: np.where(c == c.max(), -np.inf, c), DataError, ["infinite", "set them to NaN"]),
    "constant": (lambda c: np.full(SHAPE, 7.0), DataError, ["constant", "detector or frame"]),
    "constant but for NaN": (
        lambda c: np.where(np.eye(SHAPE[0]) > 0, np.nan, 7.0), DataError, ["constant", "contrast"],
    ),
    "negative counts": (lambda c: c - 10, DataError, ["below zero", "gain='estimate'"]),
    "complex": (lambda c: c + 0j, DataTypeError, ["complex", "numpy.abs"]),
    "boolean": (lambda c: c > 10, DataTypeError, ["boolean", "mask"]),
    "objects": (lambda c: c.astype(object), DataTypeError, ["Python objects", "astype(float)"]),
    "text": (lambda c: c.astype(str), DataTypeError, ["astype(float)"]),
    "dates": (lambda c: c.astype("datetime64[s]"), DataTypeError, ["integer or float"]),
    "no array": (lambda c: "image.tif", DataTypeError, ["numpy"]),
    "nothing": (lambda c: None, DataTypeError, ["numpy"]),
    "empty": (lambda c: np.empty((0, 0)), DataError, []),
    "no rows": (lambda c: np.empty((0, 96)), DataError, []),
    "too small": (lambda c: c[:6, :6], DataError, ["6 x 6", "at least 8"]),
    "one row": (lambda c: c[:1], DataError, ["1 x 96", "at least 8"]),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("verb", ["find", "refine"])
@pytest.mark.filterwarnings("ignore:.*are negative:fairstem.errors.DataWarning")
def test_images_that_cannot_be_measured_are_refused(verb, name, counts, start):
    make, error, words = IMAGES[name]
    refused(verb, make(counts), start, error, *words)


@pytest.mark.parametrize("verb", ["find", "refine"])
@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.filterwarnings("ignore:.*are negative:fairstem.errors.DataWarning")
def test_values_below_the_given_offset_without_readout_noise_are_refused(verb, offset, counts, start):
    raised = refused(verb, counts - 10, start, DataError, "below zero electrons", gain=2.0, offset=offset)
    assert "readout=" in raised.todo


@pytest.mark.parametrize("verb", ["find", "refine"])
@pytest.mark.filterwarnings("ignore:.*are negative:fairstem.errors.DataWarning")
def test_negative_values_of_a_detector_with_readout_noise_are_measured(verb, start):
    p = fs.simulate.phantom("p2", seed=0, peak=30, shape=SHAPE, dtype="float64", gain=5.0, readout=5.0)
    assert p.data.min() < 0
    table = measure(verb, p.data, start, gain=5.0, readout=5.0)
    assert len(table) == len(start)


# ---- images that can be used, with a warning or a remark ----


@pytest.mark.parametrize("verb", ["find", "refine"])
def test_some_nan_are_left_out_with_a_warning(verb, counts, start):
    data = counts.copy()
    data[20:23, 40:44] = np.nan
    with pytest.warns(DataWarning, match="12 of 9216 pixels of image"):
        table = measure(verb, data, start)
    finding = next(f for f in table.attrs["findings"] if f["code"] == "nan")
    assert "left out" in finding["assumed"]
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()


@pytest.mark.parametrize("verb", ["find", "refine"])
def test_saturated_pixels_are_left_out_with_a_warning(verb, counts, start):
    with pytest.warns(DataWarning, match="saturated"):
        table = measure(verb, np.minimum(counts, 22), start)
    assert "saturated" in [f["code"] for f in table.attrs["findings"]]
    assert len(table) == len(start)
    away = table[["y", "x"]].to_numpy()[:, None] - start[["y", "x"]].to_numpy()
    assert np.hypot(*away.T).min(axis=0).max() < 1.5


def test_a_masked_array_keeps_its_mask(counts, start):
    hidden = np.zeros(SHAPE, bool)
    hidden[20:23, 40:44] = True
    with pytest.warns(DataWarning, match="NaN or masked"):
        masked = fs.atoms.refine(np.ma.array(counts, mask=hidden), start)
    with pytest.warns(DataWarning, match="NaN or masked"):
        nan = fs.atoms.refine(np.where(hidden, np.nan, counts), start)
    pd.testing.assert_frame_equal(masked, nan)


@pytest.mark.parametrize("verb", ["find", "refine"])
def test_an_eight_bit_jpeg_is_measured_and_says_so(verb, counts, start, tmp_path):
    import imageio.v3 as iio

    picture = np.clip(counts / counts.max() * 250, 0, 255).astype(np.uint8)
    iio.imwrite(tmp_path / "screen.jpg", picture, quality=95)
    with pytest.warns(fs.errors.FairstemWarning) as given:
        signal = fs.load(tmp_path / "screen.jpg")
    assert any("8-bit" in str(w.message) for w in given)
    table = measure(verb, signal, start)
    assert "eight-bit" in [f["code"] for f in table.attrs["findings"]]
    assert table.attrs["noise"]["source"] == "estimated"
    assert fs.metrics.match_positions(table, start, 1.5).recall > 0.95


@pytest.mark.parametrize("verb", ["find", "refine"])
def test_an_image_without_calibration_is_measured_in_pixels(verb, counts, start):
    import hyperspy.api as hs

    for image in (counts, hs.signals.Signal2D(counts)):
        table = measure(verb, image, start)
        assert table.attrs["pixel_size_nm"] is None
        assert not [name for name in table.columns if name.endswith(("_nm", "_pm"))]
    assert len(table) == len(start)


# ---- files ----


def test_a_truncated_file_is_refused(counts, tmp_path):
    import hyperspy.api as hs

    path = tmp_path / "image.hspy"
    hs.signals.Signal2D(counts.copy()).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(FileFormatError) as caught:
        fs.load(path)
    assert caught.value.todo


@pytest.mark.parametrize("name", ["notes.xyz", "noextension", "image.docx"])
def test_a_file_of_unknown_format_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"this is no image" * 20)
    with pytest.raises(FileFormatError) as caught:
        fs.load(tmp_path / name)
    assert caught.value.needed or caught.value.todo


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="does not exist") as caught:
        fs.load(tmp_path / "image.hspy")
    assert caught.value.todo


# ---- tables ----


TABLES = {
    "outside below": (lambda s: s.assign(y=-3.0), DataError, ["outside the image", "drop them"]),
    "outside above": (lambda s: s.assign(x=96.0), DataError, ["outside the image", "drop them"]),
    "one of many outside": (
        lambda s: pd.concat([s, pd.DataFrame({"y": [500.0], "x": [5.0]})], ignore_index=True),
        DataError, ["1 of", "y=500.0", "drop them"],
    ),
    "without y": (lambda s: s[["x"]], DataError, ["lacks y", "y and x"]),
    "without y and x": (lambda s: s.rename(columns={"y": "row", "x": "col"}), DataError, ["lacks y, x", "row, col"]),
    "NaN": (lambda s: s.assign(y=np.nan), DataError, ["not finite", "dropna"]),
    "one NaN": (lambda s: s.mask(s.index.to_series() == s.index[2]), DataError, ["1 of", "not finite", "dropna"]),
    "infinite": (lambda s: s.assign(x=np.inf), DataError, ["not finite"]),
    "text": (lambda s: s.assign(y="top"), DataTypeError, ["not numeric"]),
    "array": (lambda s: s.to_numpy(), DataTypeError, ["pandas.DataFrame", "atoms.find"]),
    "list": (lambda s: s.to_numpy().tolist(), DataTypeError, ["pandas.DataFrame"]),
    "nothing": (lambda s: None, DataTypeError, ["pandas.DataFrame"]),
    "labels twice": (lambda s: s.set_axis([0] * len(s)), DataError, ["labels repeat", "reset_index"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_cannot_be_start_positions_are_refused(name, counts, start):
    make, error, words = TABLES[name]
    refused("refine", counts, make(start), error, *words)


def test_an_unknown_start_width_is_taken_from_the_others(counts, start):
    table = fs.atoms.refine(counts, start.assign(width=[np.nan, *[3.5] * (len(start) - 1)]))
    assert table["converged"].all()
    assert np.isfinite(table["width"]).all()


@pytest.mark.parametrize("width", [0.0, -3.0])
def test_start_widths_that_cannot_be_are_refused(width, counts, start):
    refused("refine", counts, start.assign(width=width), DataError, "width")


def test_absurdly_wide_start_widths_end_in_finite_numbers(counts, start):
    table = fs.atoms.refine(counts, start.assign(width=1e6))
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()


# ---- options ----


OPTIONS = {
    "unknown model": ("find", {"model": "unet9000"}, ["model", "'classical'"]),
    "threshold zero": ("find", {"threshold": 0.0}, ["threshold", "positive"]),
    "threshold negative": ("find", {"threshold": -5.0}, ["threshold", "positive"]),
    "threshold NaN": ("find", {"threshold": np.nan}, ["threshold", "positive"]),
    "width zero": ("find", {"width": 0.0}, ["width", "0.5 px"]),
    "width negative": ("find", {"width": -2.0}, ["width", "0.5 px"]),
    "width NaN": ("find", {"width": np.nan}, ["width", "0.5 px"]),
    "width of the image": ("find", {"width": 90.0}, ["width", "quarter of the image", "leave width out"]),
    "unknown shape": ("refine", {"shape": "square"}, ["shape", "'elliptic'"]),
    "unknown background": ("refine", {"background": "cubic"}, ["background", "'plane'"]),
    "held width zero": ("refine", {"width": 0.0}, ["width", "'free'"]),
    "held width negative": ("refine", {"width": -1.0}, ["width", "'free'"]),
    "held width NaN": ("refine", {"width": np.nan}, ["width", "'free'"]),
    "held width of the image": ("refine", {"width": 1e4}, ["width"]),
    "held width as text": ("refine", {"width": "narrow"}, ["width", "'free'"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_make_no_sense_are_refused(name, counts, start):
    verb, options, words = OPTIONS[name]
    refused(verb, counts, start, DataError, *words, **options)


@pytest.mark.parametrize("size", [0.0, -0.01, np.nan, (0.01, 0.0), (0.01, 0.01, 0.01), "tiny"], ids=str)
@pytest.mark.parametrize("verb", ["find", "refine"])
def test_pixel_sizes_that_cannot_be_are_refused(verb, size, counts, start):
    raised = refused(verb, counts, start, CalibrationError, "pixel_size_nm", pixel_size_nm=size)
    assert "pixels" in raised.todo


def test_noise_without_columns_asks_for_a_width(start):
    noise = np.random.default_rng(0).poisson(5.0, SHAPE).astype(float)
    raised = refused("refine", noise, start, DataError, "no column width can be chosen")
    assert "width=" in raised.todo
    # with one, every row comes back, and none pretends to be a measurement
    table = fs.atoms.refine(noise, start, width=3.5)
    assert len(table) == len(start)
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
