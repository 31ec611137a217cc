"""The slow field on top of the rows: evidence, size, gauge, and the grid it lives on."""

from __future__ import annotations

import numpy as np
import pytest

from fairstem.register._rows.measure import Segments, segments_of
from fairstem.register._rows.slow import BENT_PX, bending, fit_slow, grid_for
from fairstem.register._series.motion import evaluate_grid, spline_basis

SHAPE, FRAMES = (128, 144), 4


def equations(fields, sd=0.1, seed=0, shape=SHAPE):
    """Equations of the parts of rows that measure fields (frame, 2, y, x) with an error of `sd` px."""
    rng, parts = np.random.default_rng(seed), segments_of(shape[1])
    information = np.zeros((shape[0], parts, 4))
    information[..., [0, 2]] = sd**-2
    out = []
    for field in fields:
        own = field.reshape(2, shape[0], parts, -1).mean(axis=3)
        found = own + sd * rng.standard_normal(own.shape)
        out.append(Segments(information, np.moveaxis(found, 0, -1) / sd**2, np.ones((shape[0], parts, 2))))
    return out


def waves(rms, seed=1, frames=FRAMES):
    """Fields (frame, 2, y, x) px with no part that a row or all frames share."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / np.reshape(SHAPE, (2, 1, 1))
    fields = np.empty((frames, 2, *SHAPE))
    for field in fields.reshape(-1, *SHAPE):
        a, b = rng.uniform(0, 2 * np.pi, 2)
        field[:] = np.sin(2 * np.pi * y + a) * np.sin(2 * np.pi * x + b)
    fields -= fields.mean(axis=3, keepdims=True)
    fields -= fields.mean(axis=0)
    return rms * fields / fields.std() if rms else 0 * fields


def empty(frames=FRAMES):
    return np.zeros((frames, 2, *grid_for(SHAPE, segments_of(SHAPE[1]))))


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_no_field(seed):
    segments = equations(waves(0.0), seed=seed)
    found = fit_slow(segments, range(FRAMES), empty())
    assert found.gain < 0
    assert bending(segments, range(FRAMES), SHAPE) == 0.0


def test_rows_that_move_as_one_are_no_field():
    rng = np.random.default_rng(0)
    rows = np.broadcast_to(rng.normal(0, 0.5, (FRAMES, 2, SHAPE[0], 1)), (FRAMES, 2, *SHAPE))
    found = fit_slow(equations(rows), range(FRAMES), empty())
    # a row's own displacement is averaged over the rows, and what is left of it belongs to them
    fields = np.stack([evaluate_grid(c, SHAPE) for c in found.coefficients])
    assert np.sqrt(np.mean(fields**2)) < 0.05


@pytest.mark.parametrize("rms", [0.1, 1.0])
def test_a_field_is_recovered(rms):
    truth = waves(rms)
    segments = equations(truth)
    found = fit_slow(segments, range(FRAMES), empty())
    assert found.gain > 100
    fields = np.stack([evaluate_grid(c, SHAPE) for c in found.coefficients])
    # at least as well as the unknowns and the measurements allow without a prior
    unknowns, measured = found.coefficients[0, 0].size, SHAPE[0] * segments_of(SHAPE[1])
    assert np.sqrt(np.mean((fields - truth) ** 2)) < 0.1 * np.sqrt(unknowns / measured) + 0.06 * rms
    assert bending(segments, range(FRAMES), SHAPE) == pytest.approx(rms, rel=0.15)
    assert rms > BENT_PX


def test_a_field_too_small_to_be_seen_is_smaller_than_its_noise():
    found = bending(equations(waves(0.004)), range(FRAMES), SHAPE)
    assert found < BENT_PX


def test_equations_made_at_the_field_change_nothing():
    truth = waves(1.0)
    first = fit_slow(equations(truth), range(FRAMES), empty())
    at = np.stack([evaluate_grid(c, SHAPE) for c in first.coefficients])
    again = fit_slow(equations(truth - at), range(FRAMES), first.coefficients)
    change = np.stack([evaluate_grid(c, SHAPE) for c in again.coefficients]) - at
    # parts are taken at their middle: over 16 px of such a wave that is 2 % off
    assert np.sqrt(np.mean(change**2)) < 0.04


def test_what_rows_and_frames_share_is_taken_out():
    rng = np.random.default_rng(2)
    fields = waves(0.5) + rng.normal(0, 1, (FRAMES, 2, 1, 1)) + waves(1.0, seed=7)[:1]
    found = fit_slow(equations(fields), range(FRAMES), empty())
    np.testing.assert_allclose(found.coefficients.mean(axis=0), 0, atol=1e-9)
    values = np.stack([evaluate_grid(c, SHAPE) for c in found.coefficients])
    assert np.abs(values.mean(axis=3)).max() < 0.01


def test_frames_left_out_keep_what_they_had():
    segments = equations(waves(0.5))
    segments[2] = None
    present = empty()
    present[2] = 0.0
    found = fit_slow(segments, (0, 1, 3), present)
    assert not found.coefficients[2].any()
    assert np.isfinite(found.coefficients).all()


def test_frames_that_are_to_be_fitted_need_equations():
    segments = equations(waves(0.5))
    segments[0] = None
    with pytest.raises(ValueError, match="no equations"):
        fit_slow(segments, range(FRAMES), empty())


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((32, 32), (5, 4)),
        ((256, 256), (11, 11)),
        ((4096, 4096), (19, 19)),
        ((64, 2048), (5, 19)),
        ((2048, 64), (19, 5)),
    ],
)
def test_the_grid_follows_the_frame_within_limits(shape, grid):
    assert grid_for(shape, segments_of(shape[1])) == grid
    # no more unknowns along a row than parts that measure it
    assert grid[1] - 3 <= segments_of(shape[1])
    assert spline_basis(shape[0], grid[0]).shape == (shape[0], grid[0])
