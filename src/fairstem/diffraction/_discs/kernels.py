"""The edge of a disc as a model: the sums that one Gauss-Newton step needs."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["edge_sums"]

_LINEAR = 4  # amplitudes per sector: step, slope inside, level outside, slope outside
_SHARED = 6  # y, x, radius, width, two numbers of the ellipse
_PIXEL = 1.0 / 12.0  # px²: variance of a pixel, in every direction
_SHARPEST = 0.05  # px: blur beside the pixel's own, at least
_FLAT = 1e-3  # a side of the pixel that is seen edge-on counts as so wide
_FAR = 6.0  # of the blur: there the step is 1 or 0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def edge_sums(
    pixels: NDArray[np.float64],
    shared: NDArray[np.float64],
    starts: NDArray[np.int64],
    prior: NDArray[np.float64],
    precision: NDArray[np.float64],
    amplitudes: NDArray[np.float64],
    scores: NDArray[np.float64],
    model: NDArray[np.float64],
    free: NDArray[np.int64],
) -> tuple[NDArray[np.float64], float, float, float]:
    """Fit the amplitudes of every sector and return the information on the shared parameters.

    In sector j, at the distance t from the edge, the model is
    ``α s(t) + α′ t s(t) + β + β′ t (1 − s(t))`` with the blurred step s: the mean over a square pixel of a step with
    a Gaussian blur. The width is that of both together, in all at least 1/√12 px. The amplitudes are solved for
    (weighted least squares with a Gaussian prior) and projected out of the Jacobian of the shared parameters
    (variable projection).

    Parameters
    ----------
    pixels
        ``(4, n)`` values, their variances, y and x of the pixels near the edge, sorted by sector.
    shared
        Centre y, x, radius, width and the two numbers (p, q) of the ellipse.
    starts
        First pixel of each sector, and the number of pixels at the end.
    prior, precision
        ``(sector, 4)`` means and inverse variances of the amplitudes.
    amplitudes, scores, model
        Written: ``(sector, 4)``, the score of each sector ``(sector, 6)``, and the model at each pixel.
    free
        Which shared parameters are wanted; the others get no information.

    Returns
    -------
    tuple
        Information matrix (6, 6), chi-square, what the prior of the amplitudes adds to it, and the degrees of
        freedom that the amplitudes leave.
    """
    information = np.zeros((_SHARED, _SHARED))
    chi_square, penalty, freedom = 0.0, 0.0, 0.0
    longest = 0
    for j in range(starts.size - 1):
        longest = max(longest, starts[j + 1] - starts[j])
    # t, s, ds/dt, ds/dwidth at fixed t, and the partial derivatives of t
    shape = np.empty((longest, 4 + _SHARED))
    normal, inverse = np.empty((_LINEAR, _LINEAR)), np.empty((_LINEAR, _LINEAR))
    for j in range(starts.size - 1):
        first, last = starts[j], starts[j + 1]
        scores[j, :] = 0.0
        amplitudes[j, :] = prior[j, :]
        if last - first < 2 * _LINEAR:
            continue
        part = pixels[:, first:last]
        _shape_of_edge(part[2], part[3], shared, shape)
        _solve_amplitudes(part, shape, prior[j], precision[j], amplitudes[j], normal, inverse)
        chi_square += _project(
            part, shape, amplitudes[j], inverse, free, scores[j], model[first:last], information
        )
        for k in range(_LINEAR):
            penalty += precision[j, k] * (amplitudes[j, k] - prior[j, k]) ** 2
            freedom -= 1.0 - inverse[k, k] * precision[j, k]
        freedom += last - first
    return information, chi_square, penalty, freedom


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _shape_of_edge(ys: Any, xs: Any, shared: NDArray[np.float64], shape: NDArray[np.float64]) -> None:
    """Write t, s(t), its derivatives and those of t by the shared parameters for every pixel."""
    cy, cx, radius, width, p, q = shared
    size = math.sqrt(p * p + q * q)
    even = math.cosh(size)
    odd = math.sinh(size) / size if size > 1e-12 else 1.0
    a, b, d = even + odd * p, odd * q, even - odd * p
    blur = math.sqrt(max(width * width - _PIXEL, _SHARPEST**2))
    lift = width * width / (2 * radius)  # a blurred circle falls to one half a little inside its radius
    for i in range(ys.size):
        dy, dx = ys[i] - cy, xs[i] - cx
        uy, ux = a * dy + b * dx, b * dy + d * dx
        r = max(math.sqrt(uy * uy + ux * ux), 1e-9)
        t = r + lift - radius
        ny, nx = uy / r, ux / r
        shape[i, 0] = t
        s, fall, bend = _step(t, blur, abs(ny), abs(nx))
        shape[i, 1], shape[i, 2], shape[i, 3] = s, fall, width * bend
        shape[i, 4] = -(ny * a + nx * b)
        shape[i, 5] = -(ny * b + nx * d)
        shape[i, 6] = -1.0 - lift / radius
        shape[i, 7] = width / radius
        shape[i, 8] = ny * dy - nx * dx
        shape[i, 9] = ny * dx + nx * dy


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _step(t: float, blur: float, ny: float, nx: float) -> tuple[float, float, float]:
    """Return the mean of a blurred step over a pixel at the distance t, and its first two derivatives by t.

    A square seen along the normal (ny, nx) is a trapezoid: the box of |ny| blurred by that of |nx|. The mean is the
    second difference of the step's second integral. Half of the second derivative is that by the blur's variance.
    """
    wide, narrow = max(ny, nx, _FLAT), max(min(ny, nx), _FLAT)
    outer, inner = 0.5 * (wide + narrow), 0.5 * (wide - narrow)
    if abs(t) > outer + _FAR * blur:
        return (1.0 if t < 0 else 0.0), 0.0, 0.0
    s, fall, bend = 0.0, 0.0, 0.0
    for offset, sign in ((outer, 1.0), (inner, -1.0), (-inner, -1.0), (-outer, 1.0)):
        at = t + offset
        below = 0.5 * math.erfc(at / (math.sqrt(2.0) * blur))
        bell = blur * math.exp(-0.5 * (at / blur) ** 2) / math.sqrt(2 * math.pi)
        s += sign * 0.5 * ((at * at + blur * blur) * below - at * bell)
        fall += sign * (at * below - bell)
        bend += sign * below
    area = wide * narrow
    return s / area, fall / area, bend / area


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _columns(t: float, s: float, column: NDArray[np.float64]) -> None:
    """Write what the four amplitudes multiply."""
    column[0], column[1], column[2], column[3] = s, s * t, 1.0, (1 - s) * t


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _solve_amplitudes(
    part: Any,
    shape: NDArray[np.float64],
    prior: Any,
    precision: Any,
    amplitudes: Any,
    normal: NDArray[np.float64],
    inverse: NDArray[np.float64],
) -> None:
    """Weighted least squares of one sector with a Gaussian prior."""
    right, column = np.empty(_LINEAR), np.empty(_LINEAR)
    for k in range(_LINEAR):
        for m in range(_LINEAR):
            normal[k, m] = 0.0
        normal[k, k] = precision[k]
        right[k] = precision[k] * prior[k]
    for i in range(part.shape[1]):
        _columns(shape[i, 0], shape[i, 1], column)
        for k in range(_LINEAR):
            weighted = column[k] / part[1, i]
            right[k] += weighted * part[0, i]
            for m in range(k + 1):
                normal[k, m] += weighted * column[m]
    for k in range(_LINEAR):
        for m in range(k):
            normal[m, k] = normal[k, m]
    _invert(normal, inverse)
    for k in range(_LINEAR):
        amplitudes[k] = 0.0
        for m in range(_LINEAR):
            amplitudes[k] += inverse[k, m] * right[m]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _project(
    part: Any,
    shape: NDArray[np.float64],
    solved: Any,
    inverse: NDArray[np.float64],
    free: NDArray[np.int64],
    score: Any,
    model: Any,
    information: NDArray[np.float64],
) -> float:
    """Add the information of one sector, its amplitudes projected out; return its chi-square."""
    kinds = free.size
    cross, own = np.zeros((_LINEAR, kinds)), np.zeros((kinds, kinds))
    slopes, column = np.empty(kinds), np.empty(_LINEAR)
    chi_square = 0.0
    for i in range(part.shape[1]):
        w, t, s, fall = 1.0 / part[1, i], shape[i, 0], shape[i, 1], shape[i, 2]
        _columns(t, s, column)
        fitted = 0.0
        for k in range(_LINEAR):
            fitted += solved[k] * column[k]
        model[i] = fitted
        rest = part[0, i] - fitted
        chi_square += w * rest * rest
        height = solved[0] + (solved[1] - solved[3]) * t
        along = height * fall + solved[1] * s + solved[3] * (1 - s)
        for k in range(kinds):
            slopes[k] = shape[i, 4 + free[k]] * along
            if free[k] == 3:
                slopes[k] += height * shape[i, 3]
            score[free[k]] += w * slopes[k] * rest
            for m in range(_LINEAR):
                cross[m, k] += w * slopes[k] * column[m]
            for m in range(k + 1):
                own[k, m] += w * slopes[k] * slopes[m]
    for k in range(kinds):
        for m in range(kinds):
            taken = own[max(k, m), min(k, m)]
            for i in range(_LINEAR):
                for j in range(_LINEAR):
                    taken -= cross[i, k] * inverse[i, j] * cross[j, m]
            information[free[k], free[m]] += taken
    return chi_square


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _invert(matrix: NDArray[np.float64], inverse: NDArray[np.float64]) -> None:
    """Invert a small positive definite matrix (Gauss-Jordan without pivots); LAPACK's overhead is larger."""
    n = matrix.shape[0]
    for i in range(n):
        for j in range(n):
            inverse[i, j] = 1.0 if i == j else 0.0
    for i in range(n):
        scale = 1.0 / matrix[i, i]
        for j in range(n):
            matrix[i, j] *= scale
            inverse[i, j] *= scale
        for k in range(n):
            if k != i:
                factor = matrix[k, i]
                for j in range(n):
                    matrix[k, j] -= factor * matrix[i, j]
                    inverse[k, j] -= factor * inverse[i, j]
