"""The hash depends on the data alone; steps are JSON."""

from __future__ import annotations

import json

import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairstem.errors import DataTypeError
from fairstem.signals import Step, provenance, sha256


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.data())
def test_hash_is_independent_of_the_chunks(shape, draw):
    array = np.random.default_rng(0).normal(size=shape)
    chunks = tuple(draw.draw(st.integers(1, n)) for n in shape)
    assert sha256(da.from_array(array, chunks=chunks)) == sha256(array)


@pytest.mark.parametrize("budget", [8, 64, 200, 10**6])
def test_hash_is_independent_of_the_block_size(budget, monkeypatch):
    array = np.arange(4 * 5 * 6, dtype="<u2").reshape(4, 5, 6)
    expected = sha256(array)
    monkeypatch.setattr(provenance, "_BUDGET", budget)
    assert sha256(array) == expected
    assert sha256(da.from_array(array, chunks=(3, 2, 4))) == expected


def test_hash_of_memmap_h5py_layout_and_byte_order(tmp_path):
    array = np.random.default_rng(1).integers(0, 999, (6, 7)).astype("<u2")
    expected = sha256(array)
    np.save(tmp_path / "a.npy", array)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert sha256(file.create_dataset("a", data=array)) == expected
    same = [np.load(tmp_path / "a.npy", mmap_mode="r"), np.asfortranarray(array), array.astype(">u2")]
    same += [np.repeat(array, 2, 1)[:, ::2], hs.signals.Signal2D(array)]
    assert {sha256(a) for a in same} == {expected}


def test_hash_sees_value_shape_and_dtype():
    array = np.arange(6.0)
    others = [array + 1e-9, array.reshape(2, 3), array.astype("f4"), array[::-1], array[:0]]
    assert len({sha256(a) for a in [array, *others]}) == 6


def test_hash_of_a_scalar_and_of_objects():
    assert sha256(np.float64(3)) == sha256(np.array(3.0))
    with pytest.raises(DataTypeError, match="numeric dtype"):
        sha256(np.array([{}]))
    with pytest.raises(DataTypeError, match="array with dtype"):
        sha256([1, 2])


def test_step_is_json_whatever_the_parameters():
    parameters = {
        "nan": float("nan"),
        "long": np.zeros(1000),
        "short": np.array([1, 2]),
        "lazy": da.zeros((10, 10)),
        "tuple": (1, {2}),
        3: object,
    }
    step = Step("f", parameters=parameters)
    text = json.loads(json.dumps(step.to_dict(), allow_nan=False))
    assert text["parameters"]["nan"] is None
    assert text["parameters"]["long"]["shape"] == [1000]
    assert text["parameters"]["short"] == [1, 2]
    assert text["parameters"]["lazy"] == {"type": "Array", "shape": [10, 10]}
    assert text["version"]
