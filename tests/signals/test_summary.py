"""The summary is JSON, right, and does not read lazy data."""

from __future__ import annotations

import json
import tracemalloc

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.signals import Step, describe, load, open_data


def test_counts_per_position_is_the_dose():
    data = np.random.default_rng(0).poisson(3.0, (6, 7, 8, 8))
    scan = hs.signals.Signal2D(data)
    scan.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200)
    out = open_data(scan).rewrap(scan.data, Step("fairstem.test"))
    summary = json.loads(json.dumps(describe(out), allow_nan=False))
    assert summary["kind"] == "4D scan"
    assert summary["counts"] is True
    assert summary["counts_per_position"] == pytest.approx(data.sum((2, 3)).mean())
    assert summary["beam_energy_kev"] == 200
    assert [s["function"] for s in summary["steps"]] == ["fairstem.test"]
    assert summary["values"]["max"] == data.max()
    assert {f["code"] for f in summary["findings"]} >= {"pixel-size-missing"}


def test_values_leave_out_nan():
    data = np.array([[1.5, np.nan], [np.inf, 2.5]])
    assert describe(data)["values"] == {"min": 1.5, "max": 2.5, "mean": 2.0}
    assert describe(data * np.nan)["values"] is None
    assert json.dumps(describe(data), allow_nan=False)


def test_lazy_data_are_not_read():
    def explode(block):
        raise AssertionError("computed")

    lazy = da.ones((64, 32), chunks=(16, 32)).map_blocks(explode, dtype="f4", meta=np.empty((0, 0), "f4"))
    summary = describe(hs.signals.Signal2D(lazy).as_lazy())
    assert summary["lazy"]
    assert summary["values"] is None
    assert summary["bytes"] == 64 * 32 * 4
    assert summary["chunks"] == {"largest": [16, 32], "number": 4, "largest_bytes": 16 * 32 * 4}
    assert describe(lazy)["kind"] == "image"


def test_sparse_file_stays_small(sample):
    path = sample("0.bcf")
    tracemalloc.start()
    try:
        signals = load(path, lazy=True, warn=False)
        shapes = [describe(signal)["shape"] for signal in signals]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shapes == [[256, 256], [256, 256, 2048]]
    assert peak < signals[1].data.nbytes / 4


def test_the_grey_levels_of_a_picture_are_no_counts(tmp_path):
    import imageio.v3 as iio

    levels = np.random.default_rng(0).poisson(60.0, (32, 32)).astype(np.uint8)
    iio.imwrite(tmp_path / "screen.png", levels)
    summary = describe(load(tmp_path / "screen.png", warn=False))
    assert "eight-bit-picture" in {f["code"] for f in summary["findings"]}
    assert summary["counts"] is False
    assert summary["counts_per_position"] is None
    assert describe(levels)["counts"] is True
