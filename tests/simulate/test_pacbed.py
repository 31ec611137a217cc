"""The PACBED table against what must hold: symmetry, conservation, thin crystals, thermal means, other programs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fairstem.errors import DataError, DataWarning, FileFormatError, MissingDependencyError
from fairstem.signals.electrons import wavelength_nm
from fairstem.simulate import Diffuse, PacbedTable, Structure, crystal, pacbed_table
from fairstem.simulate.potentials import complex_phase, layers, projected_phase, transmission
from fairstem.simulate.scattering import lorentz_factor, scattering_factor

SRTIO3 = crystal("SrTiO3")


@pytest.fixture(scope="module", autouse=True)
def few_beams():
    """Beams to 40 mrad: what is tested here doesn't hang on their number, the time does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fairstem.simulate.pacbed._SCATTER_MRAD_NM", 40 * 2.508e-3)
        yield


@pytest.fixture(scope="module")
def table():
    return pacbed_table(SRTIO3, 200, 16, 8, max_tilt_mrad=3, cache=None)


@pytest.fixture(scope="module")
def resting():
    return pacbed_table(SRTIO3, 200, 16, 8, max_tilt_mrad=3, thermal=False, cache=None)


@pytest.fixture(scope="module")
def still():
    return pacbed_table(crystal("SrTiO3", b_iso=0.0), 200, 16, 8, max_tilt_mrad=3, cache=None)


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_wavelengths_and_masses():
    # CODATA: 100 keV 3.7014 pm, 200 keV 2.5079 pm, 300 keV 1.9687 pm
    np.testing.assert_allclose(
        [1e3 * wavelength_nm(e) for e in (100, 200, 300)], [3.70144, 2.50793, 1.96875], rtol=2e-5
    )
    assert lorentz_factor(511) == pytest.approx(2, abs=1e-4)


def test_scattering_far_out_is_rutherfords():
    # Mott: f -> 2 Z / (a0 (2 pi g)²) where the electrons of the atom no longer screen
    g = np.array([150.0])
    for number in (8, 14, 22, 38):
        rutherford = 2 * number / (0.0529177 * (2 * np.pi * g) ** 2)
        np.testing.assert_allclose(scattering_factor(number, g), rutherford, rtol=0.1)


def test_no_thickness_is_the_aperture(table):
    pattern = table.pattern(0, 10)
    offsets = np.indices(table.shape) - table.shape[0] // 2
    radius = np.hypot(*offsets) * table.mrad_per_px
    assert pattern.sum() == pytest.approx(1, abs=1e-4)
    assert np.ptp(pattern[radius < 9]) < 1e-4 * pattern.max()
    assert pattern[radius > 10 + table.mrad_per_px].max() == 0


def test_contract(table):
    pattern = table.pattern(5, 10, (1, -2))
    assert pattern.shape == table.shape
    assert table.shape[0] % 2 == 1
    assert pattern.dtype == np.float32
    assert pattern.min() >= 0
    assert 0.5 < pattern.sum() <= 1


def test_four_fold_symmetry(table):
    pattern = table.pattern(7.3, 11)
    for same in (np.rot90(pattern), pattern[::-1], pattern.T):
        np.testing.assert_allclose(same, pattern, atol=1e-4 * pattern.max())


def test_tilts_that_are_equivalent_give_equivalent_patterns(table):
    pattern = table.pattern(8, 11, (1.3, 0.7))
    assert relative(pattern, table.pattern(8, 11)) > 0.01
    np.testing.assert_allclose(table.pattern(8, 11, (-1.3, 0.7))[::-1], pattern, atol=1e-4 * pattern.max())
    np.testing.assert_allclose(table.pattern(8, 11, (0.7, 1.3)).T, pattern, atol=1e-4 * pattern.max())


def test_atoms_that_do_not_move_lose_no_electrons(still, table):
    assert still.elastic_fraction(8, 10) == pytest.approx(1, abs=2e-3)
    # what moving atoms scatter leaves the elastic wave, the more the thicker
    losses = [1 - table.elastic_fraction(t, 10) for t in (0, 2, 4, 8)]
    assert np.all(np.diff(losses) > 0)
    assert losses[0] < 1e-6


def test_the_grid_of_a_lattice_at_rest_comes_nearer_the_finer_it_is(still, resting):
    fine = pacbed_table(SRTIO3, 200, 16, 8, max_tilt_mrad=3, thermal=False, gpts=(48, 48), cache=None)
    coarse, finer = (relative(one.pattern(8, 12), still.pattern(8, 12)) for one in (resting, fine))
    assert finer < coarse < 0.1
    # what a grid can't hold is lost
    assert resting.elastic_fraction(8, 10) < fine.elastic_fraction(8, 10) < 1


def test_moving_all_atoms_along_the_beam_changes_nothing(table):
    for shift in (0.25, 0.5, 0.77):
        moved = pacbed_table(SRTIO3.shifted(z=shift), 200, 16, 8, max_tilt_mrad=3, cache=None)
        assert relative(moved.pattern(7, 12, (1, 2)), table.pattern(7, 12, (1, 2))) < 1e-4


def test_moving_all_atoms_across_the_beam_changes_nothing(table):
    moved = pacbed_table(SRTIO3.shifted(x=0.13, y=0.41), 200, 16, 8, max_tilt_mrad=3, cache=None)
    assert relative(moved.pattern(7, 12, (1, 2)), table.pattern(7, 12, (1, 2))) < 1e-4


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_the_mean_potential_of_each_slice_never_fluctuates(shift):
    rng = np.random.default_rng(3)
    cell = SRTIO3.shifted(z=shift)
    means = np.array(
        [
            [projected_phase(cell, layer, 200, (32, 32), u).mean() for layer in layers(cell)]
            for u in rng.normal(size=(6, 5, 3)) * cell.rms_nm[:, None]
        ]
    )
    np.testing.assert_allclose(means, np.broadcast_to(means[0], means.shape), rtol=1e-9)
    assert len(means[0]) == 2


def test_thermal_mean_is_the_mean_of_many_configurations():
    rng = np.random.default_rng(4)
    layer = layers(SRTIO3)[0]
    exact = transmission(SRTIO3, layer, 200)
    samples = np.zeros(exact.shape, dtype=complex)
    spread = np.zeros(exact.shape)
    count = 100
    for u in rng.normal(size=(count, 5, 3)) * SRTIO3.rms_nm[:, None]:
        one = np.exp(1j * projected_phase(SRTIO3, layer, 200, exact.shape, u))
        samples += one / count
        spread += np.abs(one) ** 2 / count
    error = np.sqrt(np.maximum(spread - np.abs(samples) ** 2, 0) / count)
    # the distance is that of the mean of `count` samples, over all points
    ratio = np.sum(np.abs(samples - exact) ** 2) / np.sum(error**2)
    assert 0.5 < ratio < 2
    assert np.abs(exact).max() <= 1 + 1e-3


def test_heavy_atoms_have_a_continuous_phase():
    gold = crystal("Au")
    for layer in layers(gold):
        phase = complex_phase(gold, layer, 100)
        assert phase.imag.min() > -1e-3
        gradient = np.abs(np.diff(phase.real, axis=0)).max()
        assert gradient < 1


def test_layers_hold_every_atom_once():
    for name, zone in (("SrTiO3", (0, 0, 1)), ("Si", (1, 1, 0)), ("TiO2", (1, 1, 0)), ("SrTiO3", (1, 1, 1))):
        cell = crystal(name, zone)
        stack = layers(cell)
        assert sorted(i for layer in stack for i in layer.atoms) == list(range(cell.numbers.size))
        assert sum(layer.gap_nm for layer in stack) == pytest.approx(cell.cell_nm[2])


def test_cells_that_are_not_square():
    across = crystal("Si", (1, 1, 0))
    narrow = pacbed_table(across, 200, 14, 4, max_tilt_mrad=2, cache=None)
    a, b, c = across.cell_nm
    turned = Structure(
        across.numbers, (across.fractional * [1, -1, 1])[:, [1, 0, 2]], (b, a, c), across.b_iso_nm2
    )
    other = pacbed_table(turned, 200, 14, 4, max_tilt_mrad=2, mrad_per_px=narrow.mrad_per_px, cache=None)
    np.testing.assert_allclose(
        other.pattern(3.8, 9, (0, 1)),
        narrow.pattern(3.8, 9, (1, 0)).T,
        atol=2e-4 * narrow.pattern(3.8, 9).max(),
    )
    # a supercell is the same crystal
    double = pacbed_table(SRTIO3.repeat((2, 1, 1)), 200, 12, 3, max_tilt_mrad=2, cache=None)
    single = pacbed_table(SRTIO3, 200, 12, 3, max_tilt_mrad=2, cache=None)
    assert relative(double.pattern(3, 10, (0.5, 0)), single.pattern(3, 10, (0.5, 0))) < 3e-3


def test_between_kept_thicknesses(table):
    fine = pacbed_table(SRTIO3, 200, 16, 8, max_tilt_mrad=3, thickness_step_nm=0.2, cache=None)
    for thickness in (4.1, 6.05):
        assert relative(table.pattern(thickness, 12), fine.pattern(thickness, 12)) < 5e-3


def test_many_patterns_at_once(table):
    many = table.patterns([2, 5, 8], 10, [(0, 0), (1, 0), (0, 2)])
    assert many.shape == (3, *table.shape)
    np.testing.assert_array_equal(many[1], table.pattern(5, 10, (1, 0)))
    assert table.patterns(3, 10).shape == (1, *table.shape)
    with pytest.raises(DataError, match="same number"):
        table.patterns([1, 2, 3], [9, 10])


def test_diffuse_background_adds_what_it_says(table):
    elastic = table.pattern(5, 10)
    both = table.pattern(5, 10, diffuse=Diffuse(blurred=0.1, width_mrad=1, constant=1e-5))
    flat = 1e-5 * table.mrad_per_px**2 * elastic.size
    assert (both - elastic).sum() == pytest.approx(0.1 * elastic.sum() + flat, rel=0.05)
    with pytest.raises(DataError, match="width"):
        Diffuse(width_mrad=0)


def test_files_and_cache(table, tmp_path):
    path = table.save(tmp_path / "table.npz")
    np.testing.assert_array_equal(
        PacbedTable.load(path).pattern(6.2, 11, (1, 1)), table.pattern(6.2, 11, (1, 1))
    )
    arguments = {"energy_kev": 200, "max_angle_mrad": 12, "max_thickness_nm": 2, "max_tilt_mrad": 1}
    first = pacbed_table("SrTiO3", **arguments, cache=tmp_path)
    (kept,) = (tmp_path / "pacbed").iterdir()
    again = pacbed_table("SrTiO3", **arguments, cache=tmp_path)
    np.testing.assert_array_equal(first.pattern(2, 10), again.pattern(2, 10))
    pacbed_table("SrTiO3", **arguments | {"energy_kev": 201}, cache=tmp_path)
    assert len(list((tmp_path / "pacbed").iterdir())) == 2
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.warns(DataWarning, match="damaged"):
        repaired = pacbed_table("SrTiO3", **arguments, cache=tmp_path)
    np.testing.assert_array_equal(first.pattern(2, 10), repaired.pattern(2, 10))
    with pytest.raises(FileFormatError, match="does not exist"):
        PacbedTable.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((9.0, 10), "thickness_nm=9"),
        ((-1, 10), "thickness_nm=-1"),
        ((np.nan, 10), "thickness_nm=nan"),
        ((5, -10), "semi-angle"),
        ((5, np.nan), "semi-angle"),
        ((5, 10, (0, 3.5)), "tilt of 3.5"),
        ((5, 14, (2, 2)), "semi-angle 14"),
        ((5, 10, (np.nan, 0)), "tilt"),
        ((5, 10, 2), "pair"),
    ],
)
def test_what_the_table_does_not_hold(table, arguments, words):
    with pytest.raises(DataError, match=words):
        table.pattern(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"structure": "SrTi"}, "not known"),
        ({"energy_kev": 200_000}, "divide eV"),
        ({"energy_kev": np.nan}, "energy_kev"),
        ({"max_angle_mrad": -3}, "max_angle_mrad"),
        ({"max_angle_mrad": 200}, "100 mrad"),
        ({"max_thickness_nm": 0}, "max_thickness_nm"),
        ({"max_tilt_mrad": 40}, "tilt below"),
        ({"mrad_per_px": np.inf}, "mrad_per_px"),
        ({"gpts": 32}, "thermal=False"),
        ({"gpts": 4, "thermal": False}, "8 or more"),
        ({"gpts": (32, 32, 2), "thermal": False}, "8 or more"),
        ({"gpts": 14, "thermal": False}, "a finer grid"),
        ({"structure": SRTIO3.repeat((6, 6, 1))}, "beams"),
    ],
)
def test_impossible_tables(arguments, words):
    with pytest.raises(DataError, match=words):
        pacbed_table(**{"structure": "SrTiO3", "cache": None} | arguments)


def test_elements_without_parameters_say_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "abtem.parametrizations", None)
    with pytest.raises(MissingDependencyError, match="simulate"):
        scattering_factor(57, np.zeros(1))
    with pytest.raises(DataError, match="atomic number"):
        scattering_factor(0, np.zeros(1))


def probe_scan(structure, cells, semiangle, tilt_x, sides, gpts):
    """The mean pattern (k_y, k_x) of probes over one cell, from FFT multislice of another program."""
    abtem = pytest.importorskip("abtem", reason="abTEM isn't installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = structure.shifted(z=0.25).repeat((sides, sides, 1)).to_ase()
        edge, depth = 10 * structure.cell_nm[0], 10 * structure.cell_nm[2]
        unit = abtem.Potential(
            atoms, gpts=gpts * sides, slice_thickness=depth / 2 * 1.0001, projection="infinite"
        )
        potential = abtem.CrystalPotential(unit.build(lazy=False), (1, 1, cells))
        probe = abtem.Probe(
            energy=200e3,
            semiangle_cutoff=semiangle,
            soft=False,
            tilt=(tilt_x, 0.0),
            gpts=gpts * sides,
            extent=edge * sides,
        )
        scan = abtem.GridScan((0, 0), (edge, edge), gpts=4, endpoint=False)
        detector = abtem.PixelatedDetector(max_angle=40)
        result = probe.multislice(potential, scan=scan, detectors=detector, lazy=False)
    return np.asarray(result.array).mean(axis=(0, 1)).T


def test_probe_scan_of_another_program():
    # 6.42 mrad between reflections: 4 cells side by side have pixels of 1.6 mrad
    table = pacbed_table(SRTIO3, 200, 20, 4, max_tilt_mrad=4, thermal=False, cache=None)
    px = table.waves.directions.step_mrad[0]
    sides = table.waves.directions.steps[0]
    assert sides <= 8
    cells = 10
    scan = probe_scan(SRTIO3, cells, 8.0, 2 * px, sides, 32)
    pattern = table.pattern(cells * SRTIO3.cell_nm[2], 8.0, (0, 2 * px))
    half, middle = pattern.shape[0] // 2, scan.shape[0] // 2
    scan = scan[middle - half : middle + half + 1, middle - half : middle + half + 1]
    radius = np.hypot(*(np.indices(pattern.shape) - half)) * px
    assert relative(pattern, scan * (radius <= 20)) < 1e-3
