"""Numba kernels of `refine`: Poisson likelihood of overlapping Gaussian columns, group by group.

The mean of pixel p is m(p) = b + Σ_k A_k exp(-q_k/2), q_k = P_k·(p - p_k)², with the precision matrix
P = [[1+e1, e2], [e2, 1-e1]]/σ²: smooth at the round column (e1 = e2 = 0), where angle and axes are not.
Six parameters a column: height A, y, x, log σ, e1, e2; the last three can be held. The background b of a group is
a constant or a plane.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

HEIGHT, Y, X, LOG_WIDTH, E1, E2 = range(6)
N_PARAMETERS = 6

_TINY = 1e-9
SMALL_GAIN = 2e-3  # in log-likelihood: a step of a fifteenth of an error bar
FAINT = 1e-8  # of a column's height


class Window(NamedTuple):
    """The pixels of a group, flat: their counts, the mean that the group doesn't change, their y and x."""

    counts: Any
    fixed: Any
    py: Any
    px: Any


class Free(NamedTuple):
    """What is fitted: indices into a column's six parameters; 1 (value) or 3 (with slopes) of the background."""

    columns: Any
    plane: int


@njit(cache=True, nogil=True)
def copy_row(source, i, target, j):
    """target[j] = source[i]; numba takes seconds to compile the slice, with its error message, instead."""
    for n in range(source.shape[1]):
        target[j, n] = source[i, n]


@njit(cache=True, nogil=True)
def copy_values(source, target):
    """target[:] = source."""
    for n in range(source.size):
        target[n] = source[n]


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
    # rows come in order, columns within them don't
    y0, y1, x0, x1 = py[0], py[-1], px[0], px[0]
    for n in range(px.size):
        x0 = min(x0, px[n])
        x1 = max(x1, px[n])
    along_y = np.empty((which.size, y1 - y0 + 1))
    along_x = np.empty((which.size, x1 - x0 + 1))
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
def _column_gradient(dy, dx, params, k, inv, round_part, columns, grad, start):
    """Write a column's derivatives at one pixel into `grad`; return what it adds to the mean there.

    Height, y and x are always free and come first; the width may follow, then the two of the ellipse.
    """
    e1, e2 = params[k, E1], params[k, E2]
    g = round_part * correction(params, k, inv, dy, dx)
    ag = params[k, HEIGHT] * g
    slope = ag * inv
    along_y, along_x = (1.0 + e1) * dy + e2 * dx, (1.0 - e1) * dx + e2 * dy
    grad[start] = g
    grad[start + 1] = slope * along_y
    grad[start + 2] = slope * along_x
    n = start + 3
    if columns.size > 3 and columns[3] == LOG_WIDTH:
        grad[n] = slope * (along_y * dy + along_x * dx)
        n += 1
    if columns.size > 4:
        grad[n] = -0.5 * slope * (dy * dy - dx * dx)
        grad[n + 1] = -slope * dy * dx
    return ag


@njit(cache=True, nogil=True)
def score_and_fisher(window, params, members, plane, free, score, fisher):
    """Fill the score vector and the Fisher matrix of a group; return its log-likelihood.

    `plane` holds the background at its centre, its slopes along y and x, and that centre (y, x). Parameters run
    member by member, the background last. Returns -inf when the mean is not positive everywhere.
    """
    n_columns = members.size * free.columns.size
    n_par = n_columns + free.plane
    for a in range(n_par):
        score[a] = 0.0
        for b in range(n_par):
            fisher[a, b] = 0.0
    grad = np.empty(n_par)
    inverse = np.empty(members.size)
    for i in range(members.size):
        inverse[i] = math.exp(-2.0 * params[members[i], LOG_WIDTH])
    along_y, along_x, y0, x0 = profiles(window.py, window.px, params, members)
    likelihood = 0.0
    for n in range(window.py.size):
        y, x = window.py[n], window.px[n]
        by, bx = y - plane[3], x - plane[4]
        m = window.fixed[n] + plane[0] + plane[1] * by + plane[2] * bx
        for i in range(members.size):
            k = members[i]
            part = along_y[i, y - y0] * along_x[i, x - x0]
            start = i * free.columns.size
            m += _column_gradient(
                y - params[k, Y], x - params[k, X], params, k, inverse[i], part, free.columns, grad, start
            )
        if m <= _TINY:
            return -np.inf
        grad[n_columns] = 1.0
        if free.plane == 3:
            grad[n_columns + 1] = by
            grad[n_columns + 2] = bx
        c = window.counts[n]
        likelihood += (c * math.log(m) if c != 0.0 else 0.0) - m
        residual, weight = c / m - 1.0, 1.0 / m
        for a in range(n_par):
            score[a] += residual * grad[a]
            weighted = weight * grad[a]
            for b in range(a + 1):
                fisher[a, b] += weighted * grad[b]
    for a in range(n_par):
        for b in range(a):
            fisher[b, a] = fisher[a, b]
    return likelihood


@njit(cache=True, nogil=True)
def fisher_of_many(window, params, members, plane, free):
    """Fisher matrix of a group whose columns are dark at most pixels; False where the mean is not positive."""
    size = free.columns.size
    n_columns = members.size * size
    fisher = np.zeros((n_columns + free.plane, n_columns + free.plane))
    grad, live = np.empty(n_columns + free.plane), np.empty(n_columns + free.plane, np.int64)
    along_y, along_x, y0, x0 = profiles(window.py, window.px, params, members)
    for n in range(window.py.size):
        y, x = window.py[n], window.px[n]
        by, bx = y - plane[3], x - plane[4]
        m = window.fixed[n] + plane[0] + plane[1] * by + plane[2] * bx
        count = 0
        for i in range(members.size):
            part = along_y[i, y - y0] * along_x[i, x - x0]
            if part < FAINT:
                continue
            k, inv = members[i], math.exp(-2.0 * params[members[i], LOG_WIDTH])
            dy, dx = y - params[k, Y], x - params[k, X]
            m += _column_gradient(dy, dx, params, k, inv, part, free.columns, grad, i * size)
            for f in range(size):
                live[count] = i * size + f
                count += 1
        for f in range(free.plane):
            grad[n_columns + f] = 1.0 if f == 0 else (by if f == 1 else bx)
            live[count] = n_columns + f
            count += 1
        if m <= _TINY:
            return fisher, False
        for i in range(count):
            weighted = grad[live[i]] / m
            for j in range(i + 1):
                fisher[live[i], live[j]] += weighted * grad[live[j]]
    for a in range(fisher.shape[0]):
        for b in range(a):
            fisher[b, a] = fisher[a, b]
    return fisher, True


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
def _take_step(params, members, plane, free, step, limits, floor, old):
    """Apply a step in place, keep the old values in `old`; return the largest shift of a position."""
    trial = np.empty((members.size, N_PARAMETERS))
    apply_step(params, members, free.columns, step, trial, limits[0], limits[1])
    for a in range(free.plane):
        plane[a] += step[members.size * free.columns.size + a]
    plane[0] = max(floor, plane[0])
    largest = 0.0
    for i in range(members.size):
        k = members[i]
        largest = max(largest, math.hypot(trial[i, Y] - params[k, Y], trial[i, X] - params[k, X]))
        copy_row(params, k, old, i)
        copy_row(trial, i, params, k)
    return largest


@njit(cache=True, nogil=True)
def fit_group(window, params, members, plane, free, floor, limits, max_iter, tolerance):
    """Maximise the Poisson likelihood of one group in place; return (log-likelihood, converged).

    `floor` is the lowest background at the centre; `limits` the range of log width; the fit ends when no position
    moves by more than `tolerance` px.
    """
    n_par = members.size * free.columns.size + free.plane
    score, fisher = np.zeros(n_par), np.zeros((n_par, n_par))
    new_score, new_fisher = np.zeros(n_par), np.zeros((n_par, n_par))
    step, scale, lower = np.empty(n_par), np.empty(n_par), np.empty((n_par, n_par))
    old, old_plane = np.empty((members.size, N_PARAMETERS)), np.empty(plane.size)
    likelihood = score_and_fisher(window, params, members, plane, free, score, fisher)
    damping = 1e-4
    if likelihood == -np.inf:
        return likelihood, False
    for _ in range(max_iter):
        if not scaled_cholesky(fisher, damping, scale, lower):
            return likelihood, False
        cholesky_solve(lower, scale, score, step)
        copy_values(plane, old_plane)
        gain = 0.0
        for a in range(n_par):
            gain += 0.5 * score[a] * step[a]
        largest = _take_step(params, members, plane, free, step, limits, floor, old)
        if largest < tolerance and gain < SMALL_GAIN:
            # so close to the maximum a Fisher step needs no second look
            return likelihood, True
        new_likelihood = score_and_fisher(window, params, members, plane, free, new_score, new_fisher)
        if new_likelihood >= likelihood - 1e-9 * abs(likelihood):
            small_gain = new_likelihood - likelihood < SMALL_GAIN
            likelihood = new_likelihood
            score, new_score = new_score, score
            fisher, new_fisher = new_fisher, fisher
            damping = max(damping * 0.1, 1e-9)
            if largest < tolerance and small_gain:
                return likelihood, True
        else:
            for i in range(members.size):
                copy_row(old, i, params, members[i])
            copy_values(old_plane, plane)
            damping = max(damping * 10.0, 1e-4)
            if damping > 1e6:
                return likelihood, False
    return likelihood, False
