"""Numba drivers of `refine`: start values, sweeps over groups of overlapping columns, error bars."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from fairstem.atoms._kernels import (
    E1,
    E2,
    HEIGHT,
    LOG_WIDTH,
    N_PARAMETERS,
    Free,
    Window,
    X,
    Y,
    add_columns,
    cholesky_solve,
    copy_row,
    copy_values,
    fisher_of_many,
    fit_group,
    scaled_cholesky,
    window_pixels,
)


@njit(cache=True, nogil=True)
def lowest(values):
    """Smallest of the values; numba compiles this in a tenth of the time of ``values.min()``."""
    least = values[0]
    for value in values:
        least = min(least, value)
    return least


class Scene(NamedTuple):
    """The image: counts, mask (True: usable), dark counts a pixel, the lowest background."""

    counts: Any
    mask: Any
    dark: float
    lowest: float


class Groups(NamedTuple):
    """Columns fitted together and the lists of their neighbours, both as indices and pointers (CSR)."""

    members: Any
    pointers: Any
    neighbours: Any
    neighbour_pointers: Any


class Task(NamedTuple):
    """How to fit: what is free, limits of log width, window radius in widths, iterations at most."""

    free: Free
    limits: Any
    radius: float
    max_iter: int


@njit(cache=True, nogil=True)
def contains(values, size, value):
    """True when one of the first `size` values equals `value`."""
    for i in range(size):  # noqa: SIM110 - numba compiles the loop
        if values[i] == value:
            return True
    return False


@njit(cache=True, nogil=True)
def cut_window(scene, groups, params, anchor, members, radius):
    """Pixels of a group, cut at `anchor`, with the mean that it doesn't own: dark counts, neighbouring columns."""
    py, px = window_pixels(anchor, members, radius, scene.mask)
    counts = np.empty(py.size)
    for n in range(py.size):
        counts[n] = scene.counts[py[n], px[n]]
    total = 0
    for k in members:
        total += groups.neighbour_pointers[k + 1] - groups.neighbour_pointers[k]
    others = np.empty(total, np.int64)
    count = 0
    for k in members:
        for n in groups.neighbours[groups.neighbour_pointers[k] : groups.neighbour_pointers[k + 1]]:
            if not contains(members, members.size, n) and not contains(others, count, n):
                others[count] = n
                count += 1
    fixed = np.full(py.size, scene.dark)
    add_columns(fixed, py, px, params, others[:count])
    return Window(counts, fixed, py, px)


@njit(cache=True, nogil=True)
def start_values(counts, mask, params, background, dark):
    """Heights and backgrounds from the image: the mean near the centre, over the mean of what is below average."""
    for k in range(params.shape[0]):
        py, px = window_pixels(params, np.array([k]), 2.6, mask)
        background[k, 1], background[k, 2] = 0.0, 0.0
        if py.size == 0:
            params[k, HEIGHT], background[k, 0] = 1e-9, 0.0
            continue
        width = math.exp(params[k, LOG_WIDTH])
        centre, inside, total = 0.0, 0, 0.0
        for n in range(py.size):
            value = counts[py[n], px[n]] - dark
            total += value
            if (py[n] - params[k, Y]) ** 2 + (px[n] - params[k, X]) ** 2 <= max(1.0, 0.4 * width * width):
                centre += value
                inside += 1
        middle = total / py.size
        low, below = 0.0, 0
        for n in range(py.size):
            value = counts[py[n], px[n]] - dark
            if value <= middle:
                low += value
                below += 1
        background[k, 0] = max(low / max(below, 1), 1e-3 if dark == 0.0 else -0.5 * dark)
        top = centre / inside if inside else middle
        least = 0.1 * math.sqrt(max(background[k, 0] + dark, 1e-2))
        params[k, HEIGHT] = max(top - background[k, 0], least, 1e-6)


@njit(cache=True, nogil=True)
def group_plane(params, background, members):
    """The background of a group about its centre: (value, slope y, slope x, centre y, centre x)."""
    plane = np.zeros(5)
    for k in members:
        plane[3] += params[k, Y] / members.size
        plane[4] += params[k, X] / members.size
        plane[1] += background[k, 1] / members.size
        plane[2] += background[k, 2] / members.size
    for k in members:
        value = background[k, 0] + plane[1] * (plane[3] - params[k, Y]) + plane[2] * (plane[4] - params[k, X])
        plane[0] += value / members.size
    return plane


@njit(cache=True, nogil=True)
def _settle(params, background, before, anchor, members, plane):
    """Take over a group's fit unless it went astray; return how far it moved, negative when it did.

    A fit that went astray must not pull its neighbours after it.
    """
    moved = 0.0
    for k in members:
        strayed = math.hypot(params[k, Y] - anchor[k, Y], params[k, X] - anchor[k, X])
        if strayed > 1.0 + math.exp(anchor[k, LOG_WIDTH]):
            moved = -1.0
    for i in range(members.size):
        k = members[i]
        if moved < 0.0:
            copy_row(before, i, params, k)
            continue
        dy, dx = params[k, Y] - plane[3], params[k, X] - plane[4]
        background[k, 0] = plane[0] + plane[1] * dy + plane[2] * dx
        background[k, 1], background[k, 2] = plane[1], plane[2]
        # a change of height disturbs the neighbours as a shift of that share of the width does
        shift = math.hypot(params[k, Y] - before[i, Y], params[k, X] - before[i, X])
        swell = abs(params[k, HEIGHT] - before[i, HEIGHT]) / max(before[i, HEIGHT], 1e-9)
        moved = max(moved, shift, swell * math.exp(params[k, LOG_WIDTH]))
    return moved


@njit(cache=True, nogil=True)
def sweep(scene, groups, params, anchor, background, task, active, tolerance):
    """Fit each active group once with its neighbours held (Gauss-Seidel).

    The windows are cut at `anchor`: fixed pixels, or the sweeps would never settle. Returns per group how far its
    columns moved and whether the fit converged.
    """
    n_groups = groups.pointers.size - 1
    moved, converged = np.zeros(n_groups), np.zeros(n_groups, np.bool_)
    for g in range(n_groups):
        if not active[g]:
            continue
        members = groups.members[groups.pointers[g] : groups.pointers[g + 1]]
        window = cut_window(scene, groups, params, anchor, members, task.radius)
        if window.py.size < members.size * task.free.columns.size + task.free.plane + 1:
            continue
        floor = max(scene.lowest, 1e-6 - lowest(window.fixed))
        plane = group_plane(params, background, members)
        plane[0] = max(plane[0], floor)
        before = np.empty((members.size, N_PARAMETERS))
        for i in range(members.size):
            copy_row(params, members[i], before, i)
        _, good = fit_group(
            window, params, members, plane, task.free, floor, task.limits, task.max_iter, tolerance[g]
        )
        distance = _settle(params, background, before, anchor, members, plane)
        converged[g] = good and distance >= 0.0
        moved[g] = max(distance, 0.0)
    return moved, converged


@njit(cache=True, nogil=True)
def _extended(members, groups, params, reach):
    """The group and every neighbour whose overlap changes its error bars: nearer than `reach` widths."""
    total = members.size
    for k in members:
        total += groups.neighbour_pointers[k + 1] - groups.neighbour_pointers[k]
    out = np.empty(total, np.int64)
    count = members.size
    copy_values(members, out)
    for k in members:
        for n in groups.neighbours[groups.neighbour_pointers[k] : groups.neighbour_pointers[k + 1]]:
            width = 0.5 * (math.exp(params[k, LOG_WIDTH]) + math.exp(params[n, LOG_WIDTH]))
            distance = math.hypot(params[k, Y] - params[n, Y], params[k, X] - params[n, X])
            if distance < reach * width and not contains(out, count, n):
                out[count] = n
                count += 1
    return out[:count]


@njit(cache=True, nogil=True)
def _pearson(window, params, members, plane):
    """Pearson's chi-square of a group over its window."""
    mean = window.fixed.copy()
    add_columns(mean, window.py, window.px, params, members)
    total = 0.0
    for p in range(mean.size):
        m = mean[p] + plane[0] + plane[1] * (window.py[p] - plane[3]) + plane[2] * (window.px[p] - plane[4])
        total += (window.counts[p] - m) ** 2 / max(m, 1e-9)
    return total


@njit(cache=True, nogil=True)
def covariances(scene, groups, params, background, free, radius, reach, active):
    """Invert each active group's Fisher matrix, overlapping neighbours free as well.

    Returns the 6×6 covariance per column (zero where a parameter is held; NaN where singular) and Pearson's
    chi-square over the window per degree of freedom.
    """
    n = params.shape[0]
    out = np.full((n, N_PARAMETERS, N_PARAMETERS), np.nan)
    chi2 = np.full(n, np.nan)
    for g in range(groups.pointers.size - 1):
        if not active[g]:
            continue
        members = groups.members[groups.pointers[g] : groups.pointers[g + 1]]
        window = cut_window(scene, groups, params, params, members, radius)
        freedom = window.py.size - members.size * free.columns.size - free.plane
        if freedom < 1:
            continue
        plane = group_plane(params, background, members)
        pearson = _pearson(window, params, members, plane)
        for k in members:
            chi2[k] = pearson / freedom
        everyone = _extended(members, groups, params, reach)
        if everyone.size > members.size:
            # pixels of the neighbours that don't belong to this window inform about the neighbours
            window = cut_window(scene, groups, params, params, everyone, radius)
        fisher, good = fisher_of_many(window, params, everyone, plane, free)
        if good:
            scatter_inverse(fisher, members, free.columns, out)
    return out, chi2


@njit(cache=True, nogil=True)
def scatter_inverse(fisher, members, free, out):
    """Write each member's diagonal block of the inverse Fisher matrix into `out`."""
    n = fisher.shape[0]
    scale, lower = np.empty(n), np.empty((n, n))
    if not scaled_cholesky(fisher, 0.0, scale, lower):
        return
    unit, solution = np.zeros(n), np.empty(n)
    for i in range(members.size):
        block = out[members[i]]
        for a in range(N_PARAMETERS):
            for b in range(N_PARAMETERS):
                block[a, b] = 0.0
        for a in range(free.size):
            unit[i * free.size + a] = 1.0
            cholesky_solve(lower, scale, unit, solution)
            unit[i * free.size + a] = 0.0
            for b in range(free.size):
                block[free[a], free[b]] = solution[i * free.size + b]


@njit(cache=True, nogil=True)
def render_model(shape_y, shape_x, params, background, radius):
    """The fitted image: columns plus each pixel's background from its nearest column; NaN outside all windows."""
    model = np.full((shape_y, shape_x), np.nan)
    nearest = np.full((shape_y, shape_x), np.inf)
    columns = np.zeros((shape_y, shape_x))
    for k in range(params.shape[0]):
        width = math.exp(params[k, LOG_WIDTH])
        reach = max(radius, 5.0) * width
        inv = 1.0 / (width * width)
        e1, e2 = params[k, E1], params[k, E2]
        for i in range(max(0, int(params[k, Y] - reach)), min(shape_y, int(params[k, Y] + reach) + 2)):
            for j in range(max(0, int(params[k, X] - reach)), min(shape_x, int(params[k, X] + reach) + 2)):
                dy, dx = i - params[k, Y], j - params[k, X]
                r2 = dy * dy + dx * dx
                q = inv * ((1.0 + e1) * dy * dy + 2.0 * e2 * dy * dx + (1.0 - e1) * dx * dx)
                columns[i, j] += params[k, HEIGHT] * math.exp(-0.5 * q)
                if r2 <= (radius * width) ** 2 and r2 < nearest[i, j]:
                    nearest[i, j] = r2
                    model[i, j] = background[k, 0] + background[k, 1] * dy + background[k, 2] * dx
    return model + columns
