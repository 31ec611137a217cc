"""The door: the same kind out, calibration, metadata and provenance kept."""

from __future__ import annotations

import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.errors import DataError, DataTypeError
from fairstem.priors import PriorCheck
from fairstem.signals import Axis, Step, open_data, sha256, steps_of


def scan(shape=(5, 6, 7, 8), navigation=2, cls="Signal2D", units=("nm", "nm", "1/nm", "1/nm")):
    axes = [
        {
            "name": f"a{i}",
            "size": n,
            "scale": 0.1 * (i + 1),
            "offset": i,
            "units": u,
            "navigate": i < navigation,
        }
        for i, (n, u) in enumerate(zip(shape, units, strict=True))
    ]
    signal = getattr(hs.signals, cls)(np.arange(np.prod(shape)).reshape(shape).astype("f4"), axes=axes)
    signal.metadata.General.title = "scan"
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 80.0)
    signal.original_metadata.add_dictionary({"vendor": {"gain": 3}})
    return signal


def image(shape=(16, 20)):
    return scan(shape, 0, units=("nm", "µm"))


def axis_facts(signal):
    return [(a.name, a.size, a.scale, a.offset, str(a.units), a.navigate) for a in signal.axes_manager._axes]


def test_numpy_in_numpy_out():
    opened = open_data(np.ones((4, 4)))
    assert (opened.kind, opened.lazy, opened.pixel_size_nm) == ("numpy", False, None)
    assert isinstance(opened.rewrap(da.ones((3, 3))), np.ndarray)


def test_dask_in_dask_out_and_nothing_is_computed():
    def explode(block):
        raise AssertionError("computed")

    lazy = da.ones((8, 8), chunks=4).map_blocks(explode, dtype=float, meta=np.empty((0, 0)))
    opened = open_data(lazy)
    assert (opened.kind, opened.lazy) == ("dask", True)
    assert opened.rewrap(lazy + 1).dtype == float
    assert isinstance(opened.rewrap(np.ones((2, 2))), da.Array)


def test_h5py_is_taken_as_it_is(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("a", data=np.arange(12.0).reshape(3, 4))
        opened = open_data(data)
        assert opened.array is data
        assert opened.kind == "numpy"


def test_hyperspy_keeps_axes_metadata_and_class():
    signal = image()
    out = open_data(signal).rewrap(signal.data * 2)
    assert type(out) is type(signal)
    assert axis_facts(out) == axis_facts(signal)
    assert out.metadata.General.title == "scan"
    assert out.original_metadata.vendor.gain == 3
    assert np.array_equal(out.data, signal.data * 2)
    out.metadata.General.title = "changed"
    out.axes_manager[0].scale = 99
    assert signal.metadata.General.title == "scan"
    assert signal.axes_manager[0].scale != 99


def test_pixel_size_is_converted_to_nm():
    assert open_data(image()).pixel_size_nm == pytest.approx((0.1, 200.0))


@pytest.mark.parametrize("give_numpy", [True, False])
def test_lazy_stays_lazy(give_numpy):
    signal = image().as_lazy()
    opened = open_data(signal)
    assert opened.lazy
    out = opened.rewrap(np.ones((16, 20)) if give_numpy else opened.array + 1)
    assert type(out) is type(signal)
    assert isinstance(out.data, da.Array)
    assert axis_facts(out) == axis_facts(signal)


def test_registered_subclass_is_kept():
    class Own(hs.signals.Signal2D):
        pass

    signal = Own(np.ones((4, 4)))
    assert type(open_data(signal).rewrap(np.zeros((4, 4)))) is Own


def test_steps_survive_saving_slicing_and_a_second_step(tmp_path):
    signal = image()
    opened = open_data(signal)
    prior = PriorCheck("p", "noise is white", float("nan"), 1.2, "<=", "chi-square", "free the width")
    step = opened.step("fairstem.test", {"a": np.float32(2), "b": None, "c": [], "path": tmp_path}, [prior])
    out = opened.rewrap(signal.data + 1, step)
    assert not signal.metadata.has_item("fairstem")
    again = open_data(out).rewrap(out.data, Step("fairstem.second"))
    again.save(tmp_path / "x.hspy")
    loaded = hs.load(tmp_path / "x.hspy")
    for view in (loaded, loaded.isig[2:9, 1:], loaded.deepcopy()):
        steps = steps_of(view)
        assert [s["function"] for s in steps] == ["fairstem.test", "fairstem.second"]
        assert steps[0]["input_sha256"] == sha256(signal.data)
        assert steps[0]["parameters"]["a"] == 2
        assert steps[0]["priors"][0]["holds"] is None
        assert steps[0]["at"].endswith("+00:00")
    assert axis_facts(loaded) == axis_facts(signal)


def test_average_of_a_series_keeps_the_image_axes():
    series = scan((16, 16, 16), 1, units=("s", "nm", "nm"))
    out = open_data(series).rewrap(series.data.mean(0))
    assert axis_facts(out) == axis_facts(series)[1:]
    padded = open_data(series).rewrap(np.ones((18, 20)))
    assert [a[1:3] for a in axis_facts(padded)] == [
        (18, axis_facts(series)[1][2]),
        (20, axis_facts(series)[2][2]),
    ]


def test_virtual_image_of_a_scan_is_an_image():
    signal = scan()
    out = open_data(signal).rewrap(signal.data.sum((2, 3)))
    assert type(out).__name__ == "Signal2D"
    assert out.axes_manager.signal_shape == (6, 5)
    assert [(a.name, a.scale, a.units) for a in out.axes_manager._axes] == [
        ("a0", 0.1, "nm"),
        ("a1", 0.2, "nm"),
    ]
    pattern = open_data(signal).rewrap(signal.data.sum((0, 1)))
    assert [str(a.units) for a in pattern.axes_manager._axes] == ["1/nm", "1/nm"]


def test_map_of_a_spectrum_image_is_an_image_and_lazy_stays_lazy():
    signal = scan((5, 6, 32), 2, "Signal1D", ("nm", "nm", "eV")).as_lazy()
    signal.set_signal_type("")
    opened = open_data(signal)
    out = opened.rewrap(opened.array.sum(-1))
    assert type(out).__name__ == "LazySignal2D"
    assert open_data(out).pixel_size_nm == pytest.approx((0.1, 0.2))


def test_map_over_scan_positions_is_taken_as_an_image():
    signal = scan((5, 6, 32), 2, "Signal1D", ("nm", "nm", "eV"))
    summed = signal.sum(axis=-1)
    opened = open_data(summed, ndim=2)
    assert opened.pixel_size_nm == pytest.approx((0.1, 0.2))
    assert axis_facts(opened.rewrap(summed.data + 1)) == axis_facts(summed)


def test_variance_of_the_input_is_not_claimed_for_the_result():
    signal = image()
    signal.set_noise_variance(image())
    out = open_data(signal).rewrap(signal.data + 1)
    assert out.get_noise_variance() is None
    assert signal.get_noise_variance() is not None


def test_axes_can_be_said():
    signal = scan()
    opened = open_data(signal)
    binned = Axis("k", 4, 0.8, units="1/nm")
    out = opened.rewrap(np.ones((5, 6, 4)), axes=(0, 1, binned))
    assert axis_facts(out)[2] == ("k", 4, 0.8, 0.0, "1/nm", False)
    assert type(out).__name__ == "Signal1D"
    stack = opened.rewrap(np.ones((3, 5, 6)), axes=(None, 0, 1))
    assert stack.data.shape == (3, 5, 6)
    with pytest.raises(DataError, match="sizes"):
        opened.rewrap(np.ones((5, 6, 3)), axes=(0, 1, binned))
    with pytest.raises(DataError, match="one entry per axis"):
        opened.rewrap(np.ones((5, 6)), axes=(0,))


def test_unclear_axes_are_an_error():
    signal = scan((5, 5, 5, 5))
    with pytest.raises(DataError, match="not clear which axes"):
        open_data(signal).rewrap(np.ones((5, 5, 5)))


def test_complex_result_gets_the_complex_class():
    signal = image()
    out = open_data(signal).rewrap(signal.data + 1j)
    assert type(out).__name__ == "ComplexSignal2D"
    assert axis_facts(out) == axis_facts(signal)


@pytest.mark.parametrize("bad", [[[1.0, 2.0]], (np.ones(3), np.ones(4)), "scan.dm4", 3.0, None, {"data": 1}])
def test_no_array_is_a_type_error(bad):
    with pytest.raises(DataTypeError, match="needed: a HyperSpy signal, numpy array or dask array"):
        open_data(bad)


def test_wrong_dimensions_and_empty_data():
    with pytest.raises(DataError, match="needed: 2-D data"):
        open_data(np.ones(5), ndim=2)
    with pytest.raises(DataError, match="needed: 2-D or 3-D data"):
        open_data(np.ones((2, 2, 2, 2)), ndim=(2, 3))
    with pytest.raises(DataError, match="empty"):
        open_data(np.ones((0, 4)))
    unknown = da.ones(8, chunks=4)
    with pytest.raises(DataError, match="unknown shape"):
        open_data(unknown[unknown > 0])
