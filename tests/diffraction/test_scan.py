"""Opening a scan: axes, centre, units, and whether the values are counts."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.diffraction._scan import electrons_per_unit, open_scan, sample_patterns
from fairstem.errors import CalibrationError, DataError, DataTypeError
from fairstem.signals.electrons import wavelength_nm


def signal(units="mrad", scale=(1.5, 2.0), offset=(-6.0, -9.0), shape=(3, 4, 10, 12)):
    """HyperSpy's order of axes is (x, y); scales and offsets are given as (y, x)."""
    s = hs.signals.Signal2D(np.zeros(shape, "uint16"))
    for axis, step, start in zip(s.axes_manager.signal_axes, scale[::-1], offset[::-1], strict=True):
        axis.units, axis.scale, axis.offset = units, step, start
    return s


def counts(shape=(5, 6, 16, 16), mean=4.0):
    return np.random.default_rng(0).poisson(mean, shape)


def test_plain_array_has_its_centre_in_the_middle_and_no_angles():
    scan = open_scan(np.zeros((3, 4, 10, 12)))
    assert (scan.shape, scan.detector, scan.center) == ((3, 4), (10, 12), (4.5, 5.5))
    assert scan.mrad_per_px is None
    assert scan.centered_by == "array"
    assert [axis.size for axis in scan.scan_axes] == [3, 4]


@pytest.mark.parametrize("shape", [(10, 12), (4, 10, 12)])
def test_fewer_scan_axes(shape):
    scan = open_scan(np.zeros(shape))
    assert scan.shape == shape[:-2]
    assert scan.plan().n_blocks == 1


def test_zero_of_calibrated_axes_is_the_centre():
    scan = open_scan(signal())
    assert scan.center == pytest.approx((4.0, 4.5))
    assert scan.centered_by == "axes"
    assert scan.mrad_per_px == (1.5, 2.0)


@pytest.mark.parametrize("options", [{"units": "px"}, {"offset": (0.0, 0.0)}, {"offset": (-6.0, -30.0)}])
def test_zero_that_nobody_set_is_not_the_centre(options):
    assert open_scan(signal(**options)).centered_by == "array"


def test_reciprocal_lengths_need_the_energy():
    assert open_scan(signal("1/nm", (0.5, 0.5))).mrad_per_px is None
    s = signal("1/nm", (0.5, 0.5))
    s.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    at_200 = 0.5 * 2.50793  # λ = 2.50793 pm at 200 keV
    assert open_scan(s).mrad_per_px == pytest.approx((at_200, at_200), rel=1e-5)
    assert open_scan(s, energy_kev=80).mrad_per_px == pytest.approx((0.5 * 4.17571,) * 2, rel=1e-5)
    in_angstrom = signal("1/Å", (0.05, 0.05))
    assert open_scan(in_angstrom, energy_kev=200).mrad_per_px == pytest.approx((at_200, at_200), rel=1e-5)
    assert open_scan(signal("rad", (0.0015, 0.002))).mrad_per_px == pytest.approx((1.5, 2.0))


@pytest.mark.parametrize("energy", [0, -200, float("nan"), float("inf")])
def test_impossible_energies_are_named(energy):
    with pytest.raises(CalibrationError, match="energy_kev"):
        wavelength_nm(energy)


def test_what_is_no_scan_is_named():
    with pytest.raises(DataError, match="time series"):
        open_scan(np.zeros((2, 2, 2, 8, 8)))
    with pytest.raises(DataError, match=r"shape \(8,\)"):
        open_scan(np.zeros(8))
    with pytest.raises(DataError, match="3 × 8 px"):
        open_scan(np.zeros((2, 2, 3, 8)))
    with pytest.raises(DataTypeError, match="complex"):
        open_scan(np.zeros((2, 2, 8, 8), complex))
    with pytest.raises(DataTypeError, match="list"):
        open_scan([[1.0]])
    with pytest.raises(DataError, match="empty"):
        open_scan(np.zeros((0, 2, 8, 8)))


@pytest.mark.parametrize("shape", [(5, 6, 16, 16), (7, 16, 16), (16, 16)])
def test_samples_are_patterns_of_the_scan_lazy_or_not(shape):
    values = counts(shape)
    eager = sample_patterns(open_scan(values), 4)
    lazy = sample_patterns(open_scan(da.from_array(values, chunks=5)), 4)
    np.testing.assert_array_equal(eager, lazy)
    np.testing.assert_array_equal(eager[0], values.reshape(-1, 16, 16)[0])
    np.testing.assert_array_equal(eager[-1], values.reshape(-1, 16, 16)[-1])


def test_counts_are_one_electron_per_unit():
    assert electrons_per_unit(open_scan(counts()), None) == 1.0
    assert electrons_per_unit(open_scan(counts() / 4), 0.25) == 0.25


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (counts(mean=40) / 4, "multiples of 0.25"),
        (counts(mean=40) * 16, "multiples of 16"),
        (counts() + np.random.default_rng(1).random((5, 6, 16, 16)), "no counts"),
        (counts() - 3, "negative"),
    ],
)
def test_what_is_no_count_is_named(values, message):
    with pytest.raises(DataError, match=message):
        electrons_per_unit(open_scan(values), None)


@pytest.mark.parametrize("gain", [0, -1.0, float("nan"), float("inf")])
def test_impossible_gains_are_named(gain):
    with pytest.raises(DataError, match="gain"):
        electrons_per_unit(open_scan(counts()), gain)
