"""Which columns overlap: groups that are fitted together, neighbours that are held, slopes they agree on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from fairstem.atoms._kernels import LOG_WIDTH, X, Y

__all__ = ["common_slopes", "joint_groups", "neighbour_lists"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

WINDOW = 3.5  # widths; a smaller window loses position information (0.8 % of the error bar at 3.5)
JOINT = 3.2  # columns nearer than this many widths are fitted together
LARGEST_GROUP = 8  # parameters grow as 4n + 1, cost as their cube
SLOPE_NEIGHBOURS = 12
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


def common_slopes(params: FloatArray, background: FloatArray) -> FloatArray:
    """Slopes (y, x) of the background at each column, from the backgrounds of the columns around it.

    A slope fitted in a column's own window competes with its position and its neighbours' heights; across several
    columns it is known well. Each is shrunk by its own noise, so that a flat background stays flat.
    """
    n, width = len(params), float(np.median(np.exp(params[:, LOG_WIDTH])))
    slopes = np.zeros((n, 2))
    if n < 6:
        return slopes
    position = params[:, [Y, X]]
    distance, near = cKDTree(position).query(
        position, min(SLOPE_NEIGHBOURS + 1, n), distance_upper_bound=SLOPE_REACH * width
    )
    known = np.isfinite(distance)
    near = np.where(known, near, 0)
    weight = known.astype(float)
    offset = position[near] - position[:, None]
    design = np.concatenate([np.ones((*near.shape, 1)), offset], axis=2)
    value = background[near]
    eye = 1e-9 * np.eye(3)
    for _ in range(3):
        normal = np.einsum("nk,nki,nkj->nij", weight, design, design) + eye
        right = np.einsum("nk,nki,nk->ni", weight, design, value)
        solution = np.linalg.solve(normal, right[..., None])[..., 0]
        residual = np.where(known, value - np.einsum("nki,ni->nk", design, solution), 0.0)
        spread = 1.4826 * np.median(np.abs(residual), axis=1) + 1e-12
        weight = known / np.maximum(1.0, np.abs(residual) / (2 * spread[:, None]))
    freedom = np.maximum(known.sum(axis=1) - 3, 1)
    variance = (weight * residual**2).sum(axis=1) / freedom
    error = variance[:, None] * np.diagonal(np.linalg.inv(normal), axis1=1, axis2=2)[:, 1:]
    slope = solution[:, 1:]
    shrink = np.maximum(0.0, 1.0 - 4.0 * error / np.maximum(slope**2, 1e-300))
    enough = known.sum(axis=1) >= 6
    slopes[enough] = (slope * shrink)[enough]
    return slopes
