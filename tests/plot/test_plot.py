import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import fairstem.plot as fp
from fairstem.errors import CalibrationError, DataError, DataTypeError
from fairstem.plot import numbers

RNG = np.random.default_rng(3)


@pytest.fixture
def picture():
    return RNG.poisson(5, (40, 60))


@pytest.fixture
def table():
    y, x = (g.ravel() for g in np.mgrid[5:35:10, 5:55:10].astype(float))
    n = len(y)
    return pd.DataFrame(
        {"y": y, "x": x, "site": ["A", "B", "A"] * (n // 3), "height": RNG.normal(50, 5, n), "edge": x < 6}
    ).assign(sd_y_pm=2.0, sd_x_pm=RNG.gamma(20, 0.1, n))


def drawn(artists):
    """Every figure must be drawable: layout, fonts, colours."""
    first = artists[0] if isinstance(artists, list | tuple) else artists
    png = fp.to_png(first.get_figure(root=True))
    assert png.startswith(b"\x89PNG")
    return png


@pytest.mark.parametrize(
    ("width", "pixel", "text"),
    [
        (1024, 0.01, "2 nm"),
        (1024, (0.02, 0.01), "2 nm"),
        (100, 0.001, "20 pm"),
        (512, None, "100 px"),
        (2, None, "1 px"),
        (2000, 10, "5 µm"),
    ],
)
def test_scale_bars_have_round_lengths_and_fit(width, pixel, text):
    ax = fp.figure().subplots()
    bar = fp.scale_bar(ax, width, pixel)
    assert bar.txt_label.get_text() == text


def test_the_scale_bar_is_as_long_as_it_says(picture):
    artists = fp.image(picture, pixel_size_nm=0.03)
    fig = artists.image.get_figure()
    fig.draw_without_rendering()
    bar = artists.scale_bar.size_bar.get_children()[0]
    # 60 px of 0.03 nm: a quarter is 0.45 nm
    assert artists.scale_bar.txt_label.get_text() == "0.2 nm"
    assert bar.get_width() == pytest.approx(0.2 / 0.03)


def test_contrast_ignores_outliers_and_nan(picture):
    image = picture.astype(float)
    image[0, 0], image[1, 1] = 1e6, np.nan
    artists = fp.image(image, label="counts")
    assert artists.image.get_clim()[1] < 100
    assert artists.colour_bar.ax.get_ylabel() == "counts"
    drawn(artists)


def test_pixels_that_are_not_square_are_drawn_so(picture):
    assert fp.image(picture, pixel_size_nm=(0.02, 0.01)).image.axes.get_aspect() == 2


def test_constant_and_boolean_images_are_drawn():
    drawn(fp.image(np.zeros((4, 4))))
    drawn(fp.image(np.eye(4, dtype=bool)))


@pytest.mark.parametrize(
    "bad",
    [np.zeros(3), np.zeros((2, 2, 3)), np.full((3, 3), np.nan), np.zeros((0, 3)), np.zeros((2, 2), complex)],
)
def test_what_is_no_image_is_refused(bad):
    with pytest.raises(DataError):
        fp.image(bad)


@pytest.mark.parametrize("size", [0, -1, np.nan, (1, 2, 3)])
def test_absurd_pixel_sizes_are_refused(picture, size):
    with pytest.raises(CalibrationError):
        fp.image(picture, pixel_size_nm=size)


def test_several_axes_at_once_are_refused(picture):
    with pytest.raises(DataTypeError, match="index"):
        fp.image(picture, ax=fp.figure().subplots(2))


def test_columns_lie_where_the_table_says(table):
    points = fp.columns(table.drop(columns="edge"))[0]
    assert np.allclose(points.get_offsets(), table[["x", "y"]])
    drawn(points)


def test_columns_by_site_by_number_and_at_the_edge(table, picture):
    ax = fp.image(picture).image.axes
    groups = fp.columns(table, ax=ax, color_by="site")
    assert sum(len(g.get_offsets()) for g in groups) == len(table)
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts == ["A", "B"]
    drawn(groups)
    (points,) = fp.columns(table, color_by="height", label="height (e)")
    assert np.allclose(points.get_array(), table["height"])
    drawn(points)


def test_categories_keep_their_order_and_their_colours(table):
    from matplotlib.colors import to_hex

    def colours(values, order):
        shown = table.assign(site=pd.Categorical(values, categories=order))
        filled = [g for g in fp.columns(shown, color_by="site") if len(g.get_facecolor())]
        return {g.get_label(): to_hex(g.get_facecolor()[0]) for g in filled}

    n = len(table) // 3
    both = colours(["none", "A", "B"] * n, ["B", "A", "none"])
    assert list(both)[-1] == "none"
    # a category that this table lacks still takes its colour
    assert colours(["none", "A", "A"] * n, ["B", "A", "none"])["A"] == both["A"]


def test_significant_digits_keep_the_zeros_they_were_rounded_to():
    assert [numbers.significant(v, 2) for v in (1.03, 0.1004, 9.97, -0.0, 1.0, 0.5, 12.3)] == [
        *("1.0", "0.10", "10", "0", "1", "0.5", "12")
    ]


def test_an_empty_table_draws_nothing(table):
    assert fp.columns(table.iloc[:0], color_by="site") == []
    assert fp.error_bars(table.iloc[:0]) == []
    assert len(fp.bonds(np.empty((0, 2)), np.empty((0, 2)), []).get_segments()) == 0
    assert fp.displacement(np.empty((0, 2)), np.empty((0, 2))) is None


def test_one_column_is_drawn(table):
    drawn(fp.columns(table.iloc[[0]], color_by="height"))


def test_tables_without_positions_are_refused(table):
    with pytest.raises(DataError, match="y and x"):
        fp.columns(table[["height"]])
    with pytest.raises(DataError, match="one of"):
        fp.columns(table, color_by="nothing")
    with pytest.raises(DataError, match="error bars"):
        fp.error_bars(table[["y", "x"]])
    with pytest.raises(DataError, match="kind"):
        fp.error_bars(table, kind="pie")


def test_lattice_draws_vectors_cell_and_wrong_sites(picture):
    ax = fp.image(picture).image.axes
    artists = fp.lattice([[10, 1], [0, 12]], (20, 30), ax=ax, missing=[[5, 5]], duplicates=[[8, 8], [9, 9]])
    assert np.allclose(artists["cell"].get_xy()[:4], [[30, 20], [31, 30], [43, 30], [42, 20]])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["missing (1)", "duplicates (2)"]
    drawn(artists["cell"])


@pytest.mark.parametrize("vectors", [[[1, 0], [2, 0]], [[0, 0], [0, 0]], [1, 2], [[np.nan, 0], [0, 1]]])
def test_impossible_lattices_are_refused(vectors):
    with pytest.raises(DataError):
        fp.lattice(vectors, (0, 0))


def test_bonds_join_their_ends_and_diverge_about_the_centre():
    lines = fp.bonds([[0, 0], [1, 1], [2, 2]], [[0, 4], [5, 1], [3, 3]], [390.0, 400.0, np.nan], centre=390.0)
    assert np.allclose(lines.get_segments()[0], [[0, 0], [4, 0]])
    assert len(lines.get_segments()) == 2
    assert np.mean(lines.get_clim()) == pytest.approx(390)
    drawn(lines)
    with pytest.raises(DataError, match="as many"):
        fp.bonds([[0, 0]], [[1, 1], [2, 2]], [1.0])


def test_displacements_are_in_pm_with_calibration_and_point_right(picture):
    ax = fp.image(picture).image.axes
    arrows = fp.displacement([[5, 5], [5, 15]], [[1, 0], [0, 2]], ax=ax, pixel_size_nm=(0.01, 0.02))
    assert np.allclose(arrows.get_array(), [10, 40])
    assert np.allclose(arrows.U[0], 0)
    assert arrows.V[0] > 0
    drawn(arrows)
    with pytest.raises(DataError):
        fp.displacement([[0, 0]], [[0, 0, 0]])
    with pytest.raises(DataError, match="magnify"):
        fp.displacement([[0, 0]], [[0, 0]], magnify=0)


def test_histogram_numbers_have_the_right_errors():
    means, spreads = [], []
    ax = fp.figure().subplots()
    for seed in range(60):
        values = np.random.default_rng(seed).normal(390, 5, 100)
        ax.clear()
        h = fp.histogram(values, ax=ax, reference=390.5, expected_spread=4)
        means.append((h.mean - 390) / h.mean_error)
        spreads.append((h.spread - 5) / h.spread_error)
    assert 0.7 < np.std(means) < 1.3
    assert 0.7 < np.std(spreads) < 1.3
    drawn([h.bars[2][0]])


def test_histogram_edge_cases():
    assert np.isnan(fp.histogram([3.0]).spread)
    drawn([fp.histogram([2.0, 2.0, 2.0]).bars[2][0]])
    outlier = fp.histogram([*RNG.normal(0, 1, 2000), 1e6])
    assert "1 outside" in outlier.bars[2][0].axes.get_title(loc="left")
    with pytest.raises(DataError):
        fp.histogram([np.nan])


def test_error_bars(table, picture):
    assert len(fp.error_bars(table)) == 2
    (points,) = fp.error_bars(table, ax=fp.image(picture).image.axes, kind="map")
    drawn(points)


def test_the_residual_of_the_truth_is_white():
    model = np.full((50, 50), 16.0)
    data = np.random.default_rng(0).poisson(model)
    assert fp.residual(data, model).image.get_array().std() == pytest.approx(1, abs=0.05)
    drawn(fp.residual(data, model, 16.0))
    with pytest.raises(DataError, match="equal"):
        fp.residual(data, model[:3])
    with pytest.raises(DataError, match="variance"):
        fp.residual(data, model, -1.0)


def test_the_same_figure_gives_the_same_bytes(picture):
    assert drawn(fp.image(picture)) == drawn(fp.image(picture))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (390.3871, 0.4123, ("390.39", "0.41")),
        (1234.5, 20.4, ("1234", "20")),
        (12345, 230, ("12340", "230")),
        (0.39051, 0.00996, ("0.391", "0.010")),
        (5.0, 0.0, ("5", "")),
        (float("nan"), 1, ("–", "")),
    ],
)
def test_values_carry_no_more_digits_than_their_error(value, error, text):
    assert numbers.with_error(value, error) == text


def test_importing_plot_does_not_import_matplotlib():
    code = "import sys, fairstem.plot as p; p.image; p.Report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
