"""Signals made from arrays keep what they are given, in memory and on disk."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem.errors import DataError, OutputError
from fairstem.signals import Step, load, make_signal, open_data, save, steps_of


def test_a_made_signal_survives_its_file(tmp_path):
    data = np.random.default_rng(0).poisson(9.0, (3, 16, 20)).astype(np.float32)
    step = Step("fairstem.test", {"a": 1})
    signal = make_signal(data, pixel_size_nm=(0.01, 0.02), noise=(3.0, 50.0, 6.0), title="t", steps=[step])
    save(signal, tmp_path / "a.hspy")
    stored = load(tmp_path / "a.hspy", warn=False)
    opened = open_data(stored)
    assert np.array_equal(opened.array, data)
    assert opened.pixel_size_nm == pytest.approx((0.01, 0.02))
    assert [a.navigate for a in opened.axes] == [True, False, False]
    assert [s["function"] for s in steps_of(stored)] == ["fairstem.test"]
    model = stored.metadata.Signal.Noise_properties.Variance_linear_model
    # the variance at a value v is gain (v - offset) + readout²
    assert model.gain_factor * 80.0 + model.gain_offset == pytest.approx(3 * 30 + 36)


def test_bad_shapes_and_names_are_refused(tmp_path):
    with pytest.raises(DataError):
        make_signal(np.zeros(3))
    with pytest.raises(OutputError, match="hspy"):
        save(make_signal(np.zeros((4, 4))), tmp_path / "a.tif")
