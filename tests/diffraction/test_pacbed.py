"""PACBED against exact sums, known averages over a unit cell, and lattices that are known."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from tests.diffraction.scans import crystal, moving_disc

from fairstem.diffraction import Calibration, UnitCells, find_unit_cells, pacbed, pacbeds
from fairstem.errors import CalibrationError, DataError, DataTypeError, DataWarning

VECTORS = ((0.3, 9.1), (8.6, -0.4))


@pytest.fixture(scope="module")
def scan():
    return np.random.default_rng(0).poisson(2.0, (6, 7, 12, 14)).astype("uint16")


def image_of(shape=(60, 64), vectors=VECTORS, dose=400.0, seed=0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    u, v = np.moveaxis(np.stack([y, x], -1) @ np.linalg.inv(np.array(vectors)), -1, 0) * 2 * np.pi
    peaks = np.exp(1.5 * (np.cos(u) + np.cos(v))) + 0.4 * np.exp(
        1.5 * (np.cos(u - np.pi) + np.cos(v - np.pi))
    )
    return np.random.default_rng(seed).poisson(dose * peaks / peaks.mean()).astype(float)


def test_sums_of_counts_are_exact_integers(scan):
    mask = np.random.default_rng(1).random((6, 7)) > 0.4
    got = pacbed(scan, mask)
    assert got.dtype == np.uint64
    np.testing.assert_array_equal(got, scan[mask].sum(0))
    np.testing.assert_array_equal(pacbed(scan), scan.sum((0, 1)))
    np.testing.assert_array_equal(pacbed(scan, np.s_[1:3, ::2]), scan[1:3, ::2].sum((0, 1)))
    np.testing.assert_array_equal(pacbed(scan, slice(2, 4)), scan[2:4].sum((0, 1)))
    np.testing.assert_allclose(pacbed(scan, mask, mean=True), scan[mask].mean(0))


@pytest.mark.parametrize(
    ("dtype", "result"), [("uint8", "uint64"), (">i2", "int64"), (bool, "uint64"), ("f4", "f8")]
)
def test_dtypes(scan, dtype, result):
    values = scan.astype(dtype)
    got = pacbed(values)
    assert got.dtype == np.dtype(result)
    np.testing.assert_array_equal(got, values.sum((0, 1), dtype=result))


def test_a_line_and_a_single_pattern(scan):
    np.testing.assert_array_equal(pacbed(scan[0]), scan[0].sum(0))
    np.testing.assert_array_equal(pacbed(scan[0, 0]), scan[0, 0])


@pytest.mark.parametrize("chunks", [(2, 3, 12, 14), (1, 7, 5, 14), ((1, 5), (6, 1), (12,), (4, 10))])
def test_lazy_equals_eager(scan, chunks):
    lazy = da.from_array(scan, chunks=chunks)
    labels = np.random.default_rng(2).integers(-1, 3, (6, 7))
    geometry = Calibration((5.5, 6.5), descan=np.array([[0.4, 0.1], [0.0, -0.3]]))
    for options in ({}, {"calibration": geometry}):
        got = pacbeds(lazy, labels, **options)
        assert isinstance(got, da.Array)
        np.testing.assert_array_equal(got.compute(), pacbeds(scan, labels, **options))


def test_many_regions_are_the_single_ones(scan):
    labels = np.random.default_rng(2).integers(-1, 3, (6, 7))
    many = pacbeds(scan, labels)
    for k in range(3):
        np.testing.assert_array_equal(many[k], pacbed(scan, labels == k))
    np.testing.assert_allclose(pacbeds(scan, labels, mean=True)[1], scan[labels == 1].mean(0))


def test_descan_is_undone_and_every_count_kept():
    geometry = Calibration((15.5, 15.5), descan=np.array([[0.71, 0.07], [-0.05, 0.63]]))
    centers = geometry.centers((8, 9)) - 15.5
    counts = moving_disc(*centers, radius=6, edge=1.2, rng=np.random.default_rng(0)).astype("uint16")
    assert pacbed(counts, calibration=geometry).sum() == counts.sum()
    expected = moving_disc(*centers, radius=6, edge=1.2)
    truth = moving_disc(0.0, 0.0, radius=6, edge=1.2)
    error, uncorrected = (
        np.linalg.norm(pacbed(expected, mean=True, calibration=c) - truth) for c in (geometry, None)
    )
    # linear sharing blurs an edge a little: far less than the descan did
    assert error < 0.05 * np.linalg.norm(truth)
    assert error < 0.2 * uncorrected


def test_whole_steps_of_descan_move_without_change(scan):
    geometry = Calibration((5.5, 6.5), descan=np.array([[1.0, 0.0], [0.0, 2.0]]))
    # 6 rows: centres lie at half steps; 7 columns: at whole ones
    line = scan[0]
    got = pacbed(line, calibration=geometry)
    shifted = np.zeros((12, 14))
    for k, pattern in enumerate(line):
        target = np.clip(np.arange(14) - 2 * (k - 3), 0, 13)  # what leaves the frame stays on its border
        np.add.at(shifted, (slice(None), target), pattern)
    np.testing.assert_array_equal(got, shifted)


@pytest.mark.parametrize("descan", [0.0, 0.2])
def test_bad_pixels_become_their_neighbours_mean(descan):
    hot = np.zeros((16, 16), bool)
    hot[7:9, 6] = hot[3, 3] = True
    scan = np.full((4, 5, 16, 16), 3.0)
    scan[..., hot] = np.nan
    geometry = Calibration((7.5, 7.5), descan=descan * np.eye(2), hot_pixels=hot)
    got = pacbed(scan, calibration=geometry, mean=True)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[3:-3, 3:-3], 3.0)


def test_hyperspy_keeps_the_detector_axes(scan):
    s = hs.signals.Signal2D(scan)
    for axis in s.axes_manager.signal_axes:
        axis.units, axis.scale = "mrad", 1.5
    out = pacbed(s)
    assert isinstance(out, hs.signals.Signal2D)
    assert out.axes_manager.navigation_dimension == 0
    assert [(a.units, a.scale, a.size) for a in out.axes_manager.signal_axes] == [
        ("mrad", 1.5, 14),
        ("mrad", 1.5, 12),
    ]
    assert out.metadata.fairstem.steps[0]["parameters"]["positions"] == 42
    many = pacbeds(s, np.arange(42).reshape(6, 7) % 3)
    assert many.axes_manager.navigation_shape == (3,)
    assert many.axes_manager.signal_axes[0].units == "mrad"


@pytest.mark.parametrize(
    "vectors", [VECTORS, ((4.1, 8.2), (8.2, -4.1)), ((0.0, 7.3), (6.3, 3.65)), ((0, 5), (11, 0))]
)
def test_lattice_of_an_image_is_found(vectors):
    cells = find_unit_cells(image_of(vectors=vectors))
    # the same lattice: each set of vectors is a whole-numbered combination of the other
    change = cells.vectors @ np.linalg.inv(np.array(vectors, float))
    np.testing.assert_allclose(change, np.round(change), atol=0.02)
    assert abs(np.linalg.det(change)) == pytest.approx(1, abs=0.02)
    assert np.abs(cells.vectors - np.round(change) @ np.array(vectors)).max() < 4 * cells.vectors_sd.max()
    area = abs(np.linalg.det(cells.vectors))
    assert cells.weights.sum() == pytest.approx(cells.number * area, rel=0.01)
    assert cells.number > 0.5 * 60 * 64 / area
    assert cells.priors[0].holds


def test_average_over_cells_has_no_lattice_left():
    cells = find_unit_cells(image_of(dose=1e7))
    clean = image_of(dose=1e9)
    assert cells.leakage < 1e-3
    mean = (cells.weights * clean).sum() / cells.weights.sum()
    assert mean == pytest.approx(clean.mean(), rel=0.02)  # of all positions: parts of cells at the borders
    rolled = [(cells.weights * image_of(dose=1e9, vectors=VECTORS)).sum()]
    y, x = np.mgrid[:60, :64]
    u, v = np.moveaxis(np.stack([y, x], -1) @ np.linalg.inv(cells.vectors), -1, 0) * 2 * np.pi
    for wave in (np.cos(u), np.sin(v), np.cos(u + v), np.sin(2 * u - v), np.cos(3 * u)):
        assert abs((cells.weights * wave).sum()) < 1e-9 * cells.weights.sum()
    assert rolled[0] > 0
    assert cells.weights.min() >= 0
    assert cells.weights.max() < 1.05


def test_pacbed_of_unit_cells_is_the_cell_average():
    scan, truth = crystal()
    for number in ("all", 9, 1):
        got = pacbed(scan, unit_cells=number, mean=True)
        assert np.linalg.norm(got - truth) < 2e-3 * np.linalg.norm(truth)
    part = pacbed(scan, np.s_[:5, :5], mean=True)  # half a cell each way
    assert np.linalg.norm(part - truth) > 2e-2 * np.linalg.norm(truth)


def test_cells_lie_in_the_mask_and_are_as_many_as_asked():
    image = image_of()
    mask = np.zeros((60, 64), bool)
    mask[:, :33] = True
    cells = find_unit_cells(image, 5, mask=mask)
    assert cells.number == 5
    assert not cells.weights[:, 34:].any()
    scan, truth = crystal()
    found = find_unit_cells(scan[..., 5:9, 12].sum(-1), 4)
    assert isinstance(found, UnitCells)
    got = pacbed(scan, unit_cells=found, mean=True)
    assert np.linalg.norm(got - truth) < 5e-3 * np.linalg.norm(truth)


def test_region_that_changes_is_reported():
    rng = np.random.default_rng(0)
    scan, _ = crystal()
    pacbed(rng.poisson(scan), unit_cells="all")  # noise alone is no difference: warnings are errors here
    ramp = np.linspace(0.7, 1.3, 44)[None, :, None, None]
    with pytest.warns(DataWarning, match="region-uniform: does not hold"):
        pacbed(rng.poisson(scan * ramp), unit_cells="all")
    s = hs.signals.Signal2D(rng.poisson(scan))
    priors = pacbed(s, unit_cells="all").metadata.fairstem.steps[0]["priors"]
    assert [p["name"] for p in priors] == ["scan-periodic", "region-uniform"]
    assert all(p["holds"] for p in priors)


def test_bad_regions_are_named(scan):
    with pytest.raises(DataError, match=r"shape \(7, 6\)"):
        pacbed(scan, np.ones((7, 6), bool))
    with pytest.raises(DataError, match="empty region"):
        pacbed(scan, np.zeros((6, 7), bool))
    with pytest.raises(DataError, match="empty region"):
        pacbed(scan, np.s_[10:12])
    with pytest.raises(DataError, match="3 slices"):
        pacbed(scan, np.s_[:, :, :2])
    with pytest.raises(DataTypeError, match="dtype float64"):
        pacbed(scan, np.ones((6, 7)))
    with pytest.raises(DataError, match="5 axes"):
        pacbed(scan[None])
    with pytest.raises(DataTypeError, match="complex"):
        pacbed(scan * 1j)
    with pytest.raises(CalibrationError, match="outside the detector"):
        pacbed(scan, center=(3, 90))
    broken = scan.astype(float)
    broken[2, 3, 4, 5] = np.nan
    with pytest.raises(DataError, match="1 detector pixels"):
        pacbed(broken)
    assert np.isfinite(pacbed(broken, np.s_[3:])).all()


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.zeros((7, 6), int), DataError, "shape"),
        (np.zeros((6, 7)), DataTypeError, "float64"),
        (np.full((6, 7), -1), DataError, "-1 to -1"),
        (np.full((6, 7), -2), DataError, "without gaps"),
        (np.arange(42).reshape(6, 7) * 2, DataError, "without gaps"),
    ],
)
def test_bad_labels_are_named(scan, labels, error, message):
    with pytest.raises(error, match=message):
        pacbeds(scan, labels)


def test_too_many_regions_for_the_budget_are_named(scan):
    with pytest.raises(DataError, match="42 regions"):
        pacbeds(scan, np.arange(42).reshape(6, 7), budget="100 kB")


def test_bad_unit_cells_are_named(scan):
    noise = np.random.default_rng(0).poisson(20.0, (30, 30, 12, 12))
    with pytest.raises(DataError, match="stand out of the noise"):
        pacbed(noise, unit_cells="all")
    with pytest.raises(DataError, match="stand out of the noise"):
        find_unit_cells(np.full((30, 30), 2.0))
    image = image_of()
    with pytest.raises(DataError, match="500 unit cells"):
        find_unit_cells(image, 500)
    with pytest.raises(DataError, match="at least 1"):
        find_unit_cells(image, 0)
    for number in (2.5, True, "some"):
        with pytest.raises(DataTypeError, match="whole number"):
            find_unit_cells(image, number)
    with pytest.raises(DataTypeError, match="mask of dtype"):
        find_unit_cells(image, mask=np.ones((60, 64)))
    with pytest.raises(DataError, match="NaN"):
        find_unit_cells(np.where(image > image.min(), image, np.nan))
    with pytest.raises(DataTypeError, match="complex"):
        find_unit_cells(image * 1j)
    cells = find_unit_cells(image)
    with pytest.raises(DataError, match="unit cells of a scan of shape"):
        pacbed(scan, unit_cells=cells)
    with pytest.raises(DataError, match="unit cells and a mask"):
        pacbed(np.ones((60, 64, 4, 4)), np.s_[:9], unit_cells=cells)
    with pytest.raises(DataError, match="scan_y, scan_x"):
        pacbed(scan[0], unit_cells=1)
