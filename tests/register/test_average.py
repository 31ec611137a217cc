"""Averages of a series whose distortion is known: width, positions, noise, masks, lazy, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem import atoms, metrics, simulate
from fairstem.errors import DataError
from fairstem.register._series.average import average, variance_law
from fairstem.register._series.frames import open_series
from fairstem.register._series.motion import DenseMotion, RowMotion

HOWS = ["mean", "median", "likelihood"]


def still(n, shape):
    return RowMotion(np.zeros((n, 2, shape[0])), shape, np.zeros(n))


@pytest.fixture(scope="module")
def series():
    p = simulate.phantom("p1", seed=3, shape=(128, 136))
    motion = RowMotion(p.displacement[..., 0].copy(), (128, 136), np.zeros(len(p.data)))
    clean = simulate.render_columns(p.truth, (128, 136), background=30 * 0.06)
    return p, motion, clean


def measured(image, p, frames):
    """Mean width of the bright columns and column rms in pm after an affine fit."""
    t = p.truth
    t = t[t.y.between(14, 114) & t.x.between(14, 122)].reset_index(drop=True)
    table = atoms.refine(image * frames, t[["y", "x", "width"]])
    rest = metrics.affine_rms(table[["y", "x"]], t[["y", "x"]], pixel_size_nm=p.pixel_size_nm)
    return table.width[t.height > 0.9 * t.height.max()].mean(), rest.rms_pm


@pytest.mark.parametrize("how", HOWS)
def test_columns_keep_width_and_place(series, how):
    p, motion, clean = series
    n = len(p.data)
    width, rms = measured(average(open_series(p.data), motion, range(n), how=how).image, p, n)
    true_width, _ = measured(clean, p, n)
    assert abs(width / true_width - 1) < 0.005
    # counting noise alone gives 0.72 pm, with a spread of 0.09 pm over seeds for so few columns; the median
    # may lose up to sqrt(pi / 2)
    assert rms < (0.72 + 2 * 0.09) * (1.25 if how == "median" else 1.0)


@pytest.mark.parametrize("how", HOWS)
def test_variance_is_that_of_the_average(series, how):
    p, motion, clean = series
    a = average(open_series(p.data), motion, range(len(p.data)), how=how)
    inner = (slice(20, -20), slice(20, -20))
    error = (a.image - clean)[inner]
    ratio = (error**2).mean() / a.variance[inner].mean()
    assert (0.9 if how != "median" else 0.75) < ratio < 1.1
    if how != "median":  # the median of skewed counts lies below their mean
        assert abs(error.mean()) < 4 * np.sqrt(a.variance[inner].mean() / error.size)
    assert (a.variance > 0).all()
    assert a.samples[inner].min() == len(p.data)


@pytest.mark.parametrize("how", HOWS)
def test_still_frames_average_as_they_are(how):
    data = np.random.default_rng(0).poisson(50, (5, 32, 36)).astype(float)
    a = average(open_series(data), still(5, (32, 36)), (0, 1, 2, 4), how=how)
    plain = {"mean": np.mean, "median": np.median}.get(how, np.mean)(data[[0, 1, 2, 4]], axis=0)
    if how == "likelihood":
        # still frames say nothing of what lies between the pixels: there the prior smooths some noise away
        assert np.sqrt(((a.image - plain) ** 2).mean()) < 0.4 * np.sqrt(50 / 4)
        assert abs((a.image - plain).mean()) < 0.05
    else:
        np.testing.assert_allclose(a.image, plain, rtol=1e-9)
    np.testing.assert_array_equal(a.samples, 4.0)
    if how == "mean":
        np.testing.assert_allclose(a.variance, data[[0, 1, 2, 4]].var(axis=0, ddof=1) / 4, rtol=1e-9)


@pytest.mark.parametrize("how", HOWS)
def test_what_no_frame_reaches_holds_the_nearest_value(how):
    data = np.random.default_rng(0).poisson(50, (3, 32, 36)).astype(float)
    data[:, 8:10] = np.nan
    data[1:, 4, 4] = np.nan
    rows = np.zeros((3, 2, 32))
    rows[:, 1] = 5.0  # all frames lie 5 px to the right: the first columns are never seen
    a = average(open_series(data), RowMotion(rows, (32, 36), np.zeros(3)), (0, 1, 2), how=how)
    assert np.isfinite(a.image).all()
    assert np.isfinite(a.variance).all()
    assert (a.variance > 0).all()
    assert not a.samples[:, :5].any()
    assert not a.samples[8:10].any()
    assert a.samples[4, 9] == 1
    np.testing.assert_array_equal(a.image[:7, 0], a.image[:7, 5])


def test_the_most_likely_image_is_sharper_where_rows_jitter():
    options = {"width_nm": 0.0216, "distortion_options": {"jitter_px": (0.3, 0.6)}, "shape": (128, 136)}
    p = simulate.phantom("p1", seed=1, **options)
    n = len(p.data)
    motion = RowMotion(p.displacement[..., 0].copy(), (128, 136), np.zeros(n))
    clean = simulate.render_columns(p.truth, (128, 136), background=30 * 0.06)
    true_width, _ = measured(clean, p, n)
    width, rms = {}, {}
    for how in ("mean", "likelihood"):
        width[how], rms[how] = measured(average(open_series(p.data), motion, range(n), how=how).image, p, n)
    assert abs(width["likelihood"] / true_width - 1) < 0.01 < width["mean"] / true_width - 1
    assert rms["likelihood"] < rms["mean"]


def test_strips_of_the_most_likely_image_fit_together(series, monkeypatch):
    p, motion, _ = series
    whole = average(open_series(p.data), motion, (0, 2, 3, 5), how="likelihood")
    monkeypatch.setattr("fairstem.register._series.likelihood._STRIP_BYTES", 4 * 28 * 140 * 64)
    parts = average(open_series(p.data), motion, (0, 2, 3, 5), how="likelihood")
    assert abs(parts.image - whole.image).max() < 1e-2 * np.sqrt(np.median(whole.variance))


def test_no_value_leaves_the_measured_range():
    data = np.random.default_rng(0).poisson(0.05, (3, 32, 32))
    rows = np.random.default_rng(1).normal(0, 0.3, (3, 2, 32))
    for how in HOWS:
        assert (
            average(open_series(data), RowMotion(rows, (32, 32), np.zeros(3)), (0, 1, 2), how=how).image.min()
            >= 0
        )


def test_blocks_of_rows_change_nothing(series, monkeypatch):
    p, motion, _ = series
    whole = average(open_series(p.data), motion, (0, 2, 3), how="median")
    monkeypatch.setattr("fairstem.register._series.average._BLOCK_BYTES", 3 * 8 * 136 * 30)
    parts = average(open_series(p.data), motion, (0, 2, 3), how="median")
    np.testing.assert_allclose(parts.image, whole.image, atol=1e-6)
    np.testing.assert_array_equal(parts.samples, whole.samples)


@pytest.mark.parametrize("how", HOWS)
def test_lazy_frames_and_dense_motion(series, how):
    da = pytest.importorskip("dask.array")
    p, motion, _ = series
    dense = DenseMotion(np.stack([motion.backward(k) for k in range(motion.n)]))
    one = average(open_series(p.data), motion, range(4), how=how)
    two = average(open_series(da.from_array(p.data, chunks=(3, 50, 136))), dense, range(4), how=how)
    inner = (slice(16, -16), slice(16, -16))
    scale = 1e-9 if how != "likelihood" else 0.3
    assert abs(one.image - two.image)[inner].max() <= scale * one.image.max()


def test_the_median_leaves_out_a_frame_of_something_else(series):
    p, motion, clean = series
    data = p.data.copy()
    data[4] = 300.0
    data[4, 0, 0] = 0.0
    a = average(open_series(data), motion, range(len(data)), how="median")
    assert abs(a.image - clean)[20:-20, 20:-20].mean() < 1.2


def test_variance_law_of_counts():
    rng = np.random.default_rng(0)
    mean = rng.uniform(1, 40, (64, 64))
    counts = rng.poisson(mean * np.ones((6, 1, 1))) * 2.5 + 10
    a, b, lowest = variance_law(counts.mean(0), counts.var(0, ddof=1), np.full((64, 64), 6.0))
    assert abs(b - 2.5) < 0.2
    assert abs(a + 25) < 10
    assert lowest > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"how": "best"}, "how='best'"),
        ({"used": ()}, "at least one frame"),
        ({"used": (0, 7)}, r"frames \[0, 7\] of 3"),
        ({"motion": still(3, (36, 32))}, "the series that was registered"),
    ],
)
def test_bad_input_is_named(change, words):
    data = np.random.default_rng(0).poisson(5, (3, 32, 36))
    given = {"motion": still(3, (32, 36)), "used": (0, 1), "how": "mean"} | change
    with pytest.raises(DataError, match=words):
        average(open_series(data), given["motion"], given["used"], how=given["how"])
