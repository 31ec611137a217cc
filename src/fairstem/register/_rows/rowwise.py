"""Row-wise registration: each row of each frame is laid on the mean of the other frames.

**Prior.** The object does not change; the displacement is a function of time, hence constant along a row:
a slow curve (an integrated random walk) plus row jitter, whose variances are found from the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fairstem.compute import track
from fairstem.register._rows.flicker import STEADY, Flicker, estimate_flicker
from fairstem.register._rows.measure import (
    NoiseLaw,
    Segments,
    choose_blur,
    compare,
    fit_noise_law,
    gain_of,
    segments_of,
)
from fairstem.register._rows.reference import Canvas, Pool, canvas_of
from fairstem.register._rows.slow import SlowFit, fit_slow, grid_for
from fairstem.register._rows.smoother import Prior, estimate_prior, smooth
from fairstem.register._series.frames import Frame, Frames
from fairstem.register._series.gauge import centre_rows
from fairstem.register._series.motion import RowMotion

__all__ = ["Rows", "register_rows"]

Floats = NDArray[np.float64]
_FEWEST_ROUNDS, _MOST_ROUNDS = 4, 10
_LOST = 4.0  # standard deviations from where its neighbours and the jitter put it: a row that lost its way
_MOST_LOST = 0.03  # of the rows; when there are more, it is the prior that is wrong
_STILL = 0.1  # rounds end when the median row moves less than this fraction of its error
_NOTICEABLE = 0.1  # px: when rows moved more, what is left between frames has changed
_START = Prior(
    1e-5, 0.04
)  # some px over a hundred rows, 0.2 px of jitter: soon replaced by what the data say


@dataclass(frozen=True)
class Rows:
    """What row-wise registration found.

    Parameters
    ----------
    motion
        The displacement.
    variance
        ``(frame, 2, y)`` px², of each row's displacement; what all frames share is not in it.
    measured, measured_variance
        ``(frame, 2, y)`` px and px²: what each row says by itself; infinite variance where nothing.
    segments
        For each frame the equations of the parts of its rows at the last step; None where left out.
    priors
        Variances of the motion along the slow and the fast axis of the scan.
    law
        Variance of a value.
    pool
        The frames on their canvas.
    rounds
        How many rounds it took.
    slow
        The slow field, where one was fitted.
    blur_px
        Blur (sigma) of the reference that the rows were laid on.
    flicker
        How the brightness of rows varies.
    """

    motion: RowMotion
    variance: Floats
    measured: Floats
    measured_variance: Floats
    segments: tuple[Segments | None, ...]
    priors: tuple[Prior, Prior]
    law: NoiseLaw
    pool: Pool
    rounds: int
    slow: SlowFit | None = None
    blur_px: float = 0.0
    flicker: Flicker = STEADY


def register_rows(
    frames: Frames,
    start: RowMotion,
    used: Sequence[int],
    *,
    slow: bool = False,
    reference: int | None = None,
    most: int = _MOST_ROUNDS,
    label: str = "row-wise registration",
) -> Rows:
    """Register a series row by row.

    Parameters
    ----------
    frames
        The series.
    start
        Where the frames lie to within about 2 px.
    used
        Frames that show the object; the others keep their start.
    slow
        Also fit a slow field that varies along the rows. `start` may hold one already.
    reference
        Frame whose mean position is the average's; None: the mean of all.
    most
        Rounds at most.
    label
        Text of the progress bar.

    Notes
    -----
    Model: ``I_k(y, x) ~ R(y + u_y(y), x + u_x(y))``; R is the mean of the other frames. A row's
    Gauss-Newton step gives its displacement z and the variance V; a Kalman smoother over the rows weighs
    z against the prior. Frames scanned in another direction share no distortion with a row: where
    there are some, rows are laid on those only, until the last two rounds.
    Cost: about ``rounds * frames * pixels * 150 ns``; every round reads each frame once. Memory: some ten
    canvases.
    """
    run = _Run(frames, start, used)
    for n in range(most):
        moved = run.round(f"{label}, round {n + 1}", apart=run.turned and n < _FEWEST_ROUNDS)
        if slow and n > 0:  # the rows first, or the field takes what is theirs
            moved = max(moved, run.bend())
        if n + 1 >= _FEWEST_ROUNDS + 2 * run.turned and moved < _STILL:
            break
    return run.result(reference, n + 1)


class _Run:
    """The state of a registration between rounds."""

    def __init__(self, frames: Frames, start: RowMotion, used: Sequence[int]) -> None:
        self.frames, self.used, self.motion = frames, tuple(used), start
        _, groups = np.unique(np.round(start.angles_deg % 360, 2), return_inverse=True)
        self.groups = [int(g) for g in groups]
        self.turned = len({self.groups[k] for k in used}) > 1
        shape = start.rows.shape
        # rows that nothing is known of stay with the shift and the ramp of the start
        number = np.arange(shape[2]) - (shape[2] - 1) / 2
        ramp = (start.rows @ number) / (number @ number)
        self.base = start.rows.mean(axis=2, keepdims=True) + ramp[..., None] * number
        self.measured, self.measured_variance = start.rows.copy(), np.full(shape, np.inf)
        self.variance = np.full(shape, np.inf)
        self.segments: list[Segments | None] = [None] * frames.n
        self.priors = (_START, _START)
        self.pool = self._pooled(start)
        self.law = fit_noise_law(frames, start, self.pool, used)
        self.gain = 1.0
        self.brightness, self.flicker = np.full((2, frames.n, shape[2]), np.inf), STEADY
        self.passes = choose_blur(frames, start, self.pool, used, self.law)
        self.slow: SlowFit | None = None

    def _pooled(self, motion: RowMotion, canvas: Canvas | None = None) -> Pool:
        canvas = canvas_of(motion, self.used) if canvas is None else canvas
        pool = Pool(canvas, self.groups, len(self.used))
        for k in self.used:
            pool.add(k, self.frames.read(k), motion.forward(k))
        return pool

    def round(self, label: str, *, apart: bool) -> float:
        """Lay every frame on the others once; return how far rows moved, in units of their error.

        `apart`: on the frames of other directions only, one direction after the other.
        """
        before = self.motion.rows
        directions = sorted({self.groups[k] for k in self.used}) if apart else [None]
        # two frames that both go to where the other was only change places: a step is a share of the way
        share = 1.0 if apart else 1 - 1 / len(self.used)
        frames = iter(track(self.used, label=label))
        for direction in directions:
            chosen = [k for k in self.used if direction in (None, self.groups[k])]
            rows, following = self.motion.rows.copy(), self.pool.lacking(direction)
            for k in chosen:
                next(frames)
                frame = self.frames.read(k)
                rows[k] += share * (self._fit(k, frame, apart) - rows[k])
                following.add(k, frame, replace(self.motion, rows=rows).forward(k))
            self.motion, self.pool = replace(self.motion, rows=rows), following
        next(frames, None)
        return self._learn(before, apart)

    def bend(self) -> float:
        """Fit the slow fields to what the parts of the rows say; return how far they moved, in tenths of a px."""
        before = self.motion.slow
        if before is None:
            before = np.zeros(
                (self.frames.n, 2, *grid_for(self.frames.shape, segments_of(self.frames.shape[1])))
            )
        self.slow = fit_slow(self.segments, self.used, before)
        self.motion = replace(self.motion, slow=self.slow.coefficients)
        self.pool = self._pooled(self.motion, self.pool.canvas)
        return 10 * float(np.sqrt(np.mean((self.slow.coefficients - before) ** 2)))

    def _learn(self, before: Floats, apart: bool) -> float:
        """Take noise and priors from where the rows are now; return how far they moved from `before`."""
        used = list(self.used)
        moved = self.motion.rows[used] - before[used]
        moved -= moved.mean(axis=0)  # a move that all frames share is a gauge
        if np.median(np.abs(moved)) > _NOTICEABLE:
            self.law = fit_noise_law(self.frames, self.motion, self.pool, self.used)
        reference = self.pool.everything().reference(self.passes)
        self.gain = gain_of(reference)
        self.priors = self._estimate(0), self._estimate(1)
        share, variance = self.brightness[:, used]
        self.flicker = estimate_flicker(
            share,
            variance,
            np.arange(before.shape[2]) + before[used, 0],
            [self.groups[k] for k in used],
            blur=reference.blur,
            others=math.inf if apart else len(used) - 1,
        )
        return float(np.sqrt(np.median(moved**2 / np.maximum(self.variance[used], 1e-6))))

    def _estimate(self, axis: int) -> Prior:
        used = list(self.used)
        z = self.measured[used, axis] - self.base[used, axis]
        return estimate_prior(z, self.measured_variance[used, axis], self.priors[axis])

    def _fit(self, k: int, frame: Frame, apart: bool) -> Floats:
        """Return the rows (2, y) of frame `k` after a Gauss-Newton step against the others."""
        motion = self.motion
        others = self.pool.without(k, frame, motion.forward(k), whole_group=apart)
        at, angle = self.pool.canvas.positions(motion.forward(k)), float(motion.angles_deg[k])
        segments = compare(
            frame, at, others.reference(self.passes), self.law, gain=self.gain, angle_deg=angle
        )
        self.brightness[:, k] = segments.brightness()
        lies = np.arange(len(frame.values)) + motion.rows[k, 0]
        expected = self.flicker.expected(lies, self.groups[k])
        segments = segments.of_any_brightness(self.flicker.sd**2, expected)
        step, self.measured_variance[k] = segments.shifts()
        self.measured[k] = motion.rows[k] + step
        # what the brightness of rows is told from has been used; kept for every frame it is much
        self.segments[k] = replace(segments, tone=None)
        return self._smoothed(k)

    def _smoothed(self, k: int) -> Floats:
        out = np.empty((2, self.frames.shape[0]))
        for axis in range(2):
            z = (self.measured[k, axis] - self.base[k, axis])[None]
            variance = self.measured_variance[k, axis][None]
            rows, error = smooth(z, variance, self.priors[axis])
            lost = (z - rows) ** 2 > _LOST**2 * (variance + error + self.priors[axis].jitter)
            if 0 < lost.sum() <= _MOST_LOST * lost.size:
                self.measured_variance[k, axis][lost[0]] = np.inf
                rows, error = smooth(z, np.where(lost, np.inf, variance), self.priors[axis])
            out[axis], self.variance[k, axis] = rows[0] + self.base[k, axis], error[0]
        return out

    def result(self, reference: int | None, rounds: int) -> Rows:
        """Smooth once more with the final prior, choose the gauge, and put the frames on their canvas."""
        rows = self.motion.rows.copy()
        for k in self.used:
            rows[k] = self._smoothed(k)
        centred = centre_rows(rows, self.motion.angles_deg, self.used, reference, bend=not self.turned)
        motion = replace(self.motion, rows=centred)
        pool = self._pooled(motion)
        law = fit_noise_law(self.frames, motion, pool, self.used)
        return Rows(
            motion,
            self.variance,
            self.measured + (centred - rows),
            self.measured_variance,
            tuple(self.segments),
            self.priors,
            law,
            pool,
            rounds,
            self.slow,
            math.sqrt(pool.everything().reference(self.passes).blur),
            self.flicker,
        )
