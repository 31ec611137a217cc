"""Symmetry STEM on patterns whose symmetry is known."""

import warnings

import numpy as np
import pytest

from fairstem.diffraction import Calibration, symmetry
from fairstem.errors import CalibrationError, DataError, DataTypeError, DataWarning

ALL = ("C2", "C3", "C4", "C6", "mx", "my", "m45", "m135")
GRID = ("C2", "C4", "mx", "my", "m45", "m135")


def discs(shape=(64, 64), center=None, fold=4, turn=0.0, spacing=9.0, radius=7.0, soft=0.6, even=True):
    """Overlapping discs with interference, ``fold``-symmetric; without `even` no mirror and no lower symmetry."""
    center = center or tuple((n - 1) / 2 for n in shape)
    fine = 4
    grid = (np.indices((shape[0] * fine, shape[1] * fine)) + 0.5) / fine - 0.5
    y, x = grid[0] - center[0], grid[1] - center[1]
    out = np.zeros_like(y)
    for r, weight, phase in ((0.0, 1.0, 0.0), (spacing, 0.6, 0.0), (1.9 * spacing, 0.3, 0.35 * (not even))):
        for k in range(fold if r else 1):
            t = turn + phase + 2 * np.pi * k / fold
            dy, dx = y - r * np.sin(t), x - r * np.cos(t)
            d = np.hypot(dy, dx)
            edge = 1 / (1 + np.exp(np.clip((d - radius) / (0.3 * soft), -50, 50)))
            out += weight * edge * (1 + 0.6 * np.cos(0.5 * np.hypot(y, x) + r) + 0.3 * np.cos(d))
    out = out.reshape(shape[0], fine, shape[1], fine).mean((1, 3))
    return out / out.sum()


def quiet(scan, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return symmetry(scan, *args, **kwargs)


@pytest.mark.parametrize("shape", [(64, 64), (63, 63), (64, 48), (47, 64), (63, 48)])
def test_symmetric_patterns_read_one(shape):
    found = quiet(discs(shape, radius=6, spacing=7, soft=2.0), GRID, noise=None)
    exact = [o for o, g in zip(GRID, found.gamma, strict=True) if abs(g - 1) < 1e-6]
    if (shape[0] - shape[1]) % 2 == 0:
        assert exact == list(GRID)
    else:  # rows and columns do not fall on each other: C4 and the diagonals are interpolated
        assert exact == ["C2", "mx", "my"]
        assert np.abs(found.gamma - 1).max() < 2e-3


@pytest.mark.parametrize(("fold", "ones"), [(3, {"C3"}), (4, {"C2", "C4"}), (6, {"C2", "C3", "C6"})])
def test_rotations_are_told_apart(fold, ones):
    found = quiet(discs(fold=fold, even=False), ALL, noise=None)
    for name, gamma in zip(ALL, found.gamma, strict=True):
        assert (abs(gamma - 1) < 2e-3) if name in ones else gamma < 0.98, (name, gamma)


@pytest.mark.parametrize("angle", [0.0, 22.5, 45.0, 73.0, 90.0, 120.0, 135.0, 161.5])
def test_mirror_lines_lie_at_their_angle(angle):
    # three discs on one side: the only mirror is the line through their middle, from k_x towards k_y
    pattern = discs(fold=3, turn=np.radians(angle))
    found = quiet(pattern, (f"m{angle:g}", f"m{(angle + 15) % 180:g}"), noise=None).gamma
    assert abs(found[0] - 1) < 2e-3
    assert found[1] < 0.97


@pytest.mark.parametrize("center", [(31.3, 30.8), (33.0, 31.5), (30.0, 33.0)])
def test_other_centres(center):
    found = quiet(discs(center=center), (*GRID, "m0.5"), noise=None, center=center).gamma
    assert np.abs(found[:-1] - 1).max() < 2e-3
    assert quiet(discs(center=center), "C2", noise=None).gamma[0] < 0.99


def test_ellipse_is_made_round():
    stretch = np.diag([1.1, 1 / 1.1])
    y, x = np.tensordot(stretch, np.indices((64, 64)) - 31.5, axes=1)
    pattern = np.exp(-((np.hypot(y, x) / 15) ** 6)) * (1 + 0.5 * np.cos(0.5 * y) * np.cos(0.5 * x))
    assert quiet(pattern, "C4", noise=None).gamma[0] < 0.97
    found = quiet(pattern, "C4", noise=None, calibration=Calibration((31.5, 31.5), ellipse=stretch))
    assert abs(found.gamma[0] - 1) < 2e-3


def test_descan_is_followed():
    descan = np.array([[0.0, 0.25], [0.3, 0.0]])
    known = Calibration((31.5, 31.5), descan=descan)
    scan = np.array(
        [[discs(center=tuple(known.centers((3, 4))[:, i, j])) for j in range(4)] for i in range(3)]
    )
    fixed, followed = (quiet(scan, ("C2", "C4"), noise=None, **k).gamma for k in ({}, {"calibration": known}))
    assert np.abs(followed - 1).max() < 3e-3
    assert fixed.min() < 0.98


def test_matches_the_definition():
    pattern = np.random.default_rng(1).random((20, 20))
    images = {"C2": pattern[::-1, ::-1], "C4": np.rot90(pattern), "mx": pattern[::-1], "my": pattern[:, ::-1]}
    found = quiet(pattern, tuple(images), noise=None).gamma
    expected = [np.corrcoef(pattern.ravel(), image.ravel())[0, 1] for image in images.values()]
    assert found == pytest.approx(expected, abs=1e-6)


def noisy(truth, dose, number, seed=0):
    return np.random.default_rng(seed).poisson(dose * truth, (number, *truth.shape)).astype(np.uint16)


def test_counting_noise_leaves_no_bias():
    # contrast such that a symmetric pattern with 11 800 electrons reads 0.70 before correction
    y, x = np.indices((128, 128)) - 63.5
    truth = (
        np.exp(-((np.hypot(y, x) / 45) ** 8)) * (1 + 0.9 * np.cos(0.31 * y) * np.cos(0.31 * x)) ** 3 + 0.05
    )
    scan = noisy(truth / truth.sum(), 11_800, 60)
    raw = quiet(scan, GRID, noise=None).gamma
    found = quiet(scan, GRID)
    assert 0.6 < raw.mean() < 0.8
    assert abs(found.gamma.mean() - 1) < 2e-3
    assert np.sqrt(np.mean((found.gamma - 1) ** 2)) < 0.015
    assert found.standard_error.mean() == pytest.approx(np.std(found.gamma), rel=0.15)


@pytest.mark.parametrize(("dose", "bias"), [(11_800, 2e-3), (1_200, 0.01)])
@pytest.mark.parametrize("fold", [3, 4])
def test_standard_errors_cover_the_truth(dose, bias, fold):
    # fold 4: C2, C4 hold, C3, mx don't; fold 3: the other way round
    operations = ("C2", "C3", "C4", "C6", "mx", "m45", "m20")
    truth = discs((48, 48), fold=fold, even=False, spacing=7, radius=6)
    expected = quiet(truth, operations, noise=None).gamma
    found = quiet(noisy(truth, dose, 600), operations)
    off = found.gamma - expected[:, None]
    assert found.valid.all()
    assert np.abs(off.mean(1)).max() < bias + 3 * found.standard_error.max() / np.sqrt(600)
    coverage = (np.abs(off) < found.standard_error).mean(1)
    assert abs(coverage.mean() - 0.68) < 0.05
    assert (
        np.abs(coverage - 0.68).max() < 0.05 + 2 * 0.019
    )  # two standard errors of a coverage of 600 patterns


@pytest.mark.parametrize("center", [(23.5, 23.5), (23.2, 23.9)])
def test_interpolation_treats_noise_exactly(center):
    truth = discs((48, 48), center=center, spacing=7, radius=6)
    operations = ("C2", "C4", "mx", "m45")
    found = quiet(noisy(truth, 3_000, 400), operations, center=center)
    expected = quiet(truth, operations, noise=None, center=center).gamma
    off = found.gamma - expected[:, None]
    assert np.abs(off.mean(1)).max() < 4 * found.standard_error.mean() / 20
    assert abs((np.abs(off) < found.standard_error).mean() - 0.68) < 0.05


def test_gain_scales_the_noise():
    scan = noisy(discs((32, 32), spacing=5, radius=4), 3_000, 40)
    counts, scaled = quiet(scan, GRID), quiet(scan * 7.5, GRID, gain=7.5)
    np.testing.assert_allclose(scaled.gamma, counts.gamma, rtol=1e-5)
    np.testing.assert_allclose(scaled.standard_error, counts.standard_error, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "u8", "f4", "f8"])
def test_numbers_of_any_type(dtype):
    scan = noisy(discs((32, 32), spacing=5, radius=4), 3_000, 6)
    np.testing.assert_array_equal(quiet(scan.astype(dtype), ALL).gamma, quiet(scan, ALL).gamma)


def test_lazy_and_stored_data_give_the_same(tmp_path):
    da = pytest.importorskip("dask.array")
    h5py = pytest.importorskip("h5py")
    scan = noisy(discs((32, 32), spacing=5, radius=4), 3_000, 12).reshape(3, 4, 32, 32)
    operations = ("C2", "C4", "m20")
    kwargs = {"calibration": Calibration((15.5, 15.5), descan=np.array([[0.1, 0.0], [0.0, 0.1]]))}
    eager = quiet(scan, operations, **kwargs)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        stored = file.create_dataset("scan", data=scan, chunks=(2, 3, 32, 32))
        for source in (da.from_array(scan, chunks=(2, 3, 16, 32)), stored):
            other = quiet(source, operations, budget="40 kB", **kwargs)
            np.testing.assert_array_equal(other.gamma, eager.gamma)
            np.testing.assert_array_equal(other.standard_error, eager.standard_error)


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_scan_axes_follow_the_operations(lead):
    scan = np.broadcast_to(np.round(2000 * discs((32, 32), spacing=5, radius=4)), (*lead, 32, 32))
    found = quiet(scan, ("C2", "mx"))
    assert found.gamma.shape == found.standard_error.shape == found.valid.shape == (2, *lead)
    assert found.map("mx").shape == lead
    with pytest.raises(DataError, match="no map of 'C4'"):
        found.map("C4")


def test_signals_keep_axes_and_history():
    hs = pytest.importorskip("hyperspy.api")
    scan = noisy(discs((32, 32), spacing=5, radius=4), 3_000, 12).reshape(3, 4, 32, 32)
    signal = hs.signals.Signal2D(scan)
    signal.axes_manager[0].scale, signal.axes_manager[0].units, signal.axes_manager[0].name = 0.1, "nm", "x"
    maps = quiet(signal, ("C2", "C4"))
    out = maps.as_signal("standard_error")
    np.testing.assert_array_equal(out.data, maps.standard_error)
    assert out.axes_manager[0].name == "operation"
    assert out.axes_manager["x"].scale == 0.1
    step = out.metadata.as_dictionary()["fairstem"]["steps"][-1]
    assert step["function"] == "fairstem.diffraction.symmetry"
    assert step["parameters"]["operations"] == ["C2", "C4"]
    assert quiet(scan, ("C2", "C4")).as_signal().data.shape == (2, 3, 4)


def test_lazy_signals_give_lazy_signals():
    pytest.importorskip("hyperspy.api")
    import hyperspy.api as hs

    scan = noisy(discs((32, 32), spacing=5, radius=4), 3_000, 4).reshape(2, 2, 32, 32)
    maps = quiet(hs.signals.Signal2D(scan).as_lazy(), "C2")
    assert isinstance(maps.gamma, np.ndarray)
    assert maps.as_signal()._lazy
    np.testing.assert_array_equal(maps.as_signal("standard_error").data.compute(), maps.standard_error)


def test_mask_leaves_pixels_out():
    truth = discs()
    spoiled = noisy(truth, 5_000, 5).astype(float)
    spoiled[:, 10:14, 20:29] = np.nan
    mask = np.isfinite(spoiled[0])
    with pytest.raises(DataError, match="NaN or infinite pixels in 5 pattern"):
        symmetry(spoiled, GRID)
    found = quiet(spoiled, ALL, mask=mask, gain=1.0)
    assert np.isfinite(found.gamma).all()
    assert (found.n_pixels < quiet(noisy(truth, 5_000, 5), ALL).n_pixels).all()
    hot = Calibration((31.5, 31.5), hot_pixels=~mask)
    np.testing.assert_array_equal(quiet(spoiled, ALL, calibration=hot, gain=1.0).gamma, found.gamma)


def test_mask_by_radii():
    truth, mrad = discs(), Calibration((31.5, 31.5), mrad_per_px=0.5)
    radius = np.hypot(*(np.indices((64, 64)) - 31.5))
    expected = quiet(truth, GRID, noise=None, mask=(radius >= 4) & (radius <= 20)).n_pixels
    for given in ({"mask": (4, 20), "unit": "px"}, {"mask": (2, 10), "calibration": mrad}):
        np.testing.assert_array_equal(quiet(truth, GRID, noise=None, **given).n_pixels, expected)


def test_shift_search_finds_the_centre():
    scan = np.array([discs(center=(31.5, 31.5)), discs(center=(32.0, 30.5))])
    found = quiet(scan, ("C2", "C4"), noise=None, shift_px=1.0)
    np.testing.assert_array_equal(found.shift[:, :, 0], np.zeros((2, 2)))
    np.testing.assert_array_equal(found.shift[:, :, 1], [[0.5, -1.0], [0.5, -1.0]])
    assert np.abs(found.gamma[0] - 1).max() < 1e-6
    assert np.abs(found.gamma[1] - 1).max() < 2e-3  # the centre is on a pixel in y, between two in x
    assert quiet(scan, "C2", noise=None).shift is None


def test_a_search_never_lowers():
    scan = noisy(discs((32, 32), spacing=5, radius=4), 300, 30)
    assert (quiet(scan, "C2", shift_px=0.5).gamma >= quiet(scan, "C2").gamma).all()


def test_patterns_without_counts():
    scan = noisy(discs((32, 32), spacing=5, radius=4), 3_000, 10)
    scan[3] = 0
    scan[7] = 4  # no contrast
    scan[8] = np.random.default_rng(0).poisson(1.0, (32, 32))  # no contrast but noise
    with pytest.warns(DataWarning, match="contrast"):
        found = symmetry(scan, ("C2", "C6"))
    for k in (3, 7, 8):
        assert not found.valid[:, k].any()
        assert (found.gamma[:, k] == 0).all()
        assert np.isinf(found.standard_error[:, k]).all()
    assert found.valid[:, [0, 1, 2, 4, 5, 6, 9]].all()
    with pytest.warns(DataWarning, match="contrast"):
        assert not symmetry(np.zeros((2, 16, 16)), "C2", noise=None).valid.any()


def prior(maps, name):
    return next(p for p in maps.priors if p.name == name)


def test_priors_hold_on_good_data():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = symmetry(noisy(discs(), 5_000, 70), GRID)
    assert [p.holds for p in found.priors] == [True] * 5
    assert prior(found, "poisson-counts").statistic == pytest.approx(1, abs=0.15)


def test_a_wrong_centre_is_noticed():
    scan = noisy(discs(center=(31.5, 31.5)), 5_000, 70)
    with pytest.warns(DataWarning, match="inversion centre"):
        found = symmetry(scan, "C2", center=(32.0, 31.5))
    assert prior(found, "centre").statistic == pytest.approx(0.5, abs=0.1)
    masked = quiet(scan, "C2", center=(31.5, 32.5), mask=(0, 18), unit="px")
    assert prior(masked, "centre").statistic == pytest.approx(1.0, abs=0.2)


def test_a_beam_stop_is_noticed():
    scan = noisy(discs(), 5_000, 8)
    scan[:, 28:35, 31:] = 0
    with pytest.warns(DataWarning, match="beam stop"):
        symmetry(scan, "C2")
    mask = np.ones((64, 64), bool)
    mask[28:35, 31:] = False
    found = quiet(scan, "C2", mask=mask)
    assert prior(found, "no-shadow").holds
    assert np.abs(found.gamma - 1).max() < 5 * found.standard_error.max()


def test_averages_are_refused_or_noticed():
    scan = noisy(discs(), 5_000, 32)
    averaged = scan.reshape(8, 4, 64, 64).mean(1)
    with pytest.raises(DataError, match=r"multiples of 0\.25"):
        symmetry(averaged, "C2")
    with pytest.warns(DataWarning, match="scatter less than counts"):
        symmetry(averaged, "C2", gain=1.0)
    found = quiet(averaged, "C2", gain=0.25)
    assert np.abs(found.gamma - 1).max() < 5 * found.standard_error.max()


SCAN = np.random.default_rng(0).poisson(discs((16, 16), spacing=4, radius=3) * 2000, (3, 16, 16))


@pytest.mark.parametrize(
    ("operations", "error", "text"),
    [
        ("C5", DataError, "C5"),
        ("C1", DataError, "C1"),
        ("m", DataError, "operation 'm'"),
        ("m180", DataError, "m180"),
        ("m-10", DataError, "m-10"),
        ("mnan", DataError, "mnan"),
        ("rot", DataError, "rot"),
        ("", DataError, "operation ''"),
        ((), DataError, "operations is empty"),
        (("C2", "C2"), DataError, "the same"),
        (("mx", "m0"), DataError, "mx and m0, which are the same"),
        (("m22.5", "m22.50"), DataError, "the same"),
        (4, DataTypeError, "operations=4"),
        ((2, 4), DataTypeError, "operation 2"),
    ],
)
def test_operations_that_do_not_exist(operations, error, text):
    with pytest.raises(error, match=text.replace("(", r"\(")):
        symmetry(SCAN, operations)


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"noise": "gaussian"}, DataError, "noise='gaussian'"),
        ({"noise": None, "gain": 2.0}, DataError, "gain=2.0 with noise=None"),
        ({"gain": -1.0}, DataError, "gain=-1.0"),
        ({"mask": np.ones((8, 8), bool)}, DataError, r"mask of shape \(8, 8\)"),
        ({"mask": np.zeros((16, 16), bool)}, DataError, "leaves 0 px"),
        ({"mask": np.eye(16, dtype=bool) & (np.arange(16) < 6)}, DataError, "leaves 6 px"),
        ({"mask": np.tri(16, k=-9, dtype=bool), "operations": "C2"}, DataError, "C2 compares 0 px"),
        ({"mask": np.full((16, 16), 0.5)}, DataTypeError, "mask of dtype float64"),
        ({"mask": (5, 2), "unit": "px"}, DataError, "inner < outer"),
        ({"mask": (0, 5)}, CalibrationError, "without the angle per pixel"),
        ({"mask": ("a", "b")}, DataTypeError, "pair of radii"),
        ({"mask": (0, 5), "unit": "deg"}, DataError, "unit='deg'"),
        ({"center": (20.0, 3.0)}, CalibrationError, "outside the detector"),
        ({"center": (0.0, 0.0), "operations": "C2"}, DataError, "C2 compares"),
        ({"shift_px": -1}, DataError, "shift_px=-1"),
        ({"shift_px": 50}, DataError, "shift_px=50"),
        ({"shift_px": "a"}, DataError, "shift_px='a'"),
        (
            {"calibration": Calibration((4.0, 4.0), hot_pixels=np.zeros((8, 8), bool))},
            DataError,
            "calibration for",
        ),
    ],
)
def test_arguments_that_make_no_sense(kwargs, error, text):
    with pytest.raises(error, match=text):
        symmetry(SCAN, **kwargs)


@pytest.mark.parametrize(
    ("scan", "error", "text"),
    [
        (SCAN / SCAN.sum((1, 2), keepdims=True), DataError, "no counts"),
        (SCAN - 3, DataError, "negative values"),
        (np.where(np.arange(3)[:, None, None] == 1, np.nan, SCAN), DataError, "NaN"),
        (SCAN.astype(complex), DataTypeError, "complex"),
        (np.ones((2, 2, 2, 16, 16)), DataError, "5 axes"),
        (np.ones(16), DataError, "shape"),
        (np.ones((5, 3, 3)), DataError, "3 × 3"),
        ([[1, 2], [3, 4]], DataTypeError, "list"),
    ],
)
def test_scans_that_make_no_sense(scan, error, text):
    with pytest.raises(error, match=text):
        symmetry(scan, "C2")


def test_negative_values_between_the_sampled_patterns():
    scan = np.repeat(SCAN[:1], 200, axis=0)
    scan[101, 5, 5] = -1
    with pytest.raises(DataError, match="negative values"):
        symmetry(scan, "C2")
    assert quiet(scan, "C2", noise=None).valid.all()


def test_no_standard_error_without_a_model_of_the_noise():
    found = quiet(SCAN, "C2", noise="none")
    assert found.standard_error is None
    with pytest.raises(DataError, match="without standard error"):
        found.as_signal("standard_error")


def test_an_ellipse_changes_nothing_along_its_axes():
    scan = noisy(discs((32, 32), spacing=5, radius=4), 3_000, 3)
    known = Calibration((15.5, 15.5), ellipse=np.diag([1.02, 1 / 1.02]))
    plain, stretched = (quiet(scan, ("C2", "mx", "C4"), calibration=c).gamma for c in (None, known))
    np.testing.assert_array_equal(plain[:2], stretched[:2])
    assert (plain[2] != stretched[2]).all()
