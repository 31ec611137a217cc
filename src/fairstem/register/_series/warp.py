"""Two warps: one that keeps values, one that keeps counts."""

from __future__ import annotations

from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, spline_filter1d

from fairstem.errors import DataError
from fairstem.register._series.splines import spline_weights

__all__ = ["deposit", "fill_nearest", "resample"]

Floats = NDArray[np.float64]
Spread = Literal["linear", "cubic"]


def resample(
    values: NDArray[Any],
    backward: Floats,
    mask: NDArray[np.bool_] | None = None,
    order: int = 3,
) -> tuple[Floats, Floats]:
    """Sample a frame at the points of another grid. Value-preserving; counts are not conserved.

    Prior: between pixels the frame is a spline. An intensity (a density, a grey level) keeps its value
    where the grid is stretched, so that sums change; for counts that must add up use `deposit`.

    Parameters
    ----------
    values
        ``(y, x)`` or ``(y, x, ...)``, finite.
    backward
        ``(2, y, x)`` px, order (dy, dx), on the new grid: its pixel (y, x) takes the frame's value at
        (y + dy, x + dx).
    mask
        ``(y, x)``, False where the frame was not measured.
    order
        3: cubic B-spline through the pixels. 1: linear, which blurs by up to half a pixel.

    Returns
    -------
    tuple
        Values ``(y, x, ...)`` on the new grid and ``(y, x)`` weights: 1 where the sample lies within the
        frame and none of the pixels around it is masked, else 0. Samples outside hold the nearest value.

    Raises
    ------
    DataError
        Shapes do not fit, or `order` is not 1 or 3.

    Notes
    -----
    Cost: ``O(pixels * (order + 1)²)`` for each trailing element; 60 ms for 1024².

    References
    ----------
    Unser, IEEE Signal Process. Mag. 16 (1999) 22, doi:10.1109/79.799930 (interpolation by B-splines).

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.arange(12.0) * np.ones((10, 1))
    >>> moved, weight = resample(ramp, np.full((2, 10, 12), 0.25))
    >>> round(float(moved[4, 5]), 3), weight[4, 9:].tolist()
    (5.25, [1.0, 1.0, 0.0])
    """
    if order not in (1, 3):
        raise DataError(f"order={order!r}", needed="1 (linear) or 3 (cubic)")
    shape = values.shape[:2]
    field = _checked_field(backward, values, name="backward")
    if mask is not None and mask.shape != shape:
        raise DataError(f"a mask of shape {mask.shape} for values of shape {shape}", needed="equal shapes")
    coefficients = np.array(values, dtype=np.float64).reshape(*shape, -1)
    bad = np.zeros((0, 0), dtype=np.bool_)
    if mask is not None and not mask.all():
        # an edge at 0 would ring through the spline: masked pixels continue what is around them
        coefficients = fill_nearest(coefficients, np.asarray(mask))
        bad = np.ascontiguousarray(~mask)
    if order == 3:
        for axis in (0, 1):
            if shape[axis] > 1:
                coefficients = spline_filter1d(coefficients, 3, axis=axis, mode="mirror")
    out_shape = tuple(backward.shape[1:])
    out = np.empty((*out_shape, coefficients.shape[2]))
    weight = np.empty(out_shape)
    _gather(np.ascontiguousarray(coefficients), field, bad, order == 3, out, weight)
    return out.reshape(*out_shape, *values.shape[2:]), weight


def deposit(
    values: NDArray[Any],
    forward: Floats,
    shape_out: tuple[int, int] | None = None,
    mask: NDArray[np.bool_] | None = None,
    spread: Spread = "linear",
) -> tuple[Floats, Floats, Floats]:
    """Put the content of every pixel where it belongs on another grid. Count-conserving.

    Prior: none; every count goes to the pixels around its position, with weights that sum to one. Rows
    that were recorded twice add up, rows that were left out leave gaps: divide by the coverage where a
    local mean is wanted.

    Parameters
    ----------
    values
        ``(y, x)`` or ``(y, x, ...)``, finite: counts.
    forward
        ``(2, y, x)`` px, order (dy, dx): the content of pixel (y, x) belongs at (y + dy, x + dx).
    shape_out
        ``(ny, nx)`` of the new grid; that of the frame by default.
    mask
        ``(y, x)``, False where the frame was not measured: neither counted nor covered.
    spread
        "linear" over the 4 nearest pixels, "cubic" over the 16 of a cubic B-spline: smoother coverage,
        1/3 px² instead of on average 1/6 px² of blur per axis.

    Returns
    -------
    tuple
        ``(y, x, ...)`` counts; ``(y, x)`` coverage, the same operation on ones, so that counts over
        coverage is the local mean; ``(...)`` counts lost beyond the grid. In sum as many as came in.

    Raises
    ------
    DataError
        Shapes do not fit, or `spread` is unknown.

    Notes
    -----
    Cost: ``O(pixels * 4)`` (linear) or ``O(pixels * 16)`` for each trailing element.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.zeros((6, 6)); one[2, 3] = 8.0
    >>> counts, coverage, lost = deposit(one, np.full((2, 6, 6), 0.5))
    >>> counts[2:4, 3:5].tolist(), float(counts.sum() + lost)
    ([[2.0, 2.0], [2.0, 2.0]], 8.0)
    """
    if spread not in ("linear", "cubic"):
        raise DataError(f"spread={spread!r}", needed="'linear' or 'cubic'")
    shape = values.shape[:2]
    field = _checked_field(forward, values, name="forward")
    if tuple(forward.shape[1:]) != tuple(shape):
        raise DataError(
            f"forward of shape {forward.shape} for a frame of {shape}", needed=f"(2, {shape[0]}, {shape[1]})"
        )
    out_shape = tuple(shape) if shape_out is None else tuple(shape_out)
    flat = np.ascontiguousarray(values, dtype=np.float64).reshape(*shape, -1)
    use = np.zeros((0, 0), dtype=np.bool_) if mask is None else np.ascontiguousarray(mask)
    counts = np.zeros((*out_shape, flat.shape[2]))
    coverage = np.zeros(out_shape)
    lost = np.zeros(flat.shape[2])
    _scatter(flat, field, use, spread == "cubic", counts, coverage, lost)
    trailing = values.shape[2:]
    return counts.reshape(*out_shape, *trailing), coverage, lost.reshape(trailing)


def fill_nearest(values: Floats, good: NDArray[np.bool_]) -> Floats:
    """Return a copy of ``(y, x, ...)`` whose pixels that are not `good` hold the nearest one that is.

    Nothing is changed where no pixel is good.
    """
    out = np.array(values, dtype=np.float64)
    if good.all() or not good.any():
        return out
    _, (near_y, near_x) = distance_transform_edt(~good, return_indices=True)
    bad = ~good
    out[bad] = out[near_y[bad], near_x[bad]]
    return out


def _checked_field(field: Floats, values: NDArray[Any], name: str) -> Floats:
    """Return the displacement, one number a row where all pixels of the row move alike."""
    if field.ndim != 3 or field.shape[0] != 2 or values.ndim < 2 or 0 in field.shape:
        raise DataError(
            f"values of shape {values.shape}, {name} of shape {field.shape}",
            needed="(y, x, ...) and (2, y, x)",
        )
    if field.strides[-1] == 0:
        field = field[:, :, :1]
    return np.ascontiguousarray(field, dtype=np.float64)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _taps(at: float, cubic: bool, w: Floats) -> int:
    """Write the weights of 4 (cubic) or 2 (linear) pixels into `w`; return the first of them."""
    low = int(np.floor(at))
    f = at - low
    if not cubic:
        w[0], w[1] = 1.0 - f, f
        return low
    spline_weights(f, w)
    return low - 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mirrored(i: int, n: int) -> int:
    """Return the pixel inside that mirrors pixel i; as the spline filter, without repeating the edge."""
    if n == 1:
        return 0
    i = abs(i) % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _touches(bad: NDArray[np.bool_], y: float, x: float) -> bool:
    """Say whether one of the pixels around (y, x) is masked."""
    ny, nx = bad.shape
    for i in range(int(np.floor(y)), min(int(np.ceil(y)), ny - 1) + 1):
        for j in range(int(np.floor(x)), min(int(np.ceil(x)), nx - 1) + 1):
            if bad[i, j]:
                return True
    return False


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _gather(
    coefficients: Floats, field: Floats, bad: NDArray[np.bool_], cubic: bool, out: Floats, weight: Floats
) -> None:
    """Evaluate splines (y, x, c) at the displaced pixels of another grid."""
    ny, nx, channels = coefficients.shape
    wide = field.shape[2] > 1
    taps = 4 if cubic else 2
    wy, wx = np.empty(4), np.empty(4)
    slack = 1e-9  # px: rounding of positions that mean the last pixel
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y, x = i + field[0, i, j if wide else 0], j + field[1, i, j if wide else 0]
            inside = -slack <= y <= ny - 1 + slack and -slack <= x <= nx - 1 + slack
            y, x = min(max(y, 0.0), ny - 1.0), min(max(x, 0.0), nx - 1.0)
            weight[i, j] = 1.0 if inside else 0.0
            if inside and bad.size and _touches(bad, y, x):
                weight[i, j] = 0.0
            first_y, first_x = _taps(y, cubic, wy), _taps(x, cubic, wx)
            out[i, j] = 0.0
            whole = 0 <= first_y <= ny - taps and 0 <= first_x <= nx - taps
            if whole and channels == 1:  # the usual case, faster on its own
                total = 0.0
                for a in range(taps):
                    line = 0.0
                    for b in range(taps):
                        line += wx[b] * coefficients[first_y + a, first_x + b, 0]
                    total += wy[a] * line
                out[i, j, 0] = total
                continue
            for a in range(taps):
                row = _mirrored(first_y + a, ny)
                for b in range(taps):
                    w = wy[a] * wx[b]
                    col = _mirrored(first_x + b, nx)
                    for c in range(channels):
                        out[i, j, c] += w * coefficients[row, col, c]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _scatter(
    values: Floats,
    field: Floats,
    use: NDArray[np.bool_],
    cubic: bool,
    counts: Floats,
    coverage: Floats,
    lost: Floats,
) -> None:
    """Spread pixels (y, x, c) over the pixels around their places on another grid."""
    ny, nx = counts.shape[:2]
    channels = values.shape[2]
    wide = field.shape[2] > 1
    taps = 4 if cubic else 2
    wy, wx = np.empty(4), np.empty(4)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if use.size and not use[i, j]:
                continue
            y, x = i + field[0, i, j if wide else 0], j + field[1, i, j if wide else 0]
            if not (-4.0 < y < ny + 4.0 and -4.0 < x < nx + 4.0):
                for c in range(channels):
                    lost[c] += values[i, j, c]
                continue
            first_y, first_x = _taps(y, cubic, wy), _taps(x, cubic, wx)
            for a in range(taps):
                for b in range(taps):
                    w = wy[a] * wx[b]
                    row, col = first_y + a, first_x + b
                    if 0 <= row < ny and 0 <= col < nx:
                        coverage[row, col] += w
                        for c in range(channels):
                            counts[row, col, c] += w * values[i, j, c]
                    else:
                        for c in range(channels):
                            lost[c] += w * values[i, j, c]
