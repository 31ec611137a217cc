"""Scan distortion: a function of time, of the stated size, continuous over frames."""

import math

import numpy as np
import pytest
from scipy.optimize import least_squares

from fairstem.errors import DataError
from fairstem.simulate import RowDistortion, ScanDistortion, phantom, recorded_positions

STILL = {
    "walk_pm": 0.0, "drift_pm_per_s": 0.0, "lines_hz": (), "lines_pm": (), "jitter_pm": (0.0, 0.0),
    "flyback_pm": 0.0, "scale_y": 0.0, "scale_x": 0.0, "shear_deg": 0.0,
}  # fmt: skip


def only(**parts):
    return ScanDistortion(**{**STILL, **parts})


def test_no_distortion_is_zero():
    assert np.abs(only().displacement((32, 40), 0.02)).max() < 1e-12


def test_vibration_lines_have_their_rms_and_frequency():
    scan = only(lines_hz=(60.0,), lines_pm=(5.0,), flyback_us=0.0)
    u = scan.displacement((128, 256), 0.001, rng=1)  # 1 pm per px
    assert np.sqrt((u**2).mean(axis=(1, 2))) == pytest.approx([5.0, 5.0], rel=0.05)
    signal = u[1].ravel()  # without flyback, pixel order is time order
    power = np.abs(np.fft.rfft(signal * np.hanning(signal.size))) ** 2
    assert np.fft.rfftfreq(signal.size, 16e-6)[power.argmax()] == pytest.approx(60.0, abs=2.0)


def test_drift_has_its_speed_and_runs_on_over_frames():
    scan = only(drift_pm_per_s=17.0)
    u = scan.series((64, 64), 0.001, 3, rng=2)
    period = scan.frame_time_s((64, 64))
    step = u[1, :, 0, 0] - u[0, :, 0, 0]
    assert math.hypot(*step) == pytest.approx(17.0 * period)
    # the last pixel of a frame and the first of the next are one flyback apart
    gap = u[1, :, 0, 0] - u[0, :, -1, -1]
    assert math.hypot(*gap) == pytest.approx(17.0 * (scan.flyback_us + scan.dwell_us) * 1e-6)


def test_slow_walk_has_its_rms_over_many_seeds():
    scan = only(walk_pm=20.0)
    u = np.array([scan.displacement((8, 8), 0.001, rng=seed)[:, 0, 0] for seed in range(400)])
    assert np.sqrt((u**2).mean()) == pytest.approx(20.0, rel=0.1)
    within = scan.displacement((256, 256), 0.001, rng=3)
    assert np.abs(np.diff(within[0, :, 0])).max() < 1.0  # slow: less than 1 pm from row to row


def test_row_jitter_is_new_in_each_row_and_frame():
    u = only(jitter_pm=(1.0, 4.0)).series((400, 8), 0.001, 2, rng=4)
    np.testing.assert_allclose(u, np.broadcast_to(u[..., :1], u.shape), atol=1e-9)
    assert u[0].std(axis=(1, 2)) == pytest.approx([1.0, 4.0], rel=0.15)
    assert abs(np.corrcoef(u[0, 1, :, 0], u[1, 1, :, 0])[0, 1]) < 0.2
    assert abs(np.corrcoef(u[0, 1, 1:, 0], u[0, 1, :-1, 0])[0, 1]) < 0.2


def test_flyback_is_over_after_a_few_pixels_of_each_row():
    u = only(flyback_pm=30.0).displacement((4, 32), 0.001)
    assert u[1, :, 0] == pytest.approx([30.0] * 4)
    assert np.abs(u[1, :, 8:]).max() < 0.1
    assert np.abs(u[0]).max() < 1e-9


def test_scan_error_and_shear_are_affine_about_the_middle():
    u = only(scale_y=0.03, scale_x=0.01, shear_deg=1.0).displacement((65, 65), 0.02)
    y, x = np.mgrid[-32:33, -32:33]
    np.testing.assert_allclose(u[0], 0.03 * y, atol=1e-9)
    np.testing.assert_allclose(u[1], 0.01 * x + math.tan(math.radians(1.0)) * y, atol=1e-9)


def test_rotated_scan_samples_rotated_positions():
    u = only(rotation_deg=90.0).displacement((33, 33), 0.02)
    y, x = np.mgrid[-16:17, -16:17]
    # +x of the scan lies along +y of the object
    np.testing.assert_allclose(y + u[0], x, atol=1e-9)
    np.testing.assert_allclose(x + u[1], -y, atol=1e-9)


def test_frames_of_a_series_are_those_asked_for_one_by_one_and_seeds_differ():
    scan = ScanDistortion()
    series = scan.series((16, 16), 0.018, 3, rng=5)
    np.testing.assert_array_equal(series[2], scan.displacement((16, 16), 0.018, 2, 5))
    assert np.abs(series[0] - scan.displacement((16, 16), 0.018, 0, 6)).max() > 1e-3
    rng = np.random.default_rng(0)
    assert (
        np.abs(scan.displacement((16, 16), 0.018, 0, rng) - scan.displacement((16, 16), 0.018, 0, rng)).max()
        > 0
    )
    pair = scan.series((16, 16), 0.018, 2, rng=5, rotations_deg=(0.0, 90.0))
    np.testing.assert_array_equal(pair[0], series[0])


def test_row_distortion_has_the_stated_parts():
    waves = RowDistortion(drift_px=0.0, jitter_px=(0.0, 0.0)).series((256, 4), 50, rng=1)
    assert np.sqrt((waves**2).mean()) == pytest.approx(0.5, rel=0.1)
    jitter = RowDistortion(drift_px=0.0, wave_px=0.0).series((256, 4), 20, rng=1)
    assert jitter.std(axis=(0, 2, 3)) == pytest.approx([0.075, 0.25], rel=0.05)
    drift = RowDistortion(wave_px=0.0, jitter_px=(0.0, 0.0)).series((256, 4), 200, rng=1)
    velocity = drift[:, :, -1, 0] - drift[:, :, 0, 0]
    assert velocity.std() == pytest.approx(255 / 256, rel=0.1)
    # it runs on: frames start where the last one ended
    np.testing.assert_allclose(drift[1:, :, 0, 0] - drift[:-1, :, -1, 0], velocity[:-1] / 255, atol=1e-9)


def test_recorded_positions_are_what_a_poisson_fit_finds():
    p = phantom("drifted", seed=3, background=0.01)
    truth = p.truth
    inside = truth["y"].between(30, 225) & truth["x"].between(30, 225) & (truth["species"] == "Sr")
    assert np.hypot(truth["y"] - truth["y_object"], truth["x"] - truth["x_object"])[inside].max() > 1
    for row in truth[inside].sample(8, random_state=0).itertuples():
        top, left = round(row.y) - 6, round(row.x) - 6
        patch = p.clean[top : top + 13, left : left + 13]
        y, x = np.mgrid[top : top + 13, left : left + 13]

        def deviance(q, y=y, x=x, c=patch):
            m = q[2] * np.exp(-((y - q[0]) ** 2 + (x - q[1]) ** 2) / (2 * q[3] ** 2)) + 0.3
            return (np.sign(m - c) * np.sqrt(2 * np.maximum(m - c + c * np.log(c / m), 0))).ravel()

        fit = least_squares(deviance, [row.y, row.x, row.height, row.width]).x
        assert math.hypot(fit[0] - row.y, fit[1] - row.x) < 0.06, row


def test_recorded_positions_invert_a_smooth_field_exactly():
    field = only(scale_y=0.03, scale_x=0.01, shear_deg=1.0).displacement((65, 65), 0.02)
    objects = np.array([[20.0, 30.0], [40.0, 25.5]])
    apparent = recorded_positions(objects, np.array([2.0, 2.0]), field)
    y, x = (apparent - 32).T
    back = np.stack([y * 1.03, x * 1.01 + math.tan(math.radians(1.0)) * y], axis=1) + 32
    np.testing.assert_allclose(back, objects, atol=2e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ScanDistortion(lines_hz=(1.0,), lines_pm=()), "lines_hz"),
        (lambda: ScanDistortion(dwell_us=0.0), "time"),
        (lambda: ScanDistortion().displacement((0, 5), 0.02), "shape"),
        (lambda: ScanDistortion().displacement((5, 5), -1.0), "pixel_size_nm"),
        (lambda: ScanDistortion().series((5, 5), 0.02, 0), "0 frames"),
        (lambda: ScanDistortion().series((5, 5), 0.02, 2, rotations_deg=(0.0,)), "1 rotations"),
        (lambda: RowDistortion().series((5, 5), 0), "0 frames"),
        (lambda: recorded_positions(np.ones((2, 2)), np.ones(3), np.ones((2, 5, 5))), "widths"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
