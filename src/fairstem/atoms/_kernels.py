"""Numba kernels of `refine`: Poisson likelihood of overlapping Gaussian columns, group by group.

The mean of pixel p is m(p) = b + Σ_k A_k exp(-q_k/2), q_k = P_k·(p - p_k)², with the precision matrix
P = [[1+e1, e2], [e2, 1-e1]]/σ²: smooth at the round column (e1 = e2 = 0), where angle and axes are not.
Six parameters a column: height A, y, x, log σ, e1, e2; the last three can be held. The background b of a group is
a constant or a plane.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

HEIGHT, Y, X, LOG_WIDTH, E1, E2 = range(6)
N_PARAMETERS = 6

_TINY = 1e-9


@njit(cache=True, nogil=True)
def window_pixels(params, members, radius, mask):
    """Pixels within `radius` widths of any member's rounded position: flat arrays (y, x), masked pixels left out."""
    ny, nx = mask.shape
    y0, y1, x0, x1 = ny, -1, nx, -1
    for k in members:
        r = radius * math.exp(params[k, LOG_WIDTH])
        y0 = min(y0, max(0, math.ceil(params[k, Y] - r)))
        y1 = max(y1, min(ny - 1, math.floor(params[k, Y] + r)))
        x0 = min(x0, max(0, math.ceil(params[k, X] - r)))
        x1 = max(x1, min(nx - 1, math.floor(params[k, X] + r)))
    size = max(0, y1 - y0 + 1) * max(0, x1 - x0 + 1)
    py = np.empty(size, np.int64)
    px = np.empty(size, np.int64)
    n = 0
    for i in range(y0, y1 + 1):
        for j in range(x0, x1 + 1):
            if not mask[i, j]:
                continue
            for k in members:
                r = radius * math.exp(params[k, LOG_WIDTH])
                if (i - params[k, Y]) ** 2 + (j - params[k, X]) ** 2 <= r * r:
                    py[n] = i
                    px[n] = j
                    n += 1
                    break
    return py[:n], px[:n]


@njit(cache=True, nogil=True)
def profiles(py, px, params, which):
    """Factors along y and along x of each round column over the pixels' bounding box, and the box's corner.

    A round Gaussian is a product: 2(h + w) exponentials instead of h·w.
    """
    y0, x0 = py.min(), px.min()
    along_y = np.empty((which.size, py.max() - y0 + 1))
    along_x = np.empty((which.size, px.max() - x0 + 1))
    for i in range(which.size):
        k = which[i]
        inv = math.exp(-2.0 * params[k, LOG_WIDTH])
        for n in range(along_y.shape[1]):
            along_y[i, n] = math.exp(-0.5 * inv * (y0 + n - params[k, Y]) ** 2)
        for n in range(along_x.shape[1]):
            along_x[i, n] = math.exp(-0.5 * inv * (x0 + n - params[k, X]) ** 2)
    return along_y, along_x, y0, x0


@njit(cache=True, nogil=True)
def correction(params, k, inv, dy, dx):
    """What makes a round column elliptic: exp of the part of the exponent that isn't a product."""
    e1, e2 = params[k, E1], params[k, E2]
    if e1 == 0.0 and e2 == 0.0:
        return 1.0
    return math.exp(-0.5 * inv * (e1 * (dy * dy - dx * dx) + 2.0 * e2 * dy * dx))


@njit(cache=True, nogil=True)
def add_columns(mean, py, px, params, which):
    """Add the columns `which` to `mean`, evaluated at the pixels (py, px)."""
    if which.size == 0 or py.size == 0:
        return
    along_y, along_x, y0, x0 = profiles(py, px, params, which)
    for i in range(which.size):
        k = which[i]
        a, inv = params[k, HEIGHT], math.exp(-2.0 * params[k, LOG_WIDTH])
        for n in range(py.size):
            g = along_y[i, py[n] - y0] * along_x[i, px[n] - x0]
            if g > 1e-14:
                mean[n] += a * g * correction(params, k, inv, py[n] - params[k, Y], px[n] - params[k, X])


@njit(cache=True, nogil=True)
def score_and_fisher(counts, fixed, py, px, params, members, plane, n_plane, free, score, fisher):
    """Fill the score vector and the Fisher matrix of a group; return its log-likelihood.

    `fixed` is the mean that the group does not change (neighbours, dark counts). `plane` holds the background at
    its centre, its slopes along y and x, and that centre (y, x); the first `n_plane` (1 or 3) are free. Parameters
    run member by member through `free` (indices into the six), the background last.
    Returns -inf when the mean is not positive everywhere.
    """
    n_free = free.size
    n_columns = members.size * n_free
    n_par = n_columns + n_plane
    score[:] = 0.0
    fisher[:, :] = 0.0
    grad = np.empty(n_par)
    six = np.empty(N_PARAMETERS)
    inverse = np.empty(members.size)
    for i in range(members.size):
        inverse[i] = math.exp(-2.0 * params[members[i], LOG_WIDTH])
    along_y, along_x, y0, x0 = profiles(py, px, params, members)
    likelihood = 0.0
    for n in range(py.size):
        by, bx = py[n] - plane[3], px[n] - plane[4]
        m = fixed[n] + plane[0] + plane[1] * by + plane[2] * bx
        for i in range(members.size):
            k = members[i]
            dy = py[n] - params[k, Y]
            dx = px[n] - params[k, X]
            inv = inverse[i]
            e1, e2 = params[k, E1], params[k, E2]
            q = inv * ((1.0 + e1) * dy * dy + 2.0 * e2 * dy * dx + (1.0 - e1) * dx * dx)
            g = along_y[i, py[n] - y0] * along_x[i, px[n] - x0] * correction(params, k, inv, dy, dx)
            ag = params[k, HEIGHT] * g
            m += ag
            six[HEIGHT] = g
            six[Y] = ag * inv * ((1.0 + e1) * dy + e2 * dx)
            six[X] = ag * inv * ((1.0 - e1) * dx + e2 * dy)
            six[LOG_WIDTH] = ag * q
            six[E1] = -0.5 * ag * inv * (dy * dy - dx * dx)
            six[E2] = -ag * inv * dy * dx
            for f in range(n_free):
                grad[i * n_free + f] = six[free[f]]
        if m <= _TINY:
            return -np.inf
        grad[n_columns] = 1.0
        if n_plane == 3:
            grad[n_columns + 1] = by
            grad[n_columns + 2] = bx
        c = counts[py[n], px[n]]
        likelihood += (c * math.log(m) if c != 0.0 else 0.0) - m
        residual = c / m - 1.0
        weight = 1.0 / m
        for a in range(n_par):
            ga = grad[a]
            score[a] += residual * ga
            ga *= weight
            for b in range(a + 1):
                fisher[a, b] += ga * grad[b]
    for a in range(n_par):
        for b in range(a):
            fisher[b, a] = fisher[a, b]
    return likelihood


@njit(cache=True, nogil=True)
def scaled_cholesky(matrix, damping, scale, lower):
    """Cholesky factor of the matrix scaled to unit diagonal plus damping; False when it isn't positive definite.

    Few parameters: calling LAPACK would cost more than the sums do.
    """
    n = matrix.shape[0]
    for a in range(n):
        if not matrix[a, a] > 0.0:
            return False
        scale[a] = 1.0 / math.sqrt(matrix[a, a])
    for a in range(n):
        for b in range(a + 1):
            total = matrix[a, b] * scale[a] * scale[b]
            if a == b:
                total += damping + 1e-12
            for c in range(b):
                total -= lower[a, c] * lower[b, c]
            if a > b:
                lower[a, b] = total / lower[b, b]
            elif total > 0.0:
                lower[a, a] = math.sqrt(total)
            else:
                return False
    return True


@njit(cache=True, nogil=True)
def cholesky_solve(lower, scale, rhs, out):
    """Solve with the factor of `scaled_cholesky`."""
    n = rhs.size
    for a in range(n):
        total = rhs[a] * scale[a]
        for b in range(a):
            total -= lower[a, b] * out[b]
        out[a] = total / lower[a, a]
    for i in range(n):
        a = n - 1 - i
        total = out[a]
        for b in range(a + 1, n):
            total -= lower[b, a] * out[b]
        out[a] = total / lower[a, a]
    for a in range(n):
        out[a] *= scale[a]


@njit(cache=True, nogil=True)
def apply_step(params, members, free, step, trial, min_log_width, max_log_width):
    """Write the stepped parameters to `trial`, each kept where the model has a meaning."""
    n_free = free.size
    for i in range(members.size):
        k = members[i]
        for p in range(N_PARAMETERS):
            trial[i, p] = params[k, p]
        for f in range(n_free):
            p = free[f]
            delta = step[i * n_free + f]
            limit = np.inf
            if p in (Y, X):
                limit = math.exp(params[k, LOG_WIDTH])
            elif p == LOG_WIDTH:
                limit = 0.35
            elif p in (E1, E2):
                limit = 0.2
            trial[i, p] += min(limit, max(-limit, delta))
        trial[i, HEIGHT] = max(trial[i, HEIGHT], _TINY)
        trial[i, LOG_WIDTH] = min(max_log_width, max(min_log_width, trial[i, LOG_WIDTH]))
        e = math.hypot(trial[i, E1], trial[i, E2])
        if e > 0.8:
            trial[i, E1] *= 0.8 / e
            trial[i, E2] *= 0.8 / e


@njit(cache=True, nogil=True)
def fit_group(
    counts, fixed, py, px, params, members, plane, n_plane, floor, free, limits, max_iter, tolerance
):
    """Maximise the Poisson likelihood of one group in place; return (log-likelihood, converged).

    `floor` is the lowest background at the centre; `limits` the range of log width; the fit ends when no position
    moves by more than `tolerance` px.
    """
    n_par = members.size * free.size + n_plane
    score, fisher = np.zeros(n_par), np.zeros((n_par, n_par))
    new_score, new_fisher = np.zeros(n_par), np.zeros((n_par, n_par))
    step, scale, lower = np.empty(n_par), np.empty(n_par), np.empty((n_par, n_par))
    trial = np.empty((members.size, N_PARAMETERS))
    old, old_plane = np.empty((members.size, N_PARAMETERS)), np.empty(plane.size)
    likelihood = score_and_fisher(counts, fixed, py, px, params, members, plane, n_plane, free, score, fisher)
    damping = 1e-3
    if likelihood == -np.inf:
        return likelihood, False
    for _ in range(max_iter):
        if not scaled_cholesky(fisher, damping, scale, lower):
            return likelihood, False
        cholesky_solve(lower, scale, score, step)
        apply_step(params, members, free, step, trial, limits[0], limits[1])
        old_plane[:] = plane
        for a in range(n_plane):
            plane[a] += step[members.size * free.size + a]
        plane[0] = max(floor, plane[0])
        largest = 0.0
        for i in range(members.size):
            k = members[i]
            largest = max(largest, math.hypot(trial[i, Y] - params[k, Y], trial[i, X] - params[k, X]))
            old[i] = params[k]
            params[k] = trial[i]
        new_likelihood = score_and_fisher(
            counts, fixed, py, px, params, members, plane, n_plane, free, new_score, new_fisher
        )
        if new_likelihood >= likelihood - 1e-9 * abs(likelihood):
            small_gain = new_likelihood - likelihood < 2e-3
            likelihood = new_likelihood
            score, new_score = new_score, score
            fisher, new_fisher = new_fisher, fisher
            damping = max(damping * 0.1, 1e-9)
            if largest < tolerance and small_gain:
                return likelihood, True
        else:
            for i in range(members.size):
                params[members[i]] = old[i]
            plane[:] = old_plane
            damping = max(damping * 10.0, 1e-4)
            if damping > 1e6:
                return likelihood, False
    return likelihood, False
