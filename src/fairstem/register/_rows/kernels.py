"""Kernels of registration: spread a frame on a canvas, and compare its rows with a reference."""

from __future__ import annotations

import numba
import numpy as np

from fairstem.register._series.splines import spline_weights

__all__ = ["compare_rows", "residuals", "smooth_rows", "spread"]

BLURRED_NOISE = 0.066  # variance of the reference in units of that of one frame's pixel, times the frames
SLOPE_NOISE = 0.0265  # the same for the slope of the blurred reference, per px²
SHARP_NOISE = 0.124  # the same once the blur is undone


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _slopes(f, d):
    """Write the derivatives of the four cubic B-splines at the fraction `f` into `d`."""
    g = 1.0 - f
    d[0] = -0.5 * g * g
    d[1] = -2.0 * f + 1.5 * f * f
    d[3] = 0.5 * f * f
    d[2] = -d[0] - d[1] - d[3]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def spread(values, mask, at_y, at_x, total, weight):
    """Add each measured pixel to `total` and 1 to `weight`, spread by a cubic B-spline round its position.

    `mask` is of size 0 where every pixel was measured. Positions are those of the canvas; what lies
    beyond it is left out.
    """
    ny, nx = values.shape
    cy, cx = total.shape
    wy, wx = np.empty(4), np.empty(4)
    for i in range(ny):
        last_y, last_x = np.nan, np.nan
        for j in range(nx):
            if mask.size and not mask[i, j]:
                continue
            y, x = at_y[i, j], at_x[i, j]
            iy, ix = int(np.floor(y)), int(np.floor(x))
            if iy < 1 or ix < 1 or iy > cy - 3 or ix > cx - 3:
                continue
            fy, fx = y - iy, x - ix
            if fy != last_y:
                spline_weights(fy, wy)
                last_y = fy
            if fx != last_x:
                spline_weights(fx, wx)
                last_x = fx
            value = values[i, j]
            for a in range(4):
                row_weight = wy[a]
                for b in range(4):
                    w = row_weight * wx[b]
                    total[iy - 1 + a, ix - 1 + b] += w * value
                    weight[iy - 1 + a, ix - 1 + b] += w


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def smooth_rows(image, line, out):
    """Convolve with (1, 2, 1) / 4 along both axes; the outermost lines keep their weight. `line` is a row."""
    ny, nx = image.shape
    for i in range(ny):
        inner_y = 0 < i < ny - 1
        for j in range(nx):
            line[j] = (
                0.5 * image[i, j] + 0.25 * (image[i - 1, j] + image[i + 1, j]) if inner_y else image[i, j]
            )
        out[i, 0], out[i, nx - 1] = line[0], line[nx - 1]
        for j in range(1, nx - 1):
            out[i, j] = 0.5 * line[j] + 0.25 * (line[j - 1] + line[j + 1])


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _evaluate(coefficients, iy, ix, wy, wx, dy, dx):
    """Return value and slopes of the spline whose weights and their derivatives are given."""
    value, slope_y, slope_x = 0.0, 0.0, 0.0
    for p in range(4):
        line, line_dx = 0.0, 0.0
        for q in range(4):
            c = coefficients[iy - 1 + p, ix - 1 + q]
            line += wx[q] * c
            line_dx += dx[q] * c
        value += wy[p] * line
        slope_y += dy[p] * line
        slope_x += wy[p] * line_dx
    return value, slope_y, slope_x


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def compare_rows(values, mask, at_y, at_x, reference, law, information, score, chi2, tone):
    """Compare each row, in segments, with a reference image: the normal equations of a small shift.

    Parameters: ``reference`` is (coefficients, weight, least weight); ``law`` is (a, b, lowest variance):
    the variance of a value is ``a + b * value``. Writes ``information (ny, segments, 4)``: yy, yx, xx, and
    what the noise of the reference adds to yy and to xx on average; ``score (ny, segments, 2)``;
    ``chi2 (ny, segments, 2)`` (sum of squares, number); and ``tone (ny, segments, 4)``, the equation of a
    factor of brightness (information, score, cross terms with y and with x).
    """
    coefficients, weight, least = reference
    a, b, lowest = law
    ny, nx = values.shape
    cy, cx = coefficients.shape
    segments = information.shape[1]
    wy, wx, dy, dx = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    information[:] = 0.0
    score[:] = 0.0
    chi2[:] = 0.0
    tone[:] = 0.0
    for i in range(ny):
        last_y, last_x = np.nan, np.nan
        for j in range(nx):
            if mask.size and not mask[i, j]:
                continue
            y, x = at_y[i, j], at_x[i, j]
            iy, ix = int(np.floor(y)), int(np.floor(x))
            if iy < 1 or ix < 1 or iy > cy - 3 or ix > cx - 3:
                continue
            support = weight[iy, ix]
            if support < least:
                continue
            fy, fx = y - iy, x - ix
            if fy != last_y:
                spline_weights(fy, wy)
                _slopes(fy, dy)
                last_y = fy
            if fx != last_x:
                spline_weights(fx, wx)
                _slopes(fx, dx)
                last_x = fx
            value, slope_y, slope_x = _evaluate(coefficients, iy, ix, wy, wx, dy, dx)
            # the reference is noisy too: it holds the noise of some 13 pixels of each of `support` frames
            variance = max(a + b * value, lowest) * (1.0 + BLURRED_NOISE / support)
            w = 1.0 / variance
            rest = values[i, j] - value
            s = j * segments // nx
            information[i, s, 0] += w * slope_y * slope_y
            information[i, s, 1] += w * slope_y * slope_x
            information[i, s, 2] += w * slope_x * slope_x
            information[i, s, 3] += SLOPE_NOISE / support
            score[i, s, 0] += w * rest * slope_y
            score[i, s, 1] += w * rest * slope_x
            chi2[i, s, 0] += w * rest * rest
            chi2[i, s, 1] += 1.0
            weighted = w * value
            tone[i, s, 0] += weighted * value
            tone[i, s, 1] += weighted * rest
            tone[i, s, 2] += weighted * slope_y
            tone[i, s, 3] += weighted * slope_x


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def residuals(values, mask, at_y, at_x, reference, fitted, rest):
    """Write the reference at each pixel to `fitted`, and what the pixel differs from it to `rest`.

    `reference` is (coefficients, weight, least weight); both are NaN where it says nothing. The
    difference is divided by the root of what the noise of the reference adds to its variance.
    """
    coefficients, weight, least = reference
    ny, nx = values.shape
    cy, cx = coefficients.shape
    wy, wx = np.empty(4), np.empty(4)
    for i in range(ny):
        for j in range(nx):
            fitted[i, j], rest[i, j] = np.nan, np.nan
            if mask.size and not mask[i, j]:
                continue
            y, x = at_y[i, j], at_x[i, j]
            iy, ix = int(np.floor(y)), int(np.floor(x))
            if iy < 1 or ix < 1 or iy > cy - 3 or ix > cx - 3 or weight[iy, ix] < least:
                continue
            spline_weights(y - iy, wy)
            spline_weights(x - ix, wx)
            value = 0.0
            for p in range(4):
                for q in range(4):
                    value += wy[p] * wx[q] * coefficients[iy - 1 + p, ix - 1 + q]
            fitted[i, j] = value
            rest[i, j] = (values[i, j] - value) / np.sqrt(1.0 + SHARP_NOISE / weight[iy, ix])
