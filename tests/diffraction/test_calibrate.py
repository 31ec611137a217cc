"""Calibration: angle per pixel, ellipse, bad pixels, keeping and applying it, bad input."""

import json

import hyperspy.api as hs
import numpy as np
import pytest
from tests.diffraction import geometry_phantoms as phantoms

from fairstem import simulate
from fairstem.diffraction import Calibration, calibrate
from fairstem.errors import CalibrationError, DataError, DataTypeError
from fairstem.signals import open_data
from fairstem.signals.electrons import wavelength_nm
from fairstem.signals.provenance import steps_of

SEMIANGLE = 20.0
# the phantom's discs are 0.8 R = 14.4 px apart
LATTICE = 1e3 * wavelength_nm(200) / (SEMIANGLE * 0.8)


@pytest.fixture(scope="module")
def scan():
    return phantoms.scan((6, 6), dose=1e4, seed=1)


@pytest.fixture(scope="module")
def calibration(scan):
    return calibrate(scan, semiangle_mrad=SEMIANGLE)


def test_scale_from_the_semiangle(calibration):
    assert calibration.mrad_per_px == pytest.approx(SEMIANGLE / 18, rel=0.005)
    assert abs(calibration.radius_px - 18) < 0.08
    assert calibration.ellipse == pytest.approx(np.eye(2))
    assert calibration.hot_pixels is None
    assert all(check.holds for check in calibration.priors)


def test_scale_from_the_lattice_and_comparison(scan):
    by_lattice = calibrate(scan, lattice_nm=LATTICE, energy_kev=200)
    assert by_lattice.mrad_per_px == pytest.approx(SEMIANGLE / 18, abs=4 * by_lattice.mrad_per_px_sd)
    assert by_lattice.mrad_per_px_sd < 0.02 * by_lattice.mrad_per_px
    assert by_lattice.semiangle_mrad == pytest.approx(SEMIANGLE, rel=0.03)
    both = calibrate(scan, SEMIANGLE, LATTICE, 200)
    assert {p.name: p.holds for p in both.priors}["semiangle-agrees"]
    with pytest.raises(CalibrationError, match=r"gives .* mrad/px, lattice_nm"):
        calibrate(scan, 2 * SEMIANGLE, LATTICE, 200)


@pytest.mark.parametrize("blur", [0.12, 0.3])
def test_radius_of_discs_on_square_pixels(blur):
    rng = np.random.default_rng(4)
    fine = 8
    errors, stated = [], []
    for _ in range(6):
        at = 20 + rng.uniform(-1, 1, 2)
        k = np.indices((41 * fine, 41 * fine)) / fine - 0.5 + 0.5 / fine - at[:, None, None]
        one = phantoms.disc(k, 12, blur).reshape(41, fine, 41, fine).mean(axis=(1, 3))
        found = calibrate(rng.poisson(2e4 * (one + 0.01), (3, 3, 41, 41)), SEMIANGLE)
        errors.append(found.mrad_per_px / (SEMIANGLE / 12) - 1)
        stated.append(found.mrad_per_px_sd / found.mrad_per_px)
    assert np.abs(np.mean(errors)) < 1e-4
    assert np.abs(errors).max() < 3 * np.min(stated)


def test_no_semiangle_no_scale(scan):
    found = calibrate(scan)
    assert found.mrad_per_px is None
    signal = hs.signals.Signal2D(scan)
    with pytest.raises(CalibrationError, match="without mrad_per_px"):
        found.apply(signal)


def test_ellipse_with_error_bar():
    p, q = 0.02, -0.012
    found = calibrate(phantoms.scan((6, 6), dose=1e4, seed=2, ellipse=(p, q)), SEMIANGLE)
    np.testing.assert_allclose(found.ellipse, phantoms.expm(p, q), atol=4 * found.ellipse_sd)
    assert 0 < found.ellipse_sd < 0.005
    assert np.linalg.det(found.ellipse) == pytest.approx(1)


def test_hot_and_dead_pixels_but_no_spot(scan):
    rng = np.random.default_rng(0)
    broken = scan.copy()
    broken[:, :, 5, 9] += rng.poisson(20, (6, 6)).astype(np.uint16)
    broken[:, :, 30, 30] = 0
    spot = np.exp(-((np.arange(64)[:, None] - 55) ** 2 + (np.arange(64)[None, :] - 8) ** 2) / (2 * 0.8**2))
    broken += rng.poisson(40 * spot, broken.shape).astype(np.uint16)
    broken[2, 3, 50, 50] += 5000  # one X-ray
    found = calibrate(broken)
    assert np.argwhere(found.hot_pixels).tolist() == [[5, 9], [30, 30]]
    assert calibrate(broken, bad=False).hot_pixels is None


@pytest.mark.parametrize("side", [33, 65])
def test_clean_patterns_have_no_bad_pixels_but_broken_ones_do(side):
    made = simulate.thin_scan("SrTiO3", (4, 4), detector=(side, side), mrad_per_px=60 / side)
    counts = [np.random.default_rng(seed).poisson(1e5 * made.intensities) for seed in range(6)]
    assert [calibrate(one).hot_pixels for one in counts] == [None] * 6
    broken, hot = counts[0], [(0, side // 2), (2, 3)]
    broken[:, :, side // 2, side // 2 + 3] = 0
    for y, x in hot:
        broken[:, :, y, x] += np.random.default_rng(0).poisson(30, (4, 4))
    found = Calibration.from_dict(json.loads(json.dumps(calibrate(broken).to_dict())))
    assert list(map(tuple, np.argwhere(found.hot_pixels))) == [*hot, (side // 2, side // 2 + 3)]


def test_mask_is_part_of_what_can_not_be_used(scan):
    mask = np.ones((64, 64), bool)
    mask[:4] = False
    np.testing.assert_array_equal(calibrate(scan, mask=mask).hot_pixels, ~mask)


def test_apply_sets_axes_and_leaves_the_original(scan, calibration):
    signal = hs.signals.Signal2D(scan)
    before = signal.axes_manager.as_dictionary()
    out = calibration.apply(signal)
    assert signal.axes_manager.as_dictionary() == before
    axes = open_data(out).axes
    for axis, at in zip(axes[-2:], calibration.center, strict=True):
        assert axis.units == "mrad"
        assert axis.offset + axis.scale * at == pytest.approx(0, abs=1e-9)
    step = steps_of(out)[-1]
    assert step["function"].endswith("Calibration.apply")
    stored = Calibration.from_dict(step["parameters"]["calibration"])
    assert stored.center == pytest.approx(calibration.center)
    lazy = calibration.apply(signal.as_lazy())
    assert lazy._lazy
    with pytest.raises(DataTypeError, match="no axes"):
        calibration.apply(scan)


def test_stored_and_read(scan):
    broken = scan.copy()
    broken[:, :, 30, 30] = 0
    found = calibrate(broken, SEMIANGLE)
    again = Calibration.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    np.testing.assert_array_equal(again.hot_pixels, found.hot_pixels)
    with pytest.raises(DataError, match="stored calibration"):
        Calibration.from_dict({"centre": [1, 2]})
    with pytest.raises(DataError, match="stored calibration"):
        Calibration.from_dict({"center": "here"})


def test_bad_input(scan):
    with pytest.raises(CalibrationError, match="semiangle_mrad"):
        calibrate(scan, -3)
    with pytest.raises(CalibrationError, match="lattice_nm"):
        calibrate(scan, lattice_nm=0, energy_kev=200)
    with pytest.raises(CalibrationError, match="energy"):
        calibrate(scan, lattice_nm=0.39)
    with pytest.raises(DataError, match="no electrons"):
        calibrate(np.zeros((3, 3, 16, 16)))
    with pytest.raises(DataError, match="saturated"):
        calibrate(np.full((3, 3, 16, 16), 255, np.uint8))
    single = phantoms.disc(np.indices((40, 40)) - 19.5, 9) * 50
    with pytest.raises(CalibrationError, match="no lattice"):
        calibrate(np.random.default_rng(0).poisson(single, (4, 4, 40, 40)), lattice_nm=0.4, energy_kev=200)


def test_saturation_is_said(scan):
    cut = np.minimum(scan.astype(int) * 20, 255).astype(np.uint8)
    assert {p.name: p.holds for p in calibrate(cut).priors}["not-saturated"] is False


def test_single_pattern_and_non_square():
    one = phantoms.scan((1, 1), dose=1e6, detector=(56, 80), center=(27.2, 40.9), seed=0)[0, 0]
    found = calibrate(one, SEMIANGLE)
    assert found.center == pytest.approx((27.2, 40.9), abs=0.12)
    assert found.mrad_per_px == pytest.approx(SEMIANGLE / 18, rel=0.01)


def test_descan_is_only_what_is_significant():
    still = [calibrate(phantoms.scan((12, 12), dose=3000, seed=seed)) for seed in range(4)]
    assert sum(bool(one.descan.any()) for one in still) <= 1
    assert all(np.all(one.descan_sd > 0) for one in still)
    truth = ((0.1, 0.0), (0.0, 0.1))
    moved = calibrate(phantoms.scan((12, 12), dose=3000, descan=truth, seed=1))
    np.testing.assert_allclose(moved.descan, truth, atol=0.04)


def test_a_counter_of_few_bits_is_seen_to_saturate():
    bright = phantoms.scan((4, 4), dose=1e5, seed=1)
    assert bright.max() > 70

    def check(data):
        return next(p for p in calibrate(data).priors if p.name == "not-saturated")

    assert check(bright).holds
    assert not check(np.minimum(bright, np.uint16(63))).holds  # a counter of 6 bits
