"""Deflections against shifts and fields that are known."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from tests.diffraction.scans import moving_disc

from fairstem.diffraction import Calibration, CenterOfMass, ScanRotation, com, dpc
from fairstem.errors import CalibrationError, DataError, DataTypeError, DataWarning
from fairstem.signals.electrons import wavelength_nm


def shifts(shape=(9, 10), seed=0, size=0.5):
    return size * np.random.default_rng(seed).standard_normal((2, *shape))


def field(shape=(48, 56), period=12.0):
    """A potential of atoms on a lattice and its gradient (y, x), per px."""
    y, x = np.indices(shape) * 2 * np.pi / period
    phi = np.exp(np.cos(y) + np.cos(x)) / 4
    return phi, -np.sin(y) * phi * 2 * np.pi / period, -np.sin(x) * phi * 2 * np.pi / period


def laplacian(shape=(48, 56), period=12.0):
    y, x = np.indices(shape) * 2 * np.pi / period
    bend = np.sin(y) ** 2 - np.cos(y) + np.sin(x) ** 2 - np.cos(x)
    return bend * field(shape, period)[0] * (2 * np.pi / period) ** 2


def deflection(y, x, **other):
    values = {"sd_y": None, "sd_x": None, "cov_yx": None, "electrons": np.ones(y.shape), "unit": "px"} | other
    return CenterOfMass(y, x, valid=np.ones(y.shape, bool), **values)


def test_shifts_of_a_disc_come_back_exactly():
    dy, dx = shifts()
    found = com(moving_disc(dy, dx, radius=6, edge=0.9), noise=None)
    np.testing.assert_allclose([found.y, found.x], [dy, dx], atol=2e-3)
    assert found.unit == "px"
    assert found.sd_y is None
    assert found.valid.all()
    np.testing.assert_allclose(found.magnitude, np.hypot(found.y, found.x))
    np.testing.assert_allclose(np.cos(found.angle) * found.magnitude, found.x, atol=1e-12)


@pytest.mark.parametrize("mask", [None, (0, 12)])
def test_standard_errors_cover_the_truth(mask):
    rng = np.random.default_rng(3)
    dy, dx = shifts((40, 40), size=0.2)
    found = com(moving_disc(dy, dx, dose=300, rng=rng), mask, unit="px")
    pulls = np.stack([(found.y - dy) / found.sd_y, (found.x - dx) / found.sd_x])
    assert abs(pulls.mean()) < 0.05
    assert pulls.std() == pytest.approx(1, abs=0.04)
    assert found.electrons.mean() == pytest.approx(300, rel=0.01)


def test_error_of_a_gain_is_that_of_the_electrons():
    counts = moving_disc(*shifts(), dose=200, rng=np.random.default_rng(1))
    plain, scaled = com(counts), com(counts * 7.0, gain=7.0)
    np.testing.assert_allclose(scaled.sd_y, plain.sd_y)
    np.testing.assert_allclose(scaled.y, plain.y, atol=1e-12)
    np.testing.assert_allclose(scaled.electrons, plain.electrons)


def test_averages_need_a_gain_or_no_noise():
    averages = moving_disc(*shifts(), dose=2000, rng=np.random.default_rng(1)) / 16
    with pytest.raises(DataError, match="gain"):
        com(averages)
    assert com(averages, noise=None).sd_x is None


def test_ellipse_descan_and_scale_are_applied():
    matrix = np.array([[1.05, 0.04], [0.04, 0.954]])
    matrix /= np.sqrt(np.linalg.det(matrix))
    geometry = Calibration(
        (15.0, 16.0), descan=np.array([[0.1, 0.05], [-0.03, 0.08]]), ellipse=matrix, mrad_per_px=2.5
    )
    dy, dx = shifts((6, 7))
    centers = geometry.centers((6, 7)) - 15.5
    scan = moving_disc(dy + centers[0], dx + centers[1], radius=6, edge=0.9)
    found = com(scan, calibration=geometry, noise=None)
    np.testing.assert_allclose([found.y, found.x], 2.5 * np.tensordot(matrix, [dy, dx], 1), atol=0.02)
    assert found.unit == "mrad"
    followed = com(scan, (0, 34), calibration=geometry, noise=None)
    np.testing.assert_allclose([followed.y, followed.x], [found.y, found.x], atol=0.03)


@pytest.mark.parametrize("chunks", [(3, 4, 32, 32), (1, 10, 9, 32), ((2, 7), (9, 1), (32,), (12, 20))])
@pytest.mark.parametrize("mask", [None, (0, 9.5)])
def test_lazy_equals_eager(chunks, mask):
    scan = moving_disc(*shifts(), dose=200, rng=np.random.default_rng(1)).astype("uint8")
    geometry = Calibration((15.5, 15.5), descan=0.1 * np.eye(2))
    eager = com(scan, mask, unit="px", calibration=geometry)
    lazy = com(da.from_array(scan, chunks=chunks), mask, unit="px", calibration=geometry)
    for name in ("y", "x", "sd_y", "sd_x", "cov_yx", "electrons"):
        np.testing.assert_array_equal(getattr(lazy, name), getattr(eager, name))


def test_empty_and_broken_patterns_are_marked():
    scan = moving_disc(*shifts(), dose=300, rng=np.random.default_rng(1)).astype(float)
    scan[1, 2] = 0
    scan[3, 4, 5, 6] = np.nan
    scan[0, 0] = 0
    scan[0, 0, 20, 15] = 1  # one electron: a place, and no idea of the spread
    with pytest.warns(DataWarning, match="2 of 90 patterns have no electrons"):
        found = com(scan)
    for at in ((1, 2), (3, 4)):
        assert not found.valid[at]
        assert (found.y[at], found.x[at], found.electrons[at]) == (0, 0, 0)
        assert found.sd_y[at] == found.sd_x[at] == np.inf
    assert found.valid[0, 0]
    assert found.y[0, 0] == 4.5
    assert found.sd_y[0, 0] == np.inf
    for name in ("y", "x", "sd_y", "sd_x", "cov_yx", "electrons"):
        assert not np.isnan(getattr(found, name)).any()
    turned = found.aligned(30.0)
    assert turned.sd_y[1, 2] == np.inf
    assert not np.isnan(turned.sd_y).any()


def test_hot_pixels_do_not_pull():
    dy, dx = shifts()
    scan = moving_disc(dy, dx, radius=6, edge=0.9)
    hot = np.zeros((32, 32), bool)
    hot[3, 28] = hot[16, 13] = True
    scan[..., hot] = 1e5
    found = com(scan, calibration=Calibration((15.5, 15.5), hot_pixels=hot), noise=None)
    np.testing.assert_allclose([found.y, found.x], [dy, dx], atol=5e-3)


@pytest.mark.parametrize("angle", [-170.0, -100.0, 0.0, 37.0, 90.0, 178.0])
@pytest.mark.parametrize("flipped", [False, True])
def test_rotation_and_mirror_are_found(angle, flipped):
    _, gy, gx = field()
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    y, x = c * gy - s * gx, s * gy + c * gx  # the turn undone
    rotation = deflection(-y if flipped else y, x).rotation()
    assert rotation.flipped is flipped
    assert (rotation.angle_deg - angle + 180) % 360 - 180 == pytest.approx(0, abs=0.2)
    assert rotation.curl < 1e-3
    assert rotation.curl_other > 0.3
    assert all(check.holds for check in rotation.priors)
    aligned = deflection(-y if flipped else y, x).aligned(rotation)
    np.testing.assert_allclose([aligned.y, aligned.x], [gy, gx], atol=0.01 * np.abs(gy).max())


def test_error_of_the_rotation_covers_the_truth():
    _, gy, gx = field()
    pulls = []
    for seed in range(24):
        noise = 0.25 * np.random.default_rng(seed).standard_normal((2, *gy.shape))
        sd = np.full(gy.shape, 0.25)
        found = deflection(gy + noise[0], gx + noise[1], sd_y=sd, sd_x=sd, cov_yx=0 * sd).rotation()
        pulls.append(found.angle_deg / found.sd_deg)
        assert not found.flipped
        assert found.curl < 0.2
    assert 0.6 < np.std(pulls) < 1.5
    assert abs(np.mean(pulls)) < 1


def test_noise_alone_supports_no_rotation():
    noise = np.random.default_rng(0).standard_normal((2, 40, 40))
    found = deflection(*noise).rotation()
    assert not all(check.holds for check in found.priors)


def test_turned_errors_are_those_of_turned_noise():
    scan = moving_disc(*shifts((30, 30), size=0), dose=100, rng=np.random.default_rng(5))
    scan[..., :16, :16] //= 2  # makes the errors of y and x unlike and correlated
    found = com(scan).aligned(25.0, flipped=True)
    assert found.sd_y.mean() == pytest.approx(found.y.std(), rel=0.06)
    assert found.sd_x.mean() == pytest.approx(found.x.std(), rel=0.06)
    assert found.cov_yx.mean() == pytest.approx(np.cov(found.y.ravel(), found.x.ravel())[0, 1], abs=0.01)


def test_integral_of_a_gradient_is_the_map():
    phi, gy, gx = field()
    found = deflection(gy / 0.5, gx / 0.25, pixel_size_nm=(0.5, 0.25)).integrated()
    assert np.corrcoef(found.ravel(), phi.ravel())[0, 1] > 0.999
    inside = (slice(4, -4), slice(4, -4))
    error = found - phi
    assert error[inside].std() < 0.01 * phi.std()


def test_phase_and_charge_follow_from_physics():
    """A phase φ deflects by λ/2π ∇φ; Gauss's law turns the same potential into its charge."""
    energy, step = 200.0, (0.02, 0.02)
    phase, gy, gx = field(period=28)
    to_mrad = 1e3 * wavelength_nm(energy) / (2 * np.pi)
    found = deflection(
        to_mrad * gy / 0.02, to_mrad * gx / 0.02, unit="mrad", pixel_size_nm=step, energy_kev=energy
    )
    inside = (slice(4, -4), slice(4, -4))
    error = (found.phase() - phase)[inside]
    assert error.std() < 0.01 * phase.std()
    interaction = 0.00728840  # rad / (V nm) at 200 keV
    truth = -0.0552635 * laplacian(period=28) / 0.02**2 / interaction  # charges per nm², from volts
    charge = found.charge_density()
    np.testing.assert_allclose(charge[inside], truth[inside], atol=0.05 * np.abs(truth).max())
    assert charge[28, 28] > 0  # positive at an atom


def test_curl_and_divergence_of_known_fields():
    y, x = np.indices((6, 7)) * 1.0
    swirl = deflection(x, -y)
    np.testing.assert_allclose(swirl.curl, 2)
    np.testing.assert_allclose(swirl.divergence, 0)
    source = deflection(y, x, pixel_size_nm=(0.5, 0.5))
    np.testing.assert_allclose(source.divergence, 4)
    np.testing.assert_allclose(source.curl, 0)


def test_dpc_measures_shifts_of_a_disc():
    dy, dx = shifts(size=0.4)
    geometry = Calibration((15.5, 15.5), radius_px=8.0)
    found = dpc(moving_disc(dy, dx, edge=0.3), calibration=geometry, noise=None)
    np.testing.assert_allclose([found.y, found.x], [dy, dx], atol=0.04)
    ring = dpc(moving_disc(dy, dx, edge=0.3), (3, 13), unit="px", calibration=geometry, noise=None)
    np.testing.assert_allclose([ring.y, ring.x], [dy, dx], atol=0.1)


def test_errors_of_dpc_cover_the_truth():
    rng = np.random.default_rng(2)
    scan = moving_disc(np.zeros((30, 30)), np.zeros((30, 30)), dose=400, rng=rng)
    found = dpc(scan, calibration=Calibration((15.5, 15.5), radius_px=8.0))
    assert (found.y / found.sd_y).std() == pytest.approx(1, abs=0.06)
    assert (found.x / found.sd_x).std() == pytest.approx(1, abs=0.06)


def test_calibrated_signal_gives_mrad_and_nm():
    scan = moving_disc(*shifts((6, 7)), dose=500, rng=np.random.default_rng(1))
    s = hs.signals.Signal2D(scan)
    for axis in s.axes_manager.navigation_axes:
        axis.units, axis.scale = "nm", 0.05
    for axis in s.axes_manager.signal_axes:
        axis.units, axis.scale = "mrad", 1.5
    s.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    found = com(s)
    assert (found.unit, found.pixel_size_nm, found.energy_kev) == ("mrad", (0.05, 0.05), 200.0)
    np.testing.assert_allclose(found.y, 1.5 * com(scan).y)
    assert np.isfinite(found.phase()).all()


def test_bad_input_is_named():
    scan = moving_disc(*shifts((4, 5)), dose=300, rng=np.random.default_rng(0))
    with pytest.raises(DataError, match=r"shape \(5, 5\)"):
        com(scan, np.ones((5, 5), bool))
    with pytest.raises(DataError, match="empty detector"):
        com(scan, np.zeros((32, 32), bool))
    with pytest.raises(CalibrationError, match="angle per pixel"):
        com(scan, unit="mrad")
    with pytest.raises(DataError, match="'mrad' or 'px'"):
        com(scan, unit="rad")
    with pytest.raises(DataError, match="noise='gauss'"):
        com(scan, noise="gauss")
    with pytest.raises(DataError, match="gain=-1"):
        com(scan, gain=-1)
    with pytest.raises(CalibrationError, match="outside the detector"):
        com(scan, center=(40, 0))
    with pytest.raises(DataTypeError, match="complex"):
        com(scan * 1j)
    with pytest.raises(DataError, match="5 axes"):
        com(scan[None])
    with pytest.raises(CalibrationError, match="semi-angle"):
        dpc(scan)
    with pytest.raises(DataError, match="disc's edge"):
        dpc(scan, (0, 5), unit="px", calibration=Calibration((15.5, 15.5), radius_px=8.0))
    with pytest.raises(CalibrationError, match="pixel size of the scan"):
        com(scan).phase()
    with pytest.raises(DataError, match="3 × 3"):
        _ = com(scan[0]).curl
    with pytest.raises(DataError, match="3 × 3"):
        com(scan[:2]).rotation()


def test_rotation_is_a_plain_result():
    _, gy, gx = field()
    assert isinstance(deflection(gy, gx).rotation(), ScanRotation)
