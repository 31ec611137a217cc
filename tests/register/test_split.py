"""Half-split test: what two halves of a series may differ by."""

import math

import numpy as np
import pytest

from fairstem import simulate
from fairstem.errors import DataError
from fairstem.register._judge.difference import Image, measure_difference
from fairstem.register._judge.floor import common_mode_floor
from fairstem.register._series.average import average
from fairstem.register._series.frames import open_series
from fairstem.register._series.motion import RowMotion
from fairstem.register._split import _floor_of_window, split_check, split_frames


def known_pair(seed=1, shift=None, shape=(128, 128), **options):
    """Two images of one object, the second one displaced by a known field."""
    views = []
    for n, field in enumerate((None, shift)):
        p = simulate.phantom("p1", seed=seed, shape=shape, frames=1, distortion="row", **options)
        zero = np.zeros((2, *shape)) if field is None else field
        columns = p.truth
        clean = simulate.render_columns(columns, shape, background=2.0, displacement=zero)
        data = np.random.default_rng([seed, n]).poisson(clean).astype(float)
        views.append(Image(data, np.ones(shape), clean))
    return views


def waves(shape, size, cycles, *, both=False):
    y, x = np.mgrid[: shape[0], : shape[1]]
    phase = 2 * np.pi * cycles * y / shape[0]
    across = 2 * np.pi * cycles * x / shape[1] if both else 0 * x
    return size * np.stack([np.sin(phase + 1 + across), np.cos(phase - across)])


@pytest.mark.parametrize("rows", [True, False])
def test_a_known_difference_is_measured(rows):
    shape, window = (128, 128), 5.0 if rows else 12.0
    u = waves(shape, 0.4, 2.0, both=not rows)
    first, second = known_pair(shift=u, peak=100.0)
    difference = measure_difference(first, second, window, rows=rows)
    # the window averages the waves; the second image shows at p - u what the first shows at p
    passes = math.exp(-((2 * np.pi * 2 * window / 128) ** 2) / 2 * (1 if rows else 2))
    inner = np.s_[:, 24:-24, 24:-24]
    slope = float((difference.shift[inner] * -u[inner]).sum() / (u[inner] ** 2).sum())
    assert slope == pytest.approx(passes, abs=0.12)


@pytest.mark.parametrize("rows", [True, False])
def test_two_views_of_one_object_differ_by_counting_noise(rows):
    ratios = []
    for seed in range(4):
        first, second = known_pair(seed)
        difference = measure_difference(first, second, 5.0 if rows else 12.0, rows=rows)
        good = difference.good
        ratios.append(np.mean(difference.shift[:, good] ** 2) / np.mean(difference.variance[:, good]))
    # the affine map takes its share of the windows
    windows = 128 / (2 * math.sqrt(math.pi) * 5) if rows else (128 / (2 * math.sqrt(math.pi) * 12)) ** 2
    left = 1 - (2 if rows else 3) / windows
    assert np.sqrt(np.mean(ratios) / left) == pytest.approx(1, abs=0.2)


def test_shift_and_strain_do_not_count():
    shape = (128, 128)
    y = np.mgrid[:128, :128][0] - 64.0
    u = np.stack([3.0 + 0.01 * y, -5.0 + 0.02 * y])
    first, second = known_pair(shift=u, shape=shape)
    difference = measure_difference(first, second, 5.0, rows=True)
    good = difference.good
    assert np.sqrt(np.mean(difference.shift[:, good] ** 2)) < 3 * np.sqrt(
        np.mean(difference.variance[:, good])
    )


def test_floor_of_a_window_is_what_is_left_of_the_mean_displacement():
    window, left, predicted = 5.0, [], []
    for seed in range(40):
        rows = simulate.scan.RowDistortion().series((128, 2), 8, seed)[..., 0]
        floor = common_mode_floor(rows, np.zeros_like(rows))
        predicted.append(_floor_of_window([floor], window, 128)[0])
        mean = rows.mean(axis=0)
        t = np.arange(128.0)
        weight = np.exp(-((t[:, None] - t) ** 2) / (2 * window**2))
        smooth = mean @ (weight / weight.sum(axis=1, keepdims=True)).T
        fit = np.polynomial.polynomial.polyval(t, np.polynomial.polynomial.polyfit(t, smooth.T, 1))
        left.append(np.mean((smooth - fit) ** 2))
    assert math.sqrt(np.mean(predicted) / np.mean(left)) == pytest.approx(1, abs=0.15)


def test_halves_of_a_series_agree_and_expectation_is_met():
    found, expected = [], []
    for seed in range(2):
        p = simulate.phantom("p1", seed=seed, shape=(128, 128))
        split = split_check(p.data)
        assert split.holds
        assert split.error_px == split.rms_px / 2
        assert split.rms_pm is None
        assert [len(a.used) for a in split.halves] == [5, 5]
        found.append(split.rms_px**2)
        expected.append(split.expected_px**2)
    # two series of some ten waves: the ratio itself is known to 20 %
    assert math.sqrt(np.mean(found) / np.mean(expected)) == pytest.approx(1, abs=0.4)


def test_a_half_with_another_geometry_is_found():
    p = simulate.phantom(
        "p1", seed=2, shape=(128, 128), distortion_options={"wave_px": 0.05, "drift_px": 0.3}
    )
    assert split_check(p.data).holds
    bend = waves((128, 128), 0.4, 2.0)
    data = p.data.copy()
    for k in range(1, 10, 2):
        clean = simulate.render_columns(
            p.truth, (128, 128), background=1.8, displacement=p.displacement[k] + bend
        )
        data[k] = np.random.default_rng(k).poisson(clean)
    assert split_check(data).holds is False


def test_directions_are_split_evenly():
    one, two = split_frames(range(8), [0, 0, 90, 90, 0, 0, 90, 90])
    assert (one, two) == ([0, 2, 4, 6], [1, 3, 5, 7])
    one, two = split_frames(range(6), [0, 0, 0, 90, 90, 90])
    assert len(one) == len(two) == 3


def test_vacuum_is_not_compared():
    first, second = known_pair()
    for view in (first, second):
        view.samples[:, 90:] = 0
        view.values[:, 90:] = 0
    difference = measure_difference(first, second, 12.0, rows=False)
    assert not difference.good[:, 100:].any()
    assert difference.good[20:100, 20:70].mean() > 0.9


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        (np.random.default_rng(0).poisson(5, (3, 64, 64)), {}, "at least 4"),
        (np.random.default_rng(0).poisson(5, (4, 64, 64)), {"angles": [0, 0, 0, 90]}, "2 of each direction"),
        (np.random.default_rng(0).poisson(5, (4, 64, 64)), {"window_px": 0.0}, "positive number"),
    ],
)
def test_bad_input(series, options, message):
    with pytest.raises(DataError, match=message):
        split_check(series, **options)


def test_averages_are_all_that_is_needed():
    p = simulate.phantom("p1", seed=4, shape=(96, 96))
    frames = open_series(p.data)
    rows = p.displacement[..., 0] - p.displacement[..., 0].mean(axis=0)
    motion = RowMotion(rows, frames.shape, np.zeros(frames.n))
    one, two = (average(frames, motion, range(n, 10, 2)) for n in (0, 1))
    first, second = (Image(a.image, a.samples, a.variance) for a in (one, two))
    difference = measure_difference(first, second, 5.0, rows=True)
    good = difference.good
    # both halves with the true displacement: counting noise alone
    assert np.mean(difference.shift[:, good] ** 2) < 4 * np.mean(difference.variance[:, good])
