"""Offset and ramp of each frame fitted to the mean of the others, on small copies; and how well each agrees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairstem.register._rows.measure import NoiseLaw, compare, compare_values
from fairstem.register._rows.reference import Canvas, Pool, canvas_of
from fairstem.register._series.frames import Frame
from fairstem.register._series.motion import RowMotion, turn_matrix
from fairstem.register._start.copies import Copies

__all__ = ["polish"]

Floats = NDArray[np.float64]
_ROUNDS = 3
_LONGEST = 1.5  # px of a copy: a step of one round
_EVEN = NoiseLaw(1.0, 0.0, 1.0)
_LOOSE = 0.1  # of the frame height: ramps beyond it are not expected


def polish(copies: Copies, start: RowMotion, members: list[int], *, free: bool) -> tuple[Floats, Floats]:
    """Refine offsets and ramps, and score all frames.

    Parameters
    ----------
    copies
        Small copies of the frames.
    start
        Where the frames lie, px of the frames.
    members
        Positions, in the list of copies, of the frames that show the same object.
    free
        True to refine, False to score only.

    Returns
    -------
    tuple
        Changes ``(K, 2, 2)`` px of offset and ramp of each frame of the series, and scores of the copies.
    """
    numbers = np.array(copies.numbers)
    rows = np.array([_small_rows(start.rows[k], copies, start, k) for k in numbers])
    angles = start.angles_deg[numbers]
    shape = copies.upright[0].values.shape
    change = np.zeros((len(numbers), 2, 2))
    frames = [Frame(np.asarray(f.values, dtype=np.float64), f.mask) for f in copies.upright]
    score = _scores(RowMotion(rows, shape, angles), frames, members)
    for _ in range(_ROUNDS if free else 0):
        step = _one_round(RowMotion(rows, shape, angles), frames, members)
        y = (np.arange(shape[0]) - (shape[0] - 1) / 2) / shape[0]
        trial = rows + step[:, 0, :, None] + step[:, 1, :, None] * y
        after = _scores(RowMotion(trial, shape, angles), frames, members)
        # a frame that agrees less than before stays where it was
        step[after < score] = 0.0
        rows = rows + step[:, 0, :, None] + step[:, 1, :, None] * y
        change += step
        score = np.maximum(after, score)
        if np.abs(step).max() < 0.02:
            break
    out = np.zeros((start.n, 2, 2))
    out[numbers] = copies.block * change
    return out, score


def _small_rows(rows: Floats, copies: Copies, start: RowMotion, k: int) -> Floats:
    """Return rows on the grid of the copies: means over blocks, for turns about the copy's own middle."""
    b = copies.block
    ny = rows.shape[1] // b
    mean = rows[:, : ny * b].reshape(2, ny, b).mean(axis=2)
    if start.angles_deg[k]:
        small = np.array(copies.upright[0].values.shape)
        off = (b * small - 1) / 2 - (np.array(start.shape) - 1) / 2
        mean = mean + (off - np.linalg.inv(turn_matrix(start.angles_deg[k])) @ off)[:, None]
    return np.asarray(mean / b)


def _pool(motion: RowMotion, frames: list[Frame], members: list[int]) -> tuple[Canvas, Pool]:
    canvas = canvas_of(motion, members, margin=3)
    pool = Pool(canvas, [0] * motion.n, len(members))
    for k in members:
        pool.add(k, frames[k], motion.forward(k))
    return canvas, pool


def _scores(motion: RowMotion, frames: list[Frame], members: list[int]) -> Floats:
    """Return the normalised correlation of each frame with the mean of the others."""
    canvas, pool = _pool(motion, frames, members)
    out = np.zeros(motion.n)
    for k, frame in enumerate(frames):
        forward = motion.forward(k)
        others = pool.without(k, frame, forward) if k in members else pool.everything()
        fitted, _ = compare_values(frame, canvas.positions(forward), others.reference())
        good = np.isfinite(fitted)
        if good.sum() > 16:
            a, b = frame.values[good] - frame.values[good].mean(), fitted[good] - fitted[good].mean()
            scale = np.sqrt((a @ a) * (b @ b))
            out[k] = float(a @ b / scale) if scale > 0 else 0.0
    return out


def _one_round(motion: RowMotion, frames: list[Frame], members: list[int]) -> Floats:
    """Return the Gauss-Newton step (n, 2, 2) of offset and ramp of each frame, along the axes of its scan."""
    canvas, pool = _pool(motion, frames, members)
    ny = motion.shape[0]
    y = (np.arange(ny) - (ny - 1) / 2) / ny
    basis = np.stack([np.ones(ny), y])
    steps = np.zeros((motion.n, 2, 2))
    for k in members:
        frame, forward = frames[k], motion.forward(k)
        reference = pool.without(k, frame, forward).reference()
        angle = float(motion.angles_deg[k])
        found = compare(frame, canvas.positions(forward), reference, _EVEN, angle_deg=angle)
        squares, count = found.chi2.sum(axis=(0, 1))
        if not count:
            continue
        information, slope = found.information.sum(axis=1), found.score.sum(axis=1)
        hessian = np.stack([information[:, [0, 1]], information[:, [1, 2]]], axis=1)
        matrix = np.einsum("ar,br,rij->aibj", basis, basis, hessian).reshape(4, 4)
        # residuals set the scale; a ramp of a tenth of the frame is as unlikely as one sigma
        noise = squares / count
        matrix += noise * np.diag([0.0, 0.0, (_LOOSE * ny) ** -2, (_LOOSE * ny) ** -2])
        matrix += 1e-9 * np.trace(matrix) * np.eye(4)
        step = np.linalg.solve(matrix, np.einsum("ar,ri->ai", basis, slope).ravel()).reshape(2, 2)
        # the others move as well: of a difference, each frame takes its share
        step *= (len(members) - 1) / len(members)
        steps[k] = step * min(1.0, _LONGEST / max(np.abs(step).max(), 1e-12))
    return steps
