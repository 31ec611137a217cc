"""Tiling, size of the source, counts and signals of a simulated scan, on one made by hand."""

import numpy as np
import pytest

from fairstem.errors import DataError
from fairstem.simulate import SimulatedScan, electrons_per_pattern


def made(rows=8, columns=6, *, seed=0, **changes):
    """A scan whose patterns are trigonometric polynomials of the position, as a probe's are."""
    rng = np.random.default_rng(seed)
    y, x = np.arange(rows) / rows, np.arange(columns) / columns
    phase = rng.uniform(0, 2 * np.pi, (2, 5, 7))
    waves = 2 + np.cos(2 * np.pi * y[:, None, None, None] + phase[0]) * np.cos(
        2 * np.pi * x[None, :, None, None] + phase[1]
    )
    fields = {
        "intensities": waves / 200,
        "pixel_size_nm": (0.05, 0.06),
        "mrad_per_px": (2.0, 3.0),
        "energy_kev": 200.0,
        "semiangle_mrad": 5.0,
        "thickness_nm": 10.0,
        "parameters": {"structure": "by hand"},
    }
    return SimulatedScan(**fields | changes)


def test_tiled_repeats_the_cell_from_any_start():
    cell = made()
    scan = cell.tiled((20, 13), start=(-3, 2))
    for y, x in ((0, 0), (19, 12), (5, 9)):
        np.testing.assert_array_equal(scan.intensities[y, x], cell.intensities[(y - 3) % 8, (x + 2) % 6])
    assert not scan.periodic
    assert scan.parameters["structure"] == "by hand"
    assert cell.tiled((16, 6)).periodic


def test_part_of_a_part_is_allowed_but_not_beyond_it():
    part = made().tiled((5, 4))
    assert part.tiled((2, 2), start=(3, 2)).shape == (2, 2)
    for shape, start in (((6, 4), (0, 0)), ((2, 2), (4, 0)), ((2, 2), (-1, 0))):
        with pytest.raises(DataError, match="no whole cells"):
            part.tiled(shape, start=start)


@pytest.mark.parametrize("shape", [(0, 3), (3, -1), (2.5, 2), (3,), 4, "ab"])
def test_shapes_that_make_no_sense(shape):
    with pytest.raises(DataError, match="shape="):
        made().tiled(shape)


def test_source_keeps_the_mean_pattern_and_damps_as_a_gaussian_does():
    cell, fwhm = made(), 0.1
    blurred = cell.blurred(fwhm)
    mean = cell.intensities.mean(axis=(0, 1))
    np.testing.assert_allclose(blurred.intensities.mean(axis=(0, 1)), mean, rtol=1e-6)
    sigma = fwhm / (2 * np.sqrt(2 * np.log(2)))
    damping = np.exp(-2 * (np.pi * sigma) ** 2 * (1 / 0.4**2 + 1 / 0.36**2))
    expected = (cell.intensities - mean) * damping
    np.testing.assert_allclose(blurred.intensities - mean, expected, atol=1e-7)
    assert blurred.parameters["source_fwhm_nm"] == fwhm


def test_source_of_no_size_changes_nothing_and_a_huge_one_leaves_the_mean():
    cell = made()
    assert cell.blurred(0) is cell
    mean = np.broadcast_to(cell.intensities.mean(axis=(0, 1)), cell.intensities.shape)
    np.testing.assert_allclose(cell.blurred(50).intensities, mean, rtol=1e-5)


def test_tiling_and_blurring_commute():
    cell = made()
    one = cell.blurred(0.08).tiled((16, 18)).intensities
    np.testing.assert_allclose(one, cell.tiled((16, 18)).blurred(0.08).intensities, rtol=1e-5)


def test_source_on_a_scan_too_coarse_for_the_probe():
    spike = np.zeros((8, 6, 5, 7))
    spike[3, 3] = 0.02
    with pytest.raises(DataError, match="resolves the probe"):
        made(intensities=spike).blurred(0.02)


def test_source_needs_whole_cells_and_a_size():
    with pytest.raises(DataError, match="whole cells"):
        made().tiled((5, 5)).blurred(0.1)
    for size in (-0.1, float("nan")):
        with pytest.raises(DataError, match="source_fwhm_nm"):
            made().blurred(size)


def test_counts_are_poisson_of_the_expected_numbers():
    cell = made()
    counts = cell.counts(3000, rng=1, shape=(80, 60))
    assert counts.dtype == np.uint16
    expected = 3000 * cell.tiled((80, 60)).intensities.astype(float)
    chi2 = ((counts - expected) ** 2 / expected).mean()
    # variance of the mean of n values of (k - m)²/m is (2 + 1/m) / n
    assert abs(chi2 - 1) < 4 * np.sqrt((2 + 1 / expected.min()) / counts.size)
    assert abs(counts.mean() / expected.mean() - 1) < 4 / np.sqrt(counts.sum())


def test_counts_are_seeded():
    cell = made()
    np.testing.assert_array_equal(cell.counts(100, rng=3), cell.counts(100, rng=np.random.default_rng(3)))
    assert (cell.counts(100, rng=3) != cell.counts(100, rng=4)).any()


@pytest.mark.parametrize(("dtype", "electrons"), [("uint8", 5000), ("uint16", 4e5), ("uint32", 4e5)])
def test_counts_of_every_width_are_the_same_numbers(dtype, electrons):
    cell = made()
    counts = cell.counts(electrons, rng=0, dtype=dtype)
    assert counts.dtype == dtype
    np.testing.assert_array_equal(counts, cell.counts(electrons, rng=0, dtype="uint32"))


@pytest.mark.parametrize(
    ("dtype", "electrons"), [("uint8", 2e4), ("uint16", 1e7), ("uint32", 1e12), ("uint32", 1e30)]
)
def test_counts_never_overflow_silently(dtype, electrons):
    with pytest.raises(DataError, match="uint32"):
        made().counts(electrons, rng=0, dtype=dtype)


def test_counts_that_overflow_by_chance_only():
    cell = made()
    electrons = 255 / float(cell.intensities.max())  # the expected number fits, its fluctuations don't
    with pytest.raises(DataError, match="uint8 holds 255"):
        cell.counts(electrons, rng=0, dtype="uint8")


@pytest.mark.parametrize("electrons", [-1, float("nan"), float("inf")])
def test_doses_that_make_no_sense(electrons):
    with pytest.raises(DataError, match="electrons_per_pattern"):
        made().counts(electrons, rng=0)


def test_no_electrons_no_counts_and_no_other_dtypes():
    assert not made().counts(0, rng=0).any()
    with pytest.raises(DataError, match="dtype=float32"):
        made().counts(10, rng=0, dtype="float32")


def test_dose_of_a_beam_and_a_frame_rate():
    assert electrons_per_pattern(1.0, 1000) == pytest.approx(6241.5, rel=1e-4)
    assert electrons_per_pattern(1.0, 10_000) == pytest.approx(624.15, rel=1e-4)
    for current, rate in ((-1, 1000), (1, 0), (float("nan"), 1000)):
        with pytest.raises(DataError, match="frames_per_s"):
            electrons_per_pattern(current, rate)


def test_signal_has_axes_in_nm_and_mrad_and_says_where_it_comes_from():
    scan = made()
    signal = scan.signal()
    names = [axis.name for axis in signal.axes_manager._axes]
    assert names == ["y", "x", "k_y", "k_x"]
    assert [axis.units for axis in signal.axes_manager._axes] == ["nm", "nm", "mrad", "mrad"]
    assert [axis.scale for axis in signal.axes_manager._axes] == [0.05, 0.06, 2.0, 3.0]
    assert signal.axes_manager["k_y"].axis[2] == signal.axes_manager["k_x"].axis[3] == 0
    assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 200
    assert signal.metadata.Acquisition_instrument.TEM.convergence_angle == 5
    assert signal.metadata.fairstem.steps[0]["parameters"]["structure"] == "by hand"


def test_signal_of_counts_keeps_their_dtype():
    scan = made()
    counts = scan.counts(100, rng=0, shape=(10, 9))
    signal = scan.signal(counts)
    assert signal.data is counts
    assert signal.axes_manager.navigation_shape == (9, 10)
    with pytest.raises(DataError, match="detector"):
        scan.signal(counts[..., :5])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"intensities": np.zeros((2, 2, 4, 5))}, "odd"),
        ({"intensities": np.zeros((2, 5, 5))}, "shape"),
        ({"intensities": np.zeros((0, 2, 5, 5))}, "none of them 0"),
        ({"intensities": np.full((2, 2, 5, 5), np.nan)}, "finite"),
        ({"intensities": np.full((2, 2, 5, 5), -0.01)}, "0 or more"),
        ({"intensities": np.full((2, 2, 5, 5), 0.1)}, "at most 1"),
        ({"mrad_per_px": (2.0, 0.0)}, "positive"),
        ({"pixel_size_nm": (0.1,)}, "pairs"),
        ({"thickness_nm": -1.0}, "positive"),
    ],
)
def test_scans_that_cant_be(change, words):
    with pytest.raises(DataError, match=words):
        made(**change)
