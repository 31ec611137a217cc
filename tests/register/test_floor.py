"""The common-mode floor against the truth of simulated series."""

import math

import numpy as np
import pandas as pd
import pytest

from fairstem import metrics
from fairstem.atoms import bonds
from fairstem.errors import DataError
from fairstem.register._judge.floor import common_mode_floor
from fairstem.register._judge.floor_dense import dense_floor
from fairstem.simulate.scan import RowDistortion, recorded_positions

WIDTH = 2.78  # px, columns of protocol P1


def true_rows(seed, frames, ny=256):
    return RowDistortion().series((ny, 2), frames, np.random.default_rng([seed, 2]))[..., 0]


def mean_square(values):
    return float(np.mean(np.square(values)))


def common(rows):
    """What stays in the average, as positions of many points: mean over frames less the affine part."""
    mean = rows.mean(axis=0)
    y, x = np.mgrid[: mean.shape[1], :4].astype(float).reshape(2, -1)
    truth = np.column_stack([y, x])
    return metrics.affine_rms(truth + np.repeat(mean.T, 4, axis=0), truth, pixel_size_nm=0.018)


@pytest.mark.parametrize("frames", [10, 40])
def test_floor_is_the_affine_rms_of_the_mean_displacement(frames):
    predicted, actual = [], []
    for seed in range(40):
        rows = true_rows(seed, frames)
        predicted.append(common_mode_floor(rows, np.zeros_like(rows), pixel_size_nm=0.018).pm)
        actual.append(common(rows).rms_pm)
    ratio = math.sqrt(mean_square(predicted) / mean_square(actual))
    assert ratio == pytest.approx(1, abs=0.1)
    assert math.sqrt(mean_square(predicted)) == pytest.approx(9.4 / math.sqrt(frames), rel=0.1)


def test_columns_and_their_differences_scatter_as_predicted():
    apart = 22.0  # rows from a column to the next
    positions = np.column_stack([np.arange(10.0, 246.0, 2.0), np.full(118, 3.0)])
    own, pair, own_predicted, pair_predicted = [], [], [], []
    for seed in range(40):
        rows = true_rows(seed, 10)
        mean = rows.mean(axis=0)
        slope = np.polynomial.polynomial.polyfit(np.arange(256.0), mean.T, 1)
        left = mean - np.polynomial.polynomial.polyval(np.arange(256.0), slope)
        field = np.broadcast_to(left[:, :, None], (2, 256, 8))
        error = recorded_positions(positions, np.full(len(positions), WIDTH), field) - positions
        floor = common_mode_floor(rows, np.zeros_like(rows))
        own.append(np.mean(error**2, axis=0))
        pair.append(np.mean((error[11:] - error[:-11]) ** 2, axis=0))
        own_predicted.append(np.square(floor.position_sd(WIDTH)))
        pair_predicted.append(np.square(floor.difference_sd(apart, WIDTH)))
    np.testing.assert_allclose(np.sqrt(np.mean(own_predicted, 0) / np.mean(own, 0)), 1, atol=0.1)
    np.testing.assert_allclose(np.sqrt(np.mean(pair_predicted, 0) / np.mean(pair, 0)), 1, atol=0.1)


@pytest.mark.parametrize("shrunk", [True, False])
def test_noise_of_the_rows_is_not_in_the_floor(shrunk):
    rng = np.random.default_rng(5)
    jitter, noise, frames = 0.2, 0.3, 12
    truth = rng.normal(0, jitter, (frames, 2, 400))
    measured = truth + rng.normal(0, noise, truth.shape)
    variance = np.full(truth.shape, noise**2)
    if shrunk:
        share = jitter**2 / (jitter**2 + noise**2)
        measured, variance = share * measured, share * variance
    floor = common_mode_floor(measured, variance, shrunk=shrunk)
    assert floor.px == pytest.approx(jitter / math.sqrt(frames), rel=0.1)


def test_without_distortion_the_floor_is_nothing_but_never_negative():
    rng = np.random.default_rng(6)
    rows = rng.normal(0, 0.1, (6, 2, 64))
    floor = common_mode_floor(rows, np.full(rows.shape, 0.02), shrunk=False)
    assert floor.px == 0
    assert floor.position_sd(2.0) == (0, 0)


def test_gauge_and_affine_motion_do_not_matter():
    rows = true_rows(1, 8)
    moved = rows - rows.mean(axis=0) + np.linspace(-3, 5, 256) * np.arange(8)[:, None, None] + 7
    one, two = (common_mode_floor(r, np.zeros_like(r)) for r in (rows, moved))
    np.testing.assert_allclose(one.covariance, two.covariance, atol=1e-9)
    assert two.slope[0] > one.slope[0]


def test_undetermined_rows_and_frames_without_weight_are_left_out():
    rows = true_rows(2, 10)
    variance = np.zeros_like(rows)
    broken, unsure = rows.copy(), variance.copy()
    broken[3, :, 40:60], unsure[3, :, 40:60] = np.nan, np.inf
    whole, partial = common_mode_floor(rows, variance), common_mode_floor(broken, unsure)
    assert partial.px == pytest.approx(whole.px, rel=0.05)
    weights = np.ones(10)
    weights[:2] = 0
    fewer = common_mode_floor(rows, variance, weights=weights)
    assert fewer.px == pytest.approx(common_mode_floor(rows[2:], variance[2:]).px, rel=1e-9)
    assert fewer.frames == 8


def test_scale_of_pixels_and_pm():
    rows = true_rows(3, 6)
    floor = common_mode_floor(rows, np.zeros_like(rows), pixel_size_nm=(0.01, 0.02))
    assert floor.pm == pytest.approx(1000 * math.hypot(0.01 * floor.y_px, 0.02 * floor.x_px) / math.sqrt(2))
    assert common_mode_floor(rows, np.zeros_like(rows)).pm is None


def test_turned_scans_turn_the_covariance():
    rows = true_rows(4, 10)
    upright = common_mode_floor(rows, np.zeros_like(rows))
    turned = common_mode_floor(rows, np.zeros_like(rows), angles_deg=np.full(10, 90.0))
    assert turned.position_sd(2.0) == pytest.approx(upright.position_sd(2.0)[::-1])
    assert turned.difference_sd(0.0, 2.0, 15.0)[0] == pytest.approx(upright.difference_sd(15.0, 2.0)[1])
    # half a turn is the same direction, run backwards
    half = common_mode_floor(-rows[:, :, ::-1], np.zeros_like(rows), angles_deg=np.full(10, 180.0))
    np.testing.assert_allclose(half.covariance, upright.covariance, atol=1e-12)


def joint_solution(rows, angles, rounds):
    """Register rows of scans in two directions on their average by turns; return what stays in it."""
    ny = rows.shape[1]
    grid = np.mgrid[:ny, :ny] - (ny - 1) / 2
    inside = np.hypot(*grid) < ny / 2
    places = []
    for angle in np.radians(angles):
        slow = grid[0] * np.cos(angle) - grid[1] * np.sin(angle)
        places.append(np.clip(np.rint(slow + (ny - 1) / 2), 0, ny - 1).astype(int))
    left = rows.copy()
    for _ in range(rounds):
        average = np.mean([left[k][places[k]] for k in range(len(rows))], axis=0)
        for k, at in enumerate(places):
            total = np.bincount(at[inside], average[inside], ny)
            number = np.bincount(at[inside], minlength=ny)
            left[k] = total / np.maximum(number, 1)
    average = np.mean([left[k][places[k]] for k in range(len(rows))], axis=0)[inside]
    design = np.column_stack([np.ones(inside.sum()), grid[0][inside], grid[1][inside]])
    return average - design @ np.linalg.lstsq(design, average, rcond=None)[0]


@pytest.mark.parametrize("between", [15.0, 90.0])
def test_floor_of_scans_in_two_directions_is_an_upper_bound(between):
    angles = np.repeat([0.0, between], 3)
    left, bound, alone = [], [], []
    for seed in range(12):
        rows = true_rows(seed, 6, 96)
        flat = rows - rows.mean(axis=2, keepdims=True)
        # one axis of the displacement, as if it were a scalar
        left.append(mean_square(joint_solution(flat[:, 1], angles, 6)))
        floor = common_mode_floor(rows, np.zeros_like(rows), angles_deg=angles)
        bound.append(floor.covariance[1, 0])
        alone.append(common_mode_floor(rows, np.zeros_like(rows)).covariance[1, 0])
    assert np.mean(left) < np.mean(bound) + 1e-3
    assert np.mean(bound) < 0.95 * np.mean(alone)
    if between == 90.0:
        assert np.mean(bound) < 0.01 * np.mean(alone)


def test_bonds_take_the_floor():
    rows = true_rows(7, 10)
    floor = common_mode_floor(rows, np.zeros_like(rows), pixel_size_nm=0.018)
    columns = pd.DataFrame(
        {"y": [50.0, 72.0, 50.0], "x": [20.0, 20.0, 42.0], "width": WIDTH, "sd_y": 0.01, "sd_x": 0.01},
        index=["a", "b", "c"],
    )
    covariance = floor.bond_covariance(columns, ["a", "a", "b"], ["b", "c", "c"])
    table = bonds(floor.widen(columns), cutoff=25.0, covariance=covariance).set_index("direction")
    lengths = table["sd_length"].to_numpy()
    across = math.hypot(float(floor.difference_sd(22.0, WIDTH)[0]), 0.01 * math.sqrt(2))
    # along a row both columns move as one: only their own errors are left
    assert sorted(lengths[:2]) == pytest.approx(sorted([0.01 * math.sqrt(2), across]))


def test_dense_floor_of_smooth_fields():
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:48, :40]
    phase = rng.uniform(0, 2 * np.pi, (16, 2, 3, 1, 1))
    turn = rng.uniform(0, 2 * np.pi, (16, 2, 3, 1, 1))
    waves = np.sin((y * np.cos(turn) + x * np.sin(turn)) * 0.5 + phase)
    fields = 0.3 * waves.sum(axis=2)
    floor = dense_floor(fields)
    mean = fields.mean(axis=0)
    assert floor.radial
    assert floor.px == pytest.approx(0.3 * math.sqrt(1.5 / 16), rel=0.1)
    assert floor.px == pytest.approx(mean.std(), rel=0.3)
    assert floor.difference_sd(0.0, 2.0, 2.0)[0] < floor.difference_sd(0.0, 2.0, 6.0)[0]


ROWS = np.zeros((4, 2, 32))


@pytest.mark.parametrize(
    ("rows", "variance", "options", "message"),
    [
        (ROWS[:1], ROWS[:1], {}, "2 frames or more"),
        (ROWS, ROWS[:, :, :-1], {}, "twice"),
        (ROWS[:, 0], ROWS[:, 0], {}, "twice"),
        (ROWS, ROWS - 1, {}, "negative"),
        (ROWS, ROWS + np.inf, {}, "fewer than 8 rows"),
        (ROWS, ROWS, {"weights": [1, 1]}, "one weight"),
        (ROWS, ROWS, {"weights": [0, 0, 0, 0]}, "one weight"),
        (ROWS, ROWS, {"angles_deg": [0, 90]}, "one finite angle"),
    ],
)
def test_bad_input(rows, variance, options, message):
    with pytest.raises(DataError, match=message):
        common_mode_floor(rows, variance, **options)


def test_bad_columns_and_fields():
    floor = common_mode_floor(true_rows(0, 4), np.zeros((4, 2, 256)))
    with pytest.raises(DataError, match="width"):
        floor.position_sd(0.0)
    with pytest.raises(DataError, match="not finite"):
        floor.difference_sd(np.nan, 2.0)
    with pytest.raises(DataError, match="lacks width"):
        floor.widen(pd.DataFrame({"sd_y": [0.1], "sd_x": [0.1]}))
    columns = pd.DataFrame({"y": [0.0], "x": [0.0], "width": [2.0]})
    with pytest.raises(DataError, match="not in the table"):
        floor.bond_covariance(columns, [0], [5])
    with pytest.raises(DataError, match="2 frames or more"):
        dense_floor(np.zeros((1, 2, 8, 8)))
    with pytest.raises(DataError, match="not finite"):
        dense_floor(np.full((2, 2, 8, 8), np.nan))
