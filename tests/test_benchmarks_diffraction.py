"""The benchmark of diffraction: its truths, its judges, and its tables on scans of a few positions."""

import importlib
import json
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from benchmarks import (
    diffraction,
    diffraction_calibration,
    diffraction_files,
    diffraction_pacbed,
    diffraction_speed,
    diffraction_symmetry,
    methods,
    tables,
    workers,
)
from benchmarks.harness import Cost

sys.path.insert(0, str(Path(workers.__file__).parent))  # workers run as scripts and import each other so

import compare_results
import crystal_sites
import make_distorted
import make_scan
import operation_timing
import operations_fairstem
import operations_numpy
import score_calibration
import score_symmetry

from fairstem import simulate


@pytest.fixture(scope="module")
def counts():
    """A scan of 22 x 22 positions, 32² px."""
    return np.stack(list(make_scan.rows(make_scan.PERIOD, 32)))


# ------------------------------------------------------------------ truths


def test_patterns_have_the_symmetry_of_their_sites():
    scan = simulate.thin_scan("SrTiO3", (8, 8), detector=(21, 21), mrad_per_px=2.5)
    views = {
        "C2": lambda p: p[::-1, ::-1],
        "C4": np.rot90,
        "mx": lambda p: p[::-1],
        "my": lambda p: p[:, ::-1],
        "m45": np.transpose,
        "m135": lambda p: np.rot90(p, 2).T,
    }
    for name, view in views.items():
        sites = crystal_sites.on_element(name, 8)
        off = np.array([[abs(view(p) - p).max() for p in row] for row in scan.intensities])
        assert off[sites].max() < 1e-3 * off[~sites].min()
    assert not crystal_sites.on_element("C3", 8).any()


def test_distortion_puts_a_disc_where_it_says():
    center, descan, ellipse = make_distorted.geometry(3, 1, 33)
    radius = 8.0
    side = 4 * 33 + 49
    y, x = np.indices((side, side)) - (side - 1) / 2
    disc = (np.hypot(y, x) / make_distorted.FINE < radius).astype(float)
    pattern = make_distorted.seen(disc, center, ellipse, 33)
    assert pattern.sum() == pytest.approx(disc.sum(), rel=0.01)
    y, x = np.indices(pattern.shape)
    assert (pattern * y).sum() / pattern.sum() == pytest.approx(center[0], abs=0.02)
    assert (pattern * x).sum() / pattern.sum() == pytest.approx(center[1], abs=0.02)
    at = np.stack([y - center[0], x - center[1]]).reshape(2, -1)
    spread = (ellipse @ at * pattern.ravel()) @ (ellipse @ at).T / pattern.sum()
    assert spread == pytest.approx(np.eye(2) * radius**2 / 4, abs=0.1)
    assert abs(descan).max() * make_distorted.CELL <= make_distorted.DESCAN_PX


def test_scan_in_a_file_is_that_in_memory(tmp_path):
    for name in ("a.npy", "a.h5"):
        make_scan.main(str(tmp_path / name), "6", "16")
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["scan"][()] == np.load(tmp_path / "a.npy")).all()


# ------------------------------------------------------------------ judges


def test_true_map_has_no_error_and_half_an_error_bar_covers_all():
    positions = 8
    truth = np.full((1, positions, positions), 0.5)
    truth[0, crystal_sites.on_element("C2", positions)] = 1.0
    maps = {"operations": ["C2"], "truth": truth, "cpu_s": 1.0}
    found = score_symmetry.judge(maps | {"gamma": truth, "standard_error": np.full_like(truth, 0.1)})
    own = found["operations"]["C2"]
    assert (own["bias"], own["rmse"], own["worst"], own["sites"], own["within"]) == (0, 0, 0, 1, 1)
    found = score_symmetry.judge(maps | {"gamma": truth - 0.1})["operations"]["C2"]
    assert found["bias"] == pytest.approx(-0.1)
    assert found["sites"] == pytest.approx(0.9)
    assert "within" not in found


def test_true_geometry_has_no_error_and_none_leaves_the_ellipse():
    center, descan, ellipse = make_distorted.geometry(1, 2, 65)
    truth = {"counts": np.zeros((16, 16, 2, 2)), "center": center, "descan": descan, "ellipse": ellipse}
    truth["mrad_per_px"] = 1.0
    found = score_calibration.judge(truth, {k: v for k, v in truth.items() if k != "counts"} | {"cpu_s": 0.0})
    assert max(found.values()) == pytest.approx(0, abs=1e-9)
    found = score_calibration.judge(
        truth, {"center": center + np.array([0.3, 0.4]), "descan": descan, "cpu_s": 0.0}
    )
    assert found["center_px"] == pytest.approx(0.5)
    assert found["ellipse_percent"] == pytest.approx(100 * make_distorted.ELLIPTICITY)
    assert "mrad_percent" not in found


def test_difference_is_that_from_the_exact_result():
    exact = {("numpy", "bright"): np.array([1.0, 4.0]), ("numpy", "com_y"): np.zeros(2)}
    (row,) = compare_results.compared(exact | {("fairstem", "bright"): np.array([1.0, 3.5])})
    assert row == {"quantity": "bright", "package": "fairstem", "difference": 0.5, "scale": 4.0}


# ------------------------------------------------------------------ operations


@pytest.mark.parametrize("name", ["virtual", "com-plain", "pacbed"])
def test_fairstem_agrees_with_numpy(counts, name):
    ours = operations_fairstem.OPERATIONS[name](counts)
    exact = operations_numpy.OPERATIONS[name.removesuffix("-plain")](counts)
    assert ours.keys() == exact.keys()
    for key, value in exact.items():
        assert np.asarray(ours[key]) == pytest.approx(value, abs=1e-9 * abs(value).max())


def test_symmetry_is_measured_under_the_same_operations(counts):
    part = counts[:5, :5]
    plain = operations_numpy.symmetry(part)["gamma"]
    ours = operations_fairstem.symmetry(part)["gamma"]
    assert ours.shape == plain.shape
    assert (ours - plain).mean(axis=(1, 2)) == pytest.approx(np.zeros(4), abs=0.5)
    assert operations_fairstem.symmetry_all(part)["gamma"].shape[0] == len(operations_fairstem.ALL)
    threads = operations_fairstem.symmetry_threads(part)["gamma"]
    assert threads == pytest.approx(operations_fairstem.symmetry_all(part)["gamma"])


def test_median_of_repeats():
    result, cpu, wall = operation_timing.timed(lambda array: array.sum(), np.ones(4), 3)
    assert result == 4
    assert 0 <= cpu < 1
    assert 0 <= wall < 1


# ------------------------------------------------------------------ tables


@pytest.fixture
def here(monkeypatch):
    """Run workers in this process and cost nothing: tables are tested, not timed."""

    def worker(name, *arguments, **_):
        module = importlib.import_module(name)
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a scan of a few positions makes some methods doubt
            patch.setattr(sys, "argv", [name, *map(str, arguments)])
            if hasattr(module, "main"):
                module.main(*map(str, arguments))
            else:
                run(module)
        return Cost(1.0, 1.0, 100.0)

    for module in (diffraction_speed, diffraction_files, diffraction_pacbed, methods):
        monkeypatch.setattr(module, "worker", worker)
    for module in (diffraction_speed, diffraction_symmetry, diffraction_calibration):
        monkeypatch.setattr(module, "have_peers", lambda _: False)


def run(module):
    """Do what a worker without arguments of its own does when it is run."""
    if hasattr(module, "OPERATIONS"):
        operation_timing.run(module.OPERATIONS)
    else:
        module.calibration_timing.run(module.calibrate)


def checked(table, columns=()):
    """Every row has the table's columns only, no number is missing from `columns`, and it can be stored and shown."""
    assert table.rows
    for row in table.rows:
        assert set(row) <= set(table.columns)
        assert all(row.get(key) is not None for key in columns)
    assert json.loads(json.dumps(table.rows)) == table.rows
    assert tables.markdown(table)
    assert table.targets
    return table


def test_tables_of_operations(here, tmp_path):
    chosen = tuple(o for o in diffraction_speed.OPERATIONS if o.label.startswith(("virtual", "PACBED")))
    cost, agreement = diffraction_speed.operations(tmp_path, 8, 32, chosen)
    assert [row["method"] for row in cost.rows] == ["fairstem", "NumPy"] * 2
    assert not cost.targets
    checked(agreement, agreement.columns)
    assert {row["quantity"] for row in agreement.rows} == {
        diffraction_speed.QUANTITIES[key] for key in ("bright", "dark", "pacbed")
    }


def test_table_of_a_scan_in_a_file(here, tmp_path):
    table = diffraction_files.lazily(tmp_path, 6, 32, ("virtual", "com"))
    checked(table, ("what", "peak_mb", "cpu_s", "wall_s"))


def test_table_of_calibration(here, tmp_path, monkeypatch):
    def disc(path, detector, semiangle_mrad):
        side = 2 * int(make_distorted.FINE * (detector / 2 + 6)) + 1
        radius = np.hypot(*(np.indices((side, side)) - side // 2)) / make_distorted.FINE
        fine = np.clip(semiangle_mrad - radius + 0.5, 0, 1)
        return np.broadcast_to(fine / fine.sum(), (make_distorted.CELL,) * 2 + fine.shape)

    monkeypatch.setattr(make_distorted, "simulated", disc)
    table = diffraction_calibration.calibration(tmp_path, "distorted:1:33", (11_800.0,), 1)
    checked(table, ("method", "seeds", "center_px", "ellipse_percent", "cpu_s"))


def test_tables_of_symmetry(here, tmp_path, monkeypatch):
    import make_crystal_scan

    def thin(folder, positions, detector):
        return simulate.thin_scan("SrTiO3", (positions,) * 2, detector=(detector,) * 2, mrad_per_px=2.5)

    monkeypatch.setattr(make_crystal_scan, "simulated", thin)
    clean, noisy = diffraction_symmetry.symmetry(tmp_path, "cell:4:21", (11_800.0,), 2)
    checked(clean, ("operation", "least"))
    assert [row["operation"] for row in clean.rows] == list(crystal_sites.OPERATIONS)
    checked(noisy, ("bias", "rmse", "error", "within", "plain_bias", "plain_rmse"))
    assert clean.targets[0].endswith("met")


def test_table_of_plane_waves(here, tmp_path, monkeypatch):
    row = {"thickness_nm": 2.0, "tilt_mrad": 0.0, "same": 1e-3, "finer": 8e-3}
    rows = [row | {"abtem_cpu_s": 3.0, "abtem_fine_cpu_s": 6.0}]

    def worker(name, first, *_, **__):
        if name == "pacbed_tables":
            Path(first).write_text(
                json.dumps({"cpu_s": 1.0, "pattern_ms": 2.0, "rest_cpu_s": 1.0, "rows": rows})
            )

    monkeypatch.setattr(diffraction_pacbed, "worker", worker)
    table = diffraction_pacbed.plane_waves(tmp_path, (2.0,), (0.0,))
    checked(table, diffraction_pacbed.COLUMNS)
    assert [target.endswith("NOT met") for target in table.targets] == [False, True, False]


def test_real_file_that_is_not_at_hand_is_a_row_that_says_so(here, tmp_path, monkeypatch):
    monkeypatch.setattr(diffraction_files, "have", lambda _: False)
    table = diffraction_files.real_files(tmp_path)
    assert [row["shape"] for row in table.rows] == ["file not at hand"] * len(diffraction_files.FILES)


def test_topic_is_the_tables_in_one_run():
    assert diffraction.TITLE
    assert set(diffraction_files.OPERATIONS) <= set(operations_fairstem.OPERATIONS)
    assert {o.ours for o in diffraction_speed.OPERATIONS} == set(operations_fairstem.OPERATIONS)
