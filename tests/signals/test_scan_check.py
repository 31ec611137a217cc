"""What the patterns of a scan are is said as it is: counts, averages, empty, saturated, hot; sampled when large."""

from __future__ import annotations

import json
import subprocess
import sys

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from fairstem.signals import check_signal, describe, load
from fairstem.signals.opening import load_to_look
from fairstem.signals.scan_check import pattern_statistics, sample

NY, NX, KY, KX = 6, 7, 20, 24


def expected(dose):
    """A disc on a larger detector, so that it has an inside, a rim and an outside."""
    y, x = np.mgrid[:KY, :KX]
    disc = (np.hypot(y - 10, x - 12) < 7) + 0.01
    return dose * disc / disc.sum()


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(expected(2000.0), (NY, NX, KY, KX)).astype("u2")


def scan_of(data, lazy=False):
    signal = hs.signals.Signal2D(data)
    for axis in signal.axes_manager._axes[-2:]:
        axis.scale, axis.units, axis.offset = 1.5, "mrad", -15.0
    for axis in signal.axes_manager._axes[:-2]:
        axis.scale, axis.units = 0.1, "nm"
    return signal.as_lazy() if lazy else signal


def codes(findings):
    return {f["code"] if isinstance(f, dict) else f.code for f in findings}


@pytest.mark.parametrize("lazy", [False, True])
def test_counted_scan_is_clean(counts, lazy):
    summary = json.loads(json.dumps(describe(scan_of(counts, lazy), sample=True), allow_nan=False))
    scan = summary["scan"]
    assert summary["kind"] == "4D scan"
    assert (scan["scan_shape"], scan["detector_shape"]) == ([NY, NX], [KY, KX])
    assert scan["dose_per_pattern"] == pytest.approx(2000, rel=0.01)
    assert (scan["values_are"], scan["dose_unit"]) == ("counts", "counts")
    assert (scan["empty_patterns"], scan["saturated_fraction"], scan["hot_pixels"]) == (0, 0, [])
    assert scan["optic_axis_px"] == [10, 10]
    assert scan["looked_at"] == NY * NX
    assert not [f for f in summary["findings"] if f["severity"] == "warning"]
    assert "values-not-checked" not in codes(summary["findings"])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("averaged", ["binned", "mean", "scaled"])
def test_averages_are_fatal_for_poisson_models(counts, averaged, lazy):
    changed = {
        "binned": counts.reshape(NY, NX, KY // 2, 2, KX // 2, 2).mean((3, 5)).astype("f4"),
        "mean": (counts / 10).astype("f4"),
        "scaled": (counts / np.pi).astype("f4") * (1 + 0.1 * np.sin(np.arange(KX))),
    }[averaged]
    summary = describe(scan_of(changed, lazy), sample=True)
    message = {f["code"]: f["message"] for f in summary["findings"]}["averages"]
    assert "fatal for Poisson models" in message
    assert summary["counts"] is False
    assert summary["scan"]["dose_unit"] == "detector units"


@pytest.mark.parametrize("lazy", [False, True])
def test_defects_are_counted(counts, lazy):
    broken = np.minimum(counts, 14)
    broken[2, 1:4] = 0
    broken[..., 1, 2] = 200
    broken[..., KY - 1, KX - 1] = 300
    summary = describe(scan_of(broken, lazy), sample=True)
    assert summary["scan"]["empty_patterns"] == 0  # the hot pixels shine in them too
    assert summary["scan"]["hot_pixels"] == [[1, 2], [KY - 1, KX - 1]]
    broken[..., 1, 2] = broken[..., KY - 1, KX - 1] = 0
    broken[2, 1:4] = 0
    summary = describe(scan_of(broken, lazy), sample=True)
    assert summary["scan"]["empty_patterns"] == 3
    assert summary["scan"]["saturated_fraction"] > 0.01
    assert {"empty-patterns", "saturated"} <= codes(summary["findings"])
    assert "hot-pixels" not in codes(summary["findings"])


def test_scan_without_a_single_count():
    summary = describe(scan_of(np.zeros((3, 4, 8, 8), "u2")))
    assert summary["scan"]["empty_patterns"] == 12
    assert summary["scan"]["dose_per_pattern"] == 0
    assert "empty-patterns" in codes(summary["findings"])


def test_single_events_are_no_hot_pixels():
    sparse = np.random.default_rng(0).poisson(0.002, (10, 10, 32, 32)).astype("u1")
    assert len(pattern_statistics(sparse, everything=True).hot) == 0


def test_not_finite_and_negative(counts):
    data = counts.astype("f4") - 1
    data[0, 0, 0, 0] = np.nan
    assert {"not-finite", "negative"} <= codes(check_signal(scan_of(data)))


def test_time_series_is_named(counts):
    series = scan_of(np.stack([counts, counts]))
    summary = describe(series)
    assert summary["kind"] == "4D scan series"
    assert summary["scan"]["series"] == [2]
    message = {f.code: f.message for f in check_signal(series)}["time-series"]
    assert "s.inav[:, :, 0]" in message
    assert series.inav[:, :, 0].data.shape == counts.shape
    assert series.sum(axis=2).data.shape == counts.shape


def test_sample_is_spread_over_the_scan_and_bounded():
    lazy = da.arange(200 * 300, chunks=999).reshape(200, 300)[:, :, None, None] * np.ones((1, 1, 4, 4), "i8")
    blocks = list(sample(lazy, 2))
    first = np.array([b[0, 0, 0] for b in blocks])
    assert len(blocks) == 16
    assert sum(map(len, blocks)) == 128
    assert first[0] == 0
    assert blocks[-1][-1, 0, 0] == 200 * 300 - 1
    assert np.diff(first).min() > 2000
    assert sum(map(len, sample(lazy, 2, budget=3 * 128))) == 3


def test_lazy_sample_says_so(counts):
    big = da.from_array(np.tile(counts, (2, 3, 1, 1)), chunks=(3, 4, KY, KX))
    signal = scan_of(big)
    signal = signal.as_lazy() if not signal._lazy else signal
    summary = describe(signal, sample=True)
    assert summary["sampled"] == [128, 12 * 21] or summary["sampled"][0] < 12 * 21
    assert "values-sampled" in codes(summary["findings"])
    assert summary["scan"]["dose_per_pattern"] == pytest.approx(2000, rel=0.02)
    assert describe(signal)["scan"]["looked_at"] == 0


@pytest.mark.parametrize(("step", "unit"), [(0.0, "1/nm"), (31_000.0, "1/nm"), (500.0, "mrad")])
def test_absurd_detector_step(counts, step, unit):
    signal = scan_of(counts)
    for axis in signal.axes_manager._axes[2:]:
        axis.scale, axis.units = step, unit
    assert "diffraction-step-absurd" in codes(check_signal(signal))


def test_detector_that_is_not_square(counts):
    signal = scan_of(counts)
    assert not codes(check_signal(signal)) & {"detector-not-square", "optic-axis-unset"}
    signal.axes_manager[-1].scale *= 1.1
    assert "detector-not-square" in codes(check_signal(signal))


def test_small_files_are_read_and_large_ones_opened(tmp_path, monkeypatch, counts):
    scan_of(counts).save(tmp_path / "a.hspy")
    np.save(tmp_path / "a.npy", counts)
    assert not load_to_look(tmp_path / "a.hspy", warn=False)[0]._lazy
    assert not load_to_look(tmp_path / "a.npy", warn=False)[0]._lazy
    monkeypatch.setattr("fairstem.signals.opening._LARGE", 1000)
    for name in ("a.hspy", "a.npy"):
        (opened,) = load_to_look(tmp_path / name, warn=False)
        assert opened._lazy
        assert describe(opened, sample=True)["scan"]["dose_per_pattern"] == pytest.approx(2000, rel=0.01)


MEASURE = """
import sys, warnings
warnings.simplefilter("ignore")
from fairstem.compute.memory import peak_process_bytes
from fairstem.signals import describe
from fairstem.signals.opening import load_to_look
(signal,) = load_to_look(sys.argv[1], warn=False)
values = describe(signal, sample=True)["values"]["mean"]
print(signal.data.nbytes / 1e6, values, peak_process_bytes() / 1e6)
"""


def test_map_of_events_opens_in_less_than_500_mb(sample):
    path = sample("View000_0000006.pts")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    dense, mean, peak = map(float, done.stdout.split())
    assert dense > 1000
    assert mean > 0
    assert peak < 500


def test_lazy_load_of_a_scan_is_not_read(tmp_path, counts):
    scan_of(counts).save(tmp_path / "a.hspy")
    scan = load(tmp_path / "a.hspy", lazy=True, warn=False)
    assert "values-not-checked" in codes(scan.metadata.fairstem.reading.findings)
