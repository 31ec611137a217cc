"""Collaborative filtering of groups of alike blocks: shrinkage in a 3-D transform, and what noise it keeps."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from fairstem.denoise._blocks.matching import BLOCK, GROUP

__all__ = ["collaborate", "kaiser", "overlap_table", "transform"]

AREA = BLOCK * BLOCK
ROOT_HALF = np.float32(np.sqrt(0.5))

Floats32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Indices = NDArray[np.int32]


def transform() -> Floats32:
    """Return the orthonormal DCT-II of a block's side; rows are frequencies."""
    u, y = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    matrix = np.sqrt(2.0 / BLOCK) * np.cos(np.pi * u * (2 * y + 1) / (2 * BLOCK))
    matrix[0] = np.sqrt(1.0 / BLOCK)
    return matrix.astype(np.float32)


def overlap_table() -> Floats32:
    """Return R[d, u]: the covariance of coefficient u of two blocks `d` px apart, for white noise of unit variance."""
    matrix = transform().astype(np.float64)
    table = np.zeros((BLOCK, BLOCK))
    for d in range(BLOCK):
        table[d] = (matrix[:, d:] * matrix[:, : BLOCK - d]).sum(1)
    return table.astype(np.float32)


def kaiser() -> Floats32:
    """Return the window with which blocks are put together; it hides their borders."""
    side = np.kaiser(BLOCK, 2.0)
    return np.outer(side, side).astype(np.float32)


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _separable(block: Floats32, left: Floats32, right: Floats32, scratch: Floats32) -> None:
    """Replace a block B by left·B·right."""
    for y in range(BLOCK):
        for v in range(BLOCK):
            scratch[y, v] = np.float32(0.0)
        for x in range(BLOCK):
            b = block[y, x]
            for v in range(BLOCK):
                scratch[y, v] += b * right[x, v]
    for u in range(BLOCK):
        for v in range(BLOCK):
            block[u, v] = np.float32(0.0)
        for y in range(BLOCK):
            a = left[u, y]
            for v in range(BLOCK):
                block[u, v] += a * scratch[y, v]


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _haar(stack: Floats32, size: int, scratch: Floats32) -> None:
    """Haar transform along the group, in place; the mean comes first."""
    n = size
    while n > 1:
        half = n // 2
        for i in range(half):
            for p in range(AREA):
                a, b = stack[2 * i, p], stack[2 * i + 1, p]
                scratch[i, p] = (a + b) * ROOT_HALF
                scratch[half + i, p] = (a - b) * ROOT_HALF
        for i in range(n):
            for p in range(AREA):
                stack[i, p] = scratch[i, p]
        n = half


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _haar_back(stack: Floats32, size: int, scratch: Floats32) -> None:
    n = 2
    while n <= size:
        half = n // 2
        for i in range(half):
            for p in range(AREA):
                a, b = stack[i, p], stack[half + i, p]
                scratch[2 * i, p] = (a + b) * ROOT_HALF
                scratch[2 * i + 1, p] = (a - b) * ROOT_HALF
        for i in range(n):
            for p in range(AREA):
                stack[i, p] = scratch[i, p]
        n *= 2


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _mean_variance(group: Indices, size: int, overlap: Floats32, variance: Floats32) -> None:
    """Noise variance of the group's mean coefficients: blocks that overlap share their noise."""
    for p in range(AREA):
        variance[p] = np.float32(size)
    for i in range(size):
        for j in range(i):
            dy, dx = abs(group[i, 0] - group[j, 0]), abs(group[i, 1] - group[j, 1])
            if dy < BLOCK and dx < BLOCK:
                for u in range(BLOCK):
                    a = np.float32(2.0) * overlap[dy, u]
                    for v in range(BLOCK):
                        variance[BLOCK * u + v] += a * overlap[dx, v]
    for p in range(AREA):
        variance[p] = max(variance[p] / np.float32(size), np.float32(0.05))


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _gather(
    image: Floats32, group: Indices, size: int, matrix: Floats32, back: Floats32,
    stack: Floats32, small: Floats32, scratch: Floats32,
) -> None:  # fmt: skip
    """Copy a group's blocks out of an image and transform them."""
    for i in range(size):
        y0, x0 = group[i, 0], group[i, 1]
        block = stack[i].reshape(BLOCK, BLOCK)
        for y in range(BLOCK):
            for x in range(BLOCK):
                block[y, x] = image[y0 + y, x0 + x]
        _separable(block, matrix, back, small)
    _haar(stack, size, scratch)


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _threshold(stack: Floats32, size: int, variance: Floats32, level: float) -> tuple[float, float]:
    """Hard threshold; return the noise kept (trace over block pixels) and its share per coefficient."""
    kept = np.float32(0.0)
    trace = np.float32(0.0)
    square = np.float32(level * level)
    for t in range(size):
        for p in range(AREA):
            v = variance[p] if t == 0 else max((size - variance[p]) / np.float32(size - 1), np.float32(0.05))
            if stack[t, p] * stack[t, p] > square * v or (t == 0 and p == 0):
                kept += v
                trace += v
            else:
                stack[t, p] = np.float32(0.0)
    return kept, trace


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def _wiener(stack: Floats32, guide: Floats32, size: int, variance: Floats32) -> tuple[float, float]:
    kept = np.float32(0.0)
    trace = np.float32(0.0)
    for t in range(size):
        for p in range(AREA):
            v = variance[p] if t == 0 else max((size - variance[p]) / np.float32(size - 1), np.float32(0.05))
            power = guide[t, p] * guide[t, p]
            gain = power / (power + v)
            if t == 0 and p == 0:
                gain = np.float32(1.0)
            stack[t, p] *= gain
            kept += gain * gain * v
            trace += gain * (np.float32(1.0) + np.float32(1.4) * (np.float32(1.0) - gain)) * v
    return kept, trace


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator, unused-ignore]
def collaborate(
    image: Floats32, guide: Floats32, groups: Indices, sizes: Indices, level: float,
    matrix: Floats32, overlap: Floats32, window: Floats32, sums: Floats,
) -> None:  # fmt: skip
    """Filter each group and add its blocks to `sums` (3, y, x): weighted values, leverages, weights.

    `level` > 0: hard threshold in units of the noise. 0: Wiener filter with the spectrum of `guide`.
    """
    back = matrix.T.copy()
    stack = np.empty((GROUP, AREA), np.float32)
    power = np.empty((GROUP, AREA), np.float32)
    scratch = np.empty((GROUP, AREA), np.float32)
    small = np.empty((BLOCK, BLOCK), np.float32)
    variance = np.empty(AREA, np.float32)
    for r in range(len(sizes)):
        size, group = sizes[r], groups[r]
        _gather(image, group, size, matrix, back, stack, small, scratch)
        _mean_variance(group, size, overlap, variance)
        if level > 0:
            kept, trace = _threshold(stack, size, variance, level)
        else:
            _gather(guide, group, size, matrix, back, power, small, scratch)
            kept, trace = _wiener(stack, power, size, variance)
        _haar_back(stack, size, scratch)
        weight = size / kept  # the inverse of the noise that a block keeps
        leverage = trace / (size * AREA)
        for i in range(size):
            block = stack[i].reshape(BLOCK, BLOCK)
            _separable(block, back, matrix, small)
            y0, x0 = group[i, 0], group[i, 1]
            for y in range(BLOCK):
                for x in range(BLOCK):
                    w = weight * window[y, x]
                    sums[0, y0 + y, x0 + x] += w * block[y, x]
                    sums[1, y0 + y, x0 + x] += w * leverage
                    sums[2, y0 + y, x0 + x] += w
