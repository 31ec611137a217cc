import subprocess
import sys

import dask.array as da
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairstem.compute import blocks
from fairstem.compute.reductions import EXTREMES, MOMENTS, Reduction, sum_over
from fairstem.errors import DataError, DataTypeError


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(1).poisson(3.0, (6, 5, 4)).astype(np.uint16)


def kinds(array, folder):
    """The same array as numpy, memmap, HDF5 (two chunkings) and dask."""
    mapped = np.memmap(folder / "a.raw", array.dtype, "w+", shape=array.shape)
    mapped[:] = array
    file = h5py.File(folder / "a.h5", "w")
    return {
        "numpy": array,
        "memmap": mapped,
        "hdf5": file.create_dataset("c", data=array, chunks=(2, 5, 2), compression="gzip"),
        "contiguous": file.create_dataset("d", data=array),
        "dask": da.from_array(array, chunks=(4, 2, 4)),
    }, file


def test_every_kind_streams_reduces_and_maps_alike(counts, tmp_path):
    sources, file = kinds(counts, tmp_path)
    with file:
        for name, source in sources.items():
            p = blocks.plan(source, budget="200 B")
            assert p.n_blocks > 1, name
            rebuilt = np.zeros_like(counts)
            for at, block in blocks.stream(source, p):
                assert type(np.asarray(block)) is np.ndarray
                rebuilt[at] = block
            assert np.array_equal(rebuilt, counts), name
            moments = blocks.reduce(source, MOMENTS, p)
            assert moments.mean == pytest.approx(counts.mean())
            assert moments.variance == pytest.approx(counts.var())
            mapped = blocks.map_blocks(source, np.sqrt, p, dtype=float)
            assert np.allclose(np.asarray(mapped), np.sqrt(counts)), name


@st.composite
def chunkings(draw, shape=(6, 5, 4)):
    def cut(n):
        edges = sorted(draw(st.sets(st.integers(1, n - 1), max_size=3)))
        return tuple(np.diff([0, *edges, n]).tolist())

    return tuple(cut(n) for n in shape)


@settings(max_examples=25, deadline=None)
@given(chunks=chunkings(), budget=st.integers(120, 600), keep=st.sampled_from([(), (2,), (0,)]))
def test_lazy_equals_eager_over_random_chunkings(counts, chunks, budget, keep):
    try:
        p = blocks.plan(da.from_array(counts, chunks=chunks), budget=budget, keep_axes=keep)
    except DataError:
        return  # a chunk larger than the budget is refused, which test_plans holds
    lazy_in = da.from_array(counts, chunks=chunks)
    lazy = blocks.map_blocks(lazy_in, lambda b: b * 2, p)
    assert blocks.is_dask(lazy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_SCHEDULER", "synchronous")
        computed = lazy.compute(scheduler="synchronous")
    eager = blocks.map_blocks(counts, lambda b: b * 2, p)
    assert np.array_equal(computed, eager)
    assert computed.dtype == eager.dtype == counts.dtype
    assert lazy.chunks == p.chunks
    for reduction in (MOMENTS, EXTREMES):
        a = blocks.reduce(counts, reduction, p)
        b = blocks.reduce(lazy_in, reduction, p, lazy=True).compute(scheduler="synchronous")
        assert tuple(a) == pytest.approx(tuple(b))


def test_axes_can_be_dropped_lazily_and_eagerly(counts):
    p = blocks.plan(counts, budget="200 B", keep_axes=(1,))
    eager = blocks.map_blocks(counts, lambda b: b.mean(axis=1), p, dtype=float, drop_axes=(1,))
    lazy = blocks.map_blocks(da.from_array(counts), lambda b: b.mean(axis=1), p, dtype=float, drop_axes=(-2,))
    assert np.allclose(eager, counts.mean(axis=1))
    assert np.allclose(lazy.compute(), eager)


def test_results_can_go_to_a_file(counts, tmp_path):
    p = blocks.plan(counts, budget="200 B")
    with h5py.File(tmp_path / "out.h5", "w") as file:
        out = file.create_dataset("x", counts.shape, "f4")
        assert blocks.map_blocks(da.from_array(counts), np.sqrt, p, out=out, dtype="f4") is out
        assert np.allclose(out[:], np.sqrt(counts))


def test_exact_sums_of_counts(counts):
    p = blocks.plan(counts, budget="200 B", keep_axes=(1, 2))
    total = blocks.reduce(counts, sum_over((0,)), p)
    assert total.dtype == np.uint64
    assert np.array_equal(total, counts.sum(axis=0))


def test_moments_leave_out_and_count_what_is_not_finite():
    x = np.array([1.0, np.nan, 3.0, np.inf, 8.0, 8.0])
    m = blocks.reduce(x, MOMENTS, blocks.plan(x, budget=32))
    assert (m.n, m.n_not_finite, m.mean) == (4, 2, 5.0)
    nothing = np.full(6, np.nan)
    assert np.isnan(blocks.reduce(nothing, MOMENTS, blocks.plan(nothing, budget=32)).mean)
    assert np.isnan(blocks.reduce(nothing, EXTREMES, blocks.plan(nothing, budget=32)).largest)


def test_moments_are_stable_far_from_zero():
    x = 1e9 + np.random.default_rng(2).normal(size=4000)
    m = blocks.reduce(x, MOMENTS, blocks.plan(x, budget=1600))
    assert m.variance == pytest.approx(x.var(), rel=1e-6)


def test_a_reduction_may_use_where_the_block_lies():
    x = np.zeros((7, 3))
    x[5, 1] = 2
    rows = Reduction(
        "centre row",
        lambda b, at: np.array([(b.sum(1) * np.arange(at[0].start, at[0].stop)).sum(), b.sum()]),
        np.add,
        lambda s: float(s[0] / s[1]),
    )
    assert blocks.reduce(x, rows, blocks.plan(x, budget=100)) == 5


def test_misuse_is_refused(counts):
    p = blocks.plan(counts, budget="200 B")
    other = blocks.plan(np.zeros((3, 3)), budget="200 B")
    with pytest.raises(DataError, match="plan for"):
        blocks.stream(counts, other)
    with pytest.raises(DataTypeError, match="list"):
        blocks.stream([1, 2], p)
    with pytest.raises(DataTypeError, match="lazy"):
        blocks.reduce(counts, MOMENTS, p, lazy=True)
    with pytest.raises(DataTypeError, match="dtype='float"):
        blocks.map_blocks(counts, np.sqrt, p)
    with pytest.raises(DataError, match="turns"):
        blocks.map_blocks(counts, lambda b: b[:1, :1, :1], p)
    with pytest.raises(DataError, match="keep_axes"):
        blocks.map_blocks(counts, lambda b: b.sum(0), p, drop_axes=(0,))
    with pytest.raises(DataError, match="axes from"):
        blocks.map_blocks(counts, lambda b: b.sum(0), p, drop_axes=(7,))
    with pytest.raises(DataError, match="out of shape"):
        blocks.map_blocks(counts, lambda b: b, p, out=np.zeros(3))


def test_importing_compute_imports_neither_dask_nor_torch():
    code = (
        "import sys, fairstem.compute as c; c.plan; c.stream; c.choose; c.track; "
        "print([m for m in ('dask', 'torch', 'h5py', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
