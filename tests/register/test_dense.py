"""Dense registration: known truth at several doses, gauge, masks, series that differ, bad input by its name."""

import math

import numpy as np
import pandas as pd
import pytest

from fairstem import metrics, simulate
from fairstem.errors import DataError
from fairstem.register._dense import kernels
from fairstem.register._dense.dense import register_dense
from fairstem.register._dense.level import Level, Stack
from fairstem.register._dense.median import MedianTarget
from fairstem.register._dense.sobolev import Spectrum, dirichlet_precision, from_modes, solve, to_modes
from fairstem.register._series.frames import open_series


def started(displacement):
    return np.round(2 * displacement.mean(axis=(2, 3))) / 2


def p1(**options):
    return simulate.phantom("p1", seed=3, **{"frames": 5, "shape": (128, 128), **options})


def slow_series(seed, frames=4, shape=(112, 128), peak=30.0, drift=1.0):
    """SrTiO3 rotated, vacuum in a corner; each frame warped by waves of 80-250 px and moved."""
    rng = np.random.default_rng(seed)
    a, turn = 0.3905 / 0.018, 0.07
    i, j = np.mgrid[-8:14, -8:14].reshape(2, -1) * a
    parts = [(0.0, peak), (a / 2, 0.45 * peak)]
    y, x = (np.concatenate([v + s for s, _ in parts]) for v in (i, j))
    table = pd.DataFrame(
        {
            "y": y * math.cos(turn) + x * math.sin(turn),
            "x": x * math.cos(turn) - y * math.sin(turn),
            "height": np.repeat([h for _, h in parts], i.size),
            "width": 2.78,
        }
    )
    table = table[table["y"] + table["x"] > 60]
    at = np.mgrid[: shape[0], : shape[1]]
    fields, start = [], np.zeros(2)
    for _ in range(frames):
        waves = rng.uniform(80, 250, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3, 2)), rng.normal(size=(2, 3))
        field = np.zeros((2, *shape))
        for c in range(2):
            for length, (phase, heading), size in zip(*(w[c] for w in waves), strict=True):
                along = at[0] * math.sin(heading) + at[1] * math.cos(heading)
                field[c] += 0.7 * size * np.sin(2 * np.pi * along / length + phase)
        fields.append(field + start[:, None, None])
        start = start + rng.normal(0, drift, 2)
    fields = np.stack(fields)
    clean = [simulate.render_columns(table, shape, background=0.02 * peak, displacement=u) for u in fields]
    return simulate.add_noise(np.stack(clean), rng), fields


def crystal_error(motion, fields):
    """rms per axis where every frame shows crystal."""
    ny, nx = fields.shape[2:]
    y, x = np.mgrid[:ny, :nx]
    inside = (y + x > 85) & (y > 8) & (y < ny - 9) & (x > 8) & (x < nx - 9)
    reached = np.stack([metrics_reach(motion.backward(k), fields[k])[:, inside] for k in range(motion.n)])
    return float(np.sqrt(((reached - reached.mean(axis=0)) ** 2).mean()))


def metrics_reach(d, u):
    from scipy.ndimage import map_coordinates

    at = np.mgrid[: d.shape[1], : d.shape[2]] + d
    return at + np.stack([map_coordinates(c, at, order=1, mode="nearest") for c in u])


# rigid leaves 0.6 px; scikit-image TV-L1 0.19 px on four times the pixels at peak 30
@pytest.mark.parametrize(("peak", "bound"), [(3.0, 0.25), (300.0, 0.06)])
def test_rows_are_registered_at_any_dose_without_a_parameter(peak, bound):
    series = p1(peak=peak)
    motion, report = register_dense(open_series(series.data), started(series.displacement))
    assert metrics.displacement_error(motion.fields, series.displacement).rmse < bound
    assert report.noise[0] + report.noise[1] / (0.2 * peak) == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize(("peak", "bound"), [(3.0, 0.35), (30.0, 0.15)])
def test_slow_warps_beside_vacuum_are_registered(peak, bound):
    data, fields = slow_series(1, peak=peak)
    motion, _ = register_dense(open_series(data), started(fields))
    assert crystal_error(motion, fields) < bound


def test_the_published_regulariser_reaches_what_was_published():
    series = simulate.phantom("p1", seed=0)
    frames, start = open_series(series.data), started(series.displacement)
    motion, report = register_dense(frames, start, regularization=200.0)
    assert metrics.displacement_error(motion.fields, series.displacement).rmse <= 0.30
    assert report.noise is None
    assert report.energies[-1] < report.energies[0]


def test_identical_noiseless_frames_do_not_move():
    clean = p1(frames=None, distortion=None).clean
    motion, report = register_dense(open_series(np.stack([clean] * 3)), np.zeros((3, 2)))
    assert np.sqrt((motion.fields**2).mean()) < 0.02
    assert report.ncc.min() > 0.99


def test_the_average_carries_the_mean_geometry():
    data, fields = slow_series(2)
    frames, start = open_series(data), started(fields)
    motion, report = register_dense(frames, start)
    assert np.abs(motion.fields.mean(axis=0)).mean() < 0.01
    assert report.mean_correction_px > 0
    free, _ = register_dense(frames, start, bias_removal=False, extra_stages=0)
    assert np.abs(free.fields.mean(axis=0)).mean() > np.abs(motion.fields.mean(axis=0)).mean()


def test_forward_undoes_backward():
    data, fields = slow_series(4, frames=3)
    motion, _ = register_dense(open_series(data), started(fields), extra_stages=0)
    back, there = motion.backward(1), motion.forward(1)
    reached = metrics_reach(back, there) - np.mgrid[: back.shape[1], : back.shape[2]]
    # fields are bilinear between nodes, so that an inverse on pixels is exact up to the kinks only
    assert np.quantile(np.abs(reached[:, 12:-12, 12:-12]), [0.5, 0.98]) == pytest.approx(0, abs=0.1)
    assert np.median(np.abs(reached[:, 12:-12, 12:-12])) < 0.02


def test_the_median_follows_a_frame_that_shows_something_else_less():
    data, fields = slow_series(5, frames=5)
    data[2, 60:100, 60:100] = 60.0
    error = {}
    for target in ("mean", "median"):
        motion, _ = register_dense(open_series(data), started(fields), target=target, extra_stages=1)
        reached = np.stack([metrics_reach(motion.backward(k), fields[k]) for k in (0, 1, 3, 4)])[
            :, :, 62:98, 62:98
        ]
        error[target] = np.sqrt(((reached - reached.mean(axis=0)) ** 2).mean())
    assert error["median"] < 0.85 * error["mean"]


@pytest.mark.parametrize("n", [3, 4, 5])
def test_median_without_one_frame_is_the_median_of_the_others(n):
    data = np.random.default_rng(0).random((n, 32, 40))
    data[0, :10] = np.nan
    level = _level(open_series(data), np.zeros((n, 2)))
    median = MedianTarget(level)
    alone = np.stack([median._frame(k) for k in range(n)])
    for k in range(n):
        canvas = median.without(k)
        others = np.delete(alone, k, axis=0)
        seen = np.isfinite(others).any(axis=0)
        np.testing.assert_allclose(
            (canvas[0] / np.maximum(canvas[1], 1))[seen], np.nanmedian(others[:, seen], axis=0), rtol=1e-6
        )
        assert (canvas[1] > 0).sum() == seen.sum()


def _level(frames, offsets, spacing=2.0):
    shape = [kernels.make_lines(n, spacing).n_nodes for n in frames.shape]
    fields = np.broadcast_to(offsets[:, :, None, None], (frames.n, 2, *shape)).copy()
    return Level(Stack(frames, frames.usable, 1), 1, (spacing, spacing), fields)


def test_blank_frames_keep_their_offset_and_are_named():
    data, fields = slow_series(6)
    data[1] = 0
    start = started(fields)
    motion, report = register_dense(open_series(data), start)
    assert np.isnan(report.ncc[1])
    assert np.isfinite(report.ncc[[0, 2, 3]]).all()
    assert np.ptp(motion.fields[1], axis=(1, 2)).max() == 0
    others = crystal_error_of(motion, fields, [0, 2, 3])
    assert others < 0.2


def crystal_error_of(motion, fields, frames):
    class Some:
        n = len(frames)

        def backward(self, k):
            return motion.backward(frames[k])

    return crystal_error(Some(), fields[frames])


def test_rows_that_were_not_measured_change_little():
    data, fields = slow_series(1)
    data[0, 70:74] = np.nan
    data[2, 30:33] = np.nan
    motion, _ = register_dense(open_series(data), started(fields))
    assert np.isfinite(motion.fields).all()
    assert crystal_error(motion, fields) < 0.16


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_types_of_numbers_give_the_same(dtype):
    data, fields = slow_series(3, frames=3, shape=(64, 96))
    data, start = np.clip(data, 0, 200), started(fields)
    expected, _ = register_dense(open_series(data.astype(np.float64)), start)
    got, _ = register_dense(open_series(data.astype(dtype)), start)
    np.testing.assert_array_equal(got.fields, expected.fields)


def test_brightness_and_contrast_of_frames_do_not_matter():
    data, fields = slow_series(1, frames=3)
    frames, start = open_series(data), started(fields)
    changed = open_series(7.0 * data.astype(np.float64) + 40.0)
    one, two = (register_dense(f, start, regularization=20.0)[0] for f in (frames, changed))
    np.testing.assert_allclose(one.fields, two.fields, atol=0.01)


def test_large_offsets_leave_only_a_part_in_common():
    data, fields = slow_series(8, drift=0.0, shape=(112, 128))
    shift = 42
    frames = np.stack([data[0, : 112 - shift], data[1, shift:], data[2, : 112 - shift]])
    offsets = np.array([[0.0, 0.0], [shift, 0.0], [0.0, 0.0]]) + started(fields[:3])
    motion, report = register_dense(open_series(frames), offsets)
    truth = np.stack([fields[0, :, :-shift], fields[1, :, shift:], fields[2, :, :-shift]])
    truth[1, 0] += shift
    reached = np.stack([metrics_reach(motion.backward(k), truth[k]) for k in range(3)])
    # where frame 1 meets the others: beside the middle of the average
    inside = reached[:, :, 30:40, 50:110]
    assert np.sqrt(((inside - inside.mean(axis=0)) ** 2).mean()) < 0.3
    assert np.isfinite(report.ncc).all()


def test_two_frames_meet_in_the_middle():
    data, fields = slow_series(1, frames=2)
    for target in ("mean", "median"):
        motion, _ = register_dense(open_series(data), started(fields), target=target, extra_stages=1)
        assert crystal_error(motion, fields) < 0.2
        assert np.abs(motion.fields.sum(axis=0)).mean() < 0.03


def test_a_start_of_a_few_pixels_off_is_caught():
    data, fields = slow_series(1)
    off = started(fields) + np.array([[2.0, -2.0], [-2.0, 1.0], [0.0, 2.0], [1.0, -1.0]])
    motion, _ = register_dense(open_series(data), off, extra_stages=1)
    assert crystal_error(motion, fields) < 0.16


@pytest.mark.parametrize("value", [-1.0, 0.0, math.nan, math.inf, "paper"])
def test_unreasonable_regularization_is_refused(value):
    frames = open_series(np.random.default_rng(0).random((2, 32, 32)))
    with pytest.raises(DataError, match="regularization is"):
        register_dense(frames, np.zeros((2, 2)), regularization=value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": 0}, "stages is 0"),
        ({"extra_stages": -1}, "extra_stages is -1"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"levels": 0}, "levels is 0"),
        ({"levels": 4}, "at least 8 px"),
        ({"energy_tolerance": math.nan}, "energy_tolerance"),
        ({"target": "mode"}, "target is 'mode'"),
    ],
)
def test_unreasonable_options_are_refused(options, message):
    frames = open_series(np.random.default_rng(0).random((2, 32, 32)))
    with pytest.raises(DataError, match=message):
        register_dense(frames, np.zeros((2, 2)), **options)


@pytest.mark.parametrize(
    "offsets", [np.zeros((3, 2)), np.zeros(2), np.full((2, 2), np.nan), [[0, 0], [0, 40]]]
)
def test_offsets_that_do_not_fit_are_refused(offsets):
    frames = open_series(np.random.default_rng(0).random((2, 32, 32)))
    with pytest.raises(DataError, match="offsets"):
        register_dense(frames, np.asarray(offsets, dtype=float))


def test_a_negative_is_no_second_frame():
    clean = p1(frames=None, distortion=None).clean
    with pytest.raises(DataError, match="no frame correlates"):
        register_dense(open_series(np.stack([clean, -clean])), np.zeros((2, 2)))


def test_the_regulariser_is_the_energy_of_the_gradient():
    rows, cols = kernels.make_lines(33, 2.0), kernels.make_lines(41, 4.0)
    field = np.random.default_rng(1).normal(size=(2, rows.n_nodes, cols.n_nodes))
    q = dirichlet_precision(3.0, rows, cols)
    area = rows.spacing * cols.spacing
    by_hand = (
        3.0
        * area
        * sum(
            (np.diff(field, axis=axis) ** 2).sum() / line.spacing**2 for axis, line in ((1, rows), (2, cols))
        )
    )
    assert (q * to_modes(field) ** 2).sum() == pytest.approx(by_hand)
    np.testing.assert_allclose(from_modes(to_modes(field)), field, atol=1e-12)


def test_the_solver_solves():
    rng = np.random.default_rng(2)
    frames = open_series(p1(frames=2, shape=(48, 40)).data)
    level = _level(frames, np.zeros((2, 2)), 3.0)
    sums = kernels.empty_sums(level.grid)
    values, mask = level.stack.read(0)
    target = level.reference(level.total())
    kernels.normal_equations(
        values,
        mask,
        level.fields[0],
        level.grid,
        target,
        np.array([0.0, 1.0, 0.0]),
        np.array([1, 0, 0, 40.0]),
        sums,
    )
    q = dirichlet_precision(5.0, level.grid.rows, level.grid.cols)
    force = rng.normal(size=q.shape)
    x = solve(sums.stencil, q, force, 1e-9, 500)
    out = np.empty_like(x)
    kernels.apply_stencil(sums.stencil, from_modes(x), out)
    np.testing.assert_allclose(to_modes(out) + q * x, force, atol=1e-5)


def test_the_spectrum_is_learned():
    rng = np.random.default_rng(3)
    spectrum = Spectrum((64, 64))
    rows = cols = kernels.make_lines(64, 1.0)
    spectrum.density[:] = 1e-4
    spectrum.density[:, 3:, 0] = 0.5
    truth = spectrum.precision(rows, cols, 1)
    truth[:, 0, 0] = 1e9
    learner = Spectrum((64, 64))
    noise = 4.0  # information of a node
    fields = [rng.normal(size=truth.shape) / np.sqrt(truth) for _ in range(30)]
    seen = np.array([f + rng.normal(size=f.shape) / np.sqrt(noise) for f in fields])
    seen -= seen.mean(axis=0)
    for _ in range(8):
        q = learner.precision(rows, cols, 1)
        modes = [noise / (noise + q) * s for s in seen]
        learner.learn(modes, [np.full((2, 1), noise)] * 30, rows, cols, 1)
    assert learner.density[:, 4:7, 0] == pytest.approx(0.5, rel=0.35)
    assert learner.density[:, 4:7, 4:7].max() < 0.02
