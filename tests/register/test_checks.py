"""Prior checks: they pass where the assumption is true, and fail where it isn't."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from fairstem import simulate
from fairstem.errors import DataError
from fairstem.register._judge.checks import check_floor, check_independent
from fairstem.register._judge.floor import common_mode_floor
from fairstem.register._judge.sharpness import check_sharpness, compare_sharpness, fast_autocovariance
from fairstem.register._judge.spectrum import check_smooth_in_time, temporal_spectrum
from fairstem.register._judge.unchanged import check_unchanged
from fairstem.register._series.average import average
from fairstem.register._series.frames import open_series
from fairstem.register._series.motion import RowMotion
from fairstem.simulate.scan import RowDistortion, ScanDistortion

SHARE = 0.95  # of good series that must pass
NOISE = 0.07  # px, error of a measured row in protocol P1


def passing(verdicts):
    return np.mean([v is True for v in verdicts])


def residual_map(peak, seed, frames=10, shape=(96, 96)):
    """Mean squared residual of frames of one lattice against its truth, and the expected counts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    counts = peak * (0.06 + 0.94 * (np.cos(y * 0.45) * np.cos(x * 0.4)) ** 4)
    data = rng.poisson(counts, (frames, *shape))
    return ((data - counts) ** 2 / counts).mean(axis=0), counts


def measured_rows(seed, frames=10, ny=128):
    rng = np.random.default_rng(seed)
    rows = RowDistortion().series((ny, 2), frames, rng)[..., 0]
    return rows + rng.normal(0, NOISE, rows.shape), np.full(rows.shape, NOISE**2)


@pytest.mark.parametrize("peak", [3.0, 30.0])
def test_an_unchanged_object_passes(peak):
    verdicts = []
    for seed in range(20):
        chi2, counts = residual_map(peak, seed)
        check, changed = check_unchanged(chi2, np.full(chi2.shape, 10), counts=counts)
        verdicts.append(check.holds)
        assert changed.any() != check.holds
    assert passing(verdicts) >= SHARE


def test_a_column_that_moved_is_found_where_it_was():
    found = astray = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:96, :96]
        before = 2 + 28 * np.exp(-((y - 40) ** 2 + (x - 60) ** 2) / (2 * 2.7**2))
        after = 2 + 28 * np.exp(-((y - 40) ** 2 + (x - 64) ** 2) / (2 * 2.7**2))
        data = np.stack([rng.poisson(before if k < 5 else after) for k in range(10)])
        mean = (before + after) / 2
        check, changed = check_unchanged(
            ((data - mean) ** 2 / mean).mean(axis=0), np.full(mean.shape, 10), counts=mean
        )
        found += check.holds is False and bool(changed[36:45, 52:73].any())
        astray += bool(changed[:20].any() or changed[60:].any())
    assert found == 10
    assert astray <= 1


def test_displacement_that_is_left_is_no_change_of_the_object():
    verdicts = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:96, :96]

        def lattice(shift, y=y, x=x):
            return 100 * (0.06 + 0.94 * (np.cos(y * 0.15) * np.cos((x + shift) * 0.13)) ** 4)

        left = rng.normal(0, 0.25, (10, 96, 1))
        chi2 = np.mean([(rng.poisson(lattice(u)) - lattice(0)) ** 2 / lattice(0) for u in left], axis=0)
        verdicts.append(check_unchanged(chi2, np.full(chi2.shape, 10), counts=lattice(0))[0].holds)
    assert passing(verdicts) >= 0.9


def test_wrong_noise_everywhere_is_no_change_of_the_object():
    chi2, counts = residual_map(30.0, 1)
    samples = np.full(chi2.shape, 10)
    assert check_unchanged(1.4 * chi2, samples, counts=counts)[0].holds
    nothing = np.zeros(chi2.shape)
    assert check_unchanged(chi2, nothing)[0].holds is None


def test_independent_frames_pass_and_a_slow_walk_fails():
    verdicts = [check_independent(measured_rows(seed, 10, 64)[0]).holds for seed in range(60)]
    assert passing(verdicts) >= SHARE
    rows = RowDistortion().series((64, 2), 12, 1)[..., 0]
    alike = np.array([rows[: k + 1][-3:].mean(axis=0) for k in range(12)])
    assert check_independent(alike).holds is False
    assert check_independent(rows[:5]).holds is None


def test_smooth_displacement_passes_and_jumps_fail():
    smooth, jumps, lines = [], [], 0
    for seed in range(40):
        rows, variance = measured_rows(seed)
        check, spectrum = check_smooth_in_time(rows, variance)
        smooth.append(check.holds)
        lines += bool(spectrum.lines)
        jump = np.random.default_rng(seed).normal(0, 0.3, rows.shape)
        jumps.append(check_smooth_in_time(jump, variance)[0].holds)
    assert passing(smooth) >= SHARE
    assert passing(jumps) <= 1 - SHARE
    assert lines / 40 <= 1 - SHARE


def test_rows_without_displacement_are_not_judged():
    noise = np.random.default_rng(0).normal(0, NOISE, (10, 2, 128))
    check, spectrum = check_smooth_in_time(noise, np.full(noise.shape, NOISE**2))
    assert check.holds is None
    assert spectrum.power.mean() == pytest.approx(spectrum.noise.mean(), rel=0.1)


def test_spectrum_integrates_to_the_variance():
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.5, (20, 2, 256))
    spectrum = temporal_spectrum(rows, np.full(rows.shape, 0.25))
    assert spectrum.power.mean() * 0.5 == pytest.approx(0.25, rel=0.05)
    assert spectrum.noise == pytest.approx([0.5, 0.5])
    assert spectrum.frequency_hz is None


def test_lines_of_a_real_scan_are_found_with_their_size():
    scan = ScanDistortion(lines_hz=(30.0, 120.0, 160.0), lines_pm=(5.4, 4.4, 3.7), flyback_pm=0.0)
    row_time = (64 * scan.dwell_us + scan.flyback_us) * 1e-6
    rows = scan.series((256, 64), 0.018, 10, 1)[..., 32]
    rows = rows + np.random.default_rng(0).normal(0, 0.05, rows.shape)
    spectrum = temporal_spectrum(rows, np.full(rows.shape, 0.05**2), row_time_s=row_time)
    for axis in ("slow", "fast"):
        found = {
            round(line.frequency_hz, -1): line.rms_px * 18 for line in spectrum.lines if line.axis == axis
        }
        assert set(found) == {30.0, 120.0, 160.0}
        assert [found[f] for f in (30.0, 120.0, 160.0)] == pytest.approx([5.4, 4.4, 3.7], rel=0.2)
    named = [line.mains for line in spectrum.lines if round(line.frequency_hz, -1) == 120.0]
    assert all("120 Hz" in mains for mains in named)


def registered(seed, error=0.0, **options):
    p = simulate.phantom("p1", seed=seed, shape=(128, 128), distortion="row", **options)
    frames = open_series(p.data)
    rows = p.displacement[..., 0] - p.displacement[..., 0].mean(axis=0)
    rows = rows + np.random.default_rng(seed).normal(0, 1, rows.shape) * error
    motion = RowMotion(rows, frames.shape, np.zeros(frames.n))
    return frames, motion, average(frames, motion, frames.usable)


@pytest.mark.parametrize("peak", [3.0, 30.0])
def test_the_true_displacement_keeps_the_width(peak):
    ratios, verdicts = [], []
    for seed in range(2):
        frames, motion, averaged = registered(seed, peak=peak)
        check, sharpness = check_sharpness(averaged.image, averaged.samples, frames, motion)
        ratios.append(sharpness.ratio)
        verdicts.append(check.holds)
        assert sharpness.width_px == pytest.approx(2.7, rel=0.12)
    assert np.mean(ratios) == pytest.approx(1, abs=0.01)
    assert all(verdicts)


def test_blur_and_over_fit_are_told_apart():
    frames, motion, averaged = registered(1)
    samples = averaged.samples
    blurred = gaussian_filter1d(averaged.image, 1.0, axis=1)
    check, sharpness = check_sharpness(blurred, samples, frames, motion)
    assert check.holds is False
    assert sharpness.ratio == pytest.approx(math.sqrt(1 + 1 / 2.708**2), abs=0.01)
    sharpened = averaged.image - 0.3 * np.gradient(np.gradient(averaged.image, axis=1), axis=1)
    check, sharpness = check_sharpness(sharpened, samples, frames, motion)
    assert check.holds is False
    assert sharpness.ratio == pytest.approx(math.sqrt(1 - 0.6 / 2.708**2), abs=0.015)
    assert "narrower" in str(check)


def test_misregistered_rows_are_wider():
    frames, motion, averaged = registered(2, error=0.8)
    check, sharpness = check_sharpness(averaged.image, averaged.samples, frames, motion)
    assert check.holds is False
    assert sharpness.ratio > 1.02


def test_sharpness_does_not_mind_background_vacuum_and_turns():
    p = simulate.phantom("p1", seed=3, shape=(128, 128), distortion="row", background=0.5)
    slope = 30 * np.linspace(0, 1, 128)[:, None] * np.ones(128)
    data = p.data + np.random.default_rng(0).poisson(slope, p.data.shape)
    data[:, :, :30] = np.random.default_rng(1).poisson(0.5, data[:, :, :30].shape)
    frames = open_series(data)
    rows = p.displacement[..., 0] - p.displacement[..., 0].mean(axis=0)
    motion = RowMotion(rows, frames.shape, np.zeros(frames.n))
    averaged = average(frames, motion, frames.usable)
    assert check_sharpness(averaged.image, averaged.samples, frames, motion)[0].holds
    oblique = RowMotion(rows, frames.shape, np.full(frames.n, 45.0))
    assert check_sharpness(averaged.image, averaged.samples, frames, oblique)[0].holds is None


def test_sharpness_of_noise_alone_is_not_measured():
    noise = np.random.default_rng(0).normal(0, 1, (4, 64, 64))
    raw = [fast_autocovariance(frame) for frame in noise]
    assert compare_sharpness(fast_autocovariance(noise.mean(axis=0)), raw)[0].holds in (None, True)
    assert compare_sharpness(np.zeros(26), np.zeros((4, 26)))[0].holds is None
    assert compare_sharpness(np.ones(26), np.ones((1, 26)))[0].holds is None


def test_enough_frames():
    rows = RowDistortion().series((128, 2), 10, 0)[..., 0]
    floor = common_mode_floor(rows, np.zeros_like(rows))
    check = check_floor(floor, 0.03, 2.7)
    assert check.holds is False
    assert check.statistic == pytest.approx(np.hypot(*floor.position_sd(2.7)) / math.sqrt(2) / 0.03)
    assert check_floor(floor, 1.0, 2.7).holds


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_unchanged(np.ones((8, 8)), np.ones((8, 9))), "two maps"),
        (lambda: check_unchanged(np.ones((8, 8)), np.ones((8, 8)), counts=np.ones(3)), "equal shapes"),
        (lambda: check_independent(np.ones((4, 3, 8))), "frame, 2, y"),
        (lambda: check_independent(np.full((4, 2, 8), np.nan)), "finite"),
        (lambda: temporal_spectrum(np.ones((4, 2, 8)), np.ones((4, 2, 8))), "32 rows"),
        (
            lambda: temporal_spectrum(np.ones((4, 2, 64)), np.ones((4, 2, 64)), row_time_s=0.0),
            "positive time",
        ),
        (lambda: fast_autocovariance(np.ones(8)), "values"),
        (lambda: fast_autocovariance(np.full((8, 8), np.nan)), "finite"),
        (lambda: compare_sharpness(np.ones(4), np.ones((3, 4))), "12 lags"),
        (lambda: check_floor(common_mode_floor(np.zeros((4, 2, 32)), np.zeros((4, 2, 32))), 0.0), "positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(DataError, match=message):
        call()
