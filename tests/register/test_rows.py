"""The row-wise core against dense linear algebra, finite differences and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fairstem import simulate
from fairstem.register._rows.kernels import compare_rows, spread
from fairstem.register._rows.measure import NoiseLaw, Segments, chi2_map, compare, fit_noise_law, gain_of
from fairstem.register._rows.reference import EVERYWHERE, Canvas, Pool, Reference, canvas_of
from fairstem.register._rows.rigid import refine_rigid
from fairstem.register._rows.rowwise import register_rows
from fairstem.register._rows.smoother import (
    LOOSE,
    LOOSE_SLOPE,
    Prior,
    _log_likelihood,
    estimate_prior,
    smooth,
)
from fairstem.register._series.frames import Frame, open_series
from fairstem.register._series.motion import RowMotion
from fairstem.register._start.start import find_start

PRIOR = Prior(walk=2e-4, jitter=0.03)


# ---- smoother ----


def walk_covariance(n, walk):
    """Covariance (n, n) of an integrated random walk with a loose level and slope at the first row."""
    t = np.arange(n)
    level = np.full((n, n), LOOSE) + LOOSE_SLOPE * np.outer(t, t)
    # a change of slope at row j moves row t > j + 1 by t - j - 1
    kicks = np.maximum(t[:, None] - t[None] - 1, 0)[:, : n - 1]
    return level + walk * kicks @ kicks.T


def draw(rng, prior, curves, n, noise):
    """Curves with known slow part and jitter, and what is measured of them."""
    slope = np.cumsum(rng.normal(0, np.sqrt(prior.walk), (curves, n)), axis=1) + rng.normal(
        0, 0.02, (curves, 1)
    )
    truth = np.cumsum(slope, axis=1) + rng.normal(0, np.sqrt(prior.jitter), (curves, n))
    variance = noise * rng.uniform(0.3, 3.0, (curves, n))
    return truth, truth + rng.standard_normal((curves, n)) * np.sqrt(variance), variance


@pytest.mark.parametrize("missing", [[], [0, 1], [7, 8, 9, 10], [22, 23]])
def test_smoother_is_the_dense_posterior(missing):
    rng, n = np.random.default_rng(3), 24
    _, z, variance = draw(rng, PRIOR, 2, n, 0.02)
    variance[:, missing] = np.inf
    found, error = smooth(z, variance, PRIOR)
    seen = np.setdiff1d(np.arange(n), missing)
    motion = walk_covariance(n, PRIOR.walk) + PRIOR.jitter * np.eye(n)
    for k in range(2):
        inverse = np.linalg.inv(motion[np.ix_(seen, seen)] + np.diag(variance[k, seen]))
        gain = motion[:, seen] @ inverse
        np.testing.assert_allclose(found[k], gain @ z[k, seen], atol=1e-6)
        np.testing.assert_allclose(error[k], np.diag(motion - gain @ motion[seen]), rtol=1e-5)


@pytest.mark.parametrize("missing", [[], [5, 6, 17]])
def test_likelihood_is_the_dense_one_given_level_and_slope(missing):
    rng, n = np.random.default_rng(4), 20
    _, z, variance = draw(rng, PRIOR, 1, n, 0.02)
    variance[:, missing] = np.inf
    seen = np.setdiff1d(np.arange(n), missing)
    full = walk_covariance(n, PRIOR.walk) + PRIOR.jitter * np.eye(n)
    full = full[np.ix_(seen, seen)] + np.diag(variance[0, seen])
    first = multivariate_normal(np.zeros(2), full[:2, :2]).logpdf(z[0, seen[:2]])
    expected = multivariate_normal(np.zeros(len(seen)), full).logpdf(z[0, seen]) - first
    assert _log_likelihood(z, variance, PRIOR.walk, PRIOR.jitter) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("prior", [Prior(2e-4, 0.03), Prior(1e-6, 0.0025), Prior(1e-3, 0.25)])
def test_variances_are_found_from_the_rows(prior):
    rng = np.random.default_rng(5)
    _, z, variance = draw(rng, prior, 10, 256, 0.5 * prior.jitter)
    found = estimate_prior(z, variance, Prior(1e-5, 0.04))
    assert found.jitter == pytest.approx(prior.jitter, rel=0.15)
    assert found.walk == pytest.approx(prior.walk, rel=0.6)
    # and they are the most likely ones
    best = _log_likelihood(z, variance, found.walk, found.jitter)
    for q, r in ((2, 1), (0.5, 1), (1, 1.2), (1, 0.8)):
        assert _log_likelihood(z, variance, found.walk * q, found.jitter * r) < best + 0.1


def test_the_error_of_the_smoother_is_calibrated():
    rng = np.random.default_rng(6)
    truth, z, variance = draw(rng, PRIOR, 40, 200, 0.02)
    variance[rng.random(variance.shape) < 0.1] = np.inf
    found, error = smooth(z, variance, PRIOR)
    assert np.mean((found - truth) ** 2 / error) == pytest.approx(1.0, abs=0.05)
    assert np.mean(np.abs(found - truth) < np.sqrt(error)) == pytest.approx(0.683, abs=0.02)
    # better than the rows by themselves, and than the slow curve alone
    seen = np.isfinite(variance)
    assert np.mean((found - truth)[seen] ** 2) < 0.7 * np.mean((z - truth)[seen] ** 2)


def test_rows_without_a_measurement_keep_the_guess():
    found, error = smooth(np.full((1, 30), np.nan), np.full((1, 30), np.inf), PRIOR)
    assert not found.any()
    assert (error >= LOOSE).all()


def test_a_gap_is_bridged_by_a_line_with_a_larger_error():
    t = np.arange(60.0)
    variance = np.full((1, 60), 1e-4)
    variance[0, 20:40] = np.inf
    found, error = smooth(0.05 * t[None] - 1, variance, Prior(1e-6, 1e-4))
    np.testing.assert_allclose(found[0], 0.05 * t - 1, atol=1e-3)
    assert error[0, 30] > 3 * error[0, 10]


# ---- kernels ----


def scattered(shape=(20, 24), seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.arange(n) + 6.0 for n in shape), indexing="ij")
    return rng.random(shape), y + rng.normal(0, 0.8, shape), x + rng.normal(0, 0.8, shape)


@pytest.mark.parametrize("masked", [False, True])
def test_spreading_keeps_sums_and_places(masked):
    values, y, x = scattered()
    mask = np.random.default_rng(1).random(values.shape) < 0.7 if masked else EVERYWHERE
    total, weight = np.zeros((34, 38)), np.zeros((34, 38))
    spread(values, mask, y, x, total, weight)
    seen = mask if masked else np.ones(values.shape, bool)
    assert total.sum() == pytest.approx(values[seen].sum(), rel=1e-12)
    assert weight.sum() == pytest.approx(seen.sum(), rel=1e-12)
    assert (weight >= 0).all()
    row, col = np.indices(total.shape)
    assert (total * row).sum() == pytest.approx((values * y)[seen].sum(), rel=1e-12)
    assert (total * col).sum() == pytest.approx((values * x)[seen].sum(), rel=1e-12)


def test_what_lies_beyond_the_canvas_is_left_out():
    values = np.ones((3, 4))
    y, x = (
        np.array([[-50.0], [5.0], [500.0]]) + np.zeros((3, 4)),
        np.array([5.0, 6.0, -9.0, 99.0]) + np.zeros((3, 4)),
    )
    total, weight = np.zeros((12, 12)), np.zeros((12, 12))
    spread(values, EVERYWHERE, y, x, total, weight)
    assert total.sum() == pytest.approx(2.0)
    assert weight.sum() == pytest.approx(2.0)


def smooth_reference(shape=(64, 60), seed=2):
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    image = 10 + sum(
        rng.uniform(1, 3) * np.cos(a * y + b * x + c)
        for a, b, c in rng.uniform((0.1, -0.5, 0), (0.5, 0.5, 6), (6, 3))
    )
    return Reference(image, np.full(shape, 1e6))


@pytest.mark.parametrize("angle", [0.0, 90.0, 33.0])
def test_score_is_the_derivative_of_the_log_likelihood(angle):
    reference, shape = smooth_reference(), (24, 24)
    frame = Frame(10 + np.random.default_rng(0).normal(0, 2, shape))
    law = NoiseLaw(1.7, 0.0, 0.1)

    def segments(move):
        rows = np.tile(np.asarray(move, float)[:, None], (1, 1, shape[0])).reshape(1, 2, -1)
        forward = RowMotion(rows, shape, np.array([angle])).forward(0)
        canvas = Canvas((-20, -18), reference.coefficients.shape)
        return compare(frame, canvas.positions(forward), reference, law, angle_deg=angle)

    here, h = segments((0.0, 0.0)), 1e-4
    for axis in range(2):
        step = h * np.eye(2)[axis]
        up, down = segments(step), segments(-step)
        derivative = -0.5 * (up.chi2[..., 0] - down.chi2[..., 0]) / (2 * h)
        np.testing.assert_allclose(here.score[..., axis], derivative, rtol=1e-4, atol=1e-4)
        # and the information is the square of the slopes: that of the score of a frame without noise
        assert (here.information[..., 2 * axis] > 0).all()


@pytest.mark.parametrize("angle", [0.0, 90.0, 33.0])
def test_a_known_shift_of_rows_is_found_along_the_axes_of_the_scan(angle):
    reference, shape, shift = smooth_reference(), (24, 24), np.array([0.12, -0.2])
    canvas, law = Canvas((-20, -18), reference.coefficients.shape), NoiseLaw(1e-4, 0.0, 1e-6)

    def at(move):
        rows = np.tile(np.asarray(move, float).reshape(1, 2, 1), (1, 1, shape[0]))
        return canvas.positions(RowMotion(rows, shape, np.array([angle])).forward(0))

    fitted, empty = np.empty(shape), np.empty(shape)
    from fairstem.register._rows.kernels import residuals

    given = (reference.coefficients, reference.weight, reference.least)
    residuals(np.zeros(shape), EVERYWHERE, *at(shift), given, fitted, empty)
    found, variance = compare(Frame(fitted), at((0, 0)), reference, law, angle_deg=angle).shifts()
    clear = (variance < 1e-4).all(axis=0)
    assert clear.sum() > 12
    assert np.median(np.abs(found - shift[:, None])[:, clear]) < 0.02


def test_equations_of_segments_add_up_and_masked_pixels_do_not_count():
    reference, shape = smooth_reference(), (24, 32)
    rng = np.random.default_rng(1)
    frame, at = Frame(rng.normal(10, 2, shape)), Canvas((-20, -14), (64, 60)).positions(np.zeros((2, *shape)))
    given = (reference.coefficients, reference.weight, reference.least)

    def equations(parts, mask=EVERYWHERE):
        out = tuple(np.empty((24, parts, n)) for n in (4, 2, 2, 4))
        compare_rows(frame.values, mask, *at, given, (1.0, 0.1, 0.5), *out)
        return out

    for one, four in zip(equations(1), equations(4), strict=True):
        np.testing.assert_allclose(one[:, 0], four.sum(axis=1), rtol=1e-10, atol=1e-12)
    mask = np.ones(shape, bool)
    mask[:, 16:] = False
    mask[5] = False
    for half, four in zip(equations(1, mask), equations(2), strict=True):
        np.testing.assert_allclose(
            np.delete(half[:, 0], 5, axis=0), np.delete(four[:, 0], 5, axis=0), rtol=1e-10
        )
    information, score, chi2, tone = equations(2, mask)
    assert not information[5].any()
    assert not score[5].any()
    assert not chi2[5].any()
    assert not tone[5].any()


def test_rows_that_say_nothing_are_not_measured():
    flat = Segments(np.zeros((9, 2, 4)), np.zeros((9, 2, 2)), np.zeros((9, 2, 2)))
    step, variance = flat.shifts()
    assert not step.any()
    assert np.isinf(variance).all()
    assert np.isinf(flat.segment_shifts()[1]).all()


def test_the_kernels_write_within_their_arrays(monkeypatch):
    # the size of the equations is an agreement between the kernel and all that call it
    import fairstem.register._rows.measure as measure

    sizes = []

    def watched(*given):
        sizes.append([a.shape[-1] for a in given[-4:]])
        compare_rows(*given)

    monkeypatch.setattr(measure, "compare_rows", watched)
    frames = open_series(simulate.phantom("p1", seed=1, frames=2, shape=(64, 64)).data)
    refine_rigid(frames, find_start(frames), rounds=1)
    assert len(sizes) >= 4
    assert all(size == [4, 2, 2, 4] for size in sizes)


# ---- noise ----


def still(counts, frames=8, seed=0, **noise):
    """Frames of a still crystal, their motion (none) and their pool."""
    clean = simulate.phantom("p1", seed=0, shape=(128, 128), peak=counts, distortion=None, frames=None).clean
    rng = np.random.default_rng(seed)
    data = np.stack([simulate.add_noise(clean, rng, dtype="float64", **noise) for _ in range(frames)])
    series = open_series(data)
    motion = RowMotion(np.zeros((frames, 2, 128)), (128, 128), np.zeros(frames))
    pool = Pool(canvas_of(motion, range(frames)), [0] * frames, frames)
    for k in range(frames):
        pool.add(k, series.read(k), motion.forward(k))
    return series, motion, pool


@pytest.mark.parametrize(
    ("peak", "noise", "constant", "slope"),
    [
        (30.0, {}, 0.0, 1.0),
        (3.0, {}, 0.0, 1.0),
        (30.0, {"readout": 3.0}, 9.0, 1.0),
        (30.0, {"gain": 5.0}, 0.0, 5.0),
        (30.0, {"gain": 5.0, "offset": 40.0, "readout": 4.0}, 16.0 - 5 * 40.0, 5.0),
        (30.0, {"gain": 1e-12}, 0.0, 1e-12),
    ],
)
def test_the_law_of_the_noise_is_found(peak, noise, constant, slope):
    series, motion, pool = still(peak, **noise)
    law = fit_noise_law(series, motion, pool, range(8))
    assert law.slope == pytest.approx(slope, rel=0.1)
    middle = noise.get("offset", 0.0) + 0.4 * peak * slope
    assert law.variance(np.array(middle)) == pytest.approx(constant + slope * middle, rel=0.05)
    chi2, seen = chi2_map(series, motion, pool, range(8), law)
    assert (seen == 8).all()
    assert np.average(chi2, weights=seen) == pytest.approx(1.0, abs=0.03)


def test_chi2_is_larger_where_one_frame_differs():
    series, motion, pool = still(30.0)
    law = fit_noise_law(series, motion, pool, range(8))
    data = series.opened.array.copy()
    data[3, 40:60, 70:90] += 15
    changed = open_series(data)
    pool = Pool(pool.canvas, [0] * 8, 8)
    for k in range(8):
        pool.add(k, changed.read(k), motion.forward(k))
    chi2, _ = chi2_map(changed, motion, pool, range(8), law)
    inside = np.zeros((128, 128), bool)
    inside[42:58, 72:88] = True
    assert chi2[inside].mean() > 2
    assert chi2[:30].mean() == pytest.approx(1.0, abs=0.05)


def test_the_blur_of_the_reference_is_made_up_for():
    # a shift of one frame against a blurred reference comes out as it is
    _, _, pool = still(1000.0)
    shift = (0.15, -0.1)
    scene = simulate.phantom("p1", seed=0, shape=(128, 128), peak=1000.0, distortion=None, frames=None)
    moved = simulate.render_columns(
        scene.truth,
        (128, 128),
        background=60.0,
        displacement=np.broadcast_to(np.reshape(shift, (2, 1, 1)), (2, 128, 128)),
    )
    reference = pool.everything().reference()
    at = pool.canvas.positions(np.zeros((2, 128, 128)))
    law, gain = NoiseLaw(0.0, 1.0, 1.0), gain_of(reference)
    assert gain > 1.05
    step, variance = compare(Frame(moved), at, reference, law, gain=gain).shifts()
    seen = np.isfinite(variance)
    for axis in range(2):
        found = np.average(step[axis][seen[axis]], weights=1 / variance[axis][seen[axis]])
        assert found == pytest.approx(shift[axis], rel=0.05)


# ---- rows of P1 ----


@pytest.fixture(scope="module", params=[30.0, 3.0])
def solved(request):
    p = simulate.phantom("p1", seed=3, peak=request.param)
    frames = open_series(p.data)
    start = find_start(frames)
    begin = RowMotion(start.displacement(256), frames.shape, np.zeros(10))
    return p, register_rows(frames, begin, range(10))


def row_errors(rows, truth):
    """Error (frame, 2, y) px of the rows, less what all frames share."""
    error = rows - truth
    number = np.arange(rows.shape[2])
    at = number + truth[:, 0]
    shared = np.zeros((2, len(number)))
    for axis in range(2):
        own = []
        for k in range(len(rows)):
            order = np.argsort(at[k], kind="stable")
            own.append(np.interp(number, at[k][order], error[k, axis][order]))
        shared[axis] = np.mean(own, axis=0)
    for k in range(len(rows)):
        error[k] -= np.stack([np.interp(at[k], number, shared[a]) for a in range(2)])
    return error


def test_rows_scatter_as_their_error_says(solved):
    p, found = solved
    error = row_errors(found.motion.rows, p.displacement[..., 0])[:, :, 12:-12]
    sd = np.sqrt(found.variance)[:, :, 12:-12]
    covered = np.mean(np.abs(error) < sd)
    if p.parameters["peak"] == 30:
        assert covered == pytest.approx(0.68, abs=0.06)
    # with few counts the jitter along y is overestimated: error bars are too long rather than too short
    assert 0.64 < covered < 0.80
    assert np.std(error / sd) < 1.05


def test_each_row_by_itself_scatters_as_its_error_says(solved):
    p, found = solved
    error = row_errors(found.measured, p.displacement[..., 0])[:, :, 12:-12]
    sd = np.sqrt(found.measured_variance)[:, :, 12:-12]
    assert np.isfinite(sd).all()
    assert np.std(error / sd) == pytest.approx(1.0, abs=0.06)
    assert np.mean(np.abs(error) < sd) == pytest.approx(0.68, abs=0.06)


def test_jitter_and_noise_are_found_from_the_series(solved):
    p, found = solved
    peak = p.parameters["peak"]
    if peak == 30:
        assert np.sqrt(found.priors[0].jitter) == pytest.approx(0.075, rel=0.15)
        assert found.law.slope == pytest.approx(1.0, abs=0.06)
    assert np.sqrt(found.priors[1].jitter) == pytest.approx(0.25, rel=0.1)
    middle = np.array(p.data.mean())
    assert found.law.variance(middle) == pytest.approx(float(middle), rel=0.06)
    series = open_series(p.data)
    chi2, seen = chi2_map(series, found.motion, found.pool, range(10), found.law)
    assert np.average(chi2, weights=seen) == pytest.approx(1.0, abs=0.02)


def test_the_gauge_is_the_mean_of_all_frames(solved):
    _, found = solved
    rows = found.motion.rows
    np.testing.assert_allclose(rows.mean(axis=2).mean(axis=0), 0, atol=1e-9)
    bend = rows - rows.mean(axis=2, keepdims=True)
    at = np.arange(256) + rows[:, 0]
    inner = np.arange(15, 241)
    shared = [
        [np.interp(inner, np.sort(at[k]), bend[k, axis][np.argsort(at[k])]) for k in range(10)]
        for axis in range(2)
    ]
    assert np.sqrt(np.mean(np.mean(shared, axis=1) ** 2)) < 0.03


def test_vacuum_rows_go_with_their_neighbours():
    p = simulate.phantom("p1", seed=3, frames=5, shape=(160, 96))
    columns = p.truth[(p.truth["y"] < 55) | (p.truth["y"] > 85)]
    clean = [
        simulate.render_columns(columns, (160, 96), background=1.8, displacement=u) for u in p.displacement
    ]
    frames = open_series(np.random.default_rng(0).poisson(clean).astype(float))
    found = register_rows(frames, RowMotion(p.displacement[..., 0].copy(), (160, 96), np.zeros(5)), range(5))
    error = row_errors(found.motion.rows, p.displacement[..., 0])
    assert np.isfinite(found.variance).all()
    assert found.variance[:, :, 66:74].mean() > 3 * found.variance[:, :, 20:45].mean()
    assert np.std((error / np.sqrt(found.variance))[:, :, 66:74]) < 1.5
    assert np.std((error / np.sqrt(found.variance))[:, :, 20:45]) < 1.1
