"""The benchmark of registration: its series, what the peers are given, and its judge."""

import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import series, workers

from fairstem.register._series.motion import RowMotion

sys.path.insert(0, str(Path(workers.__file__).parent))  # workers run as scripts and import each other so

import iterated_average as common
import lazy_series
import make_series
import register_fairstem
import score_series


@pytest.fixture(scope="module")
def p1():
    return make_series.p1(0, 30.0, frames=4, shape=(128, 128))


@pytest.fixture(scope="module")
def undone(p1):
    moved = register_fairstem.truth(p1)
    return {"displacement": moved, "average": common.average(p1["frames"], moved), "cpu_s": 0.0}


def test_true_displacement_has_no_error_and_columns_near_the_counting_noise(p1, undone):
    scores = score_series.judge(p1, undone)
    assert scores["rmse_px"] < 0.01
    assert scores["hop_px"] < 0.05
    assert scores["column_pm"] < 2.5
    assert scores["width"] == pytest.approx(1.0, abs=0.02)
    assert scores["lost"] == 0


def test_frame_a_cell_away_is_a_hop_and_an_error(p1, undone):
    hopped = undone["displacement"].copy()
    hopped[1, 1] += 0.3905 / 0.018
    object_at, inside = score_series.reached(hopped, p1["u"])
    assert score_series.hop(object_at, inside) == pytest.approx(0.3905 / 0.018, abs=0.1)


def test_turned_scan_is_that_of_the_package():
    rows = np.random.default_rng(0).normal(0, 0.5, (1, 2, 40))
    own = np.broadcast_to(rows[0][:, :, None], (2, 40, 32))
    motion = RowMotion(rows, (40, 32), np.array([90.0]))
    assert make_series.turn(own, 90.0) == pytest.approx(motion.forward(0), abs=1e-9)


def test_true_displacement_of_turned_scans():
    rows = make_series.simulate.RowDistortion(jitter_px=(0.0, 0.1)).series((64, 64), 2, 1)
    u = np.stack([make_series.turn(rows[0], 0.0), make_series.turn(rows[1], 90.0)])
    moved = register_fairstem.truth({"u": u, "angles": np.array([0.0, 90.0])})
    assert score_series.metrics.displacement_error(moved, u).rmse < 0.01


def test_planted_shifts_are_kept_by_the_true_displacement():
    data = make_series.planted(1, 300.0)
    data |= {"frames": data["frames"][:3], "u": data["u"][:3], "angles": data["angles"][:3]}
    moved = register_fairstem.truth(data)
    found = {"displacement": moved, "average": common.average(data["frames"], moved), "cpu_s": 0.0}
    assert score_series.judge(data, found)["kept"] == pytest.approx(1.0, abs=0.1)


def test_series_that_is_not_row_wise_has_what_it_says(monkeypatch):
    monkeypatch.setattr(make_series, "FRAMES", 6)
    data = make_series.dense(0, 30.0)
    middle = np.median(data["u"], axis=(2, 3))
    apart = np.hypot(*(middle - np.median(middle, axis=0)).T)
    assert apart[make_series.JUMP_FRAME] == pytest.approx(25, abs=6)
    assert np.ptp(data["u"], axis=3).max() > 1.0
    assert data["frames"][0, :40, :40].mean() < 1.0  # vacuum
    assert data["frames"][0, :, 235:].mean() > 8.0
    assert 40 < data["scored"].sum() < len(data["truth"])


@pytest.mark.parametrize("shift", [(3.0, -7.0), (-20.0, 11.0)])
def test_translation_is_found(shift):
    image = make_series.simulate.phantom("single-atoms", seed=2, shape=(160, 160)).clean
    dy, dx = map(int, shift)
    a, b = image[30:130, 30:130], image[30 - dy : 130 - dy, 30 - dx : 130 - dx]
    assert common.shift_between(a, b, 25.0) == pytest.approx(shift, abs=0.2)


def test_displacements_are_composed():
    start, found = np.full((2, 16, 16), 1.5), np.full((2, 16, 16), -0.5)
    assert common.compose(start, found) == pytest.approx(1.0)


def test_iteration_takes_the_mean_off(p1):
    images = common.filtered(p1["frames"], 1.0)
    moved = common.iterate(
        images, np.zeros((4, 2)), lambda average, frame, start: start + frame[0, 0], rounds=1
    )
    assert abs(moved.mean(axis=0)).max() < 1e-12


def test_rows_that_are_undone_have_no_error():
    rows = make_series.simulate.RowDistortion(jitter_px=(0.0, 0.2)).series((64, 2), 3, 0)[..., 0]
    number = np.arange(64.0)
    undone = np.empty_like(rows)
    for k, own in enumerate(rows):
        at = np.interp(number, number + own[0], number, left=-1.0, right=64.0)  # outside: not scored
        undone[k] = at - number, -np.interp(at, number, own[1])
    assert lazy_series.error(undone, rows) < 0.02


def test_lazy_series_is_made_as_it_is_read(tmp_path):
    lazy_series.make(tmp_path / "a.h5", 64, 2, True)
    with lazy_series.h5py.File(tmp_path / "a.h5") as file:
        assert file["series"].shape == (2, 64, 64)
        assert file["spectra"].shape == (2, 64, 64, lazy_series.CHANNELS)
        assert file["rows"].shape == (2, 2, 64)
        assert 1 < file["series"][()].mean() < 30


def test_rows_of_the_table_compare_the_seeds_that_both_have():
    ours = [{"rmse_px": e, "column_pm": 3.0, "width": 1.0, "lost": 0, "cpu_s": 0.5} for e in (0.1, 0.3)]
    peer = [{"rmse_px": 0.2, "column_pm": 3.0, "width": 0.96, "lost": 1, "cpu_s": 5.0}]
    row = series.row(peer, ours)
    assert row["times"] == pytest.approx(10)
    assert row["error_times"] == pytest.approx(2)
    assert row["seeds"] == row["lost"] == 1
