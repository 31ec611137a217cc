"""Lazy work item by item: the number of the item, chunks, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem.compute import map_items
from fairstem.errors import DataError, DataTypeError

da = pytest.importorskip("dask.array")


@pytest.mark.parametrize("chunks", [(1, 4, 5, 6), (3, 2, 5, 2), (2, 3, 1, 6)])
def test_every_item_knows_its_number(chunks):
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 6))
    lazy = map_items(da.from_array(x, chunks=chunks), lambda k, item: item[::-1] + k, dtype="float32")
    assert isinstance(lazy, da.Array)
    assert lazy.chunks[:3] == ((1, 1, 1), (4,), (5,))
    assert lazy.dtype == np.float32
    expected = x[:, ::-1] + np.arange(3)[:, None, None, None]
    np.testing.assert_allclose(lazy.compute(scheduler="sync"), expected, rtol=1e-6)


def test_the_other_axes_are_cut_as_told():
    x = da.ones((2, 4, 4, 10))
    lazy = map_items(x, lambda k, item: item, dtype=float, chunks=((3, 3, 4),))
    assert lazy.chunks == ((1, 1), (4,), (4,), (3, 3, 4))


def test_bad_input_is_named():
    with pytest.raises(DataTypeError, match="ndarray"):
        map_items(np.ones((2, 3, 3)), lambda k, item: item, dtype=float)
    with pytest.raises(DataError, match="at least 3 axes"):
        map_items(da.ones((2, 3)), lambda k, item: item, dtype=float)
    lazy = map_items(da.ones((2, 3, 3)), lambda k, item: item[0], dtype=float)
    with pytest.raises(DataError, match=r"turns \(3, 3\) into \(3,\)"):
        lazy.compute(scheduler="sync")
