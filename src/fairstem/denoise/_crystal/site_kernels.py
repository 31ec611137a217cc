"""Kernels at the sites of a crystal: Gauss-Hermite score and information, joint fit, leverage.

A site's six functions are products of one-dimensional ones, so sums over a disc are done row by row:
nine numbers a pixel instead of twenty-seven.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RADIUS", "RIDGE", "add_sites", "cross_information", "fit_sites", "put_leverage", "site_scores", "solve",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# the disc of a site, in widths: 99.4 % of a Gaussian
RADIUS = 3.2

# below this share of its height a column has no position to fit; shifts in widths
FAINT, LONGEST_STEP, FARTHEST = 0.3, 0.5, 2.2

# of Fisher scoring: added to the information's diagonal, relative; share of a step that is taken
RIDGE, DAMPING = 1e-3, 0.8

# precision of a weak prior on the coefficients (standard deviation 3 heights): holds what is barely in view
PRIOR = 0.1

# function j is (order ORDER_Y[j] along y)·(order ORDER_X[j] along x): 1, y, x, y²-1, xy, x²-1
ORDER_Y = np.array([0, 1, 0, 2, 1, 0])
ORDER_X = np.array([0, 0, 1, 0, 1, 2])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _hermite(first: int, last: int, centre: float, width: float, out: Floats) -> None:
    """Fill `out` (px, 3) with g·{1, t, t²-1} at the pixels first ... last-1."""
    for p in range(first, last):
        t = (p - centre) / width
        g = math.exp(-0.5 * t * t)
        out[p - first, 0] = g
        out[p - first, 1] = g * t
        out[p - first, 2] = g * (t * t - 1.0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _range(centre: float, reach: float, size: int) -> tuple[int, int]:
    """Pixels of a line of `size` within `reach` of `centre`: first, last + 1."""
    first = max(0, math.ceil(centre - reach))
    last = min(size, math.floor(centre + reach) + 1)
    return first, max(first, last)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _functions(site: Floats, shape: tuple[int, int], gy: Floats, gx: Floats) -> tuple[int, int, int, int]:
    """Fill the functions of a site along both axes; return the box round its disc: first and last + 1, y then x."""
    reach = RADIUS * site[2]
    y0, y1 = _range(site[0], reach, shape[0])
    x0, x1 = _range(site[1], reach, shape[1])
    _hermite(y0, y1, site[0], site[2], gy)
    _hermite(x0, x1, site[1], site[2], gx)
    return y0, y1, x0, x1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _in_row(site: Floats, y: int, size: int) -> tuple[int, int]:
    """Pixels of row `y`, of length `size`, inside the disc of a site: first, last + 1."""
    reach = RADIUS * site[2]
    return _range(site[1], math.sqrt(max(reach * reach - (y - site[0]) ** 2, 0.0)), size)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def solve(matrix: Floats, right: Floats, ridge: float, out: Floats) -> bool:
    """Solve (matrix + ridge·its diagonal) out = right for a symmetric matrix; False when it is not positive."""
    n = right.shape[0]
    low = np.empty((n, n))
    for j in range(n):
        s = matrix[j, j] * (1.0 + ridge)
        if not s > 0.0:
            return False
        tiny = 1e-12 * s
        for q in range(j):
            s -= low[j, q] * low[j, q]
        if not s > tiny:
            return False
        low[j, j] = math.sqrt(s)
        for i in range(j + 1, n):
            s = matrix[i, j]
            for q in range(j):
                s -= low[i, q] * low[j, q]
            low[i, j] = s / low[j, j]
    for i in range(n):
        s = right[i]
        for q in range(i):
            s -= low[i, q] * out[q]
        out[i] = s / low[i, i]
    for i in range(n - 1, -1, -1):
        s = out[i]
        for q in range(i + 1, n):
            s -= low[q, i] * out[q]
        out[i] = s / low[i, i]
    return True


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _row_sums(
    k: Floats, mean: Floats, weight: Floats, floor: Floats, y: int, x0: int, x1: int, first: int,
    gx: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Sums over one row: of g_a g_b/m into the upper half of `sums` (4, 3), of g_a (k - m)/m into its last row."""
    sums[:] = 0.0
    for x in range(x0, x1):
        m = max(mean[y, x], floor[y, x])
        w = weight[y, x] / m
        r = w * (k[y, x] - m)
        a, b, c = gx[x - first, 0], gx[x - first, 1], gx[x - first, 2]
        sums[3, 0] += a * r
        sums[3, 1] += b * r
        sums[3, 2] += c * r
        sums[0, 0] += w * a * a
        sums[0, 1] += w * a * b
        sums[0, 2] += w * a * c
        sums[1, 1] += w * b * b
        sums[1, 2] += w * b * c
        sums[2, 2] += w * c * c


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _site_sums(
    k: Floats, mean: Floats, weight: Floats, floor: Floats, site: Floats,
    gy: Floats, gx: Floats, score: Floats, info: Floats,
) -> None:  # fmt: skip
    """Score u (6) and Fisher information F (6, 6) of the coefficients of one site."""
    height = site[4]
    y0, y1, first, _ = _functions(site, k.shape, gy, gx)
    score[:] = 0.0
    info[:] = 0.0
    sums = np.empty((4, 3))
    for y in range(y0, y1):
        x0, x1 = _in_row(site, y, k.shape[1])
        _row_sums(k, mean, weight, floor, y, x0, x1, first, gx, sums)
        for j in range(6):
            a = gy[y - y0, ORDER_Y[j]]
            score[j] += a * sums[3, ORDER_X[j]]
            for i in range(j + 1):
                p, q = min(ORDER_X[i], ORDER_X[j]), max(ORDER_X[i], ORDER_X[j])
                info[j, i] += a * gy[y - y0, ORDER_Y[i]] * sums[p, q]
    for j in range(6):
        score[j] *= height
        for i in range(j + 1):
            info[j, i] *= height * height
            info[i, j] = info[j, i]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _add_one(mean: Floats, site: Floats, beta: Floats, gy: Floats, gx: Floats) -> None:
    """Add the sum of a site's functions times `beta` to `mean`, inside its disc."""
    height = site[4]
    y0, y1, first, _ = _functions(site, mean.shape, gy, gx)
    for y in range(y0, y1):
        a, b, c = height * gy[y - y0, 0], height * gy[y - y0, 1], height * gy[y - y0, 2]
        f0 = a * beta[0] + b * beta[1] + c * beta[3]
        f1 = a * beta[2] + b * beta[4]
        f2 = a * beta[5]
        x0, x1 = _in_row(site, y, mean.shape[1])
        for x in range(x0, x1):
            mean[y, x] += f0 * gx[x - first, 0] + f1 * gx[x - first, 1] + f2 * gx[x - first, 2]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _buffer(sites: Floats) -> Floats:
    """Room for the functions along one axis of the widest site."""
    widest = 0.0
    for i in range(sites.shape[0]):
        widest = max(widest, sites[i, 2])
    return np.empty((int(2 * RADIUS * widest) + 3, 3))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def add_sites(mean: Floats, sites: Floats, index: Ints, beta: Floats) -> None:
    """Add what `beta` (n, 6) says of the sites `index` to `mean`, in place."""
    gy, gx = _buffer(sites), _buffer(sites)
    for i in index:
        _add_one(mean, sites[i], beta[i], gy, gx)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def site_scores(
    k: Floats, mean: Floats, weight: Floats, floor: Floats, sites: Floats, index: Ints
) -> tuple[Floats, Floats]:
    """Score (n, 6) and information (n, 6, 6) of the sites `index`, zero elsewhere."""
    n = sites.shape[0]
    score, info = np.zeros((n, 6)), np.zeros((n, 6, 6))
    gy, gx = _buffer(sites), _buffer(sites)
    for i in index:
        _site_sums(k, mean, weight, floor, sites[i], gy, gx, score[i], info[i])
    return score, info


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _move(site: Floats, shift: Floats, moved: Floats) -> None:
    """The site at its shifted position; `shift` in widths."""
    moved[:] = site
    moved[0] += site[2] * shift[0]
    moved[1] += site[2] * shift[1]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _inside(position: float, width: float, shift: float, size: int) -> float:
    """The shift (widths), cut where the position would leave the image, or leave it further."""
    low, high = min(-position / width, 0.0), max((size - 1 - position) / width, 0.0)
    return min(max(shift, low), high)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _step(site: Floats, shift: Floats, beta: Floats, step: Floats, size_y: int, size_x: int) -> None:
    """Take a step in the six coefficients; the two of the dipole move the column while there is one to move."""
    left = 1.0 + beta[0]
    beta[0] = max(beta[0] + step[0], -1.5)
    for j in range(3, 6):
        beta[j] += step[j]
    if left < FAINT:
        beta[1] += step[1]
        beta[2] += step[2]
        return
    length = math.hypot(step[1], step[2]) / left
    shrink = LONGEST_STEP / length if length > LONGEST_STEP else 1.0
    dy, dx = shift[0] + shrink * step[1] / left, shift[1] + shrink * step[2] / left
    # beyond that a column has left its site: what appears elsewhere is found as a blob
    far = math.hypot(dy, dx)
    shrink = FARTHEST / far if far > FARTHEST else 1.0
    # nor does it move out of the image, where its height could grow without being seen
    shift[0] = _inside(site[0], site[2], shrink * dy, size_y)
    shift[1] = _inside(site[1], site[2], shrink * dx, size_x)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def fit_sites(
    k: Floats, mean: Floats, weight: Floats, floor: Floats, sites: Floats, index: Ints,
    free: NDArray[np.bool_], shift: Floats, beta: Floats,
) -> float:  # fmt: skip
    """One round of Fisher scoring over the sites `index`, one after the other; `mean`, `shift`, `beta` in place.

    Each site sees what its neighbours just became (block Gauss-Seidel), so overlapping columns are
    fitted jointly. `free` (n, 6) says which coefficients are fitted. Returns the largest step, in
    standard deviations.
    """
    gy, gx = _buffer(sites), _buffer(sites)
    score, info, step = np.empty(6), np.empty((6, 6)), np.empty(6)
    moved, total = np.empty(5), np.empty(6)
    largest = 0.0
    for i in index:
        _move(sites[i], shift[i], moved)
        _site_sums(k, mean, weight, floor, moved, gy, gx, score, info)
        for j in range(6):
            score[j] -= (RIDGE * info[j, j] + PRIOR) * beta[i, j]
            info[j, j] += PRIOR
            if not free[i, j]:
                score[j] = 0.0
                info[j, :] = 0.0
                info[:, j] = 0.0
                info[j, j] = 1.0
        if not solve(info, score, RIDGE, step):
            continue
        size = 0.0
        for j in range(6):
            size += step[j] * score[j]
            step[j] *= DAMPING
            total[j] = -beta[i, j]
        largest = max(largest, size)
        total[0] -= 1.0
        _add_one(mean, moved, total, gy, gx)
        _step(sites[i], shift[i], beta[i], step, k.shape[0], k.shape[1])
        for j in range(6):
            total[j] = beta[i, j]
        total[0] += 1.0
        _move(sites[i], shift[i], moved)
        _add_one(mean, moved, total, gy, gx)
    return math.sqrt(largest)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def cross_information(mean: Floats, weight: Floats, floor: Floats, sites: Floats, pairs: Ints) -> Floats:
    """Information (p, 6, 6) that the two sites of each pair share: rows the first's functions, columns the second's."""
    out = np.zeros((pairs.shape[0], 6, 6))
    ay, ax, by, bx = _buffer(sites), _buffer(sites), _buffer(sites), _buffer(sites)
    for p in range(pairs.shape[0]):
        s, t = sites[pairs[p, 0]], sites[pairs[p, 1]]
        sy0, sy1, sx0, _ = _functions(s, mean.shape, ay, ax)
        ty0, ty1, tx0, _ = _functions(t, mean.shape, by, bx)
        for y in range(max(sy0, ty0), min(sy1, ty1)):
            a0, a1 = _in_row(s, y, mean.shape[1])
            b0, b1 = _in_row(t, y, mean.shape[1])
            for x in range(max(a0, b0), min(a1, b1)):
                w = weight[y, x] / max(mean[y, x], floor[y, x]) * s[4] * t[4]
                for i in range(6):
                    f = w * ay[y - sy0, ORDER_Y[i]] * ax[x - sx0, ORDER_X[i]]
                    for j in range(6):
                        out[p, i, j] += f * by[y - ty0, ORDER_Y[j]] * bx[x - tx0, ORDER_X[j]]
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def put_leverage(
    leverage: Floats, mean: Floats, weight: Floats, floor: Floats, sites: Floats, pairs: Ints, form: Floats
) -> None:  # fmt: skip
    """Add phi_first^T form phi_second / m to `leverage`, for each pair of sites (a site with itself included)."""
    ay, ax, by, bx = _buffer(sites), _buffer(sites), _buffer(sites), _buffer(sites)
    f = np.empty(6)
    for p in range(pairs.shape[0]):
        s, t = sites[pairs[p, 0]], sites[pairs[p, 1]]
        sy0, sy1, sx0, _ = _functions(s, mean.shape, ay, ax)
        ty0, ty1, tx0, _ = _functions(t, mean.shape, by, bx)
        for y in range(max(sy0, ty0), min(sy1, ty1)):
            a0, a1 = _in_row(s, y, mean.shape[1])
            b0, b1 = _in_row(t, y, mean.shape[1])
            for x in range(max(a0, b0), min(a1, b1)):
                for j in range(6):
                    f[j] = by[y - ty0, ORDER_Y[j]] * bx[x - tx0, ORDER_X[j]]
                total = 0.0
                for i in range(6):
                    s_i = 0.0
                    for j in range(6):
                        s_i += form[p, i, j] * f[j]
                    total += s_i * ay[y - sy0, ORDER_Y[i]] * ax[x - sx0, ORDER_X[i]]
                m = max(mean[y, x], floor[y, x])
                leverage[y, x] += weight[y, x] * total * s[4] * t[4] / m
