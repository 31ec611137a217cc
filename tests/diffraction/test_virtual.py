"""Virtual images against areas and sums that are known."""

import warnings

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from tests.diffraction.scans import moving_disc

from fairstem.diffraction import Calibration, virtual_image, virtual_images
from fairstem.diffraction._sums.detectors import bad_pixels_shared, ring
from fairstem.errors import CalibrationError, DataError, DataTypeError, DataWarning


@pytest.fixture(scope="module")
def scan():
    return np.random.default_rng(0).poisson(2.0, (5, 6, 20, 24)).astype("uint16")


def signal_of(scan, units="mrad", scale=0.5):
    s = hs.signals.Signal2D(scan)
    for axis, name in zip(s.axes_manager.navigation_axes, "xy", strict=True):
        axis.name, axis.units, axis.scale = name, "nm", 0.02
    for axis in s.axes_manager.signal_axes:
        axis.units, axis.scale = units, scale
        axis.offset = -(axis.size - 1) / 2 * scale
    return s


@pytest.mark.parametrize("radius", [3.0, 5.5, 11.0])
@pytest.mark.parametrize("center", [(15.5, 15.5), (15.2, 16.37)])
def test_area_of_a_disc_is_that_of_the_circle(radius, center):
    assert ring((32, 32), np.array(center), np.eye(2), 0.0, radius).sum() == pytest.approx(
        np.pi * radius**2, rel=1e-3
    )


def test_edges_agree_with_fine_sampling_of_an_ellipse():
    matrix = np.array([[1.1, 0.05], [0.02, 0.95]])
    center, fine = np.array([15.2, 15.9]), 40
    grid = (np.arange(32 * fine) + 0.5) / fine - 0.5
    offsets = np.stack(np.meshgrid(grid - center[0], grid - center[1], indexing="ij"))
    rho = np.hypot(*np.tensordot(matrix, offsets, axes=1))
    truth = ((rho > 4) & (rho <= 11)).reshape(32, fine, 32, fine).mean((1, 3))
    assert np.abs(ring((32, 32), center, matrix, 4.0, 11.0) - truth).max() < 0.02


def test_rings_that_touch_share_every_electron(scan):
    images = virtual_images(scan, {"a": (0, 4.3), "b": (4.3, 8), "c": (8, np.inf)}, unit="px")
    np.testing.assert_allclose(sum(images.values()), scan.sum((2, 3)), rtol=1e-12)


def test_mask_is_an_exact_sum(scan):
    mask = np.random.default_rng(1).random((20, 24)) > 0.5
    np.testing.assert_array_equal(virtual_image(scan, mask), scan[..., mask].sum(-1))
    weights = np.random.default_rng(2).random((20, 24))
    np.testing.assert_allclose(virtual_image(scan, weights), (scan * weights).sum((2, 3)))


@pytest.mark.parametrize("chunks", [(2, 3, 20, 24), (1, 6, 7, 24), ((1, 4), (5, 1), (20,), (10, 14))])
@pytest.mark.parametrize("descan", [0.0, 0.3])
def test_lazy_equals_eager_to_the_last_bit(scan, chunks, descan):
    geometry = Calibration((9.5, 11.7), descan=descan * np.array([[1, 0.2], [-0.1, 1]]))
    eager = virtual_image(scan, (2, 6), unit="px", calibration=geometry, normalise=True)
    lazy = virtual_image(
        da.from_array(scan, chunks=chunks), (2, 6), unit="px", calibration=geometry, normalise=True
    )
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), eager)


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int32", "float32", "float16", bool])
def test_dtypes_give_the_same_image(scan, dtype):
    values = np.minimum(scan, 1) if dtype is bool else scan
    image = virtual_image(values.astype(dtype), (2, 6), unit="px")
    assert image.dtype == np.float64
    np.testing.assert_allclose(image, virtual_image(values, (2, 6), unit="px"), rtol=1e-14)


def test_hyperspy_keeps_the_scan_axes_and_the_kind(scan):
    s = signal_of(scan)
    out = virtual_image(s, (1, 3))
    assert isinstance(out, hs.signals.Signal2D)
    assert out.axes_manager.signal_shape == (6, 5)
    assert [a.units for a in out.axes_manager.signal_axes] == ["nm", "nm"]
    assert out.axes_manager["x"].scale == 0.02
    np.testing.assert_allclose(out.data, virtual_image(scan, (2, 6), unit="px"))
    step = out.metadata.fairstem.steps[0]
    assert step["function"] == "fairstem.diffraction.virtual_image"
    lazy = virtual_image(signal_of(da.from_array(scan)).as_lazy(), (1, 3))
    assert lazy._lazy
    np.testing.assert_array_equal(lazy.data.compute(), out.data)


def test_named_detectors_are_multiples_of_the_semi_angle(scan):
    geometry = Calibration((9.5, 11.5), mrad_per_px=2.0, semiangle_mrad=6.0)
    for name, radii in {"BF": (0, 3), "ABF": (1.5, 3), "ADF": (3.3, 10), "HAADF": (9, 10)}.items():
        got = virtual_image(scan, name, calibration=geometry)
        np.testing.assert_allclose(got, virtual_image(scan, radii, unit="px"), err_msg=name)
    np.testing.assert_allclose(
        virtual_image(scan, "BF", mrad_per_px=2.0, semiangle_mrad=8.0), virtual_image(scan, (0, 4), unit="px")
    )


def test_detector_follows_the_descan():
    slopes = np.array([[0.25, 0.0], [0.0, -0.25]])
    geometry = Calibration((15.5, 15.5), descan=slopes)
    moved = geometry.centers((8, 8)) - 15.5
    # an edge wide enough that the pattern is even within a pixel, as area fractions assume
    scan = moving_disc(*moved, radius=6, edge=2.0)
    still = virtual_image(moving_disc(0 * moved[0], 0 * moved[1], radius=6, edge=2.0), (0, 6), unit="px")
    followed = virtual_image(scan, (0, 6), unit="px", calibration=geometry)
    fixed = virtual_image(scan, (0, 6), unit="px")
    assert np.ptp(fixed) > 0.01 * still.mean()
    assert np.abs(followed - still).max() < 2e-3 * still.mean()


def test_bad_pixels_are_never_read_and_a_flat_field_stays_flat():
    hot = np.zeros((16, 16), bool)
    hot[7:9, 7:9] = hot[0, 0] = hot[7, 12] = True
    scan = np.full((3, 3, 16, 16), 5.0)
    scan[..., hot] = np.nan
    geometry = Calibration((7.5, 7.5), hot_pixels=hot)
    whole = virtual_image(scan, (0, 6), unit="px", calibration=geometry)
    np.testing.assert_allclose(whole, virtual_image(np.full((3, 3, 16, 16), 5.0), (0, 6), unit="px"))
    shared = bad_pixels_shared(np.ones((1, 16, 16)), hot)
    assert shared.sum() == pytest.approx(256)
    assert not shared[0][hot].any()


def test_normalised_image_of_empty_patterns_is_zero():
    scan = np.ones((2, 2, 8, 8), int)
    scan[0, 0] = 0
    np.testing.assert_allclose(virtual_image(scan, np.ones((8, 8)), normalise=True), [[0, 1], [1, 1]])


def test_a_line_and_a_single_pattern(scan):
    whole = virtual_image(scan, (0, 5), unit="px")
    np.testing.assert_array_equal(virtual_image(scan[1], (0, 5), unit="px"), whole[1])
    assert virtual_image(scan[1, 2], (0, 5), unit="px") == whole[1, 2]


def test_ring_outside_the_sensor_is_reported(scan):
    with pytest.warns(DataWarning, match=r"% of the detector \(5, 11\) px lies outside"):
        virtual_image(scan, (5, 11), unit="px")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        virtual_image(scan, (5, np.inf), unit="px")
    with pytest.raises(DataError, match="lies outside the sensor"):
        virtual_image(scan, (40, 50), unit="px")


@pytest.mark.parametrize(
    ("detector", "options", "error", "message"),
    [
        ((1, 3), {}, CalibrationError, "angle per pixel"),
        ("BF", {}, CalibrationError, "semi-angle"),
        ("BF", {"semiangle_mrad": 3.0}, CalibrationError, "angle per pixel"),
        ("BF", {"semiangle_mrad": -3.0}, CalibrationError, "positive angle"),
        ("BFF", {}, DataError, "'BFF'.*one of BF, ABF"),
        ("HAADF", {"mrad_per_px": 1.0, "semiangle_mrad": 9.0}, DataError, "begins at 27"),
        ((5, 5), {"unit": "px"}, DataError, "inner < outer"),
        ((6, 5), {"unit": "px"}, DataError, "inner < outer"),
        ((-1, 5), {"unit": "px"}, DataError, "inner < outer"),
        ((1, float("nan")), {"unit": "px"}, DataError, "inner < outer"),
        ((1, 2, 3), {"unit": "px"}, DataTypeError, "pair"),
        (None, {}, DataTypeError, "pair"),
        ((1, 2), {"unit": "deg"}, DataError, "'mrad' or 'px'"),
        (np.ones((24, 20), bool), {}, DataError, r"shape \(24, 20\)"),
        (np.zeros((20, 24), bool), {}, DataError, "empty detector"),
        (np.full((20, 24), np.nan), {}, DataError, "NaN"),
        (np.ones((20, 24), complex), {}, DataTypeError, "complex"),
        ((1, 2), {"unit": "px", "center": (30, 3)}, CalibrationError, "outside the detector"),
        ((1, 2), {"mrad_per_px": 0.0}, CalibrationError, "mrad_per_px"),
    ],
)
def test_bad_detectors_are_named(scan, detector, options, error, message):
    with pytest.raises(error, match=message):
        virtual_image(scan, detector, **options)


def test_bad_scans_are_named(scan):
    with pytest.raises(DataError, match="5 axes"):
        virtual_image(np.ones((2, 2, 2, 8, 8)), (0, 2), unit="px")
    with pytest.raises(DataTypeError, match="complex"):
        virtual_image(scan.astype(complex), (0, 2), unit="px")
    with pytest.raises(DataTypeError, match="dictionary"):
        virtual_images(scan, [(0, 2)], unit="px")
    broken = scan.astype(float)
    broken[1, 2, 10, 12] = np.nan
    with pytest.raises(DataError, match="1 patterns"):
        virtual_image(broken, (0, 4), unit="px")
    with pytest.raises(DataError, match="1 patterns"):
        virtual_image(da.from_array(broken), (0, 4), unit="px").compute()
    broken[1, 2, 10, 12], broken[1, 2, 0, 0] = 1.0, np.nan  # off the detector: not read
    assert np.isfinite(virtual_image(broken, (0, 4), unit="px")).all()
