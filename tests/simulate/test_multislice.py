"""Simulated 4D scans: what needs abTEM is skipped, by name, where it isn't installed."""

import importlib.util
import itertools

import numpy as np
import pytest

from fairstem import simulate
from fairstem.compute import progress
from fairstem.errors import DataError, DataTypeError, DataWarning, MissingDependencyError
from fairstem.signals.electrons import wavelength_nm
from fairstem.simulate import multislice
from fairstem.simulate._scan_plan import interpolation, plan_scan, slice_shift
from fairstem.simulate._scan_request import read_request
from fairstem.simulate.structures import Structure

needs_abtem = pytest.mark.skipif(
    importlib.util.find_spec("abtem") is None, reason="abTEM isn't installed (extra: simulate)"
)
SMALL = {"thickness_nm": 0.8, "semiangle_mrad": 13.6, "detector": 25, "max_angle_mrad": 30, "cache": None}
SYMMETRIES = {
    "C2": lambda p: p[::-1, ::-1],
    "C4": np.rot90,
    "mx": lambda p: p[::-1],
    "my": lambda p: p[:, ::-1],
    "m45": lambda p: p.T,
}


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def off_symmetry(pattern):
    pattern = pattern.astype(float)
    return {name: 1 - correlation(pattern, turn(pattern)) for name, turn in SYMMETRIES.items()}


def low_cell():
    """A cell without any symmetry, whose edges differ."""
    return Structure(
        np.array([38, 8, 22]),
        np.array([[0, 0, 0], [0.25, 0.6, 0], [0.55, 0.2, 0.5]]),
        (0.30, 0.42, 0.40),
        np.array([0.006, 0.007, 0.004]),
    )


def request(**changes):
    named = {
        "thickness_nm": 20.0,
        "semiangle_mrad": 13.6,
        "energy_kev": 200.0,
        "scan_px": 22,
        "detector": 65,
        "max_angle_mrad": 30.0,
        "frozen_phonons": 0,
    }
    options = {k: v for k, v in changes.items() if k not in named}
    return read_request(options, **{k: changes.get(k, v) for k, v in named.items()})


@pytest.fixture(scope="module")
def strontium_titanate():
    return simulate.multislice_scan("SrTiO3", scan_px=10, **SMALL)


# ---------------------------------------------------------------- the plan


def test_wavelength_at_200_kev():
    assert wavelength_nm(200) == pytest.approx(2.5079e-3, rel=1e-4)


@pytest.mark.parametrize(
    ("detector", "angle", "times"),
    [
        (65, 30, (1, 1, 1)),
        (33, 30, (6, 6, 1)),
        (129, 60, (8, 4, 1)),
        (17, 30, (1, 1, 1)),
        (255, 30, (6, 1, 1)),
    ],
)
def test_detector_comes_near_to_the_one_asked_for_and_keeps_the_axis_on_a_pixel(detector, angle, times):
    cell = simulate.crystal("SrTiO3").repeat(times)
    plan = plan_scan(cell, request(detector=detector, max_angle_mrad=angle))
    wanted = angle / ((detector - 1) / 2)
    assert np.allclose(plan.mrad_per_px, wanted, rtol=0.25)
    assert all(n % 2 == 1 for n in plan.binning)
    assert all(n % 2 == 0 for n in plan.points)


def test_default_scan_resolves_the_probe_and_is_even():
    plan = plan_scan(simulate.crystal("SrTiO3"), request(scan_px=None))
    assert max(plan.pixel_size_nm) <= wavelength_nm(200) / (4 * 13.6e-3)
    assert all(n % 2 == 0 for n in plan.scan)


def test_pixel_size_is_an_upper_limit():
    plan = plan_scan(simulate.crystal("SrTiO3"), request(scan_px=None, pixel_size_nm=0.02))
    assert plan.scan == (20, 20)
    assert plan.pixel_size_nm == pytest.approx((0.3905 / 20, 0.3905 / 20))


@pytest.mark.parametrize("zone", [(0, 0, 1), (1, 1, 0)])
def test_atoms_lie_in_the_middle_between_slice_boundaries(zone):
    cell = simulate.crystal("SrTiO3", zone=zone)
    slices = plan_scan(cell, request()).slices
    height = cell.shifted(z=slice_shift(cell, slices)).fractional[:, 2] * slices
    assert np.abs(height - np.round(height)).min() > 0.2


def test_slice_shift_of_two_planes_is_a_quarter_cell():
    assert slice_shift(simulate.crystal("SrTiO3"), 2) == pytest.approx(0.25)


@pytest.mark.parametrize(("simulated", "scan"), [(5, 5), (5, 12), (7, 8), (4, 4), (1, 3)])
def test_interpolation_is_exact_for_trigonometric_polynomials(simulated, scan):
    rng = np.random.default_rng(simulated)
    degree = (simulated - 1) // 2
    weights = rng.normal(size=(2, degree + 1))

    def polynomial(x):
        angle = 2 * np.pi * np.arange(degree + 1) * x[:, None]
        return np.cos(angle) @ weights[0] + np.sin(angle) @ weights[1]

    values = polynomial(np.arange(simulated) / simulated)
    expected = polynomial(np.arange(scan) / scan)
    np.testing.assert_allclose(interpolation(simulated, scan) @ values, expected, atol=1e-12)


# ---------------------------------------------------------------- against abTEM and physics


@needs_abtem
def test_patterns_at_symmetry_sites_are_symmetric(strontium_titanate):
    patterns = strontium_titanate.intensities
    for at in ((0, 0), (5, 5)):  # Sr; Ti/O
        assert max(map(abs, off_symmetry(patterns[at]).values())) < 1e-9
    for at in ((0, 5), (5, 0)):  # O
        off = off_symmetry(patterns[at])
        assert max(abs(off[name]) for name in ("C2", "mx", "my")) < 1e-9
        assert min(off["C4"], off["m45"]) > 1e-7
    assert min(off_symmetry(patterns[2, 1]).values()) > 1e-4


@needs_abtem
def test_the_two_oxygen_columns_are_turned_against_each_other(strontium_titanate):
    patterns = strontium_titanate.intensities
    assert correlation(patterns[0, 5], np.rot90(patterns[5, 0])) == pytest.approx(1, abs=1e-9)


@needs_abtem
def test_interpolated_positions_are_those_that_would_have_been_propagated():
    options = SMALL | {"detector": 17}
    few = simulate.multislice_scan("SrTiO3", scan_px=(12, 10), **options)
    all_of_them = simulate.multislice_scan("SrTiO3", scan_px=(12, 10), every_position=True, **options)
    difference = np.linalg.norm(few.intensities - all_of_them.intensities)
    assert difference < 1e-5 * np.linalg.norm(all_of_them.intensities)


@needs_abtem
@pytest.mark.parametrize(
    "optics", [{}, {"tilt_mrad": (6.0, -3.0)}, {"defocus_nm": 3.0}], ids=["plain", "tilt", "defocus"]
)
def test_axes_orientation_and_optics_are_those_of_abtem(optics):
    abtem = importlib.import_module("abtem")
    cell = low_cell()
    scan = simulate.multislice_scan(
        cell,
        thickness_nm=0.8,
        semiangle_mrad=20,
        scan_px=(3, 4),
        detector=(17, 23),
        max_angle_mrad=47.8,
        cache=None,
        **optics,
    )
    tilt, defocus = optics.get("tilt_mrad", (0, 0)), optics.get("defocus_nm", 0)
    plan = plan_scan(cell, read_request({}, **request_of(scan)))
    assert plan.binning == (1, 1)
    ny, nx = plan.cells
    with abtem.config.set({"dask.lazy": False, "diagnostics.progress_bar": False}):
        atoms = cell.shifted(z=0.25).repeat((nx, ny, 2)).to_ase()
        potential = abtem.Potential(atoms, gpts=plan.grid[::-1], slice_thickness=2.0)
        probe = abtem.Probe(
            energy=200e3, semiangle_cutoff=20, tilt=tilt[::-1], defocus=10 * defocus, soft=False
        )
        probe.grid.match(potential)
        grid = abtem.GridScan(start=(0, 0), end=(3.0, 4.2), gpts=(4, 3), endpoint=False)
        waves = probe.build(scan=grid, lazy=False).multislice(potential.build(lazy=False))
        seen = np.asarray(waves.diffraction_patterns(max_angle=None).array)
    seen = seen.reshape(4, 3, *seen.shape[-2:]).transpose(1, 0, 3, 2)
    y, x = seen.shape[2] // 2, seen.shape[3] // 2
    expected = seen[:, :, y - 8 : y + 9, x - 11 : x + 12]
    assert np.linalg.norm(scan.intensities - expected) < 1e-5 * np.linalg.norm(expected)


def request_of(scan):
    names = (
        "thickness_nm", "semiangle_mrad", "energy_kev", "scan_px", "detector", "max_angle_mrad", "frozen_phonons"
    )  # fmt: skip
    return {name: scan.parameters[name] for name in names}


@needs_abtem
def test_nearly_nothing_is_lost_in_a_thin_crystal_and_the_disc_has_the_semiangle(strontium_titanate):
    scan = strontium_titanate
    total = scan.intensities.sum(axis=(2, 3))
    assert total.max() <= 1
    assert total.min() > 0.95
    k = np.indices(scan.detector) - (np.array(scan.detector)[:, None, None] - 1) / 2
    angle = np.hypot(*(k * np.array(scan.mrad_per_px)[:, None, None]))
    assert scan.intensities.mean(axis=(0, 1))[angle <= 13.6].sum() > 0.9


@needs_abtem
def test_thickness_is_whole_slices_and_cells_join_without_a_seam():
    three = simulate.multislice_scan("SrTiO3", scan_px=2, **SMALL | {"thickness_nm": 0.6})
    assert three.thickness_nm == pytest.approx(1.5 * 0.3905)
    # the same three slices as one supercell along the beam
    double = simulate.crystal("SrTiO3").repeat((1, 1, 2))
    whole = simulate.multislice_scan(double, scan_px=2, **SMALL | {"thickness_nm": 0.6})
    np.testing.assert_allclose(whole.intensities, three.intensities, rtol=1e-4, atol=1e-9)


@needs_abtem
def test_phonons_are_seeded_change_the_patterns_and_keep_the_beam():
    options = SMALL | {"detector": 17, "scan_px": 2, "frozen_phonons": 2}
    one = simulate.multislice_scan("SrTiO3", seed=1, **options)
    again = simulate.multislice_scan("SrTiO3", seed=1, **options)
    other = simulate.multislice_scan("SrTiO3", seed=2, **options)
    rest = simulate.multislice_scan("SrTiO3", **options | {"frozen_phonons": 0})
    np.testing.assert_array_equal(one.intensities, again.intensities)
    assert np.abs(one.intensities - other.intensities).max() > 1e-7
    moved = np.linalg.norm(one.intensities - rest.intensities) / np.linalg.norm(rest.intensities)
    assert 0.01 < moved < 0.3
    np.testing.assert_allclose(one.intensities.sum(axis=(2, 3)), rest.intensities.sum(axis=(2, 3)), atol=0.05)


@needs_abtem
@pytest.mark.parametrize("shift", [0.0, 0.25, 0.1])
def test_moving_atoms_stay_in_their_slices(shift):
    """The trap: atoms on slice boundaries jump between slices, and the thermal mean absorbs falsely."""
    cell = simulate.crystal("SrTiO3").shifted(z=shift)
    moving = request(thickness_nm=0.8, frozen_phonons=1)
    plan = plan_scan(cell, moving)
    with multislice._abtem() as abtem:
        rng = np.random.default_rng(0)
        (moved,) = multislice._potentials(abtem, cell, moving, plan, rng)
        (still,) = multislice._potentials(abtem, cell, request(thickness_nm=0.8), plan, rng)
        rest = still.build(lazy=False)
    assert len(moved.array) == plan.total_slices == 4
    means = [np.mean(part.array, axis=(1, 2), dtype=float) for part in (moved, rest)]
    np.testing.assert_allclose(means[0], means[1], rtol=1e-5)
    assert np.abs(moved.array - rest.array).max() > 0.01 * rest.array.max()


@needs_abtem
def test_shift_of_all_atoms_along_the_beam_changes_nothing():
    options = SMALL | {"scan_px": 1, "thickness_nm": 0.3905}
    one = simulate.multislice_scan("SrTiO3", **options)
    other = simulate.multislice_scan(simulate.crystal("SrTiO3").shifted(z=0.1), **options)
    np.testing.assert_allclose(one.intensities, other.intensities, rtol=1e-4, atol=1e-9)


@needs_abtem
def test_progress_is_reported():
    class Count(progress.Silent):
        total = steps = 0

        def start(self, label, total):
            assert label == "simulating"
            self.total = total
            return 0

        def advance(self, task, steps=1):
            self.steps += steps

    with progress.use(Count()) as count:
        simulate.multislice_scan("SrTiO3", scan_px=1, **SMALL | {"thickness_nm": 0.4})
    assert count.total == count.steps == 1


# ---------------------------------------------------------------- cache


@pytest.fixture
def counted(monkeypatch):
    """Replace the simulation by numbers, and count how often it is asked for."""
    calls = itertools.count()

    def simulated(atoms, request, plan):
        next(calls)
        return np.full((*plan.scan, *plan.detector), 1e-4, np.float32)

    monkeypatch.setattr(multislice, "_simulate", simulated)
    monkeypatch.setattr(multislice, "_version", lambda: "1.0")
    return calls


def calls_so_far(counter):
    return next(counter.__copy__()) if hasattr(counter, "__copy__") else counter.__reduce__()[1][0]


def scan_of(folder, **changes):
    return simulate.multislice_scan(
        changes.pop("structure", "SrTiO3"), **SMALL | {"scan_px": 2, "cache": folder} | changes
    )


def test_cache_keeps_a_scan_and_finds_it_again(counted, tmp_path):
    first = scan_of(tmp_path / "new")
    again = scan_of(tmp_path / "new")
    assert calls_so_far(counted) == 1
    np.testing.assert_array_equal(first.intensities, again.intensities)
    assert [p.suffix for p in (tmp_path / "new").iterdir()] == [".npz"]


def test_cache_none_keeps_nothing(counted):
    scan_of(None), scan_of(None)
    assert calls_so_far(counted) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"thickness_nm": 1.2},
        {"energy_kev": 300.0},
        {"semiangle_mrad": 14.0},
        {"frozen_phonons": 1},
        {"defocus_nm": 1.0},
        {"tilt_mrad": (0.0, 1.0)},
        {"seed": 1},
        {"structure": "MgO"},
        {"detector": 27},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_parameter_makes_another_entry(counted, tmp_path, change):
    scan_of(tmp_path)
    scan_of(tmp_path, **change)
    assert calls_so_far(counted) == 2


def test_another_version_of_abtem_makes_another_entry(counted, tmp_path, monkeypatch):
    scan_of(tmp_path)
    monkeypatch.setattr(multislice, "_version", lambda: "1.1")
    scan_of(tmp_path)
    assert calls_so_far(counted) == 2


def test_source_size_needs_no_new_simulation(counted, tmp_path):
    scan_of(tmp_path)
    scan_of(tmp_path, source_fwhm_nm=0.08)
    assert calls_so_far(counted) == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "foreign"])
def test_damaged_entry_is_made_anew_with_a_warning(counted, tmp_path, damage):
    scan_of(tmp_path)
    (file,) = tmp_path.iterdir()
    stored = file.read_bytes()
    middle = len(stored) // 2
    flipped = stored[:middle] + bytes([stored[middle] ^ 255]) + stored[middle + 1 :]
    file.write_bytes(
        {"truncated": stored[:middle], "flipped": flipped, "emptied": b"", "foreign": b"not a scan"}[damage]
    )
    with pytest.warns(DataWarning, match="damaged"):
        again = scan_of(tmp_path)
    assert calls_so_far(counted) == 2
    assert again.intensities.max() == np.float32(1e-4)
    scan_of(tmp_path)
    assert calls_so_far(counted) == 2


def test_result_isnt_lost_where_the_cache_cant_be_written(counted, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(DataWarning, match="isn't kept"):
        scan = scan_of(tmp_path / "file")
    assert scan.shape == (2, 2)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thickness_nm": 0}, "thickness_nm=0"),
        ({"thickness_nm": -3.0}, "thickness_nm"),
        ({"thickness_nm": float("nan")}, "thickness_nm"),
        ({"energy_kev": 0}, "energy_kev"),
        ({"semiangle_mrad": -1}, "semiangle_mrad"),
        ({"semiangle_mrad": 60, "sampling_nm": 0.05}, "angles up to"),
        ({"semiangle_mrad": 300}, "at most 200"),
        ({"max_angle_mrad": 90, "sampling_nm": 0.03}, "angles up to"),
        ({"detector": 64}, "odd"),
        ({"detector": 1}, "detector"),
        ({"scan_px": 0}, "scan_px=0"),
        ({"scan_px": (4, 0)}, "scan_px"),
        ({"scan_px": 4, "pixel_size_nm": 0.1}, "both"),
        ({"frozen_phonons": -1}, "frozen_phonons"),
        ({"source_fwhm_nm": -0.1}, "source_fwhm_nm"),
        ({"slice_nm": 0}, "slice_nm"),
        ({"seed": -1}, "seed"),
        ({"structure": "Kryptonite"}, "Kryptonite"),
    ],
)
def test_bad_numbers_are_named(change, words):
    with pytest.raises(DataError, match=words):
        scan_of(None, **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"detector": 25.5}, "whole"),
        ({"scan_px": "many"}, "scan_px"),
        ({"frozen_phonons": (1, 2)}, "frozen_phonons"),
        ({"seed": 0.5}, "seed"),
        ({"defocus_nm": "in focus"}, "defocus_nm"),
        ({"tilt_mrad": 2.0}, "pair"),
        ({"tilts": 2.0}, "unknown option 'tilts'"),
    ],
)
def test_wrong_kinds_are_named(change, words):
    with pytest.raises(DataTypeError, match=words):
        scan_of(None, **change)


def test_phonons_without_thermal_factors():
    still = simulate.crystal("SrTiO3", b_iso=0.0)
    with pytest.raises(DataError, match="all 0"):
        scan_of(None, structure=still, frozen_phonons=2)


def test_oblique_cell_that_cant_be_made_orthogonal():
    ase = pytest.importorskip("ase")
    oblique = ase.Atoms("Sr", cell=[[4, 0, 0], [1.31, 3.7, 0], [0.7, 0.9, 4.1]], pbc=True)
    with pytest.raises(DataError, match=r"orthogonal|right angle"):
        scan_of(None, structure=simulate.crystal(oblique, b_iso=0.005, max_strain=1e-6))


def test_missing_abtem_names_the_extra(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(multislice, "_version", lambda: "1.0")
    monkeypatch.setattr(multislice.importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"fairstem\[simulate\]"):
        scan_of(None)


def test_missing_abtem_is_noticed_before_the_cache_is_searched(monkeypatch, tmp_path):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(multislice.importlib.metadata, "version", absent)
    with pytest.raises(MissingDependencyError, match=r"fairstem\[simulate\]"):
        scan_of(tmp_path)
