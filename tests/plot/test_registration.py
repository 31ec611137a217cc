import numpy as np
import pytest

import fairstem.plot as fp
from fairstem.errors import DataError, DataTypeError


def rng():
    return np.random.default_rng(5)


def drawn(artist):
    """Every figure must be drawable: layout, fonts, colours."""
    png = fp.to_png(artist.get_figure(root=True))
    assert png.startswith(b"\x89PNG")


@pytest.fixture
def rows():
    return rng().normal(0, 0.2, (5, 2, 64)).cumsum(-1) + np.arange(5)[:, None, None] * 30


def test_traces_show_every_frame_about_its_own_mean(rows):
    made = fp.traces(rows, np.full_like(rows, 0.1), pixel_size_nm=(0.02, 0.01))
    assert made.frames == (0, 1, 2, 3, 4)
    slow = np.array([line.get_ydata() for line in made.lines[0]])
    fast = np.array([line.get_ydata() for line in made.lines[1]])
    # differences within a trace are in pm, each axis with its own pixel size, on one scale
    assert np.allclose(np.diff(slow, axis=1), 20 * np.diff(rows[:, 0], axis=1))
    assert np.allclose(np.diff(fast, axis=1), 10 * np.diff(rows[:, 1], axis=1))
    # the shift of whole frames is left out: traces stand at equal distances, the first on top
    assert np.ptp(np.diff(slow.mean(axis=1))) < 1e-9
    assert slow[0].mean() > slow[-1].mean()
    assert len(made.bands[0]) == 5
    drawn(made.lines[0][0])


def test_the_scale_beside_the_traces_is_as_long_as_it_says(rows):
    ax = fp.traces(rows, pixel_size_nm=0.02).lines[1][0].axes
    (text,) = (t.get_text() for t in ax.texts)
    number, unit = text.split()
    assert unit == "pm"
    assert np.diff(ax.lines[-1].get_ydata())[0] == pytest.approx(float(number))
    assert fp.traces(rows).lines[1][0].axes.texts[0].get_text().endswith(" px")


def test_many_frames_are_thinned_and_named(rows):
    many = np.tile(rows, (8, 1, 1))
    assert fp.traces(many, most=4).frames == (0, 13, 26, 39)
    assert fp.traces(rows[:2], frames=[3, 7]).frames == (3, 7)


def test_constant_traces_and_unmeasured_rows_are_drawn():
    sd = np.full((3, 2, 20), np.nan)
    drawn(fp.traces(np.zeros((3, 2, 20)), sd).lines[0][0])


def test_a_spectrum_shows_the_amplitude_of_a_sine():
    power = np.full((2, 65), 1e-6)
    power[1, 8] = 0.3**2 / 2  # mean square of a sine wave of amplitude 0.3 px
    made = fp.spectrum(np.arange(65.0), power, pixel_size_nm=0.01, noise=[1e-6, 2e-6], lines=[8.0])
    assert made.curves[1].get_ydata().max() == pytest.approx(3.0)
    assert made.curves[1].get_xdata()[made.curves[1].get_ydata().argmax()] == 8
    assert len(made.noise) == 2
    assert [t.get_text() for t in made.curves[0].axes.texts] == ["8"]
    drawn(made.curves[0])


def test_before_and_after_share_part_and_grey_scale():
    after = rng().poisson(20, (80, 100)).astype(float)
    after[30:60, 40:80] += 80 * rng().random((30, 40))
    made = fp.before_after(after - 5, after, frame=after * 2, pixel_size_nm=0.02, size=32)
    assert len(made.panels) == 3
    limits = {p.image.get_clim() for p in made.panels}
    assert len(limits) == 1
    y, x, side = made.crop
    assert side == 32
    assert np.array_equal(made.panels[2].image.get_array(), after[y : y + side, x : x + side])
    # it shows where something is to be seen
    assert y < 60 and y + side > 30 and x < 80 and x + side > 40  # noqa: PT018
    assert made.panels[0].scale_bar.txt_label.get_text() == "0.1 nm"
    drawn(made.panels[0].image)


@pytest.mark.parametrize("shape", [(20, 20), (33, 200), (97, 96)])
def test_the_part_lies_inside_images_of_any_size(shape):
    y, x, side = fp.before_after(np.ones(shape), rng().random(shape)).crop
    assert y >= 0
    assert x >= 0
    assert y + side <= shape[0]
    assert x + side <= shape[1]


def test_atoms_are_shown_rather_than_the_edge_of_the_support():
    y, x = np.mgrid[:200, :200]
    image = rng().normal(100, 2, (200, 200)) + np.where(y > 120, 60.0, 0.0) + 0.5 * x
    atoms = [(40, 50), (48, 66), (60, 44), (66, 72)]
    for row, column in atoms:
        image += 40 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
    top, left, side = fp.contrast_part(image, 48)
    seen = sum(top <= row < top + side and left <= column < left + side for row, column in atoms)
    assert seen >= 2


def test_the_chi2_map_outlines_what_changed_and_nothing_else():
    chi2 = rng().chisquare(9, (128, 128)) / 9
    quiet = fp.chi2_map(chi2, pixel_size_nm=0.02)
    assert quiet.changed == []
    assert quiet.outlines is None
    chi2[40:50, 70:84] += 4
    made = fp.chi2_map(chi2)
    ((y0, x0, y1, x1),) = made.changed
    assert max(abs(y0 - 40), abs(y1 - 50), abs(x0 - 70), abs(x1 - 84)) <= 5
    mask = np.zeros(chi2.shape, bool)
    mask[5:9, 5:9] = True
    assert fp.chi2_map(chi2, changed=mask).changed == [(5, 5, 9, 9)]
    low, high = made.image.norm.vmin, made.image.norm.vmax
    assert low * high == pytest.approx(1)  # white is 1
    drawn(made.image)


def test_the_chi2_map_takes_gaps():
    chi2 = rng().chisquare(9, (40, 40)) / 9
    chi2[:5] = np.nan
    made = fp.chi2_map(chi2)
    assert np.ma.getmaskarray(made.image.get_array())[:5].all()
    assert made.changed == []
    drawn(made.image)


def test_samples_begin_at_zero():
    count = np.full((16, 16), 8.0)
    count[0] = 0
    assert fp.samples(count).image.get_clim() == (0, 8)


def test_the_budget_falls_as_the_root_of_the_number_of_frames():
    made = fp.floor({"common-mode floor": 3.0, "counting noise": 0.5, "none": 0.0}, frames=10)
    assert list(made.curves) == ["common-mode floor", "counting noise"]
    for name, size in (("common-mode floor", 3.0), ("counting noise", 0.5)):
        count, error = made.curves[name].get_data()
        assert np.allclose(error * np.sqrt(count), size * np.sqrt(10))
        assert made.points[name].get_xdata()[0] == 10
    drawn(made.curves["counting noise"])


ZEROS = np.zeros((3, 2, 16))
IMAGE = np.ones((32, 32))
BAD = {
    "rows": lambda: fp.traces(np.zeros((3, 16))),
    "nan": lambda: fp.traces(np.full((3, 2, 16), np.nan)),
    "sd": lambda: fp.traces(ZEROS, ZEROS[:2]),
    "frames": lambda: fp.traces(ZEROS, frames=[0, 1]),
    "axes": lambda: fp.traces(ZEROS, ax=[fp.figure().subplots()]),
    "spectrum": lambda: fp.spectrum(np.arange(4), np.ones((2, 5))),
    "no power": lambda: fp.spectrum(np.arange(4), np.zeros((2, 4))),
    "shapes": lambda: fp.before_after(IMAGE, IMAGE[:20]),
    "crop": lambda: fp.before_after(IMAGE, IMAGE, crop=(20, 0, 20)),
    "empty part": lambda: fp.before_after(IMAGE, np.full((32, 32), np.nan)),
    "chi2": lambda: fp.chi2_map(np.zeros(5)),
    "negative": lambda: fp.chi2_map(-IMAGE),
    "mask": lambda: fp.chi2_map(IMAGE, changed=IMAGE[:5]),
    "samples": lambda: fp.samples(np.full((4, 4), np.nan)),
    "no frames": lambda: fp.floor({"noise": 1.0}, frames=0),
    "no size": lambda: fp.floor({"noise": float("nan")}, frames=5),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_drawn_is_refused(name):
    with pytest.raises(DataError):
        BAD[name]()


def test_what_is_no_axes_is_refused():
    with pytest.raises(DataTypeError):
        fp.traces(ZEROS, ax=[1, 2])
