"""A registration applied to its frames and to data recorded with them: counts, values, every kind, bad input."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from fairstem import signals
from fairstem.errors import DataError, DataTypeError
from fairstem.register._alignment import Alignment
from fairstem.register._apply import aligned_frames, apply
from fairstem.register._judge.floor import common_mode_floor
from fairstem.register._series.frames import open_series
from fairstem.register._series.motion import DenseMotion, RowMotion
from fairstem.register._series.warp import deposit, resample

SHAPE, N = (32, 36), 4


def motion(size=1.0, kind="rows", jitter=0.2):
    rng = np.random.default_rng(0)
    rows = rng.normal(0, size, (N, 2, 1)) + rng.normal(0, size * jitter, (N, 2, SHAPE[0]))
    found = RowMotion(rows - rows.mean(axis=0), SHAPE, np.zeros(N))
    if kind == "rows":
        return found
    y, x = np.meshgrid(*(np.linspace(0, 3, n) for n in SHAPE), indexing="ij")
    return DenseMotion(np.stack([found.backward(k) + 0.5 * size * np.sin(x + y + k) for k in range(N)]))


def registered(found, used=(0, 1, 3)):
    empty = np.zeros(SHAPE)
    floor = common_mode_floor(
        np.random.default_rng(1).normal(0, 0.2, (N, 2, SHAPE[0])), np.zeros((N, 2, SHAPE[0]))
    )
    return Alignment(empty, found, empty, empty, empty, floor, None, used, (), {})


def counts(trailing=(6,), grid=SHAPE):
    return np.random.default_rng(2).poisson(0.7, (N, *grid, *trailing)).astype("uint16")


@pytest.mark.parametrize("kind", ["rows", "dense"])
def test_counts_are_summed_over_the_frames_and_none_is_made_up(kind, caplog):
    found, data = motion(3.0, kind), counts()
    caplog.set_level("INFO", "fairstem")
    out = apply(registered(found), data)
    expected = sum(deposit(data[k], found.forward(k))[0] for k in (0, 1, 3))
    lost = sum(deposit(data[k], found.forward(k))[2] for k in (0, 1, 3))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_allclose(out.sum(axis=(0, 1)) + lost, data[[0, 1, 3]].sum(axis=(0, 1, 2)), rtol=1e-6)
    assert f"{data[[0, 1, 3]].sum()}" in caplog.text


@pytest.mark.parametrize("method", ["conserve", "interpolate"])
@pytest.mark.parametrize("combine", [True, False])
def test_little_memory_changes_nothing(method, combine):
    data = counts((3, 5))
    for kind in ("rows", "dense"):
        align = registered(motion(kind=kind))
        whole = apply(align, data, method=method, combine=combine)
        parts = apply(align, data, method=method, combine=combine, memory="200 kB")
        np.testing.assert_allclose(parts, whole, atol=1e-6)
        assert whole.shape == ((*SHAPE, 3, 5) if combine else (N, *SHAPE, 3, 5))


@pytest.mark.parametrize("method", ["conserve", "interpolate"])
@pytest.mark.parametrize("combine", [True, False])
def test_lazy_is_eager(method, combine):
    da = pytest.importorskip("dask.array")
    data, align = counts((3, 5)), registered(motion(2.5))
    lazy = apply(
        align, da.from_array(data, chunks=(2, 10, 36, 2, 5)), method=method, combine=combine, memory="1 MB"
    )
    assert isinstance(lazy, da.Array)
    eager = apply(align, data, method=method, combine=combine)
    assert lazy.dtype == eager.dtype
    assert lazy.shape == eager.shape
    np.testing.assert_allclose(lazy.compute(scheduler="sync"), eager, atol=1e-5)
    one = apply(align, da.from_array(data[2]), method=method, frame=2)
    np.testing.assert_allclose(
        one.compute(scheduler="sync"), apply(align, data[2], method=method, frame=2), atol=1e-5
    )


def test_one_scan_is_its_share_of_all():
    data, align = counts(), registered(motion())
    apart = apply(align, data, combine=False)
    for k in range(N):
        np.testing.assert_allclose(apply(align, data[k], frame=k), apart[k], atol=1e-6)
    np.testing.assert_allclose(apart[[0, 1, 3]].sum(axis=0), apply(align, data), atol=1e-5)


def test_values_are_averaged_where_frames_reach():
    found = motion(3.0, jitter=0.0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    u = np.stack([found.forward(k) for k in range(N)])
    data = 5.0 + 0.1 * (y + u[:, 0]) + 0.2 * (x + u[:, 1])  # the same plane in all frames
    out = apply(registered(found), data, method="interpolate")
    np.testing.assert_allclose(out[8:-8, 8:-8], (5.0 + 0.1 * y + 0.2 * x)[8:-8, 8:-8], atol=1e-3)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("grid", [(16, 18), (8, 36), (32, 12)])
def test_a_coarser_scan(grid):
    rows = np.zeros((N, 2, SHAPE[0]))
    rows[:, 0], rows[:, 1] = SHAPE[0] / grid[0], -2 * SHAPE[1] / grid[1]  # one row down, two columns left
    dense = DenseMotion(np.broadcast_to(-rows[..., None], (N, 2, *SHAPE)).copy())
    data = counts(grid=grid)
    for found in (RowMotion(rows, SHAPE, np.zeros(N)), dense):
        out = apply(registered(found), data)
        np.testing.assert_allclose(out[1:, :-2], data[[0, 1, 3], :-1, 2:].sum(axis=0), atol=1e-5)


def test_files_in_and_out(tmp_path):
    data, align = counts(), registered(motion())
    expected = apply(align, data)
    with h5py.File(tmp_path / "scans.h5", "w") as file:
        stored = file.create_dataset("in", data=data, chunks=(1, 8, 36, 3))
        out = file.create_dataset("out", expected.shape, "float32")
        assert apply(align, stored, out=out, memory="1 MB") is out
        np.testing.assert_allclose(out[:], expected, atol=1e-6)
        apart = file.create_dataset("apart", data.shape, "float32")
        apply(align, stored, out=apart, combine=False)
        np.testing.assert_allclose(apart[:], apply(align, data, combine=False), atol=1e-6)
    np.save(tmp_path / "scans.npy", data)
    np.testing.assert_array_equal(apply(align, np.load(tmp_path / "scans.npy", mmap_mode="r")), expected)


@pytest.mark.parametrize("lazy", [False, True])
def test_spectrum_images_keep_axes_and_say_what_was_done(lazy):
    hs = pytest.importorskip("hyperspy.api")
    axes = [
        {"name": n, "size": s, "scale": c, "units": u, "navigate": n != "E"}
        for n, s, c, u in zip(
            ("frame", "y", "x", "E"),
            (N, *SHAPE, 6),
            (1, 0.02, 0.02, 0.01),
            ("", "nm", "nm", "keV"),
            strict=True,
        )
    ]
    data, align = counts(), registered(motion())
    signal = hs.signals.Signal1D(data, axes=axes)
    out = apply(align, signal.as_lazy() if lazy else signal)
    assert out._lazy == lazy
    assert out.axes_manager.navigation_shape == SHAPE[::-1]
    assert out.axes_manager["E"].scale == 0.01
    assert out.axes_manager["y"].units == "nm"
    np.testing.assert_allclose(np.asarray(out.data), apply(align, data), atol=1e-5)
    step = signals.steps_of(out)[-1]
    assert step["function"] == "fairstem.register.apply"
    assert step["parameters"]["frames"] == [0, 1, 3]
    if not lazy:
        p = step["parameters"]
        assert p["total_in"] == data[[0, 1, 3]].sum()
        assert abs(p["total_out"] + p["lost"] - p["total_in"]) < 1e-6 * p["total_in"]


@pytest.mark.parametrize("lazy", [False, True])
def test_frames_on_the_grid_of_the_average(lazy):
    da = pytest.importorskip("dask.array")
    found = motion(2.0)
    data = np.random.default_rng(3).poisson(20, (N, *SHAPE)).astype("float32")
    data[1, 5, 7] = np.nan
    series = open_series(da.from_array(data, chunks=(2, 16, 36)) if lazy else data)
    moved = aligned_frames(found, series)
    assert moved.dtype == np.float32
    assert isinstance(moved, da.Array) == lazy
    moved = np.asarray(moved)
    assert np.isfinite(moved).all()
    for k in (0, 1):
        mask = np.isfinite(data[k])
        expected, _ = resample(np.where(mask, data[k], 0.0), found.backward(k), mask)
        np.testing.assert_allclose(moved[k], expected, rtol=1e-6, atol=1e-5)


def test_frames_of_a_signal_stay_a_signal():
    data = np.random.default_rng(3).poisson(20, (N, *SHAPE))
    signal = signals.make_signal(data, pixel_size_nm=(0.02, 0.02))
    moved = aligned_frames(motion(), open_series(signal))
    assert moved.data.shape == data.shape
    assert moved.axes_manager["x"].units == "nm"


@pytest.mark.parametrize(
    ("data", "options", "error", "words"),
    [
        (counts(), {"method": "sum"}, DataError, "method='sum'"),
        (counts(), {"frame": 0}, DataError, r"scan positions|for images"),
        (counts()[0], {"frame": 4}, DataError, "a number from 0 to 3"),
        (counts()[0], {}, DataError, r"needed: \(4, y, x, ...\); what to do: pass frame=k"),
        (counts()[:3], {}, DataError, r"data of shape \(3, 32, 36, 6\) for 4 frames"),
        (counts()[0, 0, :, 0], {"frame": 0}, DataError, r"needed: \(y, x, ...\) of frame 0"),
        (counts(grid=(15, 36)), {}, DataError, "data with 15 x 36 scan positions for images of 32 x 36"),
        (counts(grid=(64, 72), trailing=()), {}, DataError, "64 x 72"),
        (counts(), {"memory": "10 kB"}, DataError, "budget 10 kB"),
        (counts(), {"out": np.zeros((2, 2))}, DataError, r"out of shape \(2, 2\)"),
        (counts().astype(complex), {}, DataTypeError, "complex128"),
        (np.where(counts() > 3, np.nan, 1.0), {}, DataError, "NaN, infinite or masked in scan 0"),
        (np.ma.masked_greater(counts(), 3), {}, DataError, "NaN, infinite or masked in scan 0"),
        (counts().tolist(), {}, DataTypeError, "data is a list"),
    ],
)
def test_bad_input_is_named(data, options, error, words):
    with pytest.raises(error, match=words):
        apply(registered(motion()), data, **options)
