"""The lattice pass: what all frames share is removed, what is real is kept or missed by name."""

import json

import numpy as np
import pytest

from fairstem import atoms, register, simulate
from fairstem.errors import DataError
from fairstem.register._judge.floor import common_mode_floor
from fairstem.register._lattice.check import check_curve, two_dimensional
from fairstem.register._lattice.template import Fold, Lattice, as_reference, flat_contrast, misfit
from fairstem.simulate.render import render_columns

PIXEL_NM = 0.018
SHAPE = (192, 192)


def without_trend(curve):
    """Return (2, y) without mean and slope."""
    y = np.arange(curve.shape[1])
    return np.stack([c - np.polyval(np.polyfit(y, c, 1), y) for c in curve])


def series(table, seed=0, frames=6, shape=SHAPE, peak=30.0):
    """Return frames of a table of columns with heights in units of the peak, and their displacement."""
    rng = np.random.default_rng(seed)
    u = simulate.RowDistortion().series(shape, frames, rng)
    table = table.assign(height=table["height"] * peak * 0.94)
    clean = [render_columns(table, shape, background=0.06 * peak, displacement=x) for x in u]
    return rng.poisson(np.stack(clean)).astype(np.float32), u


def crystal(shape=SHAPE):
    """Return the columns of P1."""
    return simulate.srtio3(ratio=0.45, width_nm=0.05).columns(shape, PIXEL_NM, rotation=0.06, margin_nm=2.0)


def shared(displacement, motion):
    """Return (2, y): true mean over frames of the displacement left at each row of the average."""
    y = np.arange(motion.shape[0])
    left = []
    for k, rows in enumerate(motion.rows):
        off = displacement[k][:, :, 0] - rows
        left.append([np.interp(y, y + rows[0], o) for o in off])
    return np.mean(left, axis=0)


def column_errors(table, image, displacement, border=12):
    """Return truth and errors (y, x) px of the columns in an average, after an affine fit."""
    truth = table.copy()
    truth[["y", "x"]] -= displacement.mean(axis=(0, 2, 3))
    high = np.array(image.shape) - 1 - border
    place = truth[["y", "x"]].to_numpy()
    truth = truth[((place > border) & (place < high)).all(axis=1)]
    found = atoms.refine(image, truth[["y", "x", "width"]], gain=1.0, offset=0.0, readout=0.0)
    place = truth[["y", "x"]].to_numpy()
    off = found[["y", "x"]].to_numpy() - place
    design = np.column_stack([np.ones(len(place)), place])
    plain = np.ones(len(truth), bool) if "planted" not in truth else (truth["planted"] == "none").to_numpy()
    fit = np.linalg.lstsq(design[plain], off[plain], rcond=None)[0]
    return truth, off - design @ fit


def rms_pm(off):
    return float(np.sqrt((off**2).mean())) * PIXEL_NM * 1000


@pytest.fixture(scope="module")
def planted():
    """Return P1 with 24 columns displaced by 20 pm, with and without the pass."""
    p = simulate.phantom("displaced", seed=0, frames=10, distortion="row", shifted=24, halved=0)
    return p, register.align(p.data, slow=False), register.align(p.data, slow=False, lattice=True)


def test_columns_of_p1_below_the_floor(planted):
    p, plain, passed = planted
    truth, before = column_errors(p.truth, plain.average, p.displacement)
    crystal_only = (truth["planted"] == "none").to_numpy()
    _, after = column_errors(p.truth, passed.average, p.displacement)
    assert rms_pm(before[crystal_only]) > 2.5
    assert rms_pm(after[crystal_only]) <= 0.9


def test_planted_shifts_are_kept(planted):
    p, _, passed = planted
    truth, off = column_errors(p.truth, passed.average, p.displacement)
    shift = truth[["shift_y", "shift_x"]].to_numpy()
    moved = np.hypot(*shift.T) > 0
    # truth holds the shift: what is found of it is 1 + error along it
    kept = 1 + (off[moved] * shift[moved]).sum() / (shift[moved] ** 2).sum()
    assert moved.sum() > 15
    assert 0.9 < kept < 1.05


def test_result_states_what_was_done_and_what_is_lost(planted):
    _, plain, passed = planted
    facts = passed.lattice_pass
    assert plain.lattice_pass is None
    assert facts.curve.shape == facts.sd.shape == (2, 256)
    assert np.allclose(without_trend(facts.curve), facts.curve, atol=0.02)
    assert np.allclose(sorted(np.hypot(*facts.vectors_px.T)), 0.3905 / PIXEL_NM, rtol=0.02)
    assert 0.05 < facts.masked < 0.3  # the displaced columns have no say
    assert facts.check in passed.priors
    assert facts.check.holds
    stated = passed.parameters["found"]["lattice_pass"]
    assert "strain" in stated["lost"]
    assert json.loads(json.dumps(stated))["cells"] > 36
    assert passed.floor_px < 0.3 * plain.floor_px


def test_error_of_the_curve_is_what_is_left(planted):
    p, plain, passed = planted
    inside = slice(8, -8)
    before = without_trend(shared(p.displacement, plain.motion)[:, inside])
    after = without_trend(shared(p.displacement, passed.motion)[:, inside])
    sd = np.sqrt((passed.lattice_pass.sd[:, inside] ** 2).mean(axis=1))
    left = np.sqrt((after**2).mean(axis=1))
    assert (left < 0.2 * np.sqrt((before**2).mean(axis=1))).all()
    assert (left < 2 * sd).all()
    assert (left > 0.5 * sd).all()
    assert left.max() < 2 * passed.floor_px


def test_strain_along_rows_is_kept():
    table = crystal()
    table["x"] += 0.02 * np.maximum(table["x"] - 96, 0)
    data, u = series(table)
    passed = register.align(data, slow=False, lattice=True)
    _, off = column_errors(table, passed.average, u)
    assert passed.lattice_pass.check.holds
    assert rms_pm(off) < 1.2
    # 2 % over half of 192 px: a wedge, whose part beyond a straight line has an rms of 0.28 px
    assert passed.lattice_pass.bend[1].std() > 0.2


def test_strain_from_row_to_row_is_lost_and_flagged():
    table = crystal((256, 256))
    table["y"] += 0.02 * np.maximum(table["y"] - 128, 0)
    data, u = series(table, frames=10, shape=(256, 256))
    plain = register.align(data, slow=False)
    passed = register.align(data, slow=False, lattice=True)
    _, before = column_errors(table, plain.average, u)
    _, after = column_errors(table, passed.average, u)
    assert rms_pm(after[:, 0]) > 4.0  # the wedge of 0.37 px rms is gone
    assert rms_pm(before[:, 0]) < 4.0
    check = passed.lattice_pass.check
    assert check.name == "lattice-pass"
    assert check.holds is False
    assert "real strain" in check.advice
    assert check in passed.priors


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("si110", {}),
        ("ws2", {}),
        ("fcc110", {"rotation": 0.6}),
        ("vacancies", {"pixel_size_nm": 0.022}),
        ("grain-boundary", {"shape": (256, 256)}),
    ],
)
def test_other_crystals(name, options):
    p = simulate.phantom(name, seed=1, frames=5, distortion="row", **({"shape": (192, 224)} | options))
    plain = register.align(p.data, slow=False)
    passed = register.align(p.data, slow=False, lattice=True)
    before, after = (without_trend(shared(p.displacement, a.motion)[:, 8:-8]) for a in (plain, passed))
    assert np.sqrt((after**2).mean()) < 0.25 * np.sqrt((before**2).mean())
    assert passed.lattice_pass.check.holds


def test_vacuum_corner():
    table = crystal()
    data, u = series(table[table["y"] + table["x"] > 150])
    plain, passed = register.align(data, slow=False), register.align(data, slow=False, lattice=True)
    before, after = (without_trend(shared(u, a.motion)[:, 8:-8]) for a in (plain, passed))
    assert passed.lattice_pass.masked > 0.2
    assert np.sqrt((after**2).mean()) < 0.3 * np.sqrt((before**2).mean())


def test_scans_in_opposite_directions():
    data, u = series(crystal())
    flipped = data.copy()
    flipped[1::2] = data[1::2, ::-1, ::-1]
    angles = [0.0, 180.0] * 3
    plain = register.align(data, slow=False, lattice=True).lattice_pass
    turned = register.align(flipped, slow=False, lattice=True, angles=angles)
    left = []
    for k, rows in enumerate(turned.motion.rows):
        sign, order = (-1, slice(None, None, -1)) if angles[k] else (1, slice(None))
        mine = sign * rows[:, order]
        y = np.arange(SHAPE[0])
        left.append([np.interp(y, y + mine[0], o) for o in u[k][:, :, 0] - mine])
    left = without_trend(np.mean(left, axis=0)[:, 8:-8])
    assert np.sqrt((left**2).mean()) < 0.25 * np.sqrt((plain.curve**2).mean())


def test_dislocation_is_refused():
    p = simulate.phantom("dislocation", seed=1, frames=4, distortion="row")
    with pytest.raises(DataError, match="bends"):
        register.align(p.data, slow=False, lattice=True)


def test_too_few_cells():
    p = simulate.phantom("srtio3", seed=1, frames=3, distortion="row", shape=(112, 112))
    with pytest.raises(DataError, match="unit cells in view"):
        register.align(p.data, slow=False, lattice=True)


def test_no_lattice():
    p = simulate.phantom("empty", seed=1, frames=3, distortion="row", shape=(128, 128), texture=0.5, peak=300)
    with pytest.raises(DataError, match="lattice"):
        register.align(p.data, slow=False, lattice=True)


def test_turned_scans_and_slow_fields_are_refused():
    data, _ = series(crystal((128, 128)), frames=2, shape=(128, 128))
    with pytest.raises(DataError, match="one direction"):
        register.align(data, lattice=True, angles=[0, 90])
    with pytest.raises(DataError, match="row-wise"):
        register.align(data, "rigid", lattice=True)
    with pytest.raises(DataError, match="slow=False"):
        register.align(data, lattice=True, slow=True)


def test_check_rarely_fails_without_strain_and_mostly_with():
    y = np.arange(256)
    wedge = without_trend(np.stack([0.02 * np.maximum(y - 128, 0), 0 * y]))
    false, true = 0, 0
    for seed in range(60):
        u = simulate.RowDistortion().series((256, 1), 10, seed)[..., 0]
        curve = without_trend(u.mean(axis=0))
        floor = common_mode_floor(u - u.mean(axis=0), np.zeros_like(u))
        false += check_curve(curve, floor).holds is False
        true += check_curve(curve + wedge, floor).holds is False
    assert false <= 2
    assert true >= 50


def test_template_of_a_noiseless_lattice_is_exact():
    rng = np.random.default_rng(3)
    reciprocal = np.array([[0.061, 0.007], [-0.012, 0.083]])
    y, x = np.mgrid[:120, :140].astype(float)
    bend = np.stack([0.3 * np.sin(np.arange(140) / 40), 0.02 * np.arange(140)])
    a, b = (g[0] * (y + bend[0]) + g[1] * (x + bend[1]) for g in reciprocal)
    image = 10 + np.cos(2 * np.pi * a) + np.cos(2 * np.pi * (a + b)) + 0.5 * np.sin(2 * np.pi * (2 * b - a))
    keep = rng.random(image.shape) > 0.1
    fold = Fold(Lattice(reciprocal, bend))
    fold.add(image, None, (y, x), flat_contrast(keep))
    tile = fold.tile(image.shape)
    assert np.abs(tile - image).max() < 0.02
    assert (as_reference(tile, flat_contrast(keep)).weight > 0).sum() == keep.sum()


def test_misfit_finds_what_differs():
    rest = np.random.default_rng(0).normal(size=(100, 100))
    rest[40:50, 60:70] += 5
    bad = misfit(rest, np.ones(rest.shape, bool), 20.0)
    assert bad[41:49, 61:69].all()
    assert bad.mean() < 0.05


def test_bend_in_two_dimensions_is_told_from_rows_and_columns():
    y, x = np.mgrid[:10, :12]
    alone = np.stack([np.sin(y) + x**2 / 20, np.cos(x) + y])
    both = np.cos(np.pi * (y + 0.5) / 10) * np.cos(np.pi * (x + 0.5) / 12)
    variance = np.ones(alone.shape)
    variance[:, 2, 3] = np.inf
    assert two_dimensional(alone, variance) < 1e-9
    bent = np.stack([alone[0] + both, alone[1]])
    assert two_dimensional(bent, variance) == pytest.approx(np.sqrt((both**2).mean() / 2), rel=0.05)
