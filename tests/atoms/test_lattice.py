"""The lattice fit against simulated truth: cells, sites, indices, errors, refusals."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fairstem import simulate
from fairstem.atoms._lattice import lattice
from fairstem.errors import CalibrationError, DataError, DataTypeError

PX = 0.02
CELLS = {
    # cell, sites, lengths of a and b in nm, angle
    "srtio3": (simulate.srtio3(), 2, 0.3905, 0.3905, 90.0),
    "square": (simulate.square(), 1, 0.3905, 0.3905, 90.0),
    "silicon110": (simulate.silicon110(), 2, 0.3326, 0.3326, 109.47),
    "graphene": (simulate.graphene(), 2, 0.246, 0.246, 120.0),
    "ws2": (simulate.ws2(), 2, 0.315, 0.315, 120.0),
    "fcc111": (simulate.fcc111(), 1, None, None, 120.0),
    "oblique": (simulate.bravais_cell("oblique"), 1, 0.3, 0.4, 80.0),
    "rectangular": (simulate.bravais_cell("rectangular"), 1, 0.3, 0.4, 90.0),
    "centred": (simulate.bravais_cell("centred-rectangular"), 1, 0.25, 0.25, 106.26),
}


def planted(cell, *, side=200, noise=0.0, missing=0.0, false=0.0, seed=0, rotation=0.3, px=PX):
    """Columns of a cell with noise (px), missing and false columns; `true` marks the real ones."""
    rng = np.random.default_rng(seed)
    table = cell.columns((side, side), px, rotation=rotation, margin_nm=0.0)
    table = table[rng.random(len(table)) >= missing]
    table = table[["y", "x", "height", "i", "j", "site"]].rename(
        columns=lambda n: f"true_{n}" if n in "ijsite" else n
    )
    extra = pd.DataFrame(rng.uniform(0, side - 1, (round(false * len(table)), 2)), columns=["y", "x"])
    out = pd.concat([table.assign(true=True), extra.assign(true=False, height=table.height.mean())])
    out[["y", "x"]] += rng.normal(0, noise, (len(out), 2)) if noise else 0.0
    out = out.sample(frac=1, random_state=seed).reset_index(drop=True)
    out.attrs = {"shape": (side, side)}
    return out


def same_indices(result, truth):
    """True when the indices agree with the planted ones up to one integer change of basis per site."""
    good = result.columns[result.columns.site != ""]
    good = good[good.true]
    for _, group in good.groupby("site"):
        if group.true_site.nunique() > 2:  # centred cells count their sites twice
            return False
    design = np.column_stack(
        [np.ones(len(good)), pd.get_dummies(good.true_site, drop_first=True), good.true_i, good.true_j]
    )
    target = good[["i", "j"]].to_numpy(float) + result.sites.loc[good.site, ["u", "v"]].to_numpy()
    fitted = design.astype(float) @ np.linalg.lstsq(design.astype(float), target, rcond=None)[0]
    return np.abs(fitted - target).max() < 0.1


@pytest.mark.parametrize("name", CELLS)
def test_finds_cell_and_sites_of_every_lattice(name):
    cell, sites, a, b, angle = CELLS[name]
    result = lattice(planted(cell, noise=0.15), pixel_size_nm=PX)
    assert len(result.sites) == sites
    if a is not None:
        assert abs(result.a_nm - a) < 4 * result.sd_a_nm + 1e-4
        assert abs(result.b_nm - b) < 4 * result.sd_b_nm + 1e-4
    if angle is not None:
        assert abs(result.angle_deg - angle) < 4 * result.sd_angle_deg + 0.05
    assert result.columns.inlier.all()
    assert len(result.missing) == 0
    assert len(result.duplicates) == 0
    assert all(check.holds for check in result.priors)


@pytest.mark.parametrize("name", ["srtio3", "silicon110", "graphene", "fcc111", "oblique"])
@pytest.mark.parametrize("side", [90, 250])
def test_survives_missing_false_and_noisy_columns(name, side):
    cell = CELLS[name][0]
    table = planted(
        cell, side=side if name != "fcc111" else side // 2, noise=0.3, missing=0.1, false=0.05, seed=2
    )
    result = lattice(table)
    area = abs(np.linalg.det(np.array(cell.vectors_nm))) / PX**2 * CELLS[name][1] / len(cell.sites)
    assert abs(np.linalg.det(result.cell)) == pytest.approx(area, rel=0.03)
    assert result.columns[table.true].inlier.mean() > 0.97
    if len(table) > 60:
        assert same_indices(result, table)


def test_noise_of_five_per_cent_of_the_cell():
    table = planted(simulate.srtio3(), side=300, noise=0.05 * 0.3905 / PX)
    result = lattice(table)
    assert len(result.sites) == 2
    assert result.columns.inlier.mean() > 0.99
    assert same_indices(result, table)


def test_thirty_columns_and_a_nanoparticle():
    small = planted(simulate.srtio3(), side=80, noise=0.3, seed=4)
    assert 25 <= len(small) <= 40
    result = lattice(small, pixel_size_nm=PX)
    assert abs(result.a_nm - 0.3905) < 4 * result.sd_a_nm
    atoms = simulate.fcc_particle(3.2)
    particle = simulate.nanoparticle_columns(atoms, PX, (100.0, 100.0), rotation=0.2)[["y", "x", "height"]]
    result = lattice(particle, pixel_size_nm=PX)
    assert result.columns.site.ne("").mean() > 0.95
    area = 0.3924 * 0.3924 / np.sqrt(2) / 2  # fcc [110]: centred rectangle
    assert abs(np.linalg.det(result.cell)) * PX**2 == pytest.approx(area, rel=0.04)


def test_slow_distortion_and_strain_do_not_break_the_count():
    table = planted(simulate.srtio3(), side=400, noise=0.2)
    y, x = table.y.copy(), table.x.copy()
    table["y"] = y + 4 * np.sin(2 * np.pi * y / 400) + 0.05 * y**2 / 800
    table["x"] = x + 5 * np.cos(2 * np.pi * y / 300) + 0.03 * x
    result = lattice(table)
    assert len(result.sites) == 2
    assert result.columns.inlier.mean() > 0.99
    assert same_indices(result, table)
    check = {prior.name: prior for prior in result.priors}["one-lattice"]
    assert check.holds is False


def test_two_grains_index_the_larger_one():
    one = planted(simulate.square(), side=300, noise=0.2, rotation=0.1)
    two = planted(simulate.square(), side=300, noise=0.2, rotation=0.6, seed=1)
    table = pd.concat([one[one.x < 175], two[two.x > 182]], ignore_index=True)
    result = lattice(table)
    left = table.x < 175
    assert result.columns[left].inlier.mean() > 0.97
    assert result.columns[table.x > 200].site.ne("").mean() < 0.1
    assert abs(np.linalg.norm(result.a) - 0.3905 / PX) < 0.1


def test_empty_and_double_sites_are_listed():
    table = planted(simulate.srtio3(), side=250, noise=0.1, rotation=0.05)
    inner = table[(table[["y", "x"]] > 60).all(axis=1) & (table[["y", "x"]] < 190).all(axis=1)]
    holes = inner.index[[3, 17, 30]]
    twin = table.loc[inner.index[10]].copy()
    twin["y"] += 2.0
    crowded = pd.concat([table.drop(holes), twin.to_frame().T.astype(table.dtypes)], ignore_index=True)
    crowded.attrs = table.attrs
    result = lattice(crowded)
    assert len(result.missing) == 3
    away = np.linalg.norm(
        result.missing[["y", "x"]].to_numpy()[:, None] - table.loc[holes, ["y", "x"]].to_numpy()[None],
        axis=-1,
    )
    assert away.min(axis=1).max() < 0.6
    assert len(result.duplicates) == 2
    assert result.duplicates.primary.sum() == 1
    assert len(crowded) - 1 in result.duplicates.row.tolist()
    for name, share in result.completeness.items():
        row = result.sites.loc[name]
        assert share == row.found / (row.found + row.missing)
    assert result.sites.missing.sum() == 3


def test_sites_follow_heights_and_can_be_set():
    table = planted(simulate.srtio3(), noise=0.1)
    result = lattice(table)
    assert result.sites.height["A"] > result.sites.height["B"]
    assert np.allclose(result.sites.loc["B", ["u", "v"]].astype(float) % 1, 0.5, atol=0.01)
    alone = lattice(table, sites=1)
    assert abs(np.linalg.det(alone.cell)) == pytest.approx(abs(np.linalg.det(result.cell)) / 2, rel=0.01)
    equal = lattice(table.assign(height=1.0))
    assert len(equal.sites) == 1
    assert len(lattice(table.drop(columns="height"), sites=2).sites) == 2
    with pytest.raises(DataError, match="sites per cell"):
        lattice(planted(simulate.silicon110(), noise=0.1), sites=5)


@pytest.mark.parametrize("known", [True, False])
def test_standard_errors_cover_the_truth(known):
    hits = []
    truth = simulate.srtio3(ratio=0.5).columns((130, 130), PX, margin_nm=0.0)
    for seed in range(28):
        rng = np.random.default_rng(seed)
        table = truth[["y", "x", "height"]].copy()
        sd = rng.uniform(0.1, 0.4, (len(table), 2)) if known else np.full((len(table), 2), 0.25)
        table[["y", "x"]] += rng.normal(size=sd.shape) * sd
        if known:
            table["sd_y"], table["sd_x"] = sd.T
        result = lattice(table, pixel_size_nm=PX)
        uv = result.sites.loc["B"]
        hits += [
            abs(result.a_nm - 0.3905) < result.sd_a_nm,
            abs(result.b_nm - 0.3905) < result.sd_b_nm,
            abs(result.angle_deg - 90) < result.sd_angle_deg,
            abs(uv.u % 1 - 0.5) < uv.sd_u,
            abs(uv.v % 1 - 0.5) < uv.sd_v,
        ]
    # 140 nearly independent trials: binomial error 4 %
    assert 0.57 < np.mean(hits) < 0.79


def test_scan_calibration_along_both_axes():
    table = planted(simulate.srtio3(), side=300, noise=0.05, rotation=0.0)
    table["y"] *= 1.03
    table["x"] *= 1.008
    for rotation in (0.0, np.pi / 4):
        table = planted(simulate.srtio3(), side=300, noise=0.05, rotation=rotation)
        table["y"], table["x"] = 1.03 * table.y, 1.008 * table.x
        note = lattice(table, pixel_size_nm=PX, reference=0.3905).calibration
        assert abs(note.y_percent - 3.0) < 4 * note.sd_y_percent + 0.01
        assert abs(note.x_percent - 0.8) < 4 * note.sd_x_percent + 0.01
        assert note.sd_y_percent < 0.1


@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(
    angle=st.floats(0, 6.28),
    scale=st.floats(0.2, 5.0),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    seed=st.integers(0, 100),
)
def test_invariant_under_rotation_scaling_shift_and_order(angle, scale, shift, seed):
    table = planted(simulate.silicon110(), noise=0.2, missing=0.05, side=150)
    first = lattice(table)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = table.copy()
    moved.attrs = {}
    moved[["y", "x"]] = scale * table[["y", "x"]].to_numpy() @ turn.T + np.array(shift)
    second = lattice(moved.sample(frac=1, random_state=seed))
    assert abs(np.linalg.det(second.cell)) == pytest.approx(
        scale**2 * abs(np.linalg.det(first.cell)), rel=1e-4
    )
    # near-equal a and b may swap; sum and difference of lengths can't
    assert second.a_px + second.b_px == pytest.approx(scale * (first.a_px + first.b_px), rel=1e-4)
    assert second.angle_deg == pytest.approx(first.angle_deg, abs=0.05)
    assert (second.columns.inlier.sort_index() == first.columns.inlier).mean() > 0.98
    assert second.scatter_px == pytest.approx(scale * first.scatter_px, rel=0.05)


def test_right_handed_and_reduced():
    for name, (cell, *_) in CELLS.items():
        for rotation in (2.5,):
            a, b = lattice(planted(cell, noise=0.1, rotation=rotation)).cell
            assert a[1] * b[0] - a[0] * b[1] > 0, name
            assert abs(a @ b) <= 0.52 * (a @ a), name
            assert a @ a <= 1.03 * (b @ b), name


@pytest.mark.parametrize("n", [10, 30, 200])
@pytest.mark.parametrize("kind", ["random", "amorphous"])
def test_points_without_order_are_refused(kind, n):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        points = rng.uniform(0, 20 * np.sqrt(n), (8 * n, 2))
        if kind == "amorphous":
            kept = []
            for point in points:  # no two closer than 0.75 of the mean distance
                if all((point - other) @ (point - other) > 15**2 for other in kept):
                    kept.append(point)
            points = np.array(kept)
        with pytest.raises(DataError, match="no lattice"):
            lattice(pd.DataFrame(points[:n], columns=["y", "x"]))


def test_bad_input_is_named():
    good = planted(simulate.square(), noise=0.1)
    with pytest.raises(DataTypeError, match="DataFrame"):
        lattice(good[["y", "x"]].to_numpy())
    with pytest.raises(DataError, match="lacks x"):
        lattice(good.drop(columns="x"))
    with pytest.raises(DataError, match="not finite"):
        lattice(good.assign(y=np.nan))
    with pytest.raises(DataError, match="at least 8"):
        lattice(good.iloc[:7])
    with pytest.raises(DataError, match="labels repeat"):
        lattice(pd.concat([good, good]))
    with pytest.raises(DataError, match="on top of"):
        lattice(pd.concat([good, good], ignore_index=True))
    with pytest.raises(DataError, match=r"one line|no lattice"):
        lattice(good.assign(y=0.0))
    with pytest.raises(DataTypeError, match="numeric"):
        lattice(good.assign(x="a"))
    with pytest.raises(CalibrationError, match="pixel_size_nm"):
        lattice(good, pixel_size_nm=-1)
    with pytest.raises(CalibrationError, match="reference"):
        lattice(good, reference=0.39)
    with pytest.raises(CalibrationError, match="reference"):
        lattice(good, reference=(0.39, -1), pixel_size_nm=PX)
    with pytest.raises(DataError, match="sites is 0"):
        lattice(good, sites=0)


def test_input_is_left_alone_and_the_result_is_json_ready():
    table = planted(simulate.srtio3(), noise=0.1)
    before = table.copy()
    result = lattice(table, pixel_size_nm=(PX, PX), reference=0.3905)
    pd.testing.assert_frame_equal(table, before)
    json.dumps(result.to_dict(), allow_nan=False)
    assert not result.columns.drop(columns=["true_i", "true_j", "true_site"]).isna().any().any()
    assert result.a_nm == pytest.approx(PX * result.a_px)
    row = result.columns.iloc[5]
    assert np.allclose(result.position(row.i, row.j, row.site), (row.y_ideal, row.x_ideal), atol=1e-6)


def test_positions_with_unknown_errors_and_edges():
    table = planted(simulate.srtio3(), noise=0.1).assign(sd_y=0.1, sd_x=0.1, cov_yx=0.002, edge=False)
    table.loc[:3, "sd_y"] = np.nan
    table.loc[table.x < 5, "edge"] = True
    result = lattice(table)
    assert result.intrinsic_px < 0.05
    assert np.isfinite(result.covariance).all()
