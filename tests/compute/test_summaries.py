"""Several numbers per position: the same for arrays and for any chunks of a lazy one."""

import dask.array as da
import numpy as np
import pytest

from fairstem.compute import plan
from fairstem.compute.summaries import summarise
from fairstem.errors import DataError


def values(block, at):
    """Depends on the place in the array, so that a wrong place shows."""
    rows = np.arange(at[0].start, at[0].stop)[:, None]
    columns = np.arange(at[1].start, at[1].stop)[None, :]
    return np.stack([block.sum((-2, -1)) * (rows + 10 * columns), block.max((-2, -1))])


@pytest.mark.parametrize("chunks", [(2, 3, 4, 4), (1, 5, 2, 4), (7, 5, 4, 4), ((3, 4), (1, 4), (4,), (1, 3))])
def test_lazy_equals_eager_for_any_chunks(chunks):
    x = np.random.default_rng(0).random((7, 5, 4, 4))
    eager = summarise(x, values, plan(x, budget="700 B", keep_axes=(2, 3)), number=2)
    lazy = da.from_array(x, chunks=chunks)
    got = summarise(lazy, values, plan(lazy, budget="1 MB", keep_axes=(2, 3)), number=2)
    assert isinstance(got, da.Array)
    assert got.shape == eager.shape == (2, 7, 5)
    np.testing.assert_array_equal(got.compute(scheduler="synchronous"), eager)
    np.testing.assert_array_equal(eager[1], x.max((-2, -1)))


def test_one_pattern_without_positions():
    x = np.ones((4, 4))
    got = summarise(x, lambda b, at: [b.sum()], plan(x, keep_axes=(0, 1)), number=1)
    assert got.shape == (1,)
    assert got[0] == 16
    lazy = da.from_array(x, chunks=2)
    assert summarise(lazy, lambda b, at: [b.sum()], plan(lazy, keep_axes=(0, 1)), number=1).compute()[0] == 16


def test_wrong_shapes_are_named():
    x = np.ones((4, 4, 6, 6))
    whole = plan(x, keep_axes=(2, 3))
    with pytest.raises(DataError, match=r"into \(3,\)"):
        summarise(x, lambda b, at: np.ones(3), whole, number=1)
    with pytest.raises(DataError, match="keep_axes"):
        summarise(x, values, plan(x, budget="100 B"), number=2)
    with pytest.raises(DataError, match="plan for"):
        summarise(x[:2], values, whole, number=2)
