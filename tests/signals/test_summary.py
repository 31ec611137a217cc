"""The summary is JSON, right, and does not read lazy data."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.signals import Step, describe, open_data


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


def test_huge_sparse_files_stay_small(sample):
    files = [str(sample(n)) for n in ("View000_0000006.pts", "0.bcf")]
    code = (
        "import resource, sys\n"
        "from fairstem.signals import load, describe\n"
        "for path in sys.argv[1:]:\n"
        "    s = load(path, lazy=True, warn=False)\n"
        "    print([(d['shape'], d['pixel_size_nm'][0], [f['code'] for f in d['findings']]) "
        "for d in map(describe, s if isinstance(s, list) else [s])])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    pts, bcf, megabytes = map(ast.literal_eval, done.stdout.splitlines())
    assert pts == [([512, 512, 4096], 8.69140625, ["signal-type", "values-not-checked"])]
    assert [b[0] for b in bcf] == [[256, 256], [256, 256, 2048]]
    assert megabytes < 500
