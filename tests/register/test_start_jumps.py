"""A frame that jumps by a lattice vector: its content says where it lies, and only its content."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem import simulate
from fairstem.register._series.frames import open_series
from fairstem.register._start.cell import Cell, Lock
from fairstem.register._start.copies import _one_branch
from fairstem.register._start.drift import follow_drift
from fairstem.register._start.start import find_start

CELL = 0.3905 / 0.018  # px, of the phantoms
SHAPE, FRAMES, JUMPED = (192, 192), 6, 3


def warp(rng):
    """Slow displacement (2, y, x), 0.7 px rms an axis."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    u = np.zeros((2, *SHAPE))
    for axis in range(2):
        for _ in range(4):
            k, angle, phase = 2 * np.pi / rng.uniform(80, 200), *rng.uniform(0, 2 * np.pi, 2)
            u[axis] += np.sin(k * (np.sin(angle) * y + np.cos(angle) * x) + phase)
    return 0.7 * np.sqrt(2 / 4) * u


def jumping(seed, jump, *, corner):
    """Warped, drifting frames of a crystal, one of which jumps; with a corner of vacuum or without."""
    rng = np.random.default_rng(seed)
    table = simulate.phantom("p1", seed=seed, shape=SHAPE, frames=2).truth
    if corner:
        table = table[(table["y"] > 75.0) | (table["x"] > 75.0)].reset_index(drop=True)
    t = np.arange(SHAPE[0])[None, :, None] / SHAPE[0]
    # mean drift in x: 1.5 px a frame
    u = np.stack([warp(rng) + np.array([0.0, 1.5])[:, None, None] * (k + t) for k in range(FRAMES)])
    u[JUMPED] += np.reshape(jump, (2, 1, 1))
    clean = [simulate.render_columns(table, SHAPE, background=1.8, displacement=own) for own in u]
    return rng.poisson(np.stack(clean)).astype(np.float32), u.mean(axis=(2, 3))


def off(start, truth):
    error = start.displacement(SHAPE[0]).mean(axis=-1) - truth
    return np.hypot(*(error - np.median(error, axis=0)).T)


@pytest.mark.parametrize("jump", [(CELL, 3.0), (-CELL, CELL)])
def test_a_jump_by_a_lattice_vector_is_found_where_the_scene_has_a_corner(jump):
    frames, truth = jumping(1, jump, corner=True)
    start = find_start(open_series(frames))
    assert off(start, truth).max() < 2.5
    assert "content" in start.hop.meaning
    assert start.hop.holds


def test_without_features_drift_decides_and_the_test_of_hops_does_not_claim_more():
    frames, truth = jumping(2, (0.0, 0.0), corner=False)
    start = find_start(open_series(frames))
    assert off(start, truth).max() < 2.5
    assert "drift" in start.hop.meaning


def test_rows_of_all_frames_follow_one_branch_of_the_phase():
    cell = Cell(np.eye(2) / 20.0, np.eye(2) * 20.0, 9.0)
    y = np.arange(200) - 99.5
    wave = np.stack([np.sin(y / 30), np.cos(y / 40)])
    ramps = [np.array([0.0, d]) for d in (0.0, 3.0, -5.0, 40.0)]
    plain = [Lock(r, np.zeros(2), wave + np.outer(r / 200, y), 9.0, 1.0, 0.0) for r in ramps]
    step = np.outer([0.0, 20.0], 1 / (1 + np.exp(-y / 4)))
    rows = wave + step - step.mean(axis=1, keepdims=True)
    slope = (y @ rows.T) / (y @ y) * 200
    locks = _one_branch([*plain, Lock(slope, np.zeros(2), rows, 9.0, 1.0, 0.0)], cell)
    # drift is none, however fast
    for before, after in zip(plain, locks, strict=False):
        assert np.array_equal(before.rows, after.rows)
    rest = locks[-1].rows - wave
    assert np.abs(rest - rest.mean(axis=1, keepdims=True)).max() < 2.5
    assert np.abs(locks[-1].ramp - (y @ wave.T) / (y @ y) * 200).max() < 1.0
    assert np.abs(locks[-1].rows.mean(axis=1)).max() < 1e-9


@pytest.mark.parametrize("share", [0.42, 0.5, 0.58])
@pytest.mark.parametrize("seed", range(5))
def test_a_jump_by_half_a_cell_does_not_move_the_frames_after_it(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = Cell(np.linalg.inv(np.diag([11.0, 11.0])).T, np.diag([11.0, 11.0]), 6.0)
    velocity = rng.normal(0, 0.4, (10, 2))
    true = np.cumsum(np.concatenate([np.zeros((1, 2)), 0.5 * (velocity[1:] + velocity[:-1])]), axis=0)
    # links of the frame that jumped: each is nearly as well explained by the next lattice vector
    true[5] += share * 11.0 * np.array([1.0, -1.0])
    seen = true + 11.0 * rng.integers(-1, 2, true.shape)
    ramps = velocity + rng.normal(0, 0.3, velocity.shape)
    found = follow_drift(seen, ramps - ramps.mean(axis=0), np.arange(10), cell).offsets
    others = np.delete(np.arange(10), 5)
    off = (found - true)[others]
    assert np.abs(off - off.mean(axis=0)).max() < 0.3 * 11.0
