"""Which columns overlap: groups that are fitted together, neighbours that are held, slopes they agree on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from fairstem.atoms._kernels import HEIGHT, LOG_WIDTH, X, Y

__all__ = ["common_slopes", "joint_groups", "neighbour_lists"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

WINDOW = 3.5  # widths; a smaller window loses position information (0.8 % of the error bar at 3.5)
JOINT = 3.2  # columns nearer than this many widths are fitted together
LARGEST_GROUP = 8  # parameters grow as 4n + 1, cost as their cube
SLOPE_NEIGHBOURS = 12
FLATNESS = 1e-2  # of a column's height: neighbours and borders disturb backgrounds that much without noise
SLOPE_REACH = 15.0  # widths; columns farther apart say nothing of each other's background


def _csr(pairs: IntArray, n: int) -> tuple[IntArray, IntArray]:
    """Neighbour lists of symmetrical pairs: (indices, pointers)."""
    both = np.concatenate([pairs, pairs[:, ::-1]]) if pairs.size else np.empty((0, 2), np.int64)
    order = np.lexsort((both[:, 1], both[:, 0]))
    pointers = np.concatenate([[0], np.cumsum(np.bincount(both[:, 0], minlength=n))])
    return np.ascontiguousarray(both[order, 1]), pointers.astype(np.int64)


def joint_groups(position: FloatArray, width: FloatArray) -> tuple[IntArray, IntArray]:
    """Connected columns nearer than `JOINT` widths; a chain longer than `LARGEST_GROUP` is cut at its widest gaps."""
    n = len(position)
    pairs = cKDTree(position).query_pairs(JOINT * float(width.max()), output_type="ndarray").astype(np.int64)
    relative = np.empty(0)
    if pairs.size:
        gap = np.hypot(*(position[pairs[:, 0]] - position[pairs[:, 1]]).T)
        relative = gap / (0.5 * (width[pairs[:, 0]] + width[pairs[:, 1]]))
    limit = np.full(n, JOINT)
    label = np.arange(n)
    for _ in range(30):
        use = (
            relative < np.minimum(limit[pairs[:, 0]], limit[pairs[:, 1]])
            if pairs.size
            else relative.astype(bool)
        )
        graph = (
            coo_array((np.ones(use.sum()), tuple(pairs[use].T)), shape=(n, n))
            if pairs.size
            else coo_array((n, n))
        )
        _, label = connected_components(graph, directed=False)
        crowded = np.bincount(label)[label] > LARGEST_GROUP
        if not crowded.any():
            break
        limit[crowded] *= 0.93
    order = np.argsort(label, kind="stable").astype(np.int64)
    pointers = np.concatenate([[0], np.cumsum(np.bincount(label))]).astype(np.int64)
    return order, pointers


def neighbour_lists(params: FloatArray) -> tuple[IntArray, IntArray]:
    """Columns whose tails reach into each other's windows."""
    width = np.exp(params[:, LOG_WIDTH])
    # 8 widths: window radius plus the distance at which a Gaussian is below 1e-4 of its height
    reach = (WINDOW + 4.5) * float(np.quantile(width, 0.99))
    pairs = cKDTree(params[:, [Y, X]]).query_pairs(reach, output_type="ndarray").astype(np.int64)
    return _csr(pairs, len(params))


def common_slopes(params: FloatArray, background: FloatArray, usable: NDArray[np.bool_]) -> FloatArray:
    """Slopes (y, x) of the background at each column, from the backgrounds of the columns around it.

    A slope fitted in a column's own window competes with its position and its neighbours' heights; across several
    columns it is known well. Each is shrunk by its own noise, so that a flat background stays flat. Only `usable`
    columns count: what lies beyond the border of the image disturbs the backgrounds along it.
    """
    n, width = len(params), float(np.median(np.exp(params[:, LOG_WIDTH])))
    slopes = np.zeros((n, 2))
    if n < 6:
        return slopes
    position = params[:, [Y, X]]
    distance, near = cKDTree(position).query(
        position, min(SLOPE_NEIGHBOURS + 1, n), distance_upper_bound=SLOPE_REACH * width
    )
    near = np.where(np.isfinite(distance), near, 0)
    known = np.isfinite(distance) & usable[near]
    weight = known.astype(float)
    offset = position[near] - position[:, None]
    design = np.concatenate([np.ones((*near.shape, 1)), offset], axis=2)
    value = background[near]
    inverse = np.linalg.inv(np.einsum("nk,nki,nkj->nij", weight, design, design) + 1e-9 * np.eye(3))
    solution = np.einsum("nij,nkj,nk->ni", inverse, design, weight * value)
    residual = weight * (value - np.einsum("nki,ni->nk", design, solution))
    freedom = known.sum(axis=1) - 3
    enough = freedom >= 3
    if not enough.any():
        return slopes
    # few residuals say little about their own scatter: all columns share one
    variance = float(np.median((residual**2).sum(axis=1)[enough] / freedom[enough]))
    variance = max(variance, (FLATNESS * float(np.median(params[:, HEIGHT]))) ** 2)
    error = variance * np.diagonal(inverse, axis1=1, axis2=2)[:, 1:]
    slope = solution[:, 1:]
    excess = slope**2 - 9.0 * error
    shrink = np.where(excess > 0, excess / np.where(excess > 0, slope**2, 1.0), 0.0)
    slopes[enough] = (slope * shrink)[enough]
    return slopes
