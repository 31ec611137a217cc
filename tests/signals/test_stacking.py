"""Stacking images into a series: values, axes, metadata, laziness; every misfit named."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem.errors import DataError, DataTypeError
from fairstem.signals import make_signal, stack, steps_of


def images(n: int = 3, shape: tuple[int, int] = (4, 6), dtype: str = "uint16") -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.poisson(5, shape).astype(dtype) for _ in range(n)]


def signals(n: int = 3, size: float = 0.018) -> list:
    return [make_signal(a, pixel_size_nm=(size, size), title=f"frame {k}") for k, a in enumerate(images(n))]


def test_arrays_are_stacked():
    frames = images()
    series = stack(frames)
    assert series.dtype == np.uint16
    np.testing.assert_array_equal(series, np.stack(frames))


def test_masked_arrays_stay_masked():
    frames = [np.ma.masked_greater(a, 5) for a in images()]
    series = stack([frames[0], np.asarray(frames[1]), frames[2]])
    assert isinstance(series, np.ma.MaskedArray)
    np.testing.assert_array_equal(series.mask[2], frames[2].mask)


@pytest.mark.parametrize("which", [(0, 1, 2), (1,)])
def test_lazy_stays_lazy(which):
    da = pytest.importorskip("dask.array")
    frames = images()
    series = stack([da.from_array(a) if k in which else a for k, a in enumerate(frames)])
    assert isinstance(series, da.Array)
    np.testing.assert_array_equal(series.compute(), np.stack(frames))


def test_signals_keep_axes_and_metadata_of_the_first():
    frames = signals()
    series = stack(frames)
    assert series.axes_manager.signal_shape == (6, 4)
    assert series.axes_manager.navigation_shape == (3,)
    assert series.axes_manager["x"].units == "nm"
    assert series.axes_manager["frame"].size == 3
    assert series.metadata.General.title == "frame 0"
    assert steps_of(series)[-1]["function"] == "fairstem.signals.stack"
    np.testing.assert_array_equal(series.data, np.stack([f.data for f in frames]))


def test_lazy_signals_stay_lazy():
    frames = [s.as_lazy() for s in signals()]
    series = stack(frames)
    assert series._lazy
    np.testing.assert_array_equal(series.data.compute(), np.stack(images()))


def test_different_sizes_are_named():
    frames = [*images(5, (25, 25)), *images(1, (25, 30)), *images(1, (25, 25))]
    with pytest.raises(DataError, match=r"frames 0-4, 6 are \(25, 25\), frame 5 is \(25, 30\)"):
        stack(frames)


def test_different_types_are_named():
    with pytest.raises(DataError, match=r"frames 0-1 are uint16, frame 2 is float32"):
        stack([*images(2), *images(1, dtype="float32")])


def test_different_pixel_sizes_are_named():
    with pytest.raises(DataError, match=r"frames 0-1 are 0.018 x 0.018 nm a pixel, frame 2 is 0.036"):
        stack([*signals(2), *signals(1, size=0.036)])
    with pytest.raises(DataError, match="frame 1 is not calibrated"):
        stack([signals(1)[0], make_signal(images(1)[0])])


def test_rounded_pixel_sizes_are_equal():
    assert stack([*signals(1, 0.018), *signals(1, 0.0180001)]).data.shape == (2, 4, 6)


@pytest.mark.parametrize(
    ("frames", "error", "words"),
    [
        ([], DataError, "empty list"),
        ("scan.tif", DataTypeError, "series is a str"),
        (np.zeros((4, 4)), DataTypeError, "series is a ndarray"),
        (["scan.tif"], DataTypeError, "frame 0 of series is a str"),
        ([np.zeros((4, 4)), 1.0], DataTypeError, "frame 1 of series is a float"),
        ([np.zeros((2, 4, 4))], DataError, "frame 0 of series has 3 dimension"),
    ],
)
def test_bad_input_is_named(frames, error, words):
    with pytest.raises(error, match=words):
        stack(frames)


def test_signals_are_not_mixed_with_arrays():
    with pytest.raises(DataTypeError, match="frame 0 is a HyperSpy signal, frames 1-2 are an array"):
        stack([*signals(1), *images(2)])


def test_signals_with_navigation_axes_are_refused():
    with pytest.raises(DataTypeError, match="frame 1 of series has navigation axes"):
        stack([signals(1)[0], signals(1)[0].T])
