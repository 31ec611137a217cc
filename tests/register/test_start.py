"""Where the frames of a series lie: hops, jumps, strangers, masks, and the rigid refinement."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem import simulate
from fairstem.errors import DataError
from fairstem.register._rows.rigid import refine_rigid
from fairstem.register._series.frames import open_series
from fairstem.register._series.motion import RowMotion
from fairstem.register._start.cell import SpectrumSum, find_cell
from fairstem.register._start.drift import follow_drift
from fairstem.register._start.pairs import correlate_pair, prepare_frame
from fairstem.register._start.start import Start, find_start

CELL = 0.3905 / 0.018  # px, of phantom p1


def series(name, offsets, *, ramps=None, angles=None, seed=0, **options):
    """Frames of a scene at known offsets and ramps along the axes of the scans."""
    options = {"shape": (160, 160), **options}
    scene = simulate.phantom(name, seed=seed, **options)
    ny = scene.parameters["shape"][0]
    offsets = np.asarray(offsets, dtype=np.float64)
    y = (np.arange(ny) - (ny - 1) / 2) / ny
    ramps = np.zeros_like(offsets) if ramps is None else np.asarray(ramps, dtype=np.float64)
    rows = offsets[:, :, None] + ramps[:, :, None] * y
    angles = np.zeros(len(offsets)) if angles is None else np.asarray(angles, dtype=np.float64)
    motion = RowMotion(rows, scene.parameters["shape"], angles)
    level = scene.parameters["background"] * scene.parameters["peak"]
    frames = [
        simulate.render_columns(scene.truth, motion.shape, background=level, displacement=motion.forward(k))
        for k in range(len(offsets))
    ]
    return np.random.default_rng(seed).poisson(np.stack(frames)).astype(np.float32), motion


def worst(start: Start, truth, used=None) -> float:
    """Largest error of an offset, less what all frames share."""
    used = range(len(truth)) if used is None else used
    error = np.array([start.offsets[k] - truth[k] for k in used])
    return float(np.abs(error - error.mean(axis=0)).max())


def middles(phantom):
    return phantom.displacement[..., 0].mean(axis=-1)


@pytest.mark.parametrize(("drift", "peak"), [(3.0, 30.0), (5.0, 3.0), (8.0, 30.0), (8.0, 3.0)])
def test_no_frame_hops_by_a_unit_cell(drift, peak):
    for seed in range(2):
        options = {"peak": peak, "frames": 7, "distortion_options": {"drift_px": drift}}
        p = simulate.phantom("p1", seed=seed, **options)
        start = find_start(open_series(p.data))
        assert worst(start, middles(p)) < 0.1 * CELL
        assert "drift" in start.hop.meaning
        error = start.displacement(256) - p.displacement[..., 0]
        error -= error.mean(axis=0)
        # waves and jitter that no start can know are half a pixel
        assert np.sqrt((error**2).mean()) < 0.7
        assert start.rows is not None
        assert abs(start.cell.shortest - CELL) < 0.05 * CELL


def test_the_cell_is_the_primitive_one_and_a_nearest_vector_is_the_nearest():
    p = simulate.phantom("p1", seed=4, frames=3)
    spectra = SpectrumSum((256, 256))
    for frame in p.data:
        spectra.add(frame.astype(float), None)
    cell = find_cell(spectra)
    assert np.allclose(np.hypot(*cell.direct.T), CELL, rtol=0.03)
    assert np.allclose(cell.direct @ cell.reciprocal.T, np.rint(cell.direct @ cell.reciprocal.T), atol=1e-9)
    moves = np.random.default_rng(0).uniform(-60, 60, (50, 2))
    grid = np.stack(np.meshgrid(np.arange(-6, 7), np.arange(-6, 7)), axis=-1).reshape(-1, 2) @ cell.direct
    best = ((moves[:, None] - grid) ** 2).sum(-1).min(axis=1)
    assert np.allclose(((moves - cell.nearest(moves)) ** 2).sum(-1), best)


def test_noise_has_no_cell():
    spectra = SpectrumSum((96, 128))
    for seed in range(3):
        spectra.add(np.random.default_rng(seed).poisson(5.0, (96, 128)).astype(float), None)
    assert find_cell(spectra) is None


def test_masked_correlation_is_that_of_the_overlap():
    rng = np.random.default_rng(0)
    scene = rng.normal(size=(60, 70))
    a, b = scene[:40, :50], scene[7:47, 11:61]
    mask = rng.random((40, 50)) > 0.3
    found = []
    for masks in ((None, None), (mask, mask[::-1])):
        frames = tuple(prepare_frame(v, m, (20, 25)) for v, m in zip((a, b), masks, strict=True))
        pair = correlate_pair(frames, (0, 1), (20, 25))
        found.append(pair)
        assert np.allclose(pair.move[0], (7, 11), atol=0.05)
        assert pair.height[0] == pytest.approx(1.0, abs=0.02)
    # by hand, over the pixels that both masks leave
    y, x = np.mgrid[7:40, 11:50]
    good = mask[y, x] & mask[::-1][y - 7, x - 11]
    noisy = b + 0.5 * rng.normal(size=b.shape)
    frames = prepare_frame(a, mask, (20, 25)), prepare_frame(noisy, mask[::-1], (20, 25))
    height = correlate_pair(frames, (0, 1), (20, 25)).height[0]
    by_hand = np.corrcoef(a[y, x][good], noisy[y - 7, x - 11][good])[0, 1]
    assert height == pytest.approx(by_hand, abs=0.01)


def test_frames_of_another_object_are_named():
    p = simulate.phantom("p1", seed=2, frames=5, shape=(192, 192))
    turned = simulate.phantom("p1", seed=5, frames=2, rotation=0.4, shape=(192, 192)).data[0]
    noise = np.random.default_rng(0).poisson(p.data.mean(), (192, 192))
    for stranger, place in ((turned, 3), (noise, 0)):
        data = p.data.copy()
        data[place] = stranger
        start = find_start(open_series(data))
        assert start.strangers == (place,)
        rest = [k for k in range(5) if k != place]
        assert worst(start, middles(p), rest) < 1.0
        assert start.scores[place] < 0.2 < 0.7 < start.scores[rest].min()


def test_no_two_frames_of_one_object():
    p = simulate.phantom("p1", seed=2, frames=2, shape=(128, 128)).data
    other = simulate.phantom("p1", seed=5, frames=2, rotation=0.4, shape=(128, 128)).data
    with pytest.raises(DataError, match="no two of 2 frames show the same object"):
        find_start(open_series(np.stack([p[0], other[0]])))
    with pytest.raises(DataError, match="same object"):
        find_start(open_series(np.random.default_rng(0).poisson(9.0, (3, 64, 64))))


def test_a_jump_of_half_the_field():
    offsets = np.zeros((5, 2))
    offsets[2] = 100.0, -20.0
    data, _ = series("pt-nanoparticle", offsets, shape=(200, 200), diameter_nm=1.6)
    start = find_start(open_series(data))
    assert worst(start, offsets) < 1.0
    assert start.strangers == ()
    assert "content" in start.hop.meaning


def test_scenes_without_a_lattice_and_the_ramp_within_frames():
    rng = np.random.default_rng(1)
    offsets, ramps = rng.normal(0, 12, (4, 2)), rng.normal(0, 3, (4, 2))
    data, motion = series("single-atoms", offsets, ramps=ramps, peak=60.0)
    start = find_start(open_series(data))
    assert start.cell is None
    assert start.hop.holds
    error = start.displacement(160) - motion.rows
    error -= error.mean(axis=0)
    assert np.sqrt((error**2).mean()) < 0.3


def test_two_frames_of_a_lattice_leave_the_hop_undecided():
    p = simulate.phantom("p1", frames=2, seed=1)
    start = find_start(open_series(p.data))
    assert worst(start, middles(p)) < 0.5
    assert not start.hop.holds
    assert "smallest shift" in str(start.hop)


def test_a_constant_drift_is_believed_only_when_it_is_small():
    for drift, holds in (((2.0, 1.0), True), ((9.0, -3.0), False)):
        offsets = np.arange(6)[:, None] * np.array(drift)
        data, _ = series("p1", offsets, ramps=np.tile(drift, (6, 1)), frames=2, shape=(192, 192))
        start = find_start(open_series(data))
        assert start.hop.holds is holds
        if holds:
            assert worst(start, offsets) < 1.0


def test_drift_of_more_than_half_a_cell_in_some_frames():
    ramps = np.random.default_rng(0).normal(0, 14, (8, 2))
    offsets = np.concatenate([np.zeros((1, 2)), np.cumsum((ramps[1:] + ramps[:-1]) / 2, axis=0)])
    data, _ = series("p1", offsets, ramps=ramps, frames=2, shape=(256, 256))
    assert np.abs(np.diff(offsets, axis=0)).max() > 0.6 * CELL
    assert worst(find_start(open_series(data)), offsets) < 2.0


def test_follow_drift_finds_dead_time_and_bridges_gaps():
    p = simulate.phantom("p1", seed=1, frames=3)
    cell = find_start(open_series(p.data)).cell
    rng = np.random.default_rng(3)
    ramps = rng.normal(0, 5, (9, 2))
    true = np.concatenate([np.zeros((1, 2)), np.cumsum(1.5 * (ramps[1:] + ramps[:-1]) / 2, axis=0)])
    hopped = true + rng.integers(-3, 4, (9, 2)) @ cell.direct
    drift = follow_drift(hopped, ramps - ramps.mean(axis=0), np.arange(9), cell)
    off = drift.offsets - true
    assert np.allclose(off, off[0], atol=1e-6)
    assert drift.dead_time == 1.5
    assert drift.scatter < 1.0


@pytest.mark.parametrize("shape", [(140, 233), (300, 96)])
def test_frames_need_not_be_square(shape):
    p = simulate.phantom("p1", seed=3, shape=shape, frames=5, distortion_options={"drift_px": 3.0})
    assert worst(find_start(open_series(p.data)), middles(p)) < 1.0


def test_types_gaps_and_blank_frames():
    p = simulate.phantom("p1", seed=3, frames=6, shape=(192, 192))
    data = p.data.copy()
    data[2, 60:90] = np.nan
    data[4, :, :40] = np.nan
    data[1] = 0.0
    start = find_start(open_series(data))
    used = [0, 2, 3, 4, 5]
    assert worst(start, middles(p), used) < 1.0
    assert np.isnan(start.scores[1])
    assert not start.offsets[1].any()
    whole = find_start(open_series(p.data))
    assert np.allclose(find_start(open_series(p.data.astype(np.uint8))).offsets, whole.offsets, atol=1e-3)
    assert np.allclose(find_start(open_series(p.data - 100.0)).offsets, whole.offsets, atol=1e-2)


def test_large_frames_are_searched_on_small_copies():
    data, _ = series("p2", [[0, 0], [5.0, -9.0], [8.0, -14.0]], shape=(640, 600))
    start = find_start(open_series(data))
    assert worst(start, [[0, 0], [5.0, -9.0], [8.0, -14.0]]) < 1.0


def test_turned_scans():
    offsets = np.array([[3.0, -14.0], [-12.0, 5.0], [6.0, 11.0]])
    angles = np.array([0.0, 90.0, 25.0])
    data, motion = series("single-atoms", offsets, angles=angles, peak=60.0, shape=(150, 171))
    start = find_start(open_series(data), angles_deg=angles)
    found = RowMotion(start.displacement(150), motion.shape, angles)
    error = np.stack([found.forward(k) - motion.forward(k) for k in range(3)])
    error -= error.mean(axis=0)
    assert np.sqrt((error**2).mean()) < 0.3


def test_turned_scans_of_a_lattice_take_the_smallest_shift():
    offsets = np.array([[3.0, -2.0], [-2.0, 4.0]])
    angles, ramps = np.array([0.0, 90.0]), np.array([[2.0, -1.0], [1.0, 2.0]])
    data, motion = series("p1", offsets, ramps=ramps, angles=angles, frames=1)
    start = find_start(open_series(data), angles_deg=angles)
    found = RowMotion(start.displacement(160), motion.shape, angles)
    error = np.stack([found.forward(k) - motion.forward(k) for k in range(2)])
    error -= error.mean(axis=0)
    assert np.sqrt((error**2).mean()) < 0.3
    assert not start.hop.holds


def test_angles_that_do_not_fit():
    p = simulate.phantom("p1", frames=2, shape=(64, 64)).data
    with pytest.raises(DataError, match="one finite angle a frame"):
        find_start(open_series(p), angles_deg=np.zeros(3))


def test_rigid_refinement_is_near_the_bound():
    rng = np.random.default_rng(0)
    shifts = rng.uniform(-4, 4, (10, 2))
    data, _ = series("p1", shifts, frames=2, shape=(256, 256))
    frames = open_series(data)
    offsets, sd = refine_rigid(frames, find_start(frames))
    error = offsets - shifts
    error -= error.mean(axis=0)
    slopes = np.gradient(simulate.phantom("p1", distortion=None, frames=None).clean)
    counts = simulate.phantom("p1", distortion=None, frames=None).clean
    bound = np.sqrt([0.9 / (s**2 / counts).sum() for s in slopes])
    assert np.sqrt((error**2).mean()) < 1.4 * bound.mean()
    assert np.sqrt((error**2).mean()) < 0.02
    assert np.std(error / sd) == pytest.approx(1.0, abs=0.45)


def test_rigid_refinement_of_two_frames_with_gaps():
    data, _ = series("p1", [[0.0, 0.0], [1.3, -0.6]], frames=2)
    data[1, 50:70] = np.nan
    frames = open_series(data)
    offsets, sd = refine_rigid(frames, find_start(frames))
    assert np.allclose(offsets[1] - offsets[0], (1.3, -0.6), atol=0.1)
    assert np.isfinite(sd).all()
