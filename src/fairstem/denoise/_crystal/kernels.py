"""Kernels of the crystal fit: fold an image into one cell, unfold a cell into an image, sum over boxes.

Cell coordinates are fractions ``s = (r - u) @ inverse``, periodic with period 1. The cell's image is a
periodic cubic B-spline on a table: four nodes an axis, with exact slopes.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["box_sums", "fold", "interpolate", "measure", "unfold"]

Floats = NDArray[np.float64]


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _weights(t: float) -> tuple[float, float, float, float]:
    """Cubic B-spline at the four nodes around a point, `t` behind the second."""
    q = 1.0 - t
    return (
        q * q * q / 6.0,
        (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
        (4.0 - 6.0 * q * q + 3.0 * q * q * q) / 6.0,
        t * t * t / 6.0,
    )


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _slopes(t: float) -> tuple[float, float, float, float]:
    """Derivative of `_weights` by `t`."""
    q = 1.0 - t
    return -0.5 * q * q, (-2.0 + 1.5 * t) * t, (2.0 - 1.5 * q) * q, 0.5 * t * t


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def fold(first: Floats, second: Floats, u: Floats, inverse: Floats, n1: int, n2: int) -> Floats:
    """Splat two images into tables ``(2, n1, n2)`` of one cell."""
    ny, nx = first.shape
    out = np.zeros((2, n1 + 4, n2 + 4))
    i00, i01, i10, i11 = inverse[0, 0], inverse[0, 1], inverse[1, 0], inverse[1, 1]
    for y in range(ny):
        for x in range(nx):
            p, q = first[y, x], second[y, x]
            if p == 0.0 and q == 0.0:
                continue
            ry, rx = y - u[0, y, x], x - u[1, y, x]
            s, t = ry * i00 + rx * i10, ry * i01 + rx * i11
            s, t = (s - math.floor(s)) * n1, (t - math.floor(t)) * n2
            i, j = int(s), int(t)
            w0, w1, w2, w3 = _weights(s - i)
            v0, v1, v2, v3 = _weights(t - j)
            for k in range(4):
                w = w0 if k == 0 else (w1 if k == 1 else (w2 if k == 2 else w3))
                row = i + k
                wp, wq = w * p, w * q
                out[0, row, j] += wp * v0
                out[0, row, j + 1] += wp * v1
                out[0, row, j + 2] += wp * v2
                out[0, row, j + 3] += wp * v3
                out[1, row, j] += wq * v0
                out[1, row, j + 1] += wq * v1
                out[1, row, j + 2] += wq * v2
                out[1, row, j + 3] += wq * v3
    # node i of the table lies at row i + 1; rows beyond the end belong to the next cell
    tables = np.zeros((2, n1, n2))
    for c in range(2):
        for i in range(n1 + 4):
            for j in range(n2 + 4):
                tables[c, (i - 1) % n1, (j - 1) % n2] += out[c, i, j]
    return tables


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _padded(table: Floats) -> Floats:
    """Nodes -1 to n + 2 of a periodic table, so that no index wraps in the inner loop."""
    n1, n2 = table.shape
    out = np.empty((n1 + 4, n2 + 4))
    for i in range(n1 + 4):
        for j in range(n2 + 4):
            out[i, j] = table[(i - 1) % n1, (j - 1) % n2]
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def unfold(table: Floats, u: Floats, inverse: Floats) -> Floats:
    """Return the image of the spline `table` repeated over the deformed lattice."""
    ny, nx = u.shape[1:]
    n1, n2 = table.shape
    c = _padded(table)
    out = np.empty((ny, nx))
    i00, i01, i10, i11 = inverse[0, 0], inverse[0, 1], inverse[1, 0], inverse[1, 1]
    for y in range(ny):
        for x in range(nx):
            ry, rx = y - u[0, y, x], x - u[1, y, x]
            s, t = ry * i00 + rx * i10, ry * i01 + rx * i11
            s, t = (s - math.floor(s)) * n1, (t - math.floor(t)) * n2
            i, j = int(s), int(t)
            w0, w1, w2, w3 = _weights(s - i)
            v0, v1, v2, v3 = _weights(t - j)
            out[y, x] = (
                w0 * (v0 * c[i, j] + v1 * c[i, j + 1] + v2 * c[i, j + 2] + v3 * c[i, j + 3])
                + w1 * (v0 * c[i + 1, j] + v1 * c[i + 1, j + 1] + v2 * c[i + 1, j + 2] + v3 * c[i + 1, j + 3])
                + w2 * (v0 * c[i + 2, j] + v1 * c[i + 2, j + 1] + v2 * c[i + 2, j + 2] + v3 * c[i + 2, j + 3])
                + w3 * (v0 * c[i + 3, j] + v1 * c[i + 3, j + 1] + v2 * c[i + 3, j + 2] + v3 * c[i + 3, j + 3])
            )
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def measure(table: Floats, u: Floats, inverse: Floats) -> Floats:
    """Return ``(3, y, x)``: the image of `unfold`, and its slopes along y and x."""
    ny, nx = u.shape[1:]
    n1, n2 = table.shape
    c = _padded(table)
    out = np.empty((3, ny, nx))
    i00, i01, i10, i11 = inverse[0, 0], inverse[0, 1], inverse[1, 0], inverse[1, 1]
    for y in range(ny):
        for x in range(nx):
            ry, rx = y - u[0, y, x], x - u[1, y, x]
            s, t = ry * i00 + rx * i10, ry * i01 + rx * i11
            s, t = (s - math.floor(s)) * n1, (t - math.floor(t)) * n2
            i, j = int(s), int(t)
            w0, w1, w2, w3 = _weights(s - i)
            d0, d1, d2, d3 = _slopes(s - i)
            v0, v1, v2, v3 = _weights(t - j)
            e0, e1, e2, e3 = _slopes(t - j)
            r0 = v0 * c[i, j] + v1 * c[i, j + 1] + v2 * c[i, j + 2] + v3 * c[i, j + 3]
            r1 = v0 * c[i + 1, j] + v1 * c[i + 1, j + 1] + v2 * c[i + 1, j + 2] + v3 * c[i + 1, j + 3]
            r2 = v0 * c[i + 2, j] + v1 * c[i + 2, j + 1] + v2 * c[i + 2, j + 2] + v3 * c[i + 2, j + 3]
            r3 = v0 * c[i + 3, j] + v1 * c[i + 3, j + 1] + v2 * c[i + 3, j + 2] + v3 * c[i + 3, j + 3]
            out[0, y, x] = w0 * r0 + w1 * r1 + w2 * r2 + w3 * r3
            gs = (d0 * r0 + d1 * r1 + d2 * r2 + d3 * r3) * n1
            gt = n2 * (
                w0 * (e0 * c[i, j] + e1 * c[i, j + 1] + e2 * c[i, j + 2] + e3 * c[i, j + 3])
                + w1 * (e0 * c[i + 1, j] + e1 * c[i + 1, j + 1] + e2 * c[i + 1, j + 2] + e3 * c[i + 1, j + 3])
                + w2 * (e0 * c[i + 2, j] + e1 * c[i + 2, j + 1] + e2 * c[i + 2, j + 2] + e3 * c[i + 2, j + 3])
                + w3 * (e0 * c[i + 3, j] + e1 * c[i + 3, j + 1] + e2 * c[i + 3, j + 2] + e3 * c[i + 3, j + 3])
            )
            out[1, y, x] = gs * i00 + gt * i01
            out[2, y, x] = gs * i10 + gt * i11
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def box_sums(
    k: Floats,
    model: Floats,
    gain: Floats,
    background: Floats,
    weight: Floats,
    size: tuple[int, int],
    floor: float,
) -> tuple[Floats, Floats, Floats, float]:
    """Score and information of the fields, box by box and row by row.

    `model` is the output of `measure`. Returns boxes ``(by, bx, 10)``: score and information of
    (dy, dx), as (s0, s1, f00, f01, f11), then of (gain, background); rows ``(y, 5)`` of (dy, dx);
    the weighted cell image summed, which gain and background are anchored by; and the log-likelihood.
    """
    ny, nx = k.shape
    by, bx = size
    boxes, rows, total = np.zeros((by, bx, 10)), np.zeros((ny, 5)), 0.0
    anchor = np.zeros(2)
    for y in range(ny):
        iy = min(y * by // ny, by - 1)
        for x in range(nx):
            w = weight[y, x]
            if w == 0.0:
                continue
            ix = min(x * bx // nx, bx - 1)
            t, a = model[0, y, x], gain[y, x]
            mean = max(a * t + background[y, x], floor)
            total += w * (k[y, x] * math.log(mean) - mean)
            gy, gx = -a * model[1, y, x], -a * model[2, y, x]
            v = w / mean
            r = (k[y, x] - mean) * v
            rows[y, 0] += r * gy
            rows[y, 1] += r * gx
            rows[y, 2] += v * gy * gy
            rows[y, 3] += v * gy * gx
            rows[y, 4] += v * gx * gx
            boxes[iy, ix, 0] += r * gy
            boxes[iy, ix, 1] += r * gx
            boxes[iy, ix, 2] += v * gy * gy
            boxes[iy, ix, 3] += v * gy * gx
            boxes[iy, ix, 4] += v * gx * gx
            boxes[iy, ix, 5] += r * t
            boxes[iy, ix, 6] += r
            boxes[iy, ix, 7] += v * t * t
            boxes[iy, ix, 8] += v * t
            boxes[iy, ix, 9] += v
            anchor[0] += v * t
            anchor[1] += v
    return boxes, rows, anchor, total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _cubic(t: float) -> tuple[float, float, float, float]:
    """Cubic convolution (Catmull-Rom) at the four nodes around a point."""
    return (
        0.5 * t * (-1.0 + t * (2.0 - t)),
        0.5 * (2.0 + t * t * (-5.0 + 3.0 * t)),
        0.5 * t * (1.0 + t * (4.0 - 3.0 * t)),
        0.5 * t * t * (-1.0 + t),
    )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def interpolate(
    nodes: Floats, shape: tuple[int, int], vectors: Floats, inverse: Floats, wrapped: bool
) -> Floats:
    """Interpolate two fields ``(by, bx, 2)`` at box centres to pixels, ``(2, y, x)``.

    Beyond the outer centres the fields go on straight. With `wrapped`, the two are a displacement:
    nodes that differ by more than half a cell are taken as one lattice vector apart.
    """
    ny, nx = shape
    by, bx = nodes.shape[:2]
    out = np.empty((2, ny, nx))
    py, px = ny / by, nx / bx
    tap = np.empty((4, 4, 2))
    last_i, last_j = -10, -10
    for y in range(ny):
        fy = (y + 0.5) / py - 0.5
        i = min(max(math.floor(fy), 0), max(by - 2, 0))
        a0, a1, a2, a3 = _cubic(min(max(fy - i, 0.0), 1.0))
        over_y = fy - i - min(max(fy - i, 0.0), 1.0) if by > 1 else 0.0
        for x in range(nx):
            fx = (x + 0.5) / px - 0.5
            j = min(max(math.floor(fx), 0), max(bx - 2, 0))
            if i != last_i or j != last_j:
                _taps(nodes, i, j, vectors, inverse, wrapped, tap)
                last_i, last_j = i, j
            inside = min(max(fx - j, 0.0), 1.0)
            over_x = fx - j - inside if bx > 1 else 0.0
            b0, b1, b2, b3 = _cubic(inside)
            for c in range(2):
                value = 0.0
                for p in range(4):
                    a = a0 if p == 0 else (a1 if p == 1 else (a2 if p == 2 else a3))
                    value += a * (
                        b0 * tap[p, 0, c] + b1 * tap[p, 1, c] + b2 * tap[p, 2, c] + b3 * tap[p, 3, c]
                    )
                if over_y != 0.0:
                    value += over_y * (tap[2, 1, c] - tap[1, 1, c])
                if over_x != 0.0:
                    value += over_x * (tap[1, 2, c] - tap[1, 1, c])
                out[c, y, x] = value
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _taps(
    nodes: Floats, i: int, j: int, vectors: Floats, inverse: Floats, wrapped: bool, tap: Floats
) -> None:
    """The 4 × 4 nodes around box (i, j), each the lattice vectors away that bring it nearest to (i, j)."""
    by, bx = nodes.shape[:2]
    for p in range(4):
        for q in range(4):
            m, n = i + p - 1, j + q - 1
            mi, ni = min(max(m, 0), by - 1), min(max(n, 0), bx - 1)
            # one node beyond the edge: straight on
            mo = min(max(mi + (mi - m), 0), by - 1)
            no = min(max(ni + (ni - n), 0), bx - 1)
            for c in range(2):
                tap[p, q, c] = nodes[mi, ni, c]
            if wrapped:
                _bring(tap[p, q], nodes[i, j], vectors, inverse)
            if mo != mi or no != ni:
                ly, lx = nodes[mo, no, 0], nodes[mo, no, 1]
                pair = np.empty(2)
                pair[0], pair[1] = ly, lx
                if wrapped:
                    _bring(pair, nodes[i, j], vectors, inverse)
                for c in range(2):
                    tap[p, q, c] = 2.0 * tap[p, q, c] - pair[c]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _bring(pair: Floats, target: Floats, vectors: Floats, inverse: Floats) -> None:
    """Move `pair` by lattice vectors to its nearest equivalent of `target`."""
    dy, dx = pair[0] - target[0], pair[1] - target[1]
    m = np.rint(dy * inverse[0, 0] + dx * inverse[1, 0])
    n = np.rint(dy * inverse[0, 1] + dx * inverse[1, 1])
    pair[0] -= m * vectors[0, 0] + n * vectors[1, 0]
    pair[1] -= m * vectors[0, 1] + n * vectors[1, 1]
