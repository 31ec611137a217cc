import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairstem.compute.plans import plan
from fairstem.errors import DataError, DataTypeError

shapes = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)


class Stored:
    """What plan looks at in an HDF5 dataset."""

    def __init__(self, shape, chunks, dtype="uint16"):
        self.shape, self.chunks, self.dtype = shape, chunks, np.dtype(dtype)


@given(shape=shapes, budget=st.integers(16, 4000))
def test_blocks_tile_the_array_within_the_budget(shape, budget):
    p = plan(shape, "float64", budget=budget)
    seen = np.zeros(shape, int)
    for at in p:
        seen[at] += 1
        assert seen[at].size * 8 <= p.block_bytes
    assert (seen == 1).all()
    assert len(p) == p.n_blocks == len(p.slices)
    assert p.block_bytes == math.prod(p.block_shape) * 8
    assert p.peak_bytes <= budget
    assert tuple(map(sum, p.chunks)) == shape


@settings(max_examples=60)
@given(data=st.data(), shape=shapes)
def test_blocks_follow_the_chunks_when_the_budget_allows(data, shape):
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    one = math.prod(chunks) * 2
    p = plan(Stored(shape, chunks), budget=max(one * 2, 8))
    assert p.aligned
    for size, chunk, edges in zip(shape, chunks, p.edges, strict=True):
        assert all(edge % chunk == 0 or edge == size for edge in edges)


def test_dask_chunks_may_be_irregular():
    p = plan(Stored((10, 4), ((3, 0, 5, 2), (4,))), budget="159 B")
    assert p.edges == ((0, 8, 10), (0, 4))


def test_blocks_cut_through_chunks_too_large_for_the_budget_and_say_so():
    p = plan(Stored((64, 8), (32, 8), "uint8"), budget=300)
    assert not p.aligned
    assert p.peak_bytes >= 32 * 8
    assert "more than once" in str(p)


def test_axes_that_are_kept_are_never_cut():
    p = plan((6, 5, 4, 4), "uint16", budget=70, keep_axes=(-2, -1))
    assert p.block_shape == (1, 1, 4, 4)
    assert p.n_blocks == 30


def test_everything_in_one_block_when_it_fits():
    assert plan(np.zeros((3, 4)), budget="1 kB").n_blocks == 1


def test_long_axes_cost_no_memory():
    assert plan((10**12,), "uint8", budget="100 GB").n_blocks == 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"source": (4, 4), "dtype": "f8", "budget": 100, "keep_axes": (0, 1)}, "raise the budget"),
        ({"source": (4, 4), "dtype": "f8", "budget": "3 furlongs"}, "MB"),
        ({"source": (4, 0), "dtype": "f8"}, "at least one element"),
        ({"source": (), "dtype": "f8"}, "at least one axis"),
        ({"source": (4, float("nan")), "dtype": "f8"}, "integers"),
        ({"source": (4, 4), "dtype": "f8", "keep_axes": (2,)}, "axes from 0 to 1"),
        ({"source": (4, 4), "dtype": "f8", "working": -1}, "0 or more"),
        ({"source": Stored((64, 64), (64, 64), "f8"), "budget": "1 kB"}, "smaller chunks"),
    ],
)
def test_impossible_plans_say_what_to_do(arguments, says):
    with pytest.raises(DataError, match=says):
        plan(**arguments)


@pytest.mark.parametrize(
    ("source", "dtype"), [((4, 4), None), ("file.h5", "f8"), ((4,), object), ((4,), "nonsense")]
)
def test_wrong_types_are_refused(source, dtype):
    with pytest.raises(DataTypeError):
        plan(source, dtype)
