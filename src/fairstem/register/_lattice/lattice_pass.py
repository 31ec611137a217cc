"""Lattice pass: what all frames share, seen against the lattice of their average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstem.errors import DataError
from fairstem.priors import PriorCheck
from fairstem.register._lattice.check import check_curve, floor_of_error
from fairstem.register._lattice.fit import LatticeFit
from fairstem.register._models import Solved
from fairstem.register._rows.reference import Pool, canvas_of
from fairstem.register._series.frames import Frames
from fairstem.register._series.motion import RowMotion
from fairstem.register._start.start import Start

__all__ = ["LatticePass", "pass_lattice"]

Floats = NDArray[np.float64]
_ROUNDS = 6  # on the average
_MASKING = (1, 3, 4)  # of them: those that look again for what does not follow the template


@dataclass(frozen=True)
class LatticePass:
    """What was removed from all frames alike because the lattice of the average says so.

    **Prior.** The object is a crystal, whose lattice is affine along the slow axis of the scan: it may be
    strained as a whole and may change along the rows, but what differs *from row to row* is taken for
    distortion of the scan. Real strain of that kind (a step between the upper and the lower half of the
    field, a relaxed film on a substrate with the interface along the rows) is removed with it, but for its
    mean and its linear part, and is lost. What changes along the rows, and single columns that are displaced,
    is kept. `check` compares the curve with the scatter of the frames: strain that is no larger than the
    common-mode floor is lost without notice.

    Parameters
    ----------
    curve
        ``(2, y)`` px, along the slow and the fast axis of the (first) scan: row y of the average before the
        pass showed the lattice at ``y + curve``. Its trend is zero; beyond the rows that show the lattice it
        stays as it is there.
    sd
        ``(2, y)`` px, its standard deviation. With fewer than some 60 cells the template shares part of the
        error of its rows, and the error is up to twice this.
    vectors_px
        ``(2, 2)`` lattice vectors, one a row, (y, x) px, in the axes of the scan.
    bend
        ``(2, x)`` px, how the lattice changes along the rows: kept in the image.
    bent_px
        How far the lattice bends in two dimensions, rms; this is kept in the image.
    masked
        Share of the field that does not follow the template (defects, vacuum, borders) and has no say.
    cells
        Number of unit cells in the template.
    check
        Is the removed curve no larger than the scatter of the frames lets expect? If not, real strain may
        have been removed.
    """

    curve: Floats
    sd: Floats
    vectors_px: Floats
    bend: Floats = field(repr=False)
    bent_px: float
    masked: float
    cells: float
    check: PriorCheck

    def to_dict(self) -> dict[str, Any]:
        """Return the facts, JSON-ready."""
        rms = np.sqrt((self.curve**2).mean(axis=1))
        return {
            "removed_rms_px": [float(v) for v in rms],
            "sd_px": [float(v) for v in np.sqrt((self.sd**2).mean(axis=1))],
            "vectors_px": self.vectors_px.tolist(),
            "bent_px": self.bent_px,
            "masked": self.masked,
            "cells": self.cells,
            "check": self.check.to_dict(),
            "lost": "strain that changes from row to row, but for its mean and its linear part",
        }


def pass_lattice(frames: Frames, solved: Solved, used: Sequence[int], start: Start) -> Solved:
    """Remove what all frames share by laying their rows on the lattice of their average.

    **Prior.** See `LatticePass`: strain that changes along the slow axis of the scan is removed as well.

    Parameters
    ----------
    frames, used
        The series and the frames in use.
    solved
        Its row-wise registration, all scans in one direction (or opposite ones), without a slow field.
    start
        Gives the lattice where the average does not show it.

    Returns
    -------
    Solved
        The same with new motion, pool and floor, and `lattice_pass`.

    Raises
    ------
    DataError
        Motion that is not of rows in one direction, no lattice, too few cells, or a field of which more
        than half does not follow one unit cell.

    Notes
    -----
    The average is folded into one cell, local contrast divided out; the cell is laid over the field again;
    rows and the lattice (affine, and a curve along x) are fitted to each other in turn. The last round takes
    the raw pixels of all frames. The curve is smoothed over rows by the Kalman smoother of the row-wise
    model, its variances found from the data.
    Nothing is to be set. It refuses fields of fewer than 36 cells that fit, lattices that bend in two
    dimensions (a dislocation), and averages that one cell does not explain.
    Cost: four reads of each frame, ``O(frames * pixels)``, about as much as the registration; some fifteen
    images of memory.

    Examples
    --------
    >>> from fairstem import register, simulate
    >>> p = simulate.phantom("p1", seed=1, shape=(160, 160), frames=4, pixel_size_nm=0.022)
    >>> found = register.align(p.data, slow=False, lattice=True)
    >>> found.lattice_pass.curve.shape, found.lattice_pass.check.name
    ((2, 160), 'lattice-pass')
    """
    job = LatticeFit(frames, _upright(solved, used), solved.law, used, start)
    job.improve(mask_misfit=False)
    job.enlarge_cell()
    for n in range(1, _ROUNDS):
        job.improve(mask_misfit=n in _MASKING)
    job.finish()
    return _removed(frames, solved, used, job)


def _of_rows(solved: Solved) -> RowMotion:
    if not isinstance(solved.motion, RowMotion):
        raise DataError("lattice=True with motion that is not of rows", needed="the row-wise model")
    return solved.motion


def _upright(solved: Solved, used: Sequence[int]) -> RowMotion:
    """Return the motion in the axes of the first scan."""
    motion = _of_rows(solved)
    if motion.slow is not None:
        raise DataError(
            "lattice=True with a slow field on top of the rows",
            needed="rows that move as one: what all frames share is then a curve over the rows",
            todo="register with slow=False, or without lattice",
        )
    angles = np.mod(motion.angles_deg - motion.angles_deg[used[0]] + 90, 360) - 90
    off = np.minimum(np.abs(angles), np.abs(angles - 180))[list(used)]
    if off.max() > 0.01:
        raise DataError(
            f"lattice=True with scans that are turned by up to {off.max():.3g}° against each other",
            needed="scans in one direction",
            todo="leave lattice out: scans in several directions see what those of one direction share",
        )
    return replace(motion, angles_deg=np.where(angles > 90, 180.0, 0.0))


def _removed(frames: Frames, solved: Solved, used: Sequence[int], job: LatticeFit) -> Solved:
    """Return the registration with the curve taken off all frames."""
    motion, top = _of_rows(solved), job.canvas.origin[0]
    number = np.arange(job.curve.shape[1])
    rows, measured = motion.rows.copy(), solved.measured.copy()
    for k in range(frames.n):
        lies = job.canvas.positions(job.motion.forward(k))[0][:, 0]
        sign = -1.0 if job.motion.angles_deg[k] else 1.0
        shift = sign * np.stack([np.interp(lies, number, c) for c in job.curve])
        rows[k] += shift
        measured[k] += shift
    moved = replace(motion, rows=rows)
    pool = Pool(canvas_of(moved, used), solved.pool.groups, len(used))
    for k in used:
        pool.add(k, frames.read(k), moved.forward(k))
    inside = slice(-top, -top + motion.shape[0])
    curve, sd = job.curve[:, inside], np.sqrt(job.error[:, inside])
    known = np.flatnonzero(np.isfinite(job.variance[:, inside]).all(axis=0))
    check = check_curve(curve[:, known[0] : known[-1] + 1], solved.floor)
    facts = LatticePass(
        curve, sd, job.lattice.direct, job.lattice.bend, job.bent, job.masked, job.cells, check
    )
    floor = floor_of_error(solved.floor, job.priors, job.variance[:, inside], job.error[:, inside])
    found = solved.found | {"lattice_pass": facts.to_dict() | {"floor_before_px": solved.floor.px}}
    return replace(
        solved, motion=moved, pool=pool, floor=floor, measured=measured, found=found, lattice_pass=facts
    )
