"""The geometry of a detector: centres over the scan, round offsets, and what joins what."""

import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.diffraction import Calibration
from fairstem.diffraction._geometry import detector_offsets, geometry_of
from fairstem.diffraction._scan import open_scan
from fairstem.errors import CalibrationError, DataError

SCAN = open_scan(np.zeros((3, 4, 10, 12)))


def test_descan_moves_the_centre_about_the_middle_of_the_scan():
    geometry = Calibration((4.0, 5.0), descan=np.array([[0.1, 0.2], [-0.3, 0.4]]))
    centers = geometry.centers((3, 5))
    assert centers.shape == (2, 3, 5)
    np.testing.assert_allclose(centers[:, 1, 2], (4, 5))
    np.testing.assert_allclose(centers[:, 2, 4] - centers[:, 1, 2], (0.1 + 0.4, -0.3 + 0.8))
    np.testing.assert_allclose(centers.mean((1, 2)), (4, 5))
    np.testing.assert_allclose(
        geometry.centers((5,)), [4 + 0.2 * np.arange(-2, 3), 5 + 0.4 * np.arange(-2, 3)]
    )
    np.testing.assert_allclose(geometry.centers(()), (4, 5))


def test_offsets_are_zero_at_the_centre_and_round_with_the_ellipse():
    flat = detector_offsets((10, 12), (4.5, 5.0))
    assert flat.shape == (2, 10, 12)
    np.testing.assert_allclose(flat[:, 4, 5], (-0.5, 0))
    np.testing.assert_allclose(flat[:, 9, 11], (4.5, 6))
    matrix = np.array([[2.0, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(
        Calibration((4.5, 5.0), ellipse=matrix).offsets((10, 12)), [2 * flat[0], flat[1] / 2]
    )


def test_what_the_caller_gives_overrides_the_calibration_and_that_the_axes():
    known = Calibration((4.0, 5.0), mrad_per_px=2.0, radius_px=3.0)
    assert geometry_of(SCAN).center == (4.5, 5.5)
    assert geometry_of(SCAN).mrad_per_px is None
    assert geometry_of(SCAN, calibration=known).center == (4.0, 5.0)
    joined = geometry_of(SCAN, (1, 2), known, 3.0)
    assert (joined.center, joined.mrad_per_px, joined.radius_px) == ((1.0, 2.0), 3.0, 3.0)


def test_oblong_pixels_are_an_ellipse_of_determinant_one():
    s = hs.signals.Signal2D(np.zeros((2, 2, 10, 12)))
    x, y = s.axes_manager.signal_axes
    (y.units, y.scale, y.offset), (x.units, x.scale, x.offset) = ("mrad", 1.0, -4.0), ("mrad", 4.0, -20.0)
    geometry = geometry_of(open_scan(s))
    assert np.linalg.det(geometry.ellipse) == pytest.approx(1)
    offsets = geometry.mrad_per_px * geometry.offsets((10, 12))
    np.testing.assert_allclose(offsets[:, 9, 11], (5.0, 24.0))
    np.testing.assert_allclose(offsets[:, 4, 5], 0, atol=1e-12)


@pytest.mark.parametrize("center", [(-0.1, 3), (3, 11.5), (10, 3)])
def test_centres_outside_are_named(center):
    with pytest.raises(CalibrationError, match="outside the detector"):
        geometry_of(SCAN, center)


@pytest.mark.parametrize("center", [3, (1, 2, 3), "ab", (np.nan, 1), (1, np.inf), (None, 2)])
def test_what_is_no_centre_is_named(center):
    with pytest.raises(CalibrationError, match="pair"):
        geometry_of(SCAN, center)


@pytest.mark.parametrize("angle", [0, -1, np.nan, np.inf])
def test_impossible_angles_are_named(angle):
    with pytest.raises(CalibrationError, match="mrad_per_px"):
        geometry_of(SCAN, mrad_per_px=angle)


def test_a_calibration_of_another_detector_is_named():
    with pytest.raises(DataError, match=r"\(12, 10\)"):
        geometry_of(SCAN, calibration=Calibration((4, 5), hot_pixels=np.zeros((12, 10), bool)))
