"""The benchmark of the Pt nanoparticle: its summary, and that its worker measures the example."""

import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import register_pt, workers

sys.path.insert(0, str(Path(workers.__file__).parent))  # workers run as scripts

import pt_table


def record(error, sd=2.0, n=200):
    atoms = [
        {
            "true_place": "corner" if k % 4 == 0 else "edge",
            "change_pm": e, "sd_change_pm": sd, "true_change_pm": 0.0,
            "inward_pm": 2 * e, "sd_inward_pm": sd, "true_inward_pm": 0.0,
        }
        for k, e in enumerate(np.random.default_rng(0).normal(0, error, n))
    ]  # fmt: skip
    return {"atoms": atoms, "false": 1, "cpu_s": 3.0, "cpu_align_s": 2.0}


def test_summary_counts_error_bars_that_reach_the_truth():
    row = register_pt.summary([record(2.0), record(2.0)])
    assert row["cover"] == pytest.approx(68.3, abs=5)
    assert row["cover_inward"] == pytest.approx(38.3, abs=6)
    assert row["score"] == pytest.approx(row["rms"] / 2.0)
    assert (row["seeds"], row["atoms"], row["false"], row["cpu_s"]) == (2, 400, 2, 3.0)
    assert set(row) | {"film", "way"} == set(register_pt.COLUMNS)


def test_series_that_failed_counts_as_a_seed_without_atoms():
    row = register_pt.summary([{"atoms": [], "failed": "no lattice"}])
    assert row == {"seeds": 1, "atoms": 0, "false": 0}


def test_worker_runs_the_example():
    pt = pt_table.example()
    assert set(pt.WAYS) == set(register_pt.WAYS)
    assert set(pt_table.CASES) == set(register_pt.CASES)
