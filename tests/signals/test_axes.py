"""Units in one spelling; the pixel size only from real-space image axes."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest
import traits.api as t

from fairstem.signals import Axis, normalise_unit, open_data


@pytest.mark.parametrize(
    ("given", "unit", "nm"),
    [
        ("nm", "nm", 1.0),
        ("Å", "Å", 0.1),
        ("\u212b", "Å", 0.1),
        ("A", "Å", 0.1),
        ("pm", "pm", 1e-3),
        ("µm", "µm", 1e3),
        ("\u03bcm", "µm", 1e3),
        ("um", "µm", 1e3),
        ("microns", "µm", 1e3),
        (" nm ", "nm", 1.0),
        ("1/nm", "1/nm", None),
        ("nm^-1", "1/nm", None),
        ("mrad", "mrad", None),
        ("eV", "eV", None),
        ("keV", "keV", None),
        ("", "", None),
        (None, "", None),
        (t.Undefined, "", None),
        ("furlong", "furlong", None),
    ],
)
def test_units(given, unit, nm):
    assert normalise_unit(given) == unit
    size = Axis("x", 4, 2.0, units=normalise_unit(given)).scale_nm
    assert size == (None if nm is None else pytest.approx(2 * nm))


def signal(units, navigation, cls):
    shape = tuple(range(4, 4 + len(units)))
    axes = [
        {"size": n, "scale": 0.5, "units": u, "navigate": i < navigation}
        for i, (n, u) in enumerate(zip(shape, units, strict=True))
    ]
    return getattr(hs.signals, cls)(np.ones(shape), axes=axes)


@pytest.mark.parametrize(
    ("units", "navigation", "cls", "expected"),
    [
        (("nm", "nm"), 0, "Signal2D", (0.5, 0.5)),
        (("Å", "nm"), 0, "Signal2D", (0.05, 0.5)),
        (("s", "nm", "nm"), 1, "Signal2D", (0.5, 0.5)),
        (("nm", "nm", "1/nm", "1/nm"), 2, "Signal2D", (0.5, 0.5)),
        (("nm", "nm", "", ""), 2, "Signal2D", (0.5, 0.5)),
        (("nm", "nm", "eV"), 2, "Signal1D", (0.5, 0.5)),
        (("1/nm", "1/nm"), 0, "Signal2D", None),
        (("nm", "eV"), 1, "Signal1D", None),
        (("nm", ""), 0, "Signal2D", None),
        (("", ""), 0, "Signal2D", None),
        (("", "", "mrad", "mrad"), 2, "Signal2D", None),
    ],
)
def test_pixel_size(units, navigation, cls, expected):
    size = open_data(signal(units, navigation, cls)).pixel_size_nm
    assert size == (None if expected is None else pytest.approx(expected))


def test_axis_that_is_not_uniform_has_no_pixel_size():
    axes = [{"axis": np.array([0.0, 1, 4, 9]), "units": "nm"}, {"size": 4, "scale": 1, "units": "nm"}]
    irregular = hs.signals.Signal2D(np.ones((4, 4)), axes=axes)
    opened = open_data(irregular)
    assert opened.pixel_size_nm is None
    assert np.isnan(opened.axes[0].scale)
    out = opened.rewrap(np.ones((3, 4)))
    assert np.array_equal(out.axes_manager._axes[0].axis, [0, 1, 4])
    assert opened.axes[0].to_dict()["scale"] is None
