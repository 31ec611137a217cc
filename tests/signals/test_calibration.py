"""Calibration checks: each trouble has its finding, good data have none."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.errors import CalibrationError
from fairstem.signals import check_signal, open_data
from fairstem.signals.calibration import guess_kind, lattice_period, repair


def image(scale=(0.01, 0.01), units="nm", data=None):
    if data is None:
        data = np.random.default_rng(0).poisson(20.0, (64, 64)).astype("u2")
    axes = [{"size": n, "scale": s, "units": units} for n, s in zip(data.shape, scale, strict=True)]
    return hs.signals.Signal2D(data, axes=axes)


def codes(signal, **options):
    return [f.code for f in check_signal(signal, **options)]


def one(signal, code):
    return next(f for f in check_signal(signal) if f.code == code)


def lattice(period, size=128):
    y, x = np.mgrid[:size, :size]
    clean = 20 + 15 * np.cos(2 * np.pi * (x + 0.3 * y) / period) * np.cos(2 * np.pi * (y - 0.3 * x) / period)
    return np.random.default_rng(0).poisson(clean).astype("u2")


def test_good_image_has_no_findings():
    assert codes(image()) == []


def test_pixel_size_missing():
    assert one(image((1, 1), ""), "pixel-size-missing").assumed == "lengths are in pixels"
    assert codes(image((0.1, 0.1), "mrad")) == []  # a diffraction pattern needs none
    assert "pixel-size-missing" in codes(image((0.1, 0.1), "s"))


def test_units_lost_are_suggested_not_applied():
    signal = image((0.00933, 0.00933), "")
    finding = one(signal, "units-lost")
    assert "pixel_size_nm=0.00933" in finding.message
    assert open_data(signal).pixel_size_nm is None
    assert "scan step" in one(image((0.03125, 0.03125), ""), "units-lost").message
    assert "plausible" not in one(image((4e4 / 3, 4e4 / 3), ""), "units-lost").message


@pytest.mark.parametrize("scale", [5e-5, 2e6])
def test_absurd_pixel_size(scale):
    assert "pixel-size-absurd" in codes(image((scale, scale)))


def test_lattice_with_an_absurd_pixel_size():
    assert codes(image(data=lattice(12), scale=(0.02, 0.02))) == []
    finding = one(image(data=lattice(12), scale=(31, 31), units="µm"), "period-absurd")
    assert "px" in finding.message
    assert finding.topic == "calibration"
    assert "period-absurd" in codes(image(data=lattice(12), scale=(1e-3, 1e-3)))


def test_period_of_lattice_and_none_of_noise():
    assert lattice_period(lattice(12)) == pytest.approx(12 / np.hypot(1.3, 0.7), rel=0.1)
    rng = np.random.default_rng(0)
    assert lattice_period(rng.normal(size=(128, 128))) is None
    smooth = np.cumsum(np.cumsum(rng.normal(size=(128, 128)), 0), 1)
    assert lattice_period(smooth) is None


def test_pixels_not_square_and_negative_scale():
    assert codes(image((0.01, 0.02))) == ["pixels-not-square"]
    assert codes(image((-0.01, 0.01))) == ["negative-scale"]
    assert open_data(image((-0.01, 0.01))).pixel_size_nm == (0.01, 0.01)


def test_energy_axis():
    data = np.random.default_rng(0).poisson(20.0, (4, 4, 64))
    axes = [{"size": 4, "scale": 1.5, "units": "nm", "navigate": True} for _ in range(2)]
    good = hs.signals.Signal1D(data, axes=[*axes, {"size": 64, "scale": 0.5, "units": "eV"}])
    assert codes(good) == []
    bare = hs.signals.Signal1D(data, axes=[*axes, {"size": 64, "scale": 0.5}])
    assert codes(bare) == ["energy-unit-missing"]
    turned = hs.signals.Signal1D(data, axes=[*axes, {"size": 64, "scale": -0.5, "units": "eV"}])
    assert codes(turned) == ["energy-axis-reversed"]


def test_values():
    counts = np.random.default_rng(0).poisson(20.0, (64, 64)).astype(float)
    assert "averages" in codes(image(data=counts + np.random.default_rng(1).normal(size=(64, 64))))
    assert "the average of 4" in one(image(data=counts / 4), "gain").message
    assert "8-bit picture" in one(image(data=counts.astype("u2") * 257), "gain").message
    assert "a gain of 36.6" in one(image(data=counts * 36.6), "gain").message
    assert "saturated" in codes(image(data=np.minimum(counts, 22)))
    assert "offset" in codes(image(data=counts + 1000))
    assert codes(image(data=counts + 0.0)) == []
    counts[0, 0] = np.nan
    assert codes(image(data=counts)) == ["not-finite"]
    assert codes(image(data=counts * np.nan)) == ["not-finite"]


def test_many_counts_are_no_offset():
    assert codes(image(data=np.random.default_rng(0).poisson(5000.0, (64, 64)))) == []


def test_picture_and_colour():
    grey = image(data=np.random.default_rng(0).poisson(50.0, (64, 64)).astype("u1"))
    assert codes(grey) == []
    assert codes(grey, picture=True) == ["eight-bit-picture"]
    colour = hs.signals.Signal1D(np.zeros((16, 16, 3), np.uint8))
    colour.change_dtype("rgb8")
    assert "colour-picture" in codes(colour)


def test_lazy_values_are_not_touched():
    assert codes(image().as_lazy()) == ["values-not-checked"]


@pytest.mark.parametrize(
    ("shape", "cls", "navigation", "kind"),
    [
        ((4,), "Signal1D", 0, "spectrum"),
        ((4, 4), "Signal1D", 1, "spectrum line"),
        ((4, 4, 4), "Signal1D", 2, "spectrum image"),
        ((4, 4), "Signal2D", 0, "image"),
        ((4, 4, 4), "Signal2D", 1, "image series"),
        ((4, 4, 4, 4), "Signal2D", 2, "4D scan"),
        ((4, 4, 4, 4, 4), "Signal2D", 3, "4D scan series"),
        ((4, 4, 4), "BaseSignal", 0, "array"),
    ],
)
def test_kinds(shape, cls, navigation, kind):
    assert guess_kind(open_data(getattr(hs.signals, cls)(np.ones(shape))).axes) == kind


def test_repair_is_recorded():
    signal = image((0.00933, 0.00933), "")
    (finding,) = repair(signal, None, "nm")
    assert open_data(signal).pixel_size_nm == (0.00933, 0.00933)
    assert finding.code == "repaired-units"
    assert "no unit" in finding.given
    (finding,) = repair(signal, (0.02, 0.03), None)
    assert open_data(signal).pixel_size_nm == (0.02, 0.03)
    assert finding.severity == "info"


@pytest.mark.parametrize("size", [0, -1.0, float("nan"), (1, 2, 3)])
def test_impossible_pixel_size(size):
    with pytest.raises(CalibrationError, match="positive length"):
        repair(image(), size, None)


def test_impossible_repairs():
    with pytest.raises(CalibrationError, match="both given"):
        repair(image(), 0.1, "nm")
    with pytest.raises(CalibrationError, match="no length"):
        repair(image(), None, "eV")
    with pytest.raises(CalibrationError, match="no two image axes"):
        repair(hs.signals.Signal1D(np.ones(8)), 0.1, None)
