"""Numba kernels of the dense registration: splatting a frame, the reference, the normal equations.

A displacement field is bilinear between nodes that are spread evenly over the frame. `Lines` says
between which two nodes each row (or column) of pixels lies. Image values lie on a canvas whose pixel
``(y + origin[0], x + origin[1])`` is pixel (y, x) of the frames' grid.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "N_BINS",
    "Grid",
    "Lines",
    "Reference",
    "Sums",
    "add_frame",
    "apply_stencil",
    "empty_sums",
    "make_lines",
    "make_reference",
    "normal_equations",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
N_BINS = 24  # classes of brightness in which the noise is measured
_SEEN = 0.02  # of a frame
_REACH = 2  # pixels around a sample that its spline reads


class Lines(NamedTuple):
    """For each pixel along an axis, the node before it and the fraction of the way to the next."""

    node: Ints
    fraction: Floats
    n_nodes: int
    spacing: float


class Grid(NamedTuple):
    """The nodes of a field, and where pixel (0, 0) of the frames' grid lies on the canvas."""

    rows: Lines
    cols: Lines
    origin: Ints


class Reference(NamedTuple):
    """An image on the canvas, as coefficients of a cubic spline, and where it may be used."""

    image: Floats
    valid: Bools


class Sums(NamedTuple):
    """What `normal_equations` collects; t counts (recorded value, reference, 1).

    `stencil` ``(5, 3, my, mx)``: coupling (yy, yx, xx) of node (i, j) with (i, j), (i, j+1), (i+1, j), (i+1, j+1)
    and, last, of (i, j+1) with (i+1, j). `slope` ``(2, 3, my, mx)``: sums of w ∂_c R (I, R, 1)_t. `totals` ``(7,)``:
    sums of w (I I, I R, R R, I, R, 1) and the number of pixels. `bins` ``(N_BINS, 3)``: number, sums of R and of
    the squared residual in classes of brightness.
    """

    stencil: Floats
    slope: Floats
    totals: Floats
    bins: Floats


def empty_sums(grid: Grid) -> Sums:
    """Return sums of nothing."""
    nodes = (grid.rows.n_nodes, grid.cols.n_nodes)
    return Sums(np.zeros((5, 3, *nodes)), np.zeros((2, 3, *nodes)), np.zeros(7), np.zeros((N_BINS, 3)))


def make_lines(size: int, spacing: float) -> Lines:
    """Spread nodes at most `spacing` px apart over `size` pixels, one on the first and one on the last."""
    count = max(2, math.ceil((size - 1) / spacing - 1e-9) + 1)
    step = (size - 1) / (count - 1)
    at = np.arange(size) / step
    node = np.minimum((at + 1e-9).astype(np.int64), count - 2)
    return Lines(node, at - node, count, step)


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _weights(t: float) -> tuple[float, float, float, float]:
    """Cubic B-spline: the weights of the four neighbours at fraction t."""
    s = 1.0 - t
    w0, w3 = s * s * s / 6.0, t * t * t / 6.0
    w1 = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    return w0, w1, 1.0 - w0 - w1 - w3, w3


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _slopes(t: float) -> tuple[float, float, float, float]:
    s = 1.0 - t
    d0, d3 = -0.5 * s * s, 0.5 * t * t
    d1 = 1.5 * t * t - 2.0 * t
    return d0, d1, -(d0 + d1 + d3), d3


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def add_frame(values: Floats, mask: Bools, nodes: Floats, grid: Grid, canvas: Floats, sign: float) -> None:
    """Splat a frame where its pixels lie: add weighted values to canvas[0] and weights to canvas[1].

    The splat is a cubic B-spline: unlike a bilinear one it blurs by the same amount wherever a sample
    falls between the pixels, so that it favours no displacement.
    """
    ny, nx = values.shape
    rows, cols, origin = grid
    high_y, high_x = canvas.shape[1] - 3, canvas.shape[2] - 3
    uy_row, ux_row = np.empty(cols.n_nodes), np.empty(cols.n_nodes)
    for y in range(ny):
        _row_of_field(nodes, rows.node[y], rows.fraction[y], uy_row, ux_row)
        for x in range(nx):
            if not mask[y, x]:
                continue
            j, g = cols.node[x], cols.fraction[x]
            qy = y + (1 - g) * uy_row[j] + g * uy_row[j + 1] + origin[0]
            qx = x + (1 - g) * ux_row[j] + g * ux_row[j + 1] + origin[1]
            if not (qy >= 1.0 and qx >= 1.0 and qy < high_y and qx < high_x):
                continue
            iy, ix = int(qy), int(qx)
            a, b, c, d = _weights(qx - ix)
            wy = _weights(qy - iy)
            value = values[y, x]
            for n in range(4):
                v = sign * wy[n]
                w = v * value
                line = canvas[0, iy - 1 + n, ix - 1 : ix + 3]
                line[0] += w * a
                line[1] += w * b
                line[2] += w * c
                line[3] += w * d
                line = canvas[1, iy - 1 + n, ix - 1 : ix + 3]
                line[0] += v * a
                line[1] += v * b
                line[2] += v * c
                line[3] += v * d


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def make_reference(canvas: Floats, least: float, image: Floats, valid: Bools) -> None:
    """Divide values by weights; a pixel is valid where everything its spline reads was measured.

    Pixels that no frame shows take the value of their neighbour along the row, or of the row above.
    """
    ny, nx = image.shape
    low = np.zeros((ny, nx), dtype=np.bool_)
    above = -1
    for y in range(ny):
        run, first = 0, -1
        for x in range(nx):
            weight = canvas[1, y, x]
            if weight > _SEEN:
                image[y, x] = canvas[0, y, x] / weight
                first = x if first < 0 else first
                run += 1
            else:
                image[y, x] = image[y, x - 1] if first >= 0 else 0.0
                run = 0
            if run >= 2 * _REACH + 1:
                low[y, x - _REACH] = True
        if first < 0:
            if above >= 0:
                image[y] = image[above]
            continue
        image[y, :first] = image[y, first]
        if above < 0:
            image[:y] = image[y]
        above = y
    for x in range(nx):
        run = 0
        for y in range(ny):
            valid[y, x] = False
            run = run + 1 if low[y, x] else 0
            if run >= 2 * _REACH + 1:
                valid[y - _REACH, x] = canvas[1, y - _REACH, x] >= least


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def normal_equations(
    values: Floats,
    mask: Bools,
    nodes: Floats,
    grid: Grid,
    reference: Reference,
    noise: Floats,
    scale: Floats,
    sums: Sums,
) -> None:
    """Collect the weighted least squares of a frame against a reference, in the node basis, into `sums`.

    `noise` holds the variance of a pixel at brightness R as ``noise[0] R + noise[1]``, at least ``noise[2]``; its
    inverse is the weight w. `scale` is (gain, offset) of the frame as known so far, which only the classes of
    brightness use, and the limits of these; in the equations gain and offset are eliminated afterwards.
    """
    ny, nx = values.shape
    rows, cols, origin = grid
    image, valid = reference
    high_y, high_x = image.shape[0] - 3, image.shape[1] - 3
    uy_row, ux_row = np.empty(cols.n_nodes), np.empty(cols.n_nodes)
    row_sums = np.zeros((21, cols.n_nodes))
    for y in range(ny):
        i, f = rows.node[y], rows.fraction[y]
        _row_of_field(nodes, i, f, uy_row, ux_row)
        for x in range(nx):
            if not mask[y, x]:
                continue
            j, g = cols.node[x], cols.fraction[x]
            h = 1.0 - g
            qy = y + h * uy_row[j] + g * uy_row[j + 1] + origin[0]
            qx = x + h * ux_row[j] + g * ux_row[j + 1] + origin[1]
            if not (qy >= 1.0 and qx >= 1.0 and qy < high_y and qx < high_x):
                continue
            iy, ix = int(qy), int(qx)
            if not valid[iy, ix]:
                continue
            r, ry, rx = _sample(image, iy, ix, qy - iy, qx - ix)
            w = 1.0 / max(noise[0] * r + noise[1], noise[2])
            _tally(values[y, x], r, w, scale, sums.totals, sums.bins)
            _collect(row_sums[:, j], h, g, w, w * r, w * values[y, x], ry, rx)
        _spread(row_sums, i, f, sums.stencil, sums.slope)


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _sample(image: Floats, iy: int, ix: int, ty: float, tx: float) -> tuple[float, float, float]:
    """Spline and its two slopes at (iy + ty, ix + tx)."""
    a, b, c, d = _weights(tx)
    sa, sb, sc, sd = _slopes(tx)
    wy, sy = _weights(ty), _slopes(ty)
    r, ry, rx = 0.0, 0.0, 0.0
    for n in range(4):
        line = image[iy - 1 + n, ix - 1 : ix + 3]
        along = a * line[0] + b * line[1] + c * line[2] + d * line[3]
        r += wy[n] * along
        ry += sy[n] * along
        rx += wy[n] * (sa * line[0] + sb * line[1] + sc * line[2] + sd * line[3])
    return r, ry, rx


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _tally(value: float, r: float, w: float, scale: Floats, totals: Floats, bins: Floats) -> None:
    """Add one pixel to the sums over the frame."""
    totals[0] += w * value * value
    totals[1] += w * value * r
    totals[2] += w * r * r
    totals[3] += w * value
    totals[4] += w * r
    totals[5] += w
    totals[6] += 1.0
    k = min(max(int((r - scale[2]) * (N_BINS / (scale[3] - scale[2]))), 0), N_BINS - 1)
    miss = value - scale[0] * r - scale[1]
    bins[k, 0] += 1.0
    bins[k, 1] += r
    bins[k, 2] += miss * miss


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _collect(own: Floats, h: float, g: float, w: float, wr: float, wi: float, ry: float, rx: float) -> None:
    """Add one pixel to the sums of its row between two columns of nodes."""
    hyy, hyx, hxx = w * ry * ry, w * ry * rx, w * rx * rx
    hh, hg, gg = h * h, h * g, g * g
    own[0] += hh * hyy
    own[1] += hh * hyx
    own[2] += hh * hxx
    own[3] += hg * hyy
    own[4] += hg * hyx
    own[5] += hg * hxx
    own[6] += gg * hyy
    own[7] += gg * hyx
    own[8] += gg * hxx
    hy, hx, gy, gx = h * ry, h * rx, g * ry, g * rx
    own[9] += hy * wi
    own[10] += hy * wr
    own[11] += hy * w
    own[12] += hx * wi
    own[13] += hx * wr
    own[14] += hx * w
    own[15] += gy * wi
    own[16] += gy * wr
    own[17] += gy * w
    own[18] += gx * wi
    own[19] += gx * wr
    own[20] += gx * w


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _spread(own: Floats, i: int, f: float, stencil: Floats, slope: Floats) -> None:
    """Spread the sums of a row of pixels over the nodes above (share 1 - f) and below (f), and empty them."""
    e = 1 - f
    for n in range(3):
        left, both, right = own[n], own[3 + n], own[6 + n]
        for k in range(2):
            share, row = (e, i) if k == 0 else (f, i + 1)
            _add_scaled(stencil[0, n, row], left, share * share, 0)
            _add_scaled(stencil[0, n, row], right, share * share, 1)
            _add_scaled(stencil[1, n, row], both, share * share, 0)
        _add_scaled(stencil[2, n, i], left, e * f, 0)
        _add_scaled(stencil[2, n, i], right, e * f, 1)
        _add_scaled(stencil[3, n, i], both, e * f, 0)
        _add_scaled(stencil[4, n, i], both, e * f, 0)
    for c in range(2):
        for t in range(3):
            for k in range(2):
                share, row = (e, i) if k == 0 else (f, i + 1)
                _add_scaled(slope[c, t, row], own[9 + 3 * c + t], share, 0)
                _add_scaled(slope[c, t, row], own[15 + 3 * c + t], share, 1)
    own[:] = 0.0


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _add_scaled(out: Floats, values: Floats, share: float, shift: int) -> None:
    """Add share * values, moved by `shift` nodes; the last column of nodes ends no cell."""
    for j in range(out.size - 1):
        out[j + shift] += share * values[j]


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _row_of_field(nodes: Floats, i: int, f: float, uy: Floats, ux: Floats) -> None:
    """Field at the columns of nodes, at the fraction f between node rows i and i + 1."""
    for j in range(uy.size):
        uy[j] = (1 - f) * nodes[0, i, j] + f * nodes[0, i + 1, j]
        ux[j] = (1 - f) * nodes[1, i, j] + f * nodes[1, i + 1, j]


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def apply_stencil(stencil: Floats, field: Floats, out: Floats) -> None:
    """Set out = H field for the symmetric couplings that `normal_equations` collected."""
    my, mx = field.shape[1:]
    for i in range(my):
        for j in range(mx):
            y, x = field[0, i, j], field[1, i, j]
            out[0, i, j] = stencil[0, 0, i, j] * y + stencil[0, 1, i, j] * x
            out[1, i, j] = stencil[0, 1, i, j] * y + stencil[0, 2, i, j] * x
    for n, di, dj in ((1, 0, 1), (2, 1, 0), (3, 1, 1)):
        for i in range(my - di):
            for j in range(mx - dj):
                _couple(stencil, n, i, j, field, out, i, j, i + di, j + dj)
    for i in range(my - 1):
        for j in range(mx - 1):
            _couple(stencil, 4, i, j, field, out, i, j + 1, i + 1, j)


@numba.njit(inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _couple(
    stencil: Floats, n: int, i: int, j: int, field: Floats, out: Floats, ka: int, ma: int, kb: int, mb: int
) -> None:
    yy, yx, xx = stencil[n, 0, i, j], stencil[n, 1, i, j], stencil[n, 2, i, j]
    ya, xa, yb, xb = field[0, ka, ma], field[1, ka, ma], field[0, kb, mb], field[1, kb, mb]
    out[0, ka, ma] += yy * yb + yx * xb
    out[1, ka, ma] += yx * yb + xx * xb
    out[0, kb, mb] += yy * ya + yx * xa
    out[1, kb, mb] += yx * ya + xx * xa
