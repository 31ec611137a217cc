"""Scores of registered series: column rms after an affine fit, gauge-free displacement error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from fairstem.errors import DataError

__all__ = ["AffineRMS", "DisplacementError", "affine_rms", "displacement_error"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AffineRMS:
    """What is left of position errors after the best affine map.

    Parameters
    ----------
    rms
        Root mean square per axis in px: ``sqrt((y² + x²) / 2)``.
    y, x
        The two axes in px.
    rms_pm, y_pm, x_pm
        The same in pm, None without a pixel size.
    matrix, shift
        The map: ``truth @ matrix.T + shift`` is nearest to the measured positions.
    residual
        ``(n, 2)`` measured minus mapped truth in px.
    """

    rms: float
    y: float
    x: float
    rms_pm: float | None
    y_pm: float | None
    x_pm: float | None
    matrix: Floats
    shift: Floats
    residual: Floats


def affine_rms(
    measured: npt.ArrayLike, truth: npt.ArrayLike, *, pixel_size_nm: float | tuple[float, float] | None = None
) -> AffineRMS:
    """Fit an affine map from true to measured positions and return what remains.

    Prior: shift, rotation, scale and shear of the whole field are calibration, not error. The
    residual is divided by n - 3 per axis, the degrees of freedom left.

    Parameters
    ----------
    measured, truth
        Positions ``(n, 2)`` in px, order (y, x), matched row by row: with
        ``m = match_positions(found, truth)``, rows ``m.pairs[:, 0]`` and ``m.pairs[:, 1]``.
    pixel_size_nm
        Pixel size in nm, a number or (py, px).

    Returns
    -------
    AffineRMS
        Per axis, and their quadratic mean.

    Raises
    ------
    DataError
        Shapes differ, fewer than 4 positions, or positions on one line.

    Notes
    -----
    Cost: ``O(n)``.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.random.default_rng(0).random((50, 2)) * 100
    >>> affine_rms(truth @ [[1.01, 0.0], [0.02, 0.99]] + [3.0, -1.0], truth).rms < 1e-9
    True
    """
    a, b = np.asarray(measured, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or len(a) < 4:
        raise DataError(
            f"shapes {a.shape} and {b.shape}",
            needed="two arrays (n, 2) with n >= 4, matched row by row",
            todo="take the rows of match_positions(...).pairs",
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("positions are not finite", todo="drop those rows from both")
    centre = b.mean(axis=0)
    design = np.column_stack([b - centre, np.ones(len(b))])
    solution, _, rank, _ = np.linalg.lstsq(design, a, rcond=1e-10)
    if rank < 3:
        raise DataError("the true positions lie on one line", needed="positions that span the plane")
    residual = a - design @ solution
    y, x = np.sqrt((residual**2).sum(axis=0) / (len(a) - 3))
    matrix = solution[:2].T
    rms_pm = y_pm = x_pm = None
    if pixel_size_nm is not None:
        scale = np.broadcast_to(np.asarray(pixel_size_nm, dtype=np.float64), 2) * 1000
        y_pm, x_pm = float(y * scale[0]), float(x * scale[1])
        rms_pm = _mean(y_pm, x_pm)
    rms, shift = _mean(float(y), float(x)), solution[2] - matrix @ centre
    return AffineRMS(rms, float(y), float(x), rms_pm, y_pm, x_pm, matrix, shift, residual)


def _mean(y: float, x: float) -> float:
    return math.sqrt((y * y + x * x) / 2)


@dataclass(frozen=True)
class DisplacementError:
    """Error of estimated displacements of a series, free of the gauge.

    Parameters
    ----------
    rmse
        Root mean square per axis in px: ``sqrt((y² + x²) / 2)``.
    y, x
        The two axes in px.
    rmse_pm
        The same in pm, None without a pixel size.
    common
        Root mean square per axis in px of what all frames share: the mean over frames of the
        coordinate reached, less its affine part. No registration can see it.
    per_frame
        ``(frame,)`` rmse of each frame in px.
    fraction
        Share of pixels that lie inside all frames and were scored.
    """

    rmse: float
    y: float
    x: float
    rmse_pm: float | None
    common: float
    per_frame: Floats
    fraction: float


def displacement_error(
    displacement: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    pixel_size_nm: float | tuple[float, float] | None = None,
) -> DisplacementError:
    """Compare estimated displacements of a series with those it was simulated with.

    Frame k sampled at ``p + d_k(p)`` shows the object at ``c_k(p) = p + d_k(p) + u_k(p + d_k(p))``.
    If the registration is perfect, c_k is the same for all frames. The error is ``c_k`` minus its
    mean over frames: what the frames share, the gauge, cannot be known and does not count.

    Parameters
    ----------
    displacement
        Estimate d, ``(frame, 2, y, x)`` in px: frame k at (y + dy, x + dx) shows what the average
        shows at (y, x).
    truth
        Simulated u, same shape: pixel (y, x) of frame k sampled the object at (y + u_y, x + u_x).
    pixel_size_nm
        Pixel size in nm, a number or (py, px).

    Returns
    -------
    DisplacementError
        Over the pixels whose samples lie inside all frames.

    Raises
    ------
    DataError
        Shapes differ or aren't (frame, 2, y, x) with at least 2 frames, values are not finite, or
        no pixel lies inside all frames.

    Notes
    -----
    Cost: ``O(frames * pixels)``. Between rows, u is taken linearly.

    Examples
    --------
    >>> import numpy as np
    >>> u = np.zeros((3, 2, 16, 16)); u[1] += 2.0
    >>> d = np.zeros_like(u); d[1] -= 2.0
    >>> displacement_error(d, u).rmse
    0.0
    """
    d, u = np.asarray(displacement, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if d.shape != u.shape or d.ndim != 4 or d.shape[1] != 2 or len(d) < 2:
        raise DataError(f"shapes {d.shape} and {u.shape}", needed="twice (frame, 2, y, x), 2 frames or more")
    if not (np.isfinite(d).all() and np.isfinite(u).all()):
        raise DataError("the displacements have values that are not finite", todo="fill undetermined rows")
    ny, nx = d.shape[2:]
    grid = np.mgrid[:ny, :nx].astype(np.float64)
    reached = np.empty_like(d)
    valid = np.ones((ny, nx), dtype=bool)
    for k in range(len(d)):
        at = grid + d[k]
        for axis in range(2):
            reached[k, axis] = at[axis] + map_coordinates(u[k, axis], at, order=1, mode="nearest")
        valid &= (at[0] >= 0) & (at[0] <= ny - 1) & (at[1] >= 0) & (at[1] <= nx - 1)
    if not valid.any():
        raise DataError(
            "no pixel lies inside all frames", todo="check the sign of the displacement: see the docs"
        )
    inside = reached[:, :, valid]
    mean = inside.mean(axis=0)
    error = inside - mean
    y, x = np.sqrt((error**2).mean(axis=(0, 2)))
    pm = None
    if pixel_size_nm is not None:
        scale = np.broadcast_to(np.asarray(pixel_size_nm, dtype=np.float64), 2) * 1000
        pm = _mean(float(y * scale[0]), float(x * scale[1]))
    per_frame = np.sqrt((error**2).mean(axis=(1, 2)))
    common = _non_affine(mean, grid[:, valid])
    return DisplacementError(
        _mean(float(y), float(x)), float(y), float(x), pm, common, per_frame, float(valid.mean())
    )


def _non_affine(mean: Floats, grid: Floats) -> float:
    """Root mean square per axis of a map (2, n) less its best affine part."""
    design = np.column_stack([grid.T, np.ones(grid.shape[1])])
    solution = np.linalg.lstsq(design, mean.T, rcond=None)[0]
    return float(np.sqrt(((mean.T - design @ solution) ** 2).mean()))
