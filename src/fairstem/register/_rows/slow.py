"""A slow field on top of the rows: what moves differently along a row, on a coarse grid of splines.

**Prior.** Such distortion (charging, a scan that isn't linear, a specimen that bends) is smooth over both
axes and of limited size. How smooth and how large is found from the data: curvature and field have a variance
each, and those are taken under which the measured displacement of the parts of all rows is most likely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from fairstem.register._rows.measure import Segments, segments_of
from fairstem.register._series.motion import evaluate_grid, spline_basis

__all__ = ["BENT_PX", "SlowFit", "bending", "fit_slow", "grid_for"]

Floats = NDArray[np.float64]
_PX_A_KNOT = 32
_MOST_SPANS = 16  # a side: the equations are solved as a whole
_STIFFNESS = np.geomspace(1e-6, 1e2, 9)  # candidates for the variance of the curvature, px²
_SIZES = (0.1, 1.0, 10.0, 1000.0)  # candidates for the variance of the field itself, px²
_ASKED = 4  # frames
_LEAST_GAIN = 10.0  # of the log-likelihood, for a field to count: odds of e¹⁰
BENT_PX = 0.02  # rms of a slow field from which on it is worth its while


@dataclass(frozen=True)
class SlowFit:
    """Slow fields and what they rest on.

    Parameters
    ----------
    coefficients
        ``(frame, 2, gy, gx)`` px, as `RowMotion` takes them; mean zero along each row.
    variances
        For the displacement along the slow and the fast axis: the variances of curvature and of the field,
        px², that were found.
    gain
        Log-likelihood that the fields add to no field at all, both axes and all frames.
    """

    coefficients: Floats
    variances: tuple[tuple[float, float], tuple[float, float]]
    gain: float


def grid_for(shape: tuple[int, int], segments: int) -> tuple[int, int]:
    """Return how many splines (gy, gx) a frame gets."""
    spans = [min(max(n // _PX_A_KNOT, 2), _MOST_SPANS) for n in shape]
    return spans[0] + 3, min(spans[1], segments // 2) + 3


def fit_slow(segments: Sequence[Segments | None], used: Sequence[int], present: Floats) -> SlowFit:
    """Fit the slow field of each frame to what the parts of its rows say.

    Parameters
    ----------
    segments
        For each frame the equations of the parts of its rows.
    used
        The frames to fit.
    present
        ``(frame, 2, gy, gx)`` px, the fields at which the equations were made.

    Notes
    -----
    Cost: ``O(frames * (gy gx)³ * 21)``: a second for 30 frames of 512².
    """
    first = segments[used[0]]
    if first is None:
        raise ValueError("the frames in use have no equations")
    ny, parts = first.information.shape[:2]
    grid = present.shape[2], present.shape[3]
    down = spline_basis(ny, grid[0])
    centres = (np.arange(parts) + 0.5) / parts * 1000
    along = spline_basis(1001, grid[1])[np.rint(centres).astype(int)]
    penalty = _bending(grid)
    out, found, total = present.copy(), [], 0.0
    for axis in range(2):
        systems = [_equations(segments[k], axis, down, along, present[k, axis]) for k in used]
        precision, made, gain = _most_likely(systems, penalty)
        total += gain
        found.append(made)
        for k, (h, g) in zip(used, systems, strict=True):
            out[k, axis] = np.linalg.solve(h + precision, g).reshape(grid)
    # what a row shares is the business of the rows
    share = spline_basis(1001, grid[1]).mean(axis=0)
    out -= (out @ share)[..., None]
    # what all frames share is a gauge
    out[list(used)] -= out[list(used)].mean(axis=0)
    return SlowFit(out, (found[0], found[1]), total)


def bending(segments: Sequence[Segments | None], used: Sequence[int], shape: tuple[int, int]) -> float:
    """Return the rms in px of the slow field that the parts of the rows ask for; 0 when they ask for none."""
    grid = grid_for(shape, segments_of(shape[1]))
    found = fit_slow(segments, used, np.zeros((len(segments), 2, *grid)))
    if found.gain < _LEAST_GAIN:
        return 0.0
    fields = [evaluate_grid(found.coefficients[k], shape) for k in used]
    return float(np.sqrt(np.mean([np.mean(f**2) for f in fields])))


def _equations(
    given: Segments | None, axis: int, down: Floats, along: Floats, present: Floats
) -> tuple[Floats, Floats]:
    """Return the normal equations of the coefficients themselves, not of a change of them."""
    if given is None:
        raise ValueError("a frame in use has no equations")
    information = np.maximum(given.information[..., 2 * axis] - given.information[..., 3], 0.0) * given.gain
    count = down.shape[1] * along.shape[1]
    products = (down[:, :, None] * down[:, None, :]).reshape(len(down), -1)
    rows = (products.T @ information).reshape(down.shape[1], down.shape[1], -1)
    matrix = np.einsum("iks,sj,sl->ijkl", rows, along, along, optimize=True).reshape(count, count)
    right = (down.T @ given.score[..., axis] @ along).ravel()
    return matrix, right + matrix @ present.ravel()


def _most_likely(
    systems: Sequence[tuple[Floats, Floats]], bend: Floats
) -> tuple[Floats, tuple[float, float], float]:
    """Return the most likely precision of the coefficients, its two variances, and the log-likelihood gained."""
    # a few frames say what the fields are like
    asked = systems[:: math.ceil(len(systems) / _ASKED)]
    best, most, made = bend, -math.inf, (0.0, 0.0)
    for size in _SIZES:
        for curvature in _STIFFNESS:
            precision = bend / curvature + np.eye(len(bend)) / size
            own = _gain(asked, precision)
            if own > most:
                best, most, made = precision, own, (float(curvature), float(size))
    return best, made, _gain(systems, best)


def _gain(systems: Sequence[tuple[Floats, Floats]], precision: Floats) -> float:
    log_det = float(np.linalg.slogdet(precision)[1])
    return sum(_evidence(h, g, precision, log_det) for h, g in systems)


def _bending(grid: tuple[int, int]) -> Floats:
    """Return the penalty on second differences along both axes."""
    parts = []
    for n in grid:
        second = np.diff(np.eye(n), 2, axis=0)
        parts.append(second.T @ second)
    eye_y, eye_x = np.eye(grid[0]), np.eye(grid[1])
    return np.kron(parts[0], eye_x) + np.kron(eye_y, parts[1])


def _evidence(matrix: Floats, right: Floats, precision: Floats, log_det: float) -> float:
    """Return the log marginal likelihood of a field, less that of no field."""
    factor = np.linalg.cholesky(matrix + precision)
    part = solve_triangular(factor, right, lower=True, check_finite=False)
    return float(0.5 * part @ part - np.log(np.diag(factor)).sum() + 0.5 * log_det)
